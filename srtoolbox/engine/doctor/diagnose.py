"""`srtoolbox doctor`: everything that could go wrong with a run, tried out before it starts."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

from srtoolbox.config.files import plain
from srtoolbox.data.prepare.examine import counting, decoded_size, examine, headers, report_by_kind
from srtoolbox.data.stream import SampleStream, split_batch
from srtoolbox.engine.build import (
    assemble,
    build_dataset,
    build_model,
    build_network,
    check_crop,
    load_pretrained,
)
from srtoolbox.engine.doctor.report import Diagnosis, Forecast, find_warnings
from srtoolbox.engine.evaluation.evaluator import Evaluator
from srtoolbox.engine.evaluation.frame_use import has_other_frames
from srtoolbox.engine.options import RunOptions
from srtoolbox.engine.profiling import TrainingStep, peak_memory
from srtoolbox.engine.training.checkpoint import CheckpointFolder
from srtoolbox.engine.training.reporter import Reporter
from srtoolbox.engine.training.trainer import Trainer
from srtoolbox.errors import UserError
from srtoolbox.models.frames import IncompatibleInput, varying_frames
from srtoolbox.utils.files import read_lines

_log = logging.getLogger("srtoolbox")
_STEPS, _MORE = 2, 10
_PATIENCE = 3  # seconds for more steps
_CACHE = ("cache", "cache_limit")  # left out of the datasets here: nothing is built


def diagnose(runs: Mapping[str, RunOptions], device: torch.device, repeats: int = 1) -> Diagnosis:
    """Builds all parts of some runs, decodes all their files, and tries two steps and one image.

    Nothing is written but temporary files, and no cache is built.

    Args:
        runs: Options by a name: one run, or the methods of a study, whose data are the same.
        device: Where they are going to run.
        repeats: How often each is going to be run, with other seeds.
    """
    folder = next(iter(runs.values())).path.experiments_root
    found = Diagnosis(folder=folder, repeats=repeats)
    examined: dict[str, bool] = {}
    for name, opt in runs.items():
        label = f"{name}: " if len(runs) > 1 else ""
        _RunCheck(found, opt, device, name, label, examined).examine()
    found.warnings += find_warnings(found, list(runs.values()), device)
    return found


_SIDES = (lambda item: item.gt), (lambda item: item.lq)


class _RunCheck:
    """One run that is tried out.

    Args:
        found: Receives what is found.
        opt: Its options.
        device: Where it runs.
        name: What tables call it.
        label: What its parts' names begin with.
        examined: Datasets whose files have been looked at, and whether they are in order.
    """

    def __init__(
        self,
        found: Diagnosis,
        opt: RunOptions,
        device: torch.device,
        name: str,
        label: str,
        examined: dict[str, bool],
    ) -> None:
        self.found, self.opt, self.device, self.label = found, opt, device, label
        self.examined = examined
        self.forecast = Forecast(name)

    def examine(self) -> None:
        """Tries every part that can be tried; faulty ones do not hide the others."""
        net = self._network()
        sets = {f"val.{key}": spec for key, spec in self.opt.datasets.val.items()}
        sets |= {f"test.{key}": spec for key, spec in self.opt.datasets.test.items()}
        if self._learns(net):
            sets = {"train": self.opt.datasets.train, **sets}
        datasets = {name: self._dataset(name, spec, net) for name, spec in sets.items()}
        evaluator = self._evaluator()
        if net is None:
            return
        crops = datasets.pop("train", None)
        if crops is not None:
            self._train(net, crops)
        scored = {name: data for name, data in datasets.items() if data is not None}
        if evaluator is not None and scored:
            self._evaluate(evaluator, net, *next(iter(scored.items())))
        self._predict(net, scored)
        self.found.forecasts.append(self.forecast)

    def _learns(self, net: nn.Module | None) -> bool:
        if self.opt.train is None or self.opt.datasets.train is None:
            return False
        return net is None or any(weight.requires_grad for weight in net.parameters())

    def _network(self) -> nn.Module | None:
        net = None
        with self.found.trying(f"{self.label}network") as say:
            net = build_network(self.opt, self.device)
            say(f"{type(net).__name__}, {sum(p.numel() for p in net.parameters()):,} parameters")
            if line := load_pretrained(self.opt, net):
                say(line)
            assemble(self.opt, net)
        return net

    def _dataset(self, name: str, spec: dict[str, Any], net: nn.Module | None) -> Any:
        """The dataset, without a cache; None if it is faulty."""
        dataset, training = None, name == "train"
        known = json.dumps([name, plain(spec), self.opt.scale], sort_keys=True, default=str)
        if self.examined.get(known, True):
            with self.found.trying(f"datasets.{name}", self.label) as say:
                if known not in self.examined:
                    self.examined[known] = False
                    self._files(name, spec, training, say)
                    self.examined[known] = True
                if net is not None:
                    spec = {key: value for key, value in spec.items() if key not in _CACHE}
                    try:
                        dataset = build_dataset(name, spec, self.opt, net)
                    except UserError as error:
                        # Methods of a study need not take every test set.
                        if not (self.label and name.startswith("test.")) or not isinstance(
                            error.__cause__, IncompatibleInput
                        ):
                            raise
                        say(f"left out of it: {error.__cause__}")
                        return None
                    count = getattr(dataset, "num_source", None) if training else None
                    goal = "draw from" if training else "score on"
                    say(f"{count or len(dataset):,} to {goal}")
                    if training:
                        check_crop(dataset, net)
        return dataset

    def _files(
        self, name: str, spec: dict[str, Any], training: bool, say: Callable[[str], None]
    ) -> None:
        with counting(f"decoding datasets.{name}") as progress:
            seen = examine(spec, self.opt.scale, training, progress)
        if seen is None:
            return
        if seen.faults:
            raise UserError(report_by_kind(seen.faults, spec["type"]))
        gt, lq = ([*dict.fromkeys(p for i in seen.items for p in side(i))] for side in _SIDES)
        say(f"{len(gt) + len(lq):,} files decoded")
        if folder := spec.get("cache"):
            size = decoded_size([*headers(gt), *headers(lq, seen.raw)])
            caches = self.found.caches
            caches[Path(folder)] = caches.get(Path(folder), 0) + size

    def _evaluator(self) -> Evaluator | None:
        evaluator = None
        with self.found.trying("metrics", self.label) as say:
            precision = self.opt.train.precision if self.opt.train else "fp32"
            evaluator = Evaluator(self.opt.val, self.device, precision)
            say(f"protocol {evaluator.protocol.name}")
            for key, metric in list(evaluator.metrics.items()):
                if reason := metric.available():
                    self.found.warn(f"{key} is left out: {reason}")
                    del evaluator.metrics[key]
        return evaluator

    def _train(self, net: nn.Module, dataset: Any) -> None:
        """Two steps as they will be, and their checkpoint, in a folder that is then removed."""
        section, opt = self.opt.train, self.opt
        with (
            self.found.trying(f"{self.label}training") as say,
            tempfile.TemporaryDirectory(prefix="srtoolbox-") as name,
        ):
            folder = Path(name)
            frames = varying_frames(net, dataset, section.num_frame_range)
            model = build_model(opt, net, dataset)
            stream = partial(SampleStream, dataset, opt.manual_seed, section.batch_size)
            trainer = Trainer(
                model,
                stream(num_frame_range=frames),
                section,
                replace(opt.logger, print_freq=1),
                CheckpointFolder(folder / "checkpoints", 1),
                self.device,
            )
            most = stream(num_frame_range=frames and frames[1:] * 2)
            memory = self._step_memory(model, most)
            seconds = _run(trainer, folder, _STEPS)
            # Where they are short, some more tell the time with less chance in it.
            seconds = _run(trainer, folder, _STEPS + min(_MORE, int(_PATIENCE / seconds)))
            (checkpoint,) = (folder / "checkpoints").iterdir()
            size = checkpoint.stat().st_size
            self.forecast.seconds, self.forecast.checkpoint = seconds, size
            # A checkpoint is what stays in memory between steps: weights, optimizer, average.
            self.forecast.step_memory = memory + size / 2**20
            say(f"{trainer.step} iterations")

    def _step_memory(self, model: Any, stream: SampleStream) -> float:
        """Peak MiB of a step without what stays between steps; of the network as it is written."""
        section, net = self.opt.train, model.networks["g"]
        batch = next(stream.batches(0, 1, device=self.device))
        part = next(split_batch(batch, section.accumulate))
        net.train()
        compiled, net._compiled_call_impl = net._compiled_call_impl, None
        memory = TrainingStep(model, part, self.device, section.precision).memory()
        net._compiled_call_impl = compiled
        return memory

    def _evaluate(self, evaluator: Evaluator, net: nn.Module, name: str, dataset: Any) -> None:
        with self.found.trying(f"{self.label}evaluation") as say:
            records: list[dict[str, Any]] = []
            net, enhance = assemble(self.opt, net), self.opt.val.enhance

            def score() -> None:
                records.extend(evaluator.run(net, _First(dataset), enhance=enhance))

            with torch.no_grad():
                self.forecast.test_memory = peak_memory(score, self.device)
            self.forecast.test_seconds = sum(record["seconds"] for record in records)
            scores = [f"{m} {v:.2f}" for m, v in records[0]["metrics"].items() if v is not None]
            say(f"{records[0]['key']} of {name} (untrained: {', '.join(scores)})")

    def _predict(self, net: nn.Module, scored: Mapping[str, Any]) -> None:
        """Time and disk of the whole run."""
        opt, forecast = self.opt, self.forecast
        weights = sum(one.numel() * one.element_size() for one in net.state_dict().values())
        if forecast.seconds is None or forecast.checkpoint is None:
            return
        watched = sum(
            len(data) * (1 + (opt.val.frame_use and has_other_frames(net, data)))
            for name, data in scored.items()
            if name.startswith("val.")
        )
        rounds = -(-opt.train.total_iter // opt.val.val_freq)
        forecast.total = opt.train.total_iter * forecast.seconds
        forecast.total += rounds * watched * (forecast.test_seconds or 0)
        forecast.keep = opt.logger.keep_checkpoint
        # The newest is written before the oldest goes; latest and best weights, and the average.
        files = 3 if opt.train.ema_decay else 2
        forecast.disk = (opt.logger.keep_checkpoint + 1) * forecast.checkpoint + files * weights


def _run(trainer: Trainer, folder: Path, stop: int) -> float:
    """Trains to step ``stop``, or to the end; seconds of a step, without those of the first."""
    section = trainer.section
    stop = min(stop, section.total_iter)
    trainer.section = replace(section, total_iter=stop)  # the schedule stays that of the whole run
    with _quiet():
        trainer.run(Reporter(folder, "trying", stop, trainer.step, tensorboard=False))
    trainer.section = section
    seconds = [1 / line["it/s"] for line in read_lines(folder / "log.jsonl")]
    return median(seconds[1:] or seconds)


class _First:
    """A dataset of which only the first sample is there."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Any:
        return self._dataset[index]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dataset, name)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps log points of runs that are none out of the log; warnings are shown."""
    level = _log.level
    _log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        _log.setLevel(level)
