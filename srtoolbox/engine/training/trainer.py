"""The training loop and the state that its checkpoints contain."""

from __future__ import annotations

import logging
import math
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from srtoolbox.data.base import Batch, TrainDataset
from srtoolbox.data.stream import SampleStream, split_batch
from srtoolbox.engine.build import build_model
from srtoolbox.engine.device.distributed import SINGLE_PROCESS, Ranks
from srtoolbox.engine.device.precision import (
    autocast,
    device_memory,
    loss_scaler,
    synchronize,
)
from srtoolbox.engine.options import RunOptions
from srtoolbox.engine.training.acceleration import accelerate, compile_fails
from srtoolbox.engine.training.checkpoint import CheckpointFolder
from srtoolbox.engine.training.ema import EMA
from srtoolbox.engine.training.meter import LossMeter
from srtoolbox.engine.training.nonfinite import describe_batch, find_nonfinite, nonfinite_weight
from srtoolbox.engine.training.optimization import (
    ParameterFreezer,
    build_optimizer,
    build_scheduler,
    gradient_norm,
)
from srtoolbox.engine.training.plateau import Plateau
from srtoolbox.engine.training.reporter import Reporter
from srtoolbox.engine.training.signals import stop_signals
from srtoolbox.engine.weights.pixels import pixel_facts
from srtoolbox.errors import RunError, UserError, is_out_of_memory
from srtoolbox.metrics import build_metric
from srtoolbox.models.base import Model, compute_losses, sum_losses
from srtoolbox.models.frames import varying_frames
from srtoolbox.utils.files import interrupt_on
from srtoolbox.utils.malloc import freed_memory_kept, freed_memory_returned
from srtoolbox.utils.torch_private import change_counts, step_if_finite, supports_found_inf

_log = logging.getLogger("srtoolbox")


class Trainer:
    """Trains the networks of a run's model on its sample stream, from step 0.

    Args:
        opt: A run with a ``train`` section.
        net: Its network, on ``device``.
        dataset: Its training dataset.
        checkpoints: Folder of the checkpoints.
        device: Device to train on.
        evaluate: Called with the trainer and its reporter every ``val.val_freq`` steps and after
            the last step; returns the scores by metric that ``train.monitor`` may name.
        ranks: The processes that train together; each has its part of every batch.

    Attributes:
        model: Computes the losses.
        stream: The training samples.
        opt: The ``train`` section.
        pixels: Facts about the pixels of the dataset, for weight files.
        eval_freq: Steps between evaluations.
        step: Number of finished steps.
        seconds: Time of the training steps, over all resumes.
        best: Value and step of the best evaluation, for ``evaluate`` to set.
        evaluated: The last evaluated step.

    Raises:
        UserError: if the options do not suit the network or the dataset.
    """

    def __init__(
        self,
        opt: RunOptions,
        net: nn.Module,
        dataset: TrainDataset,
        checkpoints: CheckpointFolder,
        device: torch.device,
        evaluate: Callable[[Trainer, Reporter], Mapping[str, float | None]] | None = None,
        ranks: Ranks = SINGLE_PROCESS,
    ) -> None:
        assert opt.train is not None, "the options have no 'train' section"
        train = self.opt = opt.train
        self.logger, self.eval_freq = opt.logger, opt.val.val_freq
        self.checkpoints, self.device = checkpoints, device
        self.evaluate, self.ranks = evaluate, ranks
        num_frame_range = varying_frames(net, dataset, train.num_frame_range)
        self.stream = SampleStream(
            *(dataset, opt.manual_seed, train.batch_size, ranks.rank, ranks.size, num_frame_range)
        )
        self.model: Model = build_model(opt, net, dataset)
        self.pixels = pixel_facts(opt.datasets.train, dataset)
        for name, network in self.model.networks.items():
            accelerate(network, train, generator=name == "g")
        self.ema = EMA(self.model.networks["g"], train.ema_decay) if train.ema_decay else None
        self.optimizers = {phase: self._build_optimizer(phase) for phase in self.model.phases}
        self.schedulers = {
            phase: build_scheduler(train, optimizer) for phase, optimizer in self.optimizers.items()
        }
        self.plateau = self._build_plateau(opt) if train.on_plateau else None
        self.parameter_freezer = ParameterFreezer(self.model.networks["g"], train.param_groups)
        self.scaler = loss_scaler(device, train.precision)
        self.step = 0
        self.seconds = 0.0
        self.best: dict[str, float] = {}
        self.evaluated = 0
        self.meter = LossMeter(device)
        self._buffers = [buffer for net in self.model.networks.values() for buffer in net.buffers()]
        self._applies = False  # whether the update at hand has begun to change weights
        self._waited = 0.0  # seconds of waiting for samples since the last log point
        self._closed = 0  # step of the last log point, at which the sums of losses start again
        self._reported = (0, 0.0)  # step and seconds of the last log point

    def _build_optimizer(self, phase: str) -> torch.optim.Optimizer:
        opt = self.opt
        spec = opt.optim_g if phase == "g" else opt.optim_d or opt.optim_g
        groups = opt.param_groups if phase == "g" else ()
        return build_optimizer(spec, self.model.networks[phase], self.device, groups)

    def _build_plateau(self, opt: RunOptions) -> Plateau:
        train, metric = self.opt, self.opt.monitored_metric
        higher = metric is not None and (build_metric(opt.val.metrics[metric]).higher_is_better)
        epoch_iter = train.epoch_iter or math.ceil(self.stream.num_source / train.batch_size)
        return Plateau(train, self.optimizers, epoch_iter, higher, self.device)

    @property
    def result(self) -> nn.Module:
        """The network that is evaluated and kept: the average of the weights if there is one."""
        return self.ema.module if self.ema is not None else self.model.networks["g"]

    def resume(self) -> bool:
        """Loads the newest usable checkpoint; returns whether there was one.

        Raises:
            RunError: if there are checkpoints, but all are unusable.
        """
        state = self.checkpoints.load_latest(self.device)
        if state is not None:
            self.load_state_dict(state)
        return state is not None

    def run(self, reporter: Reporter) -> None:
        """Trains until the last step, or until a signal.

        Raises:
            RunError: for a non-finite loss or gradient, if memory runs out, or if samples cannot be
                read; the last good checkpoint is never overwritten.
            KeyboardInterrupt: after SIGINT or SIGTERM, once the state is saved.
        """
        total = self.opt.total_iter
        for net in self.model.networks.values():
            net.train()
        batches = self.stream.batches(self.step, total, self.opt.workers, self.device)
        with reporter, stop_signals() as signals, freed_memory_kept(self.device.type == "cpu"):
            self._reported = (self.step, self.seconds)
            self._start_clock()
            if self._evaluate_or_save(reporter):  # the run was stopped before this evaluation
                self.save()
            stopping = False
            while self.step < total and not stopping:
                self._optimize(self._next(batches))
                self.step += 1
                if self.plateau is not None:
                    self.plateau.end_step(self.step)
                last = self.step == total
                reporter.advance(self.step)
                if self.step % self.logger.print_freq == 0 or last:
                    self._report(reporter)
                stopping = self.ranks.any(signals.stopping)
                if not stopping and self._evaluate_or_save(reporter):
                    stopping = self.ranks.any(signals.stopping)
                if self.step % self.logger.save_checkpoint_freq == 0 or last or stopping:
                    self.save()
            if self.ranks.any(signals.stopping):  # it may have come in the last save
                raise KeyboardInterrupt

    def _evaluate_or_save(self, reporter: Reporter) -> bool:
        """Evaluates the network if this step is due and not yet evaluated; returns whether.

        A signal ends the evaluation, which a resumed run repeats. Several processes finish it,
        because they wait for each other in it.

        Raises:
            KeyboardInterrupt: after SIGINT or SIGTERM, once the state is saved.
        """
        due = self.step % self.eval_freq == 0 or self.step == self.opt.total_iter
        if self.evaluate is None or not due or self.evaluated == self.step:
            return False
        self._check_finite()  # a score of NaN could be taken for the best one
        self._check_weights()
        self._stop_clock()
        numbers = (signal.SIGINT, signal.SIGTERM) if self.ranks.size == 1 else ()
        try:
            # Images have other sizes than crops.
            with interrupt_on(*numbers), freed_memory_returned():
                scores = self.evaluate(self, reporter)
        except KeyboardInterrupt:
            if self.ranks.size == 1:
                _log.warning("interrupted in the evaluation after step %d: saving", self.step)
                self._start_clock()
                self.save()
            raise
        # From here no signal interrupts: the scores must count once for the learning rate.
        if self.plateau is not None:
            self.plateau.end_evaluation(self.step, scores)
        self.evaluated = self.step
        self._start_clock()
        return True

    def _optimize(self, batch: Batch) -> None:
        """Makes one optimizer step for every phase of the model."""
        parts = self._begin_step(batch)
        for number, phase in enumerate(self.model.phases):
            sums, versions = dict(self.meter.sums), change_counts(self._buffers)
            self._applies = False
            try:
                self._update(phase, parts)
            except Exception as error:
                self.meter.sums = sums  # a repeated or resumed step adds its losses again
                if is_out_of_memory(error):
                    same = not self._applies and change_counts(self._buffers) == versions
                    raise self._out_of_memory(batch, unchanged=number == 0 and same) from error
                if self._applies or not compile_fails(self.model.networks, error):
                    raise
                self._update(phase, parts)
        self._end_step()

    def try_step(self, batch: Batch) -> None:
        """Makes one optimizer step for a measurement: no error is handled, nothing is saved."""
        parts = self._begin_step(batch)
        for phase in self.model.phases:
            self._update(phase, parts)
        self._end_step()

    def _begin_step(self, batch: Batch) -> list[tuple[Batch, dict[str, Any]]]:
        """Returns the parts of a batch, each with an empty ``memo`` (see ``Model.objective``)."""
        self.parameter_freezer.apply(self.step)
        return [(part, {}) for part in split_batch(batch, self.opt.accumulate)]

    def _end_step(self) -> None:
        if self.scaler.is_enabled():
            self.scaler.update()
        if self.ema is not None:
            self.ema.update_parameters(self.model.networks["g"])

    def _update(self, phase: str, parts: list[tuple[Batch, dict[str, Any]]]) -> None:
        """Makes one optimizer step of one phase.

        Args:
            phase: The phase.
            parts: The parts of the batch, each with its ``memo`` (see ``Model.objective``).
        """
        self._seed(self.step)
        opt, optimizer = self.opt, self.optimizers[phase]
        optimizer.zero_grad(set_to_none=True)
        totals = []
        for part, memo in parts:
            with autocast(self.device, opt.precision):
                losses = compute_losses(self.model, phase, part, self.step, memo)
            if not losses:  # no loss of this phase counts now, so there is no gradient
                self._applies = True
                optimizer.step()
                self.schedulers[phase].step()
                return
            losses = {name: loss * self._weight(name) for name, loss in losses.items()}
            total = sum_losses(losses)
            self.scaler.scale(total).backward()
            for name, loss in losses.items():
                self.meter.add(name, loss)
            self.meter.check(self.step + 1, total)
            totals.append(total.detach())
        self.ranks.average_gradients(self.model.networks[phase])
        self.scaler.unscale_(optimizer)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = gradient_norm(parameters, opt.grad_clip)
        self.meter.add(f"grad_{phase}", norm)
        if not self.scaler.is_enabled():  # with loss scaling, gradients may overflow
            self.meter.check(self.step + 1, norm)
        self._applies = True
        self._apply(optimizer)
        self.schedulers[phase].step()
        if phase == "g" and self.plateau is not None and self.plateau.needs_loss:
            loss = torch.stack(totals).sum()
            self.ranks.average([loss])  # at each step, so that a resume has the same sums
            self.plateau.add_loss(self.step, loss)

    def _seed(self, step: int) -> None:
        """Seeds torch, so that random layers (e.g. dropout) depend only on run seed and step."""
        seed = self.stream.seed * 1_000_003 + step + 7_368_787 * self.ranks.rank
        # torch.manual_seed would also work, but it looks for all kinds of devices each time.
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def _apply(self, optimizer: torch.optim.Optimizer) -> None:
        """Makes the optimizer's step unless a value was not finite, so that weights stay valid."""
        if self.scaler.is_enabled():
            self.scaler.step(optimizer)
        elif self.device.type == "cpu":
            self._check_finite()
            optimizer.step()
        elif supports_found_inf(optimizer):
            step_if_finite(optimizer, self.meter.found_inf())
        else:
            optimizer.step()

    def _weight(self, loss: str) -> float:
        """Returns the weight of a loss of one part of a batch.

        Parts of a mean are averaged, parts of a sum are added. Gradients are averaged over the
        processes in both cases.
        """
        summed = getattr(self.model.losses.get(loss), "reduction", "mean") == "sum"
        return float(self.ranks.size) if summed else 1 / self.opt.accumulate

    def save(self) -> None:
        """Writes a checkpoint; all processes must call this.

        Raises:
            RunError: if a loss, gradient or weight is not finite; nothing is written then.
        """
        self._check_finite()
        self._check_weights()
        self._stop_clock()
        self.ranks.average(self.meter.sums.values())  # this does not change their mean
        state = self.state_dict()
        if self.ranks.is_main:
            self.checkpoints.save(self.step, state)
        self._start_clock()

    def state_dict(self) -> dict[str, Any]:
        """Returns everything that the rest of the run depends on; the stream has no state."""
        ema = self.ema
        return {
            "step": self.step,
            "networks": {name: net.state_dict() for name, net in self.model.networks.items()},
            "ema": None
            if ema is None
            else {"module": ema.module.state_dict(), "n_averaged": int(ema.n_averaged)},
            "optimizers": {name: item.state_dict() for name, item in self.optimizers.items()},
            "schedulers": {name: item.state_dict() for name, item in self.schedulers.items()},
            "plateau": None if self.plateau is None else self.plateau.state_dict(),
            "scaler": self.scaler.state_dict(),
            "best": self.best,
            "evaluated": self.evaluated,
            "seconds": self.seconds,
            "sums": dict(self.meter.sums),
            "closed": self._closed,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a result of ``state_dict``; the number of processes may differ."""
        for name, net in self.model.networks.items():
            net.load_state_dict(state["networks"][name])
        if self.ema is not None:
            self.ema.module.load_state_dict(state["ema"]["module"])
            self.ema.n_averaged.fill_(state["ema"]["n_averaged"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        for name, scheduler in self.schedulers.items():
            scheduler.load_state_dict(state["schedulers"][name])
        if self.plateau is not None:
            self.plateau.load_state_dict(state["plateau"])
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.best, self.meter.sums = state["best"], state["sums"]
        self.evaluated = state["evaluated"]
        # Checkpoints of earlier versions do not have it.
        freq = self.logger.print_freq
        last = self.step // freq * freq if self.meter.sums else self.step
        self._closed = state.get("closed", last)

    def _report(self, reporter: Reporter) -> None:
        self._check_finite()
        self._stop_clock()
        figures = self.ranks.mean(self.meter.close(self.step - self._closed))
        self._closed = self.step
        figures["lr"] = self.optimizers["g"].param_groups[0]["lr"]
        elapsed = max(self.seconds - self._reported[1], 1e-9)
        speed = {
            "it/s": (self.step - self._reported[0]) / elapsed,
            "data wait": min(self._waited / elapsed, 1.0),
            "memory": device_memory(self.device),
        }
        reporter.training(self.step, figures, speed)
        self._reported, self._waited = (self.step, self.seconds), 0.0
        self._start_clock()

    def _check_finite(self) -> None:
        """Raises a ``RunError`` if a loss or gradient was not finite. Waits for the device."""
        if bad := self.meter.bad_step:
            batch = next(self.stream.batches(bad - 1, bad, device=self.device))
            self._seed(bad - 1)
            with autocast(self.device, self.opt.precision):
                cause = find_nonfinite(self.model, batch, bad - 1)
            raise RunError(
                f"the loss or its gradient became non-finite at step {bad} "
                f"(samples: {', '.join(batch['key'])}), {cause}; the last checkpoint is untouched; "
                "try a lower lr, train.grad_clip, train.warmup_iter or precision fp32"
            )

    def _check_weights(self) -> None:
        """Raises a ``RunError`` if a weight is not finite, although losses and gradients were.

        The learning rate may be NaN, or an update may overflow.
        """
        networks = dict(self.model.networks)
        if self.ema is not None:
            networks["g_ema"] = self.ema.module
        if name := nonfinite_weight(networks):
            lr = self.optimizers["g"].param_groups[0]["lr"]
            raise RunError(
                f"{name} is not finite after step {self.step}, although the loss was (lr is now "
                f"{float(lr):.4g}); nothing is saved of this step and the last checkpoint is "
                "untouched; try a lower lr, train.grad_clip, train.warmup_iter or precision fp32"
            )

    def _out_of_memory(self, batch: Batch, unchanged: bool) -> RunError:
        """Builds the out-of-memory error, after saving if this step has changed nothing yet."""
        sizes = describe_batch(batch, self.opt.accumulate)
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        if unchanged:
            self._save_in_single_process()
        return RunError(
            f"out of memory in training step {self.step + 1} with {sizes} at a time; raise "
            "train.accumulate, lower train.batch_size or gt_size, or set train.checkpointing or "
            "precision bf16; then continue with --resume"
        )

    def _save_in_single_process(self) -> None:
        """Saves unless other processes would have to take part, which may not have failed."""
        if self.ranks.size == 1:
            self.save()

    def _next(self, batches: Iterator[Batch]) -> Batch:
        start = time.perf_counter()
        try:
            batch = next(batches)
        except (UserError, RuntimeError) as error:
            self._save_in_single_process()
            # The error of a worker contains its traceback; the last line is the message.
            reason = re.sub(r"^[\w.]+Error: ", "", str(error).strip().splitlines()[-1])
            if reason.endswith("exited unexpectedly"):  # torch says no more
                reason = (
                    "a data worker was killed, maybe because the memory of the machine ran out "
                    "(lower train.num_worker then)"
                )
            raise RunError(
                f"the samples of step {self.step + 1} cannot be read: {reason}; correct this and "
                "continue with --resume"
            ) from error
        self._waited += time.perf_counter() - start
        return batch

    def _start_clock(self) -> None:
        self._clock_started = time.perf_counter()

    def _stop_clock(self) -> None:
        synchronize(self.device)
        self.seconds += time.perf_counter() - self._clock_started
