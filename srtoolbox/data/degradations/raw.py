"""RAW bursts from one sRGB image: the SyntheticBurst pipeline, and its camera model.

An sRGB image is converted back to the values that a sensor would have measured (Brooks et al.,
"Unprocessing Images for Learned Raw Denoising", CVPR 2019); the linear image is the ground truth.
Its moved, reduced, mosaicked and noisy views are the burst (Bhat et al., "Deep Burst
Super-Resolution", CVPR 2021; NTIRE 2021 burst challenge).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from srtoolbox.data.degradations.noise import draw_noise, draw_shot_read, normal_noise
from srtoolbox.data.degradations.rgb import (
    Reduction,
    Synthesis,
    check_options,
    crop_centre,
    draw_motion,
    motion_reach,
    reduce,
    reduction_reach,
    to_levels,
    warp,
)
from srtoolbox.errors import UserError

# XYZ to camera RGB of the four cameras of the Darmstadt noise dataset, as used by Brooks et al.
XYZ_TO_CAMERA = np.array(
    [
        [[1.0234, -0.2969, -0.2266], [-0.5625, 1.6328, -0.0469], [-0.0703, 0.2188, 0.6406]],
        [[0.4913, -0.0541, -0.0202], [-0.6130, 1.3513, 0.2906], [-0.1564, 0.2151, 0.7183]],
        [[0.8380, -0.2630, -0.0639], [-0.2887, 1.0725, 0.2496], [-0.0627, 0.1427, 0.5438]],
        [[0.6596, -0.2079, -0.0562], [-0.4782, 1.3016, 0.1933], [-0.0970, 0.1581, 0.5181]],
    ]
)
# Linear sRGB (D65) to XYZ, IEC 61966-2-1.
RGB_TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
_MIN_LIGHT = 1e-8  # below it, a power has no usable gradient or inverse
_HIGHLIGHT = 0.9  # brighter greys were clipped, so the inverse gains do not darken them


@dataclass(frozen=True)
class RawPipeline:
    """Packed RGGB bursts in linear sensor values, as in SyntheticBurst.

    As in SyntheticBurst, the reference frame is shifted so that its mosaic pixel i is at HR pixel
    ``scale / 2 · i``, not at the centre of the pixels that it covers, and moved frames are sampled
    bilinearly. Unlike in SyntheticBurst, frames never show black pixels beyond a crop, because the
    margin is wide enough.

    Args:
        scale: Ground-truth size divided by packed frame size, even: 8 is a reduction by 4, times 2
            for packing.
        num_frame: Frames in a burst, T.
        max_shift: Maximum shift along each axis, in HR pixels.
        max_rotation: Maximum rotation, in degrees.
        reduction: As for RGB; ``"dbsr"`` is SyntheticBurst's.
        shot_noise: Range of the shot noise; the read noise depends on it (see ``draw_shot_read``).
        truncate: Move and reduce 8-bit linear images as SyntheticBurst does, which truncates them
            to whole levels first; False keeps them exact.

    Raises:
        UserError: names the invalid option.
    """

    scale: int = 8
    num_frame: int = 14
    max_shift: float = 24.0
    max_rotation: float = 1.0
    reduction: Reduction = "dbsr"
    shot_noise: tuple[float, float] = (1e-4, 0.012)
    truncate: bool = True

    def __post_init__(self) -> None:
        if self.scale % 2:
            raise UserError(f"scale of packed RAW must be even, got {self.scale}; 8 is usual")
        check_options(vars(self), "shot_noise")

    def margin(self, side: int) -> int:
        """Returns the margin needed at each edge of a ground truth, in HR pixels.

        Args:
            side: Longer side of the ground truth, in HR pixels.
        """
        shift = max(self.max_shift, self._reference_shift)
        reach = motion_reach(side, shift, self.max_rotation)
        return reach + reduction_reach(self.reduction, self.scale // 2) + 1

    def draw(self, rng: np.random.Generator) -> Synthesis:
        """Draws the random choices of one burst.

        Returns:
            ``camera`` (3, 3) from linear sRGB to the camera's colours, ``gains`` (3,) of red, green
            and blue, ``noise`` (2,) = (shot, read), ``motion`` (T, 2, 3), float32; ``noise_seed``,
            int64.
        """
        camera, gains = draw_camera(rng)
        noise = draw_shot_read(self.shot_noise, rng)
        seed = draw_noise(rng)
        motion = draw_motion(self.num_frame, self.max_shift, self.max_rotation, rng)
        motion[0, :, 2] = -self._reference_shift
        return {
            "camera": camera.astype(np.float32),
            "gains": gains.astype(np.float32),
            "noise": noise.astype(np.float32),
            "noise_seed": seed,
            "motion": motion,
        }

    def apply(
        self, hr: Tensor, synthesis: dict[str, Tensor], size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """Makes a batch of bursts.

        Args:
            hr: (N, 3, H, W) uint8, uint16, or float in [0, 1], sRGB, with ``margin(max(size))``
                pixels around the ground truth.
            synthesis: The arrays of ``draw``, stacked, on the device of ``hr``.
            size: Height and width of the ground truth, multiples of ``scale``.

        Returns:
            ``lq`` (N, T, 4, h, w), packed as R, G beside R, G beside B, B, and ``gt``
            (N, 3, H', W'): linear sensor values, float32 in [0, 1].
        """
        linear = unprocess(to_levels(hr) / 255, synthesis["camera"], synthesis["gains"])
        levels = linear * 255
        factor = self.scale // 2
        reach = reduction_reach(self.reduction, factor)
        view = size[0] + 2 * reach, size[1] + 2 * reach
        frames = []
        for motion in synthesis["motion"].split(1, 1):  # one frame at a time: HR frames are large
            if self.truncate:  # rounds ties as OpenCV's warpAffine and resize do
                moved = warp(levels.floor(), motion, view, "bilinear").round()
                frame = (reduce(moved, self.reduction, factor) + 0.5).floor()
            else:
                moved = warp(levels, motion, view, "bilinear")
                frame = reduce(moved, self.reduction, factor)
            frames.append(frame.clamp(0, 255))
        frames = torch.cat(frames, 1)
        raw = mosaic(frames / 255)
        shot, read = synthesis["noise"][:, :, None, None, None, None].unbind(1)
        noise = normal_noise(synthesis["noise_seed"], raw.shape)
        raw = raw + (shot * raw + read).sqrt() * noise
        return {"lq": raw.clamp(0, 1), "gt": crop_centre(linear, size)}

    @property
    def _reference_shift(self) -> float:
        """Shift of the reference frame along both axes, in HR pixels (see the class)."""
        return self.scale / 4 - 0.5


def draw_camera(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draws a camera: a matrix (3, 3) from linear sRGB to its colours, and gains of R, G and B.

    The matrix is a random mixture of the matrices of four cameras, with rows normalised so that
    white stays white. The gains are the white balance (red 1.9 to 2.4, blue 1.5 to 1.9) divided by
    a brightness factor N(0.8, 0.1).
    """
    weights = rng.uniform(size=4)
    camera = np.tensordot(weights / weights.sum(), XYZ_TO_CAMERA, 1) @ RGB_TO_XYZ
    camera /= camera.sum(axis=1, keepdims=True)
    brightness = 1 / rng.normal(0.8, 0.1)
    red, blue = rng.uniform(1.9, 2.4), rng.uniform(1.5, 1.9)
    return camera, brightness * np.array([red, 1.0, blue])


def unprocess(srgb: Tensor, camera: Tensor, gains: Tensor) -> Tensor:
    """Converts sRGB images to linear sensor values.

    Args:
        srgb: (N, 3, H, W) in [0, 1].
        camera: (N, 3, 3) from linear sRGB to the camera's colours.
        gains: (N, 3) of red, green and blue.

    Returns:
        (N, 3, H, W) in [0, 1].
    """
    toned = 0.5 - torch.sin(torch.asin(1 - 2 * srgb) / 3)
    colours = _mix(toned.clamp(min=_MIN_LIGHT) ** 2.2, camera)
    grey = colours.mean(1, keepdim=True)
    bright = ((grey - _HIGHLIGHT).clamp(min=0) / (1 - _HIGHLIGHT)) ** 2
    inverse = 1 / gains[..., None, None]
    inverse = torch.maximum(bright + (1 - bright) * inverse, inverse)
    return (colours * inverse).clamp(0, 1)


def mosaic(image: Tensor) -> Tensor:
    """Samples (…, 3, H, W) by an RGGB sensor; packed as (…, 4, H / 2, W / 2) = R, G, G, B."""
    sites = ((0, 0, 0), (1, 0, 1), (1, 1, 0), (2, 1, 1))
    return torch.stack([image[..., c, y::2, x::2] for c, y, x in sites], -3)


def _mix(image: Tensor, matrix: Tensor) -> Tensor:
    """Multiplies each pixel of (N, 3, H, W) by (N, 3, 3), never in TF32."""
    return (matrix[..., None, None] * image[:, None]).sum(2)
