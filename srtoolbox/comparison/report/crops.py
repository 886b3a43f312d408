"""Loads the images that a study stored, and chooses the regions that figures enlarge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from srtoolbox.comparison.analysis.scores import Scores, by_clip
from srtoolbox.comparison.store import Entry, image_stem
from srtoolbox.data.files.reader import read_image
from srtoolbox.engine.evaluation.evaluator import clip_of
from srtoolbox.errors import UserError

_REGION_SHARE = 1 / 3  # side of a region, as a share of the image's shorter side
_MIN_REGION = 8  # pixels
_MAX_PICTURES = 6  # per dataset
_MIN_PROFILE_FRAMES = 4
_ERROR_QUANTILE = 0.995  # of the pixels of an error map; the colour scale ends there

Region = tuple[int, int, int]  # y and x of the corner, and the side, in pixels


@dataclass(frozen=True)
class Picture:
    """An image of a test set and every method's result for it.

    Attributes:
        dataset: Name of the dataset.
        key: Key of the image in the dataset.
        gt: (H, W, 3) uint8.
        lq: (H, W, 3) uint8, enlarged to the size of ``gt`` by repeating pixels; None if not stored.
        results: (H, W, 3) uint8 by method.
        captions: Scores on this image by method.
        region: Square that the figures enlarge.
    """

    dataset: str
    key: str
    gt: np.ndarray
    lq: np.ndarray | None
    results: dict[str, np.ndarray]
    captions: dict[str, str]
    region: Region

    @property
    def title(self) -> str:
        """The dataset and the key."""
        return f"{self.dataset}: {self.key}"

    @property
    def cells(self) -> dict[str, np.ndarray]:
        """All versions of the image by name: LR, methods, GT."""
        lq = {} if self.lq is None else {"LR": self.lq}
        return {**lq, **self.results, "GT": self.gt}

    def crop(self, image: np.ndarray) -> np.ndarray:
        """Returns the region of an image."""
        y, x, side = self.region
        return image[y : y + side, x : x + side]

    def errors(self) -> tuple[dict[str, np.ndarray], float]:
        """Returns the error maps, and the error at the end of their colour scale.

        A map is the absolute error averaged over the channels, (H, W) float32 in 8-bit levels. The
        scale is the same for all methods; at most 0.5 % of a map's pixels exceed it.
        """
        gt = self.gt.astype(np.float32)
        maps = {name: np.abs(image - gt).mean(-1) for name, image in self.results.items()}
        highest = [float(np.quantile(errors, _ERROR_QUANTILE)) for errors in maps.values()]
        return maps, max([1.0, *highest])


@dataclass(frozen=True)
class Profile:
    """One row of pixels over time; flicker and drift show as ripples.

    Attributes:
        dataset: Name of the dataset.
        clip: Name of the clip.
        picture: (H, W, 3) uint8, the middle frame of the ground truth.
        row: y of the row in the picture.
        slices: (T, W, 3) uint8 by method, and of GT.
    """

    dataset: str
    clip: str
    picture: np.ndarray
    row: int
    slices: dict[str, np.ndarray]


def load_pictures(scores: Scores, regions: Mapping[str, Region] | None = None) -> list[Picture]:
    """Loads the first stored images of each dataset, with the results of the first seed.

    A clip is represented by its middle frame. Test sets of sweeps are left out.

    Args:
        scores: Scores of the study.
        regions: Regions by key; by default a region is where the methods differ most.

    Raises:
        UserError: if no image of a region's key is stored, or the region exceeds the image.
    """
    regions = dict(regions or {})
    pictures = []
    for dataset in scores.main_datasets:
        keys = _stored_keys(scores, dataset)
        named = [key for key in keys if key in regions]
        if scores.has_clips(dataset):
            keys = [frames[len(frames) // 2] for frames in by_clip(keys).values()]
        keys = list(dict.fromkeys([*named, *keys]))[:_MAX_PICTURES]
        pictures += [_load(scores, dataset, key, regions.get(key)) for key in keys]
    if unknown := sorted(set(regions) - {picture.key for picture in pictures}):
        known = ", ".join(picture.key for picture in pictures)
        raise UserError(
            f"no image '{unknown[0]}' is stored: its region cannot be shown; stored are: "
            f"{known or 'none'}"
        )
    return [picture for picture in pictures if picture.results]


def load_profiles(scores: Scores, pictures: Sequence[Picture]) -> list[Profile]:
    """Loads a temporal profile of each clip with enough stored frames.

    The row of pixels runs through the middle of the region of the clip's first picture.
    """
    profiles = []
    seen = set()
    for picture in pictures:
        clip = clip_of(picture.key)
        if not scores.has_clips(picture.dataset) or (picture.dataset, clip) in seen:
            continue
        seen.add((picture.dataset, clip))
        keys = by_clip(_stored_keys(scores, picture.dataset))[clip]
        if len(keys) < _MIN_PROFILE_FRAMES:
            continue
        row = picture.region[0] + picture.region[2] // 2
        slices = {}
        for method in picture.results:
            folder = _result_folder(scores, method, picture.dataset)
            paths = [folder / f"{image_stem(key)}.png" for key in keys]
            if all(path.exists() for path in paths):
                slices[method] = np.stack([read_shown(path)[row] for path in paths])
        if slices:
            originals = scores.store.image_folder(picture.dataset)
            truth = [read_shown(originals / f"{image_stem(key)}_gt.png")[row] for key in keys]
            slices["GT"] = np.stack(truth)
            profiles.append(Profile(picture.dataset, clip, picture.gt, row, slices))
    return profiles


def read_shown(path: Path) -> np.ndarray:
    """Reads an image for display: uint8 (H, W, 3); a single channel is repeated."""
    image = read_image(path)
    if image.dtype != np.uint8:
        white = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1
        image = np.round(image * (255 / white)).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(image, (3, *image.shape[1:])).transpose(1, 2, 0))


def disagreement(images: Sequence[np.ndarray]) -> Region:
    """Returns the square in which the images (H, W, 3) differ most from each other."""
    variance = np.stack(images).astype(np.float32).var(axis=0).sum(axis=-1)
    height, width = variance.shape
    side = min(max(_MIN_REGION, int(min(height, width) * _REGION_SHARE)), height, width)
    total = cv2.boxFilter(variance, -1, (side, side), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
    inside = total[: height - side + 1, : width - side + 1]
    y, x = np.unravel_index(int(inside.argmax()), inside.shape)
    return int(y), int(x), side


def _load(scores: Scores, dataset: str, key: str, region: Region | None) -> Picture:
    stem, originals = image_stem(key), scores.store.image_folder(dataset)
    gt = read_shown(originals / f"{stem}_gt.png")
    lq_path = originals / f"{stem}_lq.png"
    lq = None
    if lq_path.exists():
        lq = cv2.resize(read_shown(lq_path), gt.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    results, captions = {}, {}
    for method, entries in scores.entries.items():
        path = _result_folder(scores, method, dataset) / f"{stem}.png"
        if path.exists() and (image := read_shown(path)).shape == gt.shape:
            results[method] = image
            captions[method] = _caption(scores, entries[0], dataset, key)
    if region is None:
        region = disagreement(list(results.values()) or [gt])
    y, x, side = region
    height, width = gt.shape[:2]
    if min(y, x) < 0 or side < 1 or y + side > height or x + side > width:
        raise UserError(
            f"region {y},{x},{side} (y, x, side) exceeds the image {key} of {height}×{width}"
        )
    return Picture(dataset, key, gt, lq, results, captions, region)


def _stored_keys(scores: Scores, dataset: str) -> list[str]:
    folder = scores.store.image_folder(dataset)
    return [key for key in scores.keys(dataset) if (folder / f"{image_stem(key)}_gt.png").exists()]


def _result_folder(scores: Scores, method: str, dataset: str) -> Path:
    return scores.store.image_folder(scores.entries[method][0].evaluations.get(dataset, "-"))


def _caption(scores: Scores, entry: Entry, dataset: str, key: str) -> str:
    metrics = next((r["metrics"] for r in scores.records(entry, dataset) if r["key"] == key), {})
    return " / ".join(
        f"{metrics[name]:.{scores.metrics[name]['digits']}f}"
        for name in scores.shown_metrics[:2]
        if metrics.get(name) is not None
    )
