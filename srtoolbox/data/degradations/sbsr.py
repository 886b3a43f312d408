"""SBSR bursts by the rules of the generator that the authors of DSTC-SRNet released.

The rules were read from the authors' public code (MinjieWan/DTSC-SRNet, MIT licence, © 2026 Minjie
Wan) and written anew. Their settings are those of ×8. They left none for other scales: there this
module uses the same rules, which is our choice.

The frames of a burst are views of one image. The translation is a random walk in HR pixels: each
step is uniform in ±scale along each axis, and the position is limited to ±3·scale. Every frame
except the first has its own zoom (0.97 to 1.03), rotation (±1.5°) and shears (±0.001). An image is
moved by ``cv2.warpAffine`` (bilinear, reflected border), blurred by a Gaussian of 31×31 pixels,
reduced by area averaging, and gets Gaussian noise. The motion of a frame depends on the size of the
whole image, because zoom is about its corner and rotation about its centre. A crop is therefore
computed in the coordinates of the whole image and equals the crop of the whole frame, bit for bit.

OpenCV 5 and OpenCV 4 may round moved pixels differently, by one level. The reference files of the
tests agree with OpenCV 5.0 in every value.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np

from srtoolbox.errors import UserError

KERNEL_RADIUS = 15  # of the blur, in HR pixels

_ZOOM, _ROTATION, _SHEAR = 0.03, 1.5, 0.001  # largest deviations of a frame from the first one
_WALK = 3  # limit of the translation along each axis, in units of the scale

# The blur's sums differ between programs in the last bits. A flat area of level v may then become
# v - 1 when it is truncated. This amount keeps it at v; other values are not that near to a level.
_KEEP_LEVEL = 1e-6

Window = tuple[int, int, int, int]  # top, left, height, width


class Draws(NamedTuple):
    """The random choices of one burst.

    Attributes:
        motion: (T, 6) float64: for each frame the translation along x and y in HR pixels, the angle
            in degrees, the shears along x and y, and the zoom. Frame 0 is not moved.
        noise_seed: Seed of the noise.
    """

    motion: np.ndarray
    noise_seed: int


@dataclass(frozen=True)
class SBSRPipeline:
    """Makes SBSR bursts from 8-bit images.

    Args:
        scale: Size of the image divided by the size of a frame; the authors' settings are for 8.
        num_frame: Frames in a burst, T.
        blur_sigma: Standard deviation of the blur, in HR pixels; the authors' is 3.2.
        noise_sigma: Standard deviation of the noise, in 8-bit levels; the authors' is 2.55.
        exact: Treat pixels as the authors' code does: moved, blurred and reduced images have 8
            bits, blurred and noisy pixels are truncated to levels, and the blur sees zeros beyond
            the image, so frames have dark edges. If false, pixels are float until the frame is
            rounded once, and the blur sees the mirrored image.

    Raises:
        UserError: names the invalid option.
    """

    scale: int = 8
    num_frame: int = 16
    blur_sigma: float = 3.2
    noise_sigma: float = 2.55
    exact: bool = True

    def __post_init__(self) -> None:
        if self.scale < 2:
            raise UserError(f"scale must be at least 2, got {self.scale}")
        if self.num_frame < 1:
            raise UserError(f"num_frame must be at least 1, got {self.num_frame}")
        if self.blur_sigma <= 0:
            raise UserError(f"blur_sigma must be positive, got {self.blur_sigma}")
        if self.noise_sigma < 0:
            raise UserError(f"noise_sigma must not be negative, got {self.noise_sigma}")

    def draw(self, rng: np.random.Generator) -> Draws:
        """Draws the random choices of one burst.

        The first frames of a burst do not depend on the number of its frames.
        """
        seed = int(rng.integers(2**62))
        motion = np.zeros((self.num_frame, 6))
        motion[1:] = rng.uniform(-1, 1, (self.num_frame - 1, 6))
        limit = _WALK * self.scale
        for before, frame in pairwise(motion):
            frame[:2] = np.clip(before[:2] + self.scale * frame[:2], -limit, limit)
        motion[:, 2] *= _ROTATION
        motion[:, 3:5] *= _SHEAR
        motion[:, 5] = 1 + _ZOOM * motion[:, 5]
        return Draws(motion, seed)

    def make(self, image: np.ndarray, draws: Draws, window: Window | None = None) -> np.ndarray:
        """Makes the frames of a burst, or a window of each frame.

        Args:
            image: (H, W, C) uint8; H and W are multiples of ``scale``. All bands move alike.
            draws: The random choices.
            window: Top, left, height and width in LR pixels; None: whole frames. The noise of a
                window is not that of the whole frames.

        Returns:
            (T, h, w, C) uint8.
        """
        height, width = window[2:] if window else (side // self.scale for side in image.shape[:2])
        shape = len(draws.motion), height, width, image.shape[2]
        noise = None
        if self.noise_sigma:
            noise = np.random.default_rng(draws.noise_seed).standard_normal(shape)
        return self.capture(image, affine_matrices(draws.motion, image.shape), noise, window)

    def capture(
        self,
        image: np.ndarray,
        matrices: np.ndarray,
        noise: np.ndarray | None = None,
        window: Window | None = None,
    ) -> np.ndarray:
        """Makes frames from given motions and noise.

        The authors' code divides frames by 255 in float32, and multiplies and truncates them when
        it writes them. This changes none of the 256 levels, so it is not repeated here.

        Args:
            image: (H, W, C) uint8; H and W are multiples of ``scale``.
            matrices: (T, 2, 3) from positions in the image to positions in the moved image.
            noise: (T, h, w, C) standard normal numbers; None: no noise.
            window: As of ``make``.

        Returns:
            (T, h, w, C) uint8.
        """
        if window is None:
            window = (0, 0, *(side // self.scale for side in image.shape[:2]))
        top, left, height, width = (self.scale * side for side in window)
        # The blur needs more pixels, but none beyond the image, where its own border rule holds.
        y, x = max(top - KERNEL_RADIUS, 0), max(left - KERNEL_RADIUS, 0)
        bottom = min(top + height + KERNEL_RADIUS, image.shape[0])
        right = min(left + width + KERNEL_RADIUS, image.shape[1])
        top, left = top - y, left - x
        scene = image if self.exact else image.astype(np.float32)
        frames = np.empty((len(matrices), *window[2:], image.shape[2]), np.uint8)
        for t, matrix in enumerate(matrices):
            # Moves the part above and left of the window, too: with another origin, OpenCV would
            # round some positions differently.
            moved = _move(scene, matrix, (right, bottom))
            blurred = self._blur(moved[y:, x:])[top : top + height, left : left + width]
            small = cv2.resize(blurred, window[:1:-1], interpolation=cv2.INTER_AREA)
            small = small.reshape(frames.shape[1:])  # OpenCV drops the axis of a single band
            levels = small if noise is None else small + self.noise_sigma * noise[t]
            frames[t] = np.clip(levels if self.exact else levels + 0.5, 0, 255)
        return frames

    def _blur(self, image: np.ndarray) -> np.ndarray:
        """Blurs an image: uint8, truncated, if ``exact``; otherwise float32."""
        kernel = gaussian(self.blur_sigma)
        if not self.exact:
            return cv2.sepFilter2D(image, cv2.CV_32F, kernel, kernel, borderType=_REFLECT)
        # Float64: a truncated sum must not depend on rounding errors.
        sums = cv2.sepFilter2D(
            image, cv2.CV_64F, kernel, kernel, delta=_KEEP_LEVEL, borderType=cv2.BORDER_CONSTANT
        )
        return sums.astype(np.uint8)


_REFLECT = cv2.BORDER_REFLECT  # repeats the outermost pixel: cba|abc


def _move(scene: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Moves an image (H, W, C) by ``cv2.warpAffine``; ``size`` is the width and height to compute.

    OpenCV rounds positions differently for 2 bands and for more than 4; these are moved one by one,
    so that a band does not depend on the number of bands.
    """
    if scene.shape[2] in (1, 3, 4):
        return cv2.warpAffine(scene, matrix, size, flags=cv2.INTER_LINEAR, borderMode=_REFLECT)
    bands = [
        _move(np.ascontiguousarray(band)[..., None], matrix, size)
        for band in np.moveaxis(scene, 2, 0)
    ]
    return np.stack(bands, -1)


def gaussian(sigma: float) -> np.ndarray:
    """Returns one axis of the blur's kernel: 31 weights, float64, with sum 1.

    Args:
        sigma: Standard deviation, in pixels.
    """
    offset = np.arange(-KERNEL_RADIUS, KERNEL_RADIUS + 1)
    taps = np.exp(-0.5 * (offset / sigma) ** 2)
    return taps / taps.sum()


def affine_matrices(motion: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Returns (T, 2, 3) matrices from positions in the image to positions in the moved image.

    A matrix is zoom · rotation · shear · translation. Rotation and shear are about the centre of
    the image, zoom is about its corner (0, 0).

    Args:
        motion: (T, 6), as in ``Draws``.
        shape: Height and width of the image, in pixels.
    """
    height, width = shape[:2]
    centre = width / 2, height / 2
    matrices = np.empty((len(motion), 2, 3))
    for matrix, (shift_x, shift_y, angle, shear_x, shear_y, zoom) in zip(
        matrices, motion, strict=True
    ):
        rotation = np.vstack([cv2.getRotationMatrix2D(centre, angle, 1.0), (0, 0, 1)])
        shear = np.array(
            [
                [1, shear_x, -shear_x * centre[0]],
                [shear_y, 1, -shear_y * centre[1]],
                [0, 0, 1],
            ]
        )
        translation = np.array([[1, 0, shift_x], [0, 1, shift_y], [0, 0, 1]])
        matrix[:] = (np.diag([zoom, zoom, 1.0]) @ rotation @ shear @ translation)[:2]
    return matrices
