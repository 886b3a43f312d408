"""Runs exported ONNX files in place of networks, and the facts that exported programs contain."""

from __future__ import annotations

import dataclasses
import json
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from srtoolbox.archs.base import arch_info
from srtoolbox.engine.weights.pixels import facts_from
from srtoolbox.errors import RunError, UserError
from srtoolbox.utils.files import check_regular

METADATA_KEY = "srtoolbox"
"""Name of the entry with a `ProgramInfo` as JSON: in the metadata of an ONNX file, and of a file
in a ``.pt2`` archive."""

SUFFIX = ".onnx"


@dataclass(frozen=True)
class ProgramInfo:
    """The facts that an exported program contains about its network, see `ArchInfo`.

    Attributes:
        srtoolbox: Version of the toolbox that exported it.
        arch: Name and options of the network.
        weights: Hash of the weights, see ``weights_hash``.
        scale: Factor by which height and width grow.
        num_frame: Frames of an input; 1 for images, also if the network takes any number.
        reference: Index of the reference frame in the input.
        channels: Channels of a frame.
        size_multiple: Height and width of an input must be multiples of this.
        min_size: Minimum height and width of an input.
        restores_all: Whether the output has all frames.
        time_scale: Frame rate of the output divided by that of the input.
        needs_flow: Name of the estimator of the second input, or None.
        input_size: The only height and width of an input; None: any.
        checks: Sizes at which it was compared with the network, and the maximum differences.
        halo: Pixels around a tile that the network uses, see ``measure_halo``; only of a program
            with an ``input_size``, None: not known.
        out_channels: Channels of the output; None: not declared, as in files of earlier versions.
        pixels: Facts about the pixels of the training data, see ``PixelFacts``; empty: the
            defaults.
        pad_mode: How smaller inputs are extended.
    """

    srtoolbox: str
    arch: dict[str, Any]
    weights: str
    scale: int
    num_frame: int
    reference: int
    channels: int
    size_multiple: int
    min_size: int
    restores_all: bool
    time_scale: int
    needs_flow: str | None
    input_size: tuple[int, int] | None
    checks: tuple[tuple[int, int, float], ...] = ()
    halo: int | None = None
    out_channels: int | None = None
    pixels: dict[str, Any] = dataclasses.field(default_factory=dict)
    pad_mode: str = "replicate"

    def to_json(self) -> str:
        """Returns all fields as a JSON object, without empty ``pixels``."""
        fields = dataclasses.asdict(self)
        if not self.pixels:
            del fields["pixels"]
        return json.dumps(fields)

    @classmethod
    def from_json(cls, text: str) -> ProgramInfo:
        """Reads what `to_json` wrote.

        Raises:
            UserError: if it is damaged; the message has no file name.
        """
        try:
            fields = json.loads(text)
            fields["checks"] = tuple(tuple(check) for check in fields["checks"])
            if fields["input_size"] is not None:
                fields["input_size"] = tuple(fields["input_size"])
            info = cls(**fields)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise UserError(f"its entry '{METADATA_KEY}' is damaged ({error})") from None
        for name in ("srtoolbox", "weights", "arch", "scale"):
            kind = typing.get_type_hints(cls)[name]
            kind = typing.get_origin(kind) or kind
            if not isinstance(getattr(info, name), kind):
                raise UserError(f"its entry '{METADATA_KEY}' is damaged ({name})")
        if not isinstance(info.arch.get("type"), str) or info.scale < 1:
            raise UserError(f"its entry '{METADATA_KEY}' is damaged (arch, scale)")
        return info


class OnnxModel(nn.Module):
    """A network that was exported by ``srtoolbox export``; onnxruntime computes it on the CPU.

    It declares the facts of a registered arch (`ArchInfo`), so `run_padded`, `run_tiled`, `predict`
    and the evaluator take it like one. It has no parameters and computes no gradients.

    Args:
        content: The bytes of an ONNX file.
        name: Name of the file, for messages.

    Raises:
        UserError: if onnxruntime is not installed, or the file was not written by
            ``srtoolbox export``.
    """

    own_weights = False

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__()
        self.name = name
        self._session = _start(content, name)
        entries = self._session.get_modelmeta().custom_metadata_map
        if METADATA_KEY not in entries:
            raise UserError(
                f"{name}: does not contain the scale and the arch of a network; only ONNX files "
                "that `srtoolbox export` wrote can be used"
            )
        try:
            self.info = info = ProgramInfo.from_json(entries[METADATA_KEY])
        except UserError as error:
            raise UserError(f"{name}: {error}; export the network again") from None
        try:
            self.pixel_facts = facts_from(info.pixels)
        except UserError as error:
            raise UserError(f"{name}: its entry '{METADATA_KEY}': {error}") from None
        self.scale, self.scales = info.scale, (info.scale,)
        self.num_frame, self.reference = info.num_frame, info.reference
        self.channels, self.out_channels = info.channels, info.out_channels
        self.restores_all = info.restores_all
        self.size_multiple, self.min_size = info.size_multiple, info.min_size
        self.pad_mode = info.pad_mode
        self.input_size, self.time_scale = info.input_size, info.time_scale
        self.needs_flow = info.needs_flow
        self.paper = f"{info.arch['type']} (weights {info.weights}), exported to ONNX"
        try:
            arch_info(self)
        except UserError as error:
            raise UserError(
                f"{name}: its entry '{METADATA_KEY}' is damaged ({error}); export the network again"
            ) from None

    def forward(self, lq: Tensor, flow: Tensor | None = None) -> Tensor:
        """Computes SR images.

        Args:
            lq: (N, C, h, w), or (N, T, C, h, w) for several frames, in [0, 1], on any device. The
                program computes one image after the other.
            flow: (N, 2, T - 1, 2, h, w), only for a network that declares ``needs_flow``.

        Returns:
            (N, C, h·scale, w·scale), or (N, T', C, h·scale, w·scale) for a network that restores
            all frames; float32, on the device of ``lq``.

        Raises:
            UserError: if the program does not take this size.
            RunError: if onnxruntime fails.
        """
        size = tuple(lq.shape[-2:])
        if self.input_size is not None and size != self.input_size:
            rows, columns = self.input_size
            raise UserError(
                f"{self.name}: takes only inputs of {rows}x{columns} pixels, got "
                f"{size[0]}x{size[1]}; run it in tiles"
            )
        given = self._session.get_inputs()
        if lq.ndim < len(given[0].shape):  # a clip of one frame
            lq = lq.unsqueeze(1)
        tensors = [lq] if flow is None else [lq, flow]
        arrays = [np.ascontiguousarray(t.detach().float().cpu().numpy()) for t in tensors]
        results = []
        for index in range(len(lq)):
            feed = {
                entry.name: array[index : index + 1]
                for entry, array in zip(given, arrays, strict=True)
            }
            try:
                results.append(torch.from_numpy(self._session.run(None, feed)[0]))
            except Exception as error:  # onnxruntime has many kinds, all derived from Exception
                raise RunError(f"{self.name}: onnxruntime failed ({_first_line(error)})") from error
        return torch.cat(results).to(lq.device)


def load_onnx(path: Path) -> OnnxModel:
    """Reads an ONNX file that ``srtoolbox export`` wrote.

    Raises:
        UserError: if it cannot be read or was written by another program, or if onnxruntime is not
            installed.
    """
    try:
        check_regular(path)
        content = path.read_bytes()
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    return OnnxModel(content, str(path)).eval()


def _start(content: bytes, name: str) -> Any:
    """Returns onnxruntime's session for a file."""
    try:
        import onnxruntime
    except ImportError:
        raise UserError(
            f"{name}: ONNX files need onnxruntime; pip install srtoolbox[onnx]"
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors; the exporter leaves unused initialisers
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has many kinds, all derived from Exception
        raise UserError(f"{name}: is not a usable ONNX file ({_first_line(error)})") from None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
