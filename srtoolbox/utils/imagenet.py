"""Finds and loads networks trained on ImageNet, whose features LPIPS and perceptual losses compare.

Their weights are torchvision's files, whole or the convolutions alone. Only ``srtoolbox fetch`` and
the option ``fetch`` download them.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import pickle
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from srtoolbox.errors import UserError
from srtoolbox.utils.files import sha256_of, user_path

VARIABLE = "SRTOOLBOX_LPIPS_BACKBONE"
"""The environment variable that names LPIPS's backbone: a file, or a folder of them."""

_URL = "https://download.pytorch.org/models/"
_DIGITS = 12  # shown digits of a hash


class BackboneUnavailable(UserError):
    """A backbone that cannot be used on this machine; the message has the reason and the remedy."""


def _convolutions(layers: Mapping[str, tuple[int, int, int]]) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of weights and biases, from (output, input, kernel size) by layer."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, (num_out, num_in, kernel) in layers.items():
        shapes[f"features.{layer}.weight"] = (num_out, num_in, kernel, kernel)
        shapes[f"features.{layer}.bias"] = (num_out,)
    return shapes


def _vgg(*counts: int) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of a VGG network, from the number of convolutions in each block."""
    layers, index, num_in = {}, 0, 3
    for count, channels in zip(counts, (64, 128, 256, 512, 512), strict=True):
        for _ in range(count):
            layers[str(index)] = (channels, num_in, 3)
            index, num_in = index + 2, channels  # an activation follows
        index += 1  # a pooling layer follows
    return _convolutions(layers)


def _squeezenet() -> dict[str, tuple[int, ...]]:
    layers = {"0": (64, 3, 3)}
    fires = {3: (64, 16), 4: (128, 16), 6: (128, 32), 7: (256, 32)}
    fires |= {9: (256, 48), 10: (384, 48), 11: (384, 64), 12: (512, 64)}
    for index, (num_in, squeezed) in fires.items():
        layers[f"{index}.squeeze"] = (squeezed, num_in, 1)
        layers[f"{index}.expand1x1"] = (4 * squeezed, squeezed, 1)
        layers[f"{index}.expand3x3"] = (4 * squeezed, squeezed, 3)
    return _convolutions(layers)


_ALEXNET = {"0": (64, 3, 11), "3": (192, 64, 5), "6": (384, 192, 3), "8": (256, 384, 3)}
_ALEXNET |= {"10": (256, 256, 3)}


@dataclass(frozen=True, eq=False)
class Backbone:
    """A network trained on ImageNet.

    Attributes:
        name: Name in options and messages.
        fetch: Name for ``srtoolbox fetch``.
        file: torchvision's file; the digits before the suffix are the first of its SHA-256.
        size: Size of that file in MiB.
        min_size: Smallest side in pixels for which the last feature map is not empty.
        shapes: Shapes of weights and biases of the convolutions, by torchvision's names.
        content: Content hash of torchvision's convolutions, see `BackboneFile`; None: unknown.
    """

    name: str
    fetch: str
    file: str
    size: int
    min_size: int
    shapes: Mapping[str, tuple[int, ...]]
    content: str | None = None

    @property
    def url(self) -> str:
        """Address of the file."""
        return _URL + self.file

    @property
    def ways(self) -> str:
        """The ways to name a weight file of one's own, in words."""
        if self.name in LPIPS_BACKBONES:
            return f"the option backbone or the variable {VARIABLE}"
        return "the option weights"


LPIPS_BACKBONES = {
    backbone.name: backbone
    for backbone in (
        Backbone(
            "alex",
            "lpips",
            "alexnet-owt-7be5be79.pth",
            233,
            31,
            _convolutions(_ALEXNET),
            "b58cb1251626",
        ),
        Backbone(
            "vgg",
            "lpips-vgg",
            "vgg16-397923af.pth",
            528,
            16,
            _vgg(2, 2, 3, 3, 3),
            "c904448ba069",
        ),
        Backbone("squeeze", "lpips-squeeze", "squeezenet1_1-b8a52dc0.pth", 5, 17, _squeezenet()),
    )
}
VGG19 = Backbone("vgg19", "vgg19", "vgg19-dcbb9e9d.pth", 548, 1, _vgg(2, 2, 4, 4, 4))
BACKBONES = {backbone.fetch: backbone for backbone in (*LPIPS_BACKBONES.values(), VGG19)}
"""All backbones, by their names for ``srtoolbox fetch``."""


class BackboneFile(NamedTuple):
    """A weight file that suits a backbone.

    Attributes:
        content: First 12 hex digits of the SHA-256 of names, shapes and float32 values of the
            convolutions, which are the same in torchvision's whole file and in its convolutions.
        text: Origin and form of the file, and the first 12 hex digits of its SHA-256.
        is_official: Whether the convolutions are torchvision's.
    """

    content: str
    text: str
    is_official: bool


def hub_file(name: str) -> Path:
    """Returns the path of torchvision's weight file ``name`` in ``$TORCH_HOME/hub/checkpoints``."""
    return Path(torch.hub.get_dir()) / "checkpoints" / name


def missing(user: str, backbone: Backbone) -> str:
    """Returns a line that names the file that ``user`` needs, and the ways to provide it."""
    folder = hub_file(backbone.file).parent
    if folder.is_relative_to(Path.home()):  # the message goes into tables that may be published
        folder = Path("~") / folder.relative_to(Path.home())
    return (
        f"{user} needs {backbone.file} in {folder}; run `srtoolbox fetch {backbone.fetch}`, or "
        f"name the file with {backbone.ways}"
    )


def download(backbone: Backbone, progress: bool = False) -> None:
    """Downloads torchvision's file to torch hub's cache, completely or not at all.

    Args:
        backbone: The backbone.
        progress: Show a progress bar.

    Raises:
        BackboneUnavailable: if there is no network or no space, or the checksum is wrong.
    """
    file, url = hub_file(backbone.file), backbone.url
    digits = file.stem.rpartition("-")[2]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(file), hash_prefix=digits, progress=progress)
    except (OSError, RuntimeError) as error:
        raise BackboneUnavailable(
            f"{url} could not be downloaded to {file} ({error}); download it on another machine "
            f"and copy it there, or name a copy with {backbone.ways}"
        ) from error


def read_convolutions(
    user: str, file: Path, backbone: Backbone, keys: Collection[str] | None = None
) -> dict[str, Tensor]:
    """Returns weights and biases of a backbone's convolutions, float32, by torchvision's names.

    Args:
        user: The metric or loss that reads the file, for the message.
        file: torchvision's file, or one with its entries for convolutions.
        backbone: The backbone.
        keys: The entries that are needed; None: all of ``backbone.shapes``.

    Raises:
        BackboneUnavailable: if the file cannot be read or lacks an entry.
    """
    needed = list(backbone.shapes if keys is None else keys)
    state = _load(file)
    if isinstance(state, str):
        fault: str | None = state
    else:
        fault = _fault(state, {key: backbone.shapes[key] for key in needed})
        if not fault:
            return {key: state[key].float() for key in needed}
        for other in BACKBONES.values():
            if not _fault(state, other.shapes):
                fault = f"it has those of '{other.name}'"
    raise BackboneUnavailable(
        f"{user}: {file} does not have the convolutions of '{backbone.name}': {fault}; it should "
        f"be torchvision's {backbone.file} (`srtoolbox fetch {backbone.fetch}`) or its convolutions"
    )


def _load(file: Path) -> dict | str:
    """Returns the content of a weight file, or what is wrong with it."""
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        return f"it cannot be read ({error.strerror or error})"
    except (RuntimeError, EOFError, LookupError, TypeError, pickle.UnpicklingError) as error:
        return f"it is no weight file ({type(error).__name__})"
    return state if isinstance(state, dict) else f"it has a {type(state).__name__}"


def _fault(state: Mapping[str, object], shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """Returns the first difference between tensors and the shapes that are needed, or None."""
    for key, shape in shapes.items():
        tensor = state.get(key)
        if not isinstance(tensor, Tensor):
            return f"{key} is missing"
        if tuple(tensor.shape) != shape:
            found, wanted = ("×".join(map(str, size)) for size in (tensor.shape, shape))
            return f"{key} has the shape {found or '()'} instead of {wanted}"
    return None


def inspect(user: str, file: Path, backbone: Backbone) -> BackboneFile:
    """Checks a weight file and returns its hashes; a file is read only once per process.

    Raises:
        BackboneUnavailable: if the file does not suit the backbone.
    """
    return _inspect(user, file, backbone, _version(file))


@lru_cache(maxsize=16)
def _inspect(user: str, file: Path, backbone: Backbone, _: object) -> BackboneFile:
    hashed = hashlib.sha256()
    with torch.inference_mode(False):
        for key, tensor in read_convolutions(user, file, backbone).items():
            hashed.update(f"{key} {tuple(tensor.shape)}\n".encode())
            hashed.update(tensor.contiguous().numpy().tobytes())
    content = hashed.hexdigest()[:_DIGITS]
    sha256, original = sha256_of(file)[:_DIGITS], Path(backbone.file).stem
    is_whole = sha256.startswith(original.rpartition("-")[2])
    is_official = is_whole or content == backbone.content
    if is_official:
        text = f"torchvision's {original} ({'whole file' if is_whole else 'convolutions'})"
    elif backbone.content is None:
        text = f"{file.name}, which may differ from torchvision's {original}"
    else:
        text = f"{file.name}, which differs from torchvision's {original}"
    return BackboneFile(content, f"{text}, SHA-256 {sha256}", is_official)


@lru_cache(maxsize=16)
def _lpips_backbone_in(file: Path, _: object) -> str | None:
    """Returns the name of the LPIPS backbone that a file contains, or None."""
    state = _load(file)
    for name, known in LPIPS_BACKBONES.items():
        if isinstance(state, dict) and not _fault(state, known.shapes):
            return name
    return None


def _version(file: Path) -> tuple[int, int] | None:
    """Returns values that change when a file is replaced; None: there is no file."""
    if not file.is_file():
        return None
    status = file.stat()
    return status.st_mtime_ns, status.st_size


def lpips_file(net: str, backbone: Path | None = None) -> Path:
    """Returns the path of LPIPS's weight file. Only in torch hub's cache it may be missing.

    The option ``backbone`` has priority over the environment variable, and this over torch hub's
    cache. Both name a file, or a folder in which the file has torchvision's name. The variable is
    for every ``net``: if it names a file with another backbone of LPIPS, or a folder without a file
    for ``net``, torch hub's cache is used.

    Args:
        net: A key of ``LPIPS_BACKBONES``.
        backbone: The option; None: not given.

    Raises:
        BackboneUnavailable: if the option or the variable names nothing that exists, or a file that
            does not suit.
    """
    wanted = LPIPS_BACKBONES[net]
    variable = os.environ.get(VARIABLE) if backbone is None else None
    if backbone is None and not variable:
        return hub_file(wanted.file)
    user = f"LPIPS: {VARIABLE}" if variable else "LPIPS: backbone"
    named = user_path(variable or backbone or "")
    file = named / wanted.file if named.is_dir() else named
    if variable and named.is_dir() and not file.exists():
        return hub_file(wanted.file)
    if not file.is_file():
        raise BackboneUnavailable(f"{user}: {file}: no such weight file")
    if variable and _lpips_backbone_in(file, _version(file)) not in (None, net):
        return hub_file(wanted.file)
    inspect(user, file, wanted)
    return file


def lpips_weights(net: str, backbone: Path | None = None) -> BackboneFile | None:
    """Returns the weight file that LPIPS uses, see `lpips_file`; None if it cannot be used."""
    try:
        return inspect("LPIPS", lpips_file(net, backbone), LPIPS_BACKBONES[net])
    except BackboneUnavailable:
        return None


def lpips_lacks(net: str, fetch: bool, backbone: Path | None = None) -> str | None:
    """Returns the reason why LPIPS cannot be computed here, or None; it does not build it."""
    for package in ("lpips", "torchvision"):
        if importlib.util.find_spec(package) is None:
            return f"LPIPS needs the package '{package}': pip install {package}"
    try:
        file = lpips_file(net, backbone)
        if not file.is_file():
            return None if fetch else missing("LPIPS", LPIPS_BACKBONES[net])
        inspect("LPIPS", file, LPIPS_BACKBONES[net])
    except BackboneUnavailable as error:
        return str(error)
    return None


def fetch_lpips(net: str, backbone: Path | None = None) -> None:
    """Downloads LPIPS's weight file if torch hub's cache has to have it and does not.

    Raises:
        BackboneUnavailable: if that fails.
    """
    if not lpips_file(net, backbone).is_file():
        download(LPIPS_BACKBONES[net])


def lpips_network(
    net: str, device: torch.device, fetch: bool = False, backbone: Path | None = None
) -> nn.Module:
    """Returns the frozen network of the ``lpips`` package, version 0.1 (Zhang et al., CVPR 2018).

    Args:
        net: A key of ``LPIPS_BACKBONES``.
        device: Device of the network.
        fetch: Download the weight file if torch hub's cache does not have it.
        backbone: The weight file, see `lpips_file`.

    Raises:
        BackboneUnavailable: if the package or the weight file is broken or missing.
    """
    if fetch:
        fetch_lpips(net, backbone)
    file = lpips_file(net, backbone)
    if not file.is_file():
        raise BackboneUnavailable(missing("LPIPS", LPIPS_BACKBONES[net]))
    return _build_lpips(net, file, _version(file), device)


@lru_cache(maxsize=6)
def _build_lpips(net: str, file: Path, _: object, device: torch.device) -> nn.Module:
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
        state = read_convolutions("LPIPS", file, LPIPS_BACKBONES[net])
        network = lpips.LPIPS(net=net, version="0.1", pnet_rand=True, verbose=False)
        backbone = network.net
        # "slice2.3.weight" in the package is "features.3.weight" in torchvision.
        backbone.load_state_dict(
            {key: state["features." + key.partition(".")[2]] for key in backbone.state_dict()}
        )
        return network.requires_grad_(False).eval().to(device)
