"""LPIPS, the learned perceptual metric, version 0.1.

R. Zhang, P. Isola, A. A. Efros, E. Shechtman, O. Wang, "The unreasonable effectiveness of deep
features as a perceptual metric", CVPR 2018.

The ``lpips`` package brings the calibrated linear layers; the backbone's ImageNet weights are
torchvision's, read from torch hub's cache. Nothing is downloaded unless ``fetch`` says so.
"""

from __future__ import annotations

import contextlib
import importlib.util
import pickle
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from srtoolbox.errors import UserError
from srtoolbox.metrics.base import Metric, MetricUnavailable
from srtoolbox.metrics.protocol import Protocol
from srtoolbox.registry import METRIC_REGISTRY

_URL = "https://download.pytorch.org/models/"


class _Backbone(NamedTuple):
    file: str  # as torchvision calls it; the digits before the suffix are its sha256's first
    min_size: int  # pixels below which the backbone's last map is empty


_BACKBONES = {
    "alex": _Backbone("alexnet-owt-7be5be79.pth", 31),
    "vgg": _Backbone("vgg16-397923af.pth", 16),
    "squeeze": _Backbone("squeezenet1_1-b8a52dc0.pth", 17),
}


@METRIC_REGISTRY.register()
class LPIPS(Metric):
    """Distance of deep features, always of RGB images; 0 for identical ones.

    Args:
        net: The backbone. AlexNet is what papers report unless they say otherwise.
        fetch: Download the backbone's weights if torch hub's cache lacks them.
    """

    higher_is_better = False
    digits = 4
    paper = "Zhang et al., CVPR 2018"

    def __init__(self, net: Literal["alex", "vgg", "squeeze"] = "alex", fetch: bool = False):
        if net not in _BACKBONES:
            raise UserError(f"LPIPS: net is one of {', '.join(_BACKBONES)}, got {net!r}")
        self.net = net
        self.fetch = fetch
        self._failed: str | None = None

    @property
    def weights(self) -> Path:
        """Where the backbone's weights are looked for (``$TORCH_HOME/hub/checkpoints/…``)."""
        return Path(torch.hub.get_dir()) / "checkpoints" / _BACKBONES[self.net].file

    def available(self) -> str | None:
        """Why LPIPS cannot be computed here (``None`` if it can), found out without building it."""
        if self._failed:
            return self._failed
        for package in ("lpips", "torchvision"):
            if importlib.util.find_spec(package) is None:
                return f"LPIPS needs the package '{package}': pip install {package}"
        return None if self.fetch or self.weights.is_file() else self._missing()

    def score(self, sr: Tensor, gt: Tensor, protocol: Protocol, scale: int) -> float:
        x, y = (protocol.prepare_rgb(image, scale).float() / 255 for image in (sr, gt))
        smallest = _BACKBONES[self.net].min_size
        if min(x.shape[1:]) < smallest:
            raise UserError(
                f"LPIPS: '{self.net}' needs {smallest}×{smallest} pixels, but protocol "
                f"'{protocol.name}' leaves {x.shape[1]}×{x.shape[2]} of an image of "
                f"{sr.shape[1]}×{sr.shape[2]}"
            )
        network = self._network(x.device)
        with torch.inference_mode(), torch.autocast(x.device.type, enabled=False):
            return network(x[None], y[None], normalize=protocol.lpips_range == "signed").item()

    def _network(self, device: torch.device) -> nn.Module:
        """The network on a device; a reason found once is not searched for again."""
        if reason := self.available():
            raise MetricUnavailable(reason)
        try:
            if not self.weights.is_file():
                self._download()
            return _build(self.net, self.weights, device)
        except MetricUnavailable as error:
            self._failed = str(error)
            raise

    def _download(self) -> None:
        digest = self.weights.stem.rpartition("-")[2]
        try:
            self.weights.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(
                _URL + self.weights.name, str(self.weights), hash_prefix=digest, progress=False
            )
        except (OSError, RuntimeError) as error:  # no network, no space; a wrong checksum
            raise MetricUnavailable(f"{self._missing()} (the download failed: {error})") from error

    def _missing(self) -> str:
        file, folder = self.weights, self.weights.parent
        if folder.is_relative_to(Path.home()):  # the message goes into tables that are shown around
            folder = Path("~") / folder.relative_to(Path.home())
        return f"LPIPS needs {file.name} in {folder}; get it from {_URL}{file.name}"


@lru_cache(maxsize=6)
def _build(net: str, weights: Path, device: torch.device) -> nn.Module:
    """The lpips package's network with the backbone weights of a torchvision file."""
    with contextlib.ExitStack() as quiet:
        # The package builds its backbone at random, by torchvision's deprecated arguments: the
        # warnings are of no use to anybody, and the run's random state is none of its business.
        quiet.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        quiet.enter_context(torch.random.fork_rng(devices=[]))
        try:
            import lpips
        except (ImportError, RuntimeError) as error:  # torchvision built for another torch
            raise MetricUnavailable(f"LPIPS: 'import lpips' fails: {error}") from error
        network = lpips.LPIPS(net=net, version="0.1", pnet_rand=True, verbose=False)
    backbone = network.net
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
        # "slice2.3.weight" in the package is "features.3.weight" in torchvision.
        backbone.load_state_dict(
            {key: state["features." + key.partition(".")[2]] for key in backbone.state_dict()}
        )
    except (
        OSError,
        RuntimeError,
        EOFError,
        LookupError,
        TypeError,
        pickle.UnpicklingError,
    ) as error:
        raise MetricUnavailable(
            f"LPIPS: {weights} does not hold torchvision's weights for '{net}' "
            f"({type(error).__name__}); delete it and get {_URL}{weights.name}"
        ) from error
    return network.requires_grad_(False).eval().to(device)
