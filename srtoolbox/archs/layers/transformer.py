"""Parts that transformers share: the perceptron, and branches that are dropped in training."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn


class Mlp(nn.Sequential):
    """Perceptron applied to each pixel, (…, C) to the same shape.

    Args:
        num_feat: Channels in and out (C).
        ratio: Inner channels divided by C; the result is rounded down.
    """

    def __init__(self, num_feat: int, ratio: float = 2) -> None:
        inner = int(num_feat * ratio)
        fc1, fc2 = nn.Linear(num_feat, inner), nn.Linear(inner, num_feat)
        super().__init__(OrderedDict(fc1=fc1, act=nn.GELU(), fc2=fc2))


def drop_branch(branch: Tensor, rate: float, training: bool) -> Tensor:
    """Stochastic depth (Huang et al., ECCV 2016): in training, drops a branch for some images.

    Args:
        branch: (N, h, w, C), the value that a residual connection adds.
        rate: Probability that it is zero for an image; other images get it divided by 1 − ``rate``.
        training: False: the branch is returned as it is.
    """
    if not training or rate == 0:
        return branch
    kept = branch.new_empty(len(branch), 1, 1, 1).bernoulli_(1 - rate)
    return branch * (kept / (1 - rate))


def init_linear_(module: nn.Module) -> None:
    """Sets linear layers inside to truncated normal weights (σ = 0.02) and zero biases."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
