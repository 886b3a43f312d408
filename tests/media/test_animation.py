"""Tests ``srtoolbox.media.animation`` on files that they make themselves."""

from __future__ import annotations

import struct
import weakref
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srtoolbox.errors import UserError
from srtoolbox.media.animation import (
    Frame,
    animation_format_of,
    animation_info,
    read_frames,
    write_animation,
)
from srtoolbox.media.image_file import read_picture

COLOURS = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)


def double(pixels: np.ndarray) -> np.ndarray:
    return pixels.repeat(2, axis=1).repeat(2, axis=2)


def gif(width: int, height: int, parts: list[tuple], loop: int | None = None) -> bytes:
    """Returns a GIF of parts: (left, top, indices, disposal, transparent or None, delay)."""
    content = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x91, 0, 0) + COLOURS.tobytes()
    if loop is not None:
        content += b"\x21\xff\x0bNETSCAPE2.0\x03\x01" + struct.pack("<HB", loop, 0)
    for left, top, index, disposal, transparent, delay in parts:
        packed = disposal << 2 | (transparent is not None)
        content += b"\x21\xf9\x04" + struct.pack("<BHBB", packed, delay, transparent or 0, 0)
        content += b"\x2c" + struct.pack("<HHHHB", left, top, *index.shape[::-1], 0)
        # Codes of 3 bits; a clear code (4) before every pair keeps them at 3 bits; 5 ends.
        codes = []
        for place, value in enumerate(index.ravel()):
            codes += [4] * (place % 2 == 0) + [int(value)]
        bits = "".join(f"{code:03b}"[::-1] for code in [*codes, 5])
        data = bytes(int(bits[at : at + 8][::-1], 2) for at in range(0, len(bits), 8))
        content += b"\x02"
        for at in range(0, len(data), 255):
            block = data[at : at + 255]
            content += bytes([len(block)]) + block
        content += b"\0"
    return content + b"\x3b"


def composed(width: int, height: int, parts: list[tuple]) -> list[np.ndarray]:
    """Returns the frames of the parts as RGBA (4, H, W), from the text of the GIF standard."""
    canvas, frames = np.zeros((height, width, 4), np.uint8), []
    for left, top, index, disposal, transparent, _ in parts:
        before = canvas.copy()
        window = slice(top, top + index.shape[0]), slice(left, left + index.shape[1])
        colours = np.concatenate([COLOURS[index], np.full((*index.shape, 1), 255, np.uint8)], -1)
        seen = index != (-1 if transparent is None else transparent)
        canvas[window][seen] = colours[seen]
        frames.append(canvas.transpose(2, 0, 1).copy())
        if disposal == 2:
            canvas[window] = 0
        elif disposal == 3:
            canvas = before
    return frames


def rgba(frame: Frame) -> np.ndarray:
    alpha = np.full_like(frame.pixels[:1], 255) if frame.alpha is None else frame.alpha
    return np.concatenate([frame.pixels * (alpha > 0), alpha])


def parts_of(seed: int, disposals: tuple[int, ...], cover: bool) -> list[tuple]:
    generator = np.random.default_rng(seed)
    parts = [(0, 0, generator.integers(0, 4, (6, 9)), disposals[0], None if cover else 3, 10)]
    for number, disposal in enumerate(disposals[1:], 1):
        left, top = generator.integers(0, 5), generator.integers(0, 3)
        index = generator.integers(0, 4, (3, 4))
        parts.append((left, top, index, disposal, 2 if number % 2 else None, 5 * number))
    return parts


@pytest.mark.parametrize("cover", [True, False])
@pytest.mark.parametrize(
    "disposals", [(1, 1, 1, 1), (2, 2, 2), (3, 3, 3), (1, 3, 2, 1), (2, 3, 1, 3, 1), (0, 1, 0)]
)
def test_gif_frames_are_whole(tmp_path: Path, disposals: tuple[int, ...], cover: bool) -> None:
    for seed in range(4):
        parts = parts_of(seed, disposals, cover)
        (tmp_path / "a.gif").write_bytes(gif(9, 6, parts))
        frames = list(read_frames(tmp_path / "a.gif"))
        for found, expected in zip(frames, composed(9, 6, parts), strict=True):
            assert np.array_equal(rgba(found), expected)
        assert [frame.duration for frame in frames] == [10.0 * part[-1] for part in parts]


def test_a_gif_that_begins_with_a_part(tmp_path: Path) -> None:
    parts = parts_of(0, (1, 1, 1), True)[1:]
    (tmp_path / "a.gif").write_bytes(gif(9, 6, parts))
    for found, expected in zip(read_frames(tmp_path / "a.gif"), composed(9, 6, parts), strict=True):
        assert np.array_equal(rgba(found), expected)


@pytest.mark.parametrize(("loop", "plays"), [(None, 1), (0, 0), (1, 2), (7, 8)])
def test_gif_loops(tmp_path: Path, loop: int | None, plays: int) -> None:
    (tmp_path / "a.GIF").write_bytes(gif(9, 6, parts_of(0, (1, 1), True), loop))
    info = animation_info(tmp_path / "a.GIF")
    assert (info.format, info.width, info.height) == ("gif", 9, 6)
    assert (info.num_frame, info.plays) == (2, plays)
    write_animation(tmp_path / "b.gif", read_frames(tmp_path / "a.GIF"), plays=info.plays)
    with Image.open(tmp_path / "b.gif") as image:
        assert image.info.get("loop") == loop


def sprites(count: int, transparent: bool, colours: int = 200) -> list[Frame]:
    """Returns frames with a moving square, before a still ground or before nothing."""
    generator = np.random.default_rng(0)
    palette = generator.integers(0, 256, (colours, 3), dtype=np.uint8)
    ground = palette[generator.integers(0, colours, (20, 31))].transpose(2, 0, 1)
    frames = []
    for number in range(count):
        pixels = ground.copy()
        pixels[:, 3:9, number : number + 6] = palette[number][:, None, None]
        alpha = np.zeros((1, 20, 31), np.uint8)
        alpha[:, 2:15, 2 * number : 2 * number + 9] = 255
        frames.append(Frame(pixels, alpha if transparent else None, 40 + 10 * number))
    return frames


@pytest.mark.parametrize("transparent", [False, True])
@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.apng", "ä %.WebP"])
def test_frames_durations_and_plays_are_kept(tmp_path: Path, name: str, transparent: bool) -> None:
    given = sprites(5, transparent)
    given[2:2] = [given[1]] * 2  # equal frames stay separate
    assert write_animation(tmp_path / name, given, plays=3, quality=100) == ()
    info = animation_info(tmp_path / name)
    assert (info.num_frame, info.plays, info.width, info.height) == (7, 3, 31, 20)
    found = list(read_frames(tmp_path / name))
    for ours, theirs in zip(found, given, strict=True):
        assert np.array_equal(rgba(ours), rgba(theirs))
        assert ours.duration == theirs.duration
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("target", ["b.gif", "b.png", "b.webp"])
@pytest.mark.parametrize("disposals", [(1, 3, 2, 1), (2, 2, 2)])
def test_a_gif_is_doubled(tmp_path: Path, target: str, disposals: tuple[int, ...]) -> None:
    parts = parts_of(1, disposals, False)
    (tmp_path / "a.gif").write_bytes(gif(9, 6, parts))
    doubled = (
        Frame(double(f.pixels), None if f.alpha is None else double(f.alpha), f.duration)
        for f in read_frames(tmp_path / "a.gif")
    )
    write_animation(tmp_path / target, doubled, quality=100)
    expected = composed(9, 6, parts)
    for found, frame in zip(read_frames(tmp_path / target), expected, strict=True):
        assert np.array_equal(rgba(found), double(frame))


def test_frames_may_turn_transparent_and_back(tmp_path: Path) -> None:
    mixed = [*sprites(3, True), *sprites(2, False), *sprites(4, True), *sprites(1, False)]
    for name in ("a.gif", "a.png", "a.webp"):
        write_animation(tmp_path / name, mixed, quality=100)
        for found, expected in zip(read_frames(tmp_path / name), mixed, strict=True):
            assert np.array_equal(rgba(found), rgba(expected))


def test_gif_reduces_colours_without_dithering(tmp_path: Path) -> None:
    ramp = np.stack(np.meshgrid(np.arange(0, 256, 4), np.arange(0, 256, 4)))
    pixels = np.concatenate([ramp, 255 - ramp[:1]]).astype(np.uint8)
    pixels[:, :20] = np.array([9, 200, 31], np.uint8)[:, None, None]
    alpha = np.full((1, 64, 64), 255, np.uint8)
    alpha[:, 40:, :9] = 100
    given = [Frame(pixels, alpha, 50.0), Frame(pixels[:, ::-1].copy(), None, 50.0)]
    notes = write_animation(tmp_path / "a.gif", given, icc=b"profile")
    assert len(notes) == 3
    assert "colour profile" in notes[0]
    assert "partial transparency" in notes[1]
    assert "without dithering" in notes[2]
    found = list(read_frames(tmp_path / "a.gif"))
    assert np.array_equal(found[0].alpha, np.where(alpha < 128, 0, 255))
    for ours, theirs in zip(found, given, strict=True):
        seen = ours.alpha is None or ours.alpha[0] > 0
        wrong = abs(ours.pixels.astype(int) - theirs.pixels)[:, seen].ravel()
        assert wrong.mean() < 10
    flat = found[0].pixels[:, :20]
    assert (flat == flat[:, :1, :1]).all()  # a dither would make a pattern


def test_gif_durations_keep_their_sum(tmp_path: Path) -> None:
    frames = [Frame(f.pixels, None, 100 / 3) for f in sprites(6, False)]
    notes = write_animation(tmp_path / "a.gif", frames)
    assert "their sum is kept" in notes[0]
    durations = [frame.duration for frame in read_frames(tmp_path / "a.gif")]
    assert durations == [30, 40, 30, 30, 40, 30]
    write_animation(tmp_path / "a.png", frames)
    found = [frame.duration for frame in read_frames(tmp_path / "a.png")]
    assert found == pytest.approx([100 / 3] * 6, abs=0.05)


def test_unchanged_parts_are_not_stored_again(tmp_path: Path) -> None:
    still = [sprites(1, False)[0]] * 20
    for name in ("a.gif", "a.png", "a.webp"):
        write_animation(tmp_path / f"one_{name}", still[:1])
        write_animation(tmp_path / name, still)
        one = (tmp_path / f"one_{name}").stat().st_size
        assert (tmp_path / name).stat().st_size < 2 * one + 3000


def test_lossy_webp_keeps_a_profile(tmp_path: Path) -> None:
    smooth = np.tile(np.arange(64, dtype=np.uint8), (3, 32, 1))
    frames = [Frame(smooth, None, 40), Frame(smooth[:, :, ::-1].copy(), None, 50)]
    icc = b"\0" * 16 + b"RGB " + b"\0" * 108
    for name in ("a.webp", "a.png"):
        assert write_animation(tmp_path / name, frames, icc=icc) == ()
        assert animation_info(tmp_path / name).icc == icc
        for found, expected in zip(read_frames(tmp_path / name), frames, strict=True):
            assert abs(found.pixels.astype(int) - expected.pixels).max() < 12


def test_the_picture_before_an_apng_is_no_frame(tmp_path: Path) -> None:
    images = [Image.fromarray(f.pixels.transpose(1, 2, 0)) for f in sprites(3, False)]
    images[0].save(tmp_path / "a.png", save_all=True, append_images=images[1:], default_image=True)
    assert animation_info(tmp_path / "a.png").num_frame == 2
    found = list(read_frames(tmp_path / "a.png"))
    assert len(found) == 2
    assert np.array_equal(found[0].pixels, sprites(3, False)[1].pixels)


def test_what_is_no_animation(tmp_path: Path) -> None:
    Image.new("RGB", (5, 5)).save(tmp_path / "a.gif")
    Image.new("RGB", (5, 5)).save(tmp_path / "a.jpg")
    assert animation_info(tmp_path / "a.gif") is None
    assert animation_info(tmp_path / "a.jpg") is None
    write_animation(tmp_path / "a.png", sprites(1, False))
    assert animation_info(tmp_path / "a.png") is None
    assert read_picture(tmp_path / "a.png").pixels.shape == (3, 20, 31)
    assert animation_format_of(Path("A.WEBP")) == "webp"


def test_errors(tmp_path: Path) -> None:
    target = tmp_path / "out" / "a.gif"
    with pytest.raises(UserError, match="at least one frame"):
        write_animation(target, [])
    with pytest.raises(UserError, match=r"frame 2 is 62×40; the first is 31×20"):
        small, large = sprites(2, False)
        write_animation(target, [small, Frame(double(large.pixels), None, 10)])
    with pytest.raises(UserError, match="cannot be written as"):
        write_animation(tmp_path / "a.mp3", sprites(2, False))
    assert not target.exists()
    assert not list(target.parent.iterdir())
    write_animation(target, sprites(4, False))
    target.write_bytes(target.read_bytes()[: target.stat().st_size // 2])
    with pytest.raises(UserError, match=r"a\.gif"):
        list(read_frames(target))


def test_frames_are_written_one_by_one(tmp_path: Path) -> None:
    alive, most = set(), 0

    def frames():
        nonlocal most
        for number, frame in enumerate(sprites(12, False)):
            alive.add(number)
            fresh = Frame(frame.pixels.copy(), None, 10)
            weakref.finalize(fresh.pixels, alive.discard, number)
            most = max(most, len(alive))
            yield fresh
            del fresh

    for name in ("a.gif", "a.png", "a.webp"):
        write_animation(tmp_path / name, frames())
    assert most <= 3
