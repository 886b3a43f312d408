"""JSON and CSV that every program can read."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

# JSON has no such numbers. Python would write them bare, and other programs refuse the file.
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

_NAMES = ("key", "kind", "method", "dataset", "evaluation", "cost")  # in records; never numbers
_FORMULA_MARKS = ("=", "+", "-", "@", "\t", "\r")  # spreadsheets run cells that begin so
_FORMULA_STARTS = frozenset((*_FORMULA_MARKS, " "))


def to_json(value: Any, **options: Any) -> str:
    """Returns valid JSON; NaN and infinite numbers become ``"NaN"`` and ``"±Infinity"``.

    Args:
        value: The value.
        options: Options of ``json.dumps``.
    """
    try:
        return json.dumps(value, allow_nan=False, **options)
    except ValueError:  # NaN or infinite
        return json.dumps(_named(value), **options)


def number(value: Any) -> Any:
    """Returns the number of ``"NaN"``, ``"Infinity"`` or ``"-Infinity"``; else the value itself."""
    return _NOT_FINITE.get(value, value) if isinstance(value, str) else value


def numbers(record: dict[str, Any]) -> dict[str, Any]:
    """Returns a record with ``number`` applied to all values except names.

    It is an ``object_hook`` of ``json.loads``.
    """
    return {key: item if key in _NAMES else number(item) for key, item in record.items()}


def csv_text(lines: Iterable[Sequence[object]]) -> str:
    """Returns CSV with numbers in full precision; None is an empty cell.

    A text that a spreadsheet would run as a formula begins with an apostrophe.
    """
    return csv_bytes(lines).decode()


def csv_bytes(lines: Iterable[Sequence[object]]) -> bytes:
    """Returns ``csv_text`` in UTF-8; it needs less memory."""
    buffer = io.BytesIO()
    text = io.TextIOWrapper(buffer, encoding="utf-8", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows(
        [
            _safe_cell(cell) if isinstance(cell, str) and cell[:1] in _FORMULA_STARTS else cell
            for cell in line
        ]
        for line in lines
    )
    text.flush()
    return buffer.getvalue()


def _named(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: _named(item) for key, item in value.items()}
    return [_named(item) for item in value] if isinstance(value, list | tuple) else value


def _safe_cell(cell: object) -> object:
    if not isinstance(cell, str) or not cell.lstrip(" ").startswith(_FORMULA_MARKS):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell  # a number
