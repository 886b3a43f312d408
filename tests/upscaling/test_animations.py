from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.scenes import scene
from support.upscaling import save, small_network, texture

from srtoolbox.errors import UserError
from srtoolbox.media.animation import Frame, animation_info, read_frames, write_animation
from srtoolbox.media.picture import Picture, as_type, with_alpha
from srtoolbox.upscaling.animations import upscale_animation
from srtoolbox.upscaling.options import upscale_options

DURATIONS = [40, 100, 250, 30, 70]


@pytest.fixture
def run(upscaler):
    """Upscales an animation by a network, with options by keyword."""

    def upscale(net, source: Path, target: Path, progress=None, **options):
        checked = upscale_options(options)
        return upscale_animation(upscaler(net, **options), source, target, checked, progress)

    return upscale


def frames_of(alpha: bool = False, size: tuple[int, int] = (16, 20)) -> list[Frame]:
    """Five frames; with ``alpha`` their left half is transparent in a way that changes."""
    frames = []
    for at, pixels in enumerate(scene(0, 5, *size)):
        matte = np.full((1, *size), 255, np.uint8)
        matte[:, :, : 4 + at] = 0
        frames.append(Frame(pixels, matte if alpha else None, DURATIONS[at]))
    return frames


def opacity(frame: Frame) -> np.ndarray:
    return np.full_like(frame.pixels[:1], 255) if frame.alpha is None else frame.alpha


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".apng"])
@pytest.mark.parametrize(("name", "plays"), [("EDSR", 0), ("EDSR", 3), ("TDAN", 1)])
def test_durations_and_loops(tmp_path, run, name, plays, suffix):
    source, target = tmp_path / f"a b%ü{suffix}", tmp_path / "out" / f"b{suffix}"
    write_animation(source, frames_of(), plays=plays)
    seen = []
    net = small_network(name, 4)
    result = run(net, source, target, lambda done, total: seen.append((done, total)))
    info = animation_info(target)
    assert info is not None
    assert (info.width, info.height, info.num_frame, info.plays) == (80, 64, 5, plays)
    assert (result.path, result.width, result.height, result.frames) == (target, 80, 64, 5)
    assert [frame.duration for frame in read_frames(target)] == DURATIONS
    assert seen == [(number, 5) for number in range(1, 6)]


@pytest.mark.parametrize("mode", ["model", "bicubic", "drop"])
def test_frames_are_as_pictures(tmp_path, run, upscaler, mode):
    source = tmp_path / "a.png"
    write_animation(source, frames_of(alpha=True))
    net = small_network()
    run(net, source, tmp_path / "b.png", alpha=mode, batch=2)
    for old, new in zip(read_frames(source), read_frames(tmp_path / "b.png"), strict=True):
        expected = with_alpha(Picture(old.pixels, old.alpha), upscaler(net).image, mode)
        seen = opacity(new) > 0
        error = np.abs(new.pixels.astype(int) - expected.pixels) * seen
        assert error.max() <= 1
        if mode == "drop":
            assert new.alpha is None
        else:
            assert np.abs(opacity(new).astype(int) - expected.alpha).max() <= 1


def test_other_formats(tmp_path, run):
    source = tmp_path / "a.gif"
    write_animation(source, frames_of(), plays=2)
    for suffix in (".webp", ".png"):
        target = tmp_path / f"b{suffix}"
        kind = "apng" if suffix == ".png" else "webp"
        run(small_network(), source, target, anim_format=kind, quality=100)
        info = animation_info(target)
        assert info is not None and (info.format, info.plays, info.num_frame) == (kind, 2, 5)
    with pytest.raises(UserError, match=r"b.webp: its suffix means webp, but --anim-format is gif"):
        run(small_network(), source, tmp_path / "b.webp", anim_format="gif")
    with pytest.raises(UserError, match=r"animations cannot be written as '.jpg'"):
        run(small_network(), source, tmp_path / "b.jpg")


def test_twice_the_frame_rate(tmp_path, run):
    source, target = tmp_path / "a.png", tmp_path / "b.png"
    write_animation(source, frames_of(alpha=True), plays=1)
    result = run(small_network("MSTTSTVSR", 4), source, target)
    frames = list(read_frames(target))
    assert result.frames == len(frames) == 10
    assert [frame.duration for frame in frames] == [
        half for length in DURATIONS for half in (length / 2, length / 2)
    ]
    assert np.array_equal(frames[8].pixels, frames[9].pixels)
    edges = [int((opacity(frame)[0, 0] < 128).sum()) for frame in frames]
    assert edges == sorted(edges)  # the transparent part grows between the frames, too


def test_durations_of_a_gif_add_up(tmp_path, run):
    source, target = tmp_path / "a.gif", tmp_path / "b.gif"
    write_animation(source, frames_of())
    run(small_network("MSTTSTVSR", 4), source, target)
    lengths = [frame.duration for frame in read_frames(target)]
    assert sum(lengths) == sum(DURATIONS)
    assert all(length % 10 == 0 for length in lengths)


def test_sizes_and_profiles(tmp_path, run):
    from PIL import ImageCms

    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    source = tmp_path / "a.webp"
    write_animation(source, frames_of(), icc=icc)
    result = run(small_network(), source, tmp_path / "b.png", outscale=3)
    info = animation_info(tmp_path / "b.png")
    assert info is not None and (info.width, info.height, info.icc) == (60, 48, icc)
    assert result.notes == ("the network enlarges by 2; its result is resized",)


def test_no_animation(tmp_path, run):
    source = save(tmp_path / "a.png", texture(9, 9))
    with pytest.raises(UserError, match=r"a.png: is no animation"):
        run(small_network(), source, tmp_path / "b.png")


def test_a_damaged_file_leaves_no_result(tmp_path, run):
    source = tmp_path / "a.gif"
    write_animation(source, frames_of(size=(60, 60)))
    content = source.read_bytes()
    source.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(UserError, match=r"a.gif"):
        run(small_network(), source, tmp_path / "out" / "b.gif")
    assert not list((tmp_path / "out").glob("*"))


class TestVideo:
    @pytest.fixture(autouse=True)
    def _needs_av(self):
        pytest.importorskip("av", reason="needs PyAV: pip install srtoolbox[video]")

    @pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
    def test_durations_become_time_stamps(self, tmp_path, run, suffix):
        from support.videos import decoded, times

        source, target = tmp_path / "a.gif", tmp_path / f"b{suffix}"
        write_animation(source, frames_of(alpha=True))
        result = run(small_network("Bicubic"), source, target, anim_format="mp4", crf=1)
        starts = np.cumsum([0, *DURATIONS[:-1]])
        assert times(target) == [Fraction(int(start), 1000) for start in starts]
        assert (result.frames, result.width, result.height) == (5, 40, 32)
        assert result.notes == (
            "a video has no transparency: the frames are shown on white",
            "a video does not state how often it is shown",
        )
        for frame in decoded(target):
            assert frame[:, :6].min() > 245

    def test_twice_the_frame_rate(self, tmp_path, run):
        from support.videos import times

        source = tmp_path / "a.png"
        write_animation(source, frames_of())
        run(small_network("MSTTSTVSR", 4), source, tmp_path / "b.mp4", anim_format="mp4")
        starts = np.cumsum([0, *np.repeat(DURATIONS, 2)[:-1]])
        assert times(tmp_path / "b.mp4") == [Fraction(int(start), 2000) for start in starts]

    def test_frames_without_a_duration(self, tmp_path, run):
        from support.videos import times

        source = tmp_path / "a.gif"
        write_animation(source, [Frame(f.pixels, None, 0) for f in frames_of()], plays=1)
        result = run(small_network("Bicubic"), source, tmp_path / "b.mp4")
        assert times(tmp_path / "b.mp4") == [Fraction(at, 10) for at in range(5)]
        assert result.notes == ("frames without a duration are shown for 100 ms",)

    def test_the_colours(self, tmp_path, run):
        from srtoolbox.media.video import read_frames as video_frames

        source = tmp_path / "a.png"
        plain = np.empty((3, 16, 16), np.uint8)
        plain[:] = np.array([200, 60, 90], np.uint8)[:, None, None]
        write_animation(source, [Frame(plain, None, 100), Frame(plain, None, 100)])
        run(small_network("Bicubic"), source, tmp_path / "b.mp4", crf=1)
        for frame in video_frames(tmp_path / "b.mp4"):
            assert np.abs(frame.pixels.astype(int) - [[[200]], [[60]], [[90]]]).max() <= 3


def test_pillow_reads_the_same(tmp_path, run):
    source, target = tmp_path / "a.gif", tmp_path / "b.webp"
    write_animation(source, frames_of(), plays=0)
    run(small_network("Bicubic"), source, target, quality=100)
    with Image.open(target) as image:
        assert image.n_frames == 5
        image.seek(4)
        found = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    assert np.array_equal(as_type(found, np.uint8), list(read_frames(target))[4].pixels)
