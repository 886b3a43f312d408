"""LPIPS, the learned perceptual metric, version 0.1.

R. Zhang, P. Isola, A. A. Efros, E. Shechtman, O. Wang, "The unreasonable effectiveness of deep
features as a perceptual metric", CVPR 2018.

The ``lpips`` package contains the calibrated linear layers. The backbone has the ImageNet weights
of torchvision; `srtoolbox.utils.imagenet.lpips_file` describes where they are found.
"""

from __future__ import annotations

import copy
import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, cast

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
        if x.device.type == "cpu":  # elsewhere the network is fast, and a look at pixels slow
            network = _with_memory(network)
            cast("_Memory", network.net).expect_result()
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


_MEMORY_SIZE = 2**28  # bytes of features of ground truths that are kept
_MAX_SHARE = 1 / 8  # of the memory that the features of one image may take


@lru_cache(maxsize=2)
def _with_memory(network: nn.Module) -> nn.Module:
    """Returns a network with the same weights that keeps the features of ground truths.

    Each evaluation during a training, and each method of a study, is scored on the same ones. They
    are recognised by their pixels, so the value is the same, bit for bit.
    """
    twin = copy.copy(network)
    twin.__dict__["_modules"] = {**network._modules, "net": _Memory(network.net)}
    return twin


class _Memory(nn.Module):
    """Wraps the backbone, which gets the result, then the ground truth.

    Args:
        backbone: Returns the features of images (1, 3, H, W), a tuple of tensors.
    """

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.backbone = backbone
        self._is_truth = False
        self._size = 0
        self._known: OrderedDict[object, Any] = OrderedDict()  # the least recently used ones first

    def expect_result(self) -> None:
        """States that the next image is a result, also after an error."""
        self._is_truth = False

    def forward(self, image: Tensor) -> Any:
        """Returns the features of an image."""
        is_truth, self._is_truth = self._is_truth, not self._is_truth
        if not is_truth:
            return self.backbone(image)
        pixels = hashlib.sha256(image.contiguous().numpy().data).digest()
        # Kernels may add in another order with another number of threads.
        key = pixels, image.shape, image.dtype, torch.get_num_threads()
        if key in self._known:
            self._known.move_to_end(key)
            return self._known[key]
        features = self.backbone(image)
        if _num_bytes(features) <= _MAX_SHARE * _MEMORY_SIZE:
            self._known[key] = features
            self._size += _num_bytes(features)
        while self._size > _MEMORY_SIZE:
            _, oldest = self._known.popitem(last=False)
            self._size -= _num_bytes(oldest)
        return features


def _num_bytes(features: Sequence[Tensor]) -> int:
    return sum(part.numel() * part.element_size() for part in features)
