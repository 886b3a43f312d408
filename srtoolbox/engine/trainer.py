"""The training loop."""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from srtoolbox.data.stream import Sample, SampleStream, to_device
from srtoolbox.engine.checkpoint import CheckpointFolder
from srtoolbox.engine.optimization import build_optimizer, build_scheduler
from srtoolbox.engine.precision import Precision, autocast, device_memory, synchronize
from srtoolbox.engine.reporter import LoggerSection, Reporter
from srtoolbox.errors import RunError
from srtoolbox.schema import Component, option

_log = logging.getLogger("srtoolbox")


@dataclass(frozen=True)
class TrainSection:
    """How a network is trained."""

    total_iter: int = option(min=1, doc="Optimizer steps.")
    batch_size: int = option(default=16, min=1, doc="Samples per step, over all devices.")
    num_worker: int = option(default=0, min=0, doc="Data loading processes; 0 loads in the loop.")
    accumulate: int = option(default=1, min=1, doc="Parts in which a batch goes through the net.")
    optim_g: Annotated[dict, Component("optimizer")] = field(
        default_factory=lambda: {"type": "Adam", "lr": 1e-4}
    )
    scheduler: Annotated[dict, Component("scheduler", ("T_max", "total_steps"))] | None = None
    warmup_iter: int = option(default=0, min=0, doc="Steps of linear warm-up of the lr.")
    losses: dict[str, Annotated[dict, Component("loss")]] = field(
        default_factory=lambda: {"l_pix": {"type": "L1Loss"}}
    )
    grad_clip: float | None = option(
        default=None, exclusive_min=0, doc="Largest norm of the gradient."
    )
    ema_decay: float = option(default=0.0, min=0, max=1, doc="Decay of the average; 0 = none.")
    precision: Precision = option(default="fp32", doc="Number format of the forward pass.")
    channels_last: bool = option(default=False, doc="Memory format of the network.")

    def validate(self) -> list[tuple[str, str]]:
        """Faults that no single value shows, as (key, message)."""
        faults = []
        if self.batch_size % self.accumulate:
            faults.append(("accumulate", f"batch_size {self.batch_size} is not a multiple of it"))
        if self.warmup_iter >= self.total_iter:
            faults.append(("warmup_iter", f"must be below total_iter ({self.total_iter})"))
        if self.ema_decay == 1:
            faults.append(("ema_decay", "1 would keep the first weights for ever; 0.999 is usual"))
        if not self.losses:
            faults.append(("losses", "name at least one loss"))
        return faults


class Trainer:
    """Trains the networks of a model on a sample stream.

    Args:
        model: Forms the losses; its networks are on ``device``.
        stream: The training samples.
        section: How to train.
        logger: How often to report and save.
        checkpoints: Where states go.
        device: Where to train.
        evaluate: Called with (step, network) every ``eval_freq`` steps and at the end.
        eval_freq: Steps between evaluations.
    """

    def __init__(
        self,
        model: Any,
        stream: SampleStream,
        section: TrainSection,
        logger: LoggerSection,
        checkpoints: CheckpointFolder,
        device: torch.device,
        evaluate: Callable[[int, nn.Module], None] | None = None,
        eval_freq: int = 5000,
    ) -> None:
        self.model, self.stream, self.section, self.logger = model, stream, section, logger
        self.checkpoints, self.device = checkpoints, device
        self.evaluate, self.eval_freq = evaluate, eval_freq
        if section.channels_last:
            for net in model.networks.values():
                net.to(memory_format=torch.channels_last)
        self.optimizers = {
            phase: build_optimizer(section.optim_g, model.networks[phase], device)
            for phase in model.phases
        }
        self.schedulers = {
            phase: build_scheduler(section, optimizer)
            for phase, optimizer in self.optimizers.items()
        }
        self.ema: AveragedModel | None = None
        if section.ema_decay:
            average = get_ema_multi_avg_fn(section.ema_decay)
            self.ema = AveragedModel(model.networks["g"], multi_avg_fn=average)
        self.step = 0
        self.seconds = 0.0  # spent in training proper, over all resumes
        self.best: dict[str, float] = {}
        self.evaluated = 0  # the last step that was evaluated
        self._sums: dict[str, Tensor] = {}
        self._waited = 0.0  # for samples, since the last log point
        self._reported = (0, 0.0)  # step and seconds of the last log point
        self._bad_step = torch.zeros((), dtype=torch.long, device=device)
        self._stop_signal: int | None = None

    @property
    def result(self) -> nn.Module:
        """The network that is evaluated and kept: the average where there is one."""
        return self.ema.module if self.ema is not None else self.model.networks["g"]

    def run(self, reporter: Reporter) -> None:
        """Trains to the end, or to a signal.

        Raises:
            RunError: on a non-finite loss; nothing is saved over the last good checkpoint.
            KeyboardInterrupt: after SIGINT or SIGTERM, once the state is saved.
        """
        total = self.section.total_iter
        for net in self.model.networks.values():
            net.train()
        batches = iter(self.stream.loader(self.step, total, self.section.num_worker))
        with reporter, self._signals():
            self._reported = (self.step, self.seconds)
            self._start_clock()
            self._evaluate_if_due()  # an earlier try may have been stopped just before it
            while self.step < total:
                batch = self._next(batches)
                self._optimize(batch)
                self.step += 1
                last = self.step == total
                stopping = self._stop_signal is not None
                reporter.advance(self.step)
                if self.step % self.logger.print_freq == 0 or last:
                    self._report(reporter)
                if not stopping:
                    self._evaluate_if_due()
                stopping = self._stop_signal is not None
                if self.step % self.logger.save_checkpoint_freq == 0 or last or stopping:
                    self.save()
                if stopping:
                    raise KeyboardInterrupt

    def _evaluate_if_due(self) -> None:
        """Evaluates this step's network unless that is not yet due or already done."""
        due = self.step % self.eval_freq == 0 or self.step == self.section.total_iter
        if self.evaluate is None or not due or self.evaluated == self.step:
            return
        self._check_finite()  # else a score that is no number could pass for the best one
        self._stop_clock()
        self.evaluate(self.step, self.result)
        self.evaluated = self.step
        self._start_clock()

    def _optimize(self, batch: Sample) -> None:
        """One optimizer step for every phase of the model."""
        # Whatever a network draws (dropout, gates) depends on seed and step, not on history.
        torch.manual_seed(self.stream.seed * 1_000_003 + self.step)
        section = self.section
        for phase in self.model.phases:
            optimizer = self.optimizers[phase]
            optimizer.zero_grad(set_to_none=True)
            for part in _split(batch, section.accumulate):
                with autocast(self.device, section.precision):
                    losses = self.model.objective(phase, part)
                losses = {name: loss * self._share(name) for name, loss in losses.items()}
                total = sum(losses.values())
                total.backward()
                self._book(losses, total)
            if section.grad_clip is not None:
                parameters = self.model.networks[phase].parameters()
                nn.utils.clip_grad_norm_(parameters, section.grad_clip)
            optimizer.step()
            self.schedulers[phase].step()
        if self.ema is not None:
            self.ema.update_parameters(self.model.networks["g"])

    def _share(self, loss: str) -> float:
        """The weight of one part of a batch: parts of a mean are averaged, those of a sum added."""
        summed = getattr(self.model.losses[loss], "reduction", "mean") == "sum"
        return 1.0 if summed else 1 / self.section.accumulate

    def save(self) -> None:
        """Writes a checkpoint of everything that the rest of the run depends on."""
        self._check_finite()
        self._stop_clock()
        self.checkpoints.save(self.step, self.state_dict())
        self._start_clock()

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on; the sample stream has no state."""
        return {
            "step": self.step,
            "networks": {name: net.state_dict() for name, net in self.model.networks.items()},
            "ema": self.ema.state_dict() if self.ema is not None else None,
            "optimizers": {name: item.state_dict() for name, item in self.optimizers.items()},
            "schedulers": {name: item.state_dict() for name, item in self.schedulers.items()},
            "best": self.best,
            "evaluated": self.evaluated,
            "seconds": self.seconds,
            "sums": dict(self._sums),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where ``state_dict`` was taken."""
        for name, net in self.model.networks.items():
            net.load_state_dict(state["networks"][name])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        for name, scheduler in self.schedulers.items():
            scheduler.load_state_dict(state["schedulers"][name])
        self.step, self.seconds = state["step"], state["seconds"]
        self.best, self._sums = state["best"], state["sums"]
        self.evaluated = state["evaluated"]

    # Bookkeeping: losses stay on the device and are read only at log points, because reading
    # one makes the host wait for the device.

    def _book(self, losses: dict[str, Tensor], total: Tensor) -> None:
        for name, loss in losses.items():
            value = loss.detach()
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        fresh = (self._bad_step == 0) & ~torch.isfinite(total.detach())
        self._bad_step = torch.where(fresh, self.step + 1, self._bad_step)

    def _report(self, reporter: Reporter) -> None:
        self._check_finite()
        self._stop_clock()
        steps = (self.step - 1) % self.logger.print_freq + 1
        figures = {name: float(value) / steps for name, value in self._sums.items()}
        figures["lr"] = self.optimizers["g"].param_groups[0]["lr"]
        elapsed = max(self.seconds - self._reported[1], 1e-9)
        rate = {
            "it/s": (self.step - self._reported[0]) / elapsed,
            "data wait": min(self._waited / elapsed, 1.0),
            "memory": device_memory(self.device),
        }
        reporter.training(self.step, figures, rate)
        self._sums.clear()
        self._reported, self._waited = (self.step, self.seconds), 0.0
        self._start_clock()

    def _check_finite(self) -> None:
        bad = int(self._bad_step)
        if bad:
            keys = ", ".join(self.stream.keys(bad - 1))
            raise RunError(
                f"the loss became non-finite at step {bad} (samples: {keys}); the last checkpoint "
                "is untouched; try a lower lr, train.grad_clip, train.warmup_iter or precision "
                "fp32"
            )

    def _next(self, batches: Iterator[Sample]) -> Sample:
        start = time.perf_counter()
        batch = next(batches)
        self._waited += time.perf_counter() - start
        return to_device(batch, self.device)

    def _start_clock(self) -> None:
        self._clock_started = time.perf_counter()

    def _stop_clock(self) -> None:
        synchronize(self.device)
        self.seconds += time.perf_counter() - self._clock_started

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Turns the first SIGINT or SIGTERM into a stop after the current step."""

        def note(number: int, _: object) -> None:
            _log.warning("%s: saving after this step", signal.Signals(number).name)
            self._stop_signal = number
            signal.signal(number, previous[number])  # a second one acts at once

        previous = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                previous[number] = signal.signal(number, note)
            except ValueError:  # not the main thread: the caller handles signals
                break
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


def _split(batch: Sample, parts: int) -> Iterator[Sample]:
    if parts == 1:
        yield batch
        return
    lq, gt = batch["lq"].chunk(parts), batch["gt"].chunk(parts)
    size = math.ceil(len(batch["key"]) / parts)
    for i in range(parts):
        keys = batch["key"][i * size : (i + 1) * size]
        yield {**batch, "lq": lq[i], "gt": gt[i], "key": keys}
