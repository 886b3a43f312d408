"""Networks of weight files whose architecture the package spandrel recognises and builds.

spandrel (the chaiNNer team, MIT licence) has the code of about forty architectures. It gets tensors
that `read_weights` has read, never a file, so no code in a file is executed. It is imported only
when a network is built.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from srtoolbox.archs.base import channels_text
from srtoolbox.engine.weights.load import WeightFile, read_weights, weights_hash
from srtoolbox.errors import RunError, UserError, is_out_of_memory
from srtoolbox.registry import ARCH_REGISTRY
from srtoolbox.utils.console import warn_once
from srtoolbox.utils.files import user_path

INSTALL = 'pip install "srtoolbox[spandrel]"'

_PURPOSES = ("SR", "Restoration")
_PREFIX = "network."
_HALF = {torch.float16: "fp16", torch.bfloat16: "bf16"}


@ARCH_REGISTRY.register()
class Spandrel(nn.Module):
    """A network of another project, built from its weight file by the package spandrel.

    spandrel recognises the architecture (SwinIR, HAT, DAT, SPAN, Real-ESRGAN and about forty
    others) and its options by the tensors of the file. Its networks for super-resolution and
    restoration of single images can be used. Names and values of all tensors stay as they are in
    the architecture's own project. A weight file that a training of this arch writes contains
    everything; it does not need the first file any more.

    Args:
        file: The weight file: .pth, .pt, .ckpt or .safetensors.
        scale: Super-resolution factor, to check that of the file; null: the file decides.
        key: The entry of the file with the tensors; null: params_ema, params or state_dict, or
            else the top level.
        trainable: Whether a training changes the weights. By default the network is only tested,
            in studies too.

    Attributes:
        architecture: spandrel's name of the architecture, such as ``"SwinIR"``.
        purpose: ``"SR"``, or ``"Restoration"`` for networks of scale 1.
        tags: spandrel's words on options of the architecture, such as ``"64nf"``.
        precisions: Number formats that it supports according to spandrel. In the others it runs in
            fp32, with a warning.
        tiling: spandrel's advice on tiles: ``"supported"``, ``"discouraged"`` (it uses the whole
            image) or ``"internal"``.
        licence: Licences of the code as far as they are declared; that of the weights is not.

    Raises:
        UserError: if spandrel is not installed, the file is faulty, its architecture is not known
            or needs more than an image, or ``scale`` differs.
    """

    paper = "an architecture that spandrel reads, with the weights of a file; see its own paper"
    scales = (1, 2, 3, 4, 8)
    own_weights = False  # the file decides about the tensors
    weight_option = "file"

    def __init__(
        self,
        file: Path,
        scale: int | None = None,
        key: str | None = None,
        trainable: bool = False,
    ) -> None:
        super().__init__()
        weights = read_weights(user_path(file), key)
        found = _describe(weights)
        name = f"{weights.path} ({found.architecture.name})"
        if scale is not None and scale != found.scale:
            raise UserError(
                f"{name}: its scale is {found.scale}, but {scale} is set; set scale: "
                f"{found.scale}, or give another file"
            )
        self.network = found.model
        if not trainable:
            self.network.requires_grad_(False)
        self.register_state_dict_post_hook(_without_prefix)
        self.register_load_state_dict_pre_hook(_with_prefix)
        self._call = found._call_fn  # found(image) clips, and gives no gradients
        self._name = name
        self.scale, self.scales = found.scale, (found.scale,)
        self.channels, self.out_channels = found.input_channels, found.output_channels
        sizes = found.size_requirements
        self.size_multiple, self.min_size = sizes.multiple_of, max(1, sizes.minimum)
        self.square = sizes.square
        self.architecture, self.purpose = found.architecture.name, found.purpose
        self.tags = tuple(found.tags)
        self.tiling = found.tiling.name.lower()
        supported = (found.supports_half, found.supports_bfloat16)
        halves = [name for name, has in zip(_HALF.values(), supported, strict=True) if has]
        self.precisions = ("fp32", *halves)
        package = type(found.architecture).__module__.partition(".")[0]
        self.licence, program = _licence(package)
        use = "its training starts from" if trainable else "it is not trained here, but has"
        self.origin = (
            f"{use} the weights of {weights.path.name} ({self.architecture}, "
            f"{weights_hash(self)}), read by {program} (licence of the code: {self.licence})"
        )

    def forward(self, lq: Tensor) -> Tensor:
        """Restores images.

        In evaluation it takes one image after the other, as spandrel does, and random numbers
        (AuraSR adds noise) are always the same.

        Args:
            lq: (N, C, h, w) in [0, 1].

        Returns:
            (N, C, h·scale, w·scale); values are not clipped.

        Raises:
            RunError: if the code of the architecture fails.
        """
        device = lq.device
        context = contextlib.nullcontext()
        if torch.is_autocast_enabled(device.type):
            precision = _HALF.get(torch.get_autocast_dtype(device.type), "fp32")
            if precision not in self.precisions:
                warn_once(
                    f"{self._name}: does not support {precision} according to spandrel; it runs in "
                    "fp32"
                )
                context, lq = torch.autocast(device.type, enabled=False), lq.float()
        with context:
            if self.training or torch.compiler.is_compiling():
                return self._run(lq)
            with _fixed_randomness(device):
                return torch.cat([self._run(image) for image in lq.split(1)])

    def _run(self, lq: Tensor) -> Tensor:
        lq = lq.clone()  # some architectures (RCAN) change their input
        try:
            return self._call(self.network, lq)
        except Exception as error:  # code of forty projects
            if is_out_of_memory(error) or torch.compiler.is_compiling():
                raise
            size = "×".join(map(str, lq.shape))
            raise RunError(
                f"{self._name}: fails on an input of shape {size} ({_first_line(error)})"
            ) from error

    def tensors_of(self, file: WeightFile) -> dict[str, Tensor]:
        """Returns the tensors of another file by the names that they have in this network.

        Raises:
            UserError: if spandrel cannot read it.
        """
        return _describe(file).model.state_dict()

    def describe(self) -> list[str]:
        """Returns lines on the network for the terminal."""
        sizes = f"from {self.min_size} pixels" if self.min_size > 1 else "any"
        sizes += f", multiples of {self.size_multiple}" * (self.size_multiple > 1)
        sizes += ", square" * self.square
        padded = "" if sizes == "any" else " (others are padded)"
        return [
            f"architecture: {' '.join([self.architecture, *self.tags])}, read by spandrel",
            f"purpose: {self.purpose}; scale: x{self.scale}; channels: {channels_text(self)}",
            f"input sizes: {sizes}{padded}; tiles: {self.tiling}",
            f"number formats: {', '.join(self.precisions)}",
            f"licence of the code: {self.licence}; ask the author of the file for that of the "
            "weights",
        ]


def load_spandrel(path: str | Path, key: str | None = None) -> Spandrel:
    """Returns the network of a weight file that spandrel recognises, in eval mode on the CPU.

    Args:
        path: The file.
        key: The entry with the tensors, see ``read_weights``.

    Raises:
        UserError: see ``Spandrel``.
    """
    return Spandrel(Path(path), key=key).eval()


def _describe(file: WeightFile) -> Any:
    """Returns spandrel's descriptor of a network for single images, with the weights of a file."""
    try:
        import spandrel  # with torchvision; this takes seconds
    except ImportError as error:
        raise UserError(
            f"{file.path}: the arch Spandrel, for architectures of other projects, needs the "
            f"package spandrel ({error.name} is missing); {INSTALL}"
        ) from None
    loader, state = spandrel.ModelLoader(), dict(file.state)
    name = _architecture(loader.registry, state)
    if name is None:
        raise UserError(
            f"{file.path}: spandrel {metadata.version('spandrel')} recognises no architecture by "
            "the names of its tensors"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the code of the architectures
            found = loader.load_from_state_dict(state)
    except Exception as error:  # it raises whatever the tensors of a wrong shape lead to
        raise UserError(
            f"{file.path}: seems to be {name}, but spandrel cannot build it ({_first_line(error)})"
        ) from error
    single = isinstance(found, spandrel.ImageModelDescriptor)
    if not single or found.purpose not in _PURPOSES:
        kind = "inpainting needs a mask" if not single else f"it is for {found.purpose}"
        raise UserError(
            f"{file.path}: {name} cannot be used ({kind}); only networks for super-resolution and "
            "restoration of images can"
        )
    return found


def _architecture(registry: Any, state: dict[str, Any]) -> str | None:
    """Returns the name of the architecture to which spandrel attributes tensors."""
    from spandrel import canonicalize_state_dict

    tensors = canonicalize_state_dict(state)
    for support in registry.architectures("detection"):
        with contextlib.suppress(Exception):  # some look into tensors that they expect
            if support.detect(tensors):
                return support.architecture.name
    return None


def _without_prefix(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    inner = prefix + _PREFIX
    for key in [key for key in state if key.startswith(inner)]:
        state[prefix + key.removeprefix(inner)] = state.pop(key)


def _with_prefix(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    for key in [key for key in state if key.startswith(prefix)]:
        state[prefix + _PREFIX + key.removeprefix(prefix)] = state.pop(key)


def _licence(package: str) -> tuple[str, str]:
    """Returns the licence of the code of an architecture, and the package with its version."""
    try:
        facts = metadata.metadata(package)
    except metadata.PackageNotFoundError:  # an architecture of a user's own module
        return "not declared", package
    fields = ("License-Expression", "License")
    declared = next((facts[field] for field in fields if field in facts), "not declared")
    if package == "spandrel":  # as its documentation states; the files do not name them
        declared += ", its architectures MIT, Apache-2.0 or public domain"
    return declared, f"{package} {facts['Version']}"


@contextlib.contextmanager
def _fixed_randomness(device: torch.device) -> Iterator[None]:
    """Context in which random numbers do not depend on earlier ones, nor later ones on them."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(0)
        if devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(0)
        yield


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join([type(error).__name__, *lines[:2]])[:300]
