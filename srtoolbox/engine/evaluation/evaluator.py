"""Evaluates a network on a dataset: one record per image, burst or frame, under each protocol."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from srtoolbox.data.base import EvalDataset, Sample, dataset_info, read_sample
from srtoolbox.data.stream import to_float
from srtoolbox.engine.device.distributed import SINGLE_PROCESS, Ranks
from srtoolbox.engine.device.precision import Precision, autocast, synchronize
from srtoolbox.engine.evaluation.records import Record, clip_of
from srtoolbox.engine.options import ValOptions
from srtoolbox.errors import RunError, UserError, is_out_of_memory
from srtoolbox.inference.ensemble import Runner
from srtoolbox.inference.padding import run_padded
from srtoolbox.inference.prediction import PLAIN, EnhanceOptions, predict
from srtoolbox.inference.scales import at_scale
from srtoolbox.inference.segments import run_segments
from srtoolbox.inference.tiling import halve, run_tiled
from srtoolbox.metrics import (
    AnyMetric,
    ClipMetric,
    MetricUnavailable,
    Protocol,
    build_metric,
    get_protocol,
)
from srtoolbox.utils.console import warn_once

_log = logging.getLogger("srtoolbox")


class _Frame(NamedTuple):
    """A result (C, H, W), its ground truth, its mask (1, H, W) and its records by protocol name."""

    records: dict[str, Record]
    sr: Tensor
    gt: Tensor
    mask: Tensor | None


class Evaluator:
    """Scores networks with a fixed set of metrics under one or several protocols.

    It prints nothing and writes no file.

    Args:
        opt: Metrics and tiles, and the protocol if ``protocols`` is None.
        device: Device of the networks.
        precision: Number format of the forward pass.
        protocols: Names of the protocols. All of them must leave out the same number of frames at
            the ends of a clip (``skip_frames``).

    Attributes:
        protocols: The protocols by name.
        metrics: The metrics by name.
    """

    def __init__(
        self,
        opt: ValOptions,
        device: torch.device,
        precision: Precision = "fp32",
        protocols: Sequence[str] | None = None,
    ) -> None:
        self.protocols: dict[str, Protocol] = {
            name: get_protocol(name) for name in protocols or [opt.protocol]
        }
        self.metrics: dict[str, AnyMetric] = {
            name: build_metric(spec) for name, spec in opt.metrics.items()
        }
        self.device = device
        self.precision: Precision = precision
        self._unavailable: set[str] = set()
        self._tile, self._halo = opt.tile, opt.tile_halo
        self._segment, self._overlap = opt.segment, opt.segment_overlap

    @property
    def protocol(self) -> Protocol:
        """The first protocol."""
        return next(iter(self.protocols.values()))

    def run(
        self,
        net: nn.Module,
        dataset: EvalDataset,
        on_image: Callable[[str, Tensor], None] | None = None,
        enhance: EnhanceOptions = PLAIN,
        ranks: Ranks = SINGLE_PROCESS,
    ) -> dict[str, list[Record]]:
        """Returns the records by protocol name; see ``Record``.

        The network runs once per sample, for any number of protocols. A sample that is a whole
        clip has one record for each of its frames except the protocol's ``skip_frames`` at both
        ends; the time of its forward pass is divided equally among them. The value of a clip
        metric is in the record of each frame of the clip. A metric that is not available on this
        machine (LPIPS without its backbone) is None in every record and is named once in the log.
        Pixels that the mask of a sample leaves out are not scored. The network's training mode is
        restored afterwards.

        Args:
            net: A registered arch on ``device``, or a cascade of them. One with several scales
                (``takes_scale``) runs at the scale of the dataset.
            dataset: An evaluation dataset.
            on_image: Called with each key and SR image, (C, H, W) float32 in [0, 1] on the CPU.
            enhance: Inference options beyond one forward pass; their time is part of ``seconds``.
            ranks: The processes that share the work; each gets all records.

        Raises:
            UserError: if the result does not match the ground truth, if a clip metric is asked for
                a dataset without clips, or if the protocols' ``skip_frames`` differ.
            RunError: if memory does not suffice for the smallest tiles, or if a mask leaves nothing
                to score.
        """
        net = at_scale(net, dataset.scale)
        was_training = net.training
        net.eval()
        try:
            scored: list[tuple[int, list[dict[str, Record]]]] = []
            for group in self._share(dataset, ranks):
                clip: list[_Frame] = []
                for index in group:
                    frames = self._score(net, dataset, index, on_image, enhance)
                    scored.append((index, [frame.records for frame in frames]))
                    if self._clip_metrics:
                        clip += [_on_cpu(frame) for frame in frames]
                if clip:
                    self._score_clip(clip, dataset.scale)
        finally:
            net.train(was_training)
        gathered = sorted(ranks.gather(scored), key=lambda item: item[0])
        return {
            protocol: [records[protocol] for _, sample in gathered for records in sample]
            for protocol in self.protocols
        }

    @property
    def lower_is_better(self) -> list[str]:
        """Names of the metrics whose lower values are better."""
        return [name for name, metric in self.metrics.items() if not metric.higher_is_better]

    @property
    def _clip_metrics(self) -> dict[str, ClipMetric]:
        return {name: m for name, m in self.metrics.items() if isinstance(m, ClipMetric)}

    def _share(self, dataset: EvalDataset, ranks: Ranks) -> Sequence[Sequence[int]]:
        """Returns the samples that this process scores, grouped by clip for clip metrics."""
        if not self._clip_metrics:
            return [[i] for i in range(ranks.rank, len(dataset), ranks.size)]
        clips = dataset_info(dataset).clip_names
        if clips is None:
            raise UserError(
                f"metrics {', '.join(self._clip_metrics)} compare neighbouring frames and need "
                f"clips; {type(dataset).__name__} provides single images"
            )
        groups: dict[str, list[int]] = {}
        for index, clip in enumerate(clips):
            groups.setdefault(clip, []).append(index)
        return list(groups.values())[ranks.rank :: ranks.size]

    def _score(
        self,
        net: nn.Module,
        dataset: EvalDataset,
        index: int,
        on_image: Callable[[str, Tensor], None] | None,
        enhance: EnhanceOptions,
    ) -> list[_Frame]:
        """Runs the network on a sample and scores its frames; clip metrics are still missing."""
        sample = read_sample(dataset, index)
        lq = to_float(torch.from_numpy(sample["lq"]).to(self.device))[None]
        synchronize(self.device)
        start = time.perf_counter()
        sr = self._predict(net, lq, dataset.reference, enhance, sample["key"])
        synchronize(self.device)
        seconds = time.perf_counter() - start
        gt = to_float(torch.from_numpy(sample["gt"]).to(self.device))
        mask = torch.from_numpy(sample["mask"]).to(self.device) if "mask" in sample else None
        frames = []
        parts = list(self._frames(sample, sr, gt, mask))
        for facts, frame_sr, frame_gt, frame_mask, t in parts:
            images, key = (frame_sr, frame_gt, frame_mask), facts["key"]
            low = _reference_frame(lq[0], dataset.reference, t, len(gt) if gt.ndim == 4 else None)
            records: dict[str, Record] = {}
            for protocol in self.protocols:
                scores = {
                    name: None
                    if isinstance(metric, ClipMetric)
                    else self._measure(name, protocol, images, dataset.scale, key, low)
                    for name, metric in self.metrics.items()
                }
                records[protocol] = {**facts, "seconds": seconds / len(parts), "metrics": scores}
            frames.append(_Frame(records, *images))
            if on_image is not None:
                on_image(key, frame_sr.clamp(0, 1).cpu())
        return frames

    def _score_clip(self, frames: Sequence[_Frame], scale: int) -> None:
        """Enters the clip metrics of a complete clip into the records of its frames."""
        sr, gt = [frame.sr for frame in frames], [frame.gt for frame in frames]
        masks = [frame.mask for frame in frames if frame.mask is not None]
        images = sr, gt, masks or None  # all frames of a dataset have masks, or none
        key = clip_of(frames[0].records[self.protocol.name]["key"])
        for protocol in self.protocols:
            for name in self._clip_metrics:
                value = self._measure(name, protocol, images, scale, key)
                for frame in frames:
                    frame.records[protocol]["metrics"][name] = value

    def _predict(
        self, net: nn.Module, lq: Tensor, reference: int | None, enhance: EnhanceOptions, key: str
    ) -> Tensor:
        """Returns the SR image of one stack. Out of memory, it halves the tiles until they fit."""
        while True:
            tile, halo = self._tile, self._halo
            run: Runner = partial(run_tiled, tile=tile, halo=halo) if tile else run_padded
            if self._segment:
                lengths = {"segment": self._segment, "overlap": self._overlap}
                run = partial(run_segments, run=run, **lengths)
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
                "out of memory at %s, LR %s: continuing in tiles of %d with a halo of %d",
                *(key, tuple(lq.shape[1:]), self._tile, halo),
            )

    def _frames(
        self, sample: Sample, sr: Tensor, gt: Tensor, mask: Tensor | None
    ) -> Iterator[tuple[Record, Tensor, Tensor, Tensor | None, int]]:
        """Yields key and kind, sr, gt, mask, and number of an image or of each scored frame."""
        if gt.ndim == 3:
            yield {"key": sample["key"]}, sr, gt, mask, 0
            return
        if len(sr) != len(gt):
            raise UserError(
                f"{sample['key']}: the network returned {len(sr)} frames, but the ground truth has "
                f"{len(gt)}"
            )
        scored = sample.get("scored")
        if scored is None:
            skips = {name: protocol.skip_frames for name, protocol in self.protocols.items()}
            skip = self.protocol.skip_frames
            if any(other != skip for other in skips.values()):
                raise UserError(
                    f"protocols with different skip_frames need separate evaluations, got {skips}"
                )
            scored = range(skip, len(gt) - skip)
        names = sample.get("frames", range(len(gt)))
        for t in scored:
            kind = {"kind": sample["kinds"][t]} if "kinds" in sample else {}
            frame_mask = None if mask is None else mask[t]
            yield {"key": f"{sample['key']}/{names[t]}", **kind}, sr[t], gt[t], frame_mask, t

    def _measure(
        self,
        name: str,
        protocol: str,
        images: tuple[Any, Any, Any],
        scale: int,
        key: str,
        lq: Tensor | None = None,
    ) -> float | None:
        """Returns a metric's value of an image or clip; None if the metric is unavailable."""
        if name in self._unavailable:
            return None
        sr, gt, mask = images
        rules = self.protocols[protocol]
        try:
            metric, more = self.metrics[name], {"mask": mask, "key": key}
            if metric.needs_lq:
                more["lq"] = lq
            return metric(sr, gt, protocol=rules, scale=scale, **more)
        except MetricUnavailable as error:
            self._unavailable.add(name)
            warn_once(f"{name} is left out: {error}")
            return None
        except RunError as error:
            raise RunError(f"{key}: {error}") from error


def _reference_frame(
    lq: Tensor, reference: int | None, index: int, num_gt: int | None
) -> Tensor | None:
    """Returns the LR frame (C, h, w) of a ground truth; None if it has none.

    Args:
        lq: LR frames (T, C, h, w).
        reference: Frame that is restored; None: all frames are.
        index: Number of the ground truth's frame.
        num_gt: Number of frames of the ground truth; None: it is an image.
    """
    if num_gt is None:
        return lq[reference or 0]
    return lq[index] if num_gt == len(lq) else None


def _on_cpu(frame: _Frame) -> _Frame:
    mask = None if frame.mask is None else frame.mask.cpu()
    return _Frame(frame.records, frame.sr.cpu(), frame.gt.cpu(), mask)
