"""Videos through real networks: frames, time stamps, sound, kills, scene cuts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from support.scenes import scene
from support.upscaling import small_network
from support.videos import Clip, decoded, packets, times

from srtoolbox.errors import RunError, UserError
from srtoolbox.media.picture import as_type
from srtoolbox.media.video import probe, read_frames
from srtoolbox.media.video_encoder import EncoderOptions, SegmentEncoder
from srtoolbox.media.video_write import write_video
from srtoolbox.upscaling.options import upscale_options
from srtoolbox.upscaling.videos import check_encoder, upscale_video

pytest.importorskip("av", reason="needs PyAV: pip install srtoolbox[video]")

VFR = [0, 1, 3, 4, 9, 10, 12, 20, 21, 30, 31, 33]
B_FRAMES = {"crf": "10", "bf": "3", "b_strategy": "0"}
NO_B_FRAMES = {"crf": "10", "bf": "0"}
LOSSLESS = {"codec": "ffv1", "pix_fmt": "bgr0"}


@pytest.fixture
def run(upscaler):
    """Upscales a video by a network, with options by keyword."""

    def upscale(net, source: Path, target: Path, progress=None, **options):
        checked = upscale_options(options)
        return upscale_video(upscaler(net, **options), source, target, checked, progress)

    return upscale


def lossless(path: Path, frames: np.ndarray) -> Path:
    """Writes frames (T, 3, H, W) without loss, 25 per second."""
    shown = [(frame, Fraction(1, 25)) for frame in frames]
    write_video(path, shown, EncoderOptions("ffv1", pix_fmt="bgr0"))
    return path


def pixels_of(path: Path) -> list[np.ndarray]:
    return [frame.pixels for frame in read_frames(path)]


def same(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> bool:
    return all(np.array_equal(*pair) for pair in zip(one, other, strict=True))


@pytest.mark.parametrize("pts", [None, VFR])
@pytest.mark.parametrize("options", [NO_B_FRAMES, B_FRAMES])
@pytest.mark.parametrize("name", ["Bicubic", "EDSR"])
def test_frames_time_stamps_and_sound(tmp_path, run, pts, options, name):
    source = Clip(pts=pts, options=options, audio="aac").make(tmp_path / "a b%ü.mp4")
    seen = []
    result = run(
        *(small_network(name), source, tmp_path / "out" / "b.MP4"),
        lambda done, total: seen.append((done, total)),
        segment=0.2,
        batch=2,
    )
    assert (result.frames, result.width, result.height) == (12, 128, 96)
    assert times(result.path) == times(source)
    assert packets(result.path, "audio") == packets(source, "audio")
    assert seen[-1] == (12, 12) and result.notes == ()
    if name == "Bicubic":
        for old, new in zip(decoded(source), decoded(result.path), strict=True):
            assert np.abs(new[::2, ::2].astype(int) - old).mean() < 6


@pytest.mark.parametrize(
    "name",
    ["TDAN", *(pytest.param(name, marks=pytest.mark.slow) for name in ("EDVR", "DSTCSRNetPlus"))],
)
def test_multi_frame_networks(tmp_path, run, upscaler, name):
    clip = scene(0, 9, 16, 20)
    source = lossless(tmp_path / "a.mkv", clip)
    frames = 3 if name == "DSTCSRNetPlus" else None
    net = small_network(name, 4)
    whole = run(net, source, tmp_path / "b.mkv", **LOSSLESS, frames=frames).path
    parts = run(net, source, tmp_path / "c.mkv", **LOSSLESS, frames=frames, segment=0.1).path
    assert same(pixels_of(whole), pixels_of(parts))
    own = upscaler(net, frames=frames)
    radius = own.num_frame // 2
    expected = own.frames(list(clip[4 - radius : 5 + radius]), radius)
    assert np.array_equal(pixels_of(parts)[4], as_type(expected, np.uint8))


@pytest.mark.slow
@pytest.mark.parametrize("pts", [None, VFR])
def test_twice_the_frame_rate(tmp_path, run, pts):
    source = Clip(pts=pts, size=(32, 24), audio="aac").make(tmp_path / "a.mp4")
    net = small_network("MSTTSTVSR", 4)
    result = run(net, source, tmp_path / "b.mp4")
    assert (result.frames, result.width, result.height) == (24, 128, 96)
    old, new = times(source), times(result.path)
    assert new[::2] == old
    assert new[1:-1:2] == [(one + after) / 2 for one, after in pairwise(old)]
    assert packets(result.path, "audio") == packets(source, "audio")


@pytest.mark.slow
def test_twice_the_frame_rate_in_segments(tmp_path, run):
    source = lossless(
        tmp_path / "a.mkv", np.concatenate([scene(0, 6, 16, 20), scene(1, 5, 16, 20)])
    )
    net = small_network("MSTTSTVSR", 4)
    whole = pixels_of(run(net, source, tmp_path / "b.mkv", **LOSSLESS).path)
    parts = pixels_of(run(net, source, tmp_path / "c.mkv", **LOSSLESS, segment=0.08).path)
    assert len(whole) == 22 and same(whole, parts)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["TDAN", "MSTTSTVSR"])
def test_scenes_are_restored_as_if_they_were_alone(tmp_path, run, name):
    one, other = scene(0, 6, 16, 20), scene(1, 5, 16, 20)
    net = small_network(name, 4)

    def upscaled(frames: np.ndarray, **options) -> list[np.ndarray]:
        source = lossless(tmp_path / "a.mkv", frames)
        return pixels_of(run(net, source, tmp_path / "b.mkv", **LOSSLESS, **options).path)

    both = np.concatenate([one, other])
    assert same(upscaled(both), upscaled(one) + upscaled(other))
    assert not same(upscaled(both, scene_cut="off"), upscaled(both))


def test_deep_video_stays_deep(tmp_path, run):
    clip = Clip(frames=3, size=(32, 24), codec="ffv1", options={}, pix_fmt="yuv444p10le")
    source = clip.make(tmp_path / "a.mkv")
    result = run(small_network("Bicubic"), source, tmp_path / "b.mkv", codec="ffv1")
    assert probe(result.path).pixel_format == "yuv444p10le"
    levels = np.unique(next(read_frames(result.path)).pixels)
    assert levels.dtype == np.uint16 and len(levels) > 256


def test_sizes(tmp_path, run):
    source = Clip(frames=2, size=(33, 24), codec="ffv1", options={}).make(tmp_path / "a.mkv")
    result = run(small_network("Bicubic"), source, tmp_path / "b.mkv", outscale=1.5)
    assert (result.width, result.height) == (50, 36)
    assert "the network enlarges by 2; its result is resized" in result.notes
    result = run(small_network("Bicubic"), source, tmp_path / "c.mkv", width=41)
    assert (result.width, result.height) == (42, 30)
    assert "the encoder needs an even size: 41×30 became 42×30" in result.notes


def test_a_part_of_a_video(tmp_path, run):
    source = Clip(frames=25, size=(32, 24), audio="aac").make(tmp_path / "a.mkv")
    result = run(small_network("TDAN", 4), source, tmp_path / "b.mkv", start=0.2, end=0.6)
    assert result.frames == 10
    assert times(result.path)[0] == 0


def test_messages(tmp_path, run, monkeypatch):
    source = Clip(frames=2, subtitles="subrip").make(tmp_path / "a.mkv")
    result = run(small_network("Bicubic"), source, tmp_path / "b.mp4")
    assert result.path == tmp_path / "b.mkv"
    assert "MP4 cannot hold subtitle" in result.notes[0]
    with pytest.raises(UserError, match=r"no encoder 'nothing'"):
        run(small_network("Bicubic"), source, tmp_path / "c.mkv", codec="nothing")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"pip install srtoolbox\[video\]"):
        run(small_network("Bicubic"), source, tmp_path / "c.mkv")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kills"), [("TDAN", (8, 17)), ("MSTTSTVSR", (17,))])
def test_a_killed_job_goes_on(tmp_path, name, kills):
    source = Clip(frames=24, size=(24, 16), options=B_FRAMES, audio="aac").make(tmp_path / "a.mp4")
    code = f"""
        import os, signal, sys
        from pathlib import Path
        from support.upscaling import small_network
        from srtoolbox.upscaling.options import upscale_options
        from srtoolbox.upscaling.upscaler import Upscaler
        from srtoolbox.upscaling.videos import check_encoder, upscale_video
        options = upscale_options({{"segment": 0.2}})
        upscaler = Upscaler([small_network({name!r}, 4)], options)
        def show(done, total):
            print(done, flush=True)
            if done >= int(sys.argv[2]):
                os.kill(os.getpid(), signal.SIGKILL)
        upscale_video(upscaler, Path({str(source)!r}), Path(sys.argv[1]), options, show)
    """

    def start(target: Path, kill_at: int = 99) -> subprocess.Popen[str]:
        tests = Path(__file__).parents[1]
        paths = [str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        command = [sys.executable, "-c", textwrap.dedent(code), str(target), str(kill_at)]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    with start(tmp_path / "b.mp4") as process:
        process.communicate()
        assert process.returncode == 0
    target = tmp_path / "c.mp4"
    for frames in kills:
        with start(target, kill_at=frames) as process:
            process.communicate()
            assert process.returncode == -signal.SIGKILL
        assert not target.exists()
    with start(target) as process:
        shown = [int(line) for line in process.communicate()[0].split()]
        assert process.returncode == 0 and shown[0] >= 10  # finished segments are not made again
    assert packets(target, "video") == packets(tmp_path / "b.mp4", "video")
    assert packets(target, "audio") == packets(source, "audio")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "b.mp4", "c.mp4"]


def test_an_encoder_is_tried_with_what_all_take() -> None:
    """MJPEG takes the full range only, and encoders of graphics cards take no small frames."""
    check_encoder(upscale_options({"codec": "mjpeg"}))


def test_an_encoder_that_fails_at_its_first_frame(monkeypatch) -> None:
    closed = []

    def fail(self, pixels):
        assert min(pixels.shape[1:]) >= 256
        raise RunError("probe.mkv: cannot be written")

    monkeypatch.setattr(SegmentEncoder, "add", fail)
    monkeypatch.setattr(SegmentEncoder, "abort", lambda self: closed.append(self))
    with pytest.raises(UserError, match=r"libvpx cannot encode a frame as yuv420p .*check codec"):
        check_encoder(upscale_options({"codec": "libvpx"}))
    assert len(closed) == 1
