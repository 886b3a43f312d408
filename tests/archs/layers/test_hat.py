from __future__ import annotations

import zlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from srtoolbox.archs.layers.hat import HAT, OCAB
from srtoolbox.archs.layers.transformer import drop_branch
from srtoolbox.archs.layers.window import (
    WindowAttention,
    from_windows,
    overlap_index,
    self_index,
    shift_mask,
    to_windows,
)
from srtoolbox.engine.options import TrainOptions
from srtoolbox.engine.training.acceleration import accelerate
from srtoolbox.errors import UserError
from srtoolbox.inference.tiling import run_tiled
from srtoolbox.utils.meta import without_memory

SMALL = {"embed_dim": 12, "num_group": 2, "num_block": 2, "num_head": 2, "window_size": 4}


def small(**options) -> HAT:
    """Deterministic weights, none of which is zero."""
    net = HAT(5, **SMALL, **options).eval()
    with torch.no_grad():
        for key, parameter in net.named_parameters():
            values = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(
                tuple(parameter.shape)
            )
            values = torch.from_numpy(values.astype(np.float32))
            fan_in = max(parameter[0].numel(), 1)
            if parameter.dim() > 1:
                parameter.copy_(values / fan_in**0.5)
            else:
                parameter.copy_(0.1 * values + float("norm" in key and key.endswith("weight")))
    return net


@pytest.mark.parametrize(("groups", "expected"), [(6, 20_871_327), (5, 17_525_649)])
def test_has_the_published_number_of_parameters(groups, expected):
    with without_memory():
        assert sum(p.numel() for p in HAT(64, num_group=groups).parameters()) == expected


def test_has_the_published_names():
    keys = set(small().state_dict())
    outside = ("conv_first", "patch_embed.norm", "norm", "conv_after_body",
               "conv_before_upsample.0", "upsample.0", "upsample.2", "conv_last")  # fmt: skip
    convs = ("0", "2", "3.attention.1", "3.attention.3")
    block = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2",
             *(f"conv_block.cab.{name}" for name in convs))  # fmt: skip
    overlap = ("norm1", "qkv", "proj", "norm2", "mlp.fc1", "mlp.fc2")
    names = [*outside]
    expected = {"relative_position_index_SA", "relative_position_index_OCA"}
    for layer in ("layers.0", "layers.1"):
        group = f"{layer}.residual_group"
        names += [f"{group}.blocks.{i}.{name}" for i in (0, 1) for name in block]
        names += [f"{group}.overlap_attn.{name}" for name in overlap] + [f"{layer}.conv"]
        expected |= {f"{group}.blocks.{i}.attn.relative_position_bias_table" for i in (0, 1)}
        expected |= {f"{group}.overlap_attn.relative_position_bias_table"}
    expected |= {f"{name}.{kind}" for name in names for kind in ("weight", "bias")}
    assert keys == expected


def test_tables_of_positions():
    index = self_index(16)
    assert index.shape == (256, 256)
    assert (index.min(), index.max(), index[0, 0]) == (0, 960, 480)
    index = overlap_index(16, 4)
    assert index.shape == (256, 576)
    assert (index.min(), index.max()) == (-880, 640)
    for window, rows in ((self_index(4), 49), (overlap_index(4, 1), 81)):
        assert len(torch.unique(window % rows)) == rows  # every row is a position, and one only
    # A step of the query and of the key in the same direction is no step.
    for index, large in ((self_index(4), 4), (overlap_index(4, 1), 6)):
        grid = index.view(4, 4, large, large)
        assert torch.equal(grid[1:, 1:, 1:, 1:], grid[:-1, :-1, :-1, :-1])


def test_windows_and_back():
    x = torch.rand(2, 8, 12, 3)
    windows = to_windows(x, 4)
    assert windows.shape == (2, 2, 3, 16, 3)
    assert torch.equal(windows[1, 1, 2].view(4, 4, 3), x[1, 4:8, 8:12])
    assert torch.equal(from_windows(windows, 4), x)


def by_hand(layer: WindowAttention, x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Attention of all pixels to all, masked outside of the windows; (h, w, C)."""
    (h, w, c), size, heads, shift = x.shape, layer.window_size, layer.num_head, layer.shift
    q, k, v = layer.qkv(x).reshape(h * w, 3, heads, -1).permute(1, 2, 0, 3)
    y, z = torch.cartesian_prod(torch.arange(h), torch.arange(w)).t()
    rolled_y, rolled_z = (y - shift) % h, (z - shift) % w
    window = rolled_y // size * w + rolled_z // size
    seen = window[:, None] == window
    for before, after in ((y, rolled_y), (z, rolled_z)):  # not across the seam
        seen &= before[:, None] - before == after[:, None] - after
    inside = rolled_y % size * size + rolled_z % size
    bias = layer.relative_position_bias_table[index[inside[:, None], inside]].permute(2, 0, 1)
    score = q @ k.transpose(1, 2) * (c // heads) ** -0.5 + bias
    weights = score.masked_fill(~seen, -torch.inf).softmax(-1)
    return layer.proj((weights @ v).transpose(0, 1).reshape(h, w, c))


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("size", [(4, 4), (4, 12), (8, 4), (12, 8)])
def test_window_attention_is_a_masked_softmax(shifted, size):
    torch.manual_seed(0)
    layer, index = WindowAttention(6, 4, 2, shifted), self_index(4)
    nn.init.normal_(layer.relative_position_bias_table)
    x = torch.randn(2, *size, 6)
    with torch.no_grad():
        expected = torch.stack([by_hand(layer, each, index) for each in x])
        torch.testing.assert_close(layer(x, index), expected, atol=1e-5, rtol=1e-4)


def test_one_mask_serves_all_sizes():
    layer = WindowAttention(6, 4, 2, shifted=True)
    assert layer.mask.shape == (4, 16, 16)
    assert "mask" not in layer.state_dict()
    assert shift_mask(4).sum((1, 2)).tolist() == [256, 128, 128, 64]


def test_overlapping_attention_is_a_softmax_over_zero_padded_keys():
    torch.manual_seed(0)
    layer, index = OCAB(6, 4, 1, 2), overlap_index(4, 1)
    nn.init.normal_(layer.relative_position_bias_table)
    x = torch.randn(1, 8, 12, 6)
    q, k, v = layer.qkv(layer.norm1(x)).movedim(-1, 1).chunk(3, 1)
    q = F.unfold(q, 4, stride=4).view(2, 3, 16, 6)
    k, v = (F.unfold(each, 6, stride=4, padding=1).view(2, 3, 36, 6) for each in (k, v))
    bias = layer.relative_position_bias_table[index].permute(2, 0, 1)[..., None]
    score = torch.einsum("hdqn,hdkn->hqkn", q, k) / 3**0.5 + bias
    out = torch.einsum("hqkn,hdkn->hdqn", score.softmax(2), v).reshape(1, 96, 6)
    out = F.fold(out, (8, 12), 4, stride=4).movedim(1, -1)
    expected = x + layer.proj(out)
    expected = expected + layer.mlp(layer.norm2(expected))
    torch.testing.assert_close(layer(x, index), expected, atol=1e-5, rtol=1e-4)


def test_output_is_what_it_was():
    values = np.random.RandomState(3).standard_normal((1, 5, 8, 12)).astype(np.float32)
    with torch.no_grad():
        sr = small()(torch.from_numpy(values))
    assert sr.shape == (1, 3, 32, 48)
    places = sr.flatten()[torch.linspace(0, sr.numel() - 1, 6).long()]
    found = [sr.mean().item(), sr.std().item(), *places.tolist()]
    expected = [0.028085, 0.802654, 0.147288, -0.815382, -0.185523, 1.586986, -0.200983, -0.463928]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_blocks_are_skipped_in_training_only():
    net, x = small(drop_path=0.9), torch.randn(2, 5, 8, 8)
    drops = [block.drop for layer in net.layers for block in layer.residual_group.blocks]
    assert drops == pytest.approx([0, 0.3, 0.6, 0.9])
    assert torch.equal(net(x), net(x))
    net.train()
    assert not torch.equal(net(x), net(x))
    kept = drop_branch(torch.ones(4000, 1, 1, 1), 0.9, training=True)
    assert kept.unique().tolist() == pytest.approx([0, 10])
    assert kept.mean().item() == pytest.approx(1, abs=0.2)


def test_recomputed_groups_give_the_same_gradients():
    class Net(nn.Module):
        scales = (4,)
        checkpoint_blocks = ("hat.layers",)

        def __init__(self):
            super().__init__()
            self.hat = small()

        def forward(self, x):
            return self.hat(x)

    net, x = Net().train(), torch.randn(2, 5, 8, 8)
    gradients = []
    for _ in range(2):
        net.zero_grad()
        torch.manual_seed(4)
        net(x).square().mean().backward()
        gradients.append([p.grad.clone() for p in net.parameters()])
        accelerate(net, TrainOptions(total_iter=1, checkpointing=True), generator=True)
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.slow
def test_tiles_of_whole_windows_change_nothing_but_the_attention_to_channels():
    net = small(conv_scale=0.0).double()
    net.size_multiple = net.min_size = 4
    net.scales, net.scale = (4,), 4
    x = torch.randn(1, 5, 16, 72, dtype=torch.float64)
    with torch.no_grad():
        whole = net(x)
        torch.testing.assert_close(run_tiled(net, x, 16, 28), whole)
        assert (run_tiled(net, x, 16, 4) - whole).abs().max() > 1e-4
        for layer in net.layers:
            for block in layer.residual_group.blocks:
                block.conv_scale = 0.01
        difference = (run_tiled(net, x, 16, 28) - net(x)).abs().max()
    assert 1e-7 < difference < 1e-2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_head": 7}, r"num_head \(7\) must divide embed_dim \(180\)"),
        ({"window_size": 6}, "window_size must be a multiple of 4, got 6"),
        ({"window_size": 0}, "window_size must be a multiple of 4, got 0"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        HAT(64, **options)
