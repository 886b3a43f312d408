"""Templates: a file whose path is made by filling a template is found again, and no other file."""

from __future__ import annotations

import string
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srtoolbox.data.files.walk import Fault, FoundFile, fill, natural, split_fixed, walk
from srtoolbox.data.layouts import LAYOUTS

TEMPLATES = sorted(
    {
        files
        for layout in LAYOUTS.values()
        for split in layout.splits.values()
        for arrangement in split
        for files in (arrangement.gt, arrangement.lq)
        if files is not None
    }
)
# Usual names, and names that look like parts of templates or patterns.
NAMES = st.one_of(
    st.text(string.ascii_letters + string.digits + "_-. ()[]+äß图", min_size=1, max_size=12),
    st.sampled_from(["{}", "{1}", "{clip}", "{frame}", "{scale}", "*", "a.b", "x4", "00000000"]),
).filter(lambda name: not name.startswith(".") and name.strip(" .") == name)


def touch(root: str | Path, path: str) -> Path:
    file = Path(root, path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    return file


def found_in(root: str | Path, files: str, scale: int = 4, **options) -> list[FoundFile]:
    faults: list[Fault] = []
    found = list(walk(files, Path(root), scale, faults, **options))
    assert faults == []
    return found


@st.composite
def filled(draw: st.DrawFn) -> tuple[str, int, str, str]:
    """A template with values for its placeholders: scale, item and frame."""
    files = draw(st.sampled_from(TEMPLATES))
    parts = max(1, files.rpartition("/")[0].count("{clip}"))
    names = NAMES.filter(lambda name: "-" not in name) if "{-any}" in files else NAMES
    key = "/".join(draw(st.lists(names, min_size=parts, max_size=parts)))
    frame = draw(NAMES) if "{frame}" in files else ""
    return files, draw(st.sampled_from([2, 3, 4, 8])), key, frame


@pytest.mark.slow
@given(filled(), st.sampled_from(["", "-", "-q-7"]), st.sampled_from(["png", "PNG", "tif", "npy"]))
def test_a_file_named_by_a_template_is_found_with_its_fields(
    case: tuple[str, int, str, str], ending: str, suffix: str
) -> None:
    files, scale, key, frame = case
    without_any = files.replace("{any}", "q-7").replace("{-any}", ending)
    path = fill(without_any, scale, key, frame).removesuffix("*") + suffix
    with TemporaryDirectory() as root:
        file = touch(root, path)
        assert found_in(root, files, scale) == [FoundFile(key, frame, str(file))]
        assert found_in(root, files, scale, keys=[key]) == [FoundFile(key, frame, str(file))]
        assert found_in(root, files, scale, wanted=lambda other: other != key) == []
        touch(root, f"{path}.txt")
        touch(root, f"other/{path}/deeper.png.txt")
        assert found_in(root, files, scale) == [FoundFile(key, frame, str(file))]


@given(filled())
def test_the_fixed_folder_and_the_rest_are_the_whole_template(
    case: tuple[str, int, str, str],
) -> None:
    files, scale, key, frame = case
    folder, rest = split_fixed(files, scale)
    assert "{" not in folder
    assert f"{folder}/{fill(rest, scale, key, frame)}".lstrip("/") == fill(files, scale, key, frame)


def test_templates_are_filled() -> None:
    two_levels = "low/{clip}/{clip}/{clip}_x{scale}_{frame}"
    assert fill(two_levels, 4, "00001/0266", "im4") == "low/00001/0266/0266_x4_im4.*"
    assert fill("{any}x{scale}", 2, "a") == "*x2.*"
    assert fill("HR/{stem}", 2, "{scale}") == "HR/{scale}.*"


def test_only_the_listed_clips_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for clip in ("a", "b", "c"):
        touch(tmp_path, f"GT/{clip}/1.png")
    opened: list[str] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: (opened.append(str(path)), scandir(path))[1])
    found = found_in(tmp_path, "GT/{clip}/{frame}", keys=["b", "gone", "c/d"])
    assert [file.key for file in found] == ["b"]
    assert opened == [f"{tmp_path}/GT/b", f"{tmp_path}/GT/gone"]


TEXTS = st.text(string.ascii_lowercase[:3] + string.digits + "_٣²", max_size=6)


@given(st.lists(TEXTS, max_size=8), st.randoms())
def test_the_natural_order_is_total(texts: list[str], random) -> None:
    shuffled = list(texts)
    random.shuffle(shuffled)
    assert sorted(shuffled, key=natural) == sorted(texts, key=natural)
    assert all((natural(a) == natural(b)) == (a == b) for a in texts for b in texts)


@given(TEXTS.filter(lambda text: not text[-1:].isdigit()), st.integers(0), st.integers(0))
def test_numbers_are_in_numeric_order(prefix: str, first: int, second: int) -> None:
    smaller = natural(f"{prefix}{first}.png") < natural(f"{prefix}{second}.png")
    assert smaller == (first < second)


def test_a_name_is_before_the_same_name_with_a_number() -> None:
    assert sorted(["a2", "a10", "a", "a2b", "b"], key=natural) == ["a", "a2", "a2b", "a10", "b"]
