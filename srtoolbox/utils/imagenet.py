"""Loads networks trained on ImageNet, whose features LPIPS and perceptual losses compare.

Their weights are torchvision's files in the cache of torch hub. They are downloaded only if the
option ``fetch`` is true.
"""

from __future__ import annotations

import contextlib
import importlib.util
import pickle
import warnings
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from srtoolbox.errors import UserError

_URL = "https://download.pytorch.org/models/"


class BackboneUnavailable(UserError):
    """A backbone that cannot be used on this machine; the message has the reason and the remedy."""


class LPIPSBackbone(NamedTuple):
    """A backbone of LPIPS."""

    file: str  # torchvision's name; the digits before the suffix are the first of its SHA-256
    min_size: int  # smallest side in pixels for which the last feature map is not empty


LPIPS_BACKBONES = {
    "alex": LPIPSBackbone("alexnet-owt-7be5be79.pth", 31),
    "vgg": LPIPSBackbone("vgg16-397923af.pth", 16),
    "squeeze": LPIPSBackbone("squeezenet1_1-b8a52dc0.pth", 17),
}


def hub_file(name: str) -> Path:
    """Returns the path of torchvision's weight file ``name`` in ``$TORCH_HOME/hub/checkpoints``."""
    return Path(torch.hub.get_dir()) / "checkpoints" / name


def missing(user: str, file: Path) -> str:
    """Returns a line that names the file that ``user`` needs, and its address."""
    folder = file.parent
    if folder.is_relative_to(Path.home()):  # the message goes into tables that may be published
        folder = Path("~") / folder.relative_to(Path.home())
    return f"{user} needs {file.name} in {folder}; get it from {_URL}{file.name}"


def download(user: str, file: Path) -> None:
    """Downloads torchvision's weight file.

    Args:
        user: The metric or loss that needs it, for the message.
        file: Path to write.

    Raises:
        BackboneUnavailable: if there is no network or no space, or the checksum is wrong.
    """
    digest = file.stem.rpartition("-")[2]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(
            _URL + file.name, str(file), hash_prefix=digest, progress=False
        )
    except (OSError, RuntimeError) as error:
        raise BackboneUnavailable(
            f"{missing(user, file)} (the download failed: {error})"
        ) from error


@contextlib.contextmanager
def reading(user: str, file: Path, name: str, original: str) -> Iterator[None]:
    """Converts the errors of a wrong weight file, raised inside the context, to one line.

    Args:
        user: The metric or loss that reads the file.
        file: The file.
        name: The backbone whose weights it should contain.
        original: Name of torchvision's file.

    Raises:
        BackboneUnavailable: if the file cannot be read or does not suit the backbone.
    """
    try:
        yield
    except (
        OSError,
        RuntimeError,
        EOFError,
        LookupError,
        TypeError,
        pickle.UnpicklingError,
    ) as error:
        raise BackboneUnavailable(
            f"{user}: {file} does not contain torchvision's weights for '{name}' "
            f"({type(error).__name__}); delete it and get {_URL}{original}"
        ) from error


def lpips_lacks(net: str, fetch: bool) -> str | None:
    """Returns the reason why LPIPS cannot be computed here, or None; it does not build it."""
    for package in ("lpips", "torchvision"):
        if importlib.util.find_spec(package) is None:
            return f"LPIPS needs the package '{package}': pip install {package}"
    file = hub_file(LPIPS_BACKBONES[net].file)
    return None if fetch or file.is_file() else missing("LPIPS", file)


def lpips_network(net: str, device: torch.device) -> nn.Module:
    """Returns the frozen network of the ``lpips`` package, version 0.1 (Zhang et al., CVPR 2018).

    A missing weight file is downloaded; ``lpips_lacks`` returns whether one is missing.

    Args:
        net: A key of ``LPIPS_BACKBONES``.
        device: Device of the network.

    Raises:
        BackboneUnavailable: if the package or the weight file is broken or missing.
    """
    file = hub_file(LPIPS_BACKBONES[net].file)
    if not file.is_file():
        download("LPIPS", file)
    return _build_lpips(net, file, device)


@lru_cache(maxsize=6)
def _build_lpips(net: str, file: Path, device: torch.device) -> nn.Module:
    with contextlib.ExitStack() as quiet:
        # A network that was built for a metric is also used by a loss, which needs gradients.
        quiet.enter_context(torch.inference_mode(False))
        # The package initializes its backbone at random, through deprecated arguments of
        # torchvision: the warnings are useless, and the random state of the run must not change.
        quiet.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        quiet.enter_context(torch.random.fork_rng(devices=[]))
        try:
            import lpips
        except (ImportError, RuntimeError) as error:  # torchvision built for another torch
            raise BackboneUnavailable(f"LPIPS: 'import lpips' fails: {error}") from error
        network = lpips.LPIPS(net=net, version="0.1", pnet_rand=True, verbose=False)
        backbone = network.net
        with reading("LPIPS", file, net, file.name):
            state = torch.load(file, map_location="cpu", weights_only=True)
            # "slice2.3.weight" in the package is "features.3.weight" in torchvision.
            backbone.load_state_dict(
                {key: state["features." + key.partition(".")[2]] for key in backbone.state_dict()}
            )
        return network.requires_grad_(False).eval().to(device)
