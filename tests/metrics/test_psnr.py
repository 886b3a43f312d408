"""PSNR against BasicSR's values, MATLAB's values and arithmetic."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from srtoolbox.data.resize.array import imresize
from srtoolbox.errors import UserError
from srtoolbox.metrics import PSNR, SSIM, Protocol, get_protocol


def _read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


def _tensor(image: np.ndarray) -> Tensor:
    image = image[..., None] if image.ndim == 2 else image
    return torch.from_numpy(image.transpose(2, 0, 1).copy()).float() / 255


def _ground_truth(reference: Path, entry: dict, lr: np.ndarray) -> np.ndarray:
    image = _read(reference / entry["gt"].split(" top-left ")[0])
    return image[: lr.shape[0] * entry["scale"], : lr.shape[1] * entry["scale"]]


def _entries(reference: Path, group: str, **wanted: object) -> list[dict]:
    entries = json.loads((reference / "goldens/metrics.json").read_text())[group]
    return [e for e in entries if all(e[key] == value for key, value in wanted.items())]


def _check(entry: dict, sr: Tensor, gt: Tensor) -> None:
    """Compares every stored PSNR and SSIM of an image."""
    checked = 0
    for key, value in entry.items():
        if not key.startswith(("psnr_", "ssim_")):
            continue
        kind, color, crop = key.split("_")
        protocol = Protocol(
            "golden",
            color="rgb" if color == "rgb" else "y",
            y_rounding=color == "yuint8",
            crop_border=int(crop.removeprefix("crop")),
        )
        metric = {"psnr": PSNR, "ssim": SSIM}[kind]()
        ours = metric(sr, gt, protocol=protocol, scale=4)
        assert ours == pytest.approx(value, abs=1e-4), (entry, key)
        checked += 1
    assert checked >= 10


@pytest.mark.parametrize("image", ["img_002", "img_003", "img_005"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bicubic_on_set5_as_basicsr(reference, image, scale):
    (entry,) = _entries(reference, "set5_bicubic", image=image, scale=scale)
    lr = _read(reference / entry["lr"])
    sr = imresize(lr / 255, scale)
    _check(
        entry,
        _tensor(np.clip(np.round(sr * 255), 0, 255)),
        _tensor(_ground_truth(reference, entry, lr)),
    )


def test_grey_image_as_basicsr(reference):
    (entry,) = _entries(reference, "set14_bicubic", image="img_003", scale=4)
    lr = _read(reference / entry["lr"])
    assert lr.ndim == 2
    sr = imresize(lr / 255, 4)
    _check(
        entry,
        _tensor(np.clip(np.round(sr * 255), 0, 255)),
        _tensor(_ground_truth(reference, entry, lr)),
    )


@pytest.mark.slow
@pytest.mark.parametrize("clip", ["calendar", "city", "foliage", "walk"])
def test_a_peers_video_as_basicsr(reference, clip):
    (entry,) = _entries(reference, "duf_vid4_x4", model="52L", clip=clip, index=5)
    sr = _read(reference / f"data/DUF_results_x4/52L/{clip}/005.png")
    _check(entry, _tensor(sr), _tensor(_read(reference / entry["gt"])))


@pytest.mark.parametrize(
    ("name", "means"),
    [("basicsr-y", (33.679, 30.406, 28.432)), ("matlab-y", (33.646, 30.388, 28.419))],
)
def test_set5_means(reference, name, means):
    """Published bicubic means: float luma, and MATLAB's rounded luma."""
    metric, protocol = PSNR(), get_protocol(name)
    for scale, mean in zip((2, 3, 4), means, strict=True):
        values = []
        for entry in _entries(reference, "set5_bicubic", scale=scale):
            lr = _read(reference / entry["lr"])
            gt = _tensor(_ground_truth(reference, entry, lr))
            values.append(metric(_tensor(imresize(lr, scale)), gt, protocol=protocol, scale=scale))
        assert sum(values) / 5 == pytest.approx(mean, abs=6e-4)


@pytest.mark.parametrize("image", ["img_001", "img_003"])
@pytest.mark.parametrize("kind", ["psnr", "ssim"])
def test_matlab_table(reference, image, kind):
    """Colour and grey as MATLAB scripts score them; img_003 is the grey one."""
    for entry in _entries(reference, "set14_bicubic", image=image):
        lr = _read(reference / entry["lr"])
        sr = imresize(lr, entry["scale"], edge="replicate", round_between_passes=True)
        gt = _ground_truth(reference, entry, lr)
        metric = {"psnr": PSNR, "ssim": SSIM}[kind]()
        ours = metric(
            _tensor(sr), _tensor(gt), protocol=get_protocol("matlab-y"), scale=entry["scale"]
        )
        assert ours == pytest.approx(entry[f"matlab_table_{kind}"], abs=1e-4)


@pytest.mark.slow
def test_jilin_tables(reference):
    """Bicubic on clip 001 as measured: only the clip's own edge rule gives all of these digits."""
    folder = reference / "data/Jilin/001"
    expected = {
        "rgb": (29.04, 0.8780),
        "jilin189": (30.37, 0.8889),
        "jilin189-table": (29.66, 0.8795),
    }
    found = {name: [] for name in expected}
    for path in sorted((folder / "GT").glob("*.png")):
        sr = _tensor(imresize(_read(folder / "LR" / path.name), 4, edge="replicate"))
        gt = _tensor(_read(path))
        for name, values in found.items():
            options = {"protocol": get_protocol(name), "scale": 4}
            values.append((PSNR()(sr, gt, **options), SSIM()(sr, gt, **options)))
    for name, values in found.items():
        psnr, ssim = np.mean(values, axis=0)
        assert psnr == pytest.approx(expected[name][0], abs=0.005), name
        assert ssim == pytest.approx(expected[name][1], abs=0.00005), name
    usual, table = (np.mean(found[name], axis=0)[0] for name in ("jilin189", "jilin189-table"))
    assert usual - table == pytest.approx(20 * math.log10(255 / 235), abs=1e-9)


def test_regression():
    """A drawn picture, shrunk and enlarged: values that must not move."""
    y, x = np.mgrid[:48, :60] / 60
    waves = np.stack([np.sin(9 * x + k) * np.cos(13 * y * (1 + k * x)) for k in range(3)], -1)
    gt = np.floor(127.5 * (1 + waves)).astype(np.uint8)
    sr = imresize(imresize(gt, 1 / 4, edge="replicate", round_between_passes=True), 4)
    for name, psnr, ssim in (
        ("basicsr-y", 37.05697, 0.9920110),
        ("matlab-y", 36.99009, 0.9914657),
        ("rgb", 26.10635, 0.9722551),
    ):
        options = {"protocol": get_protocol(name), "scale": 4}
        assert PSNR()(_tensor(sr), _tensor(gt), **options) == pytest.approx(psnr, abs=1e-4)
        assert SSIM()(_tensor(sr), _tensor(gt), **options) == pytest.approx(ssim, abs=1e-6)


def test_arithmetic():
    gt = torch.zeros(3, 8, 8)
    sr = torch.stack([torch.full((8, 8), level / 255) for level in (1.0, 2.0, 4.0)])
    joint = PSNR()(sr, gt, protocol=Protocol("t"), scale=2)
    mean = PSNR()(sr, gt, protocol=Protocol("t", psnr_channels="mean"), scale=2)
    peak = PSNR()(sr, gt, protocol=Protocol("t", peak=100), scale=2)
    assert joint == pytest.approx(10 * math.log10(255**2 / 7))
    assert mean == pytest.approx(10 * math.log10(255**2 / 4))
    assert joint - peak == pytest.approx(20 * math.log10(2.55))


def test_identical_and_broken_images():
    image = torch.rand(3, 8, 8)
    assert PSNR()(image, image, protocol=Protocol("t"), scale=2) == math.inf
    assert PSNR()(image, image, protocol=get_protocol("basicsr-y"), scale=2) == math.inf
    assert math.isnan(PSNR()(image * math.nan, image, protocol=Protocol("t"), scale=2))


def test_shapes_that_differ_are_named():
    with pytest.raises(UserError, match=r"\(3, 8, 8\).*\(3, 9, 8\)"):
        PSNR()(torch.rand(3, 8, 8), torch.rand(3, 9, 8), protocol=Protocol("t"), scale=2)


@pytest.mark.parametrize("psnr_channels", ["joint", "mean"])
def test_bands_and_masks_by_arithmetic(psnr_channels):
    rng = np.random.default_rng(0)
    sr, gt = rng.random((2, 7, 11, 12)).astype(np.float32)
    mask = rng.random((1, 11, 12)) > 0.4
    protocol = Protocol("t", color="bands", round_8bit=False, psnr_channels=psnr_channels)
    error = (sr.astype(np.float64) - gt) ** 2
    for valid in (mask, np.ones_like(mask)):
        if psnr_channels == "joint":
            expected = -10 * np.log10(error[:, valid[0]].mean())
        else:
            expected = np.mean([-10 * np.log10(band[valid[0]].mean()) for band in error])
        images = torch.from_numpy(sr), torch.from_numpy(gt)
        value = PSNR()(*images, protocol=protocol, scale=2, mask=torch.from_numpy(valid))
        assert value == pytest.approx(expected, rel=1e-9)
