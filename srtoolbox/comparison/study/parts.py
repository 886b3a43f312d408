"""Results of a job that ran in another process: a folder that is merged into the study's.

The folder has the files of a study's store, and at the end ``entry.json``. So a process that is
killed repeats only the evaluation that it was in, and its results appear in the study as a whole.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from srtoolbox.comparison.store import Entry, ResultStore
from srtoolbox.comparison.stored_files import Damage, check_value, read_object
from srtoolbox.comparison.study.reuse import regular_files
from srtoolbox.errors import UserError
from srtoolbox.utils.files import write_atomic
from srtoolbox.utils.portable import to_json

_FILE = "entry.json"


@dataclass(frozen=True)
class Part:
    """The finished results of one job.

    Attributes:
        folder: Where they are.
        entry: Its entry.
        environment: Versions, device and threads of the process.
        precision: Number format of the training and the evaluations there.
    """

    folder: Path
    entry: Entry
    environment: dict[str, Any]
    precision: str

    def save(self) -> None:
        """Writes ``entry.json``; everything else must be there before."""
        content = {
            "entry": asdict(self.entry),
            "environment": self.environment,
            "precision": self.precision,
        }
        write_atomic(self.folder / _FILE, to_json(content, indent=1))

    def merge_into(self, store: ResultStore) -> None:
        """Adds those results to a store that it lacks."""
        entry, own = self.entry, ResultStore(self.folder)
        for name in ("environments", "images"):
            for path in regular_files(self.folder / name, []):
                target = store.folder / path.relative_to(self.folder)
                if not target.exists():
                    write_atomic(target, path.read_bytes())
        named = {*entry.evaluations.values()}
        named.update(id for group in entry.other_protocols.values() for id in group.values())
        for evaluation in own.evaluations():
            if evaluation in named and not store.records(evaluation):
                store.add_records(own.records(evaluation))
        for use in own.frame_uses():
            if use["evaluation"] in named and use["psnr"] != store.frame_use(use["evaluation"]):
                store.add_frame_use(use)
        for cost in own.costs():
            if cost["cost"] == entry.cost and store.cost(cost["cost"]) is None:
                store.add_cost(cost)

    def remove(self) -> None:
        """Removes the folder, once the entry is in the study."""
        shutil.rmtree(self.folder, ignore_errors=True)


def is_complete(folder: Path) -> bool:
    """Returns whether the job of a part has ended."""
    return (folder / _FILE).exists()


def read_part(folder: Path) -> Part:
    """Reads a part whose job has ended.

    Raises:
        UserError: if it is damaged.
    """
    path = folder / _FILE
    content = read_object(path)
    try:
        entry = check_value(content.get("entry"), Entry, "entry")
        environment = check_value(content.get("environment"), dict[str, Any], "environment")
        precision = check_value(content.get("precision"), str, "precision")
    except Damage as error:
        raise UserError(f"{path} is damaged: {error}; remove {folder} to evaluate again") from None
    return Part(folder, entry, environment, precision)
