"""Runs small studies."""

from __future__ import annotations

from pathlib import Path

import torch

from srtoolbox.comparison.options import StudyOptions
from srtoolbox.comparison.store import ResultStore
from srtoolbox.comparison.study.run import run_study
from srtoolbox.config.load import load_options


def compare(path: Path, *overrides: str, only: tuple[str, ...] = ()) -> ResultStore:
    """Runs a study on the CPU and returns its store.

    Args:
        path: Its option file.
        overrides: As those of ``--set``.
        only: Methods to run; empty: all.
    """
    opt, tree = load_options(path, overrides, StudyOptions)
    return run_study(opt, tree, torch.device("cpu"), only)
