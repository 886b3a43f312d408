"""Upscales files and arrays of users, for ``srtoolbox upscale`` and ``srtoolbox.upscale``."""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from srtoolbox.engine.onnx_model import OnnxModel
from srtoolbox.errors import UserError
from srtoolbox.media.animation import animation_info
from srtoolbox.media.geo import geo_info
from srtoolbox.media.image_file import read_picture
from srtoolbox.media.picture import Picture, as_type, resize_to
from srtoolbox.upscaling.inputs import Found, Job, find_jobs
from srtoolbox.upscaling.jobs import Jobs, Report
from srtoolbox.upscaling.manifest import NAME as MANIFEST
from srtoolbox.upscaling.manifest import Manifest
from srtoolbox.upscaling.networks import load_networks
from srtoolbox.upscaling.options import UpscaleOptions, upscale_options
from srtoolbox.upscaling.pictures import choose_frames
from srtoolbox.upscaling.pixels import prepare
from srtoolbox.upscaling.result import Result, result_size
from srtoolbox.upscaling.upscaler import Upscaler
from srtoolbox.utils.console import Progress

_PROBE = 64  # side in pixels of the image whose time is measured
_OVERSHOOT = 0.1  # of floats beyond [0, 1], as resampling causes

Networks = nn.Module | tuple[nn.Module, dict[str, Any]] | str | Path | Sequence[Any] | None
"""A network, the result of ``srtoolbox.load``, a weight file, several of these, or None."""


def upscale(net: Networks, source: Any, output: str | Path | None = None, **options: Any) -> Any:
    """Upscales arrays, tensors or files.

    Args:
        net: A network, the result of ``srtoolbox.load``, a weight file, or a list of them that are
            applied one after another; None: the weights that the package brings.
        source: One of

            * a picture: numpy (H, W) or (H, W, C) in RGB order, uint8, uint16, or float in [0, 1];
              other ranges, and int16, if the network's weight file states the levels of its
              training (``pixel_facts``), which also choose bands of an array;
            * a burst or clip: a list of such arrays, whose frame ``reference`` is restored;
            * a tensor (C, H, W) or (N, C, H, W) in [0, 1], as the network takes it: single images;
            * a path, or a list of paths, of files and folders.
        output: For paths: a folder, or the name of the result of a single file.
        options: Options of ``srtoolbox upscale``, for example ``tile=128``; see
            ``UpscaleOptions``.

    Returns:
        For arrays and tensors the result in the same form and type, rounded and clipped. For paths
        the ``Report`` with all results and failures.

    Raises:
        UserError: if networks, source and options do not fit together.
        RunError: if memory does not suffice, or a network's output is not finite.
    """
    denoise = options.pop("denoise", None)
    checked = upscale_options(options)
    upscaler = Upscaler(_networks(net, checked, denoise), checked)
    if isinstance(source, Tensor):
        return _tensor(upscaler, source, checked)
    if isinstance(source, np.ndarray):
        return _array(upscaler, [source], checked)
    entries: list[Any] = list(source) if isinstance(source, list | tuple) else [source]
    if entries and all(isinstance(entry, np.ndarray) for entry in entries):
        return _array(upscaler, entries, checked)
    if entries and all(isinstance(entry, str | Path) for entry in entries):
        folder = None if output is None else Path(output)
        return upscale_files(upscaler, [Path(entry) for entry in entries], folder, checked)
    raise UserError(
        f"upscale: expected an array, a tensor, a path, or a list of arrays or paths, got "
        f"{type(source).__name__}; numpy.asarray makes an array of an image of Pillow"
    )


def upscale_files(
    upscaler: Upscaler,
    inputs: Sequence[Path],
    output: Path | None,
    options: UpscaleOptions,
    on_result: Callable[[Result], None] = lambda result: None,
    progress: Callable[[Job], Progress] | None = None,
) -> Report:
    """Upscales files and folders; see ``find_jobs`` and ``Jobs``."""
    found = find(upscaler, inputs, output, options)
    return Jobs(upscaler, options, on_result).run(found.jobs, progress)


def find(
    upscaler: Upscaler, inputs: Sequence[Path], output: Path | None, options: UpscaleOptions
) -> Found:
    """Returns the jobs for files and folders; results of earlier commands are no inputs."""
    folders = {path if path.is_dir() else path.parent for path in inputs}
    if options.recursive:
        folders |= {found.parent for path in inputs for found in path.rglob(MANIFEST)}
    written = [result for folder in folders for result in Manifest(folder).results]
    label = f"_x{options.outscale or upscaler.scale:g}"
    if options.width or options.height:
        label = "_upscaled"
    sees_frames = upscaler.num_frame > 1 or upscaler.restores_all
    return find_jobs(inputs, output, options, sees_frames, label, written)


@dataclass(frozen=True)
class Estimate:
    """The work of jobs before it is done.

    Attributes:
        counts: Number of inputs by kind.
        frames: Number of pictures and frames.
        megapixels: Pixels of all results, in millions.
        seconds: Expected time on this machine; None if nothing could be read.
        rows: For each job its source, target, and the sizes of both.
    """

    counts: dict[str, int]
    frames: int
    megapixels: float
    seconds: float | None
    rows: list[tuple[Path, Path, str, str]]


def estimate(upscaler: Upscaler, jobs: Sequence[Job], options: UpscaleOptions) -> Estimate:
    """Reads the sizes of all inputs, and measures the time of a small image."""
    rows, frames, read, written = [], 0, 0.0, 0.0
    for job in jobs:
        try:
            width, height, number = _size_of(job)
        except UserError as error:
            rows.append((job.source, job.target, "cannot be read", str(error)))
            continue
        size = result_size(options, width, height, upscaler.scale)
        frames += number
        read += number * width * height
        written += number * size[0] * size[1]
        count = f", {number} frames" if number > 1 else ""
        rows.append((job.source, job.target, f"{width}×{height}{count}", f"{size[0]}×{size[1]}"))
    seconds = None
    if read:
        probe = np.full((upscaler.channels, _PROBE, _PROBE), 128, np.uint8)
        upscaler.image(probe)  # the first pass also prepares the libraries
        begin = time.perf_counter()
        upscaler.image(probe)
        seconds = (time.perf_counter() - begin) * read / _PROBE**2
    counts = Counter(job.kind for job in jobs)
    return Estimate(dict(counts), frames, written / 1e6, seconds, rows)


def _size_of(job: Job) -> tuple[int, int, int]:
    """Returns width, height and number of frames of an input."""
    if job.kind == "video":
        from srtoolbox.media.video import probe
        from srtoolbox.media.video_transform import expected_frames, seconds

        info = probe(job.source)
        return info.upright_width, info.upright_height, expected_frames(info, seconds(0))
    if job.kind == "map":
        form = geo_info(job.source)
        return form.width, form.height, 1
    if job.kind == "animation" and (animation := animation_info(job.source)) is not None:
        return animation.width, animation.height, animation.num_frame
    height, width = read_picture(job.sources[0]).pixels.shape[1:]
    return width, height, len(job.targets) or 1


def _networks(net: Networks, options: UpscaleOptions, denoise: int | None) -> list[nn.Module]:
    entries = [] if net is None else net if isinstance(net, list) else [net]
    nets = []
    for entry in entries:
        if isinstance(entry, tuple) and entry and isinstance(entry[0], nn.Module):
            entry = entry[0]
        if isinstance(entry, nn.Module):
            # The user's own stays on its device; a program of ONNX is never changed.
            nets.append(entry if isinstance(entry, OnnxModel) else copy.deepcopy(entry))
        elif isinstance(entry, str | Path):
            nets += load_networks([entry], None, denoise if not nets else None)
        else:
            raise UserError(f"upscale: expected a network or a file, got {type(entry).__name__}")
    return nets or load_networks([], options.outscale, denoise)


def _array(upscaler: Upscaler, frames: Sequence[np.ndarray], options: UpscaleOptions) -> np.ndarray:
    """Upscales numpy arrays (H, W) or (H, W, C); returns one of the same type."""
    first = frames[0]
    if any(frame.shape != first.shape or frame.dtype != first.dtype for frame in frames):
        forms = ", ".join(sorted({f"{frame.shape} {frame.dtype}" for frame in frames}))
        raise UserError(f"upscale: the frames differ: {forms}")
    if first.ndim not in (2, 3) or min(first.shape) < 1:
        raise UserError(f"upscale: expected arrays (H, W) or (H, W, C), got {first.shape}")
    kind = np.dtype(np.float32) if first.dtype.kind == "f" else first.dtype.newbyteorder("=")
    scaled = upscaler.pixel_facts.applies_to(kind.name)
    if not scaled and kind.name not in ("uint8", "uint16", "float32"):
        raise UserError(
            f"upscale: expected uint8, uint16, or floats in [0, 1], got {first.dtype.name}"
        )
    for frame in frames:
        if not scaled:
            _check_range(frame)
    planes = [
        (frame[None] if frame.ndim == 2 else frame.transpose(2, 0, 1)).astype(kind, copy=False)
        for frame in frames
    ]
    ready = [prepare(upscaler, Picture(pixels, format="npy"), options) for pixels in planes]
    if len(ready) == 1:
        sr = ready[0].enlarged(upscaler, ready[0].picture.pixels)
    else:
        sr = _one_of(upscaler, [frame.picture.pixels for frame in ready], options)
    if not scaled:  # levels do not limit the values of the type
        sr = as_type(sr.clip(0, 1), kind)
    width, height = result_size(options, first.shape[1], first.shape[0], upscaler.scale)
    sr = resize_to(sr, width, height)
    result = ready[0].finished(Picture(sr)).pixels.astype(first.dtype, copy=False)
    is_flat = first.ndim == 2 and len(result) == 1
    return result[0] if is_flat else np.ascontiguousarray(result.transpose(1, 2, 0))


def _check_range(values: np.ndarray) -> None:
    """Raises a UserError for floats of another range than [0, 1]; small overshoots are clipped."""
    if values.dtype.kind == "f" and (values.min() < -_OVERSHOOT or values.max() > 1 + _OVERSHOOT):
        raise UserError(
            f"upscale: floats from {values.min():g} to {values.max():g}; expected 0 to 1, scale "
            "them first"
        )


def _one_of(
    upscaler: Upscaler, planes: Sequence[np.ndarray], options: UpscaleOptions
) -> np.ndarray:
    """Restores the reference frame of several."""
    if options.reference >= len(planes):
        raise UserError(f"reference: {options.reference} does not exist of {len(planes)} frames")
    indices, reference, _ = choose_frames(upscaler, len(planes), options)
    return upscaler.one_of([planes[index] for index in indices], reference)


def _tensor(upscaler: Upscaler, images: Tensor, options: UpscaleOptions) -> Tensor:
    """Upscales a tensor (C, H, W) or (N, C, H, W) in [0, 1]."""
    if images.ndim not in (3, 4) or 0 in images.shape or not images.is_floating_point():
        raise UserError(
            f"upscale: expected a tensor (C, H, W) or (N, C, H, W) of floats, got "
            f"{tuple(images.shape)} {images.dtype}"
        )
    results = []
    for image in images.detach().float().cpu().numpy().reshape(-1, *images.shape[-3:]):
        _check_range(image)
        sr = upscaler.image(image).clip(0, 1)
        width, height = result_size(options, image.shape[2], image.shape[1], upscaler.scale)
        results.append(torch.from_numpy(resize_to(sr, width, height)))
    stacked = torch.stack(results).to(images.device, images.dtype)
    return stacked[0] if images.ndim == 3 else stacked
