"""Exports networks as programs that run without the toolbox, for ``srtoolbox export``."""

from __future__ import annotations

import io
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from srtoolbox import __version__
from srtoolbox.archs.base import ArchInfo, arch_info
from srtoolbox.config.files import plain
from srtoolbox.config.schema import build
from srtoolbox.data.transforms.flow import batch_flow
from srtoolbox.engine.onnx_model import METADATA_KEY, OnnxModel, ProgramInfo
from srtoolbox.engine.weights.convert import network_options
from srtoolbox.engine.weights.load import read_weights, weights_hash
from srtoolbox.engine.weights.pixels import PixelFacts
from srtoolbox.errors import RunError, UserError, check_choice
from srtoolbox.inference.halo import measure_halo
from srtoolbox.utils.files import write_atomic

Format = Literal["onnx", "torch"]

SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "torch": ".pt2"}

TOLERANCE = 1e-4
"""Largest difference between program and network, relative to the largest value of the SR image and
at least to 1. Programs compute sums in another order."""

DEFAULT_TILE = 64
"""Side of the inputs in LR pixels, for networks that cannot be exported for free sizes."""

FIXED_SIZE: dict[tuple[Format, str], str] = {
    ("onnx", "DSTCSRNet"): "ONNX has no means over parts that depend on the size of the image",
    ("onnx", "DSTCSRNetPlus"): "its motion estimation contains the size as constants",
    ("torch", "DSTCSRNetPlus"): "its motion estimation contains the size as constants",
}
"""Formats and archs that can be exported only for a fixed size, and why. Every registered arch can
be exported; those of plugins, and other options, are tried with free sizes first."""

_MAX_OPTIMISED = 500
"""Nodes up to which a program is simplified for ONNX; the time is quadratic in their number.
onnxruntime simplifies every file when it reads it."""

_MAX_SIDE = 2**14
"""A program is for free sizes if it takes this side; torch may find smaller limits."""


@dataclass(frozen=True)
class ExportReport:
    """The result of an export.

    Attributes:
        path: The written file.
        info: The facts that it contains; its ``checks`` are the measured differences.
        fixed_because: Why the size is fixed though the user did not ask for it; else None.
    """

    path: Path
    info: ProgramInfo
    fixed_because: str | None

    def describe(self) -> str:
        """Returns lines for the terminal."""
        info, lines = self.info, []
        if self.fixed_because is not None and info.input_size is not None:
            rows, columns = info.input_size
            lines.append(
                f"free sizes are not possible ({self.fixed_because}); exported for inputs of "
                f"{rows}x{columns} pixels, so larger images run in tiles"
            )
        frames = f", {info.num_frame} frames" if info.num_frame > 1 else ""
        if info.channels != 3:
            frames += f", {info.channels} channels"
        for rows, columns, difference in info.checks:
            lines.append(
                f"checked at {rows}x{columns}: maximum difference from the network {difference:.1e}"
            )
        sizes = (
            f"inputs of any size from {info.min_size} pixels"
            if info.input_size is None
            else f"inputs of {info.input_size[0]}x{info.input_size[1]} pixels"
        )
        if info.size_multiple > 1:
            sizes += f", multiples of {info.size_multiple}"
        name = f"{info.arch['type']} x{info.scale} ({info.weights})"
        lines.append(f"wrote {self.path}: {name}{frames}, {sizes}")
        return "\n".join(lines)


def export(
    source: Path,
    target: Path,
    format: Format,
    size: tuple[int, int] | None = None,
    num_frame: int | None = None,
    opset: int = 20,
    arch: str | None = None,
    overrides: Sequence[str] = (),
    key: str | None = None,
) -> ExportReport:
    """Exports the network of a weight file; see `export_network`.

    Args:
        source: Any weight file that ``read_weights`` reads.
        target: The new file.
        format: "onnx", or "torch" for ``torch.export``.
        size: As in `export_network`.
        num_frame: As in `export_network`.
        opset: As in `export_network`.
        arch: Name of the arch; default: the one that ``source`` contains.
        overrides: Options of the arch such as ``"num_feat=64"``.
        key: The entry of ``source`` with the tensors.

    Raises:
        UserError: if the weights cannot be loaded, or as for `export_network`.
        RunError: as for `export_network`.
    """
    _check_target(target, format)
    file = read_weights(source, key)
    spec = network_options(file, arch, overrides)
    net = build("arch", spec)
    logging.getLogger("srtoolbox").info("%s", file.load_into(net))
    net.pixel_facts = file.pixels
    return export_network(net, plain(spec), target, format, size, num_frame, opset)


@torch.no_grad()
def export_network(
    net: nn.Module,
    arch: dict[str, Any],
    target: Path,
    format: Format,
    size: tuple[int, int] | None = None,
    num_frame: int | None = None,
    opset: int = 20,
) -> ExportReport:
    """Writes a network as a program, after a comparison of both at three inputs.

    The program takes one image (1, C, h, w) or clip (1, T, C, h, w) in [0, 1] as ``lq``, and the
    optical flow as ``flow`` if the network needs it; its output is ``sr``. It is in eval mode, in
    float32, with any height and width if that is possible. The file also contains a `ProgramInfo`.

    Args:
        net: A registered network with its weights; it is in eval mode and on the CPU afterwards.
        arch: Its name and options.
        target: The file; the suffix is ``.onnx`` or ``.pt2``.
        format: "onnx", or "torch" for ``torch.export``.
        size: Height and width of the inputs; None: any, or 64 pixels where that is not possible.
        num_frame: Number of frames, required for a network that takes any number.
        opset: Version of the ONNX operators, at least 18.

    Raises:
        UserError: if packages are missing, or an argument does not suit the network.
        RunError: if the network cannot be exported, or its program gives other results.
    """
    _check_target(target, format)
    net = net.cpu().float().eval()
    info, frames = arch_info(net), _number_of_frames(net, num_frame)
    facts = ProgramInfo(
        srtoolbox=__version__,
        arch={**arch, "scale": net.scale},
        weights=weights_hash(net),
        scale=cast(int, net.scale),
        num_frame=frames,
        reference=info.reference,
        channels=info.channels,
        out_channels=info.out_channels,
        size_multiple=info.size_multiple,
        min_size=info.min_size,
        pad_mode=info.pad_mode,
        restores_all=info.restores_all,
        time_scale=info.time_scale,
        needs_flow=info.needs_flow,
        input_size=size,
        pixels=getattr(net, "pixel_facts", PixelFacts()).to_json(),
    )
    if size is not None:
        _check_size(net, info, size)
        facts = replace(facts, halo=_halo(net, frames))
    because = None if size is not None else _reason_for_fixed_size(format, arch)
    if info.square and size is None:
        because = because or "it takes only square inputs"
    content = None
    if size is None and because is None:
        try:
            content, facts = _make(net, facts, format, opset)
        except Exception as error:  # torch and onnxscript have many kinds
            because = _reason(error)
    if content is None:
        if size is None:
            side = max(DEFAULT_TILE, info.min_size)
            side = -(-side // info.size_multiple) * info.size_multiple
            facts = replace(facts, input_size=(side, side), halo=_halo(net, frames))
        try:
            content, facts = _make(net, facts, format, opset)
        except (UserError, RunError):
            raise
        except Exception as error:
            raise RunError(
                f"export: {type(net).__name__} cannot be exported to {format} ({_reason(error)})"
            ) from error
    write_atomic(target, content)
    return ExportReport(target, facts, because)


def _check_target(target: Path, format: Format) -> None:
    check_choice("export: --to", format, SUFFIXES)
    if target.suffix != SUFFIXES[format]:
        raise UserError(f"{target}: the name must end in {SUFFIXES[format]} for {format}")
    if format == "onnx":
        try:
            import onnx  # noqa: F401
            import onnxruntime  # noqa: F401
            import onnxscript  # noqa: F401
        except ImportError as error:
            raise UserError(
                f"export: ONNX needs onnx, onnxruntime and onnxscript ({error.name} is missing); "
                "pip install srtoolbox[onnx]"
            ) from None


def _number_of_frames(net: nn.Module, wanted: int | None) -> int:
    name, own = type(net).__name__, arch_info(net).num_frame
    if own is None and wanted is None:
        raise UserError(
            f"export: {name} takes any number of frames, but a program has a fixed one; set "
            "--frames T"
        )
    if own is not None and wanted not in (None, own):
        raise UserError(f"export: {name} takes {own} frame{'s' * (own > 1)}, not {wanted}")
    return cast(int, own if own is not None else wanted)


def _halo(net: nn.Module, num_frame: int) -> int:
    """Returns the pixels that a network uses around a tile, for warnings of the program's user."""
    return measure_halo(net, num_frame, torch.device("cpu")).pixels


def _check_size(net: nn.Module, info: ArchInfo, size: tuple[int, int]) -> None:
    multiple, least = info.size_multiple, info.min_size
    fitting = tuple(-(-max(side, least) // multiple) * multiple for side in size)
    if fitting != size:
        raise UserError(
            f"export: {type(net).__name__} does not take {size[0]}x{size[1]} pixels; the next "
            f"larger size is {fitting[0]}x{fitting[1]}"
        )


def _reason_for_fixed_size(format: Format, arch: dict[str, Any]) -> str | None:
    """Returns why an arch, or the arch inside of it, is not tried for free sizes."""
    inner = arch.get("network")
    names = [arch["type"], *([inner.get("type")] if isinstance(inner, dict) else [])]
    return next((FIXED_SIZE[format, name] for name in names if (format, name) in FIXED_SIZE), None)


class _Program(nn.Module):
    """The network with a tensor as its output."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, lq: Tensor, flow: Tensor | None = None) -> Tensor:
        output = self.net(lq) if flow is None else self.net(lq, flow)
        return output["sr"] if isinstance(output, dict) else output


def _make(
    net: nn.Module, facts: ProgramInfo, format: Format, opset: int
) -> tuple[bytes, ProgramInfo]:
    """Returns the bytes of a program, and its facts with the checks."""
    several = arch_info(net).num_frame != 1  # then an input has the dimension T, also for T = 1
    free = facts.input_size is None
    example = _sizes(facts)[0] if facts.input_size is None else facts.input_size
    with _quiet():
        program = _record(net, _inputs(facts, several, example, 0), free)
        if free:
            facts = replace(facts, min_size=_least_side(program, facts))
        sizes = _sizes(facts) if facts.input_size is None else [facts.input_size] * 3
        inputs = [_inputs(facts, several, size, seed) for seed, size in enumerate(sizes)]
        expected = [_Program(net)(*tensors) for tensors in inputs]
        if format == "torch":
            loaded = _reloaded(program)
            facts = _checked(loaded, inputs, expected, facts)
            return _saved(program, facts), facts
        if free:  # ONNX has no guards; those of torch find wrong sizes
            _checked(program.module(), inputs, expected, facts)
        proto = _to_onnx(program, len(inputs[0]), opset)
    entry = proto.metadata_props.add(key=METADATA_KEY, value=facts.to_json())
    facts = _checked(
        OnnxModel(proto.SerializeToString(), "the exported program"), inputs, expected, facts
    )
    entry.value = facts.to_json()
    return proto.SerializeToString(), facts


def _sizes(facts: ProgramInfo) -> list[tuple[int, int]]:
    """Returns three sizes that a network takes: odd ones if it takes them, and a small one."""
    multiple = facts.size_multiple

    def fitting(side: int) -> int:
        return -(-max(side, facts.min_size) // multiple) * multiple

    middle, step = fitting(24), fitting(9)
    return [(middle, middle + step), (fitting(8), middle), (middle + 2 * step, middle + step)]


def _inputs(
    facts: ProgramInfo, several: bool, size: tuple[int, int], seed: int
) -> tuple[Tensor, ...]:
    """Returns an image, or a clip whose content moves by a pixel per frame, and its flow."""
    generator = torch.Generator().manual_seed(seed)
    coarse = [max(2, side // 4) for side in size]
    image = torch.rand((1, facts.channels, *coarse), generator=generator)
    image = F.interpolate(image, size, mode="bilinear")
    image = 0.9 * image + 0.1 * torch.rand(image.shape, generator=generator)
    if not several:
        return (image,)
    clip = torch.stack([image.roll(t, -1) for t in range(facts.num_frame)], 1)
    if facts.needs_flow is None:
        return (clip,)
    return clip, batch_flow(facts.needs_flow, clip)


def _record(net: nn.Module, inputs: tuple[Tensor, ...], free: bool) -> ExportedProgram:
    shapes = None
    if free:
        sides = [{x.ndim - 2: Dim.DYNAMIC, x.ndim - 1: Dim.DYNAMIC} for x in inputs]
        shapes = dict(zip(("lq", "flow"), sides, strict=False))
    return torch.export.export(_Program(net), inputs, dynamic_shapes=shapes, strict=False)


def _least_side(program: ExportedProgram, facts: ProgramInfo) -> int:
    """Returns the smallest side of an input of a program for free sizes.

    Raises:
        RunError: if the program has a largest side.
    """
    node = next(node for node in program.graph.nodes if node.name == "lq")
    least = facts.min_size
    for side in node.meta["val"].shape[-2:]:
        expression = side.node.expr
        limits = [program.range_constraints[symbol] for symbol in expression.free_symbols]
        symbols = list(expression.free_symbols)
        low, high = (
            expression.subs({s: getattr(r, end) for s, r in zip(symbols, limits, strict=True)})
            for end in ("lower", "upper")
        )
        if high < _MAX_SIDE:
            raise RunError(f"its program takes at most {high} pixels")
        least = max(least, int(low))
    return math.ceil(least / facts.size_multiple) * facts.size_multiple


def _reloaded(program: ExportedProgram) -> nn.Module:
    """Returns the program after it was saved and loaded, so that the file itself is checked."""
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    buffer.seek(0)
    return torch.export.load(buffer).module()


def _saved(program: ExportedProgram, facts: ProgramInfo) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={METADATA_KEY: facts.to_json()})
    return buffer.getvalue()


def _to_onnx(program: ExportedProgram, num_input: int, opset: int) -> Any:
    """Returns the program as a ``ModelProto`` of ONNX."""
    result = torch.onnx.export(
        program,
        (),
        dynamo=True,
        opset_version=opset,
        input_names=["lq", "flow"][:num_input],
        output_names=["sr"],
        verbose=False,
        optimize=len(program.graph.nodes) <= _MAX_OPTIMISED,
    )
    assert result is not None
    proto = result.model_proto
    versions = {entry.version for entry in proto.opset_import if not entry.domain}
    if versions != {opset}:
        found = ", ".join(map(str, versions))
        raise UserError(f"export: --opset {opset}: torch wrote version {found}; set that one")
    return proto


def _checked(
    run: Callable[..., Tensor],
    inputs: list[tuple[Tensor, ...]],
    expected: list[Tensor],
    facts: ProgramInfo,
) -> ProgramInfo:
    """Compares a program with the network, and returns the facts with the differences.

    Raises:
        RunError: if a difference is above the tolerance.
    """
    checks = []
    for tensors, sr in zip(inputs, expected, strict=True):
        rows, columns = tensors[0].shape[-2:]
        difference = (run(*tensors) - sr).abs().max().item()
        if not difference <= TOLERANCE * max(1.0, sr.abs().max().item()):
            raise RunError(
                f"its program differs from the network by {difference:.1e} at {rows}x{columns} "
                f"pixels; the tolerance is {TOLERANCE:g}"
            )
        checks.append((rows, columns, difference))
    return replace(facts, checks=tuple(checks))


@contextmanager
def _quiet() -> Iterator[None]:
    """Context without the exporters' warnings, which concern their own internals."""
    loggers = [logging.getLogger(name) for name in ("torch", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _reason(error: BaseException) -> str:
    """Returns one line with the cause of an exporter's error."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
