"""Videos that are transformed: frames, time stamps, sound and everything else that is kept."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from support.videos import Clip, decoded, packets, times

from srtoolbox.errors import RunError, UserError
from srtoolbox.media.video import Frame, probe, read_frames
from srtoolbox.media.video_transform import transform_video

av = pytest.importorskip("av", reason="needs PyAV: pip install srtoolbox[video]")

VFR = [0, 1, 3, 4, 9, 10, 12, 20, 21, 30, 31, 33]
B_FRAMES = {"crf": "10", "bf": "3", "b_strategy": "0"}
NO_B_FRAMES = {"crf": "10", "bf": "0"}


def same(frames: Iterator[Frame]) -> Iterator[np.ndarray]:
    return (frame.pixels for frame in frames)


def twice_as_large(frames: Iterator[Frame]) -> Iterator[np.ndarray]:
    return (frame.pixels.repeat(2, 1).repeat(2, 2) for frame in frames)


def twice_as_many(frames: Iterator[Frame]) -> Iterator[np.ndarray]:
    for frame in frames:
        yield frame.pixels
        yield 255 - frame.pixels


@pytest.mark.parametrize("pts", [None, VFR])
@pytest.mark.parametrize("options", [NO_B_FRAMES, B_FRAMES])
@pytest.mark.parametrize("names", ["a.mp4 b.mp4", "a.mkv b.mkv", "a.mov b.mp4", "a.ts b.mkv"])
def test_frames_and_time_stamps_are_those_of_the_source(
    tmp_path: Path, pts: list[int] | None, options: dict[str, str], names: str
) -> None:
    before, after = (tmp_path / name for name in names.split())
    Clip(pts=pts, options=options).make(before)
    result = transform_video(before, after, twice_as_large, segment_seconds=0.2)
    assert (result.path, result.frames_in, result.frames_out) == (after, 12, 12)
    assert (result.width, result.height) == (128, 96)
    origin = probe(before).origin
    expected = [time - origin for time in times(before)]
    if before.suffix == ".ts":  # 90 kHz, stored in ms
        assert times(after) == pytest.approx(expected, abs=0.001)
    else:
        assert times(after) == expected
    for old, new in zip(decoded(before), decoded(after), strict=True):
        assert np.abs(new[::2, ::2].astype(int) - old).mean() < 3
    assert [path.name for path in tmp_path.iterdir() if path.name not in names.split()] == []


def test_time_of_decoding_increases_and_is_not_after_that_of_showing(tmp_path: Path) -> None:
    source = Clip(frames=40, pts=[at * 3 + at % 2 for at in range(40)]).make(tmp_path / "a.mp4")
    result = transform_video(source, tmp_path / "b.mp4", same, segment_seconds=1)
    with av.open(str(result.path)) as file:
        stamps = [(one.dts, one.pts) for one in file.demux(video=0) if one.size]
    assert all(dts <= pts for dts, pts in stamps)
    assert all(one[0] < after[0] for one, after in pairwise(stamps))
    assert any(dts != pts for dts, pts in stamps)  # the encoder uses B-frames


@pytest.mark.parametrize("pts", [None, VFR])
def test_twice_the_frames_lie_in_between(tmp_path: Path, pts: list[int] | None) -> None:
    source = Clip(pts=pts, audio="aac").make(tmp_path / "a.mp4")
    target = tmp_path / "b.mp4"
    result = transform_video(source, target, twice_as_many, time_scale=2, segment_seconds=0.2)
    old, new = times(source), times(target)
    assert result.frames_out == len(new) == 2 * len(old)
    assert new[::2] == old
    assert new[1:-1:2] == [(one + after) / 2 for one, after in pairwise(old)]
    assert packets(target, "audio") == packets(source, "audio")
    frames = decoded(target)
    assert np.abs(frames[1].astype(int) - (255 - frames[0])).mean() < 4


@pytest.mark.parametrize("audio, suffix", [("aac", "mp4"), ("aac", "mkv"), ("pcm_s16le", "mkv")])
def test_everything_else_is_copied(tmp_path: Path, audio: str, suffix: str) -> None:
    clip = Clip(audio=audio, chapters=True, ratio=Fraction(4, 3), tags=(1, 1, 1, 1))
    clip.metadata = {"title": "Ein Titel 第", "artist": "x"}
    if suffix == "mkv":
        clip.subtitles, clip.attachment = "subrip", True
    source = clip.make(tmp_path / f"a.{suffix}")
    target = transform_video(source, tmp_path / f"b.{suffix}", twice_as_large).path
    old, new = probe(source), probe(target)
    assert [(one.kind, one.codec, one.language) for one in new.streams[1:]] == [
        (one.kind, one.codec, one.language) for one in old.streams[1:]
    ]
    assert new.sample_aspect_ratio == Fraction(4, 3)
    assert new.colour == old.colour
    assert packets(target, "audio") == packets(source, "audio")
    with av.open(str(source)) as first, av.open(str(target)) as second:
        assert [one["metadata"] for one in second.chapters()] == [
            one["metadata"] for one in first.chapters()
        ]
        assert [one["start"] * one["time_base"] for one in second.chapters()] == [
            one["start"] * one["time_base"] for one in first.chapters()
        ]
        assert second.metadata["title"] == "Ein Titel 第"
        assert second.streams.video[0].disposition == first.streams.video[0].disposition
        if suffix == "mkv":
            assert second.streams.attachments[0].data == b"kept as it is\n"
            assert second.streams.attachments[0].name == "notes é.txt"
    if suffix == "mkv":
        for number in (0, 1):
            assert packets(target, "subtitle", number) == packets(source, "subtitle", number)


def test_mp4_that_cannot_hold_a_stream_becomes_matroska(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = Clip(frames=3, subtitles="subrip", attachment=True).make(tmp_path / "a.mkv")
    with caplog.at_level(logging.WARNING):
        result = transform_video(source, tmp_path / "b.mp4", same)
    assert result.path == tmp_path / "b.mkv"
    assert not (tmp_path / "b.mp4").exists()
    (message,) = result.messages
    assert "MP4 cannot hold subtitle 1" in message and "attachment 3 (notes é.txt)" in message
    assert message in caplog.text
    assert packets(result.path, "subtitle") == packets(source, "subtitle")
    with pytest.raises(UserError, match="MP4 cannot hold subtitle 1"):
        transform_video(source, tmp_path / "c.mp4", same, container="mp4")
    avi = transform_video(source, tmp_path / "d.avi", same)
    assert avi.path == tmp_path / "d.mkv" and "MKV, MP4 or MOV" in avi.messages[0]


def test_subtitles_of_mp4_become_text_in_matroska(tmp_path: Path) -> None:
    source = Clip(frames=3, subtitles="subrip").make(tmp_path / "a.mkv")
    texts = [(time, text) for time, text in packets(source, "subtitle", 1)]
    mp4 = tmp_path / "b.mp4"
    with av.open(str(source)) as old, av.open(str(mp4), "w") as file:
        video = file.add_stream_from_template(old.streams.video[0], opaque=True)
        stream = file.add_stream("mov_text")
        stream.codec_context.subtitle_header = b"[Script Info]\n"
        stream.time_base = Fraction(1, 1000)
        for packet in old.demux(video=0):
            if packet.size:
                packet.stream = video
                file.mux(packet)
        for time, text in texts:
            packet = av.Packet(len(text).to_bytes(2, "big") + text)
            packet.stream, packet.time_base = stream, Fraction(1, 1000)
            packet.pts = packet.dts = int(time * 1000)
            packet.duration = 120
            file.mux(packet)
    result = transform_video(mp4, tmp_path / "c.mkv", same)
    assert packets(result.path, "subtitle") == texts
    assert "becomes plain text" in result.messages[0]
    kept = transform_video(mp4, tmp_path / "d.mp4", same)
    assert packets(kept.path, "subtitle") == packets(mp4, "subtitle")


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotation_is_applied_once(tmp_path: Path, rotation: int) -> None:
    source = Clip(frames=2, rotation=rotation, ratio=Fraction(2)).make(tmp_path / "a.mp4")
    target = transform_video(source, tmp_path / "b.mp4", same).path
    old, new = probe(source), probe(target)
    assert new.rotation == 0 and not new.orientation.changes
    assert (new.width, new.height) == (old.upright_width, old.upright_height)
    assert new.sample_aspect_ratio == old.sample_aspect_ratio
    error = next(read_frames(target)).pixels.astype(int) - next(read_frames(source)).pixels
    assert np.abs(error).mean() < 3


@pytest.mark.parametrize("size", [(63, 48), (64, 47), (63, 47)])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    source = Clip(frames=2, size=size, codec="ffv1", options={}).make(tmp_path / "a.mkv")
    padded = transform_video(source, tmp_path / "b.mp4", same)
    assert (padded.width, padded.height) == (64, 48)
    kept = transform_video(source, tmp_path / "c.mkv", same, codec="ffv1")
    assert (kept.width, kept.height) == size
    old = next(read_frames(source)).pixels.astype(int)
    new = next(read_frames(padded.path)).pixels[:, : size[1], : size[0]]
    assert np.abs(new - old).mean() < 3


@pytest.mark.parametrize("tag", [1, 6, 9])
@pytest.mark.parametrize("full", [1, 2])
@pytest.mark.parametrize("layout", ["yuv420p", "yuv420p10le", "yuv422p10le", "yuv444p"])
def test_colours_survive(tmp_path: Path, tag: int, full: int, layout: str) -> None:
    clip = Clip(frames=2, codec="ffv1", options={}, pix_fmt=layout, tags=(tag, full, tag, tag))
    source = clip.make(tmp_path / "a.mkv")
    target = transform_video(source, tmp_path / "b.mkv", twice_as_large, codec="ffv1").path
    assert probe(target).colour == probe(source).colour
    assert probe(target).pixel_format == layout
    for before, after in zip(read_frames(source), read_frames(target), strict=True):
        white = 255 if before.pixels.dtype == np.uint8 else 65535
        error = (after.pixels[:, ::2, ::2].astype(float) - before.pixels) / white * 255
        assert abs(error.mean()) < 0.3
        assert np.abs(error).mean() < 0.6  # chroma is resized at the corner's edge


def test_colours_that_nobody_stated_are_stated(tmp_path: Path) -> None:
    """A player would take BT.709 for the larger result."""
    source = Clip(frames=1, size=(32, 400)).make(tmp_path / "a.mp4")
    target = transform_video(source, tmp_path / "b.mp4", twice_as_large).path
    assert not probe(source).colour.stated
    assert probe(target).height == 800
    assert probe(target).colour.matrix == "bt601" and probe(target).colour.stated


def test_floats_are_rounded(tmp_path: Path) -> None:
    source = Clip(frames=1, codec="ffv1", options={}, pix_fmt="bgr0").make(tmp_path / "a.mkv")

    def shifted(frames: Iterator[Frame]) -> Iterator[np.ndarray]:
        for frame in frames:
            yield np.float32(frame.pixels + 0.4) / np.float32(255)

    target = tmp_path / "b.mkv"
    transform_video(source, target, shifted, codec="ffv1")
    (old,), (new,) = read_frames(source), read_frames(target)
    assert np.array_equal(old.pixels, new.pixels)


def test_10_bits_stay_10_bits(tmp_path: Path) -> None:
    clip = Clip(frames=2, pix_fmt="yuv420p10le", codec="ffv1", options={})
    source = clip.make(tmp_path / "a.mkv")
    for codec in ("libx264", "libx265"):
        target = transform_video(source, tmp_path / f"{codec}.mp4", same, codec=codec).path
        assert probe(target).pixel_format == "yuv420p10le"
        old, new = next(read_frames(source)).pixels, next(read_frames(target)).pixels
        assert np.abs(old.astype(int) - new).mean() < 65535 / 255 * 3


@pytest.mark.slow
@pytest.mark.parametrize(
    "codec, name",
    [
        ("hevc", "b.mp4"),
        ("vp9", "b.mkv"),
        ("av1", "b.mp4"),
        ("mpeg4", "b.mp4"),
        ("prores_ks", "b.mov"),
        ("libx264rgb", "b.mkv"),
    ],
)
def test_encoders(tmp_path: Path, codec: str, name: str) -> None:
    source = Clip(pts=VFR, audio="aac").make(tmp_path / "a.mkv")
    known = av.codecs_available
    real = {"hevc": "libx265", "vp9": "libvpx-vp9", "av1": "libsvtav1"}.get(codec, codec)
    if real not in known:
        pytest.skip(f"this PyAV lacks {real}")
    target = tmp_path / name
    result = transform_video(source, target, twice_as_large, codec=codec, segment_seconds=0.4)
    assert result.path == target
    assert times(target) == times(source)
    assert packets(target, "audio") == packets(source, "audio")
    for old, new in zip(decoded(source), decoded(target), strict=True):
        assert np.abs(new[::2, ::2].astype(int) - old).mean() < 4


def test_containers_that_no_encoder_fits_become_matroska(tmp_path: Path) -> None:
    source = Clip(frames=2).make(tmp_path / "a.mp4")
    result = transform_video(source, tmp_path / "b.mp4", same, codec="libvpx")
    assert result.path.name == "b.mkv" and "video of libvpx" in result.messages[0]


def test_sound_of_transport_streams_is_kept(tmp_path: Path) -> None:
    source = Clip(frames=30, audio="aac", options=B_FRAMES).make(tmp_path / "a.ts")
    for name in ("b.mkv", "b.mp4"):
        target = transform_video(source, tmp_path / name, same).path
        assert target.name == name
        old, new = packets(source, "audio"), packets(target, "audio")
        assert len(old) == len(new)
        # The header of each packet (7 bytes) goes into that of the file.
        assert [data[7:] for _, data in old] == [data for _, data in new]
        lag = [packets(path, "audio")[0][0] - times(path)[0] for path in (source, target)]
        assert lag[0] == pytest.approx(lag[1], abs=0.002)


def test_joined_transport_streams_stay_in_time(tmp_path: Path) -> None:
    first = Clip(frames=60, audio="aac").make(tmp_path / "a.ts")
    joined = tmp_path / "b.ts"
    joined.write_bytes(first.read_bytes() * 2)
    target = transform_video(joined, tmp_path / "c.mp4", same).path
    shown = times(target)
    assert len(shown) == 120
    assert all(after - time == Fraction(1, 25) for time, after in pairwise(shown))
    sound = [time for time, _ in packets(target, "audio")]
    assert len(sound) == 2 * len(packets(first, "audio"))
    assert float(sound[-1]) == pytest.approx(float(shown[-1]), abs=0.15)


@pytest.mark.parametrize("name", ["ü %03d #1 第.MP4", "-a b?.mkv", "file:x.mkv"])
def test_names(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = Clip(frames=2, audio="aac").make(tmp_path / "a.mp4")
    before = source.rename(tmp_path / name)
    result = transform_video(Path(name), Path(f"out {name}"), same)
    assert result.path == Path(f"out {name}")
    assert times(tmp_path / result.path) == pytest.approx(times(before), abs=0.03)
    assert len(list(tmp_path.iterdir())) == 2


def test_start_and_end(tmp_path: Path) -> None:
    clip = Clip(frames=20, subtitles="subrip", audio="pcm_s16le", chapters=True)
    source = clip.make(tmp_path / "a.mkv")
    target = transform_video(source, tmp_path / "b.mkv", same, start=0.2, end=0.4).path
    assert times(target) == [Fraction(at, 25) for at in range(5)]
    whole = packets(source, "audio")
    kept = [data for time, data in whole if Fraction(1, 5) <= time < Fraction(2, 5)]
    assert [data for _, data in packets(target, "audio")] == kept
    # A subtitle from 0.15 s to 0.27 s is shown at the start.
    assert packets(target, "subtitle") == [
        (Fraction(0), "第二".encode()),
        (Fraction(1, 10), b"the end"),
    ]
    with av.open(str(target)) as file:
        assert [float(one["end"] * one["time_base"]) for one in file.chapters()] == [0.2]


def test_covers_are_kept(tmp_path: Path) -> None:
    plain = Clip(frames=3).make(tmp_path / "a.mp4")
    picture = av.VideoFrame.from_ndarray(np.full((8, 8, 3), 200, np.uint8), "rgb24")
    encoder = av.CodecContext.create("png", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 8, 8, "rgb24"
    encoder.time_base = Fraction(1, 25)
    (png,) = encoder.encode(picture)
    cover = bytes(png)
    with_cover = tmp_path / "c.mkv"
    with av.open(str(plain)) as old, av.open(str(with_cover), "w") as file:
        video = file.add_stream_from_template(old.streams.video[0], opaque=True)
        file.add_attachment("cover.png", "image/png", cover)
        for packet in old.demux(video=0):
            if packet.size:
                packet.stream = video
                file.mux(packet)
    for name in ("d.mkv", "d.mp4"):
        target = transform_video(with_cover, tmp_path / name, same).path
        assert target.name == name
        assert packets(target, "video", 1)[0][1] == cover
        assert len(times(target)) == 3


def test_transforms_that_do_not_fit_are_named(tmp_path: Path) -> None:
    source = Clip(frames=4).make(tmp_path / "a.mp4")
    wrong = {
        "yields 3 frames for 4, not 4": lambda frames: list(same(frames))[1:],
        "yields more frames": lambda frames: (
            array for frame in frames for array in (frame.pixels, frame.pixels)
        ),
        r"\(48, 64, 3\), not \(3, height, width\)": lambda frames: (
            frame.pixels.transpose(1, 2, 0) for frame in frames
        ),
        "NoneType for a wanted frame": lambda frames: (None for _ in frames),
        "float64, not uint8": lambda frames: (frame.pixels / 255 for frame in frames),
    }
    for message, transform in wrong.items():
        with pytest.raises(RunError, match=message):
            transform_video(source, tmp_path / "b.mp4", transform)
        assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.slow
def test_videos_that_end_early_are_named(tmp_path: Path) -> None:
    """The header of Matroska states 4 s; half of the frames are lost."""
    source = Clip(frames=100, audio="aac").make(tmp_path / "a.mkv")
    assert transform_video(source, tmp_path / "whole.mkv", same).messages == ()
    content = source.read_bytes()
    source.write_bytes(content[: len(content) // 2])
    (message,) = transform_video(source, tmp_path / "b.mkv", twice_as_many, time_scale=2).messages
    assert message.startswith("the file states 4.0 s, but its frames end after ")
    assert transform_video(source, tmp_path / "c.mkv", same, end=1).messages == ()


def test_wrong_options_are_named(tmp_path: Path) -> None:
    source = Clip(frames=2).make(tmp_path / "a.mp4")
    target = tmp_path / "b.mp4"
    wrong = {
        "no encoder 'x'": {"codec": "x"},
        "libx264 cannot encode 'gbrp'": {"pix_fmt": "gbrp"},
        "libx264 refuses": {"preset": "very very fast"},
        "container must be": {"container": "avi"},
        "end 1 must be after start 2": {"start": 2, "end": 1},
        "no frame between": {"start": 2},
    }
    for message, options in wrong.items():
        with pytest.raises(UserError, match=message):
            transform_video(source, target, same, **options)
    with pytest.raises(UserError, match="is the source itself"):
        transform_video(source, source, same)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
