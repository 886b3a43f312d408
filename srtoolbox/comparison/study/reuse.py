"""Finds finished trainings in the folders of studies, and copies them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from srtoolbox.engine.weights.load import read_weights
from srtoolbox.engine.weights.whole import FINAL_WEIGHTS, read_finished
from srtoolbox.errors import RunError, UserError
from srtoolbox.utils.console import warn_once
from srtoolbox.utils.files import write_atomic

_NOT_COPIED = ("checkpoints", ".lock")  # a finished training does not need them


def is_finished(run: Path) -> bool:
    """Returns whether the training in this folder is finished."""
    return (run / "finished.json").exists()


def finished_runs(study: Path) -> list[Path]:
    """Returns the folders of a study's finished trainings, without unfinished copies."""
    return [run for run in sorted(study.glob("runs/[!.]*")) if is_finished(run)]


def index_finished_runs(studies: Sequence[Path]) -> dict[str, Path]:
    """Returns the folders of finished trainings by fingerprint; the first study has priority.

    Raises:
        UserError: if a folder has no study, or the ``run.json`` of a training is damaged.
    """
    found: dict[str, Path] = {}
    for study in studies:
        if not (study / "study.yml").exists():
            raise UserError(
                f"trainings_from: {study}: no study here (study.yml is missing); run that study "
                "first, or remove it from the list to train here"
            )
        for run in finished_runs(study):
            file = run / "run.json"
            try:
                identity = json.loads(file.read_text())["fingerprint"]
            except (OSError, ValueError, TypeError, KeyError):
                raise UserError(
                    f"trainings_from: {file} is missing or damaged; remove {run}"
                ) from None
            found.setdefault(identity, run)
    return found


def regular_files(folder: Path, links: list[str]) -> list[Path]:
    """Returns the files in a folder and below it, sorted, without symbolic links.

    Args:
        folder: The folder; it may be missing.
        links: Gets the names of the links that were left out.
    """
    if folder.is_symlink():
        links.append(folder.name)
        return []
    files = []
    for parent, folders, names in os.walk(folder):  # it does not follow links
        for name in [*folders, *names]:
            path = Path(parent, name)
            if path.is_symlink():
                links.append(name)
            elif path.is_file():
                files.append(path)
    return sorted(files)


def copy_training(run: Path, target: Path, links: list[str] | None = None) -> None:
    """Copies the folder of a finished training, completely or not at all.

    Args:
        run: The folder.
        target: Its copy; it replaces an unfinished training there.
        links: Gets the names of symbolic links, which are not copied.

    Raises:
        OSError: if a file cannot be read or written.
    """
    left_out = _NOT_COPIED if _is_whole(run) else (".lock",)  # checkpoints restore its weights
    part = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(part, ignore_errors=True)  # of an interrupted copy
    for path in regular_files(run, [] if links is None else links):
        name = path.relative_to(run)
        if name.parts[0] not in left_out:
            write_atomic(part / name, path.read_bytes())
    if target.exists():
        shutil.rmtree(target)
    part.rename(target)


def _is_whole(run: Path) -> bool:
    """Returns whether the final weights of a finished training are undamaged."""
    try:
        read_finished(run / "finished.json")
        read_weights(run / "weights" / FINAL_WEIGHTS)
    except (UserError, RunError, ValueError):
        return False
    return True


def device_of(run: Path, here: str) -> str:
    """Returns the device of a training; also ``here``, that of its evaluation, if they differ."""
    path = run / "environment.json"
    if not path.exists():
        return here
    try:
        there = json.loads(path.read_bytes())["device"]
    except (ValueError, TypeError, KeyError):
        warn_once(f"{path} damaged; the device of this training is unknown")
        there = "unknown device"
    return here if there == here else f"{there} (training) and {here}"
