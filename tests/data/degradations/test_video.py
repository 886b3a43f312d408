"""Compression of clips by video codecs."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from skimage import data

from srtoolbox.data.degradations.video import (
    Codec,
    VideoCompression,
    compress_clip,
    require_codecs,
)
from srtoolbox.errors import UserError

needs_av = pytest.mark.skipif(
    find_spec("av") is None,
    reason="needs PyAV: pip install srtoolbox[video]",
)
CODECS = [Codec("libx264", 26), Codec("mpeg4", 6), Codec("mpeg2video", 6)]


def clip(num_frame: int = 5, height: int = 64, width: int = 80) -> torch.Tensor:
    photograph = torch.from_numpy(data.astronaut().transpose(2, 0, 1).copy()).double()
    return torch.stack(
        [
            photograph[:, 100 + 2 * t : 100 + 2 * t + height, 150 + t : 150 + t + width]
            for t in range(num_frame)
        ]
    )


def loss(made: torch.Tensor, frames: torch.Tensor) -> float:
    return (made - frames).square().mean().item()


@needs_av
@pytest.mark.parametrize("codec", CODECS, ids=str)
class TestEveryCodec:
    def test_a_clip_stays_what_it_is_but_for_some_loss(self, codec: Codec) -> None:
        made = compress_clip(clip(), codec)
        assert made.shape == clip().shape
        assert torch.equal(made, made.round())
        assert 0 <= made.min() < made.max() <= 255
        frames = clip()
        assert 1 < loss(made, frames) < 100
        for t, frame in enumerate(made):  # in order
            assert min(range(5), key=lambda other: loss(frame, frames[other])) == t

    def test_repeats_exactly(self, codec: Codec) -> None:
        first = compress_clip(clip(7), codec)
        assert all(torch.equal(first, compress_clip(clip(7), codec)) for _ in range(3))

    def test_quality_decides_the_loss(self, codec: Codec) -> None:
        worse = Codec(codec.name, codec.quality + 9)
        losses = [loss(compress_clip(clip(), quality), clip()) for quality in (codec, worse)]
        assert losses[0] < losses[1]

    @pytest.mark.parametrize("size", [(33, 47), (16, 16), (1, 3)])
    def test_odd_and_small_sizes(self, codec: Codec, size: tuple[int, int]) -> None:
        frames = clip(3, *size)
        made = compress_clip(frames, codec)
        assert made.shape == frames.shape
        assert loss(made, frames) < 100

    @pytest.mark.parametrize("channels", [1, 2, 4])
    def test_other_bands_are_grey_clips(self, codec: Codec, channels: int) -> None:
        bands = clip()[:, [0, 1, 2, 0]][:, :channels]
        made = compress_clip(bands, codec)
        for band in range(channels):
            alone = compress_clip(bands[:, band : band + 1], codec)
            assert torch.equal(made[:, band], alone[:, 0])
        assert loss(made, bands) < 100


def test_draws() -> None:
    options = VideoCompression(prob=0.6, codec=("libx264", "mpeg4"), crf=(20, 22), qscale=(3, 4))
    numbers = np.random.default_rng(0)
    drawn = [options.draw(numbers) for _ in range(500)]
    kept = [codec for codec in drawn if codec is not None]
    assert len(kept) / 500 == pytest.approx(0.6, abs=0.07)
    assert {codec.quality for codec in kept if codec.name == "libx264"} == {20, 21, 22}
    assert {codec.quality for codec in kept if codec.name == "mpeg4"} == {3, 4}


def test_mistakes(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"crf must be \[low, high\] from 0 to 51"):
        VideoCompression(crf=(40, 60))
    with pytest.raises(UserError, match="codec must be 'libx264'"):
        VideoCompression(codec=("h264",))  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match="codec is empty"):
        VideoCompression(codec=())
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r'pip install "srtoolbox\[video\]"'):
        require_codecs(["mpeg4"])
