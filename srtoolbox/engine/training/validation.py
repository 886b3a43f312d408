"""Evaluates a network during its training and keeps its best weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from srtoolbox.config.files import plain
from srtoolbox.engine.build import build_dataset
from srtoolbox.engine.device.distributed import Ranks
from srtoolbox.engine.evaluation.evaluator import Evaluator
from srtoolbox.engine.evaluation.frame_use import FrameGain
from srtoolbox.engine.evaluation.images import image_writer
from srtoolbox.engine.evaluation.records import average
from srtoolbox.engine.options import RunOptions
from srtoolbox.engine.training.reporter import Reporter
from srtoolbox.engine.training.trainer import Trainer
from srtoolbox.engine.weights.load import save_weights
from srtoolbox.engine.weights.whole import BEST_WEIGHTS
from srtoolbox.errors import UserError
from srtoolbox.inference.prediction import PLAIN
from srtoolbox.utils.files import wait_for_room


class Validation:
    """Evaluates on the ``val`` datasets of a run; the first of them selects the best weights.

    Args:
        opt: A run with a ``train`` section.
        net: The network of the run.
        folder: Folder of the run, for ``weights/`` and ``images/``.
        device: Device of the network.
        ranks: The processes that share the work.

    Raises:
        UserError: for a dataset that does not suit run or network, or if the metric that the
            learning rate depends on is not available on this machine.
    """

    def __init__(
        self, opt: RunOptions, net: nn.Module, folder: Path, device: torch.device, ranks: Ranks
    ) -> None:
        assert opt.train is not None, "the options have no 'train' section"
        self._val, self._arch = opt.val, arch_options(opt)
        self._folder, self._ranks = folder, ranks
        self._datasets = {
            name: build_dataset(f"val.{name}", spec, opt, net)
            for name, spec in opt.datasets.val.items()
        }
        total, precision = opt.train.total_iter, opt.train.precision
        self._evaluator = Evaluator(opt.val, device, precision)
        if (metric := opt.train.monitored_metric) and (
            reason := self._evaluator.metrics[metric].available()
        ):
            raise UserError(f"train.monitor: '{metric}' cannot be computed here: {reason}")
        self._enhance = opt.val.enhance if opt.val.enhance.in_training else PLAIN
        gain = FrameGain(opt.val, total, device, precision, self._enhance, ranks)
        self._frame_gain = gain if opt.val.frame_use else None

    def __call__(self, trainer: Trainer, reporter: Reporter) -> dict[str, float | None]:
        """Evaluates the trainer's network and reports its scores; all processes must call this.

        Returns:
            The mean scores of the first dataset by metric; None where a metric was unavailable.
        """
        net, step, protocol = trainer.result, trainer.step, self._evaluator.protocol
        first: dict[str, float | None] = {}
        for number, (name, dataset) in enumerate(self._datasets.items()):
            folder = self._folder / "images" / name / f"{step:08d}"
            save = image_writer(folder, self._val.rgb_bands) if self._val.save_img else None
            records = self._evaluator.run(net, dataset, save, self._enhance, self._ranks)
            scores = average(
                records[protocol.name], protocol.average, self._evaluator.lower_is_better
            )
            frame_gain = self._frame_gain
            gain = frame_gain and frame_gain.measure(net, dataset, scores, step)
            reporter.evaluation(step, name, scores, gain)
            if save is not None:
                reporter.images(step, name, sorted(folder.rglob("*.png")))
            if number == 0:
                first = scores
                self._keep_best(trainer, scores[self._val.best_metric])
        return first

    def _keep_best(self, trainer: Trainer, value: float | None) -> None:
        """Saves the weights if their score is better than all scores before."""
        higher = self._evaluator.metrics[self._val.best_metric].higher_is_better
        best = trainer.best.get("value")
        if value is None or (best is not None and (value <= best if higher else value >= best)):
            return
        if self._ranks.is_main:
            path = self._folder / "weights" / BEST_WEIGHTS
            wait_for_room(
                lambda: save_weights(path, self._arch, trainer.result, pixels=trainer.pixels), path
            )
        # Last: if a signal ends the evaluation before, its repetition saves these weights.
        trainer.best = {"value": value, "step": trainer.step}


def arch_options(opt: RunOptions) -> dict[str, Any]:
    """Returns the options of a run's network, as its weight files contain them."""
    return {**plain(opt.network_g), "scale": opt.scale}
