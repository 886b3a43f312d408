"""Rewrites a weight file with name and options of its arch, for `srtoolbox convert`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from srtoolbox.config.files import Tree, merge, plain, read
from srtoolbox.config.schema import build, check
from srtoolbox.engine.options import ArchSpec
from srtoolbox.engine.weights.load import WeightFile, read_weights, save_weights
from srtoolbox.errors import UserError

_SUFFIXES = (".safetensors", ".pth")


@dataclass(frozen=True)
class _Network:
    network_g: ArchSpec


def convert(
    source: Path,
    target: Path,
    arch: str | None = None,
    overrides: Sequence[str] = (),
    key: str | None = None,
) -> str:
    """Writes the weights of ``source`` together with name and options of their arch.

    Args:
        source: Any weight file that `read_weights` reads.
        target: Path of the new file, ending in ``.safetensors``, or in ``.pth`` for a file with the
            entries of BasicSR.
        arch: Name of the arch; default: the one that ``source`` contains.
        overrides: Options of the arch such as ``"num_feat=64"``; they replace those that ``source``
            contains.
        key: The entry of ``source`` with the tensors.

    Returns:
        Lines for the terminal: the loaded tensors and the written file.

    Raises:
        UserError: if the arch is not known, or a tensor does not match it.
    """
    if target.suffix not in _SUFFIXES:
        raise UserError(f"{target}: the name must end in {' or '.join(_SUFFIXES)}")
    file = read_weights(source, key)
    if target.exists() and target.samefile(source):
        raise UserError(f"{target}: is the input file itself; choose another name")
    spec = network_options(file, arch, overrides)
    net = build("arch", spec)
    loaded = file.load_into(net)
    options = {**plain(spec), "scale": net.scale}
    written = save_weights(target, options, net, pixels=file.pixels)
    return f"{loaded}\nwrote {target}: {spec['type']} x{net.scale} ({written})"


def network_options(file: WeightFile, arch: str | None, overrides: Sequence[str]) -> dict:
    """Returns the checked options of the arch: those of the file, overridden by the user's."""
    given = read(None, overrides)
    if arch is not None:
        given.put("type", arch, "--arch")
    if file.arch is None and "type" in given:
        tree = given
    else:
        tree = merge(file.require_arch(given.get("scale")), given)
    root = Tree()
    root.put("network_g", tree, "")
    return check(root, _Network).network_g
