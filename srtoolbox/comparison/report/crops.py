"""Loads the images that a study stored, and chooses the regions that figures enlarge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from srtoolbox.comparison.analysis.scores import Scores, by_clip
from srtoolbox.comparison.store import Entry, image_stem
from srtoolbox.engine.evaluation.records import clip_of
from srtoolbox.errors import UserError

_REGION_SHARE = 1 / 3  # side of a region, as a share of the image's shorter side
_MIN_REGION = 8  # pixels
_MAX_PICTURES = 6  # per dataset
_MIN_PROFILE_FRAMES = 4
_BRIGHTNESS = 0.005, 0.995  # shares of the ground truth's values that are black, and not white
_ERROR_QUANTILE = 0.995  # of the pixels of an error map; the colour scale ends there

Region = tuple[int, int, int]  # y and x of the corner, and the side, in pixels


@dataclass(frozen=True)
class Shown:
    """How images of other than one or three bands are shown.

    Attributes:
        bands: Numbers of the bands shown as red, green and blue, or of one shown as grey.
        num_band: Number of all bands.
        low: Intensity in [0, 1] that is black.
        high: Intensity that is white.
    """

    bands: tuple[int, ...]
    num_band: int
    low: float
    high: float

    @classmethod
    def of(cls, image: np.ndarray, bands: Sequence[int] | None) -> Shown:
        """Chooses the brightness by an image, so that few of its pixels are black or white.

        Args:
            image: (C, H, W) float in [0, 1].
            bands: The bands to show; None: the first three, or the first of two.
        """
        default = (1, 2, 3) if len(image) >= 3 else (1,)
        chosen = tuple(bands) if bands and max(bands) <= len(image) else default
        seen = image[[band - 1 for band in chosen]]
        low, high = (float(np.quantile(seen, share)) for share in _BRIGHTNESS)
        return cls(chosen, len(image), low, high if high > low else low + 1)

    def picture(self, image: np.ndarray) -> np.ndarray:
        """Returns an image (C, H, W) as uint8 (H, W, 3)."""
        seen = (image[[band - 1 for band in self.bands]] - self.low) / (self.high - self.low)
        seen = np.broadcast_to(seen.clip(0, 1), (3, *image.shape[1:]))
        return np.ascontiguousarray(np.round(seen * 255).astype(np.uint8).transpose(1, 2, 0))

    @property
    def text(self) -> str:
        """Names the bands and the brightness, for below the picture."""
        numbers = ", ".join(map(str, self.bands))
        is_colour = len(self.bands) > 1
        what = f"band{'s' if is_colour else ''} {numbers} of {self.num_band}"
        what += " as red, green, blue" if is_colour else ""
        return f"{what}; intensities from {self.low:.3f} (black) to {self.high:.3f} (white)"


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
        shown: How bands are shown; None for grey and RGB images.
        bands: All bands by method and of GT, (C, H, W) float32 in [0, 1]; empty for grey and RGB.
    """

    dataset: str
    key: str
    gt: np.ndarray
    lq: np.ndarray | None
    results: dict[str, np.ndarray]
    captions: dict[str, str]
    region: Region
    shown: Shown | None = None
    bands: dict[str, np.ndarray] = field(default_factory=dict)

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

        A map is the absolute error averaged over the channels, over all bands if there are others
        than those shown, (H, W) float32 in 8-bit levels. The scale is the same for all methods; at
        most 0.5 % of a map's pixels exceed it.
        """
        if self.bands:
            gt = self.bands["GT"]
            found = {name: self.bands[name] for name in self.results}
            maps = {name: 255 * np.abs(image - gt).mean(0) for name, image in found.items()}
        else:
            gt = self.gt.astype(np.float32)
            maps = {name: np.abs(image - gt).mean(-1) for name, image in self.results.items()}
        highest = [float(np.quantile(errors, _ERROR_QUANTILE)) for errors in maps.values()]
        # Differences of several bands of 16 bits may be far below an 8-bit level.
        return maps, max([0.01 if self.bands else 1.0, *highest])

    @property
    def error_text(self) -> str:
        """Names what error maps show."""
        return (
            f"mean over all {self.shown.num_band} bands" if self.shown else "mean over the channels"
        )


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
                slices[method] = np.stack([read_shown(p, picture.shown)[row] for p in paths])
        if slices:
            originals = scores.store.image_folder(picture.dataset)
            paths = [originals / f"{image_stem(key)}_gt.png" for key in keys]
            truth = [read_shown(path, picture.shown)[row] for path in paths]
            slices["GT"] = np.stack(truth)
            profiles.append(Profile(picture.dataset, clip, picture.gt, row, slices))
    return profiles


def read_shown(path: Path, shown: Shown | None = None) -> np.ndarray:
    """Reads an image for display: uint8 (H, W, 3); a single channel is repeated.

    Args:
        path: The picture; with ``shown``, the bands beside it are read instead, if they are there.
        shown: How bands are shown.
    """
    if shown is not None and (bands := _read_bands(path)) is not None:
        return shown.picture(bands)
    from srtoolbox.data.files.reader import read_image  # imports torch; many studies keep no images

    image = read_image(path)
    if image.dtype != np.uint8:
        white = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1
        image = np.round(image * (255 / white)).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(image, (3, *image.shape[1:])).transpose(1, 2, 0))


def _read_bands(picture: Path) -> np.ndarray | None:
    """Reads all bands of a stored image, (C, H, W) float32 in [0, 1]; None for grey and RGB.

    Raises:
        UserError: if the file is damaged.
    """
    path = picture.with_suffix(".tif")
    if not path.exists():
        return None
    import tifffile  # slow to import, and rarely needed

    try:
        pixels = tifffile.imread(path)
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{path}: damaged ({reason}); remove it and run the study again") from error
    return pixels.transpose(2, 0, 1).astype(np.float32) / np.iinfo(pixels.dtype).max


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
    gt_path, lq_path = originals / f"{stem}_gt.png", originals / f"{stem}_lq.png"
    shown, bands = None, {}
    if (truth := _read_bands(gt_path)) is not None:
        shown, bands = Shown.of(truth, scores.card.rgb_bands), {"GT": truth}
    gt = read_shown(gt_path, shown)
    lq = None
    if lq_path.exists():
        lq = read_shown(lq_path, shown)
        lq = cv2.resize(lq, gt.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    results, captions = {}, {}
    for method, entries in scores.entries.items():
        path = _result_folder(scores, method, dataset) / f"{stem}.png"
        if not path.exists() or (image := read_shown(path, shown)).shape != gt.shape:
            continue
        if truth is not None:
            found = _read_bands(path)
            if found is None or found.shape != truth.shape:
                continue
            bands[method] = found
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
    return Picture(dataset, key, gt, lq, results, captions, region, shown, bands)


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
