"""Losses on the features of networks trained on ImageNet.

The constructor of a loss checks that the weight file exists; the first call loads it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srtoolbox.errors import UserError, check_choice
from srtoolbox.losses.base import Loss, as_images, check_size
from srtoolbox.registry import LOSS_REGISTRY
from srtoolbox.utils.imagenet import (
    LPIPS_BACKBONES,
    VGG19,
    BackboneUnavailable,
    download,
    hub_file,
    lpips_lacks,
    lpips_network,
    lpips_weights,
    missing,
    read_convolutions,
)
from srtoolbox.utils.meta import without_memory

_CHANNELS = (64, 128, 256, 512, 512)
_CONVOLUTIONS = (2, 2, 4, 4, 4)
_CRITERIA = {"l1": F.l1_loss, "mse": F.mse_loss}


def _vgg19_layers() -> dict[str, int]:
    """Returns the names of VGG19's layers and their indices in torchvision's ``features``."""
    names = []
    for block, count in enumerate(_CONVOLUTIONS, start=1):
        for i in range(1, count + 1):
            names += [f"conv{block}_{i}", f"relu{block}_{i}"]
        names.append(f"pool{block}")
    return {name: index for index, name in enumerate(names)}


VGG19_LAYERS = _vgg19_layers()


@LOSS_REGISTRY.register()
class PerceptualLoss(Loss):
    """Distance between VGG19 features, and between their Gram matrices (Johnson et al., ECCV 2016).

    The default is the loss of ESRGAN: conv5_4 before its activation, L1. Real-ESRGAN uses ``layers:
    {conv1_2: 0.1, conv2_2: 0.1, conv3_4: 1, conv4_4: 1, conv5_4: 1}``. ISR uses ``layers:
    {relu2_2: 0.5, relu3_3: 0.5}, criterion: mse, preprocess: none``.

    Args:
        loss_weight: Factor on the loss.
        layers: Weight of each layer: conv1_1 … conv5_4 before, relu1_1 … after the activation.
        style_weight: Weight of the Gram matrices of the same layers (Gatys et al., CVPR 2016).
        criterion: Mean absolute or mean squared difference.
        preprocess: Conversion of RGB in [0, 1] to VGG's input: "imagenet" for torchvision's
            weights; "caffe" (BGR in [0, 255] minus the mean) for weights from Caffe; "none".
        weights: A weight file with torchvision's layer names; None: torchvision's own file in torch
            hub's cache.
        fetch: Download torchvision's file if it is not in torch hub's cache.
        bands: Numbers (from 1) of the three bands that VGG19 gets as red, green and blue; a band
            may be repeated, so [1, 1, 1] is for grey images. None: the images are RGB.

    Raises:
        UserError: if an option is wrong or the file ``weights`` does not exist.
        BackboneUnavailable: if torchvision's file is missing.
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        layers: dict[str, float] | None = None,
        style_weight: float = 0.0,
        criterion: Literal["l1", "mse"] = "l1",
        preprocess: Literal["imagenet", "caffe", "none"] = "imagenet",
        weights: Path | None = None,
        fetch: bool = False,
        bands: list[int] | None = None,
    ) -> None:
        super().__init__(loss_weight)
        self.bands = _checked_bands("PerceptualLoss", bands)
        self.layers = {"conv5_4": 1.0} if layers is None else dict(layers)
        unknown = [name for name in self.layers if name not in VGG19_LAYERS]
        if unknown or not self.layers:
            raise UserError(
                f"PerceptualLoss: layers names {', '.join(unknown) or 'nothing'}; VGG19 has "
                f"{', '.join(VGG19_LAYERS)}"
            )
        check_choice("PerceptualLoss: criterion", criterion, _CRITERIA)
        check_choice("PerceptualLoss: preprocess", preprocess, _PREPROCESS)
        self.style_weight, self.criterion = style_weight, criterion
        self.preprocess = preprocess
        self.file = Path(weights) if weights is not None else hub_file(VGG19.file)
        if not self.file.is_file():
            if weights is not None:
                raise UserError(f"{weights}: no such weight file (weights of PerceptualLoss)")
            if not fetch:
                raise BackboneUnavailable(missing("PerceptualLoss", VGG19))
            download(VGG19)

    @classmethod
    def check_options(cls, options: Mapping[str, Any], channels: int) -> None:
        bands = _checked_bands("PerceptualLoss", options.get("bands"))
        _check_channels("PerceptualLoss", bands, channels)

    def check_channels(self, channels: int) -> None:
        _check_channels("PerceptualLoss", self.bands, channels)

    def value(self, sr: Tensor, gt: Tensor) -> Tensor:
        sr, gt = (_chosen("PerceptualLoss", self.bands, as_images(image)) for image in (sr, gt))
        indices = {VGG19_LAYERS[name]: weight for name, weight in self.layers.items()}
        net = load_vgg19(self.file, max(indices), sr.device)
        check_size("PerceptualLoss", sr, net.min_size)
        sr_feats = net(_PREPROCESS[self.preprocess](sr), indices)
        with torch.no_grad():
            gt_feats = net(_PREPROCESS[self.preprocess](gt), indices)
        total, distance = sr.new_zeros(()), _CRITERIA[self.criterion]
        for index, x, y in zip(sorted(indices), sr_feats, gt_feats, strict=True):
            weight = indices[index]
            total = total + weight * distance(x, y)
            if self.style_weight:
                total = total + weight * self.style_weight * distance(_gram(x), _gram(y))
        return total


@LOSS_REGISTRY.register()
class LPIPSLoss(Loss):
    """LPIPS 0.1 as a loss (Zhang et al., CVPR 2018).

    Args:
        loss_weight: Factor on the loss.
        net: The backbone. For a network that is evaluated by LPIPS, use another backbone here.
        fetch: Download the backbone's weights if they are not in torch hub's cache.
        backbone: The backbone's weight file, as for the metric ``LPIPS``.
        bands: Numbers (from 1) of the three bands that the backbone gets as red, green and blue; a
            band may be repeated, so [1, 1, 1] is for grey images. None: the images are RGB.

    Raises:
        UserError: if ``net`` is unknown.
        BackboneUnavailable: if the weights are missing or wrong.
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        net: Literal["alex", "vgg", "squeeze"] = "vgg",
        fetch: bool = False,
        backbone: Path | None = None,
        bands: list[int] | None = None,
    ) -> None:
        super().__init__(loss_weight)
        self.bands = _checked_bands("LPIPSLoss", bands)
        check_choice("LPIPSLoss: net", net, LPIPS_BACKBONES)
        if reason := lpips_lacks(net, fetch, backbone):
            raise BackboneUnavailable(reason)
        self.net, self.fetch, self.backbone = net, fetch, backbone

    @classmethod
    def check_options(cls, options: Mapping[str, Any], channels: int) -> None:
        _check_channels("LPIPSLoss", _checked_bands("LPIPSLoss", options.get("bands")), channels)

    def check_channels(self, channels: int) -> None:
        _check_channels("LPIPSLoss", self.bands, channels)

    def value(self, sr: Tensor, gt: Tensor) -> Tensor:
        sr, gt = (_chosen("LPIPSLoss", self.bands, as_images(image)) for image in (sr, gt))
        check_size("LPIPSLoss", sr, LPIPS_BACKBONES[self.net].min_size)
        network = lpips_network(self.net, sr.device, self.fetch, self.backbone)
        return network(sr, gt, normalize=True).mean()

    @classmethod
    def identity(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        kept = {name: value for name, value in options.items() if name != "backbone"}
        path = options.get("backbone")
        weights = lpips_weights(options.get("net", "vgg"), None if path is None else Path(path))
        # Without a file nothing is trained; a finished training is recognised all the same.
        if weights is None or weights.is_official:
            return kept
        return {**kept, "backbone": weights.content}


def _standardize(image: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Standardizes each channel separately, which avoids a copy of constants to the device."""
    return torch.stack(
        [(image[:, i] - m) / s for i, (m, s) in enumerate(zip(mean, std, strict=True))], dim=1
    )


def _imagenet(image: Tensor) -> Tensor:
    return _standardize(image, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def _caffe(image: Tensor) -> Tensor:
    return _standardize(255 * image.flip(1), (103.939, 116.779, 123.68), (1, 1, 1))


_PREPROCESS = {"imagenet": _imagenet, "caffe": _caffe, "none": lambda image: image}


class _VGG19(nn.Module):
    """The first layers of VGG19 (Simonyan & Zisserman, ICLR 2015)."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        num_in = 3
        for channels, count in zip(_CHANNELS, _CONVOLUTIONS, strict=True):
            for _ in range(count):
                layers += [nn.Conv2d(num_in, channels, 3, padding=1), nn.ReLU()]
                num_in = channels
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers[: depth + 1])
        self.min_size = 2 ** sum(isinstance(layer, nn.MaxPool2d) for layer in self.features)

    def forward(self, image: Tensor, wanted: Collection[int]) -> list[Tensor]:
        """Returns the outputs of the layers with the indices ``wanted``, in network order."""
        outputs = []
        for index, layer in enumerate(self.features):
            image = layer(image)
            if index in wanted:
                outputs.append(image)
        return outputs


@lru_cache(maxsize=4)
def load_vgg19(file: Path, depth: int, device: torch.device) -> _VGG19:
    """Returns VGG19 up to layer ``depth`` with the weights of a file, frozen.

    It is cached here and no attribute of the loss, so that it is neither trained nor saved.
    """
    # If the first call is in inference mode, a later training loss still needs normal tensors.
    with torch.inference_mode(False):
        with without_memory():
            net = _VGG19(depth)
        net = net.to_empty(device=device).requires_grad_(False).eval()
        net.load_state_dict(read_convolutions("PerceptualLoss", file, VGG19, net.state_dict()))
    return net


def _gram(features: Tensor) -> Tensor:
    """Returns the Gram matrices (N, C, C) of features (N, C, h, w), divided by C·h·w."""
    maps = features.flatten(2)
    return maps @ maps.transpose(1, 2) / (maps.shape[1] * maps.shape[2])


def _checked_bands(name: str, bands: Sequence[int] | None) -> list[int] | None:
    if bands is not None and (len(bands) != 3 or min(bands) < 1):
        raise UserError(f"{name}: bands must be three numbers from 1 on, got {list(bands)}")
    return None if bands is None else list(bands)


def _check_channels(name: str, bands: Sequence[int] | None, channels: int) -> None:
    if bands is None and channels != 3:
        example = "[1, 1, 1]" if channels == 1 else "[3, 2, 1]"
        raise UserError(
            f"{name}: needs RGB images, got {channels} channels; choose three of them as R, G and "
            f"B with the option bands, for example bands: {example}"
        )
    if bands is not None and max(bands) > channels:
        raise UserError(
            f"{name}: bands names band {max(bands)}, but the images have {channels} channels"
        )


def _chosen(name: str, bands: Sequence[int] | None, images: Tensor) -> Tensor:
    """Returns images (N, 3, H, W) of the chosen bands."""
    _check_channels(name, bands, images.shape[1])
    return images if bands is None else images[:, [band - 1 for band in bands]]
