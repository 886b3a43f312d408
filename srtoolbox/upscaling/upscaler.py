"""Runs networks on frames of any size and type, on any device, within its memory."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from srtoolbox.archs.base import ArchInfo, arch_info, check_network
from srtoolbox.data.stream import to_float
from srtoolbox.engine.device.precision import Precision, autocast, pick_device, resolve
from srtoolbox.engine.onnx_model import OnnxModel
from srtoolbox.engine.weights.load import weights_hash
from srtoolbox.engine.weights.pixels import PixelFacts
from srtoolbox.errors import RunError, UserError, is_out_of_memory
from srtoolbox.inference.halo import measure_halo
from srtoolbox.inference.padding import run_padded
from srtoolbox.inference.prediction import EnhanceOptions, predict
from srtoolbox.inference.tiling import halve, run_tiled
from srtoolbox.media.picture import bicubic
from srtoolbox.upscaling.options import UpscaleOptions
from srtoolbox.utils.console import warn_once

_log = logging.getLogger("srtoolbox")

DEFAULT_FRAMES = 7
"""Frames that a network for any number of frames sees at a time, unless the user chooses."""

_AUTO_TILE = {"cpu": 256, "cuda": 512}  # sides in LR pixels, for one frame
_MIN_AUTO_TILE = 96
_MIN_TILE = 16  # below it, halos would be nearly all of the work


class Upscaler:
    """Networks that are applied one after another to users' frames.

    Frames are numpy arrays (C, H, W) in RGB order: uint8, uint16, or float32 in [0, 1]. Images stay
    in the memory of the host; only tiles go to the device. A network with three channels gets a
    grey frame three times, and the mean of its results is the grey result. A network for grey
    images gets each band of a frame by itself.

    Args:
        nets: One or more networks, which are moved to the device. Only the first may be a
            multi-frame network.
        options: How they run; options on files have no effect here.

    Attributes:
        scale: Factor of height and width.
        num_frame: Number of frames that the first network sees at a time; 1: a single image.
        takes_any_number: Whether it also takes fewer or more frames.
        reference: Position in these frames of the frame that is restored.
        restores_all: Whether it restores all frames; then ``frames`` has no reference.
        time_scale: Frame rate of the result divided by that of the input.
        channels: Channels of a frame of the first network.
        out_channels: Channels of the result for a frame of ``channels`` channels.
        pixel_facts: Facts about the pixels of the first network's training data.
        device: Where the networks are.

    Raises:
        UserError: if the networks or the options do not fit together, or the device is absent.
    """

    def __init__(self, nets: Sequence[nn.Module], options: UpscaleOptions) -> None:
        if not nets:
            raise UserError("upscale: needs at least one network")
        self.device = pick_device(options.device)
        self.nets = [_prepared(net, self.device) for net in nets]
        for net in self.nets:
            check_network(net)
        infos = [arch_info(net) for net in self.nets]
        for net, info in zip(self.nets[1:], infos[1:], strict=True):
            if info.num_frame not in (1, None) or info.restores_all:
                raise UserError(
                    f"chain: {type(net).__name__} needs {info.num_frame or 'several'} frames; only "
                    "the first network of a chain may be a multi-frame network"
                )
        self._first = infos[0]
        self.scale = math.prod(cast(int, net.scale) for net in self.nets)
        self.channels = self._first.channels
        self.out_channels = _check_channels(self.nets, infos)
        self.pixel_facts: PixelFacts = getattr(self.nets[0], "pixel_facts", PixelFacts())
        if options.back_projection and self.out_channels != self.channels:
            raise UserError(
                f"back_projection: {type(self.nets[0]).__name__} gives {self.out_channels} "
                f"channels for {self.channels}, which cannot be compared"
            )
        self.restores_all, self.time_scale = self._first.restores_all, self._first.time_scale
        self.takes_any_number = self._first.num_frame is None
        self.num_frame = _frames_at_a_time(self.nets[0], self._first, options.frames)
        self.reference = self.num_frame // 2
        self.precision: Precision = resolve(options.precision, self.device)
        self._enhance = EnhanceOptions(
            self_ensemble=options.self_ensemble, back_projection=options.back_projection
        )
        self._blend = options.blend
        self._tile = options.tile
        self._halo = options.halo
        self._halos: dict[int, int] = {}  # measured, by position in the chain

    @cached_property  # of the weights as they were read: some networks merge layers when they run
    def key(self) -> dict[str, Any]:
        """Identity of the networks and of how they run, for manifests; it is valid JSON."""
        facts = self.pixel_facts.to_json()
        return {
            **({"pixels": facts} if facts else {}),
            "networks": [[type(net).__name__, net.scale, _hash(net)] for net in self.nets],
            "num_frame": self.num_frame,
            "precision": self.precision,
            "self_ensemble": self._enhance.self_ensemble,
            "back_projection": self._enhance.back_projection,
            "blend": self._blend,
        }

    def by_band(self, given: int) -> bool:
        """Returns whether frames of so many channels are enlarged band by band, each as grey."""
        return given not in (1, self.channels) and self.channels == self.out_channels in (1, 3)

    def describe(self) -> str:
        """Returns names and scale for messages: ``"EDSR ×2, UpConv7 ×2"``."""
        return ", ".join(f"{type(net).__name__} ×{net.scale}" for net in self.nets)

    def image(self, pixels: np.ndarray) -> np.ndarray:
        """Restores one picture; a multi-frame network sees it as often as it needs frames.

        Args:
            pixels: (C, H, W), uint8, uint16, or float32 in [0, 1].

        Returns:
            (C, H·scale, W·scale), float32; values are not clipped.

        Raises:
            UserError: if the network does not take this number of channels.
            RunError: if memory does not suffice, or the network's output is not finite.
        """
        least = 2 if self.time_scale > 1 else 1
        return self.one_of([pixels] * (self._first.num_frame or least), 0)

    def one_of(self, frames: Sequence[np.ndarray], reference: int) -> np.ndarray:
        """Restores one of several frames, also by networks that restore all.

        Returns:
            (C, H·scale, W·scale), float32, not clipped.
        """
        if self.restores_all:
            return self.frames(frames, None)[reference * self.time_scale]
        return self.frames(frames, reference)

    def frames(self, frames: Sequence[np.ndarray], reference: int | None) -> np.ndarray:
        """Restores one of several frames, or all of them.

        Args:
            frames: Arrays of one size and type; as many as the network takes.
            reference: Index of the frame to restore; None: all, for networks that restore all.

        Returns:
            (C, H·scale, W·scale), or (T', C, H·scale, W·scale) if ``reference`` is None, with
            T' = (T - 1)·time_scale + 1; float32, not clipped.

        Raises:
            UserError, RunError: as for ``image``; and if the number of frames does not fit.
        """
        lq = torch.stack([_to_tensor(frame) for frame in frames])[None]
        return self._through_all(lq, reference)[0].numpy()

    def images(self, frames: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Restores several pictures of one size at once by single-image networks.

        Returns:
            For each picture what ``image`` returns.
        """
        if self.num_frame > 1 or self.restores_all:
            return [self.image(frame) for frame in frames]
        lq = torch.stack([_to_tensor(frame) for frame in frames])[:, None]
        return list(self._through_all(lq, 0).numpy())

    def halo_of(self, stage: int = 0) -> int:
        """Returns the pixels around a tile for a network of the chain; measured at first use."""
        if self._halo is not None:
            return self._halo
        if stage not in self._halos:
            net = self.nets[stage]
            info = arch_info(net)
            if info.input_size is not None:  # a quarter is the most that the tiles allow
                self._halos[stage] = min(info.input_size) // 4
            else:
                frames = self.num_frame if stage == 0 else 1
                halo = measure_halo(net, frames, self.device)
                self._halos[stage] = halo.pixels
                if not halo.is_exact:
                    _log.warning(
                        "%s uses more than %d pixels around a tile: results in tiles differ from "
                        "those of whole images, by up to %.2g of the range; --tile 0 avoids tiles",
                        *(type(net).__name__, halo.pixels, halo.error),
                    )
        return self._halos[stage]

    def count_runs(self, height: int, width: int) -> int:
        """Returns how often the networks run for one frame, to show progress.

        It is an estimate for networks with an ``input_size``, whose tiles overlap.
        """
        runs = 0
        for stage, net in enumerate(self.nets):
            frames = self.num_frame if stage == 0 else 1
            tile = self._tile_for(stage, torch.empty(1, frames, 1, height, width, device="meta"))
            tiles = 1 if tile is None else math.ceil(height / tile) * math.ceil(width / tile)
            runs += tiles * (8 if self._enhance.self_ensemble else 1)
            height, width = height * cast(int, net.scale), width * cast(int, net.scale)
        return runs

    def _through_all(self, lq: Tensor, reference: int | None) -> Tensor:
        """Applies all networks to (N, T, C, h, w) on the host; returns float32 on the host."""
        given = lq.shape[2]
        if given == 1 and self.channels == 3:
            lq = lq.expand(-1, -1, 3, -1, -1)
        elif self.by_band(given) and self.channels == 1:
            bands = [
                self._through_all(lq[:, :, band : band + 1], reference) for band in range(given)
            ]
            return torch.cat(bands, dim=-3)
        elif given != self.channels:
            raise UserError(
                f"{type(self.nets[0]).__name__} takes {self.channels} channels, the input has "
                f"{given}"
            )
        lq = to_float(lq.contiguous())
        sr = self._run(0, lq, reference)
        for stage in range(1, len(self.nets)):
            single = sr if sr.ndim == 4 else sr.flatten(0, 1)
            after = self._run(stage, single[:, None], 0)
            sr = after if sr.ndim == 4 else after.unflatten(0, sr.shape[:2])
        if self._blend < 1:
            sr = self._blended(sr, lq, reference)
        if given == 1 and self.channels == 3 and sr.shape[-3] == 3:
            sr = sr.mean(-3, keepdim=True)
        return sr

    def _blended(self, sr: Tensor, lq: Tensor, reference: int | None) -> Tensor:
        """Mixes the result with bicubic enlargements of the same frames."""
        if reference is None and self.time_scale > 1:
            raise UserError("blend: is not possible with frames between the given ones")
        frames = lq if reference is None else lq[:, reference]
        if sr.shape[-3] != frames.shape[-3]:
            raise UserError("blend: input and result of the network have other channels")
        height, width = sr.shape[-2:]
        flat = frames.flatten(0, -4).numpy()
        plain = np.stack([bicubic(frame, width, height) for frame in flat])
        return self._blend * sr + (1 - self._blend) * torch.from_numpy(plain).view_as(sr)

    def _run(self, stage: int, lq: Tensor, reference: int | None) -> Tensor:
        """Runs one network, in smaller tiles when memory runs out."""
        net = self.nets[stage]
        while True:
            tile = self._tile_for(stage, lq)
            run = partial(self._run_tile, stage)
            if tile:
                halo = self.halo_of(stage)
                self._check_tiles(net, lq)
                run = partial(run_tiled, tile=tile, halo=halo, run=run)
            try:
                return predict(net, lq, reference, self._enhance, run)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                smaller = halve(tile, lq, _MIN_TILE)
                if smaller is None:
                    raise RunError(
                        f"out of memory for frames of {lq.shape[-1]}×{lq.shape[-2]} even in tiles "
                        f"of {tile or max(lq.shape[-2:])}; use a smaller --halo or another device"
                    ) from error
                self._tile = smaller
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            _log.warning(
                "out of memory for frames of %d×%d: continuing in tiles of %d",
                *(lq.shape[-1], lq.shape[-2], self._tile),
            )

    def _check_tiles(self, net: nn.Module, lq: Tensor) -> None:
        """Warns once if tiles of a program with a fixed size are too small for its network."""
        if not isinstance(net, OnnxModel) or net.info.input_size is None:
            return
        rows, columns = net.info.input_size
        halo, given = min(rows, columns) // 4, tuple(lq.shape[-2:])
        if net.info.halo is not None and net.info.halo > halo and given != (rows, columns):
            warn_once(
                f"{net.name} takes {rows}x{columns} pixels, tiles see {halo} pixels around, but "
                f"its network uses {net.info.halo}: results differ from those of the network on "
                "whole pictures; export it with a larger --size, or use the weight file itself"
            )

    def _tile_for(self, stage: int, lq: Tensor) -> int | None:
        """Returns the side of the tiles for frames (N, T, C, h, w); None: whole frames."""
        info, longest = arch_info(self.nets[stage]), max(lq.shape[-2:])
        if info.input_size is not None:
            return min(info.input_size)
        tile = self._tile
        if tile is None:
            side = _AUTO_TILE.get(self.device.type, 256)
            tile = max(_MIN_AUTO_TILE, round(side / math.sqrt(lq.shape[0] * lq.shape[1])))
        return tile if 0 < tile < longest else None

    def _run_tile(self, stage: int, net: nn.Module, lq: Tensor) -> Tensor:
        """Runs a network on the device; returns float32 on the host.

        A result that is not finite in a smaller number format is computed again in fp32.
        """
        on_device = lq.to(self.device)
        if lq.ndim == 4:
            on_device = on_device.contiguous(memory_format=torch.channels_last)
        formats: list[Precision] = [self.precision]
        if self.precision not in ("fp32", "tf32"):
            formats.append("fp32")
        for precision in formats:
            with autocast(self.device, precision):
                sr = run_padded(net, on_device).float()
            if bool(torch.isfinite(sr).all()):
                return sr.cpu().contiguous()
        finite = bool(torch.isfinite(lq).all())
        cause = "the input is finite" if finite else "the input is not finite, either"
        raise RunError(
            f"{type(net).__name__}: the output is not finite in fp32; {cause}. Check the weights "
            f"{'and the network before it' if stage else ''}".strip()
        )


def _check_channels(nets: Sequence[nn.Module], infos: Sequence[ArchInfo]) -> int:
    """Returns the channels of the result of a chain.

    Raises:
        UserError: if a network does not take the channels of the result before it.
    """
    channels = infos[0].channels
    for place, (net, info) in enumerate(zip(nets, infos, strict=True)):
        if place and info.channels != channels:
            raise UserError(
                f"chain: {type(net).__name__} takes {info.channels} channels, the result of "
                f"{type(nets[place - 1]).__name__} has {channels}"
            )
        channels = getattr(net, "out_channels", None) or info.channels
    return channels


def _prepared(net: nn.Module, device: torch.device) -> nn.Module:
    """Returns a network in eval mode on a device, in its fastest memory format.

    Networks for single images are 1.02 to 1.6 times as fast on a CPU, and faster on a GPU in 16
    bits, if the channels of a pixel lie together. Frames of clips are not stored like this.
    """
    net = net.to(device).eval()
    if arch_info(net).num_frame != 1:
        return net
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _frames_at_a_time(net: nn.Module, info: ArchInfo, asked: int | None) -> int:
    """Returns the number of frames of a window.

    Raises:
        UserError: if the network cannot see as many frames as the user asked for.
    """
    if info.num_frame is None:
        return DEFAULT_FRAMES if asked is None else asked
    if asked is not None and asked != info.num_frame:
        sees = "one frame" if info.num_frame == 1 else f"{info.num_frame} frames"
        raise UserError(f"frames: {type(net).__name__} sees {sees} at a time, got {asked}")
    return info.num_frame


def _hash(net: nn.Module) -> str:
    return net.info.weights if isinstance(net, OnnxModel) else weights_hash(net)


def _to_tensor(frame: np.ndarray) -> Tensor:
    return torch.from_numpy(np.require(frame, requirements=["C", "W"]))
