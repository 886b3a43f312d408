"""Upscales pictures and bursts of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from srtoolbox.errors import UserError
from srtoolbox.media.image_file import read_picture, write_picture
from srtoolbox.media.picture import AlphaMode, Picture, resize_picture, with_alpha
from srtoolbox.upscaling.options import UpscaleOptions
from srtoolbox.upscaling.pixels import prepare
from srtoolbox.upscaling.result import Result, result_size
from srtoolbox.upscaling.upscaler import Upscaler
from srtoolbox.utils.console import Progress


def upscale_picture(
    upscaler: Upscaler,
    source: Path,
    target: Path,
    options: UpscaleOptions,
    on_progress: Progress | None = None,
) -> Result:
    """Writes an enlarged picture with the depth, transparency and metadata of its source.

    Args:
        upscaler: The networks.
        source: The picture.
        target: The file to write; its suffix chooses the format.
        options: Size, depth, transparency, quality and metadata.
        on_progress: Not used: a picture is one step.

    Raises:
        UserError: if the source cannot be read or the format cannot hold the result.
        RunError: if memory does not suffice, or the file cannot be written.
    """
    picture = read_for(upscaler, source, options)
    ready = prepare(upscaler, picture, options)
    notes = [*picture.notes, *ready.notes]
    if upscaler.num_frame > 1 and not upscaler.takes_any_number:
        notes.append(f"the network sees {upscaler.num_frame} times the same picture")
    enlarge = partial(ready.enlarged, upscaler)
    result = ready.finished(with_alpha(ready.picture, enlarge, options.alpha))
    return write_result(upscaler, picture, result, target, options, notes)


def read_for(upscaler: Upscaler, source: Path, options: UpscaleOptions) -> Picture:
    """Reads a picture; its values may have any range if the levels of the training apply to it."""
    any_range = upscaler.pixel_facts.has_levels
    return read_picture(source, auto_orient=options.auto_orient, any_range=any_range)


def upscale_burst(
    upscaler: Upscaler,
    files: Sequence[Path],
    target: Path,
    options: UpscaleOptions,
    on_progress: Progress | None = None,
) -> Result:
    """Restores one picture of a burst from all of its pictures.

    The result has the metadata of the reference picture. Transparency is enlarged bicubically,
    because the other pictures' transparency has nothing to do with it.

    Args:
        upscaler: The networks. One that takes a fixed number of frames gets the reference and the
            pictures nearest to it in order; if there are too few, the reference is repeated.
        files: The pictures in order, all of one size and depth.
        target: The file to write.
        options: As for ``upscale_picture``; ``reference`` is the index of the restored picture,
            ``frames`` the maximum number of pictures.
        on_progress: Not used: a burst is one step.

    Raises:
        UserError: as for ``upscale_picture``; if there is no picture ``reference``, or pictures
            differ in size, channels or depth.
        RunError: as for ``upscale_picture``.
    """
    if options.reference >= len(files):
        raise UserError(
            f"{files[0].parent}: reference {options.reference} does not exist; the burst has "
            f"{len(files)} pictures, counted from 0"
        )
    indices, reference, notes = choose_frames(upscaler, len(files), options)
    pictures = {index: read_for(upscaler, files[index], options) for index in sorted(set(indices))}
    own = pictures[options.reference]
    for index, picture in pictures.items():
        if picture.pixels.shape != own.pixels.shape or picture.pixels.dtype != own.pixels.dtype:
            raise UserError(
                f"{files[index]}: is {_form(picture)}, but {files[options.reference].name} is "
                f"{_form(own)}; a burst has pictures of one size and depth"
            )
    ready = {index: prepare(upscaler, picture, options) for index, picture in pictures.items()}
    others = [ready[index].picture.pixels for index in indices]
    mode: AlphaMode = "bicubic" if options.alpha == "model" else options.alpha

    def restore(pixels: np.ndarray) -> np.ndarray:
        frames = [*others]
        frames[reference] = pixels  # its transparent places are filled
        return upscaler.one_of(frames, reference)

    own_ready = ready[options.reference]
    result = own_ready.finished(with_alpha(own_ready.picture, restore, mode))
    notes = [*own.notes, *own_ready.notes, *notes]
    return write_result(upscaler, own, result, target, options, notes)


def choose_frames(
    upscaler: Upscaler, count: int, options: UpscaleOptions
) -> tuple[list[int], int, list[str]]:
    """Returns the pictures of a burst that the network gets.

    Returns:
        Their indices, the position of the reference among them, and notes.
    """
    wanted, own, notes = upscaler.num_frame, options.reference, []
    if upscaler.takes_any_number:
        wanted = count if options.frames is None else min(options.frames, count)
    first = min(max(own - wanted // 2, 0), max(count - wanted, 0))
    indices = list(range(first, min(first + wanted, count)))
    reference = indices.index(own)
    if len(indices) < count:
        what = "1 picture" if len(indices) == 1 else f"{len(indices)} pictures"
        notes.append(f"{what} of {count} used: the network takes no more")
    missing = wanted - len(indices)
    if missing > 0:
        notes.append(
            f"the network needs {wanted} pictures, the burst has {count}: its reference is repeated"
        )
        indices += [own] * missing
    return indices, reference, notes


def write_result(
    upscaler: Upscaler,
    source: Picture,
    result: Picture,
    target: Path,
    options: UpscaleOptions,
    notes: list[str],
) -> Result:
    """Resizes and writes a restored picture; returns its result with all notes."""
    height, width = source.pixels.shape[1:]
    size = result_size(options, width, height, upscaler.scale)
    if size != (result.pixels.shape[2], result.pixels.shape[1]):
        notes.append(f"the network enlarges by {upscaler.scale}; its result is resized")
        result = resize_picture(result, *size)
    notes += write_picture(
        target,
        replace(result, notes=()),
        quality=options.quality,
        bit_depth=options.bit_depth,
        strip_metadata=options.strip_metadata,
    )
    return Result(target, *size, notes=tuple(notes))


def _form(picture: Picture) -> str:
    channels, height, width = picture.pixels.shape
    colours = {1: "grey", 3: "RGB"}.get(channels, f"{channels} channels")
    return f"{width}×{height}, {colours}, {picture.pixels.dtype}"
