"""Flow: direction and sign, cache, orientations, any size and type of images."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from srtoolbox.archs.layers.burst.motion import warp
from srtoolbox.data.transforms import flow as module
from srtoolbox.data.transforms.flow import (
    FlowCache,
    batch_flow,
    flow_between,
    orient_flow,
    orient_flow_batch,
)
from srtoolbox.data.transforms.orientation import orient
from srtoolbox.registry import RegistryError


def moving(height: int, width: int, steps: list[tuple[int, int]]) -> np.ndarray:
    """Frames (T, 3, h, w) cut out of one smooth picture, each further by (x, y) pixels."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (height + 40, width + 40, 3)).astype(np.float32)
    picture = cv2.GaussianBlur(noise, (0, 0), 2.0)
    picture = (picture - picture.min()) / np.ptp(picture) * 255
    x = y = 20
    frames = []
    for step in [(0, 0), *steps]:
        x, y = x + step[0], y + step[1]
        frames.append(picture[y : y + height, x : x + width])
    return np.ascontiguousarray(np.stack(frames).transpose(0, 3, 1, 2).round().astype(np.uint8))


def test_directions_and_signs() -> None:
    flow = flow_between("DIS", moving(64, 80, [(3, 1), (0, -2)]))
    assert flow.shape == (2, 2, 2, 64, 80)
    assert flow.dtype == np.float32
    # The camera moved by (3, 1), so what was seen at p is seen at p - (3, 1).
    inner = np.median(flow[..., 10:-10, 10:-10], (-2, -1))
    np.testing.assert_allclose(inner[0], [(-3, -1), (0, 2)], atol=0.02)
    np.testing.assert_allclose(inner[1], [(3, 1), (0, -2)], atol=0.02)


def test_warping_the_second_frame_gives_the_first() -> None:
    frames = moving(64, 64, [(2, -1)])
    flow = torch.from_numpy(flow_between("DIS", frames))
    first, second = torch.from_numpy(frames).float()
    inner = (..., slice(8, -8), slice(8, -8))
    assert (warp(second[None], flow[0]) - first)[inner].abs().mean() < 1
    assert (warp(first[None], flow[1]) - second)[inner].abs().mean() < 1
    assert (first - second)[inner].abs().mean() > 5


@pytest.mark.parametrize("size", [(1, 1), (3, 70), (16, 16), (33, 31)])
def test_any_size(size: tuple[int, int]) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 3, *size), dtype=np.uint8)
    flow = flow_between("DIS", frames)
    assert flow.shape == (2, 2, 2, *size)
    assert np.isfinite(flow).all()


def test_other_types_are_seen_in_eight_bits() -> None:
    frames = moving(40, 40, [(1, 1)])
    expected = flow_between("DIS", frames)
    assert np.array_equal(flow_between("DIS", frames.astype(np.uint16) * 257), expected)
    assert np.array_equal(flow_between("DIS", frames.astype(np.float32) / 255), expected)
    one = flow_between("DIS", frames[:1])
    assert one.shape == (2, 0, 2, 40, 40)


@pytest.mark.parametrize("bands", [1, 2, 4, 8])
def test_any_number_of_bands(bands: int) -> None:
    colours = moving(64, 72, [(2, -1)])
    frames = np.concatenate([colours] * 3, 1)[:, :bands]
    flow = flow_between("DIS", frames)
    assert flow.shape == (2, 1, 2, 64, 72)
    inner = np.median(flow[..., 10:-10, 10:-10], (-2, -1))
    np.testing.assert_allclose(inner[:, 0], [(-2, 1), (2, -1)], atol=0.02)
    mean = np.rint(frames.mean(1, keepdims=True)).astype(np.uint8)
    assert np.array_equal(flow, flow_between("DIS", mean))  # the mean of the bands
    assert np.array_equal(flow, flow_between("DIS", mean.repeat(3, 1)))  # as grey RGB images
    lq = torch.from_numpy(frames / np.float32(255))[None]
    assert np.array_equal(batch_flow("DIS", lq)[0].numpy(), flow)


def test_rgb_is_compared_by_its_luma() -> None:
    frames = moving(64, 72, [(2, -1)])
    first, second = (cv2.cvtColor(f.transpose(1, 2, 0), cv2.COLOR_RGB2GRAY) for f in frames)
    luma = np.stack([first, second])[:, None]
    assert np.array_equal(flow_between("DIS", frames), flow_between("DIS", luma))


@pytest.mark.parametrize("code", range(8))
def test_flow_turns_with_its_frames(code: int) -> None:
    frames = torch.from_numpy(moving(48, 48, [(2, -1)])).float()
    flow = torch.from_numpy(flow_between("DIS", frames.numpy().astype(np.uint8)))
    first, second = orient(frames, code)
    turned = orient_flow(flow, code)
    seen = warp(second[None], turned[0])
    straight = warp(frames[1:], flow[0])
    torch.testing.assert_close(seen, orient(straight, code), atol=1e-2, rtol=0)
    assert (seen - first)[..., 8:-8, 8:-8].abs().mean() < 1


def test_each_of_a_batch_in_its_own_orientation() -> None:
    flow = torch.randn(3, 2, 3, 2, 8, 8)
    turned = orient_flow_batch(flow, [0, 5, 2])
    assert torch.equal(turned[0], flow[0])
    assert torch.equal(turned[1], orient_flow(flow[1], 5))


def test_the_cache_computes_once_and_keeps_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    computed = []

    def count(name: str, frames: np.ndarray) -> np.ndarray:
        computed.append(frames)
        return np.full((2, 1, 2, 8, 8), float(frames.mean()), np.float32)

    monkeypatch.setattr(module, "flow_between", count)
    clips = [np.full((2, 3, 8, 8), value, np.uint8) for value in range(4)]
    cache = FlowCache(limit=3 * 1024)  # three flows
    for _ in range(2):
        for clip in clips[:3]:
            assert (cache.between("DIS", clip) == clip.mean()).all()
    assert len(computed) == 3
    cache.between("DIS", clips[0])
    cache.between("DIS", clips[3])  # displaces the one that was not asked for the longest: 1
    cache.between("DIS", clips[0])
    assert len(computed) == 4
    cache.between("DIS", clips[1])
    assert len(computed) == 5
    cache.between("another", clips[1])
    assert len(computed) == 6


def test_batches_of_floats_are_the_bytes_that_were_read() -> None:
    frames = np.stack([moving(40, 48, [(1, 0)]), moving(40, 48, [(0, 2)])])
    flow = batch_flow("DIS", torch.from_numpy(frames).float() / 255)
    assert flow.shape == (2, 2, 1, 2, 40, 48)
    for result, clip in zip(flow, frames, strict=True):
        assert np.array_equal(result.numpy(), flow_between("DIS", clip))


def test_unknown_estimators() -> None:
    with pytest.raises(RegistryError, match="unknown flow 'dis'; did you mean 'DIS'"):
        flow_between("dis", moving(40, 40, [(1, 0)]))
