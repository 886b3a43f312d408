"""Flips and rotations of packed RAW that keep the Bayer pattern.

A mirrored RGGB mosaic starts with green. If one column of sensor pixels is removed, it starts with
red again, and every channel of the packed image still has its own colour (Liu et al., "Learning Raw
Image Denoising with Bayer Pattern Unification and Bayer Preserving Augmentation", CVPRW 2019).
"""

from __future__ import annotations

import numpy as np

from srtoolbox.data.transforms.orientation import orient_array


def orient_bayer(
    lq: np.ndarray, gt: np.ndarray, code: int, scale: int
) -> tuple[np.ndarray, np.ndarray]:
    """Brings a RAW burst and its ground truth into an orientation; both lose one packed pixel.

    The centres of the two images must be aligned; they are also aligned afterwards.

    Args:
        lq: (T, 4, h, w), packed as R, G next to R, G next to B, B.
        gt: (C, scale · h, scale · w).
        code: Orientation, 0 to 7; 0 only crops, so that all results have the same size.
        scale: Size of the ground truth divided by that of a packed frame, even.

    Returns:
        lq (T, 4, h - 1, w - 1) and gt (C, scale · (h - 1), scale · (w - 1)); height and width are
        exchanged after an odd number of quarter turns.
    """
    plane, truth = orient_array(unpack(lq), code), orient_array(gt, code)
    height, width = plane.shape[-2] - 2, plane.shape[-1] - 2
    (y, x), *_ = np.argwhere(orient_array(np.array([[1, 0], [0, 0]]), code))  # where red is now
    fine = scale // 2  # ground-truth pixels per sensor pixel
    truth = truth[..., y * fine : (y + height) * fine, x * fine : (x + width) * fine]
    packed = pack(plane[..., y : y + height, x : x + width])
    return np.ascontiguousarray(packed), np.ascontiguousarray(truth)


def unpack(packed: np.ndarray) -> np.ndarray:
    """Returns the mosaic (…, 2h, 2w) of a packed image (…, 4, h, w)."""
    *lead, _, height, width = packed.shape
    cells = packed.reshape(*lead, 2, 2, height, width)
    return np.moveaxis(cells, (-4, -3), (-3, -1)).reshape(*lead, 2 * height, 2 * width)


def pack(mosaic: np.ndarray) -> np.ndarray:
    """Returns the packed image (…, 4, h, w) of a mosaic (…, 2h, 2w)."""
    return np.stack([mosaic[..., y::2, x::2] for y in (0, 1) for x in (0, 1)], -3)
