"""Converts sensor values of uint16 files, which may use less than their 16 bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from srtoolbox.data.files.reader import image_info
from srtoolbox.errors import UserError

_MAX = 65535
_DARK = _MAX // 8  # a set that never exceeds this has probably another white level
_NUM_SAMPLE = 16  # files that are decoded to find the largest value


class Levels:
    """Black and white level of uint16 files.

    Args:
        white_level: Value that becomes 1; None: 65535.
        black_level: Value that becomes 0.

    Raises:
        UserError: if they are beyond 16 bits, or black is not below white.
    """

    def __init__(self, white_level: int | None = None, black_level: int = 0) -> None:
        self.changed = white_level is not None or black_level != 0
        self.white, self.black = _MAX if white_level is None else white_level, black_level
        if not 0 <= self.black < self.white <= _MAX:
            raise UserError(
                f"white_level {self.white} and black_level {self.black}: expected "
                f"0 <= black_level < white_level <= {_MAX}"
            )

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Returns uint16 as float32 in [0, 1], if a level is given; other pixels unchanged."""
        if not self.changed or pixels.dtype != np.uint16:
            return pixels
        span = np.float32(self.white - self.black)
        return ((pixels.astype(np.float32) - self.black) / span).clip(0, 1)


def dark_warning(largest: int, name: str) -> str | None:
    """Returns a warning about uint16 files whose largest value is small; None if it is not.

    Args:
        largest: Largest value of the files.
        name: Name of the dataset or folder.
    """
    if not 0 < largest <= _DARK:
        return None
    bits = largest.bit_length()
    return (
        f"{_range_text(largest, name)}; "
        f"PSNR will be too high. If they have {bits} bits, set white_level: {2**bits - 1}"
    )


def check_levels(
    paths: Sequence[Path], read: Callable[[Path], np.ndarray], name: str
) -> str | None:
    """Looks at some files of a set; returns a warning if they are uint16 and all dark.

    Args:
        paths: The files; at most 16 of them, evenly spaced, are looked at.
        read: Returns the pixels of a file.
        name: As of ``dark_warning``.
    """
    return dark_warning(_largest(paths, read) or 0, name)


def check_levels_of_pairs(
    results: Sequence[Path],
    truths: Sequence[Path],
    read: Callable[[Path], np.ndarray],
    names: tuple[str, str],
) -> str | None:
    """Looks at some results and their ground truth; returns a warning if a side is dark uint16.

    Args:
        results: The results; at most 16 of them are looked at.
        truths: Their ground truth; as many are looked at.
        read: Returns the pixels of a file.
        names: Names of the folders of results and ground truth.
    """
    largest = _largest(results, read), _largest(truths, read)
    dark = [value is not None and value <= _DARK for value in largest]
    values = [value for value in largest if value is not None and value <= _DARK]
    if not any(values):
        return None
    name = " and ".join(name for name, is_dark in zip(names, dark, strict=True) if is_dark)
    bits = max(values).bit_length()
    advice = f"If they have {bits} bits, give --white-level {2**bits - 1}"
    text = _range_text(max(values), name)
    if all(dark):
        return f"{text}; PSNR will be too high. {advice}"
    other = names[dark.index(False)]
    if None in largest:
        return f"{text}, but {other} has no uint16 files; PSNR will be wrong. {advice}"
    return (
        f"{text}, but {other} uses more of it; PSNR will be wrong. Write both with the same range "
        "of values"
    )


def _largest(paths: Sequence[Path], read: Callable[[Path], np.ndarray]) -> int | None:
    """Returns the largest value of the uint16 files among at most 16; None if there are none."""
    chosen = paths[:: max(1, -(-len(paths) // _NUM_SAMPLE))]
    deep = [path for path in chosen if image_info(path, convert=True).dtype == "uint16"]
    return max((int(read(path).max()) for path in deep), default=None)


def _range_text(largest: int, name: str) -> str:
    return f"{name}: uint16 pixels of at most {largest}, {largest / _MAX:.1%} of their range"
