"""Objects that move independently through a scene; they are drawn before it is degraded.

An object is a piece of the same image, copied from another position and cut out by a mask. The
outline of the mask is a superellipse, which ranges from an ellipse to a rectangle with round
corners, with an edge one pixel wide. As for whole bursts, one function draws the random choices and
another computes the pixels, in batches on any device.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

RADIUS = (8.0, 24.0)
"""Range of half the length and half the width of an object in a burst, in HR pixels."""

_POWER = (2.0, 6.0)  # range of the outline's exponent; 2 is an ellipse


def draw_objects(
    num_object: int, num_frame: int, max_shift: float, seed: int
) -> dict[str, np.ndarray]:
    """Draws the random choices of the objects in a burst.

    An object depends on the seed and its number only: more objects do not change the others, more
    frames do not change the earlier ones, and another ``max_shift`` only scales the path.

    Args:
        num_object: Number of objects, K.
        num_frame: Frames in a burst, T.
        max_shift: Maximum shift along each axis from an object's position in frame 0, in pixels.
        seed: Seed, not negative.

    Returns:
        Float32 arrays: ``object_shape`` (K, 4) as ``put_objects`` takes it; ``object_place`` and
        ``object_source`` (K, 2), x and y in [-0.5, 0.5] of the available range; ``object_shift``
        (K, T, 2) in pixels.
    """
    drawn = []
    for number in range(num_object):
        rng = np.random.default_rng(np.random.SeedSequence([seed, number]))
        shape = [*rng.uniform(*RADIUS, 2), rng.uniform(0, math.pi), rng.uniform(*_POWER)]
        place = rng.uniform(-0.5, 0.5, 2)
        # At least a quarter of the image away along both axes; positions wrap around at its edges.
        source = (place + 0.5 + rng.uniform(0.25, 0.75, 2)) % 1 - 0.5
        shift = np.zeros((num_frame, 2))
        shift[1:] = rng.uniform(-max_shift, max_shift, (num_frame - 1, 2))
        drawn.append((shape, place, source, shift))
    names = ("object_shape", "object_place", "object_source", "object_shift")
    return {
        name: np.array(values, dtype=np.float32)
        for name, values in zip(names, zip(*drawn, strict=True), strict=True)
    }


def put_drawn_objects(
    image: Tensor, drawn: dict[str, Tensor], frame: int, size: tuple[int, int]
) -> Tensor:
    """Returns the scene of one frame of a burst, in the coordinates of the reference.

    Args:
        image: The scene without objects (N, C, H, W), float levels in [0, 255].
        drawn: The arrays of ``draw_objects``, stacked, on the device of ``image``.
        frame: Index of the frame.
        size: Height and width of the ground truth, the middle of the image. In frame 0, objects are
            inside of it; they are at most half as long as its shorter side.

    Returns:
        (N, C, H, W), as ``image``.
    """
    shape = drawn["object_shape"].clone()
    shape[..., :2].clamp_(max=min(size) / 4)
    largest = min(RADIUS[1], min(size) / 4)
    room = shape.new_tensor(size[::-1]) - 2 * shape[..., :2].amax(2, keepdim=True)
    place, source = (drawn[f"object_{name}"] * room.clamp(min=0) for name in ("place", "source"))
    # Whole pixels, so that an object is not interpolated in frame 0.
    texture = (source - place).round()
    shift = drawn["object_shift"][:, :, frame]
    return put_objects(image, shape, place + shift, texture - shift, largest)


def put_objects(
    image: Tensor,
    shape: Tensor,
    place: Tensor,
    texture: Tensor,
    largest: float,
    light: Tensor | None = None,
) -> Tensor:
    """Draws objects over an image, later ones over earlier ones.

    Args:
        image: (N, C, H, W), float levels in [0, 255].
        shape: (N, K, 4): half the length and half the width in pixels, the angle of the length axis
            from x towards y in radians, and the exponent of the outline.
        place: (N, K, 2): x and y of the objects' centres, in pixels from the image's centre.
        texture: (N, K, 2): x and y offset from an object to its texture in ``image``, in pixels.
            Between pixels the texture is interpolated bicubically (a = -0.75).
        largest: Upper bound of all half lengths and half widths, in pixels.
        light: (N, K) in [-1, 1]: positive values fade the texture to white, negative ones to black.

    Returns:
        The image with the objects; pixels without an object keep their exact values.
    """
    whole = image.shape[:1:-1]  # width, height
    side = 2 * math.ceil(math.sqrt(2) * largest) + 4
    sample = torch.arange(len(image), device=image.device)[:, None, None]
    out = image.clone()
    pixels = out.permute(0, 2, 3, 1)  # a view
    for k in range(shape.shape[1]):
        # The pixels around an object: the same number for all samples.
        index, offset = [], []
        for axis, length in enumerate(whole):
            centre = place[:, k, axis, None] + (length - 1) / 2
            count = min(side, length)
            first = (centre - (count - 1) / 2).round().clamp(0, length - count)
            index.append((first + torch.arange(count, device=image.device)).long())
            offset.append(index[-1] - centre)
        x, y = offset[0][:, None, :], offset[1][:, :, None]
        at = sample, index[1][:, :, None], index[0][:, None, :]
        grid = torch.stack(
            [
                ((index[axis] + texture[:, k, axis, None]) * (2 / (whole[axis] - 1)) - 1)
                .unsqueeze(1 + axis)
                .expand(-1, y.shape[1], x.shape[2])
                for axis in (0, 1)
            ],
            -1,
        )
        piece = F.grid_sample(image, grid, "bicubic", padding_mode="border", align_corners=True)
        if light is not None:
            fade = light[:, k, None, None, None]
            piece = piece * (1 - fade.abs()) + 255 * fade.clamp(min=0)
        cover = _coverage(x, y, shape[:, k])[..., None]
        under = pixels[at]
        piece = piece.clamp(0, 255).permute(0, 2, 3, 1)
        pixels[at] = under + cover * (piece - under)
    return out


def _coverage(x: Tensor, y: Tensor, shape: Tensor) -> Tensor:
    """Returns how much of each pixel (N, h, w) an outline covers, by its first-order distance."""
    half_length, half_width, angle, power = shape[:, :, None, None].unbind(1)
    along = (angle.cos() * x + angle.sin() * y).abs() / half_length
    across = (angle.cos() * y - angle.sin() * x).abs() / half_width
    # 1 on the outline; clamped above 0 at the centre, where its slope is not defined
    radius = (along**power + across**power).clamp(min=1e-12) ** (1 / power)
    slope = ((along / radius) ** (power - 1) / half_length) ** 2
    slope = (slope + ((across / radius) ** (power - 1) / half_width) ** 2).sqrt()
    return (0.5 - (radius - 1) / slope).clamp(0, 1)


def stored(levels: Tensor, dtype: torch.dtype) -> Tensor:
    """Converts float levels in [0, 255] to stored pixels: uint8, uint16, or float in [0, 1]."""
    if dtype.is_floating_point:
        return (levels / 255).to(dtype)
    if dtype == torch.uint8:
        return (levels + 0.5).floor().to(dtype)
    return (levels * 257 + 0.5).floor().to(torch.int32).to(dtype)
