"""Reading of videos: what a file holds, all frames, time stamps, colours, orientation."""

from __future__ import annotations

import logging
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from support.videos import Clip, pictures, with_times

from srtoolbox.errors import UserError
from srtoolbox.media.video import probe, read_frames

av = pytest.importorskip("av", reason="needs PyAV: pip install srtoolbox[video]")

LOSSLESS = {"codec": "ffv1", "options": {}}
TWICE = [0, 40, 40, 80, 80, 200]
VFR = [0, 1, 3, 4, 9, 10, 12, 20, 21, 30, 31, 33]


def shown(size: tuple[int, int], number: int) -> list[np.ndarray]:
    return [image.transpose(2, 0, 1) for image in pictures(number, size)]


def test_probe_describes_file_and_streams(tmp_path: Path) -> None:
    clip = Clip(audio="aac", subtitles="subrip", chapters=True, attachment=True)
    clip.ratio, clip.tags = Fraction(4, 3), (1, 1, 1, 1)
    info = probe(clip.make(tmp_path / "a b%20é#.MKV"))
    assert (info.width, info.height, info.rate, info.frames) == (64, 48, 25, None)
    assert (info.codec, info.pixel_format, info.bits) == ("h264", "yuv420p", 8)
    assert (info.colour.matrix, info.colour.full_range, info.colour.stated) == (
        "bt709",
        False,
        True,
    )
    assert (info.colour.primaries, info.colour.transfer) == (1, 1)
    assert info.sample_aspect_ratio == Fraction(4, 3)
    assert not info.variable_rate and info.chapters == 2 and info.origin == 0
    kinds = [stream.kind for stream in info.streams]
    assert kinds == ["video", "audio", "subtitle", "subtitle", "attachment"]
    assert [stream.language for stream in info.streams[1:4]] == ["fra", "deu", "zho"]
    assert probe(info.path, count=True).frames == 12


def test_probe_tells_variable_from_constant_rate(tmp_path: Path) -> None:
    assert probe(Clip(pts=VFR).make(tmp_path / "a.mp4")).variable_rate
    thirty = Clip(time_base=Fraction(1001, 30000))  # 33 or 34 ms in Matroska
    assert not probe(thirty.make(tmp_path / "b.mkv")).variable_rate


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.ts"])
@pytest.mark.parametrize("reorder", ["0", "3"])
def test_all_frames_are_read_in_order(tmp_path: Path, name: str, reorder: str) -> None:
    options = {"crf": "5", "bf": reorder, "b_strategy": "0"}
    path = Clip(frames=17, options=options).make(tmp_path / name)
    frames = list(read_frames(path))
    assert [frame.index for frame in frames] == list(range(17))
    info = probe(path)
    unit = info.time_base
    steps = [float((after.pts - frame.pts) * unit) for frame, after in pairwise(frames)]
    assert steps == pytest.approx([0.04] * 16, abs=0.0011)
    for frame, image in zip(frames, shown((64, 48), 17), strict=True):
        assert np.abs(frame.pixels.astype(int) - image).mean() < 3


def test_time_stamps_of_variable_rate_are_exact(tmp_path: Path) -> None:
    options = {"crf": "12", "bf": "2", "b_strategy": "0"}
    path = Clip(pts=VFR, options=options).make(tmp_path / "a.mp4")
    unit = probe(path).time_base
    assert [frame.pts * unit for frame in read_frames(path)] == [Fraction(at, 25) for at in VFR]


def test_start_and_end_choose_frames_by_their_time(tmp_path: Path) -> None:
    path = Clip(frames=200, size=(16, 16), options={"g": "20", "bf": "2"}).make(tmp_path / "a.mp4")
    everything = list(read_frames(path))
    part = list(read_frames(path, start=5.2, end="6.4"))  # behind a jump into the file
    assert [frame.pts for frame in part] == [frame.pts for frame in everything[130:160]]
    assert [frame.index for frame in part] == list(range(30))
    for one, other in zip(part, everything[130:160], strict=True):
        assert np.array_equal(one.pixels, other.pixels)


@pytest.mark.parametrize("reorder", ["0", "3"])
def test_missing_time_stamps_become_one_frame_each(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, reorder: str
) -> None:
    options = {"crf": "5", "bf": reorder, "b_strategy": "0"}
    path = Clip(frames=17, options=options).make(tmp_path / "a.h264")
    with caplog.at_level(logging.WARNING):
        frames = list(read_frames(path))
    unit = probe(path).time_base
    steps = [(after.pts - frame.pts) * unit for frame, after in pairwise(frames)]
    assert steps == [Fraction(1, 25)] * 16
    for frame, image in zip(frames, shown((64, 48), 17), strict=True):
        assert np.abs(frame.pixels.astype(int) - image).mean() < 3
    assert sum("repaired" in record.message for record in caplog.records) <= 1


def test_time_stamps_that_do_not_increase_are_repaired_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = with_times(Clip(frames=6).make(tmp_path / "a.mp4"), tmp_path / "b.mkv", TWICE)
    with caplog.at_level(logging.WARNING):
        pts = [frame.pts for frame in read_frames(path)]
    assert pts == [0, 40, 41, 80, 81, 200]
    assert sum("repaired" in record.message for record in caplog.records) == 1


def test_joined_files_continue_after_the_first(tmp_path: Path) -> None:
    """Parts of broadcasts are joined by cat: time stamps begin again, and sizes may change."""
    first = Clip(frames=60, audio="aac").make(tmp_path / "a.ts")
    second = Clip(frames=10, size=(32, 48), audio="aac").make(tmp_path / "b.ts")
    joined = tmp_path / "c.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    frames = list(read_frames(joined))
    unit = probe(joined).time_base
    assert len(frames) == 70
    assert {frame.pixels.shape for frame in frames} == {(3, 48, 64)}
    steps = [(after.pts - frame.pts) * unit for frame, after in pairwise(frames)]
    assert steps == [Fraction(1, 25)] * 69


@pytest.mark.parametrize("tag, matrix", [(1, "bt709"), (5, "bt601"), (6, "bt601"), (9, "bt2020")])
@pytest.mark.parametrize("full", [False, True])
def test_colours_follow_matrix_and_range(tmp_path: Path, tag: int, matrix: str, full: bool) -> None:
    clip = Clip(frames=1, pix_fmt="yuv444p", tags=(tag, 2 if full else 1, 2, 2), **LOSSLESS)
    path = clip.make(tmp_path / "a.mkv")
    (frame,) = read_frames(path)
    colour = probe(path).colour
    assert (colour.matrix, colour.full_range) == (matrix, full)
    assert np.abs(frame.pixels.astype(int) - shown((64, 48), 1)[0]).max() <= 2


@pytest.mark.parametrize(
    "layout",
    ["yuv420p10le", "yuv422p10le", "yuv444p12le", "yuva444p10le", "gbrp10le", "gbrap16le"],
)
def test_more_than_8_bits_are_read_as_16(tmp_path: Path, layout: str) -> None:
    path = Clip(frames=1, pix_fmt=layout, **LOSSLESS).make(tmp_path / "a.mkv")
    (frame,) = read_frames(path)
    assert frame.pixels.dtype == np.uint16
    assert probe(path).bits == int(layout[-4:-2])
    right = shown((64, 48), 1)[0][:, 13:, 17:]  # without the edge of the corner
    error = frame.pixels[:, 13:, 17:] / 257 - right
    assert np.abs(error).max() < 2
    assert abs(error.mean()) < 0.6


@pytest.mark.parametrize("bits, white", [(10, 940), (12, 3760)])
def test_white_of_limited_range_is_white(tmp_path: Path, bits: int, white: int) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("ffv1", rate=25, width=16, height=16)
        stream.pix_fmt = f"yuv420p{bits}le"
        frame = av.VideoFrame(16, 16, stream.pix_fmt)
        for plane, value in zip(frame.planes, (white, *2 * [2 ** (bits - 1)]), strict=True):
            plane.update(np.full(plane.buffer_size // 2, value, "<u2").tobytes())
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    (read,) = read_frames(path)
    assert (read.pixels == 65535).all()


def test_untagged_video_takes_the_matrix_of_its_height(tmp_path: Path) -> None:
    small = probe(Clip(frames=1).make(tmp_path / "a.mp4")).colour
    large = probe(Clip(frames=1, size=(96, 720)).make(tmp_path / "b.mp4")).colour
    assert (small.matrix, small.stated) == ("bt601", False)
    assert (large.matrix, large.stated) == ("bt709", False)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
def test_frames_are_upright(tmp_path: Path, rotation: int, mirrored: bool) -> None:
    clip = Clip(frames=2, rotation=rotation, mirrored=mirrored, ratio=Fraction(2))
    path = clip.make(tmp_path / "a.mp4")
    info = probe(path)
    frame = next(read_frames(path))
    # The bright corner is at the top left of the stored frame.
    stored = shown((64, 48), 1)[0]
    expected = np.rot90(stored, rotation // 90, axes=(1, 2))
    if mirrored:
        with av.open(str(path)) as file:
            data = next(iter(next(file.decode(video=0)).side_data))
        a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5] // 65536
        expected = displayed(stored, a, b, c, d)
    assert frame.pixels.shape == expected.shape
    assert (info.upright_height, info.upright_width) == expected.shape[1:]
    assert np.abs(frame.pixels.astype(int) - expected).mean() < 3
    assert info.sample_aspect_ratio == (Fraction(1, 2) if rotation % 180 else 2)


def displayed(pixels: np.ndarray, a: int, b: int, c: int, d: int) -> np.ndarray:
    """The pixel at (x, y) is shown at (a x + c y, b x + d y), moved into the picture."""
    _, height, width = pixels.shape
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    columns, rows = a * x + c * y, b * x + d * y
    columns, rows = columns - columns.min(), rows - rows.min()
    result = np.zeros((3, rows.max() + 1, columns.max() + 1), pixels.dtype)
    result[:, rows, columns] = pixels
    return result


def test_files_that_are_no_videos_are_named(tmp_path: Path) -> None:
    text = tmp_path / "a.mp4"
    text.write_text("no video")
    with pytest.raises(UserError, match=r"a\.mp4: cannot be read"):
        probe(text)
    with pytest.raises(UserError, match=r"b\.mp4: cannot be read"):
        probe(tmp_path / "b.mp4")
    sound = tmp_path / "c.mkv"
    with av.open(str(sound), "w") as file:
        stream = file.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        file.mux(stream.encode(frame))
    with pytest.raises(UserError, match="no video stream"):
        probe(sound)


@pytest.mark.parametrize("layout", ["bgr0", "bgra", "yuva420p", "yuv411p", "yuv440p"])
def test_other_layouts(tmp_path: Path, layout: str) -> None:
    path = Clip(frames=1, pix_fmt=layout, **LOSSLESS).make(tmp_path / "a.mkv")
    (frame,) = read_frames(path)
    error = frame.pixels.astype(int) - shown((64, 48), 1)[0]
    assert np.abs(error[:, 13:, 20:]).max() <= (0 if layout.startswith("bgr") else 5)


@pytest.mark.parametrize("layout, top", [("gray", 255), ("gray10le", 65535)])
def test_grey_has_three_equal_channels(tmp_path: Path, layout: str, top: int) -> None:
    path = Clip(frames=1, pix_fmt=layout, **LOSSLESS).make(tmp_path / "a.mkv")
    (frame,) = read_frames(path)
    image = shown((64, 48), 1)[0] / 255
    grey = 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]
    red, green, blue = frame.pixels.astype(int)
    assert np.abs(red - green).max() <= (top > 255) and np.abs(red - blue).max() <= (top > 255)
    assert np.abs(frame.pixels[0] / top - grey).max() < 0.01


def test_without_pyav_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"needs PyAV; pip install srtoolbox\[video\]"):
        probe(tmp_path / "a.mp4")
