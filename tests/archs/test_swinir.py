from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from srtoolbox.archs.layers.bands import mean_of_bands
from srtoolbox.archs.layers.window import SwinAttention, self_index
from srtoolbox.archs.swinir import RSTB, SwinIR, mask_of_image
from srtoolbox.engine.options import TrainOptions
from srtoolbox.engine.training.acceleration import accelerate
from srtoolbox.engine.weights.load import load_weights, save_weights
from srtoolbox.errors import UserError
from srtoolbox.inference.halo import measure_halo
from srtoolbox.inference.padding import run_padded
from srtoolbox.inference.tiling import run_tiled
from srtoolbox.utils.meta import without_memory

SMALL = {
    "img_size": 8,
    "embed_dim": 12,
    "depths": (2, 2),
    "num_heads": (2, 3),
    "window_size": 4,
    "upsampler": "pixelshuffledirect",
}
LIGHT = {
    "embed_dim": 60,
    "depths": (6,) * 4,
    "num_heads": (6,) * 4,
    "upsampler": "pixelshuffledirect",
}
LARGE = {
    "depths": (6,) * 9,
    "num_heads": (8,) * 9,
    "upsampler": "nearest+conv",
    "resi_connection": "3conv",
}


@pytest.mark.parametrize(
    ("scale", "options", "expected"),
    [
        (2, {}, 11_752_487),
        (3, {}, 11_937_127),
        (4, {}, 11_900_199),
        (8, {}, 12_047_911),
        (2, LIGHT, 910_152),
        (3, LIGHT, 918_267),
        (4, LIGHT, 929_628),
        (4, {"upsampler": "nearest+conv"}, 11_715_559),
        (4, {**LARGE, "embed_dim": 240}, 28_013_059),
        (4, {**LARGE, "embed_dim": 248}, 29_887_443),
    ],
)
def test_has_the_published_number_of_parameters(scale, options, expected):
    with without_memory():
        net = SwinIR(scale, **options)
    assert sum(p.numel() for p in net.parameters()) == expected


def test_has_the_published_names():
    keys = SwinIR(2, **SMALL).state_dict()
    block = "layers.1.residual_group.blocks.1"
    shapes = {
        "attn_mask": (4, 16, 16),
        "norm1.weight": (12,),
        "attn.qkv.weight": (36, 12),
        "attn.proj.bias": (12,),
        "attn.relative_position_bias_table": (49, 3),
        "attn.relative_position_index": (16, 16),
        "mlp.fc1.weight": (24, 12),
        "mlp.fc2.weight": (12, 24),
    }
    assert {name: tuple(keys[f"{block}.{name}"].shape) for name in shapes} == shapes
    assert keys[f"{block}.attn.relative_position_index"].dtype == torch.int64
    assert "layers.1.residual_group.blocks.0.attn_mask" not in keys
    assert not [key for key in keys if key.endswith((".mask", "mean"))]


@pytest.mark.parametrize("bands", [1, 3, 4])
def test_only_three_bands_have_a_mean_colour(bands):
    net, lq = SwinIR(2, **SMALL, num_in_ch=bands), torch.rand(1, bands, 4, 8)
    for parameter in net.parameters():
        nn.init.zeros_(parameter)
    expected = mean_of_bands(bands)
    assert torch.equal(net(lq), expected.expand(1, bands, 8, 16))
    assert expected.any() == (bands == 3)


def nine_parts(height, width, window):
    """The mask as described: rows and columns in three parts each, which may not mix."""
    shift = window // 2
    label = torch.zeros(height, width)
    for axis, size in ((0, height), (1, width)):
        part = torch.zeros(size)
        part[size - window : size - shift] = 1
        part[size - shift :] = 2
        label = 3 * label + (part[:, None] if axis == 0 else part[None])
    rows = label.unflatten(1, (-1, window)).unflatten(0, (-1, window)).transpose(1, 2)
    rows = rows.reshape(-1, window**2)
    return torch.where(rows[:, :, None] == rows[:, None], 0.0, -100.0)


@pytest.mark.parametrize("size", [(16, 16, 4), (4, 4, 4), (16, 8, 8), (21, 14, 7), (3, 6, 3)])
def test_the_stored_mask_has_nine_parts(size):
    assert torch.equal(mask_of_image(*size), nine_parts(*size))


@pytest.mark.parametrize("window", [3, 4, 7])
@pytest.mark.parametrize("windows", [(1, 1), (1, 3), (2, 1), (3, 2)])
def test_the_attention_needs_no_mask_of_the_image(window, windows):
    torch.manual_seed(0)
    layer = SwinAttention(6, window, 2, True)
    nn.init.normal_(layer.relative_position_bias_table)
    index, shift = self_index(window), window // 2
    size = tuple(number * window for number in windows)
    x = torch.randn(2, *size, 6)
    rolled = layer.qkv(x.roll((-shift, -shift), (1, 2)))
    parts = rolled.unflatten(2, (-1, window)).unflatten(1, (-1, window)).transpose(2, 3)
    q, k, v = parts.reshape(-1, window**2, 3, 2, 3).permute(2, 0, 3, 1, 4)
    score = 3**-0.5 * q @ k.mT + layer.relative_position_bias_table[index].permute(2, 0, 1)
    score = score + nine_parts(*size, window).repeat(2, 1, 1)[:, None]
    out = (score.softmax(-1) @ v).transpose(1, 2).reshape(2, *windows, window, window, 6)
    out = layer.proj(out.transpose(2, 3).reshape(2, *size, 6)).roll((shift, shift), (1, 2))
    torch.testing.assert_close(layer(x, index), out, atol=1e-5, rtol=1e-4)  # as in training
    with torch.no_grad():
        torch.testing.assert_close(layer(x, index), out, atol=1e-5, rtol=1e-4)


def test_pixels_beyond_the_seam_are_not_excluded_but_count_less():
    """Published weights were trained with −100, so that a large enough bias outweighs it."""
    x = torch.zeros(1, 4, 4, 2)
    x[0, 0, 0] = 1.0  # beyond the seam for most pixels
    for bias, changes in ((0.0, False), (200.0, True)):
        layer = SwinAttention(2, 4, 1, True)
        nn.init.constant_(layer.qkv.weight, 0)
        nn.init.eye_(layer.qkv.weight[4:])
        nn.init.zeros_(layer.qkv.bias)
        nn.init.eye_(layer.proj.weight)
        nn.init.zeros_(layer.proj.bias)
        nn.init.zeros_(layer.relative_position_bias_table)
        distance = 3 * 7 + 3 + 7 + 1  # of a query one row and one column after its key, rolled
        with torch.no_grad():
            layer.relative_position_bias_table[distance - 2 * 8] = bias
            out = layer(x, self_index(4))
        torch.testing.assert_close(layer(x, self_index(4)), out)  # as in training
        # The pixel at the lower right sees the one at the upper left only across the seam.
        assert bool(out[0, 3, 3].abs().max() > 0.5) == changes


def test_a_small_training_patch_has_no_shift_whatever_the_input():
    net = SwinIR(2, **{**SMALL, "img_size": 3})
    attns = [module for module in net.modules() if isinstance(module, SwinAttention)]
    assert {attn.window_size for attn in attns} == {3}
    assert {attn.shift for attn in attns} == {0}
    assert net.size_multiple == net.min_size == 3
    assert not [key for key in net.state_dict() if key.endswith("attn_mask")]
    assert net(torch.rand(1, 3, 9, 6)).shape == (1, 3, 18, 12)


def test_every_second_block_is_shifted():
    net = SwinIR(2, **{**SMALL, "depths": (3, 2)})
    blocks = [block for layer in net.layers for block in layer.blocks]
    assert [block.attn.shift for block in blocks] == [0, 2, 0, 0, 2]
    assert [block.attn_mask is not None for block in blocks] == [False, True, False, False, True]


def test_weights_of_another_training_patch_load(tmp_path):
    torch.manual_seed(0)
    net, other = SwinIR(2, **SMALL).eval(), SwinIR(2, **{**SMALL, "img_size": 16}).eval()
    lq = torch.rand(1, 3, 8, 12)
    for name in ("net.pth", "net.safetensors"):
        for parameter in other.parameters():
            nn.init.zeros_(parameter)
        save_weights(tmp_path / name, {"type": "SwinIR", "scale": 2}, net)
        load_weights(other, tmp_path / name)
        with torch.no_grad():
            assert torch.equal(net(lq), other(lq))
    assert other.layers[0].blocks[1].attn_mask.shape == (16, 16, 16)
    torch.save({f"module.{k}": v for k, v in net.state_dict().items()}, tmp_path / "wrapped.pth")
    load_weights(other, tmp_path / "wrapped.pth")


@pytest.mark.slow
def test_weights_without_shifts_do_not_load_into_a_network_with_them(tmp_path):
    net = SwinIR(2, **{**SMALL, "img_size": 4})
    save_weights(tmp_path / "net.pth", {"type": "SwinIR", "scale": 2}, net)
    with pytest.raises(UserError, match=r"not found: layers\.0\..*attn_mask"):
        load_weights(SwinIR(2, **SMALL), tmp_path / "net.pth")


@pytest.mark.parametrize(("size", "padded"), [((8, 12), (8, 12)), ((7, 13), (8, 16))])
def test_other_sizes_are_mirrored_without_the_edge(size, padded):
    torch.manual_seed(0)
    net, lq, seen = SwinIR(2, **SMALL).eval(), torch.rand(1, 3, *size), []
    net.register_forward_hook(lambda module, given, out: seen.append(given[0]))
    with torch.no_grad():
        sr = run_padded(net, lq)
    bottom, right = padded[0] - size[0], padded[1] - size[1]
    assert torch.equal(seen[0], F.pad(lq, (0, right, 0, bottom), mode="reflect"))
    assert sr.shape == (1, 3, 2 * size[0], 2 * size[1])


def test_sizes_that_are_no_multiples_are_only_for_the_padding():
    with pytest.raises(RuntimeError):
        SwinIR(2, **SMALL)(torch.rand(1, 3, 8, 9))


@pytest.mark.slow
def test_tiles_with_a_halo_of_the_receptive_field_are_exact():
    torch.manual_seed(0)
    net = SwinIR(2, **{**SMALL, "depths": (2,), "num_heads": (2,)}).double().eval()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    found = measure_halo(net.float(), 1, torch.device("cpu"))
    assert (found.is_exact, found.pixels % 4) == (True, 0)
    net.double()
    lq = torch.rand(1, 3, 21, 50, dtype=torch.float64)
    with torch.no_grad():
        whole = run_padded(net, lq)
        torch.testing.assert_close(run_tiled(net, lq, 14, 12), whole)
        assert (run_tiled(net, lq, 14, 4) - whole).abs().max() > 1e-6


def test_recomputed_groups_give_the_same_gradients():
    torch.manual_seed(0)
    net, x = SwinIR(2, **SMALL, drop_path_rate=0.3).train(), torch.rand(2, 3, 8, 8)
    gradients = []
    for _ in range(2):
        net.zero_grad()
        torch.manual_seed(4)
        net(x).square().mean().backward()
        gradients.append([p.grad.clone() for p in net.parameters()])
        accelerate(net, TrainOptions(total_iter=1, checkpointing=True), generator=True)
    torch.testing.assert_close(*gradients)


def test_branches_are_dropped_more_often_from_block_to_block():
    net = SwinIR(2, **SMALL, drop_path_rate=0.3)
    blocks = [block for layer in net.layers for block in layer.blocks]
    assert [block.drop for block in blocks] == pytest.approx([0, 0.1, 0.2, 0.3])
    x = torch.rand(4, 3, 8, 8)
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))


def test_slopes_of_the_tails():
    def slopes(net):
        return [layer.negative_slope for layer in net.modules() if isinstance(layer, nn.LeakyReLU)]

    assert slopes(SwinIR(2, **{**SMALL, "upsampler": "pixelshuffle"})) == [0.01]
    three = SwinIR(4, **{**SMALL, "upsampler": "nearest+conv", "resi_connection": "3conv"})
    assert slopes(three) == [0.2] * 6 + [0.01]
    assert three.conv_after_body[2].weight.shape == (3, 3, 1, 1)


def test_a_group_adds_its_input():
    group = SwinIR(2, **SMALL).layers[0]
    assert isinstance(group, RSTB)
    nn.init.zeros_(group.conv.weight)
    nn.init.zeros_(group.conv.bias)
    x = torch.rand(1, 8, 4, 12)
    assert torch.equal(group(x), x)


def test_start_values():
    torch.manual_seed(0)
    with torch.no_grad():
        block = SwinIR(2, embed_dim=60, depths=(2,), num_heads=(6,)).layers[0].blocks[1]
    for weight in (block.attn.qkv.weight, block.attn.relative_position_bias_table):
        assert weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert not block.attn.qkv.bias.any() and not block.mlp.fc2.bias.any()
    assert block.norm1.eps == 1e-5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window_size": 7}, r"img_size \(64\) must be a multiple of window_size \(7\)"),
        ({"num_heads": (7,) * 6}, r"num_heads \[7, .*\] must divide embed_dim \(180\)"),
        ({"depths": (6,)}, "one number of at least 1 for each residual group"),
        ({"depths": (), "num_heads": ()}, "one number of at least 1 for each residual group"),
        ({"upsampler": "bicubic"}, "upsampler must be 'pixelshuffle', 'pixelshuffledirect' or"),
        ({"resi_connection": "2conv"}, "resi_connection must be '1conv' or '3conv'"),
        ({"scale": 2, "upsampler": "nearest+conv"}, "'nearest.conv' has scale 4, got scale 2"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(UserError, match=f"SwinIR: .*{message}"):
        SwinIR(**options)
