"""Makes the training images of the default weights: photographs and dead leaves.

Run ``python docs/default_weights_data.py datasets/default_weights``. The images in ``train`` depend
only on this file and on photographs of scikit-image that are CC0 or in the public domain. ``val``
has one more photograph, which is not trained on. The option files
``options/train/EDSR/default_x2.yml``, ``default_x3.yml`` and ``default_x4.yml`` use both folders.

A dead-leaves image is a plane full of opaque shapes that hide each other. With radii by a power law
its statistics are close to those of photographs (Lee, Mumford and Huang, IJCV 2001), and networks
for restoration can be trained on it (Achddou, Gousseau and Ladjal, SSVM 2021).
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import skimage

from srtoolbox.data.files.reader import read_image
from srtoolbox.data.resize.array import imresize

COLOUR = ("astronaut.png", "chelsea.png", "coffee.png")  # NASA; CC0; CC0
GREY = ("camera.png", "brick.png", "grass.png", "gravel.png")  # all CC0
FACTORS = (1.0, 0.85, 0.7, 0.55)  # reduced photographs are sharper
VALIDATION = "motorcycle_left.png"
COPIES = {"astronaut.png": 3, "chelsea.png": 3, "coffee.png": 3, "camera.png": 2}  # per factor

NUM_LEAVES_IMAGE = 32
SIDE = 384  # pixels of a dead-leaves image
OVERSAMPLING = 2  # leaves are drawn larger and reduced, so that their edges are anti-aliased
NUM_LEAF = (200, 2000)
RADIUS_MIN = (3.0, 16.0)  # of the leaves as they are drawn; their density falls by radius ** -3
RADIUS_MAX = 220.0
SUBPIXEL = 4  # binary digits of the coordinates that OpenCV draws


def main(out: Path) -> None:
    """Writes all images into ``out/train`` and ``out/val`` as PNG files."""
    train, val = out / "train", out / "val"
    for folder in (train, val):
        folder.mkdir(parents=True, exist_ok=True)
    write(val / VALIDATION, photograph(VALIDATION))
    photographs = {name: photograph(name) for name in (*COLOUR, *GREY)}
    for name, image in photographs.items():
        for factor in FACTORS:
            reduced = image if factor == 1 else imresize(image, factor)
            for copy in range(COPIES.get(name, 1)):
                stem = f"{Path(name).stem}_{round(100 * factor)}_{copy}"
                write(train / f"{stem}.png", reduced[..., permutation(factor, copy)])
    for number in range(NUM_LEAVES_IMAGE):
        write(train / f"leaves_{number:03d}.png", dead_leaves(number, photographs))


def photograph(name: str) -> np.ndarray:
    """Returns a photograph of scikit-image, uint8 (H, W, 3); a grey one has equal channels."""
    image = read_image(Path(skimage.__file__).parent / "data" / name)
    return np.broadcast_to(image, (3, *image.shape[1:])).transpose(1, 2, 0)


def permutation(factor: float, copy: int) -> list[int]:
    """Returns an order of the colour channels; that of copy 0 is the photograph's own."""
    orders = ([1, 0, 2], [0, 2, 1], [2, 1, 0], [1, 2, 0], [2, 0, 1])
    return [0, 1, 2] if copy == 0 else orders[(2 * FACTORS.index(factor) + copy) % len(orders)]


def dead_leaves(number: int, photographs: dict[str, np.ndarray]) -> np.ndarray:
    """Returns dead-leaves image ``number``, uint8 (SIDE, SIDE, 3).

    Args:
        number: The seed of the image.
        photographs: Sources of colours and textures, uint8 (H, W, 3), by name.
    """
    rng = np.random.default_rng(number)
    palette = photographs[COLOUR[rng.integers(len(COLOUR))]].reshape(-1, 3).astype(np.float32)
    palette = palette[:, rng.permutation(3)]
    palette += rng.uniform(0, 0.8) * (palette.mean(1, keepdims=True) - palette)  # less colourful
    side = SIDE * OVERSAMPLING
    canvas = np.empty((side, side, 3), np.float32)
    canvas[:] = palette[rng.integers(len(palette))]
    low, num = (log_uniform(limits, rng) for limits in (RADIUS_MIN, NUM_LEAF))
    ratio = (low / RADIUS_MAX) ** 2
    radii = low / np.sqrt(1 - rng.random(round(num)) * (1 - ratio))
    radii = np.concatenate([np.geomspace(RADIUS_MAX, RADIUS_MAX / 4, 40), radii])
    if rng.random() < 0.3:  # larger leaves lie below smaller ones
        radii = np.sort(radii)[::-1] * rng.uniform(0.8, 1.2, len(radii))
    for radius in radii:
        draw_leaf(canvas, float(radius), palette, photographs, rng)
    if rng.random() < 0.3:  # a slightly unsharp photograph
        canvas = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.5, 1.5))
    reduced = cv2.resize(canvas, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.rint(reduced.clip(0, 255)).astype(np.uint8)


def draw_leaf(
    canvas: np.ndarray,
    radius: float,
    palette: np.ndarray,
    photographs: dict[str, np.ndarray],
    rng: np.random.Generator,
) -> None:
    """Draws one leaf at a random place of ``canvas``, float32 (H, W, 3)."""
    height, width = canvas.shape[:2]
    centre = rng.uniform((0, 0), (width, height))
    points = outline(radius, rng) + centre
    left, top = np.maximum(np.floor(points.min(0)).astype(int) - 1, 0)
    right, bottom = np.minimum(np.ceil(points.max(0)).astype(int) + 2, (width, height))
    if right <= left or bottom <= top:
        return
    mask = np.zeros((bottom - top, right - left), np.uint8)
    fixed = np.rint((points - (left, top)) * 2**SUBPIXEL).astype(np.int32)
    cv2.fillPoly(mask, [fixed], 255, cv2.LINE_AA, SUBPIXEL)
    alpha = mask[..., None].astype(np.float32) / 255
    part = canvas[top:bottom, left:right]
    part += alpha * (surface(mask.shape, palette, photographs, rng) - part)


def outline(radius: float, rng: np.random.Generator) -> np.ndarray:
    """Returns the corners (N, 2) of a disc, an ellipse, a polygon, a bar or a star around 0."""
    kind = rng.choice(5, p=(0.25, 0.2, 0.3, 0.15, 0.1))
    num = (48, 48, int(rng.integers(3, 8)), 4, 2 * int(rng.integers(4, 8)))[kind]
    angles = np.arange(num) * 2 * np.pi / num
    if kind == 2:
        angles = np.sort(rng.uniform(0, 2 * np.pi, num))
    lengths = np.full(num, radius)
    if kind == 4:
        lengths[::2] *= rng.uniform(0.3, 0.8)
    points = lengths[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
    if kind == 1:
        points[:, 1] *= rng.uniform(0.2, 0.9)
    elif kind == 3:  # long and thin
        points = np.array([(-3, -1), (3, -1), (3, 1), (-3, 1)]) * radius
        points[:, 1] *= rng.uniform(0.05, 0.4)
    turn = rng.uniform(0, 2 * np.pi)
    cos, sin = np.cos(turn), np.sin(turn)
    return points @ np.array([(cos, sin), (-sin, cos)])


def surface(
    shape: tuple[int, ...],
    palette: np.ndarray,
    photographs: dict[str, np.ndarray],
    rng: np.random.Generator,
) -> np.ndarray:
    """Returns the colours of a leaf, float32 (h, w, 3) in [0, 255] or slightly outside.

    It is even, a gradient, a grating of stripes, or the structure of a photograph in other colours.
    """
    height, width = shape
    first, second = palette[rng.integers(len(palette), size=2)]
    kind = rng.choice(4, p=(0.25, 0.3, 0.2, 0.25))
    if kind == 0:
        return np.broadcast_to(first, (height, width, 3))
    y, x = np.mgrid[:height, :width].astype(np.float32)
    turn = rng.uniform(0, 2 * np.pi)
    along = np.cos(turn) * x + np.sin(turn) * y
    if kind == 1:
        weight = (along - along.min()) / max(float(np.ptp(along)), 1)
    elif kind == 2:
        period = OVERSAMPLING * log_uniform((4, 24), rng)
        weight = np.sin(2 * np.pi * along / period + rng.uniform(0, 2 * np.pi))
        weight = 0.5 + 0.5 * (weight * rng.uniform(1, 12)).clip(-1, 1)  # from waves to sharp bars
    else:
        weight = structure(height, width, photographs, rng)
    return first + weight[..., None] * (second - first)


def structure(
    height: int, width: int, photographs: dict[str, np.ndarray], rng: np.random.Generator
) -> np.ndarray:
    """Returns a random crop (h, w) of a photograph's green channel, about 0.5 ± 0.5."""
    names = list(photographs)
    source = photographs[names[rng.integers(len(names))]][..., 1]
    rows, columns = min(height, source.shape[0]), min(width, source.shape[1])
    top = rng.integers(source.shape[0] - rows + 1)
    left = rng.integers(source.shape[1] - columns + 1)
    crop = source[top : top + rows, left : left + columns].astype(np.float32)
    if (rows, columns) != (height, width):
        crop = cv2.resize(crop, (width, height), interpolation=cv2.INTER_CUBIC)
    return 0.5 + (crop - crop.mean()) / max(4 * float(crop.std()), 40)


def log_uniform(limits: tuple[float, float], rng: np.random.Generator) -> float:
    """Returns a random number between the limits; each octave is equally likely."""
    return float(np.exp(rng.uniform(*np.log(limits))))


def write(path: Path, image: np.ndarray) -> None:
    """Writes an RGB image, uint8 (H, W, 3)."""
    if not cv2.imwrite(str(path), image[..., ::-1]):
        raise OSError(f"{path}: cannot be written")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python docs/default_weights_data.py FOLDER")
    main(Path(sys.argv[1]))
