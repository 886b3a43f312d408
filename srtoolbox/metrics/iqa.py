"""All metrics of the package pyiqa: C. Chen, J. Mo, "IQA-PyTorch: PyTorch toolbox for image quality
assessment", 2022. The extra ``iqa`` installs it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from srtoolbox.errors import RunError, UserError, is_out_of_memory
from srtoolbox.metrics.base import Metric, MetricUnavailable, check_bands, unsuited_colours
from srtoolbox.metrics.iqa_network import (
    EXTRA,
    IQANetwork,
    IQAUnavailable,
    iqa_facts,
    iqa_network,
    is_installed,
    own_random_state,
    version,
)
from srtoolbox.metrics.protocol import Protocol
from srtoolbox.registry import METRIC_REGISTRY


@METRIC_REGISTRY.register("pyiqa")
class PyIQA(Metric):
    """A metric of pyiqa, with or without a ground truth, such as ``musiq``, always of RGB images.

    From and to the values that pyiqa states for it; higher is better unless pyiqa states that lower
    is; it has no unit. The protocol crops and rounds the images; pyiqa converts them to luma or
    other values by its own rules. Weight files are not downloaded unless ``fetch`` is set. Tables
    name them with their hash. Masked pixels of a result get the values of the ground truth.

    Args:
        name: Name in pyiqa. `pyiqa -ls` lists all. Metrics of whole sets of images (FID) and of
            captions are not supported.
        options: More options of the metric's constructor in pyiqa.
        fetch: Let pyiqa download weight files that are missing.
        unpickle: Let pyiqa read weight files that contain more than tensors. They are read by
            pickle, which can run code: only for files of authors whom you trust.
        bands: Numbers, from 1, of the bands that are red, green and blue, or of one band that is
            grey, for images of other than one or three bands.

    Raises:
        UserError: for an unknown ``name``, or if ``bands`` are not one or three different numbers.
    """

    digits = 4
    paper = "pyiqa: Chen and Mo, 2022"

    def __init__(
        self,
        name: str,
        options: dict[str, Any] | None = None,
        fetch: bool = False,
        unpickle: bool = False,
        bands: Sequence[int] | None = None,
    ) -> None:
        self.bands = check_bands("PyIQA", bands)
        if bands is not None and len(bands) not in (1, 3):
            raise UserError(f"pyiqa: bands {list(bands)}: expected one, or three")
        self.name, self.options = name, dict(options or {})
        self.fetch, self.unpickle = fetch, unpickle
        self._broken: str | None = None
        if not is_installed():
            self._broken = EXTRA
            return
        try:
            facts = iqa_facts(name)
        except IQAUnavailable as error:
            self._broken = str(error)
        else:
            self.higher_is_better, self.needs_gt = facts.higher_is_better, facts.needs_gt

    def __call__(
        self,
        sr: Tensor,
        gt: Tensor | None = None,
        *,
        protocol: Protocol,
        scale: int,
        mask: Tensor | None = None,
        key: str | None = None,
    ) -> float:
        """Scores one image; see ``Metric`` and, without ``gt``, ``NoReferenceMetric``."""
        if gt is not None:
            return super().__call__(sr, gt, protocol=protocol, scale=scale, mask=mask, key=key)
        if self.needs_gt:
            raise UserError(f"pyiqa: '{self.name}' needs the ground truth")
        return self._value(self._chosen(sr, protocol), None, protocol, scale)

    def available(self) -> str | None:
        """Returns why the metric cannot be computed here; None if it can. It builds the network."""
        try:
            self._network(torch.device("cpu"))
        except MetricUnavailable as error:
            return str(error)
        return None

    def identity(self, options: Mapping[str, Any]) -> dict[str, Any]:
        kept = {key: value for key, value in options.items() if key not in ("fetch", "unpickle")}
        source = self.source()
        return kept if source is None else {**kept, "content": source["content"]}

    def source(self) -> dict[str, str] | None:
        try:
            network = self._network(torch.device("cpu"))
        except MetricUnavailable:
            return None
        files = [f"{file}, SHA-256 {digits}" for file, digits in network.files.items()]
        with_options = f" with {self.options}" if self.options else ""
        text = (
            f"{self.name} of pyiqa {version()}{with_options} ({'; '.join(files) or 'no weights'})"
        )
        return {"text": text, "content": network.content}

    def unsuited(self, channels: int, protocol: Protocol) -> str | None:
        return unsuited_colours(self, channels) or super().unsuited(channels, protocol)

    def score(self, sr: Tensor, gt: Tensor | None, protocol: Protocol, scale: int) -> float:
        if len(sr) not in (1, 3):
            raise UserError(f"pyiqa: {self.unsuited(len(sr), protocol)}")
        images = [sr, gt] if self.needs_gt and gt is not None else [sr]
        images = [protocol.prepare_rgb(image, scale).float()[None] / 255 for image in images]
        device = images[0].device
        network = self._network(device)
        try:
            with (
                own_random_state(device),
                torch.no_grad(),
                torch.autocast(device.type, enabled=False),
            ):
                value = network.module(*images)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            text = " ".join(str(error).split())[:300]
            raise RunError(
                f"pyiqa: '{self.name}' fails for an image of {sr.shape[1]}×{sr.shape[2]}, which "
                f"may be too small for it: {type(error).__name__}: {text}"
            ) from error
        if not isinstance(value, Tensor) or value.numel() != 1:
            raise RunError(f"pyiqa: '{self.name}' does not return one number for an image")
        return value.item()

    def _network(self, device: torch.device) -> IQANetwork:
        if self._broken:
            raise MetricUnavailable(self._broken)
        try:
            return iqa_network(
                self.name, self.options, device, fetch=self.fetch, unpickle=self.unpickle
            )
        except IQAUnavailable as error:
            raise MetricUnavailable(str(error)) from error
