"""Evaluates a network on a dataset under one protocol: one record per image, burst or frame."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from srtoolbox.config.schema import build
from srtoolbox.data.stream import to_float
from srtoolbox.engine.device.distributed import SINGLE_PROCESS, Ranks
from srtoolbox.engine.device.precision import Precision, autocast, is_out_of_memory, synchronize
from srtoolbox.engine.options import ValOptions
from srtoolbox.errors import RunError, UserError
from srtoolbox.inference.padding import run_padded
from srtoolbox.inference.prediction import PLAIN, EnhanceOptions, predict
from srtoolbox.inference.tiling import halve, run_tiled
from srtoolbox.metrics import ClipMetric, MetricUnavailable, Protocol, get_protocol

_log = logging.getLogger("srtoolbox")

Record = dict[str, Any]


class Evaluator:
    """Scores networks with a fixed set of metrics. Prints nothing and writes nothing.

    Args:
        section: Protocol and metrics.
        device: Where networks run; they are expected to be there.
        precision: Number format of the forward pass.
    """

    def __init__(
        self, section: ValOptions, device: torch.device, precision: Precision = "fp32"
    ) -> None:
        self.protocol: Protocol = get_protocol(section.protocol)
        self.metrics = {name: build("metric", spec) for name, spec in section.metrics.items()}
        self.device, self.precision = device, precision
        self._unavailable: set[str] = set()
        self._tile, self._halo = section.tile, section.tile_halo

    def run(
        self,
        net: nn.Module,
        dataset: Any,
        on_image: Callable[[str, Tensor], None] | None = None,
        enhance: EnhanceOptions = PLAIN,
        ranks: Ranks = SINGLE_PROCESS,
    ) -> list[Record]:
        """One record per sample: ``{"key", "seconds", "metrics": {name: value or None}}``.

        A sample that is a whole clip gives one for each of its frames but the protocol's
        ``skip_frames`` at both ends; its time is shared among them. Where frames are of several
        kinds (given and interpolated, in space and time), ``"kind"`` says which.
        A metric that cannot be had here (LPIPS without its backbone) is None in every record and
        is named once in the log. The network's training mode is put back afterwards.

        Args:
            net: A registered arch on ``device``, or a cascade of them.
            dataset: An evaluation dataset.
            on_image: Called with each key and SR image, (3, H, W) float32 in [0, 1] on the CPU.
            enhance: What is done beside one forward pass; its time is part of ``seconds``.
            ranks: The processes that share the work; each gets all records.
        """
        was_training = net.training
        net.eval()
        try:
            scored = []
            clips = ClipScores(self._of_clips, self._measure_clip(dataset.scale))
            for index in self._share(dataset, ranks):
                frames = self._score(net, dataset, index, on_image, enhance)
                clips.add(frames)
                scored.append((index, [record for record, *_ in frames]))
            clips.finish()
        finally:
            net.train(was_training)
        everything = sorted(ranks.gather(scored), key=lambda one: one[0])
        return [record for _, records in everything for record in records]

    @property
    def _of_clips(self) -> list[str]:
        return [name for name, metric in self.metrics.items() if isinstance(metric, ClipMetric)]

    def _share(self, dataset: Any, ranks: Ranks) -> Iterable[int]:
        """The samples that this process scores: every so many, or every so many clips whole."""
        if not self._of_clips:
            return range(ranks.rank, len(dataset), ranks.size)
        clips = clips_of(dataset)
        number = {clip: i for i, clip in enumerate(dict.fromkeys(clips))}
        return [i for i, clip in enumerate(clips) if number[clip] % ranks.size == ranks.rank]

    def _score(
        self,
        net: nn.Module,
        dataset: Any,
        index: int,
        on_image: Callable[[str, Tensor], None] | None,
        enhance: EnhanceOptions,
    ) -> list[Scored]:
        sample = dataset[index]
        lq = to_float(torch.from_numpy(sample["lq"]).to(self.device))[None]
        synchronize(self.device)
        start = time.perf_counter()
        sr = self._predict(net, lq, dataset.reference, enhance, sample["key"])
        synchronize(self.device)
        seconds = time.perf_counter() - start
        gt = to_float(torch.from_numpy(sample["gt"]).to(self.device))
        scored = []
        for facts, one, truth in self._frames(sample, sr, gt):
            scores = {
                name: None
                if isinstance(metric, ClipMetric)  # known once the clip is complete
                else self._measure(name, metric, one, truth, dataset.scale)
                for name, metric in self.metrics.items()
            }
            scored.append(({**facts, "seconds": seconds, "metrics": scores}, one, truth))
            if on_image is not None:
                on_image(facts["key"], one.clamp(0, 1).cpu())
        for record, *_ in scored:
            record["seconds"] /= len(scored)
        return scored

    def _predict(
        self, net: nn.Module, lq: Tensor, reference: int | None, enhance: EnhanceOptions, key: str
    ) -> Tensor:
        """The SR image of one stack; out of memory, in tiles, which are halved until it works."""
        while True:
            tile, halo = self._tile, self._halo
            run = partial(run_tiled, tile=tile, halo=halo) if tile else run_padded
            try:
                with autocast(self.device, self.precision):
                    return predict(net, lq, reference, enhance, run)[0].float()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._tile = halve(tile, lq)
                if self._tile is None:
                    raise RunError(
                        f"out of memory at {key}, LR {tuple(lq.shape[1:])}, even in tiles of "
                        f"{tile or max(lq.shape[-2:])}; lower val.tile_halo or use another device"
                    ) from error
            _log.warning(
                "out of memory at %s, LR %s: going on in tiles of %d with a halo of %d",
                *(key, tuple(lq.shape[1:]), self._tile, halo),
            )

    def _frames(
        self, sample: dict[str, Any], sr: Tensor, gt: Tensor
    ) -> Iterator[tuple[Record, Tensor, Tensor]]:
        """What of a sample is scored: (key and kind, sr, gt) of one image or of a clip's frames."""
        if gt.ndim == 3:
            yield {"key": sample["key"]}, sr, gt
            return
        if len(sr) != len(gt):
            raise UserError(
                f"{sample['key']}: the network gave {len(sr)} frames, its ground truth has "
                f"{len(gt)}"
            )
        skip = self.protocol.skip_frames
        for t in sample.get("scored", range(skip, len(gt) - skip)):
            kind = {"kind": sample["kinds"][t]} if "kinds" in sample else {}
            yield {"key": f"{sample['key']}/{sample['frames'][t]}", **kind}, sr[t], gt[t]

    def _measure_clip(self, scale: int) -> Measure:
        return lambda name, sr, gt: self._measure(name, self.metrics[name], sr, gt, scale)

    def _measure(self, name: str, metric: Any, sr: Any, gt: Any, scale: int) -> float | None:
        if name in self._unavailable:
            return None
        try:
            return metric(sr, gt, protocol=self.protocol, scale=scale)
        except MetricUnavailable as error:
            self._unavailable.add(name)
            _warn_once(f"{name} is left out: {error}")
            return None


@cache
def _warn_once(message: str) -> None:
    _log.warning("%s", message)


def average(records: list[Record], over: str = "images") -> dict[str, float | None]:
    """The score of a dataset by metric; None where a metric was not to be had.

    Where records are of several kinds, those of each kind have scores of their own, as
    ``psnr_given`` and ``psnr_interpolated``.

    Args:
        records: Of one evaluation.
        over: ``"images"``: the mean over all records. ``"clips"``: the mean over the clips' means;
            a frame's key is ``clip/frame``.
    """
    means = _average(records, over)
    for kind in dict.fromkeys(record["kind"] for record in records if "kind" in record):
        alike = _average([record for record in records if record.get("kind") == kind], over)
        means |= {f"{name}_{kind}": value for name, value in alike.items()}
    return means


def _average(records: list[Record], over: str) -> dict[str, float | None]:
    means: dict[str, float | None] = {}
    for name in records[0]["metrics"] if records else ():
        groups: dict[str, list[float | None]] = {}
        for record in records:
            group = record["key"].rpartition("/")[0] if over == "clips" else ""
            groups.setdefault(group, []).append(record["metrics"][name])
        means[name] = mean([mean(values) for values in groups.values()])
    return means


def mean(values: list[float | None]) -> float | None:
    """The mean; None if any value is missing, since a mean over fewer images is another number."""
    return None if not values or None in values else sum(values) / len(values)


Scored = tuple[Record, Tensor, Tensor]  # a frame's record, its result and its truth

Measure = Callable[[str, Sequence[Tensor], Sequence[Tensor]], "float | None"]


def clips_of(dataset: Any) -> list[str]:
    """The clip that each sample of a dataset belongs to.

    Raises:
        UserError: if it has no clips.
    """
    if not hasattr(dataset, "clip_names"):
        raise UserError(
            f"metrics of neighbouring frames need clips, which {type(dataset).__name__} has not"
        )
    return dataset.clip_names


class ClipScores:
    """Keeps the frames of one clip until it is complete, then scores it.

    The clip's value goes into the record of each of its frames, so that the mean over frames and
    the mean over clips are formed as of any other metric.

    Args:
        names: The metrics.
        measure: Called as ``measure(name, sr, gt)`` with all frames of a clip, in order.
    """

    def __init__(self, names: Sequence[str], measure: Measure) -> None:
        self._names, self._measure = names, measure
        self._kept: list[Scored] = []

    def add(self, frames: Sequence[Scored]) -> None:
        """The next frames, all of one clip."""
        if not self._names or not frames:
            return
        if self._kept and _clip(self._kept[0]) != _clip(frames[0]):
            self.finish()
        self._kept += [(record, sr.cpu(), gt.cpu()) for record, sr, gt in frames]

    def finish(self) -> None:
        """Scores the clip that is kept, if there is one."""
        if not self._kept:
            return
        records, sr, gt = zip(*self._kept, strict=True)
        for name in self._names:
            value = self._measure(name, sr, gt)
            for record in records:
                record["metrics"][name] = value
        self._kept = []


def _clip(frame: Scored) -> str:
    return frame[0]["key"].rpartition("/")[0]
