"""Networks trained on ImageNet whose features a metric or a loss compares.

Their weights are torchvision's files, read from torch hub's cache. Nothing is downloaded unless
``fetch`` says so.
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
    """A backbone that cannot be used on this machine; the message says what it lacks."""


class LPIPSBackbone(NamedTuple):
    """A backbone of LPIPS."""

    file: str  # as torchvision calls it; the digits before the suffix are its sha256's first
    min_size: int  # pixels below which the backbone's last map is empty


LPIPS_BACKBONES = {
    "alex": LPIPSBackbone("alexnet-owt-7be5be79.pth", 31),
    "vgg": LPIPSBackbone("vgg16-397923af.pth", 16),
    "squeeze": LPIPSBackbone("squeezenet1_1-b8a52dc0.pth", 17),
}


def hub_file(name: str) -> Path:
    """Where torchvision's weight file ``name`` is kept (``$TORCH_HOME/hub/checkpoints/…``)."""
    return Path(torch.hub.get_dir()) / "checkpoints" / name


def missing(user: str, file: Path) -> str:
    """One line: ``user`` needs ``file``, and where that is to be had."""
    folder = file.parent
    if folder.is_relative_to(Path.home()):  # the message goes into tables that are shown around
        folder = Path("~") / folder.relative_to(Path.home())
    return f"{user} needs {file.name} in {folder}; get it from {_URL}{file.name}"


def download(user: str, file: Path) -> None:
    """Fetches torchvision's weight file.

    Raises:
        BackboneUnavailable: without a network or space, or on a wrong checksum.
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
    """Turns what a wrong weight file causes into one line.

    Args:
        user: Who reads the file.
        file: The file.
        name: The backbone that it should hold.
        original: What torchvision's file is called.

    Raises:
        BackboneUnavailable: if the file cannot be read or does not fit the backbone.
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
            f"{user}: {file} does not hold torchvision's weights for '{name}' "
            f"({type(error).__name__}); delete it and get {_URL}{original}"
        ) from error


def lpips_lacks(net: str, fetch: bool) -> str | None:
    """Why LPIPS cannot be computed here (``None`` if it can), found out without building it."""
    for package in ("lpips", "torchvision"):
        if importlib.util.find_spec(package) is None:
            return f"LPIPS needs the package '{package}': pip install {package}"
    file = hub_file(LPIPS_BACKBONES[net].file)
    return None if fetch or file.is_file() else missing("LPIPS", file)


def lpips_network(net: str, device: torch.device) -> nn.Module:
    """The frozen network of the ``lpips`` package, version 0.1, with ImageNet's backbone.

    A weight file that is missing is downloaded; ``lpips_lacks`` says whether it is.

    Args:
        net: A key of ``LPIPS_BACKBONES``.
        device: Where it is to run.

    Raises:
        BackboneUnavailable: if the package or the weight file is broken, or not to be had.
    """
    file = hub_file(LPIPS_BACKBONES[net].file)
    if not file.is_file():
        download("LPIPS", file)
    return _build_lpips(net, file, device)


@lru_cache(maxsize=6)
def _build_lpips(net: str, file: Path, device: torch.device) -> nn.Module:
    with contextlib.ExitStack() as quiet:
        # Made while a metric is computed, it must still serve a loss that needs gradients.
        quiet.enter_context(torch.inference_mode(False))
        # The package builds its backbone at random, by torchvision's deprecated arguments: the
        # warnings are of no use to anybody, and the run's random state is none of its business.
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
