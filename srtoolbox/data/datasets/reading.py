"""How the files of a dataset are read: bands, values that become 0 and 1, and missing pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from srtoolbox.data.files.find import Item
from srtoolbox.data.files.image_info import ImageInfo, ReadOptions
from srtoolbox.data.files.levels import Levels
from srtoolbox.data.files.reader import image_info
from srtoolbox.data.layouts import Layout
from srtoolbox.errors import UserError
from srtoolbox.utils.console import warn_once
from srtoolbox.utils.cpu import map_threads

Convert = Literal["rgb"]
Level = int | float | Sequence[int | float]

_MAY_STATE_NODATA = frozenset({".tif", ".tiff"})
_MAY_BE_FLOAT = frozenset({".tif", ".tiff", ".npy"})


@dataclass(frozen=True)
class Reading:
    """The options that decide how the files of a dataset are read; they are those of ``Clips``.

    Args:
        convert: ``"rgb"`` or None.
        channels: Bands of an LR frame; None: as many as ``bands``, or 3.
        bands: Bands of the files that are used.
        bands_gt: Bands of the ground truth that are used; None: as ``bands``.
        nodata: Value of missing pixels; None: the value that GeoTIFF files state.
        white_level: Value that becomes 1.
        black_level: Value that becomes 0.
        scale_floats: Levels also apply to floats.

    Raises:
        UserError: if the options contradict each other.
    """

    convert: Convert | None = None
    channels: int | None = None
    bands: Sequence[int] | None = None
    bands_gt: Sequence[int] | None = None
    nodata: float | None = None
    white_level: Level | None = None
    black_level: Level = 0
    scale_floats: bool = False

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Reading:
        """Returns the reading that the options of a dataset describe; missing ones are default."""
        names = [field.name for field in fields(cls) if field.name in options]
        return cls(**{name: options[name] for name in names})

    def __post_init__(self) -> None:
        if self.channels is not None and self.channels < 1:
            raise UserError(f"channels must be at least 1, got {self.channels}")
        if self.bands is not None and self.channels not in (None, len(self.bands)):
            raise UserError(
                f"bands lists {len(self.bands)} bands, but channels is {self.channels} (null: as "
                f"many as the network takes); list {self.channels} bands, or change channels"
            )
        if self.nodata is not None and not math.isfinite(self.nodata):
            raise UserError(
                f"nodata must be a finite number, got {self.nodata:g}; NaN counts as missing as "
                "soon as nodata is set: give a value that no pixel has, such as -9999"
            )
        for name in ("white_level", "black_level"):
            level = getattr(self, name)
            if not isinstance(level, Sequence):
                continue
            for side, count in (("", self.num_band), (" of the ground truth", self.num_band_gt)):
                if len(level) != count:
                    raise UserError(
                        f"{name} lists {len(level)} numbers, but {count} bands{side} are used; "
                        "give one number, or one for each band"
                    )

    @property
    def num_band(self) -> int:
        """Bands of an LR frame."""
        return len(self.bands) if self.bands is not None else self.channels or 3

    @property
    def num_band_gt(self) -> int:
        """Bands of the ground truth."""
        return self.num_band if self.bands_gt is None else len(self.bands_gt)

    def in_layout(self, layout: Layout) -> Reading:
        """Returns the reading with the levels and bands of a layout where no option states them."""
        reading = self
        stated = self.white_level is not None or self.black_level != 0
        if not stated and not layout.raw and layout.white_level is not None:
            levels = {"white_level": layout.white_level, "black_level": layout.black_level}
            reading = replace(reading, **levels)
        if self.bands is None and self.bands_gt is None and layout.bands is not None:
            reading = replace(reading, bands=layout.bands, bands_gt=layout.bands_gt)
        return reading

    @cached_property
    def levels(self) -> Levels:
        """The values that become 0 and 1."""
        return Levels(self.white_level, self.black_level, self.scale_floats)

    def check_raw(self, layout: Layout) -> None:
        """Raises a ``UserError`` for options that a layout of RAW files does not have."""
        if self.convert is not None:
            raise UserError(f"layout '{layout.name}' is RAW; remove convert: rgb")
        if self.levels.changed:
            raise UserError(
                f"layout '{layout.name}' has its own white_level and black_level; remove the "
                "options"
            )
        for name in ("bands", "bands_gt", "nodata"):
            if getattr(self, name) is not None:
                raise UserError(f"layout '{layout.name}' is RAW; remove {name}")

    def options(self, layout: Layout, items: Sequence[Item]) -> tuple[ReadOptions, ReadOptions]:
        """Returns how ground truth and LR are read.

        GeoTIFF files state a value of missing pixels in their headers, which are read here.

        Args:
            layout: Layout of the files.
            items: The files.
        """
        plain = ReadOptions(convert=self.convert == "rgb")
        if layout.raw:
            return plain, replace(plain, raw=True)
        any_range = self.levels.changed
        nodata: float | Literal["file"] | None = self.nodata
        if nodata is None or (any_range and not self.scale_floats):
            for path, info in self._headers(items, any_range):
                if self.nodata is None and info.nodata is not None:
                    nodata = "file"
                if info.dtype == "float32" and any_range and not self.scale_floats:
                    any_range = False  # levels do not apply to floats, which must be in [0, 1]
                    self._warn_of_floats(path, layout)
        shared = replace(plain, nodata=nodata, any_range=any_range)
        lq = _with_bands(shared, self.bands, self.num_band)
        if self.bands_gt is None:
            return lq, lq
        return _with_bands(shared, self.bands_gt, self.num_band_gt), lq

    def _warn_of_floats(self, path: Path, layout: Layout) -> None:
        """Says that the levels do not apply to a float file, unless the layout states them."""
        given = {"white_level": self.white_level is not None, "black_level": self.black_level != 0}
        stated = {"white_level": layout.white_level, "black_level": layout.black_level or 0}
        names = [name for name in given if given[name] and getattr(self, name) != stated[name]]
        if names:
            warn_once(
                f"{path}: {' and '.join(names)} does not apply to float files, which must be in "
                "[0, 1]; set scale_floats: true (prepare: --scale-floats) to apply it to them"
            )

    def _headers(self, items: Sequence[Item], any_range: bool) -> Iterator[tuple[Path, ImageInfo]]:
        """Yields path and header of files that may be float or state a value of missing pixels."""
        suffixes = _MAY_BE_FLOAT if any_range else _MAY_STATE_NODATA
        paths = {
            path: side
            for item in items
            for side, files in (("gt", item.gt), ("lq", item.lq))
            for path in files
            if path.suffix.lower() in suffixes
        }
        base = ReadOptions(convert=self.convert == "rgb", any_range=True)
        lq = _with_bands(base, self.bands, self.num_band)
        gt = lq
        if self.bands_gt is not None:
            gt = _with_bands(base, self.bands_gt, self.num_band_gt)

        def read(path: Path) -> tuple[Path, ImageInfo] | None:
            try:
                return path, image_info(path, gt if paths[path] == "gt" else lq)
            except (UserError, OSError):
                return None  # the check of the files reports it

        return filter(None, map_threads(read, paths))


def _with_bands(options: ReadOptions, bands: Sequence[int] | None, count: int) -> ReadOptions:
    if bands is not None:
        return replace(options, bands=tuple(bands))
    # Grey files fit three channels, too: they are repeated.
    return replace(options, channels=count)


def for_check(options: ReadOptions) -> ReadOptions:
    """States three channels, which changes the advice for files with others, but no pixel."""
    is_plain = options.channels is None and options.bands is None
    return replace(options, channels=3) if is_plain and not options.raw else options
