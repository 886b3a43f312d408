"""Option files that are shipped, found by their names."""

from __future__ import annotations

from pathlib import Path

import pytest

from srtoolbox.config import files, shipped
from srtoolbox.config.shipped import (
    description_of,
    find_shipped,
    kind_of,
    options_folder,
    resolve,
    shipped_files,
)
from srtoolbox.errors import UserError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory, so that no name is a path."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("compare/quickstart", "compare/quickstart"),
        ("compare/quickstart.yml", "compare/quickstart"),
        ("options/compare/quickstart.yml", "compare/quickstart"),
        ("options/compare/quickstart", "compare/quickstart"),
        ("quickstart", "compare/quickstart"),
        ("quickstart.yml", "compare/quickstart"),
        ("options/quickstart", "compare/quickstart"),
        ("EDSR/sample_x4", "train/EDSR/sample_x4"),
        ("train/EDSR/sample_x4.yml", "train/EDSR/sample_x4"),
        ("_base_/data/reds_x4", "_base_/data/reds_x4"),
        ("data/reds_x4", None),
        ("reds_x4", None),
        ("tart", None),
        ("compare", None),
        ("", None),
        (".yml", None),
        ("options", None),
    ],
)
def test_names(text: str, name: str | None) -> None:
    assert find_shipped(text) == name
    if name is not None:
        assert resolve(text) == options_folder() / f"{name}.yml"


def test_an_ambiguous_name_lists_the_candidates() -> None:
    with pytest.raises(UserError) as caught:
        resolve("sample_x4")
    message = str(caught.value)
    archs = [path.parent.name for path in (options_folder() / "train").glob("*/sample_x4.yml")]
    assert message.startswith(f"sample_x4: {len(archs)} shipped option files have this name: ")
    for arch in ("DSRNet", "DSTC-SRNet", "DSTC-SRNetPlus", "EDSR", "EDVR", "TDAN", *archs):
        assert f"train/{arch}/sample_x4" in message


@pytest.mark.parametrize(
    ("text", "close"),
    [
        ("quickstrat.yml", "'compare/quickstart'"),
        ("EDSR/smaple_x4", "'train/EDSR/sample_x4'"),
        ("Compare/Quickstart", "'compare/quickstart'"),
        ("zzzzzzzz", ""),
    ],
)
def test_an_unknown_name_lists_close_ones(text: str, close: str) -> None:
    with pytest.raises(UserError) as caught:
        resolve(text)
    message = str(caught.value)
    assert message.startswith(f"no such file: {text}; ")
    assert close in message and ("did you mean" in message) is bool(close)
    assert "`srtoolbox options list`" in message


@pytest.mark.parametrize("text", ["../secret", "compare/../../secret", "{}/secret", "/secret"])
def test_names_do_not_lead_out_of_the_folder(
    text: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped_folder = folder / "options"
    (shipped_folder / "compare").mkdir(parents=True)
    (shipped_folder / "compare" / "study.yml").touch()
    (folder / "secret.yml").touch()
    monkeypatch.setattr(shipped, "options_folder", lambda: shipped_folder)
    assert find_shipped("study") == "compare/study"
    with pytest.raises(UserError, match="no such file"):
        resolve(text.format(folder))


def test_a_file_that_exists_comes_first(folder: Path) -> None:
    (folder / "quickstart").write_text("a: 1\n")
    assert resolve("quickstart") == Path("quickstart")
    assert files.read("quickstart") == {"a": 1}
    (folder / "compare").mkdir()
    assert files.read("compare/quickstart")["name"] == "quickstart"


def test_a_folder_gives_way_to_a_shipped_file(folder: Path) -> None:
    (folder / "quickstart").mkdir()
    (folder / "other").mkdir()
    assert resolve("quickstart") == options_folder() / "compare" / "quickstart.yml"
    with pytest.raises(UserError, match="cannot read other: Is a directory"):
        files.read("other")


def test_bases_are_paths_only(folder: Path) -> None:
    (folder / "mine.yml").write_text("_base_: compare/quickstart\n")
    with pytest.raises(UserError, match=r"mine.yml:1: _base_: no such file: compare/quickstart$"):
        files.read("mine.yml")


def test_an_installed_package_has_its_own_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = folder / "site-packages" / "srtoolbox" / "config" / "shipped.py"
    module.parent.mkdir(parents=True)
    monkeypatch.setattr(shipped, "__file__", str(module))
    assert options_folder() == folder / "site-packages" / "options"
    (folder / "site-packages" / "srtoolbox" / "options").mkdir()
    assert options_folder() == folder / "site-packages" / "srtoolbox" / "options"


def test_kinds() -> None:
    kinds = {kind_of(name) for name in shipped_files()}
    assert kinds == {"run", "test", "study", "bench", None}


def test_every_file_that_can_be_run_is_described_in_one_line() -> None:
    for name, path in shipped_files().items():
        if kind_of(name):
            text = description_of(path)
            assert 0 < len(text) <= 90 and "\n" not in text and "#" not in text


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("# One, two (a: b. c) of it: more.\n# Rest\nname: x\n", "One, two (a: b. c) of it"),
        ("# A sentence\n# on two lines. Another.\n", "A sentence on two lines"),
        ("name: x\n# no description\n", "x"),
        ("a: 1\n", ""),
        ("# " + "long " * 40 + "\n", " ".join(["long"] * 17) + " …"),
        ("# (half\n", "(half"),
    ],
)
def test_descriptions(folder: Path, content: str, expected: str) -> None:
    (folder / "x.yml").write_text(content)
    assert description_of(folder / "x.yml") == expected
