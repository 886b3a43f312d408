"""Does a multi-frame network use its other frames? Its PSNR with fewer, blind and mixed-up ones.

A network whose training settled on the reference frame alone has an ordinary loss curve and an
ordinary score. It gives itself away here: what it is told by the other frames can be taken from it
without any loss.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from srtoolbox.data.stream import nearest_frames
from srtoolbox.engine.device.distributed import SINGLE_PROCESS, Ranks
from srtoolbox.engine.device.precision import Precision
from srtoolbox.engine.evaluation.evaluator import Evaluator, average
from srtoolbox.engine.options import ValOptions
from srtoolbox.errors import UserError
from srtoolbox.inference.prediction import PLAIN, EnhanceOptions

_log = logging.getLogger("srtoolbox")
BLIND = "reference only"
SHUFFLED = "shuffled"
_SHUFFLE = 3  # separates these random numbers from those of the data
_NOTHING = 0.05  # dB; less is no more than two trainings of one network differ by
_PSNR = {"psnr": {"type": "PSNR"}}

Order = Callable[[int], list[int]]  # from a sample's index to the frames that the network gets


def frame_use(
    net: nn.Module,
    dataset: Any,
    section: ValOptions,
    device: torch.device,
    precision: Precision = "fp32",
    counts: Sequence[int] = (1, 3, 5, 7, 14),
) -> dict[str, float | None]:
    """The mean PSNR of a network by what it is given.

    - ``"3 frames"``: the reference and those nearest to it in time. A network that takes one number
      of frames only gets copies of the reference in the place of the others. All frames come last.
    - ``"reference only"``: every frame is the reference, so there is nothing more to be learned
      from them. What is lost against all frames is what the network owes to the other frames.
    - ``"shuffled"``: the other frames in a random order, the same in every run.

    Args:
        net: A multi-frame arch on ``device``.
        dataset: An evaluation dataset with a reference frame.
        section: Protocol and tiles; of the metrics only PSNR is measured.
        device: Where the network runs.
        precision: Number format of the forward pass.
        counts: Numbers of frames; those beyond the dataset's are left out.

    Raises:
        UserError: for a single-image network, and a dataset of which every frame is restored.
    """
    if net.num_frame == 1:
        raise UserError(f"{type(net).__name__} takes single images: it has no other frames to use")
    if dataset.reference is None:
        raise UserError("frame use needs a reference frame; set target: centre of the dataset")
    evaluator = Evaluator(replace(section, metrics=_PSNR), device, precision)
    scores = {}
    for name, order in _orders(dataset.num_frame, dataset.reference, counts, net.num_frame).items():
        records = evaluator.run(net, _ReorderedFrames(dataset, order))
        scores[name] = average(records, evaluator.protocol.average)["psnr"]
    return scores


def gain_from_frames(scores: Mapping[str, float | None]) -> float | None:
    """What a network owes to the other frames, in dB, by what `frame_use` returned."""
    full = [value for name, value in scores.items() if name.endswith(("frame", "frames"))][-1]
    blind = scores[BLIND]
    return None if full is None or blind is None else _lost(full, blind)


class FrameWatch:
    """What a network owes to its other frames, looked at while it is trained.

    Args:
        section: Protocol, metrics and tiles of the validations.
        total_iter: Steps of the whole training.
        device: Where the network runs.
        precision: Number format of the forward pass.
        enhance: What validations do beside one forward pass.
        ranks: The processes that share the work.
    """

    def __init__(
        self,
        section: ValOptions,
        total_iter: int,
        device: torch.device,
        precision: Precision = "fp32",
        enhance: EnhanceOptions = PLAIN,
        ranks: Ranks = SINGLE_PROCESS,
    ) -> None:
        self._evaluator = Evaluator(replace(section, metrics=_PSNR), device, precision)
        self._known = [name for name, spec in section.metrics.items() if spec["type"] == "PSNR"]
        self._total, self._enhance, self._ranks = total_iter, enhance, ranks
        self._warned = False

    def gain_from_frames(
        self, net: nn.Module, dataset: Any, scores: Mapping[str, float | None], step: int
    ) -> float | None:
        """The PSNR, in dB, that is lost if every frame is the reference; None if it has no others.

        In the second half of a training it warns, once, of a network that owes them nothing.

        Args:
            net: A network in training.
            dataset: An evaluation dataset.
            scores: What the validation found.
            step: Steps that were done.
        """
        if not has_other_frames(net, dataset):
            return None
        full = scores[self._known[0]] if self._known else self._psnr(net, dataset)
        order = [dataset.reference] * dataset.num_frame
        gain_from_frames = _lost(full, self._psnr(net, _ReorderedFrames(dataset, lambda _: order)))
        if gain_from_frames < _NOTHING and 2 * step >= self._total and not self._warned:
            self._warned = True
            settled = "has settled on the reference frame"
            meaning = settled if gain_from_frames > -_NOTHING else "does better without them"
            _log.warning(
                "after %d of %d steps %s owes %.2f dB to the frames beside the reference: it %s",
                *(step, self._total, type(net).__name__, gain_from_frames, meaning),
            )
        return gain_from_frames

    def _psnr(self, net: nn.Module, dataset: Any) -> float:
        records = self._evaluator.run(net, dataset, enhance=self._enhance, ranks=self._ranks)
        return average(records, self._evaluator.protocol.average)["psnr"]


def has_other_frames(net: nn.Module, dataset: Any) -> bool:
    """Whether a network is given frames beside the one that it restores."""
    return net.num_frame != 1 and dataset.reference is not None and dataset.num_frame > 1


def _lost(full: float, blind: float) -> float:
    return 0.0 if full == blind else full - blind  # also where both are infinite


def _orders(
    num_frame: int, reference: int, counts: Sequence[int], wanted: int | None
) -> dict[str, Order]:
    orders: dict[str, Order] = {}
    for count in sorted({*(c for c in counts if 1 <= c < num_frame), num_frame}):
        nearest = nearest_frames(num_frame, reference, count)
        frames = list(nearest)
        if wanted is not None:
            frames = [t if t in nearest else reference for t in range(num_frame)]
        orders[f"{count} frame{'s' * (count > 1)}"] = lambda _, frames=frames: frames
    orders[BLIND] = lambda _: [reference] * num_frame
    if num_frame > 2:
        orders[SHUFFLED] = lambda index: _shuffled(num_frame, reference, index)
    return orders


def _shuffled(num_frame: int, reference: int, index: int) -> list[int]:
    """All frames, of which only the reference is where it was for certain."""
    others = [t for t in range(num_frame) if t != reference]
    order = np.random.default_rng(np.random.SeedSequence([_SHUFFLE, index])).permutation(others)
    frames = (order[::-1] if order.tolist() == others else order).tolist()
    frames.insert(reference, reference)
    return frames


class _ReorderedFrames:
    """A dataset whose samples hold other frames of its stacks; the ground truth stays."""

    def __init__(self, dataset: Any, order: Order) -> None:
        self._dataset, self._order = dataset, order
        self.scale, frames = dataset.scale, order(0)
        self.num_frame, self.reference = len(frames), dataset.reference
        if self.num_frame < dataset.num_frame:
            self.reference = frames.index(dataset.reference)

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = self._dataset[index]
        return {**sample, "lq": np.ascontiguousarray(sample["lq"][self._order(index)])}
