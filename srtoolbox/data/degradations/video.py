"""Compression of clips by a video codec, encoded and decoded in memory (PyAV, extra ``video``).

One thread and the encoders' processor-independent code make the result repeatable. It depends on
the versions of the encoder and of FFmpeg.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from srtoolbox.config.schema import option
from srtoolbox.data.degradations.jpeg import enlarge_chroma, shrink_chroma, to_rgb, to_ycc
from srtoolbox.errors import RunError, UserError, check_choice

CodecName = Literal["libx264", "mpeg4", "mpeg2video"]

_DECODERS = {"libx264": "h264", "mpeg4": "mpeg4", "mpeg2video": "mpeg2video"}
_LEAST_SIDE = 64  # of frames, in pixels: encoders refuse smaller ones


@dataclass(frozen=True)
class Codec:
    """An encoder with its constant quality: the CRF of libx264, the quantizer of the others."""

    name: str
    quality: int

    def __str__(self) -> str:
        return f"{self.name} {self.quality}"


@dataclass(frozen=True)
class VideoCompression:
    """Compression of clips, drawn for each of them; it needs PyAV (extra ``video``).

    Args:
        prob: Probability that a clip is compressed.
        codec: Encoders, equally probable: libx264 (H.264), mpeg4 (MPEG-4 part 2), mpeg2video
            (MPEG-2). libx265 is not among them, because its results differ from run to run.
        crf: Lowest and highest constant rate factor of libx264, whole numbers.
        qscale: Lowest and highest quantizer of the other encoders, whole numbers.

    Raises:
        UserError: names the invalid option, or PyAV if it is not installed.
    """

    prob: float = option(1.0, doc="Probability that a clip is compressed.", min=0, max=1)
    codec: Sequence[CodecName] = option(("libx264", "mpeg4"), doc="Encoders, equally probable.")
    crf: tuple[int, int] = option(
        (18, 35), doc="Range of the rate factor of libx264.", min=0, max=51
    )
    qscale: tuple[int, int] = option(
        (2, 15), doc="Range of the quantizer of the other encoders.", min=1, max=31
    )

    def __post_init__(self) -> None:
        if not 0 <= self.prob <= 1:
            raise UserError(f"video_compression: prob must be from 0 to 1, got {self.prob}")
        if not self.codec:
            raise UserError("video_compression: codec is empty; name an encoder")
        for name in self.codec:
            check_choice("video_compression: codec", name, _DECODERS)
        for name, least, most in (("crf", 0, 51), ("qscale", 1, 31)):
            low, high = getattr(self, name)
            if not least <= low <= high <= most:
                raise UserError(
                    f"video_compression: {name} must be [low, high] from {least} to {most}, got "
                    f"{[low, high]}"
                )

    def draw(self, rng: np.random.Generator) -> Codec | None:
        """Draws a codec and its quality; None: the clip is not compressed."""
        is_wanted = rng.random() < self.prob
        name = self.codec[int(rng.integers(len(self.codec)))]
        limits = self.crf if name == "libx264" else self.qscale
        quality = int(rng.integers(limits[0], limits[1], endpoint=True))
        return Codec(name, quality) if is_wanted else None


def require_codecs(names: Sequence[str]) -> None:
    """Checks that PyAV has these encoders.

    Raises:
        UserError: if it is not installed, or lacks one.
    """
    av = _import_av()
    for name in names:
        if name not in av.codecs_available:
            raise UserError(f"video_compression: PyAV has no encoder {name!r}; choose another")


def compress_clip(frames: Tensor, codec: Codec) -> Tensor:
    """Compresses the frames of a clip and decompresses them.

    Three channels are RGB, encoded with chroma of half the size (4:2:0, JFIF's matrix, full range).
    Other numbers of channels have no colours: each is encoded as a grey clip.

    Args:
        frames: (T, C, H, W) float64, whole levels from 0 to 255, on any device.
        codec: The codec.

    Returns:
        (T, C, H, W) as ``frames``.

    Raises:
        UserError: if PyAV or the encoder is not available.
        RunError: if the encoder fails.
    """
    device, (height, width) = frames.device, frames.shape[-2:]
    # Encoders need even sides of a least length.
    bottom, right = (max(_LEAST_SIDE, side + side % 2) - side for side in (height, width))
    padded = F.pad(frames.cpu(), (0, right, 0, bottom), mode="replicate")
    if frames.shape[1] == 3:
        y, cb, cr = to_ycc(padded)
        rows, columns = (side // 2 for side in padded.shape[-2:])
        chroma = shrink_chroma(torch.stack([cb, cr], 1))[..., :rows, :columns]
        planes = _code(y, chroma, codec)
        colour = enlarge_chroma(planes[1], padded.shape[-2:])
        result = to_rgb(planes[0], *colour.unbind(1))
    else:
        clips = [_code(plane, None, codec)[0] for plane in padded.unbind(1)]
        result = torch.stack(clips, 1)
    return result[..., :height, :width].to(device)


def _code(y: Tensor, chroma: Tensor | None, codec: Codec) -> tuple[Tensor, Tensor]:
    """Encodes and decodes planes in 4:2:0.

    Args:
        y: (T, H, W), H and W even.
        chroma: (T, 2, H / 2, W / 2); None: grey.
        codec: The codec.

    Returns:
        The planes, float64.
    """
    av = _import_av()
    num_frame, height, width = y.shape
    rows = np.full((num_frame, height * 3 // 2, width), 128, np.uint8)
    rows[:, :height] = y.numpy().astype(np.uint8)
    if chroma is not None:
        rows[:, height:] = chroma.numpy().astype(np.uint8).reshape(num_frame, height // 2, width)
    try:
        decoded = _run(av, rows, codec)
    except (av.error.FFmpegError, ValueError) as error:
        raise RunError(f"{codec.name} cannot encode frames of {width}×{height}: {error}") from error
    if len(decoded) != num_frame:
        raise RunError(f"{codec.name} returned {len(decoded)} of {num_frame} frames")
    planes = torch.from_numpy(np.stack(decoded)).double()
    return planes[:, :height], planes[:, height:].reshape(num_frame, 2, height // 2, width // 2)


def _run(av: Any, rows: np.ndarray, codec: Codec) -> list[np.ndarray]:
    """Encodes and decodes frames; each is (H · 3 / 2, W), the planes of yuv420p in rows."""
    encoder = av.CodecContext.create(codec.name, "w")
    encoder.width, encoder.height = rows.shape[2], rows.shape[1] * 2 // 3
    encoder.pix_fmt, encoder.time_base, encoder.framerate = "yuv420p", Fraction(1, 25), 25
    encoder.thread_count = 1
    encoder.options = _encoder_options(codec)
    packets = []
    for number, frame in enumerate(rows):
        picture = av.VideoFrame.from_ndarray(frame, format="yuv420p")
        picture.pts = number
        packets += encoder.encode(picture)
    packets += encoder.encode(None)
    decoder = av.CodecContext.create(_DECODERS[codec.name], "r")
    decoder.thread_count = 1
    pictures = [picture for packet in packets for picture in decoder.decode(packet)]
    pictures += decoder.decode(None)
    return [picture.to_ndarray(format="yuv420p") for picture in pictures]


def _encoder_options(codec: Codec) -> dict[str, str]:
    if codec.name == "libx264":
        # Without x264's approximations in assembly, which depend on the processor.
        return {"crf": str(codec.quality), "x264-params": "cpu-independent=1:threads=1"}
    return {"qmin": str(codec.quality), "qmax": str(codec.quality)}


def _import_av() -> Any:
    try:
        import av
    except ImportError:
        raise UserError(
            'video_compression: needs PyAV; pip install "srtoolbox[video]", or remove the option'
        ) from None
    return av
