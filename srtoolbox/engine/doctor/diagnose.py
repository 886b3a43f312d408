"""Checks runs before they start, for `srtoolbox doctor`."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

from srtoolbox.archs.base import arch_info
from srtoolbox.config.files import plain
from srtoolbox.data.base import EvalDataset, Sample, TrainDataset, dataset_info
from srtoolbox.data.datasets.paired_images import at_scale
from srtoolbox.data.files.checks import remember_checked_files
from srtoolbox.data.prepare.examine import decoded_size, examine, report_by_kind
from srtoolbox.data.stream import SampleStream, split_batch
from srtoolbox.engine.build import assemble, build_dataset, build_network, load_pretrained
from srtoolbox.engine.doctor.report import Diagnosis, Estimate, find_warnings
from srtoolbox.engine.evaluation.evaluator import Evaluator
from srtoolbox.engine.evaluation.frame_use import has_other_frames
from srtoolbox.engine.evaluation.records import Record
from srtoolbox.engine.options import RunOptions
from srtoolbox.engine.profiling import TrainingStep, peak_memory
from srtoolbox.engine.training.checkpoint import CheckpointFolder
from srtoolbox.engine.training.reporter import Reporter
from srtoolbox.engine.training.trackers.build import build_trackers
from srtoolbox.engine.training.trainer import Trainer
from srtoolbox.errors import UserError
from srtoolbox.metrics import ClipMetric
from srtoolbox.models.frames import IncompatibleInput
from srtoolbox.utils.console import progress_bar
from srtoolbox.utils.files import read_lines, user_path
from srtoolbox.utils.torch_private import without_compilation

_log = logging.getLogger("srtoolbox")

_MIN_STEPS, _MAX_EXTRA_STEPS = 2, 10
_MAX_EXTRA_SECONDS = 3
_CACHE_OPTIONS = ("cache", "cache_limit")  # removed from the datasets, so that no cache is built

Say = Callable[[str], None]


def diagnose(runs: Mapping[str, RunOptions], device: torch.device, repeats: int = 1) -> Diagnosis:
    """Checks runs: builds all parts, decodes all files, trains 2 to 12 steps, scores one image.

    It writes only temporary files and builds no cache.

    Args:
        runs: Options by name: one run, or the methods of a study, which share their data.
        device: Device of the runs.
        repeats: Number of seeds with which each run will be trained.
    """
    folder = next(iter(runs.values())).path.experiments_root
    found = Diagnosis(folder=folder, repeats=repeats)
    decoded: dict[str, bool] = {}
    with remember_checked_files():  # every method of a study has the same ones
        for name, opt in runs.items():
            label = f"{name}: " if len(runs) > 1 else ""
            _RunCheck(found, opt, device, label, decoded, Estimate(name)).run()
    # Several runs may leave out the same metric.
    warnings = found.warnings + find_warnings(found, list(runs.values()), device)
    found.warnings = list(dict.fromkeys(warnings))
    return found


@dataclass
class _RunCheck:
    """Checks one run.

    Attributes:
        found: Receives the results.
        opt: Options of the run.
        device: Device of the run.
        label: Prefix of the run's checks; empty if there is one run only.
        decoded: Datasets whose files were decoded, by their options, and whether without faults.
        estimate: Receives the cost of the run.
    """

    found: Diagnosis
    opt: RunOptions
    device: torch.device
    label: str
    decoded: dict[str, bool]
    estimate: Estimate

    def run(self) -> None:
        """Runs every check that is possible; a fault does not hide those of other parts."""
        net = self._network()
        data = self.opt.datasets
        specs = {f"val.{key}": spec for key, spec in data.val.items()}
        specs |= {f"test.{key}": spec for key, spec in data.test.items()}
        # A network without parameters is not trained.
        trains = net is None or any(weight.requires_grad for weight in net.parameters())
        train_set = None
        if data.train is not None and self.opt.train is not None and trains:
            train_set = self._dataset("train", data.train, net)
        built = {name: self._dataset(name, spec, net) for name, spec in specs.items()}
        eval_sets = {name: dataset for name, dataset in built.items() if dataset is not None}
        evaluator = self._evaluator()
        if net is None:
            return
        if train_set is not None:
            self._train(net, train_set)
        if evaluator is not None and eval_sets:
            self._evaluate(evaluator, net, *next(iter(eval_sets.items())))
        self._estimate_run(net, eval_sets)
        self.found.estimates.append(self.estimate)

    def _network(self) -> nn.Module | None:
        """Builds the network and loads its weights; returns None if that fails."""
        net = None
        with self.found.check(f"{self.label}network") as say:
            net = build_network(self.opt, self.device)
            say(f"{type(net).__name__}, {sum(p.numel() for p in net.parameters()):,} parameters")
            if line := load_pretrained(self.opt, net):
                say(line)
            assemble(self.opt, net)
        return net

    def _dataset(self, name: str, spec: Mapping[str, Any], net: nn.Module | None) -> Any:
        """Decodes the files of a dataset, once for all runs, and builds it without a cache.

        Returns:
            The dataset; None if it is faulty, does not suit the network, or there is no network.
        """
        channels = None if net is None else arch_info(net).channels
        key = json.dumps([name, plain(spec), self.opt.scale, channels], sort_keys=True, default=str)
        if self.decoded.get(key) is False:  # its faults are reported already
            return None
        with self.found.check(f"datasets.{name}", self.label) as say:
            if key not in self.decoded:
                self.decoded[key] = False
                self._decode(name, spec, channels, say)
                self.decoded[key] = True
            if net is not None:
                return self._build(name, spec, net, say)
        return None

    def _decode(self, name: str, spec: Mapping[str, Any], channels: int | None, say: Say) -> None:
        """Decodes all files of a dataset and notes the size of its cache."""
        at_scales = [spec]
        if name == "train" and spec.get("scales"):
            at_scales = [at_scale(spec, self.opt.scale, scale) for scale in spec["scales"]]
        results = []
        with progress_bar(f"decoding datasets.{name}") as progress:
            for one in at_scales:
                results.append(examine(one, self.opt.scale, name == "train", progress, channels))
        seen = results[0]
        if seen is None:
            return
        if faults := [fault for result in results if result for fault in result.faults]:
            raise UserError(report_by_kind(faults, spec["type"]))
        items = [item for result in results if result for item in result.items]
        gt = list(dict.fromkeys(path for item in items for path in item.gt))
        lq = list(dict.fromkeys(path for item in items for path in item.lq))
        say(f"{len(gt) + len(lq):,} files decoded")
        if folder := spec.get("cache"):
            masks = list(dict.fromkeys(path for item in items for path in item.mask))
            infos = {
                path: info for result in results if result for path, info in result.infos.items()
            }
            size = decoded_size([infos[path] for path in (*gt, *lq, *masks)])
            caches = self.found.caches
            caches[user_path(folder)] = caches.get(user_path(folder), 0) + size

    def _build(
        self, name: str, spec: Mapping[str, Any], net: nn.Module, say: Say
    ) -> TrainDataset | EvalDataset | None:
        spec = {key: value for key, value in spec.items() if key not in _CACHE_OPTIONS}
        try:
            dataset = build_dataset(name, spec, self.opt, net)
        except UserError as error:
            # In a study, a method may skip test sets that its network cannot use.
            may_skip = self.label and name.startswith("test.")
            if not may_skip or not isinstance(error.__cause__, IncompatibleInput):
                raise
            say(f"skipped: {error.__cause__}")
            return None
        if name == "train":
            say(f"{dataset_info(dataset).num_source or len(dataset):,} to draw from")
        else:
            say(f"{len(dataset):,} to score on")
        return dataset

    def _evaluator(self) -> Evaluator | None:
        """Builds the evaluator without the metrics that are not available on this machine."""
        evaluator = None
        with self.found.check("metrics", self.label) as say:
            precision = self.opt.train.precision if self.opt.train else "fp32"
            evaluator = Evaluator(self.opt.val, self.device, precision)
            say(f"protocol {evaluator.protocol.name}")
            for name, metric in list(evaluator.metrics.items()):
                if reason := metric.available():
                    self.found.warnings.append(f"{name} is left out: {reason}")
                    del evaluator.metrics[name]
                elif source := metric.source():
                    say(f"{name} with {source['text']}")
        return evaluator

    def _train(self, net: nn.Module, dataset: TrainDataset) -> None:
        """Trains a few steps and saves a checkpoint, in a temporary folder."""
        opt = replace(self.opt, logger=replace(self.opt.logger, print_freq=1))
        with (
            self.found.check(f"{self.label}training") as say,
            tempfile.TemporaryDirectory(prefix="srtoolbox-") as name,
        ):
            folder = Path(name)
            checkpoints = CheckpointFolder(folder / "checkpoints", 1)
            trainer = Trainer(opt, net, dataset, checkpoints, self.device)
            memory = self._step_memory(trainer)
            seconds = _run_steps(trainer, folder, _MIN_STEPS)
            # If steps are short, some more of them make the measured time more reliable.
            extra = min(_MAX_EXTRA_STEPS, int(_MAX_EXTRA_SECONDS / seconds))
            seconds = _run_steps(trainer, folder, _MIN_STEPS + extra)
            (checkpoint,) = (folder / "checkpoints").iterdir()
            size = checkpoint.stat().st_size
            self.estimate.seconds, self.estimate.checkpoint = seconds, size
            # A checkpoint has what stays in memory between steps: weights, optimizer, average.
            self.estimate.step_memory = memory + size / 2**20
            say(f"{trainer.step} iterations")
        if self.opt.logger.trackers:
            with self.found.check(f"{self.label}trackers") as say:
                say(", ".join(build_trackers(self.opt.logger)))

    def _step_memory(self, trainer: Trainer) -> float:
        """Returns the peak MiB that a step adds, with the most frames and without compilation."""
        opt, net, stream = trainer.opt, trainer.model.networks["g"], trainer.stream
        limits = stream.num_frame_range
        most = None if limits is None else (limits[1], limits[1])
        stream = SampleStream(stream.dataset, stream.seed, stream.batch_size, num_frame_range=most)
        batch = next(stream.batches(0, 1, device=self.device))
        part = next(split_batch(batch, opt.accumulate))
        net.train()
        with without_compilation(net):
            return TrainingStep(trainer.model, part, self.device, opt.precision).memory()

    def _evaluate(
        self, evaluator: Evaluator, net: nn.Module, name: str, dataset: EvalDataset
    ) -> None:
        """Scores the first sample; measures time and memory."""
        with self.found.check(f"{self.label}evaluation") as say:
            first = _FirstSamples(dataset, evaluator)
            net, enhance = assemble(self.opt, net), self.opt.val.enhance
            records: list[Record] = []

            def score() -> None:
                found = evaluator.run(net, first, enhance=enhance)
                records.extend(found[evaluator.protocol.name])

            with torch.no_grad():
                self.estimate.test_memory = peak_memory(score, self.device)
            seconds = sum(record["seconds"] for record in records)
            self.estimate.test_seconds = seconds / len(first)
            scores = [f"{m} {v:.2f}" for m, v in records[0]["metrics"].items() if v is not None]
            say(f"{records[0]['key']} of {name} (untrained: {', '.join(scores)})")

    def _estimate_run(self, net: nn.Module, eval_sets: Mapping[str, EvalDataset]) -> None:
        """Estimates time and disk space of the whole run."""
        opt, train, estimate = self.opt, self.opt.train, self.estimate
        if train is None or estimate.seconds is None or estimate.checkpoint is None:
            return
        num_sample = sum(
            len(dataset) * (1 + (opt.val.frame_use and has_other_frames(net, dataset)))
            for name, dataset in eval_sets.items()
            if name.startswith("val.")
        )
        num_evaluation = -(-train.total_iter // opt.val.val_freq)
        estimate.total = train.total_iter * estimate.seconds
        estimate.total += num_evaluation * num_sample * (estimate.test_seconds or 0)
        estimate.keep = opt.logger.keep_checkpoint
        weights = sum(value.numel() * value.element_size() for value in net.state_dict().values())
        # The newest checkpoint is written before the oldest is deleted. Weights: the latest, the
        # best, and the moving average.
        num_file = 3 if train.ema_decay else 2
        estimate.disk = (estimate.keep + 1) * estimate.checkpoint + num_file * weights


def _run_steps(trainer: Trainer, folder: Path, stop: int) -> float:
    """Trains to step ``stop`` or to the end; returns the median time of a step in seconds.

    The first step is left out if there are others.
    """
    opt = trainer.opt
    stop = min(stop, opt.total_iter)
    trainer.opt = replace(opt, total_iter=stop)  # the schedulers keep the length of the whole run
    level = _log.level
    _log.setLevel(logging.WARNING)  # keeps the log points of the few steps out of the log
    try:
        trainer.run(Reporter(folder, "doctor", stop, trainer.step, tensorboard=False))
    finally:
        _log.setLevel(level)
    trainer.opt = opt
    seconds = [1 / line["it/s"] for line in read_lines(folder / "log.jsonl")]
    return median(seconds[1:] or seconds)


class _FirstSamples:
    """Wraps a dataset and keeps its first sample, or the first two frames of a clip.

    Metrics that compare neighbouring frames need two.
    """

    def __init__(self, dataset: EvalDataset, evaluator: Evaluator) -> None:
        self._dataset = dataset
        self.scale, self.num_frame = dataset.scale, dataset.num_frame
        self.reference = dataset.reference
        clips = dataset_info(dataset).clip_names
        pairs = any(isinstance(metric, ClipMetric) for metric in evaluator.metrics.values())
        two = pairs and clips is not None and len(clips) > 1 and clips[0] == clips[1]
        self._length = 2 if two else 1
        self.clip_names = None if clips is None else clips[: self._length]

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Sample:
        return self._dataset[index]
