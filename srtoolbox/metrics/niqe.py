"""NIQE, the naturalness of an image without a ground truth.

A. Mittal, R. Soundararajan, A. C. Bovik, "Making a 'completely blind' image quality analyzer",
SPL 2013. Borders, rounding and single precision are those of BasicSR's implementation, whose values
papers on super-resolution report.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.ndimage import correlate1d, maximum_filter
from scipy.special import gamma
from torch import Tensor

from srtoolbox.errors import UserError
from srtoolbox.metrics.base import NoReferenceMetric, check_bands, unsuited_colours
from srtoolbox.metrics.protocol import Protocol
from srtoolbox.registry import METRIC_REGISTRY
from srtoolbox.utils.files import user_path

VARIABLE = "SRTOOLBOX_NIQE_MODEL"
"""The environment variable that names a file with another model of natural images."""

BLOCK = 96  # pixels per side
NUM_FEATURE = 36

_MIN_BLOCKS = 2  # a covariance needs two
_OWN_MODEL = Path(__file__).with_name("niqe_model.npz")
_KEYS = (("mu_pris_param", "cov_pris_param"), ("mu", "cov"))
_PUBLISHED = "f6284a2b53fd"  # content of BasicSR's niqe_pris_params.npz
_DIGITS = 12  # of a hash

_RADIUS, _SIGMA = 3, 7 / 6  # of the Gaussian window
_WINDOW = np.exp(-(np.arange(-_RADIUS, _RADIUS + 1) ** 2) / (2 * _SIGMA**2))
_WINDOW /= _WINDOW.sum()
# Weights of MATLAB's bicubic with antialiasing for half the size: Keys' kernel at 1.75, 1.25, …
_HALVING = np.array([-3, -9, 29, 111, 111, 29, -9, -3]) / 256
_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))
# A block's features depend on pixels up to this distance: the window at half size, and the kernel
# that halves the image.
_REACH = 2 * _RADIUS + 3

_SHAPES = np.arange(0.2, 10.001, 0.001)  # candidates for the shape of a distribution
_RATIOS = gamma(2 / _SHAPES) ** 2 / (gamma(1 / _SHAPES) * gamma(3 / _SHAPES))  # increasing


class Model(NamedTuple):
    """A Gaussian model of the features of natural images.

    Attributes:
        mean: (36,), float64.
        covariance: (36, 36), float64.
        content: First 12 hex digits of the SHA-256 of both.
        text: Origin of the model, and the first 12 hex digits of the file's SHA-256.
        kind: Words for a column of a table; empty for the published model.
    """

    mean: np.ndarray
    covariance: np.ndarray
    content: str
    text: str
    kind: str


@METRIC_REGISTRY.register()
class NIQE(NoReferenceMetric):
    """Distance between statistics of the result and of natural images; needs no ground truth.

    From 0 to infinity, by the published model about 2 to 6 for photographs; lower is better; no
    unit. It is computed from the luma of BT.601 (of grey images: their values), rounded if the
    protocol rounds images, in blocks of 96×96 pixels; the protocol crops the image first. An image
    needs two blocks, such as 96×192 pixels. A result without any structure has no value (NaN). With
    a mask, blocks with a masked pixel in or near them are left out. Mittal et al., SPL 2013.

    Values of different models of natural images cannot be compared.

    Args:
        model: File with the model: BasicSR's ``niqe_pris_params.npz``, which has the published one,
            or another .npz with a mean ``mu`` (36,) and a covariance ``cov`` (36, 36) of features.
            None: the file that the environment variable ``SRTOOLBOX_NIQE_MODEL`` names, otherwise
            srtoolbox's own model, which has other values than the published one.
        bands: Numbers, from 1, of the bands that are red, green and blue, or of one band that is
            grey, for images of other than one or three bands.

    Raises:
        UserError: if the file is missing or has no such model, or if ``bands`` are not one or three
            different numbers.
    """

    higher_is_better = False
    digits = 3
    paper = "Mittal et al., SPL 2013"
    takes_mask = True

    def __init__(self, model: Path | None = None, bands: Sequence[int] | None = None) -> None:
        self.bands = check_bands("NIQE", bands)
        if bands is not None and len(bands) not in (1, 3):
            raise UserError(f"NIQE: bands {list(bands)}: expected one, or three (red, green, blue)")
        self.model = load_model(model)

    @property
    def kind(self) -> str:
        return self.model.kind

    def identity(self, options: Mapping[str, Any]) -> dict[str, Any]:
        return {**options, "model": self.model.content}

    def source(self) -> dict[str, str]:
        return {"text": self.model.text, "content": self.model.content}

    def unsuited(self, channels: int, protocol: Protocol) -> str | None:
        return unsuited_colours(self, channels) or super().unsuited(channels, protocol)

    def min_size(self, protocol: Protocol) -> int:
        return BLOCK

    def fits(self, height: int, width: int, protocol: Protocol) -> bool:
        is_whole = super().fits(height, width, protocol)
        return is_whole and (height // BLOCK) * (width // BLOCK) >= _MIN_BLOCKS

    def size_text(self, protocol: Protocol) -> str:
        return f"{BLOCK}×{BLOCK * _MIN_BLOCKS}"

    def score(
        self, sr: Tensor, protocol: Protocol, scale: int, mask: Tensor | None = None
    ) -> float:
        if len(sr) not in (1, 3):
            raise UserError(f"NIQE: {self.unsuited(len(sr), protocol)}")
        image = protocol.prepare_rgb(sr, scale)
        height, width = image.shape[1:]
        if not self.fits(height, width, protocol):
            raise UserError(
                f"NIQE: needs {self.size_text(protocol)} pixels, but protocol '{protocol.name}' "
                f"leaves {height}×{width} of an image of {sr.shape[1]}×{sr.shape[2]}"
            )
        luma = image[0] if len(sr) == 1 else protocol.luma(image)[0]
        features = block_features((luma.round() if protocol.round_8bit else luma).cpu().numpy())
        if mask is not None:
            features = features[_whole_blocks(mask[0].cpu().numpy())]
            if len(features) < _MIN_BLOCKS:
                raise self._nothing_left(f"{_MIN_BLOCKS} blocks of {BLOCK}×{BLOCK} pixels")
        return distance(features, self.model)


def block_features(luma: np.ndarray) -> np.ndarray:
    """Returns the features of all blocks of an image.

    Args:
        luma: (H, W) in [0, 255]. Rows and columns beyond the last whole block do not count.

    Returns:
        (n, 36), float64, block by block in rows; 18 features of the image and 18 of its half size.
        NaN for blocks without structure.
    """
    rows, columns = (length // BLOCK for length in luma.shape)
    image = luma[: rows * BLOCK, : columns * BLOCK].astype(np.float32)
    found = []
    for side in (BLOCK, BLOCK // 2):
        if side < BLOCK:
            image = _half(image / 255) * 255
        normalized, _ = normalize(image)
        found.append(_features(as_blocks(normalized, side)))
    return np.concatenate(found, axis=1)


def normalize(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns an image (H, W) minus its local mean, divided by its local deviation plus 1.

    The second result is the local deviation. All are float32; the values are in [0, 255].
    """
    mean = _local_mean(image)
    deviation = np.sqrt(np.abs(_local_mean(np.square(image)) - np.square(mean)))
    return (image - mean) / (deviation + 1), deviation


def as_blocks(image: np.ndarray, side: int) -> np.ndarray:
    """Cuts (H, W), whose sides are multiples of ``side``, into blocks (n, side, side)."""
    rows, columns = (length // side for length in image.shape)
    return image.reshape(rows, side, columns, side).swapaxes(1, 2).reshape(-1, side, side)


def distance(features: np.ndarray, model: Model) -> float:
    """Returns the distance between a model and the features (n, 36) of an image's blocks.

    It is NaN if fewer than two blocks have structure.
    """
    whole = features[~np.isnan(features).any(axis=1)]
    if len(whole) < _MIN_BLOCKS:
        return float("nan")
    difference = np.nanmean(features, axis=0) - model.mean
    covariance = (model.covariance + np.cov(whole, rowvar=False)) / 2
    return float(np.sqrt(difference @ np.linalg.pinv(covariance) @ difference))


def load_model(file: Path | None = None) -> Model:
    """Loads a model of natural images.

    Args:
        file: The .npz file. None: the file that ``SRTOOLBOX_NIQE_MODEL`` names, otherwise the
            package's own.

    Raises:
        UserError: if the file cannot be read, or has no such model.
    """
    variable = os.environ.get(VARIABLE) if file is None else None
    user = f"NIQE: {VARIABLE}" if variable else "NIQE: model"
    path = user_path(variable or file or _OWN_MODEL)
    try:
        status = path.stat()
        return _load_model(user, path, (status.st_mtime_ns, status.st_size))
    except OSError as error:
        raise UserError(f"{user}: {path}: cannot be read ({error.strerror or error})") from error


@lru_cache(maxsize=8)
def _load_model(user: str, path: Path, _: object) -> Model:
    data = path.read_bytes()
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = {key: arrays[key] for key in arrays.files}
    except (ValueError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise UserError(f"{user}: {path}: is no .npz file of numbers") from error
    names = next((names for names in _KEYS if all(name in found for name in names)), None)
    if names is None:
        wanted = " or ".join(", ".join(names) for names in _KEYS)
        raise UserError(f"{user}: {path}: lacks {wanted}; it has {', '.join(found) or 'nothing'}")
    shapes = ((NUM_FEATURE,), (NUM_FEATURE, NUM_FEATURE))
    mean, covariance = (
        _checked(f"{user}: {path}: {name}", found[name], shape)
        for name, shape in zip(names, shapes, strict=True)
    )
    content = hashlib.sha256(mean.tobytes() + covariance.tobytes()).hexdigest()[:_DIGITS]
    digits = f"SHA-256 {hashlib.sha256(data).hexdigest()[:_DIGITS]}"
    if content == _PUBLISHED:
        text, kind = f"the published model ({path.name}, {digits})", ""
    elif path.samefile(_OWN_MODEL):
        text = (
            f"srtoolbox's own model ({digits}); its values cannot be compared with those of the "
            "published model"
        )
        kind = "srtoolbox model"
    else:
        text, kind = f"{path.name}, which differs from the published model, {digits}", path.stem
    return Model(mean, covariance, content, text, kind)


def _checked(name: str, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Returns an array as float64 with a shape, without axes of length 1 before it."""
    if array.dtype.kind == "f" and array.shape[-len(shape) :] == shape:
        array = array.reshape(-1, *shape)
        if len(array) == 1 and np.isfinite(array).all():
            return np.ascontiguousarray(array[0], dtype="<f8")
    size = "×".join(map(str, shape))
    raise UserError(
        f"{name} has {array.dtype} values of shape {array.shape}; expected {size} finite floats"
    )


def _local_mean(image: np.ndarray) -> np.ndarray:
    for axis in (0, 1):
        image = correlate1d(image, _WINDOW, axis, output=np.float64, mode="nearest")
    return image.astype(np.float32)


def _half(image: np.ndarray) -> np.ndarray:
    """Returns an image (H, W) of even sides at half the size, float32."""
    for axis in (0, 1):
        image = correlate1d(image, _HALVING, axis, np.float64, mode="reflect", origin=-1)
    return image[::2, ::2].astype(np.float32)


def _features(blocks: np.ndarray) -> np.ndarray:
    """Returns the 18 features (n, 18) of normalized blocks (n, side, side) at one scale."""
    shape, left, right = _fit(blocks)
    found = [shape, (left + right) / 2]
    for shift in _NEIGHBOURS:
        shape, left, right = _fit(blocks * np.roll(blocks, shift, axis=(1, 2)))
        found += [shape, (right - left) * (gamma(2 / shape) / gamma(1 / shape)), left, right]
    return np.stack(found, axis=1)


def _fit(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fits an asymmetric generalized Gaussian distribution to the values of each block.

    It is done by moments (Lasmar, Stitou, Berthoumieu, ICIP 2009).

    Returns:
        Shape, left and right scale, (n,) each; the scales are NaN for blocks of zeros.
    """
    values = blocks.reshape(len(blocks), -1).astype(np.float64)
    squares = np.square(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        deviations = [
            np.sqrt(np.where(side, squares, 0).sum(1) / side.sum(1))
            for side in (values < 0, values > 0)
        ]
        ratio = deviations[0] / deviations[1]
        moments = np.abs(values).mean(1) ** 2 / squares.mean(1)
        moments *= (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    index = np.searchsorted(_RATIOS, moments).clip(1, len(_RATIOS) - 1)
    index -= moments - _RATIOS[index - 1] <= _RATIOS[index] - moments
    shape = _SHAPES[np.where(np.isnan(moments), 0, index)]
    factor = np.sqrt(gamma(1 / shape) / gamma(3 / shape))
    return shape, deviations[0] * factor, deviations[1] * factor


def _whole_blocks(mask: np.ndarray) -> np.ndarray:
    """Returns which blocks have no masked pixel in them or within reach of their features."""
    rows, columns = (length // BLOCK for length in mask.shape)
    masked = ~mask[: rows * BLOCK, : columns * BLOCK]
    masked = maximum_filter(masked, 2 * _REACH + 1, mode="constant", cval=0)
    return np.logical_not(as_blocks(masked, BLOCK).any(axis=(1, 2)))
