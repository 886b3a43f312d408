"""Builds the trackers of a run from its options."""

from __future__ import annotations

from srtoolbox.config.components import build
from srtoolbox.engine.options import LoggerOptions
from srtoolbox.engine.training.trackers.base import Tracker
from srtoolbox.engine.training.trackers.jsonl import JSONL
from srtoolbox.engine.training.trackers.tensorboard import TensorBoard
from srtoolbox.errors import UserError
from srtoolbox.registry import LOGGER_REGISTRY


def build_trackers(opt: LoggerOptions) -> dict[str, Tracker]:
    """Builds the trackers under ``logger.trackers``, without the two that a run has anyway.

    Raises:
        UserError: if an extra that one of them needs is not installed, or a class is no tracker.
    """
    found = {}
    for name, spec in opt.trackers.items():
        kind = LOGGER_REGISTRY.get(spec["type"])
        if not issubclass(kind, Tracker):
            raise UserError(
                f"logger.trackers.{name}: {kind.__name__} is not a subclass of "
                "srtoolbox.engine.training.trackers.Tracker"
            )
        if kind not in (JSONL, TensorBoard):
            found[name] = build(LOGGER_REGISTRY, spec)
    return found


def writes_tensorboard(opt: LoggerOptions) -> bool:
    """Returns whether a run writes TensorBoard files."""
    kinds = [LOGGER_REGISTRY.get(spec["type"]) for spec in opt.trackers.values()]
    return opt.use_tb_logger or TensorBoard in kinds
