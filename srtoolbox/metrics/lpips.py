"""LPIPS, the learned perceptual metric, version 0.1.

R. Zhang, P. Isola, A. A. Efros, E. Shechtman, O. Wang, "The unreasonable effectiveness of deep
features as a perceptual metric", CVPR 2018.

The ``lpips`` package contains the calibrated linear layers. The backbone has the ImageNet weights
of torchvision; `srtoolbox.utils.imagenet.lpips_file` describes where they are found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from srtoolbox.errors import UserError, check_choice
from srtoolbox.metrics.base import Metric, MetricUnavailable, check_bands
from srtoolbox.metrics.protocol import Protocol
from srtoolbox.registry import METRIC_REGISTRY
from srtoolbox.utils.imagenet import (
    LPIPS_BACKBONES,
    BackboneUnavailable,
    fetch_lpips,
    lpips_file,
    lpips_lacks,
    lpips_network,
    lpips_weights,
)


@METRIC_REGISTRY.register()
class LPIPS(Metric):
    """Distance between deep features, always of RGB images.

    From 0 (identical images) to about 1; lower is better; no unit. Values of different backbones
    cannot be compared. Masked pixels of a result get the values of the ground truth. Zhang et al.,
    CVPR 2018.

    Args:
        net: The backbone. Papers report AlexNet unless they name another one.
        fetch: Download the backbone's weights if torch hub's cache does not have them.
        backbone: The backbone's weight file: torchvision's, or its convolutions alone; or a folder
            with such files under torchvision's names. None: the file or folder that the environment
            variable ``SRTOOLBOX_LPIPS_BACKBONE`` names, otherwise torch hub's cache.
        bands: Numbers, from 1, of the bands that are red, green and blue, for images of other than
            three bands.

    Raises:
        UserError: for an unknown ``net``, if ``backbone`` or the variable names no file that suits
            it, or if ``bands`` are not three different numbers.
    """

    higher_is_better = False
    digits = 4
    paper = "Zhang et al., CVPR 2018"

    def __init__(
        self,
        net: Literal["alex", "vgg", "squeeze"] = "alex",
        fetch: bool = False,
        backbone: Path | None = None,
        bands: Sequence[int] | None = None,
    ) -> None:
        check_choice("LPIPS: net", net, LPIPS_BACKBONES)
        self.bands = check_bands("LPIPS", bands)
        if bands is not None and len(bands) != 3:
            raise UserError(f"LPIPS: bands {list(bands)}: expected three, for red, green and blue")
        lpips_file(net, backbone)
        self.net = net
        self.fetch = fetch
        self.backbone = backbone
        self._failed: str | None = None

    def available(self) -> str | None:
        """Returns why LPIPS cannot be computed here; None if it can. It builds no network."""
        return self._failed or lpips_lacks(self.net, self.fetch, self.backbone)

    def identity(self, options: Mapping[str, Any]) -> dict[str, Any]:
        kept = {name: value for name, value in options.items() if name != "backbone"}
        source = self.source()
        return kept if source is None else {**kept, "backbone": source["content"]}

    def unsuited(self, channels: int, protocol: Protocol) -> str | None:
        if self.bands is None and channels not in (1, 3):
            return f"it compares RGB images, not {channels} bands; set its bands, e.g. [3, 2, 1]"
        return super().unsuited(channels, protocol)

    def source(self) -> dict[str, str] | None:
        if self.available() is None and self.fetch:
            try:  # now rather than with the first image, as the results depend on the file
                fetch_lpips(self.net, self.backbone)
            except BackboneUnavailable as error:
                self._failed = str(error)
        weights = None if self.available() else lpips_weights(self.net, self.backbone)
        return weights and {"text": weights.text, "content": weights.content}

    def min_size(self, protocol: Protocol) -> int:
        return LPIPS_BACKBONES[self.net].min_size

    def score(self, sr: Tensor, gt: Tensor, protocol: Protocol, scale: int) -> float:
        if len(sr) not in (1, 3):
            raise UserError(f"LPIPS: {self.unsuited(len(sr), protocol)}")
        x, y = (protocol.prepare_rgb(image, scale).float() / 255 for image in (sr, gt))
        protocol.check_size(f"LPIPS: '{self.net}'", self.min_size(protocol), x, sr)
        network = self._network(x.device)
        with torch.inference_mode(), torch.autocast(x.device.type, enabled=False):
            return network(x[None], y[None], normalize=protocol.lpips_range == "signed").item()

    def _network(self, device: torch.device) -> nn.Module:
        """Returns the network on a device. A failure is remembered."""
        if reason := self.available():
            raise MetricUnavailable(reason)
        try:
            return lpips_network(self.net, device, self.fetch, self.backbone)
        except BackboneUnavailable as error:
            self._failed = str(error)
            raise MetricUnavailable(self._failed) from error
