"""Reads options of networks from the names and shapes of their tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]
"""Shapes of tensors by name."""


def count_children(shapes: Shapes, prefix: str) -> int:
    """Returns the number of modules ``prefix.0``, ``prefix.1``, … that have tensors."""
    pattern = re.compile(rf"{re.escape(prefix)}\.(\d+)\.")
    found = [int(match[1]) for key in shapes if (match := pattern.match(key))]
    return max(found, default=-1) + 1


def scale_of_upsample(shapes: Shapes, num_feat: int) -> int:
    """Returns the scale of an `Upsample` with the name ``upsample``."""
    steps = [f for key, f in shapes.items() if re.fullmatch(r"upsample\.\d+\.weight", key)]
    return 3 if steps and steps[0][0] == 9 * num_feat else 2 ** len(steps)


def bands_as_options(num_in: int, num_out: int) -> dict[str, Any]:
    """Returns the options ``num_in_ch`` and ``num_out_ch``, without those that are the default."""
    options = {} if num_in == num_out == 3 else {"num_in_ch": num_in}
    return options if num_in == num_out else {**options, "num_out_ch": num_out}
