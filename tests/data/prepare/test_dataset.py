"""Prepares datasets: all damage is reported, interrupted work continues, training finds all."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from srtoolbox.cli import main
from srtoolbox.config.files import as_tree, merge, read
from srtoolbox.config.load import check_options
from srtoolbox.data import Bursts, Clips, PairedImages
from srtoolbox.data.cache import build as cache_build
from srtoolbox.data.cache import pixels as cache
from srtoolbox.data.layouts import LAYOUTS
from srtoolbox.data.prepare.dataset import GENERATORS, prepare
from srtoolbox.data.prepare.examine import examine
from srtoolbox.data.prepare.summary import folder_name
from srtoolbox.engine.build import build_dataset
from srtoolbox.engine.options import RunOptions
from srtoolbox.errors import UserError

BASE = Path(__file__).parents[3] / "options" / "_base_" / "data"


def write(path: Path, height: int, width: int, channels: int = 3, dtype: str = "uint8") -> Path:
    rng = np.random.default_rng(height * width + len(path.name))
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), rng.integers(0, 256, (height, width, channels), dtype))
    return path


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Three HR images in the layout ``folder``."""
    for number, size in enumerate(((32, 48), (33, 50), (64, 40))):
        write(tmp_path / "source" / "HR" / f"{number}.png", *size)
    return tmp_path / "source"


@pytest.fixture
def forbidden(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def forbid() -> None:
        def build(*_: object) -> None:
            raise AssertionError("the cache is built again")

        monkeypatch.setattr(cache, "build", build)

    return forbid


def test_training_by_the_option_files_finds_the_images(
    tmp_path: Path, forbidden: Callable[[], None]
) -> None:
    for part, count in (("train", 2), ("valid", 1)):
        for number in range(count):
            write(tmp_path / f"div/DIV2K_{part}_HR/{part}{number}.png", 192, 192)
            write(tmp_path / f"div/DIV2K_{part}_LR_bicubic/X4/{part}{number}x4.png", 48, 48)
    done = prepare("div2k", tmp_path / "div")
    assert [(part.split, len(part.items), part.cache) for part in done.parts] == [
        ("train", 2, 2 * 3 * (192**2 + 48**2)),
        ("val", 1, None),
    ]
    assert any("DIV2K has 800" in note for note in done.notes)
    assert done.option_file() == BASE / "div2k_x4.yml"
    assert Path("datasets/DIV2K").resolve() == tmp_path / "div"
    forbidden()
    spec = read(BASE / "div2k_x4.yml")["datasets"]["train"]
    spec = {key: value for key, value in spec.items() if key != "type"}
    PairedImages(**spec)[0]
    for other in done.options()["datasets"].values():  # what is printed says the same
        assert other.get("cache", spec["cache"]) == spec["cache"]


def test_training_by_the_option_files_finds_the_clips(
    tmp_path: Path, forbidden: Callable[[], None]
) -> None:
    for frame in range(5):
        write(tmp_path / f"jilin/train/GT/a/{frame:08d}.png", 256, 256)
    done = prepare("jilin189", tmp_path / "jilin")
    assert "split 'test' is not here; it is at: https://zenodo.org" in " ".join(done.notes)
    assert any("5 HR files are not 640×640" in note for note in done.notes)
    forbidden()
    spec = read(BASE / "jilin189_x4.yml")["datasets"]["train"]
    Clips(**{key: value for key, value in spec.items() if key != "type"})


def test_training_by_the_option_files_finds_raw_bursts(
    tmp_path: Path, forbidden: Callable[[], None]
) -> None:
    write(tmp_path / "raw/train/a/canon/im_raw.png", 416, 416, dtype="uint16")
    for frame in range(14):
        write(tmp_path / f"raw/train/a/samsung_{frame:02d}/im_raw.png", 52, 52, 4, "uint16")
        write(tmp_path / f"raw/test/b/samsung_{frame:02d}/im_raw.png", 52, 52, 4, "uint16")
    done = prepare("burstsr", tmp_path / "raw")
    assert [part.num_frame for part in done.parts] == [14, 14]
    assert "test: no ground truth; not usable for training or evaluation" in done.notes
    assert done.options()["scale"] == 8 and list(done.options()["datasets"]) == ["train"]
    assert done.option_file() == BASE / "burstsr_x4.yml"
    forbidden()
    spec = read(BASE / "burstsr_x4.yml")["datasets"]["train"]
    bursts = Bursts(**{key: value for key, value in spec.items() if key != "type"}, scale=8)
    bursts.check_training()


def test_known_datasets_are_linked_where_the_option_files_look() -> None:
    for file in BASE.glob("*.yml"):
        datasets = read(file)["datasets"]
        groups = [datasets.get("val", {}), datasets.get("test", {}), {"": datasets.get("train")}]
        for spec in (spec for group in groups for spec in group.values() if spec):
            layout = LAYOUTS.get(spec.get("layout", ""))
            if layout is None or layout.source == "your own":
                continue
            if layout.name in GENERATORS or layout.name == "sen2venus":  # one folder for each part
                assert Path(spec["dataroot"]).parent == Path("datasets", folder_name(layout))
            else:
                assert spec["dataroot"] == f"datasets/{folder_name(layout)}"
            assert spec.get("cache", "datasets/.cache") == "datasets/.cache"


def test_another_folder_in_the_place_of_the_link_is_left_alone(photographs: Path) -> None:
    Path("datasets/Set5").mkdir(parents=True)
    done = prepare("set5", photographs)
    assert done.root == photographs and not Path("datasets/Set5").is_symlink()


def test_lr_files_are_those_made_when_read(photographs: Path) -> None:
    before = [PairedImages(dataroot=str(photographs))[i]["lq"] for i in range(3)]
    done = prepare("folder", photographs, make_lr=True, cache=None)
    assert done.parts[0].made == 3
    written = photographs / "LR" / "1.png"
    assert written.exists()
    after = PairedImages(dataroot=str(photographs))
    for number, lq in enumerate(before):
        assert np.array_equal(after[number]["lq"], lq)
    written.unlink()
    first = (photographs / "LR" / "0.png").stat().st_mtime_ns
    assert prepare("folder", photographs, make_lr=True, cache=None).parts[0].made == 1
    assert (photographs / "LR" / "0.png").stat().st_mtime_ns == first


def test_lr_files_of_clips_can_lie_elsewhere(tmp_path: Path) -> None:
    for frame in range(3):
        write(tmp_path / f"clips/one/{frame:03d}.png", 16, 24)
    out = tmp_path / "made"
    done = prepare("clips", tmp_path / "clips", out=out, make_lr=True, cache=None)
    assert sorted(path.name for path in (out / "one").iterdir()) == [
        "000.png",
        "001.png",
        "002.png",
    ]
    spec = done.options()["datasets"]["train"]
    assert spec["dataroot_lq"] == str(out)
    dataset = Clips(**{k: v for k, v in spec.items() if k != "type"}, num_frame=3, gt_size=16)
    assert dataset[1]["lq"].shape == (3, 3, 4, 6)


def test_lr_files_need_a_place(photographs: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no place for LR files.*--out DIR"):
        prepare("folder", photographs / "HR", make_lr=True)


def test_lr_files_that_are_wrong_are_not_replaced(photographs: Path) -> None:
    wrong = write(photographs / "LR" / "1.png", 5, 5)
    with pytest.raises(UserError, match="wrong scale \\(1\\)"):
        prepare("folder", photographs, make_lr=True)
    assert cv2.imread(str(wrong)).shape == (5, 5, 3)


def test_a_full_disk_while_lr_is_made(
    photographs: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    calls = iter(range(99))

    def fsync(descriptor: int) -> None:
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        if is_file and next(calls) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    command = ["prepare", "folder", "--source", str(photographs), "--make-lr", "--no-cache"]
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        assert main(command) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert all(path.suffix == ".png" for path in (photographs / "LR").iterdir())
    assert main(command) == 0
    assert len(list((photographs / "LR").iterdir())) == 3


def test_a_full_disk_while_the_cache_is_built(
    photographs: Path, monkeypatch: pytest.MonkeyPatch, capsys, forbidden: Callable[[], None]
) -> None:
    command = ["prepare", "folder", "--source", str(photographs)]
    calls = iter(range(99))
    pwrite = os.pwrite

    def fails(*arguments) -> int:
        if next(calls) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return pwrite(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(cache_build.os, "pwrite", fails)
        assert main(command) == 1
    error = capsys.readouterr().err
    assert "No space left on device" in error and "continues from there" in error
    assert "Traceback" not in error
    stores = [path for path in Path("datasets/.cache").iterdir() if path.suffix == ""]
    assert stores == []  # nothing that looks finished
    assert main(command) == 0
    forbidden()
    PairedImages(dataroot=str(photographs), cache="datasets/.cache")


@pytest.fixture
def damaged(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """Makes clips with every kind of damage; returns their folder and the paths to be named."""
    root = tmp_path / "damaged"
    for clip in "abcd":
        for frame in range(4):
            write(root / f"GT/{clip}/{frame}.png", 32, 32)
            write(root / f"LR/{clip}/{frame}.png", 8, 8)
    (root / "LR/a/1.png").unlink()
    write(root / "LR/a/2.png", 8, 8, 4)
    whole = (root / "GT/a/3.png").read_bytes()
    (root / "GT/a/3.png").write_bytes(whole[: len(whole) // 2])
    (root / "GT/b/0.png").write_bytes(b"")
    (root / "GT/b/1.png").write_text("this is no picture")
    write(root / "LR/b/3.png", 6, 8)
    for frame in range(4):
        write(root / f"LR/c/{frame}.png", 10, 10)
    (root / "GT/d/1.jpg").write_bytes((root / "GT/d/1.png").read_bytes())
    (root / "GT/d/5.png").mkdir()
    (root / "GT/e").symlink_to(root / "GT")
    found = {
        "missing partner": "LR/a",
        "wrong channels": "LR/a/2.png",
        "truncated": "GT/a/3.png",
        "empty file": "GT/b/0.png",
        "not an image": "GT/b/1.png",
        "mixed sizes": "LR/b/3.png",
        "wrong scale": "LR/c/0.png",
        "duplicate stem": "GT/d/1.",
        "not a file": "GT/d/5.png",
        "symlink loop": "GT/e",
    }
    if os.geteuid() != 0:  # who may read everything
        (root / "GT/d/2.png").chmod(0)
        found["unreadable"] = "GT/d/2.png"
    return root, {kind: str(root / path) for kind, path in found.items()}


RUN = """
name: run
network_g: {{type: Bicubic}}
datasets:
  val:
    damaged: {{type: Clips, dataroot: {root}, num_frame: 3, cache: datasets/.cache}}
"""


@pytest.mark.parametrize("command", ["prepare", "doctor", "train"])
def test_all_damage_is_reported(
    damaged: tuple[Path, dict[str, str]], command: str, capsys, tmp_path: Path
) -> None:
    root, found = damaged
    run = tmp_path / "run.yml"
    run.write_text(RUN.format(root=root))
    arguments = {
        "prepare": ["clips", "--source", str(root)],
        "doctor": [str(run)],
        "train": [str(run), "--dry-run"],
    }
    assert main([command, *arguments[command]]) == 2
    error = capsys.readouterr().err
    check_report(error, found)
    assert "nothing was built" in error or command != "prepare"
    assert not Path("datasets").exists()


def check_report(error: str, found: dict[str, str]) -> None:
    assert "Traceback" not in error
    sections: dict[str, list[str]] = {}
    kind = ""
    for line in error.splitlines():
        if line.startswith("    "):
            sections[kind].append(line.strip())
        elif line.endswith(")") and line.startswith("  "):
            kind = line.strip().rpartition(" (")[0]
            sections[kind] = []
    assert set(found) <= set(sections)
    for kind, path in found.items():
        assert any(line.startswith(path) for line in sections[kind]), (kind, sections[kind])


def test_damage_in_the_midst_of_a_file_is_found_when_it_is_decoded(photographs: Path) -> None:
    broken = [photographs / "HR" / f"{number}.png" for number in (0, 2)]
    for path in broken:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 255
        path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        prepare("folder", photographs)
    assert all(str(path) in str(caught.value) for path in broken)
    with pytest.raises(UserError, match=r"2\.png"):
        prepare("folder", photographs, make_lr=True, cache=None)


def test_sbsr_is_made_of_any_images_and_only_once(photographs: Path, capsys) -> None:
    command = ["prepare", "sbsr", "--source", str(photographs), "--scale", "4"]
    assert main(command) == 0
    assert "bursts" in capsys.readouterr().out
    frames = Path("datasets/SBSR/train/LR/0")
    assert len(list(frames.iterdir())) == 14
    time = frames.stat().st_mtime_ns
    assert main(command) == 0
    assert frames.stat().st_mtime_ns == time


def test_the_options_that_are_printed_can_be_used(photographs: Path) -> None:
    done = prepare("folder", photographs)
    tree = as_tree(done.options(), "printed")
    rest = as_tree({"name": "x", "network_g": {"type": "Bicubic"}}, "test")
    opt = check_options(merge(rest, tree), RunOptions)
    spec = {**opt.datasets.train, "gt_size": 16}
    assert len(build_dataset("train", spec, opt, _Net())) == 3


@pytest.mark.parametrize("make_lr", [False, True])
def test_other_colours_and_sub_folders(photographs: Path, make_lr: bool) -> None:
    write(photographs / "HR" / "sub" / "deep" / "3.png", 48, 40, channels=4)
    arguments = ["prepare", "folder", "--source", str(photographs)]
    assert main([*arguments, "--recursive"]) == 2  # a transparent image
    with pytest.raises(UserError, match="convert: rgb"):
        prepare("folder", photographs, recursive=True)
    done = prepare("folder", photographs, convert=True, recursive=True, make_lr=make_lr)
    assert [item.key for item in done.parts[0].items] == ["0", "1", "2", "sub/deep/3"]
    if make_lr:
        (made,) = photographs.glob("LR*/sub/deep/3.png")
        assert cv2.imread(str(made), cv2.IMREAD_UNCHANGED).shape == (12, 10, 3)
        assert (
            prepare("folder", photographs, convert=True, recursive=True, make_lr=True).parts[0].made
            == 0
        )
    spec = done.options()["datasets"]["train"]
    assert spec["convert"] == "rgb" and spec["recursive"] is True
    spec = {key: value for key, value in spec.items() if key != "type"}
    dataset = PairedImages(**spec, scale=4, gt_size=16)
    assert len(dataset) == 4 and dataset[3]["gt"].shape == (3, 48, 40)


@pytest.mark.parametrize("name", ["burstsr", "sbsr"])
def test_raw_and_generated_images_are_not_converted(photographs: Path, name: str) -> None:
    with pytest.raises(UserError, match="remove --convert"):
        prepare(name, photographs, convert=True)


class _Net:
    scales, scale, num_frame, reference, channels = (4,), 4, 1, 0, 3


def test_missing_data_says_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"data\.vision\.ee\.ethz\.ch"):
        prepare("div2k", tmp_path / "empty")
    with pytest.raises(UserError, match="no such folder"):
        prepare("div2k", tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["div2"], "did you mean 'div2k'"),
        (["div2k", "--split", "test"], "it has train, val"),
        (["jilin189", "--scale", "3"], "scale is one of 4"),
        (["folder", "--out", "x"], "add --make-lr"),
        (["bursts", "--make-lr"], "not for bursts"),
    ],
)
def test_wrong_use(photographs: Path, arguments: list[str], words: str, capsys) -> None:
    assert main(["prepare", *arguments, "--source", str(photographs)]) == 2
    assert words in capsys.readouterr().err


def test_list(capsys) -> None:
    assert main(["prepare", "--list"]) == 0
    assert "jilin189" in capsys.readouterr().out
    assert main(["prepare", "set5"]) == 2


def test_examine_of_data_that_are_not_files() -> None:
    assert examine({"type": "SampleBursts"}, 4, training=True) is None
