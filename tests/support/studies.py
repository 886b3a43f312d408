"""Runs small studies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from srtoolbox.comparison.options import StudyOptions
from srtoolbox.comparison.store import ResultStore
from srtoolbox.comparison.study.launcher import Launch
from srtoolbox.comparison.study.run import run_study
from srtoolbox.config.load import load_options
from srtoolbox.utils.files import read_lines


def compare(
    path: Path, *overrides: str, only: tuple[str, ...] = (), launch: Launch | None = None
) -> ResultStore:
    """Runs a study on the CPU and returns its store.

    Args:
        path: Its option file.
        overrides: As those of ``--set``.
        only: Methods to run; empty: all.
        launch: Where trainings and evaluations run; None: here.
    """
    opt, tree = load_options(path, overrides, StudyOptions)
    return run_study(opt, tree, torch.device("cpu"), only, launch)


def stored(store: ResultStore) -> dict[str, Any]:
    """Returns all results of a study that a repetition must give again bit for bit, in order.

    These are the files without times: records, frame use, images, and the entries of the card.
    """

    def lines(name: str, *left_out: str) -> list[dict[str, Any]]:
        return [
            {key: value for key, value in line.items() if key not in left_out}
            for line in read_lines(store.folder / name)
        ]

    times = {"cost": None, "train_seconds": 0.0}
    images = store.folder / "images"
    costs = [store.cost(str(entry.cost)) or {} for entry in store.load_card().entries]
    return {
        "records": lines("results.jsonl", "seconds", "environment"),
        "frame use": lines("frame_use.jsonl"),
        "images": {p.relative_to(images): p.read_bytes() for p in sorted(images.rglob("*.png"))},
        "entries": [replace(entry, **times) for entry in store.load_card().entries],
        "costs": [[cost[key] for key in ("method", "input", "params", "flops")] for cost in costs],
    }
