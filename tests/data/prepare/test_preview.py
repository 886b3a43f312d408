"""The image of a training batch shows exactly the pixels that the network gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from srtoolbox.cli import main
from srtoolbox.config.schema import build
from srtoolbox.data import SampleStream
from srtoolbox.data.datasets.sample_bursts import SampleBursts
from srtoolbox.data.prepare.preview import draw_batch
from srtoolbox.errors import UserError

ROOT = Path(__file__).parents[3]
SHOWN = "options/train/EDSR/sample_x4.yml"


def contains(sheet: np.ndarray, image: np.ndarray) -> bool:
    """Returns whether a sheet contains an image (H, W, 3)."""
    height, width = image.shape[:2]
    corners = np.argwhere((sheet[: 1 - height, : 1 - width] == image[0, 0]).all(axis=-1))
    return any(
        np.array_equal(sheet[y : y + height, x : x + width], image)
        for y, x in corners
        if np.array_equal(sheet[y, x : x + width], image[0])
    )


def enlarged(pixels: Any, factor: int) -> np.ndarray:
    image = np.round(pixels.numpy() * 255).astype(np.uint8).transpose(1, 2, 0)
    return image.repeat(factor, 0).repeat(factor, 1)


def test_every_frame_and_the_ground_truth_are_shown_pixel_by_pixel() -> None:
    stream = SampleStream(SampleBursts(gt_size=80, num_frame=3), seed=3, batch_size=2)
    sheet = np.asarray(draw_batch(stream, 5, "title"))
    batch = next(stream.batches(5, 6))
    for lq, gt in zip(batch["lq"], batch["gt"], strict=True):
        assert contains(sheet, enlarged(gt, 2))  # small images are enlarged to be seen
        assert all(contains(sheet, enlarged(frame, 8)) for frame in lq)


def test_other_steps_and_seeds_look_otherwise() -> None:
    data = SampleBursts(gt_size=32, num_frame=1)
    stream = SampleStream(data, seed=0, batch_size=1)
    first = draw_batch(stream, 0, "")
    assert first == draw_batch(stream, 0, "")
    assert first != draw_batch(stream, 1, "")


class _Raw:
    """Linear RAW samples of one value."""

    scale, num_frame, reference = 4, 2, 0

    def __len__(self) -> int:
        return 1

    def draw(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        lq = np.empty((2, 4, 4, 4), np.float32)
        lq[:] = np.array([0.2, 0.1, 0.3, 0.4], np.float32)[:, None, None]
        return {"key": "raw", "lq": lq, "gt": np.full((3, 16, 16), 0.5, np.float32)}


def test_raw_becomes_rgb() -> None:
    sheet = np.asarray(draw_batch(SampleStream(_Raw(), 0, 1), 0, ""))
    colour = np.round(255 * np.array([0.2, 0.2, 0.4]) ** (1 / 2.2)).astype(np.uint8)
    for value in (colour, np.full(3, round(255 * 0.5 ** (1 / 2.2)))):
        patch = np.broadcast_to(value.astype(np.uint8), (160, 160, 3))
        assert contains(sheet, patch)


class _Clip(_Raw):
    """Clips whose ground truth has all frames."""

    reference = None

    def draw(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        lq, gt = (rng.integers(0, 256, (2, 3, size, size), np.uint8) for size in (4, 16))
        return {"key": "clip", "lq": lq, "gt": gt, "orientation": 3}


def test_all_ground_truths_of_a_window_are_shown() -> None:
    stream = SampleStream(_Clip(), 0, 1)
    sheet = np.asarray(draw_batch(stream, 0, ""))
    for truth in next(stream.batches(0, 1))["gt"][0]:
        assert contains(sheet, enlarged(truth, 10))


@pytest.mark.parametrize(
    "name", [SHOWN, "options/compare/quickstart.yml", "options/_base_/data/sample_bursts_x4.yml"]
)
def test_runs_studies_and_data_files_can_be_shown(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(ROOT)
    out = tmp_path / "deep" / "x.png"
    small = ["--set", "datasets.train.gt_size=32", "--step", "3"]
    assert main(["sample", name, "--out", str(out), *small]) == 0
    assert str(out) in capsys.readouterr().out
    with Image.open(out) as picture:
        assert picture.format == "PNG"


def test_a_layout_with_its_folder_can_be_shown(tmp_path: Path, capsys) -> None:
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (48, 64, 3), np.uint8)
        (tmp_path / "HR").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / f"HR/{number}.png")
    command = ["sample", "folder", "--source", str(tmp_path), "--out", str(tmp_path / "x.png")]
    assert main([*command, "--set", "datasets.train.gt_size=32"]) == 0
    assert main(command) == 2  # crops of 192
    assert "gt_size 192" in capsys.readouterr().err
    assert main(["sample", "folders", *command[2:]]) == 2
    assert "did you mean 'folder'" in capsys.readouterr().err


def test_what_has_no_training_data_says_so(tmp_path: Path, capsys) -> None:
    vid4 = str(ROOT / "options/_base_/data/vid4_x4.yml")
    assert main(["sample", vid4, "--out", str(tmp_path / "x.png")]) == 2
    assert "no training data" in capsys.readouterr().err


class _Bands(_Raw):
    """Samples of any number of bands, each of one value, with a mask."""

    raw = False

    def __init__(self, channels: int) -> None:
        self.channels = self.gt_channels = channels

    def draw(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        gt = np.empty((self.channels, 16, 16), np.uint8)
        gt[:] = 40 * (1 + np.arange(self.channels, dtype=np.uint8))[:, None, None]
        mask = np.ones((1, 16, 16), bool)
        mask[:, :8] = False
        lq = np.stack([gt[:, :4, :4]] * 2)
        return {"key": "bands", "lq": lq, "gt": gt, "mask": mask}


@pytest.mark.parametrize(
    ("channels", "rgb_bands", "shown"),
    [
        (1, None, (40, 40, 40)),
        (2, None, (40, 40, 40)),
        (4, None, (40, 80, 120)),
        (5, [5, 3, 1], (200, 120, 40)),
        (5, [4], (160, 160, 160)),
    ],
)
def test_other_bands_and_missing_pixels(
    channels: int, rgb_bands: list[int] | None, shown: tuple[int, ...]
) -> None:
    stream = SampleStream(_Bands(channels), 0, 1)
    sheet = np.asarray(draw_batch(stream, 0, "", rgb_bands=rgb_bands))
    patch = np.broadcast_to(np.array(shown, np.uint8), (160, 160, 3))
    assert contains(sheet, patch)  # LR
    half = np.full((160, 160, 3), 0, np.uint8)
    half[:80], half[80:] = (200, 30, 30), shown
    assert contains(sheet, half)


@pytest.mark.parametrize("bands", [[1, 2, 6], [1, 2], [0]])
def test_bands_that_cannot_be_shown(bands: list[int]) -> None:
    with pytest.raises(UserError, match="rgb_bands"):
        draw_batch(SampleStream(_Bands(5), 0, 1), 0, "", rgb_bands=bands)


def test_the_bands_shown_can_be_chosen(tmp_path: Path, capsys) -> None:
    (tmp_path / "HR").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 5), np.uint8)
    np.save(tmp_path / "HR" / "a.npy", pixels)
    file = tmp_path / "data.yml"
    data = f"{{type: PairedImages, dataroot: {tmp_path}, gt_size: 32}}"
    file.write_text(f"network_g: {{num_in_ch: 5}}\ndatasets: {{train: {data}}}\n")
    command = ["sample", str(file), "--out", str(tmp_path / "x.png")]
    assert main([*command, "--rgb-bands", "5", "4", "3"]) == 0
    assert main([*command, "--rgb-bands", "6"]) == 2
    assert "the images have 5 bands" in capsys.readouterr().err


def test_the_steps_of_degradations_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    spec = {"type": "PairedImages", "dataroot_gt": str(tmp_path), "gt_size": 32}
    shown: list[str] = []
    write = ImageDraw.ImageDraw.text

    def text(self: ImageDraw.ImageDraw, place: Any, words: str, *rest: Any) -> None:
        shown.append(words)
        write(self, place, words, *rest)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    data = build("dataset", {**spec, "degradation": {"type": "real_esrgan"}})
    stream = SampleStream(data, seed=0, batch_size=2)
    sheet = np.asarray(draw_batch(stream, 0, ""))
    batch = next(stream.batches(0, 1))
    listed = " ".join(shown).replace("\u00a0", " ")
    for index in range(2):
        plan: Any = stream[index].get("synthesis")
        assert all(step in listed for step in plan["plan"].steps)
        assert contains(sheet, enlarged(batch["lq"][index, 0], 20))
