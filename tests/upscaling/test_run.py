from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.upscaling import save, small_network, texture

import srtoolbox
from srtoolbox.config.schema import OptionErrors
from srtoolbox.errors import UserError
from srtoolbox.upscaling.options import GROUPS, UpscaleOptions, upscale_options
from srtoolbox.upscaling.run import estimate, find


class TestArrays:
    def test_a_picture(self, upscaler):
        net, pixels = small_network(), texture(10, 12)
        result = srtoolbox.upscale(net, pixels.transpose(1, 2, 0))
        expected = np.floor(upscaler(net).image(pixels).clip(0, 1) * np.float64(255) + 0.5)
        assert result.dtype == np.uint8
        assert np.array_equal(result.transpose(2, 0, 1), expected)

    def test_grey(self):
        pixels = texture(10, 12, 1, np.uint16)[0]
        result = srtoolbox.upscale(small_network(), pixels, outscale=1.5)
        assert (result.shape, result.dtype) == ((15, 18), np.uint16)

    def test_another_byte_order(self):
        pixels = texture(10, 12, 1, np.uint16)[0]
        result = srtoolbox.upscale(small_network(), pixels.astype(">u2"))
        assert np.array_equal(result, srtoolbox.upscale(small_network(), pixels))

    def test_floats(self):
        pixels = texture(10, 12, dtype=np.float32).transpose(1, 2, 0).astype(np.float64)
        result = srtoolbox.upscale(small_network(), pixels)
        assert result.dtype == np.float64
        assert 0 <= result.min() <= result.max() <= 1

    def test_a_burst(self, upscaler):
        net = small_network("DSTCSRNetPlus", 4)
        frames = [np.roll(texture(16, 16), t, axis=2) for t in range(3)]
        arrays = [frame.transpose(1, 2, 0) for frame in frames]
        result = srtoolbox.upscale(net, arrays, reference=1)
        expected = np.floor(upscaler(net).frames(frames, 1).clip(0, 1) * np.float64(255) + 0.5)
        assert np.array_equal(result.transpose(2, 0, 1), expected)

    def test_tensors(self):
        images = torch.from_numpy(np.stack([texture(8, 9, dtype=np.float32)] * 2)).double()
        result = srtoolbox.upscale(small_network(), images)
        assert (result.shape, result.dtype) == ((2, 3, 16, 18), torch.float64)
        single = srtoolbox.upscale(small_network(), images[0].requires_grad_())
        assert torch.allclose(single, result[0], atol=1e-6)

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            (np.zeros((2, 3, 4, 5), np.uint8), r"expected arrays \(H, W\) or \(H, W, C\)"),
            (np.zeros((4, 4), np.int64), "expected uint8, uint16, or floats"),
            ([np.zeros((4, 4)), np.zeros((4, 5))], "the frames differ"),
            (torch.zeros(3, 4, 4, dtype=torch.uint8), "of floats"),
            ([], "expected an array, a tensor, a path"),
            ([1, 2], "expected an array, a tensor, a path"),
            (Image.new("RGB", (4, 4)), "got Image; numpy.asarray makes an array"),
            (np.full((4, 4, 3), 200.0), "floats from 200 to 200; expected 0 to 1"),
            (torch.full((3, 4, 4), -1.0), "floats from -1 to -1; expected 0 to 1"),
            (torch.zeros(0, 3, 4, 4), "of floats"),
        ],
    )
    def test_faults(self, source, message):
        with pytest.raises(UserError, match=message):
            srtoolbox.upscale(small_network(), source)

    def test_unknown_options(self):
        with pytest.raises(OptionErrors, match="upscale: tiles: unknown; did you mean 'tile'"):
            srtoolbox.upscale(small_network(), np.zeros((4, 4)), tiles=3)


class TestFiles:
    def test_earlier_results_in_sub_folders_are_no_inputs(self, tmp_path):
        save(tmp_path / "in" / "a.png", texture(8, 8))
        for folder in ("x2", "again"):
            output = tmp_path / "in" / folder
            report = srtoolbox.upscale(small_network(), tmp_path / "in", output, recursive=True)
            assert [result.path for result in report.done] == [output / "a.png"]

    def test_a_file_by_a_weight_file(self, tmp_path, weights):
        source = save(tmp_path / "a.png", texture(8, 9))
        report = srtoolbox.upscale(weights, source, tmp_path / "b.png")
        assert [result.path for result in report.done] == [tmp_path / "b.png"]
        array = srtoolbox.upscale(srtoolbox.load(weights), np.asarray(Image.open(source)))
        assert np.array_equal(np.asarray(Image.open(tmp_path / "b.png")), array)

    def test_a_chain(self, tmp_path, weights):
        source = save(tmp_path / "a.png", texture(8, 9))
        report = srtoolbox.upscale([weights, small_network()], [str(source)], str(tmp_path / "out"))
        assert (report.done[0].width, report.done[0].height) == (36, 32)

    def test_no_network(self, tmp_path):
        with pytest.raises(UserError, match="expected a network or a file, got int"):
            srtoolbox.upscale([3], np.zeros((4, 4)))


def test_estimate(tmp_path, upscaler):
    for number in range(3):
        save(tmp_path / "in" / f"{number}.png", texture(50, 40))
    (tmp_path / "in" / "bad.png").write_bytes(b"x")
    options, run = upscale_options({"outscale": 3}), upscaler()
    found = find(run, [tmp_path / "in"], tmp_path / "out", options)
    expected = estimate(run, found.jobs, options)
    assert (expected.counts, expected.frames) == ({"picture": 4}, 3)
    assert expected.megapixels == pytest.approx(3 * 150 * 120 / 1e6)
    assert expected.seconds > 0
    assert expected.rows[1][2:] == ("40×50", "120×150")
    assert not (tmp_path / "out").exists()


class TestOptions:
    def test_every_option_belongs_to_one_group(self):
        names = [name for group in GROUPS.values() for name in group]
        assert sorted(names) == sorted(UpscaleOptions.__dataclass_fields__)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"tile": -1}, "tile: must be >= 0, got -1"),
            ({"outscale": 2.0, "width": 5}, "cannot be combined with width and height"),
            ({"scene_cut": 1.5}, "must be above 0 and at most 1, got 1.5"),
            ({"scene_cut": "never"}, "expected a number or 'auto' or 'off'"),
            ({"start": 4.0, "end": 3.0}, "end: must be after start 4, got 3"),
            ({"suffix": "../x"}, "must not contain / or"),
            ({"bit_depth": 12}, "bit_depth: expected 'same' or 8 or 16"),
            ({"bands": [0]}, r"bands\.0: must be >= 1"),
        ],
    )
    def test_impossible_values(self, options, message):
        with pytest.raises(OptionErrors, match=message):
            upscale_options(options)

    def test_the_function_is_not_hidden_by_the_module(self):
        import srtoolbox.upscaling as room

        assert Path(str(room.__file__)).parent.name == "upscaling"
        assert callable(srtoolbox.upscale)
