"""LPIPS, the learned perceptual metric, version 0.1.

R. Zhang, P. Isola, A. A. Efros, E. Shechtman, O. Wang, "The unreasonable effectiveness of deep
features as a perceptual metric", CVPR 2018.

The ``lpips`` package contains the calibrated linear layers. The backbone has the ImageNet weights
of torchvision, which are read from torch hub's cache; they are downloaded only with ``fetch``.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from srtoolbox.errors import check_choice
from srtoolbox.metrics.base import Metric, MetricUnavailable
from srtoolbox.metrics.protocol import Protocol
from srtoolbox.registry import METRIC_REGISTRY
from srtoolbox.utils.imagenet import (
    LPIPS_BACKBONES,
    BackboneUnavailable,
    lpips_lacks,
    lpips_network,
)


@METRIC_REGISTRY.register()
class LPIPS(Metric):
    """Distance between deep features, always of RGB images.

    From 0 (identical images) to about 1; lower is better; no unit. Values of different backbones
    cannot be compared. Zhang et al., CVPR 2018.

    Args:
        net: The backbone. Papers report AlexNet unless they name another one.
        fetch: Download the backbone's weights if torch hub's cache does not have them.

    Raises:
        UserError: for an unknown backbone.
    """

    higher_is_better = False
    digits = 4
    paper = "Zhang et al., CVPR 2018"

    def __init__(self, net: Literal["alex", "vgg", "squeeze"] = "alex", fetch: bool = False):
        check_choice("LPIPS: net", net, LPIPS_BACKBONES)
        self.net = net
        self.fetch = fetch
        self._failed: str | None = None

    def available(self) -> str | None:
        """Returns why LPIPS cannot be computed here; None if it can. It builds no network."""
        return self._failed or lpips_lacks(self.net, self.fetch)

    def score(self, sr: Tensor, gt: Tensor, protocol: Protocol, scale: int) -> float:
        x, y = (protocol.prepare_rgb(image, scale).float() / 255 for image in (sr, gt))
        protocol.check_size(f"LPIPS: '{self.net}'", LPIPS_BACKBONES[self.net].min_size, x, sr)
        network = self._network(x.device)
        with torch.inference_mode(), torch.autocast(x.device.type, enabled=False):
            return network(x[None], y[None], normalize=protocol.lpips_range == "signed").item()

    def _network(self, device: torch.device) -> nn.Module:
        """Returns the network on a device. A failure is remembered."""
        if reason := self.available():
            raise MetricUnavailable(reason)
        try:
            return lpips_network(self.net, device)
        except BackboneUnavailable as error:
            self._failed = str(error)
            raise MetricUnavailable(self._failed) from error
