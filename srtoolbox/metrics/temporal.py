"""Metrics of motion in clips: frames that look good one by one may still flicker.

Optical flow is DIS of OpenCV (T. Kroeger, R. Timofte, D. Dai, L. Van Gool, "Fast optical flow using
dense inverse search", ECCV 2016, preset "medium") between 8-bit grey frames, cropped by the
protocol. Under protocols of bands grey is the mean of all bands. The papers use other estimators,
so values cannot be compared with those in the papers.

With masks, a pixel counts if it is valid in both frames. Before optical flow is estimated, masked
pixels of a result get the values of the ground truth.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from torch import Tensor

from srtoolbox.errors import UserError
from srtoolbox.metrics.base import ClipMetric
from srtoolbox.metrics.protocol import Protocol
from srtoolbox.metrics.psnr import psnr_of
from srtoolbox.metrics.windows import valid_pixels
from srtoolbox.registry import METRIC_REGISTRY

_MIN_SIZE = 16  # pixels per side; OpenCV needs at least 12
_Frame = tuple[Tensor, Tensor]
_Masks = tuple[Tensor, Tensor]


@METRIC_REGISTRY.register()
class TemporalPSNR(ClipMetric):
    """PSNR of temporal differences: sr_t - sr_(t-1) compared with gt_t - gt_(t-1).

    From below 0 dB to infinity (the error does not change from frame to frame); higher is better;
    in dB, with the protocol's colours and peak.
    """

    higher_is_better = True
    unit = "dB"
    digits = 2
    paper = "PSNR of temporal differences of the values that the protocol defines"
    takes_mask = True

    def score(
        self,
        previous: _Frame,
        current: _Frame,
        protocol: Protocol,
        scale: int,
        mask: _Masks | None = None,
    ) -> float:
        before, after = (
            protocol.prepare(sr, scale) - protocol.prepare(gt, scale)
            for sr, gt in (previous, current)
        )
        error = valid_pixels((after - before).square(), mask and mask[0] & mask[1])
        if not error.numel():
            raise self._nothing_left("pixel of two neighbouring frames")
        return psnr_of(error.mean().item(), protocol.peak)


@METRIC_REGISTRY.register()
class TOF(ClipMetric):
    """Difference between the motion of result and ground truth: mean of |flow(sr) - flow(gt)|.

    From 0 (identical clips) to infinity; lower is better; in pixels. M. Chu, Y. Xie,
    J. Mayer, L. Leal-Taixé, N. Thuerey, "Learning temporal coherence via self-supervision for
    GAN-based video generation", TOG 2020 (there with Farnebäck's flow).
    """

    higher_is_better = False
    unit = "px"
    digits = 4
    paper = "Chu et al., TOG 2020, with DIS flow"
    takes_mask = True

    def min_size(self, protocol: Protocol) -> int:
        return _MIN_SIZE

    def score(
        self,
        previous: _Frame,
        current: _Frame,
        protocol: Protocol,
        scale: int,
        mask: _Masks | None = None,
    ) -> float:
        greys = [_greys(frame, protocol, scale) for frame in (previous, current)]
        valid = None
        if mask is not None:
            masks = [_array(frame) for frame in mask]
            greys = [(np.where(m, sr, gt), gt) for (sr, gt), m in zip(greys, masks, strict=True)]
            valid = masks[0] & masks[1]
        sr, gt = (_flow(before, after) for before, after in zip(*greys, strict=True))
        length = np.linalg.norm(sr - gt, axis=-1)
        if valid is not None and not (length := length[valid]).size:
            raise self._nothing_left("pixel of two neighbouring frames")
        return length.mean(dtype=np.float64).item()


@METRIC_REGISTRY.register()
class WarpingError(ClipMetric):
    """Mean squared difference between a result and the previous one, warped by the true flow.

    From 0 to 1, of RGB values (protocols of bands: all bands) in [0, 1]; lower is better; no unit.
    Pixels that were beyond the border or occluded are left out: those where forward flow f and
    backward flow b disagree, |f + b|² > 0.01 (|f|² + |b|²) + 0.5. The ground truth itself does not
    have 0, and a blurred clip may have less than it. W.-S. Lai, J.-B. Huang, O. Wang,
    E. Shechtman, E. Yumer, M.-H. Yang, "Learning blind video temporal consistency", ECCV 2018
    (there with FlowNet2).
    """

    higher_is_better = False
    digits = 5
    paper = "Lai et al., ECCV 2018, with DIS flow"
    takes_mask = True

    def min_size(self, protocol: Protocol) -> int:
        return _MIN_SIZE

    def score(
        self,
        previous: _Frame,
        current: _Frame,
        protocol: Protocol,
        scale: int,
        mask: _Masks | None = None,
    ) -> float:
        before, after = (_grey(gt, protocol, scale) for _, gt in (previous, current))
        back = _flow(after, before)  # from the current frame to the previous one
        forward, inside = _warp(_flow(before, after), back)
        lengths = (back**2).sum(-1) + (forward**2).sum(-1)
        seen = inside & (((forward + back) ** 2).sum(-1) <= 0.01 * lengths + 0.5)
        if not seen.any():
            raise UserError(
                "WarpingError: no pixel of a frame is visible in the previous frame; are these "
                "frames neighbours?"
            )
        if mask is not None:
            masked, _ = _warp((~_array(mask[0])).astype(np.float32), back)
            seen &= _array(mask[1]) & (masked == 0)  # no masked pixel has a weight
            if not seen.any():
                raise self._nothing_left("pixel that is visible in two neighbouring frames")
        old, new = (
            protocol.prepare_spectrum(sr, scale).permute(1, 2, 0).cpu().numpy().astype(np.float32)
            / 255
            for sr, _ in (previous, current)
        )
        return ((new - _warp_bands(old, back)) ** 2)[seen].mean(dtype=np.float64).item()


def _array(mask: Tensor) -> np.ndarray:
    """Returns a mask (1, h, w) as an array (h, w)."""
    return mask[0].cpu().numpy()


def _greys(frame: _Frame, protocol: Protocol, scale: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns result and ground truth of a frame as grey values."""
    sr, gt = frame
    return _grey(sr, protocol, scale), _grey(gt, protocol, scale)


def _grey(image: Tensor, protocol: Protocol, scale: int) -> np.ndarray:
    """Returns an image (C, H, W) as grey values (H, W) uint8."""
    cropped = protocol.prepare_spectrum(image, scale)
    protocol.check_size("optical flow", _MIN_SIZE, cropped, image)
    if protocol.color == "bands":
        return cropped.mean(0).round().byte().cpu().numpy()
    rgb = cropped.round().byte().permute(1, 2, 0).cpu().numpy()
    return cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY)


@cache
def _estimator() -> cv2.DISOpticalFlow:
    return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)


def _flow(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Returns the motion in pixels from ``source`` to ``target``, x then y: (H, W, 2) float32."""
    # A given flow would be the initial estimate. The type stubs do not know that None is allowed.
    return _estimator().calc(source, target, None)  # pyright: ignore[reportCallIssue, reportArgumentType]


def _warp(image: np.ndarray, flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Samples (H, W, C) or (H, W) bilinearly at ``flow``; also returns where that is inside."""
    height, width = flow.shape[:2]
    x = np.arange(width, dtype=np.float32) + flow[..., 0]
    y = np.arange(height, dtype=np.float32)[:, None] + flow[..., 1]
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    return cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), inside


def _warp_bands(image: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Samples an image (H, W, C) bilinearly at ``flow``.

    OpenCV drops the axis of a single channel, and its result is less exact for other numbers than
    one and three.
    """
    if image.shape[2] == 3:
        return _warp(image, flow)[0]
    bands = (np.ascontiguousarray(band) for band in np.moveaxis(image, 2, 0))
    return np.stack([_warp(band, flow)[0] for band in bands], -1)
