"""The result of one input, and its size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from srtoolbox.upscaling.options import UpscaleOptions


@dataclass(frozen=True)
class Result:
    """A written file.

    Args:
        path: The file.
        width: Width in pixels.
        height: Height in pixels.
        frames: Number of frames; 1 for pictures.
        notes: What the file does not hold as the input has it, one sentence each.
    """

    path: Path
    width: int
    height: int
    frames: int = 1
    notes: tuple[str, ...] = ()


def result_size(options: UpscaleOptions, width: int, height: int, scale: int) -> tuple[int, int]:
    """Returns width and height of the result for an input of this size.

    Args:
        options: ``outscale``, or ``width`` and ``height``; one of the latter keeps the proportions.
        width: Width of the input in pixels.
        height: Height of the input in pixels.
        scale: The networks' factor.
    """
    if options.outscale is not None:
        return (
            max(1, round(width * options.outscale)),
            max(1, round(height * options.outscale)),
        )
    if options.width and options.height:
        return options.width, options.height
    if options.width:
        return options.width, max(1, round(height * options.width / width))
    if options.height:
        return max(1, round(width * options.height / height)), options.height
    return width * scale, height * scale
