"""The base class of trackers, and the facts about a run that they get."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from srtoolbox.errors import UserError
from srtoolbox.utils.files import read_lines, write_atomic

FIGURES, SCORES = "log.jsonl", "evaluation.jsonl"
_STATE = "trackers.json"
_SPEED = ("it/s", "data wait", "memory")

EndState = Literal["finished", "failed", "interrupted"]


@dataclass(frozen=True)
class TrackedRun:
    """A training run, as its trackers see it.

    Attributes:
        folder: Folder of the run. Its name is the name of the run.
        options: The resolved options of the run.
        total: Steps of the whole run.
        start: Step at which the run begins or resumes.
        group: Name of the study that the run belongs to; None: it belongs to none.
        group_folder: Folder of that study; for a single run the folder of the run.
        identities: Fingerprint of the run, then those that it had before ``train.total_iter`` was
            raised.
        tracker: Name of the tracker in the option file.
    """

    folder: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    total: int = 0
    start: int = 0
    group: str | None = None
    group_folder: Path = Path()
    identities: tuple[str, ...] = ("",)
    tracker: str = ""

    @property
    def name(self) -> str:
        """Name of the run; in a study it has method, seed and hash."""
        return self.folder.name

    def points(self) -> Iterator[tuple[int, dict[str, float]]]:
        """Yields the steps and values of all points that the run has so far, by step."""
        records = [*read_lines(self.folder / FIGURES), *read_lines(self.folder / SCORES)]
        for record in sorted(records, key=lambda record: record["step"]):
            yield record["step"], scalars_of(record)

    def flat_options(self) -> dict[str, Any]:
        """Returns the options by dotted keys."""
        return dict(_flat(self.options, ""))

    def recall(self) -> str | None:
        """Returns the text that this tracker remembered in this run; None if there is none.

        A text of another run, which ended in this folder before its first checkpoint, is not
        returned.
        """
        found = self._state().get(self.tracker)
        if not isinstance(found, dict) or found.get("run") not in self.identities:
            return None
        return found.get("id")

    def remember(self, text: str) -> None:
        """Stores a text, for example the id of the run in a tracker's own files.

        Raises:
            OSError: if it cannot be written.
        """
        entry = {"id": text, "run": self.identities[0]}
        content = {**self._state(), self.tracker: entry}
        write_atomic(self.folder / _STATE, json.dumps(content, indent=1))

    def _state(self) -> dict[str, Any]:
        try:
            content = json.loads((self.folder / _STATE).read_bytes())
        except (FileNotFoundError, ValueError):  # without it, the trackers begin new runs
            return {}
        return content if isinstance(content, dict) else {}


class Tracker:
    """Receives the points of one training run. Subclasses override what they need.

    A class that is registered in ``LOGGER_REGISTRY`` can be named under ``logger.trackers`` in an
    option file; its constructor's parameters are its options. Only the main process of a run has
    trackers. An exception of a tracker does not stop the training: the run warns once and goes on
    without this tracker.
    """

    def start(self, run: TrackedRun) -> None:
        """Opens the files of a run that begins or resumes; ``run.points()`` has earlier points."""

    def log(self, record: Mapping[str, Any]) -> None:
        """Writes a point as the JSONL files contain it; by default it calls ``scalars``.

        Args:
            record: ``step`` and the values by name; a point of an evaluation also has ``dataset``,
                and None for a metric that was unavailable.
        """
        self.scalars(record["step"], scalars_of(record))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes the values of a point.

        Args:
            step: Number of finished steps.
            values: By name: ``train/LOSS``, ``train/lr``, ``speed/it/s``, ``DATASET/METRIC``.
        """

    def images(self, step: int, dataset: str, files: Sequence[Path]) -> None:
        """Takes the SR images of an evaluation, if ``val.save_img`` is set.

        Args:
            step: Number of finished steps.
            dataset: Name of the dataset.
            files: PNG files in the folder of the run, by name.
        """

    def finish(self, state: EndState) -> None:
        """Closes the files of the run."""


def scalars_of(record: Mapping[str, Any]) -> dict[str, float]:
    """Returns the values of a log point, or the scores of a dataset, by name."""
    return {
        f"{record.get('dataset', 'speed' if name in _SPEED else 'train')}/{name}": value
        for name, value in record.items()
        if name not in ("step", "dataset") and value is not None
    }


def require(tracker: str, module: str, extra: str) -> None:
    """Checks that the library of a tracker is installed, without importing it.

    Raises:
        UserError: if it is not.
    """
    found = find_spec(module)
    # A folder of this name in the working directory (wandb makes one) is no library.
    if found is None or found.origin is None:
        raise UserError(f'logger {tracker}: needs {module}; pip install "srtoolbox[{extra}]"')


def _flat(tree: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(tree, Mapping) and (tree or not prefix):
        for key, value in tree.items():
            yield from _flat(value, f"{prefix}{key}.")
    else:
        yield prefix[:-1], tree
