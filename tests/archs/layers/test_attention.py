from __future__ import annotations

import pytest
import torch

from srtoolbox.archs.layers.attention import OverlappingCrossAttention, SelectiveKernels


def attention(size: int = 4, overlap: int = 1) -> OverlappingCrossAttention:
    torch.manual_seed(0)
    layer = OverlappingCrossAttention(8, num_head=2, window_size=size, overlap=overlap).eval()
    torch.nn.init.normal_(layer.bias)
    return layer


def by_hand(layer: OverlappingCrossAttention, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Computes the attention of each pixel from the definition."""
    _, c, h, w = x.shape
    size, reach, heads = layer.window, layer.overlap, layer.num_head
    query = layer.query(x)
    key, value = layer.key_value(other).chunk(2, 1)
    span = 2 * size + 2 * reach - 1
    out = torch.zeros_like(x)
    for y in range(h):
        for z in range(w):
            top, left = y // size * size, z // size * size
            rows = range(max(top - reach, 0), min(top + size + reach, h))
            columns = range(max(left - reach, 0), min(left + size + reach, w))
            seen = [(i, j) for i in rows for j in columns]
            for head in range(heads):
                part = slice(head * c // heads, (head + 1) * c // heads)
                middle = size + reach - 1
                score = torch.stack(
                    [
                        (query[0, part, y, z] * key[0, part, i, j]).sum() / (c // heads) ** 0.5
                        + layer.bias[head, (i - y + middle) * span + j - z + middle]
                        for i, j in seen
                    ]
                )
                values = torch.stack([value[0, part, i, j] for i, j in seen])
                out[0, part, y, z] = score.softmax(0) @ values
    return layer.out(out)


@pytest.mark.parametrize("size", [(4, 8), (5, 7), (3, 2)])
def test_equals_the_definition_at_any_size(size):
    layer = attention()
    x, other = torch.randn(1, 8, *size), torch.randn(1, 8, *size)
    with torch.no_grad():
        torch.testing.assert_close(layer(x, other), by_hand(layer, x, other), atol=1e-5, rtol=1e-4)


def test_images_of_a_batch_do_not_mix():
    layer = attention()
    x, other = torch.randn(3, 8, 6, 9), torch.randn(3, 8, 6, 9)
    apart = torch.cat([layer(x[i : i + 1], other[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(layer(x, other), apart)


def test_gradient_reaches_everything_without_nan():
    layer = attention()
    x, other = torch.randn(2, 8, 5, 9, requires_grad=True), torch.randn(2, 8, 5, 9)
    layer(x, other).square().sum().backward()
    gradients = [x.grad, *(p.grad for p in layer.parameters())]
    assert all(g.isfinite().all() and g.abs().sum() > 0 for g in gradients)


def test_selective_kernels_reach_thirteen_pixels():
    layer = SelectiveKernels(4)
    x = torch.zeros(1, 4, 21, 21, requires_grad=True)
    layer(x)[0, :, 10, 10].sum().backward()
    reached = x.grad.abs().sum((0, 1)).nonzero()
    assert reached.min() == 4 and reached.max() == 16
