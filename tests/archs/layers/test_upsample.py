from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from srtoolbox.archs.layers.upsample import Upsample, bicubic_upsample, check_scale
from srtoolbox.errors import UserError


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bicubic_agrees_with_the_reference(reference, scale):
    with np.load(reference / "goldens/imresize_basicsr.npz") as file:
        image = torch.from_numpy(file["img_uint8"]).permute(2, 0, 1) / 255
        expected = torch.from_numpy(file[f"up{scale}"]).permute(2, 0, 1)
    torch.testing.assert_close(bicubic_upsample(image, scale), expected, rtol=0, atol=5e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 3), (6, 5)])
@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
def test_bicubic_agrees_with_the_definition(size, scale):
    image = torch.rand(2, 3, *size, dtype=torch.float64)
    expected = image
    for dim in (-2, -1):
        weights = dense_weights(image.shape[dim], scale)
        expected = torch.tensordot(expected.movedim(dim, -1), weights, 1).movedim(-1, dim)
    torch.testing.assert_close(bicubic_upsample(image, scale), expected, rtol=0, atol=1e-6)


def dense_weights(size: int, scale: int) -> torch.Tensor:
    """(size, size * scale) weights of Keys' kernel with a = −0.5, borders mirrored."""
    weights = torch.zeros(size, size * scale, dtype=torch.float64)
    for out in range(size * scale):
        centre = (out + 0.5) / scale - 0.5
        for tap in range(int(np.floor(centre)) - 1, int(np.floor(centre)) + 3):
            d = abs(centre - tap)
            near, far = 1.5 * d**3 - 2.5 * d**2 + 1, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
            position = tap % (2 * size)
            weights[min(position, 2 * size - 1 - position), out] += near if d <= 1 else far
    return weights


def test_bicubic_keeps_leading_dimensions_and_type():
    image = torch.rand(2, 5, 3, 4, 6)
    large = bicubic_upsample(image, 2)
    assert large.shape == (2, 5, 3, 8, 12)
    torch.testing.assert_close(large[1, 4], bicubic_upsample(image[1, 4], 2))
    for dtype in (torch.float64, torch.bfloat16, torch.float16):
        assert bicubic_upsample(image.to(dtype), 2).dtype == dtype


def test_bicubic_is_exact_under_autocast():
    image = torch.rand(1, 3, 4, 6)
    with torch.autocast("cpu", torch.bfloat16):
        large = bicubic_upsample(image, 2)
    assert torch.equal(large, bicubic_upsample(image, 2))


def test_bicubic_is_differentiable():
    image = torch.rand(1, 1, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: bicubic_upsample(x, 3), image)


@pytest.mark.parametrize(("scale", "indices"), [(1, []), (2, [0]), (3, [0]), (4, [0, 2])])
def test_upsampler_has_its_convolutions_where_published_weights_expect_them(scale, indices):
    layers = Upsample(scale, 4)
    assert set(layers.state_dict()) == {
        f"{i}.{kind}" for i in indices for kind in ("weight", "bias")
    }
    assert layers(torch.rand(1, 4, 3, 5)).shape == (1, 4, 3 * scale, 5 * scale)


@pytest.mark.parametrize("scale", [0, 5, 6])
def test_upsampler_refuses_other_scales(scale):
    with pytest.raises(UserError, match=f"3 or a power of two, got {scale}"):
        Upsample(scale)


def test_scales_are_checked():
    net = nn.Identity()
    net.scales = (2, 4)
    assert check_scale(net, 4) == 4
    with pytest.raises(UserError, match="Identity: scale 3 is not available; use one of 2, 4"):
        check_scale(net, 3)
