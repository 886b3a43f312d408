"""Builds the networks of the package pyiqa without downloads, and names the files they read.

pyiqa and the libraries that it uses download weight files while a network is built, in several
ways. Here each of them is stopped in the thread that builds, unless the user asks for downloads.
"""

from __future__ import annotations

import builtins
import contextlib
import hashlib
import importlib.metadata
import importlib.util
import io
import json
import os
import pickle
import re
import socket
import sys
import threading
import urllib.request
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from srtoolbox.errors import UserError, is_out_of_memory
from srtoolbox.registry import close_names
from srtoolbox.utils.files import sha256_of

EXTRA = 'pyiqa is not installed: pip install "srtoolbox[iqa]"'

_WEIGHTS = (".pth", ".pt", ".pkl", ".mat", ".npz", ".npy", ".safetensors", ".bin", ".tar", ".ckpt")
_DIGITS = 12  # of a hash
_PACKAGES = {"pkg_resources": '"setuptools<81"'}  # where a module of another name comes from
_LOCK = threading.RLock()
# They score sets of images, or an image with its caption.
_NO_IMAGE_METRICS = ("fid", "sfid", "fid_dinov2", "inception_score", "clipscore")


class IQAUnavailable(UserError):
    """A network of pyiqa that cannot be built on this machine; the message says what is missing."""


class Facts(NamedTuple):
    """Facts that pyiqa states about a metric.

    Attributes:
        higher_is_better: Whether the higher of two values is better.
        needs_gt: Whether it compares an image with its ground truth.
    """

    higher_is_better: bool
    needs_gt: bool


class IQANetwork(NamedTuple):
    """A network of pyiqa.

    Attributes:
        module: Called with images (1, 3, H, W) in [0, 1]: the result and, if it needs one, the
            ground truth.
        files: First 12 hex digits of the SHA-256 of the weight files that it was built from, by
            name.
        content: Hash of pyiqa's version, the metric, its options and these files, 12 hex digits.
    """

    module: nn.Module
    files: Mapping[str, str]
    content: str


def is_installed() -> bool:
    """Returns whether pyiqa is installed."""
    return importlib.util.find_spec("pyiqa") is not None


def version() -> str:
    """Returns the version of pyiqa."""
    return importlib.metadata.version("pyiqa")


def iqa_facts(name: str) -> Facts:
    """Returns what pyiqa states about a metric.

    Raises:
        IQAUnavailable: if pyiqa cannot be imported.
        UserError: if it has no such metric, or the metric does not score single images.
    """
    known = _configs()
    if name not in known:
        close = close_names(name, list(known))
        hint = f"did you mean {close}? " if close else ""
        raise UserError(f"pyiqa {version()} has no metric '{name}'; {hint}`pyiqa -ls` lists all")
    if name in _NO_IMAGE_METRICS:
        what = "an image with its caption" if name == "clipscore" else "whole sets of images"
        raise UserError(f"pyiqa: '{name}' scores {what}, which srtoolbox does not support")
    config = known[name]
    return Facts(not config.get("lower_better", False), config.get("metric_mode") == "FR")


def iqa_network(
    name: str,
    options: Mapping[str, Any],
    device: torch.device,
    *,
    fetch: bool = False,
    unpickle: bool = False,
) -> IQANetwork:
    """Returns a network of pyiqa in eval mode. It is built only once per process and device.

    Args:
        name: Name of the metric.
        options: Options of its constructor beyond pyiqa's own.
        device: Device of the network.
        fetch: Let pyiqa download weight files that are missing.
        unpickle: Let pyiqa read weight files that contain more than tensors.

    Raises:
        IQAUnavailable: if a weight file or a package is missing, or the network cannot be built.
    """
    with _LOCK:
        return _build(name, json.dumps(options, sort_keys=True), device, fetch, unpickle)


@lru_cache(maxsize=8)
def _build(
    name: str, options: str, device: torch.device, fetch: bool, unpickle: bool
) -> IQANetwork:
    with contextlib.ExitStack() as context:
        files = context.enter_context(_recorded(fetch, unpickle))
        context.enter_context(own_random_state(device))
        context.enter_context(torch.inference_mode(False))
        context.enter_context(contextlib.redirect_stdout(io.StringIO()))
        context.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        try:
            import pyiqa

            module = pyiqa.create_metric(name, device=device, **json.loads(options))
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise IQAUnavailable(f"pyiqa: '{name}' {_reason(error)}") from error
    hashes = {path.name: sha256_of(path)[:_DIGITS] for path in dict.fromkeys(files)}
    facts = [version(), name, options, sorted(hashes.items())]
    content = hashlib.sha256(json.dumps(facts).encode())
    if not hashes:  # files that were read by libraries in another way
        for key, tensor in module.net.state_dict().items():
            content.update(f"{key} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
            content.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    module.requires_grad_(False).eval()
    return IQANetwork(module, hashes, content.hexdigest()[:_DIGITS])


@contextlib.contextmanager
def own_random_state(device: torch.device) -> Iterator[None]:
    """Context with a random state of its own, the same each time.

    Random choices of a metric, such as crops, then depend on the image alone.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        yield


def _configs() -> Mapping[str, Mapping[str, Any]]:
    """Returns pyiqa's metrics by name: ``metric_mode`` and ``lower_better``."""
    try:
        from pyiqa.default_model_configs import DEFAULT_CONFIGS
    except (ImportError, RuntimeError) as error:  # torchvision built for another torch
        text = f"'import pyiqa' fails: {error}" if is_installed() else EXTRA
        raise IQAUnavailable(text) from error
    return DEFAULT_CONFIGS


class _Missing(Exception):
    """Raised in place of a download; the message names the file."""


@contextlib.contextmanager
def _recorded(fetch: bool, unpickle: bool) -> Iterator[list[Path]]:
    """Context that yields the weight files that this thread reads, and stops its downloads.

    Other threads are not affected, except that libraries of Hugging Face are offline.
    """
    files: list[Path] = []
    own = threading.get_ident()

    def in_this_thread(replaced: Callable[..., Any], original: Callable[..., Any]) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            chosen = replaced if threading.get_ident() == own else original
            return chosen(*arguments, **options)

        return call

    def reading(original: Callable[..., Any]) -> Callable[..., Any]:
        def read(file: Any, *arguments: Any, **options: Any) -> Any:
            found = original(file, *arguments, **options)
            if isinstance(file, str | os.PathLike) and Path(file).suffix in _WEIGHTS:
                files.append(Path(file))
            return found

        return read

    def load(*arguments: Any, **options: Any) -> Any:
        return torch_load(*arguments, **{**options, "weights_only": True})

    def download(url: str, target: str, *_: Any, **__: Any) -> None:
        raise _Missing(f"{_shown(Path(target))} ({url})")

    def urlopen(url: Any, *_: Any, **__: Any) -> None:
        target = sys._getframe(2).f_locals.get("download_target")  # of the function that downloads
        download(str(getattr(url, "full_url", url)), target or "torch hub's cache")

    def resolve(host: Any, *_: Any, **__: Any) -> None:
        raise _Missing(f"a file of {host} in the cache of its library")

    torch_load = torch.load
    places: list[tuple[Any, str, Callable[..., Any]]] = [
        (builtins, "open", reading(builtins.open)),
        (torch.jit, "load", reading(torch.jit.load)),
    ]
    if not unpickle:
        places.append((torch, "load", load))
    if importlib.util.find_spec("safetensors"):
        import safetensors.torch

        places.append((safetensors.torch, "load_file", reading(safetensors.torch.load_file)))
    if not fetch:
        places += [
            (torch.hub, "download_url_to_file", download),
            (urllib.request, "urlopen", urlopen),
            (socket, "getaddrinfo", resolve),
        ]
        with contextlib.suppress(ImportError):
            from pyiqa.utils import download_util

            places.append((download_util, "download_url_to_file", download))
    with contextlib.ExitStack() as restored:
        for owner, name, replacement in places:
            original = getattr(owner, name)
            setattr(owner, name, in_this_thread(replacement, original))
            restored.callback(setattr, owner, name, original)
        if not fetch and importlib.util.find_spec("huggingface_hub"):
            from huggingface_hub import constants

            restored.callback(setattr, constants, "HF_HUB_OFFLINE", constants.HF_HUB_OFFLINE)
            constants.HF_HUB_OFFLINE = True
        yield files


def _reason(error: BaseException) -> str:
    """Returns what is missing, after the name of a metric."""
    chain = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    for found in chain:
        if isinstance(found, _Missing):
            return (
                f"needs {found}; download the file and put it there, or let pyiqa download it "
                "with the option fetch: true"
            )
        if isinstance(found, ModuleNotFoundError):
            source = _PACKAGES.get(found.name or "", found.name)
            return f"needs the package '{found.name}': pip install {source}"
        if isinstance(found, pickle.UnpicklingError):
            return (
                "has a weight file with more than tensors, which is read by pickle and can run "
                "code; if it is from pyiqa's authors, allow it with the option unpickle: true"
            )
        if url := re.search(r"https://huggingface\.co/(\S+)/resolve/", str(found)):
            return (
                f"needs the weights {url[1]} in the cache of huggingface_hub; download them with "
                f"`hf download {url[1]}`, or let pyiqa do it with the option fetch: true"
            )
    text = " ".join(str(error).split())
    return f"cannot be built: {type(error).__name__}: {text[:300]}"


def _shown(path: Path) -> Path:
    """Returns a path with ``~`` for the home folder: the message goes into published tables."""
    home = Path.home()
    return Path("~") / path.relative_to(home) if path.is_relative_to(home) else path
