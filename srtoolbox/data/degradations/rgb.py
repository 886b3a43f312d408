"""Bursts from one sharp image of any bands: motion, blur, reduction and noise, on any device.

A pipeline has two steps. ``draw(rng)`` draws every random choice from a numpy Generator and returns
small arrays; ``apply(hr, synthesis, size)`` makes the burst from the pixels and those arrays, and
draws nothing. The choices can therefore be drawn in a worker and the pixels computed on a GPU. The
result for a sample does not depend on the other samples of its batch, and a burst of five frames
equals the first five frames of the burst of fourteen. Devices differ by the rounding of float32.

Frame 0 is the reference and is not moved. ``synthesis["motion"]`` (T, 2, 3) holds for each frame
the matrix that maps a position (x right, y down, 1) in the frame to its position in the reference,
both in HR pixels from the centre of the ground truth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from srtoolbox.data.degradations.jpeg import compress
from srtoolbox.data.degradations.noise import draw_noise, draw_shot_read, normal_noise
from srtoolbox.data.degradations.objects import draw_objects, put_drawn_objects, stored
from srtoolbox.data.stream import to_float
from srtoolbox.errors import UserError

Reduction = Literal["box", "bicubic-aa", "dbsr"]
Noise = Literal["gaussian", "shot_read"]
Synthesis = dict[str, np.ndarray]

_SLOW_BURSTS = 0x534C4F57  # separates the random numbers of ``_slow`` from all others


@dataclass(frozen=True)
class RgbPipeline:
    """RGB bursts, or bursts of other bands: Euclidean motion, Gaussian blur, reduction and noise.

    All bands move alike and are reduced alike; each has its own noise. Three bands are sRGB colours
    of 8 bits, unless stated otherwise.

    Moved frames are sampled bicubically with a = -0.75, the kernel of torch and OpenCV. Its
    positions have errors of up to 0.05 HR pixels, a quarter of the error of the best burst
    registration. The blur is applied once, before the motion, instead of to every frame: an
    isotropic blur and a Euclidean motion can be exchanged.

    Args:
        scale: Size of the image divided by the size of a frame.
        num_frame: Frames in a burst, T.
        max_shift: Maximum shift along each axis, in HR pixels; 6 is usual, 24 hard.
        max_rotation: Maximum rotation, in degrees.
        blur_sigma: Range of the standard deviation of the blur, in HR pixels.
        reduction: ``"box"`` averages ``scale`` × ``scale`` pixels as a sensor does,
            ``"bicubic-aa"`` is MATLAB's bicubic, ``"dbsr"`` averages the two middle pixels.
        noise: ``"gaussian"`` with one standard deviation, or ``"shot_read"`` of variance
            ``shot · intensity + read``, added to linear light: three bands are converted from sRGB
            and back, all other numbers of bands are linear.
        noise_sigma: Range of the standard deviation of Gaussian noise, in 8-bit levels.
        shot_noise: Range of ``shot``; ``read`` depends on it (see ``draw_shot_read``).
        num_object: Objects in a burst that move independently, in addition to the scene's motion.
        object_shift: Maximum shift of an object relative to the scene along each axis, in HR
            pixels. Each frame has its own shift; the reference has none.
        channels: Number of bands, C.
        bit_depth: Bits to which frames are rounded: 8 gives uint8, more bits give float32.
        band_shift: Maximum shift of every other band relative to the first along each axis, in HR
            pixels: a camera whose bands are not registered. It is the same in all frames; the
            ground truth has none.
        still: Fraction of bursts whose frames do not move.
        same_noise: Fraction of those whose frames also have the same noise, so that all are equal.
        vary_shift: Draw for every burst how much of ``max_shift`` and ``max_rotation`` it uses,
            from 0 to 1.
        jpeg_quality: Range of the quality, from 1 to 100, with which the frames of a burst are
            compressed by JPEG; null: not compressed.

    Raises:
        UserError: names the invalid option.
    """

    scale: int = 4
    num_frame: int = 14
    max_shift: float = 6.0
    max_rotation: float = 1.0
    blur_sigma: tuple[float, float] = (0.0, 1.2)
    reduction: Reduction = "box"
    noise: Noise = "gaussian"
    noise_sigma: tuple[float, float] = (1.0, 5.0)
    shot_noise: tuple[float, float] = (1e-4, 0.012)
    num_object: int = 0
    object_shift: float = 0.0
    channels: int = 3
    bit_depth: int = 8
    band_shift: float = 0.0
    still: float = 0.0
    same_noise: float = 0.0
    vary_shift: bool = False
    jpeg_quality: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        check_options(vars(self), "blur_sigma", "noise_sigma", "shot_noise")
        if not 8 <= self.bit_depth <= 16:
            raise UserError(f"bit_depth must be from 8 to 16, got {self.bit_depth}")
        for name in ("still", "same_noise"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} must be from 0 to 1, got {getattr(self, name)}")
        if self.same_noise and not self.still:
            raise UserError("same_noise is a fraction of the bursts without motion; set still, too")
        if self.jpeg_quality:
            low, high = self.jpeg_quality
            if not 1 <= low <= high <= 100:
                raise UserError(
                    f"jpeg_quality must be (low, high) with 1 ≤ low ≤ high ≤ 100, got {low, high}"
                )
            if self.bit_depth != 8:
                raise UserError("jpeg_quality compresses frames of 8 bits; remove bit_depth")

    def margin(self, side: int) -> int:
        """Returns the margin needed at each edge of a ground truth, in HR pixels.

        Args:
            side: Longer side of the ground truth, in HR pixels.
        """
        reach = reduction_reach(self.reduction, self.scale) + self._blur_radius
        shift = self.max_shift + math.sqrt(2) * self.band_shift  # it turns with the frame
        return motion_reach(side, shift, self.max_rotation) + reach + 2

    def draw(self, rng: np.random.Generator) -> Synthesis:
        """Draws the random choices of one burst.

        Returns:
            ``motion`` (T, 2, 3), ``blur_sigma``, ``noise`` (2,) = (factor of the intensity,
            constant) of the variance, float32; ``noise_seed``, int64. With objects also the arrays
            of ``draw_objects``, and with ``band_shift`` the array of that name (C, 2), x and y in
            pixels; neither changes the other arrays. With ``still`` or ``vary_shift`` also
            ``same_noise``, whether all frames have the noise of the first. With ``jpeg_quality``
            the array of that name, int64.
        """
        blur = rng.uniform(*self.blur_sigma)
        sigma = rng.uniform(*self.noise_sigma) / 255
        noise = draw_shot_read(self.shot_noise, rng)
        if self.noise == "gaussian":
            noise = np.array([0.0, sigma**2])
        seed = draw_noise(rng)
        choices = {
            "blur_sigma": np.asarray(blur, dtype=np.float32),
            "noise": noise.astype(np.float32),
            "noise_seed": seed,
            "motion": draw_motion(self.num_frame, self.max_shift, self.max_rotation, rng),
        }
        if self.still or self.vary_shift:
            choices |= self._slow(choices["motion"], int(seed))
        if self.num_object:
            choices |= draw_objects(self.num_object, self.num_frame, self.object_shift, int(seed))
        if self.band_shift:
            shift = rng.uniform(-self.band_shift, self.band_shift, (self.channels, 2))
            shift[0] = 0
            choices["band_shift"] = shift.astype(np.float32)
        if self.jpeg_quality:
            choices["jpeg_quality"] = np.asarray(rng.integers(*self.jpeg_quality, endpoint=True))
        return choices

    def _slow(self, motion: np.ndarray, seed: int) -> Synthesis:
        """Returns the reduced ``motion`` of a burst, and whether its frames have the same noise.

        Its own random numbers leave all other choices alone.
        """
        rng = np.random.default_rng(np.random.SeedSequence([_SLOW_BURSTS, seed]))
        for_still, for_noise, share = rng.random(3)
        is_still = for_still < self.still
        if is_still or not self.vary_shift:
            share = 0.0 if is_still else 1.0
        angle = share * np.arctan2(motion[:, 1, 0], motion[:, 0, 0])
        turn = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], -1)
        slow = np.concatenate([turn.reshape(-1, 2, 2), share * motion[:, :, 2:]], 2)
        same = is_still and for_noise < self.same_noise
        return {"motion": slow.astype(np.float32), "same_noise": np.asarray(same)}

    def apply(
        self, hr: Tensor, synthesis: dict[str, Tensor], size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """Makes a batch of bursts.

        Args:
            hr: (N, C, H, W) uint8, uint16, or float in [0, 1], with ``margin(max(size))`` pixels
                around the ground truth.
            synthesis: The arrays of ``draw``, stacked, on the device of ``hr``.
            size: Height and width of the ground truth, multiples of ``scale``.

        Returns:
            ``lq`` (N, T, C, h, w) uint8, or float32 in [0, 1] with more than 8 bits, and ``gt``
            (N, C, H', W') of the dtype of ``hr``.
        """
        scene = to_levels(hr)
        if self.num_object:
            hr = stored(put_drawn_objects(scene, synthesis, 0, size), hr.dtype)
        image = self._blur(to_levels(hr), synthesis)
        reach = reduction_reach(self.reduction, self.scale)
        view = size[0] + 2 * reach, size[1] + 2 * reach
        shift = synthesis.get("band_shift")
        frames = [reduce(self._view(image, None, shift, view), self.reduction, self.scale)]
        motions = synthesis["motion"][:, 1:].split(1, 1)
        for t, motion in enumerate(motions, 1):  # one frame at a time: HR frames are large
            if self.num_object:
                image = self._blur(put_drawn_objects(scene, synthesis, t, size), synthesis)
            moved = self._view(image, motion, shift, view)
            frames.append(reduce(moved, self.reduction, self.scale))
        frames = torch.cat(frames, 1)
        noise = normal_noise(synthesis["noise_seed"], frames.shape)
        if "same_noise" in synthesis:
            same = synthesis["same_noise"][:, None, None, None, None]
            noise = torch.where(same, noise[:, :1], noise)
            if not self.num_object:  # a warp without motion changes the last bits
                frames = torch.where(same, frames[:, :1], frames)
        shot, read = synthesis["noise"][:, :, None, None, None, None].unbind(1)
        if self.noise == "shot_read":
            light = (frames / 255).clamp(0, 1)
            light = srgb_to_linear(light) if self.channels == 3 else light
            light = (light + (shot * light + read).sqrt() * noise).clamp(0)
            frames = 255 * (linear_to_srgb(light) if self.channels == 3 else light)
        else:
            frames = frames + 255 * read.sqrt() * noise
        if self.jpeg_quality:
            quality = synthesis["jpeg_quality"].repeat_interleave(self.num_frame).tolist()
            lq = compress(frames.flatten(0, 1).double(), quality).view_as(frames).to(torch.uint8)
        elif self.bit_depth == 8:
            lq = (frames.clamp(0, 255) + 0.5).floor().to(torch.uint8)
        else:
            top = 2**self.bit_depth - 1
            lq = (frames.clamp(0, 255) * (top / 255) + 0.5).floor() / top
        return {"lq": lq, "gt": crop_centre(hr, size)}

    @staticmethod
    def _view(
        image: Tensor, motion: Tensor | None, shift: Tensor | None, size: tuple[int, int]
    ) -> Tensor:
        """Returns one moved frame (N, 1, C, *size); ``motion`` None: the reference."""
        if shift is None:
            if motion is None:
                return crop_centre(image, size)[:, None]
            return warp(image, motion, size, "bicubic")
        if motion is None:
            motion = torch.eye(2, 3, device=image.device).expand(len(image), 1, 2, 3)
        bands = []
        for band in range(image.shape[1]):
            moved = motion.clone()
            moved[..., 2] += (motion[..., :2] * shift[:, None, None, band]).sum(-1)
            bands.append(warp(image[:, band : band + 1], moved, size, "bicubic"))
        return torch.cat(bands, 2)

    def _blur(self, image: Tensor, synthesis: dict[str, Tensor]) -> Tensor:
        radius = self._blur_radius
        return blur(image, synthesis["blur_sigma"], radius) if radius else image

    @property
    def _blur_radius(self) -> int:
        return math.ceil(3 * self.blur_sigma[1])


def check_options(options: Mapping[str, Any], *ranges: str) -> None:
    """Checks the options of a pipeline.

    Args:
        options: All options by name.
        ranges: Names of the options that are ranges (low, high).

    Raises:
        UserError: names the invalid option.
    """
    if options["num_frame"] < 1:
        raise UserError(f"num_frame must be at least 1, got {options['num_frame']}")
    for name in ("max_shift", "max_rotation", "num_object", "object_shift", "band_shift"):
        if options.get(name, 0) < 0:
            raise UserError(f"{name} must not be negative, got {options[name]}")
    for name in ranges:
        low, high = options[name]
        if not 0 <= low <= high:
            raise UserError(f"{name} must be (low, high) with 0 ≤ low ≤ high, got {low, high}")
    low, high = options["shot_noise"]
    if low == 0 < high:
        raise UserError(
            "shot_noise is drawn on a logarithmic scale, so its range cannot start at 0; raise the "
            "lower end, or set (0, 0) for no noise"
        )
    _reduction_taps(options["reduction"], options["scale"])


def draw_motion(
    num_frame: int, max_shift: float, max_rotation: float, rng: np.random.Generator
) -> np.ndarray:
    """Draws Euclidean motions (T, 2, 3) float32; the first is the identity."""
    motion = np.zeros((num_frame, 2, 3))
    motion[0, :, :2] = np.eye(2)
    for matrix in motion[1:]:
        angle = math.radians(rng.uniform(-max_rotation, max_rotation))
        cos, sin = math.cos(angle), math.sin(angle)
        matrix[:, :2] = (cos, -sin), (sin, cos)
        matrix[:, 2] = rng.uniform(-max_shift, max_shift, 2)
    return motion.astype(np.float32)


def motion_reach(side: int, max_shift: float, max_rotation: float) -> int:
    """Returns how many pixels a motion reaches beyond an image with longer side ``side``."""
    angle = math.radians(max_rotation)
    return math.ceil(max_shift + side / 2 * (math.sin(angle) + 1 - math.cos(angle)))


def warp(image: Tensor, motion: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """Samples moved views of an image.

    Args:
        image: (N, C, H, W) float.
        motion: (N, T, 2, 3) from positions in a view to positions in the image, in pixels from
            their centres.
        size: Height and width of a view.
        mode: ``"bilinear"`` or ``"bicubic"`` (a = -0.75).

    Returns:
        (N, T, C, *size).
    """
    (num, channels, *whole), num_frame = image.shape, motion.shape[1]
    y, x = (
        torch.arange(length, device=image.device, dtype=torch.float32) - (length - 1) / 2
        for length in size
    )
    along_x, along_y, shift = motion[..., None, None].unbind(3)
    position = along_x * x + along_y * y[:, None] + shift
    grid = torch.stack([position[:, :, axis] * (2 / (whole[1 - axis] - 1)) for axis in (0, 1)], -1)
    # One tall grid with the frames below each other avoids repeating the image.
    grid = grid.reshape(num, num_frame * size[0], size[1], 2)
    views = F.grid_sample(image, grid, mode, padding_mode="border", align_corners=True)
    return views.reshape(num, channels, num_frame, *size).transpose(1, 2)


def reduce(frames: Tensor, reduction: Reduction, scale: int) -> Tensor:
    """Reduces (…, H + 2·reach, W + 2·reach) to (…, H / scale, W / scale), centres aligned."""
    taps = _reduction_taps(reduction, scale)
    return filter_axis(filter_axis(frames, taps, -2, scale), taps, -1, scale)


def reduction_reach(reduction: Reduction, scale: int) -> int:
    """Returns the number of pixels that a reduction reads beyond each edge of an image."""
    return (len(_reduction_taps(reduction, scale)) - scale) // 2


def _reduction_taps(reduction: Reduction, scale: int) -> list[float]:
    """Returns the weights of the ``scale + 2·reach`` pixels around the centre of an LR pixel."""
    if reduction == "box":
        taps = np.ones(scale)
    elif reduction == "dbsr":  # bilinear without antialiasing: the pixels next to the centre
        taps = (np.abs(np.arange(scale) - (scale - 1) / 2) < 1).astype(float)
    elif reduction == "bicubic-aa":
        count = 4 * scale + scale % 2
        x = np.abs(np.arange(count) - (count - 1) / 2) / scale
        near, far = (1.5 * x - 2.5) * x * x + 1, ((2.5 - 0.5 * x) * x - 4) * x + 2  # a = -0.5
        taps = np.where(x <= 1, near, np.where(x <= 2, far, 0))
    else:
        raise UserError(f"reduction must be 'box', 'bicubic-aa' or 'dbsr', got {reduction!r}")
    return (taps / taps.sum()).tolist()


def filter_axis(x: Tensor, taps: Sequence[float | Tensor], dim: int, stride: int = 1) -> Tensor:
    """Correlates one axis with ``taps``, numbers or tensors that broadcast; no padding.

    It sums slices instead of convolving, because GPUs convolve in TF32, which is not exact.
    """
    count = (x.shape[dim] - len(taps)) // stride + 1
    index = [slice(None)] * x.ndim
    out = torch.zeros((), device=x.device)
    for k, tap in enumerate(taps):
        index[dim] = slice(k, k + stride * (count - 1) + 1, stride)
        out = out + x[tuple(index)] * tap
    return out


def blur(image: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Blurs each sample by its own Gaussian; the result lacks ``radius`` pixels at every edge.

    Args:
        image: (N, C, H, W) float.
        sigma: (N,) standard deviations, in pixels.
        radius: Radius of the kernel, in pixels.
    """
    offset = torch.arange(-radius, radius + 1, device=image.device)
    taps = torch.exp(-0.5 * (offset / sigma.clamp(min=1e-3)[:, None]) ** 2)
    taps = (taps / taps.sum(1, keepdim=True))[:, :, None, None, None].unbind(1)
    return filter_axis(filter_axis(image, taps, -2), taps, -1)


def crop_centre(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns the middle (…, *size) of an image."""
    top, left = ((image.shape[axis] - size[axis]) // 2 for axis in (-2, -1))
    return image[..., top : top + size[0], left : left + size[1]]


def to_levels(hr: Tensor) -> Tensor:
    """Converts stored pixels to float32 in [0, 255]; 8-bit levels stay whole, so sums are exact."""
    return hr.float() if hr.dtype == torch.uint8 else to_float(hr) * 255


def srgb_to_linear(x: Tensor) -> Tensor:
    """Converts sRGB values in [0, 1] to linear light (IEC 61966-2-1)."""
    return torch.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(x: Tensor) -> Tensor:
    """Converts linear light, at least 0, to sRGB values (IEC 61966-2-1)."""
    return torch.where(x <= 0.0031308, x * 12.92, 1.055 * x.clamp(min=1e-8) ** (1 / 2.4) - 0.055)
