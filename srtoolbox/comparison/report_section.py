"""What a study file may say of its report."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from srtoolbox.schema import option


@dataclass(frozen=True)
class ReportSection:
    """What the report shows."""

    num_image: int = option(default=3, min=0, doc="Images of each dataset in the figure.")
    frame_use: bool | list[str] = option(
        default=False,
        doc="Also score multi-frame methods with fewer, blind and mixed-up frames: on all test "
        "sets, or on those named. About six more passes over each.",
    )
    sweeps: dict[str, dict[str, float]] = option(
        default={},
        doc="Test sets that differ in one quantity, shown as curves instead of columns: by the "
        "name of the quantity the value of each test set.",
    )

    def looks_at_frames(self, test_set: str) -> bool:
        """Whether the use of frames is to be measured on a test set."""
        named = self.frame_use
        return named if isinstance(named, bool) else test_set in named


def check_report(section: ReportSection, test_sets: Collection[str]) -> Iterator[tuple[str, str]]:
    """Faults of a report about these test sets, as (key, message)."""
    unknown = "no test set '{}'; there are: " + ", ".join(test_sets)
    if not isinstance(section.frame_use, bool):
        for number, name in enumerate(section.frame_use):
            if name not in test_sets:
                yield f"report.frame_use.{number}", unknown.format(name)
    for quantity, points in section.sweeps.items():
        key = f"report.sweeps.{quantity}"
        if len(points) < 2:
            yield key, f"a curve needs at least two test sets, got {len(points)}"
        places: dict[float, str] = {}
        for name, x in points.items():
            if name not in test_sets:
                yield f"{key}.{name}", unknown.format(name)
            elif not math.isfinite(x):
                yield f"{key}.{name}", f"must be finite, got {x}"
            elif places.setdefault(x, name) != name:
                yield f"{key}.{name}", f"'{places[x]}' is at {x:g} already"
