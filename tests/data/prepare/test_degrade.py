"""Test sets of blind degradations as files equal those that datasets make."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from skimage import data

from srtoolbox.cli import main
from srtoolbox.config.schema import build
from srtoolbox.data.prepare.dataset import prepare
from srtoolbox.errors import UserError

needs_av = pytest.mark.skipif(
    find_spec("av") is None, reason="needs PyAV: pip install srtoolbox[video]"
)


def photograph(path: Path, number: int, height: int = 50, width: int = 62) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    top = 20 * number
    pixels = data.astronaut()[top : top + height, 150 : 150 + width, ::-1]
    assert cv2.imwrite(str(path), pixels)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number in range(3):
        photograph(tmp_path / "photos" / f"{number}.png", number)
    pixels = cv2.imread(str(tmp_path / "photos" / "2.png"), cv2.IMREAD_GRAYSCALE)
    assert pixels is not None
    assert cv2.imwrite(str(tmp_path / "photos" / "3.png"), pixels)
    return tmp_path / "photos"


def samples(kind: str, root: Path, **options: Any) -> list[Any]:
    dataset = build("dataset", {"type": kind, "dataroot": str(root), **options})
    return [dataset[index] for index in range(len(dataset))]


def assert_same(ours: list[Any], theirs: list[Any]) -> None:
    assert len(ours) == len(theirs) > 0
    for first, second in zip(ours, theirs, strict=True):
        assert first["key"] == second["key"]
        assert np.array_equal(first["lq"], second["lq"])
        assert np.array_equal(first["gt"], second["gt"])


@pytest.mark.parametrize("name", ["bsrgan", "first_order", "real_esrgan"])
def test_files_have_the_pixels_of_the_dataset(images: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "lr"
    done = prepare("folder", images, out=out, degradation=name, degradation_seed=3, cache=None)
    assert done.parts[0].made == 4
    assert done.root_lq == out
    made = samples("PairedImages", images, degradation={"type": name}, degradation_seed=3)
    assert_same(made, samples("PairedImages", images, dataroot_lq=str(out)))


def test_files_that_are_read_otherwise_need_another_folder(tmp_path: Path) -> None:
    pixels = data.astronaut()[:50, :62, ::-1].astype(np.uint16) * 16
    (tmp_path / "photos").mkdir()
    assert cv2.imwrite(str(tmp_path / "photos" / "0.png"), pixels)
    given: dict[str, Any] = {"out": tmp_path / "lr", "degradation": "bsrgan", "cache": None}
    prepare("folder", tmp_path / "photos", **given)
    with pytest.raises(UserError, match="made with other options"):
        prepare("folder", tmp_path / "photos", white_level=4095, **given)


def test_options_of_a_file_and_the_card(images: Path, tmp_path: Path) -> None:
    out, file = tmp_path / "lr", tmp_path / "own.yml"
    file.write_text("degradation: {type: first_order, noise_range: [9, 9]}\n")
    prepare("folder", images, out=out, degradation=str(file), scale=2, cache=None)
    spec = {"type": "first_order", "noise_range": (9, 9)}
    made = samples("PairedImages", images, degradation=spec, scale=2)
    assert_same(made, samples("PairedImages", images, dataroot_lq=str(out), scale=2))
    card = json.loads((out / "degradation.json").read_text())
    assert card["degradation"]["noise_range"] == [9, 9]
    assert card["degradation"]["blur_sigma"] == [0.2, 4.0]  # defaults, too
    assert card["scale"] == 2
    assert prepare(
        "folder", images, out=out, degradation=str(file), scale=2, cache=None
    ).parts[0].made == 0  # fmt: skip
    with pytest.raises(UserError, match="made with other options"):
        prepare("folder", images, out=out, degradation="first_order", scale=2, cache=None)


def test_an_interrupted_set_is_continued(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "lr"
    prepare("folder", images, out=out, degradation="bsrgan", cache=None)
    before = {path.name: path.read_bytes() for path in out.glob("*.png")}
    (out / "1.png").unlink()
    done = prepare("folder", images, out=out, degradation="bsrgan", cache=None)
    assert done.parts[0].made == 1
    assert {path.name: path.read_bytes() for path in out.glob("*.png")} == before


@pytest.mark.parametrize("video", [False, pytest.param(True, marks=needs_av)])
def test_clips(tmp_path: Path, video: bool) -> None:
    for clip in range(2):
        for frame in range(4):
            photograph(tmp_path / f"clips/GT/{clip}/{frame:03d}.png", 5 * clip + frame)
    file, out = tmp_path / "own.yml", tmp_path / "lr"
    rules = "video_compression: {codec: [mpeg4], qscale: [8, 8]}" if video else "per_frame: true"
    file.write_text(f"degradation: {{type: real_esrgan}}\n{rules}\n")
    prepare("clips", tmp_path / "clips", out=out, degradation=str(file), cache=None)
    assert len(list(out.rglob("*.png"))) == 8
    options: dict[str, Any] = {"num_frame": None, "target": "all"}
    given: dict[str, Any] = {"per_frame": True}
    if video:
        given = {"video_compression": {"codec": ["mpeg4"], "qscale": [8, 8]}}
    made = samples(
        "Clips", tmp_path / "clips", degradation={"type": "real_esrgan"}, **given, **options
    )
    assert_same(made, samples("Clips", tmp_path / "clips", dataroot_lq=str(out), **options))


def test_bands_with_levels(tmp_path: Path) -> None:
    rng, out = np.random.default_rng(0), tmp_path / "lr"
    (tmp_path / "bands").mkdir()
    pixels = rng.integers(0, 4000, (40, 48, 4)).astype(np.uint16)
    tifffile.imwrite(
        tmp_path / "bands/a.tif", pixels, photometric="minisblack", planarconfig="contig"
    )
    options: dict[str, Any] = {"channels": 4, "white_level": 4000}
    prepare("folder", tmp_path / "bands", out=out, degradation="first_order", cache=None, **options)
    made = samples(
        "PairedImages", tmp_path / "bands", degradation={"type": "first_order"}, **options
    )
    assert made[0]["lq"].dtype == np.uint8
    assert_same(made, samples("PairedImages", tmp_path / "bands", dataroot_lq=str(out), **options))


def test_the_command(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "lr"
    command = ["prepare", "folder", "--source", str(images), "--no-cache"]
    assert main([*command, "--out", str(out), "--degradation", "bsrgan"]) == 0
    assert f"dataroot_lq: {out}" in capsys.readouterr().out
    for arguments, words in (
        (["--degradation", "bsrgan"], "needs --out DIR"),
        (["--out", str(out), "--degradation", "bsrgann"], "did you mean 'bsrgan'?"),
        (["--out", str(out), "--degradation", "none.yml"], "none.yml"),
    ):
        assert main([*command, *arguments]) == 2
        assert words in capsys.readouterr().err
    source = ["prepare", "sbsr", "--source", str(images), "--out", str(out), "--no-cache"]
    assert main([*source, "--degradation", "bsrgan"]) == 2
    assert "for images and clips from files" in capsys.readouterr().err
