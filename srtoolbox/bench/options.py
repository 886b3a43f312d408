"""What the option files of all kinds of `srtoolbox bench` have in common."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from srtoolbox.config.schema import option

Kind = Literal["archs", "data", "train"]


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """An option file for `srtoolbox bench`; each kind adds its own options."""

    name: str
    kind: Kind = option(default="archs", doc="What is measured.")
    rounds: int = option(default=7, min=1, doc="How often everything is timed; the median counts.")
    threads: int | None = option(default=None, min=1, doc="CPU threads; by default torch's choice.")
    plugins: list[str] = option(default=[], doc="Files or modules that register components.")
    experiments_root: Path = option(default=Path("experiments"), doc="Where results are written.")

    def validate(self) -> list[tuple[str, str]]:
        """Faults that no single value shows, as (key, message)."""
        if not self.name or "/" in self.name or self.name.startswith("."):
            return [("name", f"'{self.name}' cannot be the name of a file")]
        return []
