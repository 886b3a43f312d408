"""Upscales videos, with their sound and everything else that they contain."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from srtoolbox.errors import RunError, UserError
from srtoolbox.media.picture import as_type, resize_to
from srtoolbox.media.video import Frame, probe
from srtoolbox.media.video_colour import Colour
from srtoolbox.media.video_encoder import EncoderOptions, SegmentEncoder, pixel_format
from srtoolbox.media.video_join import plan_streams
from srtoolbox.media.video_transform import transform_video
from srtoolbox.upscaling.options import UpscaleOptions
from srtoolbox.upscaling.result import Result, result_size
from srtoolbox.upscaling.upscaler import Upscaler
from srtoolbox.upscaling.windows import ClipFrame, ClipRestorer
from srtoolbox.utils.console import Progress

_log = logging.getLogger("srtoolbox")

# Of the frame that tries an encoder; those of graphics cards refuse frames that are smaller.
_PROBE_SIZE, _PROBE_FORMAT = (256, 256), "yuv420p"
_PROBE_COLOUR = Colour("bt601", True, 2, 2, 2, False)


def check_encoder(options: UpscaleOptions) -> None:
    """Checks the options of the encoder, if they are not the default, by encoding a frame.

    A missing PyAV is left to the job of each video, since other jobs do not need it.

    Raises:
        UserError: if the encoder does not exist, or refuses an option.
    """
    given = EncoderOptions(options.codec, options.crf, options.preset, options.pix_fmt)
    if given == EncoderOptions() or find_spec("av") is None:
        return
    layout = pixel_format(given, _PROBE_FORMAT)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "probe.mkv"
        form = _PROBE_COLOUR, Fraction(1), given, layout, *_PROBE_SIZE, Fraction(25)
        encoder = SegmentEncoder(path, *form)
        try:
            encoder.add(np.zeros((3, *_PROBE_SIZE), np.uint8))
            encoder.finish()
        except RunError as error:
            encoder.abort()  # an open file cannot be removed on Windows
            reason = error.__cause__ or error
            raise UserError(
                f"{given.encoder} cannot encode a frame as {layout} ({reason}); check codec, crf, "
                "preset and pix_fmt"
            ) from error


def video_path(source: Path, target: Path, options: UpscaleOptions) -> Path:
    """Returns the file that ``upscale_video`` writes: another suffix if the format needs it.

    Raises:
        UserError: as ``upscale_video``.
    """
    encoder = EncoderOptions(options.codec).encoder
    return plan_streams(probe(source), target, options.container, encoder).path


def upscale_video(
    upscaler: Upscaler,
    source: Path,
    target: Path,
    options: UpscaleOptions,
    on_progress: Progress | None = None,
) -> Result:
    """Writes an enlarged video with as many frames, or ``time_scale`` times as many.

    Time stamps, sound, subtitles, chapters and attachments are those of the source. The same call
    continues a job that was killed, and its result equals an unbroken one. Frames have 8 bits, or
    16 bits before the encoder if the source has more than 8.

    Args:
        upscaler: The networks.
        source: The video.
        target: The file to write; another suffix is used if its format cannot hold a stream.
        options: Size, frames, encoder, container, begin, end and length of the segments.
        on_progress: Called with the number of finished and of all frames of the source.

    Raises:
        UserError: if PyAV is missing, the source cannot be read, or an option is wrong.
        RunError: if memory does not suffice, or the result cannot be written.
    """
    info = probe(source)
    given = info.upright_width, info.upright_height
    size = result_size(options, *given, upscaler.scale)
    restorer = ClipRestorer(upscaler, options)

    def transform(frames: Iterator[Frame]) -> Iterator[np.ndarray | None]:
        dtype: np.dtype = np.dtype(np.uint8)

        def clip() -> Iterator[ClipFrame]:
            nonlocal dtype
            for frame in frames:
                dtype = frame.pixels.dtype
                yield ClipFrame(frame.pixels, frame.index, wanted=frame.wanted)

        for restored in restorer.restore(clip()):
            yield None if restored is None else as_type(resize_to(restored.pixels, *size), dtype)

    written = transform_video(
        source,
        target,
        transform,
        time_scale=upscaler.time_scale,
        context=restorer.context,
        codec=options.codec,
        crf=options.crf,
        preset=options.preset,
        pix_fmt=options.pix_fmt,
        container=options.container,
        start=options.start,
        end=options.end,
        segment_seconds=options.segment,
        key={**upscaler.key, "scene_cut": options.scene_cut, "size": size},
        on_progress=on_progress,
    )
    notes = []
    if size != (given[0] * upscaler.scale, given[1] * upscaler.scale):
        notes.append(f"the network enlarges by {upscaler.scale}; its result is resized")
    if (written.width, written.height) != size:
        notes.append(
            f"the encoder needs an even size: {size[0]}×{size[1]} became "
            f"{written.width}×{written.height}"
        )
    for note in notes:
        _log.info("%s: %s", written.path, note)
    kept = (*written.messages, *notes)  # the messages were logged before the work
    return Result(written.path, written.width, written.height, written.frames_out, notes=kept)
