"""Measures how much a multi-frame network uses its other frames.

A network whose training settled on the reference frame alone has an ordinary loss curve and an
ordinary score. Its PSNR does not drop, however, when the reference replaces the other frames.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import nn

from srtoolbox.archs.base import arch_info
from srtoolbox.data.base import EvalDataset, Sample
from srtoolbox.data.stream import nearest_frames
from srtoolbox.engine.device.distributed import SINGLE_PROCESS, Ranks
from srtoolbox.engine.device.precision import Precision
from srtoolbox.engine.evaluation.evaluator import Evaluator
from srtoolbox.engine.evaluation.records import BLIND, SHUFFLED, average, gain_of
from srtoolbox.engine.options import ValOptions
from srtoolbox.errors import UserError
from srtoolbox.inference.prediction import PLAIN, EnhanceOptions

_log = logging.getLogger("srtoolbox")
_SHUFFLE_SEED = 3  # separates these random numbers from those of the data
_NEGLIGIBLE_DB = 0.05  # two trainings of one network differ by as much

Order = Callable[[int], list[int]]  # from a sample's index to the frames that the network gets


def frame_use(
    net: nn.Module,
    dataset: EvalDataset,
    opt: ValOptions,
    device: torch.device,
    precision: Precision = "fp32",
    counts: Sequence[int] = (1, 3, 5, 7, 14),
    *,
    enhance: EnhanceOptions = PLAIN,
    known: Mapping[str, float | None] | None = None,
    shuffled: bool = True,
) -> dict[str, float | None]:
    """Returns the mean PSNR in dB of a network for several selections of its LR frames.

    Each selection is one pass over the dataset, except those that are known. The gain from the
    other frames needs one pass: ``counts=()``, ``shuffled=False``, and the PSNR with all frames,
    which is among the scores of the network, in ``known``.

    - ``"3 frames"``: the reference and the frames nearest to it in time. A network with a fixed
      number of frames gets copies of the reference in place of the others. The last of these
      entries has all frames.
    - ``"reference only"``: every frame is the reference. The gain from the other frames is the PSNR
      with all frames minus this one.
    - ``"shuffled"``: the other frames in a random order, the same in every run.

    Args:
        net: A multi-frame arch on ``device``.
        dataset: An evaluation dataset with a reference frame.
        opt: Protocol and tiles. Only PSNR is measured, of the bands of the first PSNR that it has.
        device: Device of the network.
        precision: Number format of the forward pass.
        counts: Numbers of frames; those above the dataset's are left out.
        enhance: Inference options beyond one forward pass.
        known: Results that are not measured again, by the name of the selection; see
            ``all_frames``.
        shuffled: Whether to measure with the other frames in a random order, too.

    Raises:
        UserError: for a single-image network, and for a dataset without a reference frame.
    """
    wanted = arch_info(net).num_frame
    if wanted == 1:
        raise UserError(f"{type(net).__name__} takes single images: it has no other frames to use")
    num_frame, reference = dataset.num_frame, dataset.reference
    if reference is None or num_frame is None:
        raise UserError("frame use needs a reference frame; set target: centre of the dataset")
    evaluator, found = Evaluator(_with_psnr(opt), device, precision), dict(known or {})
    orders = _orders(num_frame, reference, counts, wanted)
    if not shuffled:
        orders.pop(SHUFFLED, None)
    for name, order in orders.items():
        if name not in found:
            found[name] = _psnr(evaluator, net, _ReorderedFrames(dataset, order), enhance)
    return {name: found[name] for name in orders}


def all_frames(dataset: EvalDataset) -> str:
    """Returns the name of the selection of all frames, for example ``"14 frames"``."""
    return _count_name(dataset.num_frame or 1)


def first_psnr(opt: ValOptions) -> str | None:
    """Returns the name of the metric that ``frame_use`` measures; None if there is no PSNR."""
    return next((name for name, spec in opt.metrics.items() if spec["type"] == "PSNR"), None)


class FrameGain:
    """Measures the gain from other frames during training.

    Args:
        opt: Protocol, metrics and tiles of the evaluations.
        total_iter: Steps of the whole training.
        device: Device of the network.
        precision: Number format of the forward pass.
        enhance: Inference options beyond one forward pass.
        ranks: The processes that share the work.
    """

    def __init__(
        self,
        opt: ValOptions,
        total_iter: int,
        device: torch.device,
        precision: Precision = "fp32",
        enhance: EnhanceOptions = PLAIN,
        ranks: Ranks = SINGLE_PROCESS,
    ) -> None:
        evaluator = Evaluator(_with_psnr(opt), device, precision)
        self._psnr = partial(_psnr, evaluator, enhance=enhance, ranks=ranks)
        self._psnr_name = first_psnr(opt)
        self._total_iter, self._warned = total_iter, False

    def measure(
        self, net: nn.Module, dataset: EvalDataset, scores: Mapping[str, float | None], step: int
    ) -> float | None:
        """Returns the PSNR gain in dB over using the reference frame only.

        It is None for a single-image network and for a dataset without other frames. In the second
        half of a training, a network that gains less than 0.05 dB causes one warning.

        Args:
            net: A network in training.
            dataset: An evaluation dataset.
            scores: Scores of the network on it; they save an evaluation if they have a PSNR.
            step: Number of training steps done.
        """
        num_frame, reference = dataset.num_frame, dataset.reference
        if num_frame is None or reference is None or not has_other_frames(net, dataset):
            return None
        full = scores[self._psnr_name] if self._psnr_name else self._psnr(net, dataset)
        blind = _ReorderedFrames(dataset, lambda _: [reference] * num_frame)
        gain = gain_of(full, self._psnr(net, blind))
        late = 2 * step >= self._total_iter
        if gain is not None and gain < _NEGLIGIBLE_DB and late and not self._warned:
            self._warned = True
            ignores = gain > -_NEGLIGIBLE_DB
            _log.warning(
                "after %d of %d steps %s gains %s%.2f dB from the other frames: it %s",
                *(step, self._total_iter, type(net).__name__, "only " if ignores else "", gain),
                "ignores them" if ignores else "does better without them",
            )
        return gain


def has_other_frames(net: nn.Module, dataset: EvalDataset) -> bool:
    """Returns whether a network gets frames beside the reference frame that it restores."""
    several = dataset.num_frame is not None and dataset.num_frame > 1
    return several and dataset.reference is not None and arch_info(net).num_frame != 1


def _with_psnr(opt: ValOptions) -> ValOptions:
    """Returns the options with only one metric, PSNR; it is the first one that they have."""
    name = first_psnr(opt)
    return replace(opt, metrics={"psnr": opt.metrics[name] if name else {"type": "PSNR"}})


def _psnr(
    evaluator: Evaluator,
    net: nn.Module,
    dataset: EvalDataset,
    enhance: EnhanceOptions = PLAIN,
    ranks: Ranks = SINGLE_PROCESS,
) -> float | None:
    protocol = evaluator.protocol
    records = evaluator.run(net, dataset, enhance=enhance, ranks=ranks)[protocol.name]
    return average(records, protocol.average)["psnr"]


def _orders(
    num_frame: int, reference: int, counts: Sequence[int], wanted: int | None
) -> dict[str, Order]:
    orders: dict[str, Order] = {}
    for count in sorted({*(c for c in counts if 1 <= c < num_frame), num_frame}):
        nearest = nearest_frames(num_frame, reference, count)
        frames = list(nearest)
        if wanted is not None:
            frames = [t if t in nearest else reference for t in range(num_frame)]
        orders[_count_name(count)] = lambda _, frames=frames: frames
    orders[BLIND] = lambda _: [reference] * num_frame
    if num_frame > 2:
        orders[SHUFFLED] = lambda index: _shuffled(num_frame, reference, index)
    return orders


def _count_name(count: int) -> str:
    return f"{count} frame{'s' * (count > 1)}"


def _shuffled(num_frame: int, reference: int, index: int) -> list[int]:
    """Returns all frames in random order, with the reference kept in place."""
    others = [t for t in range(num_frame) if t != reference]
    seed = np.random.SeedSequence([_SHUFFLE_SEED, index])
    order = np.random.default_rng(seed).permutation(others)
    frames = (order[::-1] if order.tolist() == others else order).tolist()
    frames.insert(reference, reference)
    return frames


class _ReorderedFrames:
    """Wraps a dataset and selects or reorders the LR frames of each sample."""

    def __init__(self, dataset: EvalDataset, order: Order) -> None:
        self._dataset, self._order = dataset, order
        self.scale, frames = dataset.scale, order(0)
        self.num_frame: int | None = len(frames)
        self.reference = dataset.reference
        if self.reference is not None and len(frames) != dataset.num_frame:
            self.reference = frames.index(self.reference)

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Sample:
        sample = self._dataset[index]
        return {**sample, "lq": np.ascontiguousarray(sample["lq"][self._order(index)])}
