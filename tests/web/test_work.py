"""What the page does with files: restore, compare, refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.images import picture, save

from srtoolbox.errors import RunError, UserError
from srtoolbox.media.image_file import read_picture
from srtoolbox.upscaling.options import UpscaleOptions
from srtoolbox.upscaling.pictures import upscale_picture
from srtoolbox.upscaling.upscaler import Upscaler
from srtoolbox.web import work
from srtoolbox.web.choices import Choices
from srtoolbox.web.queue import Cancelled, Control
from srtoolbox.web.work import Results, Settings, Workplace, part_of, safe_name

CPU = {"device": "cpu"}


def chosen(**options: object) -> Settings:
    return Settings("tiny2", None, {**CPU, **options})


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_a_picture_is_that_of_upscale_picture(
    place: Workplace, choices: Choices, tmp_path: Path, suffix: str
) -> None:
    upload = tmp_path / f"stored{suffix}"
    exif = Image.Exif()
    exif[0x010E] = "a title"
    Image.fromarray(picture(40, 30)).save(upload, exif=exif, dpi=(300, 300))
    result = place.restore_picture(upload, f"my photo{suffix}", chosen(tile=16), Control())
    assert result.path.name == f"my photo_x2{suffix}"
    assert "30×40 → 60×80; EDSR ×2" in result.text
    options = UpscaleOptions(device="cpu", tile=16)
    expected = tmp_path / f"expected{suffix}"
    upscale_picture(Upscaler(choices.networks("tiny2"), options), upload, expected, options)
    assert result.path.read_bytes() == expected.read_bytes()
    assert read_picture(result.path).metadata.dpi == pytest.approx((300, 300), abs=0.01)
    sizes = [Image.open(path).size for path in (result.before, result.after)]
    assert sizes == [(60, 80), (60, 80)]
    assert not list(result.path.parent.rglob("input"))  # the copy of the upload is gone


def test_deep_and_transparent_pictures_are_shown_with_8_bits(
    place: Workplace, tmp_path: Path
) -> None:
    deep = save(tmp_path / "deep.png", picture(12, 10, dtype=np.uint16))
    result = place.restore_picture(deep, "deep.png", chosen(), Control())
    assert read_picture(result.path).pixels.dtype == np.uint16
    assert read_picture(result.after).pixels.dtype == np.uint8
    clear = tmp_path / "clear.png"
    Image.fromarray(np.zeros((12, 10, 4), np.uint8)).save(clear)
    result = place.restore_picture(clear, "clear.png", chosen(), Control())
    assert np.asarray(Image.open(result.after)).min() == 255  # on white


def test_a_result_that_is_too_large_is_shown_smaller(
    place: Workplace, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(work, "MAX_SHOWN", 30)
    upload = save(tmp_path / "a.png", picture(20, 40))
    result = place.restore_picture(upload, "a.png", chosen(), Control())
    assert Image.open(result.path).size == (80, 40)
    assert Image.open(result.before).size == Image.open(result.after).size == (30, 15)
    assert any("shown with 30 pixels" in note for note in result.notes)


def test_tiles_are_counted_and_a_cancelled_job_stops_between_them(
    place: Workplace, tmp_path: Path
) -> None:
    upload = save(tmp_path / "a.png", picture(32, 64))
    seen = []

    class Watching(Control):
        def progress(self, done: int, total: int) -> None:
            seen.append((done, total))
            if len(seen) == 3:
                self.cancel()
            super().progress(done, total)

    with pytest.raises(Cancelled):
        place.restore_picture(upload, "a.png", chosen(tile=16), Watching())
    assert seen == [(0, 8), (1, 8), (2, 8)]
    assert not list((tmp_path / "results").iterdir())
    net = place.choices.networks("tiny2")[0]
    assert not net._forward_pre_hooks


def test_an_animation_is_enlarged_frame_by_frame(place: Workplace, tmp_path: Path) -> None:
    frames = [Image.fromarray(picture(10, 12, seed)) for seed in range(3)]
    upload = tmp_path / "a.gif"
    frames[0].save(upload, save_all=True, append_images=frames[1:], duration=40)
    control = Control()
    result = place.restore_media(upload, "clip ü.gif", chosen(container="mp4"), control)
    assert (result.path.name, result.kind) == ("clip ü_x2.gif", "animation")
    assert (control.done, control.total) == (3, 3)
    assert "12×10 → 24×20, 3 frames" in result.text
    with Image.open(result.path) as image:
        assert (image.n_frames, image.size, image.info["duration"]) == (3, (24, 20), 40)


def test_a_cancelled_animation_stops_and_leaves_nothing(place: Workplace, tmp_path: Path) -> None:
    frames = [Image.fromarray(picture(10, 12, seed)) for seed in range(3)]
    upload = tmp_path / "a.gif"
    frames[0].save(upload, save_all=True, append_images=frames[1:], duration=40)

    class Stopping(Control):
        def progress(self, done: int, total: int) -> None:
            if done == 1:
                self.cancel()
            super().progress(done, total)

    control = Stopping()
    with pytest.raises(Cancelled):
        place.restore_media(upload, "a.gif", chosen(), control)
    assert control.done == 1
    assert not list((tmp_path / "results").iterdir())


@pytest.mark.slow
def test_a_video_becomes_an_mp4(place: Workplace, tmp_path: Path) -> None:
    pytest.importorskip("av", reason='needs PyAV: pip install "srtoolbox[video]"')
    from support.videos import Clip

    upload = Clip(frames=5, audio="aac").make(tmp_path / "a.mkv")
    assert place.describe(upload, "a.mkv").startswith("video, 64×48")
    control = Control()
    result = place.restore_media(upload, "a.mkv", chosen(container="mp4"), control)
    assert (result.path.name, result.kind, control.done) == ("a_x2.mp4", "video", 5)
    assert "64×48 → 128×96" in result.text
    control = Control()
    control.cancel()
    with pytest.raises(Cancelled):
        place.restore_media(upload, "a.mkv", chosen(), control)
    assert len(list((tmp_path / "results").iterdir())) == 1
    upload = Clip(frames=5, subtitles="subrip").make(tmp_path / "b.mkv")
    result = place.restore_media(upload, "b.mkv", chosen(container="mp4"), Control())
    assert result.path.name == "b_x2.mkv"
    assert "MP4 cannot hold subtitle 1" in result.notes[0]


def test_compared_parts_equal_those_of_the_whole_picture(
    place: Workplace, choices: Choices, tmp_path: Path
) -> None:
    pixels = picture(150, 200)
    upload = save(tmp_path / "a.png", pixels)
    variants = [("tiny2", None), ("tiny3", None), ("tiny2", None)]
    control = Control()
    found = place.compare(upload, "a.png", variants, (0.5, 0.5), 64, CPU, control)
    assert [part.name for part in found] == ["Bicubic", "tiny2", "tiny3"]
    assert [part.network for part in found] == ["×3", "EDSR ×2", "EDSR ×3"]
    assert [part.params for part in found[1:]] == [choices[n].params for n in choices.names]
    assert {Image.open(part.image).size for part in found} == {(192, 192)}
    assert control.done == control.total == 2
    upscaler = Upscaler(choices.networks("tiny3"), UpscaleOptions(device="cpu"))
    whole = upscaler.image(pixels.transpose(2, 0, 1)).clip(0, 1) * 255
    part = whole[:, 43 * 3 : 107 * 3, 68 * 3 : 132 * 3].transpose(1, 2, 0)
    assert part.std() > 10
    assert np.abs(np.asarray(Image.open(found[2].image)) - part).max() < 1
    with pytest.raises(UserError, match="two or more weights"):
        place.compare(upload, "a.png", variants[:1], (0.5, 0.5), 64, CPU, control)


def test_the_overview_shows_the_part(place: Workplace, tmp_path: Path) -> None:
    upload = save(tmp_path / "a.png", np.full((100, 200), 90, np.uint8))
    path, size = place.overview(upload, "a.png", (0.25, 0.5), 64)
    values = np.asarray(Image.open(path))
    assert size == (200, 100) == values.shape[1::-1]
    assert (values[50, 18] == 0).all() and (values[50, 81] == 0).all()
    assert (values[50, 50] == 90).all() and (values[50, 150] == 90).all()


def test_pictures_of_several_bands(place: Workplace, tmp_path: Path) -> None:
    """A network for RGB gets each band by itself; the page shows the first three bands."""
    values = np.concatenate([picture(40, 36), picture(40, 36)[..., :2]], axis=2)
    np.save(tmp_path / "a.npy", values)
    result = place.restore_picture(tmp_path / "a.npy", "a.npy", chosen(), Control())
    assert result.path.name == "a_x2.npy" and np.load(result.path).shape == (80, 72, 5)
    assert result.notes == ("the network takes 3 bands, the picture has 5: each by itself",)
    shown = [np.asarray(Image.open(path)) for path in (result.before, result.after)]
    assert [image.shape for image in shown] == [(80, 72, 3)] * 2
    assert np.array_equal(shown[1], np.load(result.path)[..., :3])
    path, _ = place.overview(tmp_path / "a.npy", "a.npy", (0.5, 0.5), 32)
    assert Image.open(path).mode == "RGB"
    variants = [("tiny2", None), ("tiny3", None)]
    found = place.compare(tmp_path / "a.npy", "a.npy", variants, (0.5, 0.5), 32, CPU, Control())
    assert {Image.open(part.image).size for part in found} == {(96, 96)}


@pytest.mark.parametrize(
    ("centre", "side", "box"),
    [
        ((0.5, 0.5), 64, (68, 18, 64, 64)),
        ((0, 0), 64, (0, 0, 64, 64)),
        ((1, 2), 64, (136, 36, 64, 64)),
        ((0.5, 0.5), 5000, (0, 0, 200, 100)),
        ((0.5, 0.5), 1, (84, 34, 32, 32)),
    ],
)
def test_parts_lie_in_the_picture(centre: tuple, side: int, box: tuple) -> None:
    assert part_of(200, 100, centre, side) == box


class TestRefused:
    def line(self, place: Workplace, upload: Path, name: str | None = None) -> str:
        lines = set()
        for run in (
            lambda: place.describe(upload, name or upload.name),
            lambda: place.restore_picture(upload, name or upload.name, chosen(), Control()),
        ):
            with pytest.raises((UserError, RunError)) as caught:
                run()
            lines.add(str(caught.value))
        assert len(lines) == 1
        line = lines.pop()
        assert "\n" not in line and str(upload.parent) not in line
        assert "results" not in line
        results = upload.parent / "results"
        assert not results.exists() or not list(results.iterdir())
        return line

    def test_text(self, place: Workplace, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_text("text")
        (tmp_path / "a.png").write_text("text")
        assert "is no picture, animation or video" in self.line(place, tmp_path / "a.txt")
        line = self.line(place, tmp_path / "a.png", "bad name.png")
        assert line.startswith("bad name.png: no picture, or damaged")

    def test_many_bytes(self, place: Workplace, tmp_path: Path) -> None:
        upload = tmp_path / "a.bmp"
        upload.write_bytes(b"BM" + bytes(1_600_000))
        assert self.line(place, upload) == "a.bmp: has 1.5 MB; this page takes at most 1"

    def test_many_pixels(self, place: Workplace, tmp_path: Path) -> None:
        for suffix in (".png", ".gif", ".webp", ".tif"):
            upload = tmp_path / f"a{suffix}"
            Image.new("L", (400, 300)).save(upload)
            line = self.line(place, upload)
            assert "400×300 = 0.1 megapixels; this page takes at most 0.1" in line

    def test_long_animations(self, place: Workplace, tmp_path: Path) -> None:
        frames = [Image.fromarray(picture(4, 4, seed)) for seed in range(51)]
        frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=40)
        line = self.line(place, tmp_path / "a.gif")
        assert line == "a.gif: has 51 frames; this page takes at most 50 frames"

    def test_files_of_another_tab(self, place: Workplace, tmp_path: Path) -> None:
        frames = [Image.fromarray(picture(4, 4, seed)) for seed in range(2)]
        frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:])
        with pytest.raises(UserError, match=r"^a\.webp: is an animation; use the tab Video"):
            place.restore_picture(tmp_path / "a.webp", "a.webp", chosen(), Control())
        save(tmp_path / "a.png", picture(4, 4))
        with pytest.raises(UserError, match=r"^a\.png: is a picture; use the tab Picture"):
            place.restore_media(tmp_path / "a.png", "a.png", chosen(), Control())


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("photo.png", "photo.png"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\a b.JPG", "a b.JPG"),
        (".hidden.png", "hidden.png"),
        ("-rf.png", "rf.png"),
        ("照片 é.png", "照片 é.png"),
        ("a\0b:c|d?.png", "a_b_c_d_.png"),
        ("x" * 300 + ".png", "x" * 60 + ".png"),
        ("..", "file"),
        ("", "file"),
        ("a.p/ng", "ng"),
        ("a.<script>", "a.script"),
    ],
)
def test_names_are_safe(name: str, safe: str) -> None:
    assert safe_name(name) == safe


def test_a_newer_result_replaces_the_older(tmp_path: Path) -> None:
    results, folders = Results(), [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
    results.replace("one", folders[0])
    results.replace("two", folders[1])
    results.replace("one", folders[2])
    assert [folder.exists() for folder in folders] == [False, True, True]
    results.forget("one")
    results.forget("nobody")
    assert [folder.exists() for folder in folders] == [False, True, False]
