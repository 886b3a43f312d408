"""Finished trainings of one study for another."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from srtoolbox.errors import UserError
from srtoolbox.utils.files import write_atomic

_log = logging.getLogger("srtoolbox")

_OF_UNFINISHED = ("checkpoints", ".lock")  # of no use to a training that is finished


def index_finished_runs(studies: Sequence[Path]) -> dict[str, Path]:
    """The folders of the finished trainings of studies, by fingerprint; earlier studies win.

    Raises:
        UserError: if a folder holds no study, or a training's card is damaged.
    """
    found: dict[str, Path] = {}
    for study in studies:
        if not (study / "study.yml").exists():
            raise UserError(
                f"trainings_from: {study}: no study here (study.yml is missing); run that study "
                "first, or leave it out to train here"
            )
        for run in finished_trainings(study):
            card = run / "run.json"
            try:
                identity = json.loads(card.read_text())["fingerprint"]
            except (OSError, ValueError, TypeError, KeyError):
                raise UserError(
                    f"trainings_from: {card} is missing or damaged; remove {run}"
                ) from None
            found.setdefault(identity, run)
    return found


def copy_finished_runs(
    folders: Mapping[tuple[str, int], Path], elsewhere: Mapping[Path, Path]
) -> None:
    """Copies what is finished elsewhere, unless it is finished here.

    Args:
        folders: Of the training of each method and seed.
        elsewhere: Where the same training is finished, by folder.

    Raises:
        UserError: if something cannot be read or written.
    """
    for (method, seed), folder in folders.items():
        source = elsewhere.get(folder)
        if source is None or (folder / "finished.json").exists():
            continue
        try:
            copy_training(source, folder)
        except OSError as error:
            raise UserError(
                f"trainings_from: {source} cannot be copied to {folder} ({error.strerror})"
            ) from error
        _log.info("%s, seed %d: taken from %s", method, seed, source)


def device_of(run: Path, here: str) -> str:
    """What a method was trained on by the run's folder and is measured on here, in words."""
    path = run / "environment.json"
    there = json.loads(path.read_text())["device"] if path.exists() else here
    return here if there == here else f"{there} (training) and {here}"


def finished_trainings(study: Path) -> list[Path]:
    """The folders of a study's finished trainings, without copies that were broken off."""
    return sorted(card.parent for card in study.glob("runs/[!.]*/finished.json"))


def copy_training(run: Path, target: Path) -> None:
    """Copies the folder of a finished training: it is there whole, or not at all.

    Args:
        run: The folder.
        target: Its copy. What is there of the same training, broken off, is replaced.
    """
    part = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(part, ignore_errors=True)  # of a copy that was broken off
    for path in sorted(run.rglob("*")):
        place = path.relative_to(run)
        if path.is_file() and place.parts[0] not in _OF_UNFINISHED:
            write_atomic(part / place, path.read_bytes())
    if target.exists():
        shutil.rmtree(target)
    part.rename(target)
