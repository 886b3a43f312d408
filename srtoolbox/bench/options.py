"""The options that all benchmarks share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from srtoolbox.config.schema import option
from srtoolbox.engine.options import name_faults


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """An option file for `srtoolbox bench`; each benchmark adds its own options."""

    name: str
    rounds: int = option(default=7, min=1, doc="Number of times that everything is timed.")
    threads: int | None = option(default=None, min=1, doc="CPU threads; null: torch's choice.")
    plugins: list[str] = option(default=[], doc="Files or modules that register components.")
    experiments_root: Path = option(default=Path("experiments"), doc="Where results are written.")

    def validate(self) -> list[tuple[str, str]]:
        """Checks across fields; returns (key, message) of each fault."""
        return list(name_faults("name", self.name))
