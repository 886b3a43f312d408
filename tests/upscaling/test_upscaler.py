from __future__ import annotations

import numpy as np
import pytest
import torch
from support.upscaling import small_network, texture
from torch import nn

from srtoolbox.errors import RunError, UserError
from srtoolbox.inference.prediction import EnhanceOptions, predict
from srtoolbox.media.picture import bicubic


def plain(net: nn.Module, *frames: np.ndarray, reference: int | None = 0, **enhance) -> np.ndarray:
    """The result of a network on whole frames, without Upscaler."""
    stack = torch.stack([torch.from_numpy(f.astype(np.float32) / 255) for f in frames])[None]
    return predict(net, stack, reference, EnhanceOptions(**enhance))[0].numpy()


class TestPictures:
    def test_equals_the_network(self, upscaler):
        net, pixels = small_network(), texture(20, 30)
        assert np.array_equal(upscaler(net).image(pixels), plain(net, pixels))

    @pytest.mark.parametrize("dtype", [np.uint16, np.float32])
    def test_types_are_ranges(self, upscaler, dtype):
        eight = texture(12, 10)
        other = eight.astype(np.float32) / 255 if dtype == np.float32 else eight.astype(dtype) * 257
        run = upscaler(small_network())
        assert np.allclose(run.image(other), run.image(eight), atol=1e-6)

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["EDSR", "UpConv7", "DSRNet"])
    def test_tiles_of_measured_halo_equal_the_whole(self, upscaler, name):
        net, pixels = small_network(name), texture(70, 130)
        tiled = upscaler(net, tile=32)
        assert 0 < tiled.halo_of() < 64
        difference = tiled.image(pixels) - upscaler(net, tile=0).image(pixels)
        assert np.abs(difference).max() <= 1e-5

    def test_grey_is_the_mean_of_three_channels(self, upscaler):
        net, pixels = small_network(), texture(9, 11, channels=1)
        expected = plain(net, pixels.repeat(3, axis=0)).mean(0, keepdims=True)
        assert np.allclose(upscaler(net).image(pixels), expected, atol=1e-6)

    def test_four_channels_are_refused(self, upscaler):
        with pytest.raises(UserError, match="EDSR takes 3 channels, the input has 4"):
            upscaler(small_network()).image(texture(8, 8, channels=4))

    def test_enhancements(self, upscaler):
        net, pixels = small_network(), texture(16, 14)
        run = upscaler(net, self_ensemble=True, back_projection=2)
        expected = plain(net, pixels, self_ensemble=True, back_projection=2)
        assert np.array_equal(run.image(pixels), expected)

    def test_a_chain_multiplies_scales(self, upscaler):
        first, second = small_network(), small_network("UpConv7")
        run, pixels = upscaler(first, second), texture(9, 8)
        assert run.scale == 4
        middle = torch.from_numpy(plain(first, pixels))[None]
        with torch.no_grad():
            assert np.allclose(run.image(pixels), second(middle)[0].numpy(), atol=1e-6)

    def test_blend(self, upscaler):
        net, pixels = small_network(), texture(9, 8)
        enlarged = bicubic(pixels.astype(np.float32) / 255, 16, 18)
        expected = 0.25 * plain(net, pixels) + 0.75 * enlarged
        assert np.allclose(upscaler(net, blend=0.25).image(pixels), expected, atol=1e-6)

    def test_batches_equal_single_pictures(self, upscaler):
        run = upscaler(small_network())
        pictures = [texture(9, 8), texture(9, 8)[:, ::-1]]
        for one, batched in zip(pictures, run.images(pictures), strict=True):
            assert np.allclose(run.image(one), batched, atol=1e-6)


class TestFrames:
    def test_a_window_equals_the_network(self, upscaler):
        net = small_network("TDAN", 4)
        frames = [texture(16, 16 + 0 * t) ^ t for t in range(5)]
        run = upscaler(net)
        assert (run.num_frame, run.reference, run.takes_any_number) == (5, 2, False)
        expected = plain(net, *frames, reference=2)
        assert np.array_equal(run.frames(frames, 2), expected)

    def test_networks_for_any_number(self, upscaler):
        run = upscaler(small_network("DSTCSRNetPlus", 4), frames=3)
        assert (run.num_frame, run.takes_any_number) == (3, True)

    def test_space_and_time(self, upscaler):
        net = small_network("MSTTSTVSR", 4)
        run = upscaler(net)
        assert (run.restores_all, run.time_scale) == (True, 2)
        frames = [texture(16, 16)] * run.num_frame
        assert run.frames(frames, None).shape == (2 * run.num_frame - 1, 3, 64, 64)
        assert run.image(frames[0]).shape == (3, 64, 64)

    def test_wrong_numbers_are_refused(self, upscaler):
        with pytest.raises(UserError, match="frames: EDSR sees one frame at a time, got 3"):
            upscaler(small_network(), frames=3)
        with pytest.raises(UserError, match="frames: TDAN sees 5 frames at a time, got 3"):
            upscaler(small_network("TDAN", 4), frames=3)
        with pytest.raises(UserError, match="only the first network of a chain"):
            upscaler(small_network(), small_network("TDAN", 4))


class Limited(nn.Module):
    """A network that needs too much memory above a size, or returns what is not finite."""

    scales, scale = (1,), 1

    def __init__(self, limit: int = 10**9, nan_in: str = "") -> None:
        super().__init__()
        self.limit, self.nan_in, self.sizes = limit, nan_in, []

    def forward(self, lq: torch.Tensor) -> torch.Tensor:
        self.sizes.append(tuple(lq.shape[-2:]))
        if lq.shape[-1] * lq.shape[-2] > self.limit:
            raise torch.OutOfMemoryError("not enough")
        half = torch.is_autocast_enabled("cpu")
        if self.nan_in == "always" or (self.nan_in == "half" and half):
            return lq * torch.nan
        return lq


class TestFailures:
    def test_tiles_become_smaller_when_memory_runs_out(self, upscaler, caplog):
        net, pixels = Limited(limit=40 * 40), texture(100, 120)
        run = upscaler(net, tile=0, halo=2)
        assert np.allclose(run.image(pixels), pixels / np.float32(255))
        assert "continuing in tiles of 60" in caplog.text
        assert "continuing in tiles of 30" in caplog.text
        net.sizes.clear()
        run.image(pixels)  # the size is kept
        assert max(net.sizes) <= (40, 40)

    def test_no_size_fits(self, upscaler):
        with pytest.raises(RunError, match="out of memory for frames of 120×100 even in tiles of"):
            upscaler(Limited(limit=10), halo=2).image(texture(100, 120))

    def test_not_finite_in_a_small_format_is_computed_in_fp32(self, upscaler):
        net, pixels = Limited(nan_in="half"), texture(9, 9)
        result = upscaler(net, precision="bf16").image(pixels)
        assert np.allclose(result, pixels / np.float32(255))

    def test_never_finite(self, upscaler):
        with pytest.raises(RunError, match="Limited: the output is not finite in fp32"):
            upscaler(Limited(nan_in="always")).image(texture(9, 9))

    def test_a_network_without_a_scale(self, upscaler):
        net = Limited()
        net.scales = (1,)
        with pytest.MonkeyPatch.context() as patch, pytest.raises(UserError, match="its scale"):
            patch.delattr(Limited, "scale")
            upscaler(net)

    def test_an_unknown_device(self, upscaler):
        with pytest.raises(UserError, match="--device tpu"):
            upscaler(device="tpu")


def test_the_key_depends_on_weights_and_options(upscaler):
    net = small_network()
    key = upscaler(net).key
    assert upscaler(small_network()).key == key
    assert upscaler(net, self_ensemble=True).key != key
    assert upscaler(net, tile=32).key == key
    with torch.no_grad():
        next(net.parameters()).add_(1e-3)
    assert upscaler(net).key != key
