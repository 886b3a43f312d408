"""The training loop, the state that its checkpoints hold, and the losses between two log points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from srtoolbox.engine.training.sharding import (
    load_network,
    load_optimizer,
    network_state,
    optimizer_state,
)

if TYPE_CHECKING:
    pass
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from srtoolbox.data.stream import Sample, SampleStream, split_batch
from srtoolbox.engine.device.distributed import SINGLE_PROCESS, Ranks
from srtoolbox.engine.device.precision import (
    autocast,
    device_memory,
    is_out_of_memory,
    loss_scaler,
    synchronize,
)
from srtoolbox.engine.options import LoggerOptions, TrainOptions
from srtoolbox.engine.training.acceleration import accelerate, compile_fails
from srtoolbox.engine.training.checkpoint import CheckpointFolder
from srtoolbox.engine.training.ema import EMA
from srtoolbox.engine.training.nonfinite import describe_batch, find_nonfinite
from srtoolbox.engine.training.optimization import (
    ParameterFreezer,
    build_optimizer,
    build_scheduler,
    gradient_norm,
)
from srtoolbox.engine.training.reporter import Reporter
from srtoolbox.engine.training.sharding import is_sharded, shard
from srtoolbox.engine.training.signals import StopSignals
from srtoolbox.errors import RunError, UserError


def take_state(trainer: Trainer) -> dict[str, Any]:
    """The state of a trainer between two steps.

    Of a sharded network it is whole in the main process; all processes must ask.
    """
    networks = trainer.model.networks
    ema = trainer.ema
    return {
        "step": trainer.step,
        "networks": {name: network_state(net) for name, net in networks.items()},
        "ema": None
        if ema is None
        else {"module": network_state(ema.module), "n_averaged": int(ema.n_averaged)},
        "optimizers": {
            name: optimizer_state(networks[name], optimizer)
            for name, optimizer in trainer.optimizers.items()
        },
        "schedulers": {name: item.state_dict() for name, item in trainer.schedulers.items()},
        "scaler": trainer.scaler.state_dict(),
        "best": trainer.best,
        "evaluated": trainer.evaluated,
        "seconds": trainer.seconds,
        "sums": dict(trainer.meter.sums),
    }


def restore_state(trainer: Trainer, state: dict[str, Any]) -> None:
    """Goes on where the state was taken, with as many processes as there are now."""
    networks = trainer.model.networks
    for name, net in networks.items():
        load_network(net, state["networks"][name])
    if trainer.ema is not None:
        load_network(trainer.ema.module, state["ema"]["module"])
        trainer.ema.n_averaged.fill_(state["ema"]["n_averaged"])
    for name, optimizer in trainer.optimizers.items():
        load_optimizer(networks[name], optimizer, state["optimizers"][name])
    for name, scheduler in trainer.schedulers.items():
        scheduler.load_state_dict(state["schedulers"][name])
    if trainer.scaler.is_enabled():
        trainer.scaler.load_state_dict(state["scaler"])
    trainer.step, trainer.seconds = state["step"], state["seconds"]
    trainer.best, trainer.meter.sums = state["best"], state["sums"]
    trainer.evaluated = state["evaluated"]


class LossMeter:
    """Books losses and gradients step by step.

    Args:
        device: Where the losses are.
    """

    def __init__(self, device: torch.device) -> None:
        self.sums: dict[str, Tensor] = {}
        self._bad_step = torch.zeros((), dtype=torch.long, device=device)

    def add(self, name: str, value: Tensor) -> None:
        """Adds to the sum of a figure."""
        value = value.detach()
        self.sums[name] = self.sums[name] + value if name in self.sums else value

    def check(self, step: int, value: Tensor) -> None:
        """Notes ``step`` if ``value`` is the first that is not finite."""
        fresh = (self._bad_step == 0) & ~torch.isfinite(value.detach())
        self._bad_step = torch.where(fresh, step, self._bad_step)

    def found_inf(self) -> Tensor:
        """1.0 on the device once a value was not finite, else 0.0."""
        return (self._bad_step > 0).float()

    @property
    def bad_step(self) -> int:
        """The first step with a non-finite value, 0 if there is none. Waits for the device."""
        return int(self._bad_step)

    def close(self, steps: int) -> dict[str, float]:
        """The means over ``steps`` steps; begins anew. Waits for the device."""
        figures = {name: float(value) / steps for name, value in self.sums.items()}
        self.sums.clear()
        return figures


_TRY_NEXT = "try a lower lr, train.grad_clip, train.warmup_iter or precision fp32"

_TRY_LESS = (
    "raise train.accumulate, lower train.batch_size or gt_size, or set train.checkpointing or "
    "precision bf16"
)


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
        ranks: The processes that train together; each has its share of every batch.
    """

    def __init__(
        self,
        model: Any,
        stream: SampleStream,
        section: TrainOptions,
        logger: LoggerOptions,
        checkpoints: CheckpointFolder,
        device: torch.device,
        evaluate: Callable[[int, nn.Module], None] | None = None,
        eval_freq: int = 5000,
        ranks: Ranks = SINGLE_PROCESS,
    ) -> None:
        self.model, self.stream, self.section, self.logger = model, stream, section, logger
        self.checkpoints, self.device = checkpoints, device
        self.evaluate, self.eval_freq, self.ranks = evaluate, eval_freq, ranks
        for name, net in model.networks.items():
            accelerate(net, section, generator=name == "g")
        self.ema = EMA(model.networks["g"], section.ema_decay) if section.ema_decay else None
        if section.shard and ranks.size > 1:
            for net in (model.networks["g"], self.result):
                if not is_sharded(net):
                    shard(net, ranks.size, device)
        self.optimizers = {phase: self._optimizer(phase) for phase in model.phases}
        self.schedulers = {
            phase: build_scheduler(section, optimizer)
            for phase, optimizer in self.optimizers.items()
        }
        self.parameter_freezer = ParameterFreezer(model.networks["g"], section.param_groups)
        self.scaler = loss_scaler(device, section.precision)
        self.step = 0
        self.seconds = 0.0  # spent in training proper, over all resumes
        self.best: dict[str, float] = {}
        self.evaluated = 0  # the last step that was evaluated
        self.meter = LossMeter(device)
        self._waited = 0.0  # for samples, since the last log point
        self._reported = (0, 0.0)  # step and seconds of the last log point

    def _optimizer(self, phase: str) -> torch.optim.Optimizer:
        section = self.section
        spec = section.optim_g if phase == "g" else section.optim_d or section.optim_g
        groups = section.param_groups if phase == "g" else ()
        return build_optimizer(spec, self.model.networks[phase], self.device, groups)

    @property
    def result(self) -> nn.Module:
        """The network that is evaluated and kept: the average where there is one."""
        return self.ema.module if self.ema is not None else self.model.networks["g"]

    def run(self, reporter: Reporter) -> None:
        """Trains to the end, or to a signal.

        Raises:
            RunError: on a non-finite loss or gradient, out of memory, or samples that cannot be
                read; nothing is saved over the last good checkpoint.
            KeyboardInterrupt: after SIGINT or SIGTERM, once the state is saved.
        """
        total = self.section.total_iter
        for net in self.model.networks.values():
            net.train()
        batches = self.stream.batches(self.step, total, self.section.num_worker, self.device)
        with reporter, StopSignals() as signals:
            self._reported = (self.step, self.seconds)
            self._start_clock()
            if self._evaluate_if_due():  # an earlier try was stopped just before it
                self.save()
            while self.step < total:
                self._optimize(self._next(batches))
                self.step += 1
                last = self.step == total
                reporter.advance(self.step)
                if self.step % self.logger.print_freq == 0 or last:
                    self._report(reporter)
                stopping = self.ranks.any(signals.stopping)
                if not stopping and self._evaluate_if_due():
                    stopping = self.ranks.any(signals.stopping)
                if self.step % self.logger.save_checkpoint_freq == 0 or last or stopping:
                    self.save()
                if stopping:
                    raise KeyboardInterrupt

    def _evaluate_if_due(self) -> bool:
        """Evaluates this step's network unless that is not yet due or already done; tells which."""
        due = self.step % self.eval_freq == 0 or self.step == self.section.total_iter
        if self.evaluate is None or not due or self.evaluated == self.step:
            return False
        self._check_finite()  # else a score that is no number could pass for the best one
        self._stop_clock()
        self.evaluate(self.step, self.result)
        self.evaluated = self.step
        self._start_clock()
        return True

    def _optimize(self, batch: Sample) -> None:
        """One optimizer step for every phase of the model."""
        self.parameter_freezer.apply(self.step)
        for number, phase in enumerate(self.model.phases):
            try:
                self._update(phase, batch)
            except Exception as error:
                if is_out_of_memory(error):
                    raise self._out_of_memory(batch, untouched=number == 0) from error
                if not compile_fails(self.model.networks, error):
                    raise
                self._update(phase, batch)
        if self.scaler.is_enabled():
            self.scaler.update()
        if self.ema is not None:
            self.ema.update_parameters(self.model.networks["g"])

    def _update(self, phase: str, batch: Sample) -> None:
        """One optimizer step of one phase."""
        self._seed(self.step)
        section, optimizer = self.section, self.optimizers[phase]
        optimizer.zero_grad(set_to_none=True)
        for part in split_batch(batch, section.accumulate):
            with autocast(self.device, section.precision):
                losses = self.model.objective(phase, part, self.step)
            if not losses:  # nothing of this phase counts yet: there is no gradient to follow
                optimizer.step()
                self.schedulers[phase].step()
                return
            losses = {name: loss * self._share(name) for name, loss in losses.items()}
            total = sum(losses.values())
            self.scaler.scale(total).backward()
            for name, loss in losses.items():
                self.meter.add(name, loss)
            self.meter.check(self.step + 1, total)
        self.ranks.average_gradients(self.model.networks[phase])
        self.scaler.unscale_(optimizer)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = gradient_norm(parameters, section.grad_clip)
        self.meter.add(f"grad_{phase}", norm)
        if not self.scaler.is_enabled():  # which expects gradients to overflow at times
            self.meter.check(self.step + 1, norm)
        self._apply(optimizer)
        self.schedulers[phase].step()

    def _seed(self, step: int) -> None:
        """Whatever a network draws (dropout, gates) depends on seed and step, not on history."""
        seed = self.stream.seed * 1_000_003 + step + 7_368_787 * self.ranks.rank
        # torch.manual_seed would do, but looks for every kind of device each time.
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def _apply(self, optimizer: torch.optim.Optimizer) -> None:
        """The optimizer's step, unless a value was not finite: the weights must stay good."""
        if self.scaler.is_enabled():
            self.scaler.step(optimizer)
        elif self.device.type == "cpu":
            self._check_finite()
            optimizer.step()
        elif getattr(optimizer, "_step_supports_amp_scaling", False):
            # Fused optimizers look at this on the device, where no host has to wait for it.
            optimizer.grad_scale, optimizer.found_inf = None, self.meter.found_inf()
            optimizer.step()
            del optimizer.grad_scale, optimizer.found_inf
        else:
            optimizer.step()

    def _share(self, loss: str) -> float:
        """The weight of one part of a batch: parts of a mean are averaged, those of a sum added.

        What the processes have is averaged afterwards, of sums too.
        """
        summed = getattr(self.model.losses.get(loss), "reduction", "mean") == "sum"
        return float(self.ranks.size) if summed else 1 / self.section.accumulate

    def save(self) -> None:
        """Writes a checkpoint of everything that the rest of the run depends on."""
        self._check_finite()
        self._stop_clock()
        self.ranks.average(self.meter.sums.values())  # which leaves their mean as it is
        state = self.state_dict()
        if self.ranks.is_main:
            self.checkpoints.save(self.step, state)
        self._start_clock()

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on; the sample stream has no state."""
        return take_state(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where ``state_dict`` was taken."""
        restore_state(self, state)

    def _report(self, reporter: Reporter) -> None:
        self._check_finite()
        self._stop_clock()
        figures = self.ranks.mean(self.meter.close((self.step - 1) % self.logger.print_freq + 1))
        figures["lr"] = self.optimizers["g"].param_groups[0]["lr"]
        elapsed = max(self.seconds - self._reported[1], 1e-9)
        rate = {
            "it/s": (self.step - self._reported[0]) / elapsed,
            "data wait": min(self._waited / elapsed, 1.0),
            "memory": device_memory(self.device),
        }
        reporter.training(self.step, figures, rate)
        self._reported, self._waited = (self.step, self.seconds), 0.0
        self._start_clock()

    def _check_finite(self) -> None:
        bad = self.meter.bad_step
        if bad:
            batch = next(self.stream.batches(bad - 1, bad, device=self.device))
            self._seed(bad - 1)
            with autocast(self.device, self.section.precision):
                place = find_nonfinite(self.model, batch, bad - 1)
            raise RunError(
                f"the loss or its gradient became non-finite at step {bad} "
                f"(samples: {', '.join(batch['key'])}), {place}; the last checkpoint is untouched; "
                f"{_TRY_NEXT}"
            )

    def _out_of_memory(self, batch: Sample, untouched: bool) -> RunError:
        """What to say; the state is saved first where this step has changed nothing yet."""
        sizes = describe_batch(batch, self.section.accumulate)
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        if untouched:
            self._save_alone()
        return RunError(
            f"out of memory in training step {self.step + 1} with {sizes} at a time; {_TRY_LESS}; "
            "then go on with --resume"
        )

    def _save_alone(self) -> None:
        """Saves where no other process has to take part, as it may not be in trouble too."""
        if self.ranks.size == 1:
            self.save()

    def _next(self, batches: Iterator[Sample]) -> Sample:
        start = time.perf_counter()
        try:
            batch = next(batches)
        except (UserError, RuntimeError) as error:
            raise self._data_failure(error) from error
        self._waited += time.perf_counter() - start
        return batch

    def _data_failure(self, error: Exception) -> RunError:
        """What to say if samples cannot be had; the state is saved first."""
        self._save_alone()
        # An error in a worker comes with the worker's traceback; its last line says what it was.
        reason = str(error).strip().splitlines()[-1].rpartition("Error: ")[2]
        return RunError(
            f"the samples of step {self.step + 1} cannot be had: {reason}; put it right and go on "
            "with --resume"
        )

    def _start_clock(self) -> None:
        self._clock_started = time.perf_counter()

    def _stop_clock(self) -> None:
        synchronize(self.device)
        self.seconds += time.perf_counter() - self._clock_started
