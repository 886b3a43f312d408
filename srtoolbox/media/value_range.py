"""The forms of a value range of a map, checked without the file and without the readers of data."""

from __future__ import annotations

import re

from srtoolbox.errors import UserError

EACH = "each:"
_EXPECTED = (
    "expected auto, MIN,MAX or p2-p98; MIN,MAX;MIN,MAX;… for each band, or each:p2-p98 of each band"
)
_NUMBER = r"\s*(-?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)\s*"
_RANGE = re.compile(f"{_NUMBER},{_NUMBER}", re.IGNORECASE)
_PERCENTILES = re.compile(r"\s*p(\d+(?:\.\d+)?)-p(\d+(?:\.\d+)?)\s*")


def stated_range(text: str) -> tuple[float, float] | None:
    """Returns the two values of ``MIN,MAX``, or None if the text has another form."""
    match = _RANGE.fullmatch(text)
    return (float(match[1]), float(match[2])) if match else None


def stated_percentiles(text: str) -> tuple[float, float] | None:
    """Returns the two percentiles of ``p2-p98``, 0 to 100, or None if it has another form."""
    match = _PERCENTILES.fullmatch(text)
    return (float(match[1]), float(match[2])) if match else None


def check_value_range(text: str) -> None:
    """Checks the form of a value range.

    Raises:
        UserError: if it has none of the forms that ``upscale_geotiff`` takes.
    """
    parts = [text.removeprefix(EACH)] if text.startswith(EACH) else text.split(";")
    for part in parts:
        if values := stated_range(part):
            if values[0] >= values[1]:
                raise UserError(f"value range {part}: expected MIN,MAX with MIN below MAX")
        elif percentiles := stated_percentiles(part):
            if not 0 <= percentiles[0] < percentiles[1] <= 100:
                raise UserError(
                    f"value range {part}: expected percentiles p0 to p100, the smaller first"
                )
        elif part != "auto":
            raise UserError(f"value range {part!r}; {_EXPECTED}")
