from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms
from support.upscaling import save, small_network, texture

from srtoolbox.errors import UserError
from srtoolbox.media.image_file import read_picture, write_picture
from srtoolbox.media.metadata import Metadata
from srtoolbox.media.picture import Picture, resize_to
from srtoolbox.upscaling.options import upscale_options
from srtoolbox.upscaling.pictures import choose_frames, upscale_burst, upscale_picture


def rounded(values: np.ndarray, top: int = 255) -> np.ndarray:
    return np.floor(values.clip(0, 1).astype(np.float64) * top + 0.5)


class TestPicture:
    def test_the_file_has_the_rounded_result(self, tmp_path, upscaler):
        run, pixels = upscaler(small_network()), texture(14, 18)
        source, target = save(tmp_path / "a.png", pixels), tmp_path / "out" / "a.png"
        result = upscale_picture(run, source, target, upscale_options({}))
        assert (result.path, result.width, result.height, result.notes) == (target, 36, 28, ())
        written = np.asarray(Image.open(target)).transpose(2, 0, 1)
        assert np.array_equal(written, rounded(run.image(pixels)))

    def test_sixteen_bits_with_transparency_profile_and_exif(self, tmp_path, upscaler):
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        exif = Image.Exif()
        exif[0x010F] = "camera"
        pixels, alpha = texture(12, 10, dtype=np.uint16), texture(12, 10, 1, np.uint16)
        metadata = Metadata(icc=profile, exif=exif.tobytes())
        source = tmp_path / "deep.png"
        write_picture(source, Picture(pixels, alpha, metadata))
        run = upscaler(small_network("Bicubic"))
        upscale_picture(run, source, tmp_path / "big.png", upscale_options({"alpha": "bicubic"}))
        big = read_picture(tmp_path / "big.png")
        assert big.pixels.dtype == big.alpha.dtype == np.uint16
        assert big.pixels.shape == (3, 24, 20)
        assert big.metadata.icc == profile
        own = Image.Exif()
        own.load(big.metadata.exif)
        assert own[0x010F] == "camera"

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_orientation_is_applied_once(self, tmp_path, upscaler, orientation):
        exif = Image.Exif()
        exif[0x0112] = orientation
        pixels = texture(6, 9)
        stored = save(tmp_path / "a.png", pixels, exif=exif)
        upright = read_picture(stored).pixels
        upscale_picture(upscaler(), stored, tmp_path / "big.png", upscale_options({}))
        image = Image.open(tmp_path / "big.png")
        assert image.getexif().get(0x0112, 1) == 1
        assert np.array_equal(
            np.asarray(image).transpose(2, 0, 1), rounded(upscaler().image(upright))
        )

    def test_the_result_is_resized_and_says_so(self, tmp_path, upscaler):
        run, pixels = upscaler(small_network()), texture(20, 30)
        source = save(tmp_path / "a.png", pixels)
        result = upscale_picture(
            run, source, tmp_path / "b.png", upscale_options({"outscale": 1.5})
        )
        assert (result.width, result.height) == (45, 30)
        assert result.notes == ("the network enlarges by 2; its result is resized",)
        whole = rounded(run.image(pixels)).astype(np.uint8)
        written = np.asarray(Image.open(result.path)).transpose(2, 0, 1)
        assert np.array_equal(written, resize_to(whole, 45, 30))
        options = upscale_options({"width": 90})
        result = upscale_picture(run, source, tmp_path / "c.png", options)
        assert (result.width, result.height) == (90, 60)

    def test_grey_stays_grey(self, tmp_path, upscaler):
        source = save(tmp_path / "grey.png", texture(8, 9, 1))
        upscale_picture(upscaler(), source, tmp_path / "big.png", upscale_options({}))
        assert Image.open(tmp_path / "big.png").mode == "L"

    def test_float_tiff(self, tmp_path, upscaler):
        pixels = texture(8, 9, dtype=np.float32)
        tifffile.imwrite(tmp_path / "a.tif", pixels.transpose(1, 2, 0), photometric="rgb")
        upscale_picture(upscaler(), tmp_path / "a.tif", tmp_path / "b.tif", upscale_options({}))
        big = tifffile.imread(tmp_path / "b.tif")
        expected = upscaler().image(pixels).clip(0, 1)
        assert big.dtype == np.float32
        assert np.allclose(big.transpose(2, 0, 1), expected, atol=1e-6)

    def test_a_multi_frame_network_on_one_picture(self, tmp_path, upscaler):
        run = upscaler(small_network("TDAN", 4))
        source = save(tmp_path / "a.png", texture(16, 16))
        result = upscale_picture(run, source, tmp_path / "b.png", upscale_options({}))
        assert (result.width, result.height) == (64, 64)
        assert result.notes == ("the network sees 5 times the same picture",)


class TestBurst:
    @pytest.fixture
    def files(self, tmp_path):
        return [save(tmp_path / f"{t}.png", np.roll(texture(16, 20), t, axis=2)) for t in range(4)]

    def test_the_network_gets_all_pictures(self, tmp_path, upscaler, files):
        run = upscaler(small_network("DSTCSRNetPlus", 4))
        options = upscale_options({"reference": 2})
        result = upscale_burst(run, files, tmp_path / "b.png", options)
        frames = [read_picture(path).pixels for path in files]
        written = np.asarray(Image.open(result.path)).transpose(2, 0, 1)
        assert np.array_equal(written, rounded(run.frames(frames, 2)))
        assert result.notes == ()

    def test_too_few_pictures(self, tmp_path, upscaler, files):
        run = upscaler(small_network("TDAN", 4))
        result = upscale_burst(run, files, tmp_path / "b.png", upscale_options({}))
        frames = [read_picture(path).pixels for path in files]
        written = np.asarray(Image.open(result.path)).transpose(2, 0, 1)
        assert np.array_equal(written, rounded(run.frames([*frames, frames[0]], 0)))
        assert "needs 5 pictures, the burst has 4: its reference is repeated" in result.notes[0]

    def test_a_single_image_network_uses_the_reference(self, tmp_path, upscaler, files):
        run = upscaler(small_network())
        result = upscale_burst(run, files, tmp_path / "b.png", upscale_options({"reference": 3}))
        written = np.asarray(Image.open(result.path)).transpose(2, 0, 1)
        assert np.array_equal(written, rounded(run.image(read_picture(files[3]).pixels)))
        assert result.notes == ("1 picture of 4 used: the network takes no more",)

    @pytest.mark.parametrize(
        ("count", "reference", "expected"),
        [(9, 0, [0, 1, 2, 3, 4]), (9, 4, [2, 3, 4, 5, 6]), (9, 8, [4, 5, 6, 7, 8])],
    )
    def test_the_nearest_pictures(self, upscaler, count, reference, expected):
        run = upscaler(small_network("TDAN", 4))
        indices, place, _ = choose_frames(run, count, upscale_options({"reference": reference}))
        assert indices == expected
        assert indices[place] == reference

    def test_faults(self, tmp_path, upscaler, files):
        run = upscaler(small_network("DSTCSRNetPlus", 4))
        with pytest.raises(UserError, match="reference 4 does not exist; the burst has 4"):
            upscale_burst(run, files, tmp_path / "b.png", upscale_options({"reference": 4}))
        save(files[1], texture(16, 21))
        with pytest.raises(UserError, match=r"1\.png: is 21×16, RGB, uint8, but 0\.png is 20×16"):
            upscale_burst(run, files, tmp_path / "b.png", upscale_options({}))
