"""Metrics of motion on clips whose motion is known, and against scikit-image."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from srtoolbox.errors import UserError
from srtoolbox.metrics import TOF, Protocol, TemporalPSNR, WarpingError, get_protocol
from srtoolbox.metrics import temporal as module

_PLAIN = Protocol("t")


def _texture() -> np.ndarray:
    noise = np.random.default_rng(0).random((160, 200, 3), dtype=np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.5)
    return (smooth - smooth.min()) / (smooth.max() - smooth.min())


def _moving(step: float, num_frame: int = 3) -> Tensor:
    """(T, 3, 120, 160): a texture that moves right by ``step`` pixels a frame."""
    texture, frames = _texture(), []
    for t in range(num_frame):
        shift = np.float32([[1, 0, step * t - 20], [0, 1, -20]])
        frames.append(cv2.warpAffine(texture, shift, (160, 120), flags=cv2.INTER_CUBIC))
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).clamp(0, 1)


@pytest.mark.parametrize("metric", [TOF(), WarpingError(), TemporalPSNR()])
def test_worse_with_every_flicker(metric):
    gt = _moving(2)
    noise = torch.randn(gt.shape, generator=torch.Generator().manual_seed(0))
    best, little, much = (
        metric(gt + amount * noise, gt, protocol=_PLAIN, scale=4) for amount in (0, 0.02, 0.1)
    )
    if metric.higher_is_better:
        assert best == math.inf > little > much
    else:
        assert 0 <= best < little < much
    assert TOF()(gt, gt, protocol=_PLAIN, scale=4) == 0


def test_tof_is_the_difference_of_the_motions():
    ours = TOF()(_moving(3.5), _moving(2), protocol=Protocol("t", crop_border=16), scale=4)
    assert ours == pytest.approx(1.5, abs=0.05)


def test_warping_error_is_small_where_the_result_moves_with_the_truth():
    gt = _moving(2)
    moves, stands = (
        WarpingError()(sr, gt, protocol=_PLAIN, scale=4) for sr in (1 - gt, gt[:1].expand_as(gt))
    )
    assert moves < 1e-4
    assert stands > 1e-3


def test_warping_error_with_scikit_images_warp():
    transform = pytest.importorskip("skimage.transform")
    sr, gt = _moving(2.3, 2), _moving(2, 2)
    grey = [cv2.cvtColor(_bytes(frame), cv2.COLOR_RGB2GRAY) for frame in gt]
    estimator = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    back, forward = (estimator.calc(a, b, None) for a, b in (grey[::-1], grey))
    rows, columns = np.mgrid[:120, :160].astype(float)
    place = np.stack([rows + back[..., 1], columns + back[..., 0]])
    first = _bytes(sr[0]) / 255
    old = [transform.warp(first[..., i], place, order=1, mode="edge") for i in range(3)]
    there = np.stack([transform.warp(forward[..., i], place, order=1, mode="edge") for i in (0, 1)])
    here = back.transpose(2, 0, 1)
    seen = ((here + there) ** 2).sum(0) <= 0.01 * ((here**2).sum(0) + (there**2).sum(0)) + 0.5
    seen &= (place[0] >= 0) & (place[0] <= 119) & (place[1] >= 0) & (place[1] <= 159)
    expected = ((np.stack(old, -1) - _bytes(sr[1]) / 255) ** 2)[seen].mean()
    ours = WarpingError()(sr, gt, protocol=_PLAIN, scale=4)
    assert ours == pytest.approx(expected, rel=0.01)  # OpenCV looks up in steps of 1/32 pixel
    assert 0.5 < seen.mean() < 1


def _bytes(image: Tensor) -> np.ndarray:
    return np.ascontiguousarray((image * 255).round().byte().permute(1, 2, 0).numpy())


@pytest.mark.parametrize("name", ["rgb", "duf-y", "jilin189-table"])
def test_temporal_psnr_with_scikit_image(name):
    metrics = pytest.importorskip("skimage.metrics")
    protocol, sr, gt = get_protocol(name), _moving(2.2), _moving(2)
    changes = (
        np.diff(np.stack([protocol.prepare(frame, 4) for frame in clip]), axis=0)
        for clip in (gt, sr)
    )
    expected = [
        metrics.peak_signal_noise_ratio(*pair, data_range=protocol.peak)
        for pair in zip(*changes, strict=True)
    ]
    ours = TemporalPSNR()(sr, gt, protocol=protocol, scale=4)
    assert ours == pytest.approx(np.mean(expected), rel=1e-12)


def test_a_constant_error_does_not_flicker():
    gt = _moving(2) * 0.5
    gt = (gt * 255).round() / 255
    protocol = Protocol("t", round_8bit=False)
    assert TemporalPSNR()(gt + 10 / 255, gt, protocol=protocol, scale=4) > 120


def test_grey_clips():
    gt = _moving(2)[:, :1]
    for metric in (TOF(), WarpingError(), TemporalPSNR()):
        value = metric(gt.expand(-1, 3, -1, -1), gt, protocol=_PLAIN, scale=4)
        assert value == metric(gt, gt, protocol=_PLAIN, scale=4)


@pytest.mark.parametrize("metric", [TOF(), WarpingError()])
def test_frames_too_small_are_named(metric):
    clip = torch.rand(2, 3, 30, 40)
    with pytest.raises(UserError, match=r"16×16 pixels.*'duf-y' leaves 14×24.*30×40"):
        metric(clip, clip, protocol=get_protocol("duf-y"), scale=4)


def test_frames_without_anything_in_common(monkeypatch):
    monkeypatch.setattr(module, "_flow", lambda a, b: np.full((*a.shape, 2), 99, np.float32))
    clip = torch.rand(2, 3, 30, 40)
    with pytest.raises(UserError, match="WarpingError: no pixel"):
        WarpingError()(clip, clip, protocol=_PLAIN, scale=4)


@pytest.mark.parametrize("metric", [TOF(), WarpingError(), TemporalPSNR()])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_clips_of_bands(metric, channels):
    gt = _moving(2)[:, :1].expand(-1, channels, -1, -1)
    noise = 0.05 * torch.randn(gt[:, :1].shape, generator=torch.Generator().manual_seed(0))
    options = {"protocol": Protocol("t", color="bands", grey="direct"), "scale": 4}
    value = metric(gt + noise, gt, **options)
    assert value == pytest.approx(metric((gt + noise)[:, :1], gt[:, :1], **options), rel=1e-9)


def test_a_masked_flicker_does_not_count():
    gt = _moving(2)
    sr, mask = gt.clone(), torch.ones(len(gt), 1, *gt.shape[2:], dtype=torch.bool)
    sr[1, :, 40:80, 50:90] = 0
    mask[1, :, 40:80, 50:90] = False
    assert TemporalPSNR()(sr, gt, protocol=_PLAIN, scale=4, mask=mask) == math.inf
    assert TOF()(sr, gt, protocol=_PLAIN, scale=4, mask=mask) == 0
    metric, options = WarpingError(), {"protocol": _PLAIN, "scale": 4}
    assert metric(sr, gt, mask=mask, **options) == metric(gt, gt, mask=mask, **options)
    assert metric(sr, gt, **options) > 10 * metric(gt, gt, **options)
