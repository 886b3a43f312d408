from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from srtoolbox.archs.layers import deform
from srtoolbox.archs.layers.deform import offset_magnitudes
from srtoolbox.archs.layers.video.msd import (
    ConvBlock,
    DeconvBlock,
    MSDAlignment,
    ResnetBlock,
    TAtt,
    start_kaiming,
)


def alignment(offsets: bool = True) -> MSDAlignment:
    torch.manual_seed(0)
    layer = MSDAlignment(8, 2)
    start_kaiming(layer, offsets)
    return layer


def test_has_the_published_size_and_names():
    layer = MSDAlignment()
    assert sum(p.numel() for p in layer.parameters()) == 686_168
    assert layer.dcnpack.conv_offset_mask.weight.shape == (216, 64, 3, 3)
    convs = ("mul_scale1", "mul_scale2", "mul_scale3", "offset_conv1", "offset_conv2")
    convs = [f"{name}.{kind}" for name in (*convs, "dcnpack.conv_offset_mask", "dcnpack")
             for kind in ("weight", "bias")]  # fmt: skip
    assert set(layer.state_dict()) == set(convs)


def test_starts_as_a_convolution_with_halved_weights():
    layer = MSDAlignment(8, 2)
    frame, reference = torch.randn(2, 8, 6, 7), torch.randn(2, 8, 6, 7)
    conv = layer.dcnpack
    expected = F.leaky_relu(F.conv2d(frame, conv.weight / 2, conv.bias, padding=1), 0.1)
    with offset_magnitudes(layer) as magnitudes:
        torch.testing.assert_close(layer(frame, reference), expected, atol=1e-5, rtol=1e-4)
    assert [size.item() for size in magnitudes.values()] == [0]


def test_a_clip_is_aligned_frame_by_frame_with_its_reference(monkeypatch):
    layer, frames = alignment().eval(), torch.randn(2, 3, 8, 6, 7)
    with torch.no_grad():
        apart = torch.stack([layer(frame, frames[:, 1]) for frame in frames.unbind(1)], 1)
        torch.testing.assert_close(layer.align_clip(frames, 1), apart)
        monkeypatch.setattr(deform, "CPU_BATCH_PIXELS", 1)
        torch.testing.assert_close(layer.align_clip(frames, 1), apart)


def test_alignment_follows_what_moved():
    """After a short training, the offsets align a shifted frame."""
    torch.manual_seed(1)
    layer = MSDAlignment(4, 1)
    nn.init.dirac_(layer.dcnpack.weight)
    layer.dcnpack.weight.data.mul_(2)
    start = F.avg_pool2d(torch.rand(1, 4, 20, 20), 5, 1)
    frame, reference = start[..., :-1], start[..., 1:]
    optimizer = torch.optim.Adam(layer.parameters(), 3e-3)
    errors = []
    for _ in range(40):
        error = (layer(frame, reference) - reference).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < errors[0] / 4
    with offset_magnitudes(layer) as magnitudes:
        layer(frame, reference)
    assert magnitudes["dcnpack"] > 0.05


@pytest.mark.parametrize("offsets", [False, True])
def test_start(offsets):
    layer = alignment(offsets)
    assert bool(layer.dcnpack.conv_offset_mask.weight.any()) == offsets
    assert not layer.dcnpack.conv_offset_mask.bias.any()
    assert layer.offset_conv2.weight.std().item() == pytest.approx((2 / (24 * 9)) ** 0.5, rel=0.1)


def test_attention_weighs_maps_by_their_likeness_to_the_reference():
    layer, maps = TAtt(4, reference=1), torch.randn(2, 3, 4, 5, 6)
    weighed = layer(maps).unflatten(1, (3, 4))
    for t in range(3):
        likeness = (layer.tAtt_1(maps[:, t]) * layer.tAtt_2(maps[:, 1])).sum(1, keepdim=True)
        torch.testing.assert_close(weighed[:, t], maps[:, t] * likeness.sigmoid())


def test_blocks():
    x = torch.randn(2, 4, 5, 6)
    block = ResnetBlock(4)
    nn.init.constant_(block.act.weight, 0.3)
    hidden = F.leaky_relu(block.conv1(x), 0.3)
    torch.testing.assert_close(block(x), F.leaky_relu(block.conv2(hidden) + x, 0.3))
    assert sum(p.numel() for p in block.act.parameters()) == 1
    assert ConvBlock(4, 3, 8, 4, 2)(DeconvBlock(4, 4, 8, 4, 2)(x)).shape == (2, 3, 5, 6)
    assert set(ConvBlock(4, 3, activation=False).state_dict()) == {"conv.weight", "conv.bias"}
    assert "act.weight" in DeconvBlock(4, 4, 6, 2, 2).state_dict()
