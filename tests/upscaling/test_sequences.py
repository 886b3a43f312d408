from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.scenes import scene
from support.upscaling import save, small_network, texture

from srtoolbox.errors import UserError
from srtoolbox.media import image_file
from srtoolbox.media.image_file import read_picture, write_picture
from srtoolbox.media.metadata import Metadata
from srtoolbox.media.picture import Picture, as_type
from srtoolbox.upscaling import sequences
from srtoolbox.upscaling.options import upscale_options
from srtoolbox.upscaling.sequences import upscale_sequence


@pytest.fixture
def clip(tmp_path):
    """Nine frames of two scenes, the second from frame 5 on, and their files."""
    frames = np.concatenate([scene(0, 5, 16, 20), scene(1, 4, 16, 20)])
    files = [save(tmp_path / f"in/f{at}.png", frame) for at, frame in enumerate(frames)]
    return frames, files


@pytest.fixture
def run(upscaler, tmp_path):
    """Upscales a sequence; returns the results by number, and the progress."""

    def upscale(net, files, out="out", done=(), suffix=".png", **options):
        checked, results, seen = upscale_options(options), {}, []
        targets = [tmp_path / out / f"{path.stem}{suffix}" for path in files]
        upscale_sequence(
            *(upscaler(net, **options), files, targets, checked),
            lambda *numbers: seen.append(numbers),
            is_done=lambda index: index in done,
            on_done=lambda index, result: results.__setitem__(index, result),
        )
        return results, seen

    return upscale


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def pixels(path: Path) -> np.ndarray:
    return read_picture(path).pixels


def test_windows_and_scene_cuts(clip, run, upscaler, tmp_path):
    frames, files = clip
    net = small_network("TDAN", 4)
    results, seen = run(net, files)
    assert sorted(results) == list(range(9))
    assert seen == [(number, 9) for number in range(1, 10)]
    assert (results[3].path, results[3].width, results[3].height, results[3].frames) == (
        *(tmp_path / "out/f3.png", 80, 64, 1),
    )
    own = upscaler(net)
    for index, numbers in {2: [0, 1, 2, 3, 4], 4: [2, 3, 4, 4, 4], 5: [5, 5, 5, 6, 7]}.items():
        expected = own.frames([frames[number] for number in numbers], 2)
        assert np.array_equal(pixels(results[index].path), as_type(expected, np.uint8))


@pytest.mark.parametrize("name", ["TDAN", pytest.param("MSTTSTVSR", marks=pytest.mark.slow)])
@pytest.mark.parametrize("done", [{0, 1, 2}, {0, 1, 2, 4, 5, 6, 7}, {3}])
def test_finished_frames_are_not_made_again(clip, run, tmp_path, name, done, monkeypatch):
    files, net = clip[1], small_network(name, 4)
    run(net, files)
    whole = contents(tmp_path / "out")
    (tmp_path / "again").mkdir()
    for index in done:
        for path in (tmp_path / "out").glob(f"f{index}*"):
            (tmp_path / "again" / path.name).write_bytes(b"finished")
    read = []

    def reading(path, **options):
        read.append(path)
        return read_picture(path, **options)

    monkeypatch.setattr(sequences, "read_picture", reading)
    results, seen = run(net, files, "again", done)
    assert sorted(results) == sorted(set(range(9)) - done)
    assert seen[-1] == (9, 9) and seen[0] == (len(done) + 1, 9)
    for name_of, content in contents(tmp_path / "again").items():
        is_done = int(name_of[1]) in done
        assert content == (b"finished" if is_done else whole[name_of])
    assert len(read) == len(set(read))


def test_windows_read_only_what_they_need(tmp_path, run, monkeypatch):
    files = [save(tmp_path / f"in/{at}.png", f) for at, f in enumerate(scene(0, 20, 16, 20))]
    read = []

    def reading(path, **options):
        read.append(int(path.stem))
        return read_picture(path, **options)

    monkeypatch.setattr(sequences, "read_picture", reading)
    done = set(range(20)) - {3, 16}
    run(small_network("TDAN", 4), files, done=done, scene_cut="off")
    assert read == [1, 2, 3, 4, 5, 14, 15, 16, 17, 18]
    read.clear()
    run(small_network("TDAN", 4), files, "two", done=done)
    assert read == [*range(8), *range(12, 20)]  # two more on each side show where scenes end
    read.clear()
    run(small_network("TDAN", 4), files, "three", done=range(20))
    assert read == []


def test_twice_the_frame_rate(clip, run, tmp_path):
    results, _ = run(small_network("MSTTSTVSR", 4), clip[1])
    names = sorted(contents(tmp_path / "out"))
    assert names == sorted([f"f{at}{part}.png" for at in range(9) for part in ("", "_mid")])
    assert (results[0].path.name, results[0].frames) == ("f0.png", 2)
    repeated = [
        np.array_equal(*(pixels(tmp_path / f"out/f{at}{p}.png") for p in ("", "_mid")))
        for at in range(9)
    ]
    assert [at for at, is_same in enumerate(repeated) if is_same] == [4, 8]
    (tmp_path / "out/f3_mid.png").unlink()
    again, _ = run(small_network("MSTTSTVSR", 4), clip[1], done=range(9))
    assert sorted(again) == [3] and (tmp_path / "out/f3_mid.png").exists()


def test_names_that_collide(clip, run, tmp_path):
    files = [clip[1][0].rename(tmp_path / "in/f1_mid.png"), *clip[1][1:]]
    with pytest.raises(UserError, match=r"f1_mid.png: would be the result of a frame, and"):
        run(small_network("MSTTSTVSR", 4), files)
    assert len(run(small_network("TDAN", 4), files)[0]) == 9


def test_depth_and_metadata_are_those_of_each_file(clip, run, tmp_path):
    frames, files = clip
    icc = Image.open(save(tmp_path / "p.png", texture(8, 8))).info.get("icc_profile")
    deep = as_type(frames[1], np.uint16)
    write_picture(files[1], Picture(deep, metadata=Metadata(icc=icc, dpi=(300.0, 300.0))))
    save(files[2], frames[2][:1])
    results, _ = run(small_network("TDAN", 4), files)
    found = [read_picture(results[at].path) for at in range(4)]
    assert [picture.pixels.dtype.name for picture in found] == ["uint8", "uint16", "uint8", "uint8"]
    assert [len(picture.pixels) for picture in found] == [3, 3, 1, 3]
    assert found[1].metadata.dpi == pytest.approx((300, 300), abs=0.1)
    results, _ = run(small_network("TDAN", 4), files, "b", suffix=".jpg", outscale=3)
    assert read_picture(results[0].path).format == "jpg"
    assert (results[0].width, results[0].height) == (60, 48)
    assert "the network enlarges by 4; its result is resized" in results[0].notes


@pytest.mark.parametrize("mode", ["model", "bicubic", "drop"])
def test_transparency(clip, run, tmp_path, mode):
    frames, files = clip
    for at, file in enumerate(files[:5]):
        matte = np.full((1, 16, 20), 255, np.uint8)
        matte[:, :, : 4 + at] = 0
        write_picture(file, Picture(frames[at], matte))
    results, _ = run(small_network("TDAN", 4), files, alpha=mode)
    found = [read_picture(results[at].path) for at in range(9)]
    assert [p.alpha is not None for p in found] == [mode != "drop"] * 5 + [False] * 4
    if mode == "bicubic":
        assert all((p.alpha[0, :, :8] == 0).all() for p in found[:5])


def test_a_broken_frame_splits_the_clip(clip, run, upscaler, tmp_path):
    frames, files = clip
    files[2].write_bytes(files[2].read_bytes()[:50])
    net = small_network("TDAN", 4)
    with pytest.raises(UserError, match=r"f2.png: truncated or broken"):
        run(net, files)
    assert sorted(contents(tmp_path / "out")) == [f"f{at}.png" for at in range(9) if at != 2]
    expected = upscaler(net).frames([frames[at] for at in (3, 3, 3, 4, 3)], 2)
    assert np.array_equal(pixels(tmp_path / "out/f3.png"), as_type(expected, np.uint8))


def test_sizes_that_differ(clip, run, tmp_path):
    save(clip[1][6], texture(16, 21))
    with pytest.raises(UserError, match=r"f6.png: is 21×16, but f0.png is 20×16"):
        run(small_network("TDAN", 4), clip[1])
    assert not (tmp_path / "out").exists()


def test_orientation(clip, run):
    exif = Image.Exif()
    exif[0x0112] = 6
    for file, frame in zip(clip[1], clip[0], strict=True):
        save(file, frame, exif=exif)
    results, _ = run(small_network("TDAN", 4), clip[1])
    assert (results[0].width, results[0].height) == (64, 80)
    results, _ = run(small_network("TDAN", 4), clip[1], "b", auto_orient=False)
    assert (results[0].width, results[0].height) == (80, 64)
    assert image_file.read_picture(results[0].path).pixels.shape == (3, 80, 64)
