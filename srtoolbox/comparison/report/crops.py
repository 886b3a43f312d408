"""The images that a study kept, and where in them the methods differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from srtoolbox.comparison.analysis.scores import Scores, clip_of
from srtoolbox.comparison.store import Entry
from srtoolbox.data.files.reader import read_image
from srtoolbox.errors import UserError

_CROP = 1 / 3  # of the image's shorter side
_MOST = 6  # pictures of each dataset
_FEWEST_FRAMES = 4  # of a temporal profile

Region = tuple[int, int, int]


@dataclass(frozen=True)
class Picture:
    """An image of a test set with what every method made of it.

    Attributes:
        dataset: It is from.
        key: Its name there.
        gt: (H, W, 3) uint8.
        lq: (H, W, 3) uint8, enlarged to the size of ``gt`` by repeating pixels; None if not kept.
        results: (H, W, 3) uint8 by method.
        captions: The scores of each method on this image.
        region: Corner y, x and side of the square to look at.
    """

    dataset: str
    key: str
    gt: np.ndarray
    lq: np.ndarray | None
    results: dict[str, np.ndarray]
    captions: dict[str, str]
    region: Region

    @property
    def cells(self) -> dict[str, np.ndarray]:
        """All versions of the image by name: LR, methods, GT."""
        lq = {} if self.lq is None else {"LR": self.lq}
        return {**lq, **self.results, "GT": self.gt}

    def crop(self, image: np.ndarray) -> np.ndarray:
        """The region of an image."""
        y, x, side = self.region
        return image[y : y + side, x : x + side]

    def errors(self) -> tuple[dict[str, np.ndarray], float]:
        """Mean absolute error over the channels, (H, W) float32 by method in 8-bit levels, and
        the level that all maps end at: what hardly any pixel exceeds."""
        gt = self.gt.astype(np.float32)
        maps = {name: np.abs(image - gt).mean(-1) for name, image in self.results.items()}
        level = max((float(np.quantile(one, 0.995)) for one in maps.values()), default=0.0)
        return maps, max(1.0, level)


@dataclass(frozen=True)
class Profile:
    """One line of pixels over time: flicker and drift show as ripples in it.

    Attributes:
        dataset: It is from.
        clip: Its name there.
        picture: (H, W, 3) uint8, the middle frame of the ground truth.
        row: The line's height in it.
        slices: (T, W, 3) uint8 by method, and of GT.
    """

    dataset: str
    clip: str
    picture: np.ndarray
    row: int
    slices: dict[str, np.ndarray]


def load_pictures(scores: Scores, regions: Mapping[str, Region] | None = None) -> list[Picture]:
    """Kept images of the first seed, the first few of each dataset; of a clip its middle one.

    There are none of test sets that are in sweeps.

    Args:
        scores: Of the study.
        regions: Corner y, x and side of the square to look at, by key; without one it is where
            the methods differ most from each other.

    Raises:
        UserError: if a region's key was not kept, or it lies outside of the image.
    """
    regions = dict(regions or {})
    pictures = []
    for dataset in scores.main_datasets:
        keys = _kept(scores, dataset)
        named = [key for key in keys if key in regions]
        if scores.has_clips(dataset):
            keys = [frames[len(frames) // 2] for frames in _by_clip(keys).values()]
        keys = list(dict.fromkeys([*named, *keys]))
        pictures += [_load(scores, dataset, key, regions.get(key)) for key in keys[:_MOST]]
    if unknown := sorted(set(regions) - {picture.key for picture in pictures}):
        known = ", ".join(picture.key for picture in pictures)
        raise UserError(f"no image '{unknown[0]}' to show a region of; kept are: {known or 'none'}")
    return [picture for picture in pictures if picture.results]


def load_profiles(scores: Scores, pictures: list[Picture]) -> list[Profile]:
    """Temporal profiles of the clips of which enough frames were kept, through their regions."""
    profiles = []
    seen = set()
    for picture in pictures:
        place = picture.dataset, clip_of(picture.key)
        if not scores.has_clips(picture.dataset) or place in seen:
            continue
        seen.add(place)
        keys = _by_clip(_kept(scores, picture.dataset))[clip_of(picture.key)]
        row = picture.region[0] + picture.region[2] // 2
        slices = {}
        for method in picture.results:
            folder = _folder(scores, method, picture.dataset)
            paths = [folder / f"{_stem(key)}.png" for key in keys]
            if all(path.exists() for path in paths):
                slices[method] = np.stack([read_shown(path)[row] for path in paths])
        originals = scores.store.image_folder(picture.dataset)
        truth = [read_shown(originals / f"{_stem(key)}_gt.png")[row] for key in keys]
        if len(keys) >= _FEWEST_FRAMES and slices:
            slices["GT"] = np.stack(truth)
            clip = clip_of(picture.key)
            profiles.append(Profile(picture.dataset, clip, picture.gt, row, slices))
    return profiles


def read_shown(path: Path) -> np.ndarray:
    """An image as it can be shown: uint8 (H, W, 3)."""
    image = read_image(path)
    if image.dtype != np.uint8:
        whole = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1
        image = np.round(image * (255 / whole)).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(image, (3, *image.shape[1:])).transpose(1, 2, 0))


def disagreement(images: list[np.ndarray]) -> Region:
    """Corner y, x and side of the square in which the images differ most from each other."""
    stack = np.stack(images).astype(np.float32)
    spread = stack.var(axis=0).sum(axis=-1)
    size = max(8, int(min(spread.shape) * _CROP))
    size = min(size, *spread.shape)
    total = cv2.boxFilter(spread, -1, (size, size), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
    inside = total[: spread.shape[0] - size + 1, : spread.shape[1] - size + 1]
    y, x = np.unravel_index(int(inside.argmax()), inside.shape)
    return int(y), int(x), size


def _load(scores: Scores, dataset: str, key: str, region: Region | None) -> Picture:
    stem, originals = _stem(key), scores.store.image_folder(dataset)
    gt = read_shown(originals / f"{stem}_gt.png")
    lq_path = originals / f"{stem}_lq.png"
    lq = None
    if lq_path.exists():
        lq = cv2.resize(read_shown(lq_path), gt.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    results, captions = {}, {}
    for method, entries in scores.entries.items():
        path = _folder(scores, method, dataset) / f"{stem}.png"
        if path.exists() and (image := read_shown(path)).shape == gt.shape:
            results[method] = image
            captions[method] = _caption(scores, entries[0], dataset, key)
    if region is None:
        region = disagreement([*results.values(), gt][: max(1, len(results))])
    y, x, side = region
    height, width = gt.shape[:2]
    if min(y, x) < 0 or side < 1 or y + side > height or x + side > width:
        raise UserError(
            f"region {y},{x},{side} (y, x, side) leaves the image {key} of {height}×{width}"
        )
    return Picture(dataset, key, gt, lq, results, captions, region)


def _kept(scores: Scores, dataset: str) -> list[str]:
    folder = scores.store.image_folder(dataset)
    return [key for key in scores.keys(dataset) if (folder / f"{_stem(key)}_gt.png").exists()]


def _by_clip(keys: list[str]) -> dict[str, list[str]]:
    clips: dict[str, list[str]] = {}
    for key in keys:
        clips.setdefault(clip_of(key), []).append(key)
    return clips


def _folder(scores: Scores, method: str, dataset: str) -> Path:
    return scores.store.image_folder(scores.entries[method][0].evaluations.get(dataset, "-"))


def _caption(scores: Scores, entry: Entry, dataset: str, key: str) -> str:
    metrics = next((r["metrics"] for r in scores.records(entry, dataset) if r["key"] == key), {})
    shown = [
        f"{metrics[name]:.{scores.metrics[name]['digits']}f}"
        for name in scores.shown_metrics[:2]
        if metrics.get(name) is not None
    ]
    return " / ".join(shown)


def _stem(key: str) -> str:
    return key.replace("/", "__")
