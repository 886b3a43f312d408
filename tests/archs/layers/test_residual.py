from __future__ import annotations

import torch

from srtoolbox.archs.layers.residual import ResidualBlock, residual_blocks


def test_residual_is_scaled():
    block = ResidualBlock(4, res_scale=0.5)
    x = torch.randn(1, 4, 5, 6)
    expected = x + 0.5 * block.conv2(torch.relu(block.conv1(x)))
    torch.testing.assert_close(block(x), expected)


def test_deep_stack_starts_near_the_identity():
    x = torch.randn(1, 16, 8, 8)
    residual = residual_blocks(40, 16)(x) - x
    assert 0 < residual.std() < 0.5 * x.std()
