"""Rewriting a weight file so that it says its arch, as `srtoolbox convert` does."""

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
    """Writes the weights of ``source`` with the arch and the options that they belong to.

    Args:
        source: Any weight file that `read_weights` takes.
        target: ``.safetensors``, or ``.pth`` for a file as BasicSR's.
        arch: Name of the arch; default what ``source`` says.
        overrides: ``"num_feat=64"`` each: its options, over those that ``source`` says.
        key: The entry of ``source`` to take.

    Returns:
        A line that says what was written.

    Raises:
        UserError: if the arch is not known, or not every tensor fits it.
    """
    if target.suffix not in _SUFFIXES:
        raise UserError(f"{target}: the name must end in {' or '.join(_SUFFIXES)}")
    file = read_weights(source, key)
    if target.exists() and target.samefile(source):
        raise UserError(f"{target}: would replace the file that it is made from")
    spec = _spec(file, arch, overrides)
    net = build("arch", spec)
    loaded = file.load_into(net)
    written = save_weights(target, {**plain(spec), "scale": net.scale}, net)
    return f"{loaded}\nwrote {target}: {spec['type']} x{net.scale} ({written})"


def _spec(file: WeightFile, arch: str | None, overrides: Sequence[str]) -> dict:
    """What the file says, below what is asked for; another arch's options do not count."""
    asked = read(None, overrides)
    if arch is not None:
        asked.put("type", arch, "--arch")
    tree = asked if file.arch is None and "type" in asked else merge(file.require_arch(), asked)
    whole = Tree()
    whole.put("network_g", tree, "")
    return check(whole, _Network).network_g
