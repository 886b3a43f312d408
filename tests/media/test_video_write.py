"""Videos of frames that come from no video."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from support.videos import packets, pictures, times

from srtoolbox.errors import RunError, UserError
from srtoolbox.media.video import probe, read_frames
from srtoolbox.media.video_encoder import EncoderOptions
from srtoolbox.media.video_write import write_video

pytest.importorskip("av", reason="needs PyAV: pip install srtoolbox[video]")

LENGTHS = [Fraction(number, 1000) for number in (40, 500, 20, 20, 130, 70, 40, 40)]


def frames(size: tuple[int, int] = (64, 48)) -> list[tuple[np.ndarray, Fraction]]:
    images = pictures(len(LENGTHS), size)
    return [
        (image.transpose(2, 0, 1), length) for image, length in zip(images, LENGTHS, strict=True)
    ]


@pytest.mark.parametrize("codec", ["libx264", "libvpx-vp9", "ffv1"])
@pytest.mark.parametrize("suffix", [".mp4", ".MKV", ".mov"])
def test_lengths(tmp_path: Path, suffix: str, codec: str) -> None:
    path = tmp_path / "out" / f"a{suffix}"
    options = EncoderOptions(codec)
    if suffix == ".mov" and codec != "libx264":
        with pytest.raises((UserError, RunError), match=r"a\.mov: (mov cannot|cannot be written)"):
            write_video(path, frames(), options)
        assert list(tmp_path.glob("out/*")) == []
        return
    written = write_video(path, frames(), options)
    assert (written.frames, written.width, written.height) == (8, 64, 48)
    starts = [sum(LENGTHS[:number], Fraction(0)) for number in range(8)]
    assert times(path) == starts
    assert len(packets(path, "video")) == 8
    assert probe(path).duration == pytest.approx(float(sum(LENGTHS)), abs=0.002)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_pixels_and_colours(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    write_video(path, frames(), EncoderOptions("ffv1", pix_fmt="bgr0"))
    for (pixels, _), found in zip(frames(), read_frames(path), strict=True):
        assert np.array_equal(found.pixels, pixels)
    write_video(path, frames(), EncoderOptions(crf=5))
    info = probe(path)
    assert (info.pixel_format, info.colour.matrix, info.colour.full_range) == (
        *("yuv420p", "bt601", False),
    )
    assert (info.colour.primaries, info.colour.transfer) == (1, 13)
    for (pixels, _), found in zip(frames(), read_frames(path), strict=True):
        assert np.abs(found.pixels.astype(int) - pixels).mean() < 3


def test_odd_sizes(tmp_path: Path) -> None:
    written = write_video(tmp_path / "a.mp4", frames((63, 47)))
    assert (written.width, written.height) == (64, 48)


def test_faults(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs at least one frame"):
        write_video(tmp_path / "a.mp4", [])
    with pytest.raises(UserError, match=r"a.gif: videos are written as .mp4"):
        write_video(tmp_path / "a.gif", frames())
    with pytest.raises(RunError, match="a frame is"):
        write_video(tmp_path / "a.mp4", [*frames(), *frames((32, 32))])
    with pytest.raises(UserError, match="no encoder 'x'"):
        write_video(tmp_path / "a.mkv", frames(), EncoderOptions("x"))
    assert list(tmp_path.iterdir()) == []
