"""Facts about the pixels of the training data, which a weight file contains beside its arch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from srtoolbox.data.base import TrainDataset, dataset_info
from srtoolbox.errors import UserError

Level = float | tuple[float, ...]


@dataclass(frozen=True)
class PixelFacts:
    """How the stored values of the training data became the network's input in [0, 1].

    Attributes:
        channels: Channels of a frame.
        bands: Numbers (from 1) of the bands of the files that became channels, in this order; None:
            all.
        white_level: Value that became 1, or one for each band; None: the largest value of the type.
        black_level: Value that became 0, or one for each band.
        scale_floats: Whether the levels also applied to floats.
    """

    channels: int = 3
    bands: tuple[int, ...] | None = None
    white_level: Level | None = None
    black_level: Level = 0
    scale_floats: bool = False

    @property
    def has_levels(self) -> bool:
        """Whether values become [0, 1] in another way than by the range of their type."""
        return self.white_level is not None or self.black_level != 0

    def applies_to(self, dtype: str) -> bool:
        """Returns whether the levels apply to files of a type."""
        if dtype.startswith("float"):
            return self.has_levels and self.scale_floats
        return self.has_levels and dtype in ("uint16", "int16")

    def range_of(self, dtype: str, place: int) -> tuple[float, float]:
        """Returns the values of channel ``place`` (from 0) that became 0 and 1."""
        white = self.white_level
        if white is None:
            white = 1.0 if dtype.startswith("float") else {"int16": 32767}.get(dtype, 65535)
        return _of_band(self.black_level, place), _of_band(white, place)

    def to_json(self) -> dict[str, Any]:
        """Returns the facts that differ from their defaults; empty if none does."""
        default = PixelFacts()
        found = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in found.items()
            if value != getattr(default, name)
        }

    def describe(self) -> str:
        """Returns all facts in one line."""
        parts = [f"{self.channels} channel{'s' * (self.channels > 1)}"]
        if self.bands is not None:
            parts.append(f"bands {', '.join(map(str, self.bands))} of the files")
        if self.has_levels:
            white = "largest value of the type" if self.white_level is None else self.white_level
            parts.append(f"white level {_text(white)}, black level {_text(self.black_level)}")
            parts.append("also of floats" if self.scale_floats else "of 16-bit integers")
        return "; ".join(parts)


def pixel_facts(spec: Mapping[str, Any] | None, dataset: TrainDataset | None) -> PixelFacts:
    """Returns the facts of a training dataset.

    Args:
        spec: Its options.
        dataset: The dataset itself; its ``levels`` count, which may be those of its layout. None:
            only the options are known.
    """
    options = dict(spec or {})
    bands = options.get("bands")
    channels = options.get("channels") or (len(bands) if bands else 3)
    white, black = options.get("white_level"), options.get("black_level", 0)
    scale_floats = bool(options.get("scale_floats", False))
    if dataset is not None:
        channels = dataset_info(dataset).channels
        levels: Any = getattr(dataset, "levels", None)
        if levels is not None and levels.changed:
            black, scale_floats = levels.black, bool(getattr(levels, "scale_floats", False))
            if white is not None or levels.white not in (1, 65535):  # not the largest of the type
                white = levels.white
    return facts_from(
        {
            "channels": channels,
            "bands": bands,
            "white_level": white,
            "black_level": black,
            "scale_floats": scale_floats and (white is not None or black != 0),
        }
    )


def facts_from(content: Any) -> PixelFacts:
    """Returns the facts of the entry ``pixels`` of a weight file.

    Raises:
        UserError: if it is damaged, or has facts that this version does not know.
    """
    if content is None:
        return PixelFacts()
    known = PixelFacts.__dataclass_fields__
    if not isinstance(content, Mapping) or not all(isinstance(name, str) for name in content):
        raise UserError("pixels: expected facts by name")
    if unknown := [name for name in content if name not in known]:
        raise UserError(
            f"pixels: unknown {', '.join(unknown)}; known are {', '.join(known)}; a later version "
            "of srtoolbox may have written the file"
        )
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list | tuple) else value
        for name, value in content.items()
    }
    facts = PixelFacts(**given)
    if fault := _fault(facts):
        raise UserError(f"pixels: {fault}")
    return facts


def _fault(facts: PixelFacts) -> str | None:
    if not _is_count(facts.channels):
        return f"channels must be an integer from 1 on, got {facts.channels!r}"
    if facts.bands is not None and (
        not isinstance(facts.bands, tuple)
        or not all(map(_is_count, facts.bands))
        or len(facts.bands) != facts.channels
    ):
        return f"bands must be {facts.channels} numbers from 1 on, got {facts.bands!r}"
    for name, level in (("white_level", facts.white_level), ("black_level", facts.black_level)):
        if level is None and name == "white_level":
            continue
        values = level if isinstance(level, tuple) else (level,)
        if not all(map(_is_number, values)) or (
            isinstance(level, tuple) and len(level) != facts.channels
        ):
            return f"{name} must be a number, or {facts.channels} numbers, got {level!r}"
    if not isinstance(facts.scale_floats, bool):
        return f"scale_floats must be true or false, got {facts.scale_floats!r}"
    for place in range(facts.channels):
        low, high = facts.range_of("uint16", place)
        if low >= high and facts.white_level is not None:
            return f"black_level {low:g} is not below white_level {high:g}"
    return None


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65536


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _of_band(level: Level, place: int) -> float:
    return float(level[place] if isinstance(level, tuple) else level)


def _text(level: Any) -> str:
    if isinstance(level, tuple):
        return f"[{', '.join(f'{value:g}' for value in level)}]"
    return level if isinstance(level, str) else f"{level:g}"
