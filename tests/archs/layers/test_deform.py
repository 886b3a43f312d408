from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from srtoolbox.archs.layers import deform
from srtoolbox.archs.layers.deform import (
    DeformConv,
    ModulatedDeformConvPack,
    align_frames,
    deform_conv2d,
    offset_magnitudes,
    reference_path,
)
from srtoolbox.errors import RunError, UserError


def inputs(
    n=2,
    channels=6,
    out=4,
    groups=3,
    size=(5, 7),
    kernel_size=3,
    reach=2.0,
    dtype=None,
    weight_groups=1,
):
    """Returns x, offset, weight, bias, mask; some sampling positions are beyond the border."""
    points = kernel_size**2
    tensors = (
        torch.randn(n, channels, *size),
        torch.randn(n, 2 * groups * points, *size) * reach,
        torch.randn(out, channels // weight_groups, kernel_size, kernel_size),
        torch.randn(out),
        torch.rand(n, groups * points, *size),
    )
    return [tensor.to(dtype or torch.float64).requires_grad_() for tensor in tensors]


def value_and_gradients(tensors, backend, with_mask=True, with_bias=True, dilation=1):
    x, offset, weight, bias, mask = tensors
    bias, mask = bias if with_bias else None, mask if with_mask else None
    output = deform_conv2d(x, offset, weight, bias, mask, dilation=dilation, backend=backend)
    used = [t for t in (x, offset, weight, bias, mask) if t is not None]
    return [output, *torch.autograd.grad(output.square().sum(), used)]


@pytest.mark.slow
@pytest.mark.parametrize("with_mask", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize(
    "case",
    [
        {},
        {"groups": 1},
        {"groups": 6},
        {"size": (1, 1)},
        {"size": (1, 6)},
        {"kernel_size": 1},
        {"kernel_size": 5},
        {"reach": 30.0},
        {"weight_groups": 2},
        {"weight_groups": 2, "groups": 6, "dilation": 2},
        {"dilation": 3, "kernel_size": 5},
    ],
    ids=str,
)
def test_backends_agree(with_mask, with_bias, case):
    needs_torchvision()
    dilation = case.get("dilation", 1)
    tensors = inputs(**{key: value for key, value in case.items() if key != "dilation"})
    ours = value_and_gradients(tensors, "grid_sample", with_mask, with_bias, dilation)
    theirs = value_and_gradients(tensors, "torchvision", with_mask, with_bias, dilation)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("weight_groups", [1, 2])
@pytest.mark.parametrize("chunk", [1, 200, 500, 2**20])
def test_chunks_do_not_change_the_result(monkeypatch, chunk, weight_groups):
    tensors = inputs(n=5, weight_groups=weight_groups)
    expected = value_and_gradients(tensors, "grid_sample")
    monkeypatch.setitem(deform.CHUNK, "cpu", chunk)
    torch.testing.assert_close(value_and_gradients(tensors, "grid_sample"), expected)
    with torch.no_grad():
        torch.testing.assert_close(deform_conv2d(*tensors), expected[0])


def test_without_offsets_it_is_a_convolution():
    x, offset, weight, bias, _ = inputs(size=(6, 4))
    output = deform_conv2d(x, torch.zeros_like(offset), weight, bias, backend="grid_sample")
    torch.testing.assert_close(output, F.conv2d(x, weight, bias, padding=1))


@pytest.mark.parametrize(("weight_groups", "dilation"), [(2, 1), (1, 2), (2, 2), (6, 3)])
def test_without_offsets_groups_and_dilation_are_those_of_a_convolution(weight_groups, dilation):
    x, offset, weight, bias, _ = inputs(out=12, size=(9, 8), weight_groups=weight_groups)
    options = {"dilation": dilation}
    output = deform_conv2d(x, torch.zeros_like(offset), weight, bias, backend="auto", **options)
    options |= {"padding": dilation, "groups": weight_groups}
    torch.testing.assert_close(output, F.conv2d(x, weight, bias, **options))


def test_groups_that_do_not_divide_the_features_are_refused():
    with pytest.raises(UserError, match=r"groups \(3\) must divide the features \(6 and 4\)"):
        DeformConv(6, 4, groups=3)
    layer = DeformConv(8, 8, deformable_groups=2, groups=4, dilation=2)
    assert layer.weight.shape == (8, 2, 3, 3)


def test_offsets_are_down_then_right():
    x = torch.arange(20.0).view(1, 1, 4, 5)
    offset = torch.tensor([1.0, 2.0]).view(1, 2, 1, 1).expand(1, 2, 4, 5)
    output = deform_conv2d(x, offset, torch.ones(1, 1, 1, 1), backend="grid_sample")
    torch.testing.assert_close(output[0, 0, :3, :3], x[0, 0, 1:, 2:])
    assert output[0, 0, 3].abs().max() < 1e-5


def test_values_fade_to_zero_over_one_pixel_beyond_the_border():
    x = torch.ones(1, 1, 1, 1)
    for shift, expected in ((0.0, 1.0), (0.25, 0.75), (1.0, 0.0), (-0.5, 0.5), (-3.0, 0.0)):
        offset = torch.tensor([0.0, shift]).view(1, 2, 1, 1)
        output = deform_conv2d(x, offset, torch.ones(1, 1, 1, 1), backend="grid_sample")
        torch.testing.assert_close(output.item(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("backend", ["grid_sample", "torchvision"])
def test_positions_stay_precise_under_autocast(backend):
    if backend == "torchvision":
        needs_torchvision()
    # At column 300 bfloat16 has steps of two pixels: neighbours would become one.
    x = torch.arange(301.0).expand(1, 1, 2, 301) % 2
    offset = torch.zeros(1, 2, 2, 301)
    weight = torch.ones(1, 1, 1, 1)
    with torch.autocast("cpu", torch.bfloat16):
        output = deform_conv2d(x, offset, weight, backend=backend)
    torch.testing.assert_close(output.float(), x, rtol=0, atol=1e-2)


@pytest.mark.parametrize("backend", ["grid_sample", "torchvision"])
def test_autocast_is_close_to_full_precision(backend):
    if backend == "torchvision":
        needs_torchvision()
    tensors = inputs(dtype=torch.float32)
    expected = value_and_gradients(tensors, backend)
    with torch.autocast("cpu", torch.bfloat16):
        actual = value_and_gradients(tensors, backend)
    for one, other in zip(actual, expected, strict=True):
        assert (one - other).norm() < 0.05 * other.norm()


def test_unknown_backend_is_refused():
    with pytest.raises(UserError, match="unknown backend 'cudnn'; use auto, grid_sample or"):
        deform_conv2d(*inputs(), backend="cudnn")


def test_absent_torchvision_is_named(monkeypatch):
    monkeypatch.setattr(deform, "_torchvision_op", lambda: ImportError("no such module"))
    with pytest.raises(RunError, match=r"torchvision cannot be used \(no such module\)"):
        deform_conv2d(*inputs(), backend="torchvision")
    deform_conv2d(*inputs())


def test_memory_format_does_not_matter():
    tensors = inputs()
    expected = value_and_gradients(tensors, "grid_sample")
    formatted = [
        t.detach().to(memory_format=torch.channels_last).requires_grad_() if t.dim() == 4 else t
        for t in tensors
    ]
    torch.testing.assert_close(value_and_gradients(formatted, "grid_sample"), expected)


@pytest.mark.parametrize("absent", [False, True])
def test_reference_path_is_torchvision_where_it_can_be_used(monkeypatch, absent):
    if absent:
        monkeypatch.setattr(deform, "_torchvision_op", lambda: ImportError("no such module"))
    else:
        needs_torchvision()
    used = []
    for name in ("_by_grid_sample", "_by_torchvision"):
        monkeypatch.setattr(deform, name, lambda *_, name=name: used.append(name))
    tensors = inputs()
    with pytest.raises(ZeroDivisionError), reference_path() as with_torchvision:
        deform_conv2d(*tensors)
        _ = 1 / 0
    deform_conv2d(*tensors)
    assert with_torchvision is not absent
    assert used == ["_by_grid_sample" if absent else "_by_torchvision", "_by_grid_sample"]


def test_frames_are_aligned_together_or_one_by_one(monkeypatch):
    sizes = []

    def align(moving, fixed):
        sizes.append(len(moving[0]))
        assert [level.shape for level in moving] == [level.shape for level in fixed]
        return moving[0] - fixed[0].mean(dim=1, keepdim=True)

    moving = [torch.randn(2, 3, 4, 8, 8), torch.randn(2, 3, 4, 4, 4)]
    fixed = [level[:, 1] for level in moving]
    together = align_frames(align, moving, fixed)
    with reference_path():
        one_by_one = align_frames(align, moving, fixed)
    monkeypatch.setattr(deform, "CPU_BATCH_PIXELS", 2 * 3 * 8 * 8 - 1)
    large = align_frames(align, moving, fixed)
    assert sizes == [6] + [2] * 6
    assert together.shape == (2, 3, 4, 8, 8)
    torch.testing.assert_close(one_by_one, together)
    torch.testing.assert_close(large, together)


def test_pack_starts_as_a_convolution_of_half_weight():
    layer = ModulatedDeformConvPack(4, 6, deformable_groups=2)
    assert set(layer.state_dict()) == {"weight", "bias", "conv_offset.weight", "conv_offset.bias"}
    assert layer.conv_offset.weight.shape == (2 * 27, 4, 3, 3)
    x = torch.randn(2, 4, 5, 6)
    expected = F.conv2d(x, layer.weight / 2, layer.bias, padding=1)
    torch.testing.assert_close(layer(x, torch.randn_like(x)), expected)


def test_gradient_reaches_offsets_and_masks_of_a_fresh_pack():
    layer = ModulatedDeformConvPack(4, 6, deformable_groups=2)
    x = torch.randn(1, 4, 5, 6)
    layer(x, torch.randn_like(x)).square().sum().backward()
    per_output = layer.conv_offset.weight.grad.abs().amax((1, 2, 3))
    assert torch.all(per_output > 0)


def test_magnitude_of_offsets_is_measured_only_inside():
    net = torch.nn.ModuleDict({"align": DeformConv(4, 4, deformable_groups=2, bias=False)})
    assert set(net.state_dict()) == {"align.weight"}
    assert not list(net.buffers())
    x, offset = torch.randn(1, 4, 5, 6), torch.randn(1, 36, 5, 6) * 100
    with pytest.raises(ZeroDivisionError), offset_magnitudes(net) as magnitudes:
        assert magnitudes == {}
        net["align"](x, offset)
        torch.testing.assert_close(magnitudes, {"align": offset.abs().mean()})
        net["align"](x, 2 * offset)
        _ = 1 / 0
    net["align"](x, 3 * offset)
    torch.testing.assert_close(magnitudes, {"align": 2 * offset.abs().mean()})


def needs_torchvision():
    problem = deform._torchvision_op()
    if isinstance(problem, Exception):
        pytest.skip(f"torchvision cannot be used: {problem}")
