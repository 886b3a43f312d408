"""Converts sensor values of 16-bit files, which may use fewer bits, and floats of any range."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from srtoolbox.data.files.image_info import ReadOptions
from srtoolbox.data.files.reader import image_info
from srtoolbox.errors import UserError

_MIN, _MAX = -32768, 65535
_DARK = _MAX // 8  # a set that never exceeds this has probably another white level
_CONVERT = ReadOptions(convert=True)
_SIDE = 256  # of the windows of an image that is not read whole
_NUM_SAMPLE = 16  # files that are decoded to find the largest value


class Levels:
    """Black and white level of files of 16 bits, and of floats that have another range than [0, 1].

    Args:
        white_level: Value that becomes 1, or a list with a value for each band; None: the largest
            value of the type: 65535, for int16 32767, for floats 1.
        black_level: Value that becomes 0, or a list.
        scale_floats: Also applies to floats.

    Raises:
        UserError: if they are beyond 16 bits (floats may be beyond), lists differ in length, or
            black is not below white.
    """

    def __init__(
        self,
        white_level: float | Sequence[float] | None = None,
        black_level: float | Sequence[float] = 0,
        scale_floats: bool = False,
    ) -> None:
        self.scale_floats = scale_floats
        self._white, self.black = _level(white_level), _level(black_level)
        self.white = (1 if scale_floats else _MAX) if self._white is None else self._white
        self.changed = scale_floats or self._white is not None or self.black != 0
        lengths = {len(level) for level in (self.white, self.black) if isinstance(level, tuple)}
        lowest, highest = (-np.inf, np.inf) if scale_floats else (_MIN, _MAX)
        white, black = np.asarray(self.white), np.asarray(self.black)
        if (
            0 in lengths
            or len(lengths) > 1
            or not (np.isfinite(white).all() and np.isfinite(black).all())
            or not (lowest <= black.min() and (black < white).all() and white.max() <= highest)
        ):
            wanted = "numbers, or a list with a number for each band, with black_level below white"
            if not scale_floats:
                wanted = f"0 <= black_level < white_level <= {_MAX} (int16: black_level >= {_MIN})"
            raise UserError(
                f"white_level {_shown(self.white)} and black_level {_shown(self.black)}: expected "
                f"{wanted}"
            )

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Returns stored values as float32 in [0, 1] if a level is given.

        Args:
            pixels: (…, C, H, W). uint16 and int16 are converted, with ``scale_floats`` also floats;
                other pixels are returned unchanged.

        Raises:
            UserError: if there is a list of levels, and its length is not C.
        """
        if not self.changed or not self._applies(pixels.dtype):
            return pixels
        black, white = self._of_bands(pixels)
        span = np.float32(white - black)
        return ((pixels.astype(np.float32) - black) / span).clip(0, 1)

    def invert(self, pixels: np.ndarray, dtype: npt.DTypeLike) -> np.ndarray:
        """Returns intensities as a file stores them: the inverse of ``apply``.

        Args:
            pixels: (…, C, H, W) float in [0, 1].
            dtype: Type to store. Integers are rounded and clipped to the range of the type; levels
                apply to uint16 and int16, and with ``scale_floats`` to floats.
        """
        dtype = np.dtype(dtype)
        is_float = dtype.kind == "f"
        values = np.asarray(pixels, np.float64)
        if self._applies(dtype):
            black, white = self._of_bands(pixels, dtype)
            values = values * (np.float64(white) - black) + black
        elif not is_float:
            values = values * np.iinfo(dtype).max
        if is_float:
            return values.astype(dtype)
        limits = np.iinfo(dtype)
        return np.floor(values + 0.5).clip(limits.min, limits.max).astype(dtype)

    def _applies(self, dtype: np.dtype) -> bool:
        return dtype in (np.uint16, np.int16) or (self.scale_floats and dtype.kind == "f")

    def _of_bands(self, pixels: np.ndarray, dtype: np.dtype | None = None) -> tuple[Any, Any]:
        """Returns black and white level as numbers, or as float32 (C, 1, 1)."""
        dtype = pixels.dtype if dtype is None else dtype
        white = self._white
        if white is None:
            white = 1 if dtype.kind == "f" else np.iinfo(dtype).max
        return self._shaped(self.black, pixels), self._shaped(white, pixels)

    def _shaped(self, level: float | tuple[float, ...], pixels: np.ndarray) -> Any:
        if not isinstance(level, tuple):
            return level
        if len(level) != pixels.shape[-3]:
            raise UserError(
                f"white_level {_shown(self.white)} and black_level {_shown(self.black)}: "
                f"{len(level)} numbers for {pixels.shape[-3]} bands; give one number, or one for "
                "each band"
            )
        return np.asarray(level, np.float32)[:, None, None]


def _level(level: float | Sequence[float] | None) -> Any:
    return tuple(level) if isinstance(level, Sequence) else level


def _shown(level: float | tuple[float, ...]) -> str:
    return f"[{', '.join(map(str, level))}]" if isinstance(level, tuple) else str(level)


def dark_warning(
    largest: int, name: str, dtype: Literal["uint16", "int16"] = "uint16"
) -> str | None:
    """Returns a warning about 16-bit files whose largest value is small; None if it is not.

    Args:
        largest: Largest value of the files.
        name: Name of the dataset or folder.
        dtype: Type of the files.
    """
    if not 0 < largest <= np.iinfo(dtype).max // 8:
        return None
    bits = largest.bit_length()
    return (
        f"{_range_text(largest, name, dtype)}; "
        f"PSNR will be too high. If they have {bits} bits, set white_level: {2**bits - 1}"
    )


def check_levels(
    paths: Sequence[Path],
    read: Callable[[Path], np.ndarray],
    name: str,
    options: ReadOptions = _CONVERT,
) -> str | None:
    """Looks at some files of a set; returns a warning if they have 16 bits and all are dark.

    Args:
        paths: The files; at most 16 of them, evenly spaced, are looked at.
        read: Returns the pixels of a file; of a ``WindowedImage`` a few windows are looked at.
        name: As of ``dark_warning``.
        options: How ``read`` reads the files.
    """
    for dtype in ("uint16", "int16"):
        largest = _largest(paths, read, options, dtype)
        if warning := dark_warning(largest or 0, name, dtype):
            return warning
    return None


def check_levels_of_pairs(
    results: Sequence[Path],
    truths: Sequence[Path],
    read: Callable[[Path], np.ndarray],
    names: tuple[str, str],
    options: ReadOptions = _CONVERT,
) -> str | None:
    """Looks at some results and their ground truth; returns a warning if a side is dark uint16.

    Args:
        results: The results; at most 16 of them are looked at.
        truths: Their ground truth; as many are looked at.
        read: Returns the pixels of a file.
        names: Names of the folders of results and ground truth; equal if there is none.
        options: How ``read`` reads the files.
    """
    largest = _largest(results, read, options), _largest(truths, read, options)
    dark = [value is not None and value <= _DARK for value in largest]
    values = [value for value in largest if value is not None and value <= _DARK]
    if not any(values):
        return None
    dark_names = [name for name, is_dark in zip(names, dark, strict=True) if is_dark]
    name = " and ".join(dict.fromkeys(dark_names))
    bits = max(values).bit_length()
    advice = f"If they have {bits} bits, give --white-level {2**bits - 1}"
    text = _range_text(max(values), name)
    if all(dark):
        effect = "PSNR will be too high" if names[0] != names[1] else "scores will be wrong"
        return f"{text}; {effect}. {advice}"
    other = names[dark.index(False)]
    if None in largest:
        return f"{text}, but {other} has no uint16 files; PSNR will be wrong. {advice}"
    return (
        f"{text}, but {other} uses more of it; PSNR will be wrong. Write both with the same range "
        "of values"
    )


def _largest(
    paths: Sequence[Path],
    read: Callable[[Path], np.ndarray],
    options: ReadOptions,
    dtype: str = "uint16",
) -> int | None:
    """Returns the largest value of the files of a type among at most 16; None if there are none."""
    chosen = paths[:: max(1, -(-len(paths) // _NUM_SAMPLE))]
    deep = [path for path in chosen if image_info(path, options).dtype == dtype]
    return max((_largest_value(read(path), options.num_extra) for path in deep), default=None)


def _largest_value(pixels: np.ndarray, num_extra: int) -> int:
    """Returns the largest value of the bands; of an image that is read by windows, of 9 windows."""
    channels, height, width = pixels.shape
    bands = slice(channels - num_extra)
    if isinstance(pixels, np.ndarray):
        return int(pixels[bands].max())
    side = _SIDE
    return max(
        int(pixels[bands, top : top + side, left : left + side].max())
        for top in {max(0, (height - side) * part // 2) for part in range(3)}
        for left in {max(0, (width - side) * part // 2) for part in range(3)}
    )


def _range_text(largest: int, name: str, dtype: str = "uint16") -> str:
    part = largest / np.iinfo(dtype).max
    return f"{name}: {dtype} pixels of at most {largest}, {part:.1%} of their range"
