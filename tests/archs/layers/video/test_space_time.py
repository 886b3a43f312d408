"""Attention over all patches of all frames."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from srtoolbox.archs.layers.video import space_time
from srtoolbox.archs.layers.video.space_time import SpaceTimeAttention, attend


def tokens(*shape: int) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(*shape, dtype=torch.float64, requires_grad=True) for _ in range(3)]


@pytest.mark.parametrize("pairs", [1, 100, 2**20])
def test_parts_are_the_whole(pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(space_time.PAIRS, "cpu", pairs)
    ours, theirs = tokens(2, 30, 8), tokens(2, 30, 8)
    result, expected = attend(*ours), F.scaled_dot_product_attention(*theirs)
    torch.testing.assert_close(result, expected)
    result.square().sum().backward()
    expected.square().sum().backward()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    plain = space_time._attend

    def watched(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        held.append(len(query) * query.shape[1] * key.shape[1])
        return plain(query, key, value)

    monkeypatch.setattr(space_time, "_attend", watched)
    monkeypatch.setitem(space_time.PAIRS, "cpu", 1000)
    attend(*tokens(2, 120, 4))
    assert max(held) <= 1000
    assert sum(held) == 2 * 120 * 120


def test_every_place_of_every_frame_is_seen() -> None:
    torch.manual_seed(0)
    net = SpaceTimeAttention(8, (4, 2))
    x = torch.randn(1, 3, 8, 8, 8, requires_grad=True)
    net(x)[0, 0, :, 0, 0].sum().backward()
    assert (x.grad.abs().sum(2) > 0).all()


def test_tokens_are_patches() -> None:
    """A head of one patch per frame mixes frames as a whole."""
    torch.manual_seed(0)
    net = SpaceTimeAttention(4, (4,))
    x = torch.randn(1, 3, 4, 4, 4)
    flat = x.flatten(0, 1)
    parts = [net.query_embedding(flat), net.key_embedding(flat), net.value_embedding(flat)]
    mixed = F.scaled_dot_product_attention(*(part.flatten(1)[None] for part in parts))
    expected = x + net.output_linear(mixed.view(3, 4, 4, 4))
    torch.testing.assert_close(net(x), expected)


@torch.no_grad()
def test_heads_have_patches_of_their_own_size() -> None:
    """Compares with patches made by ``unfold`` and ``fold``."""
    torch.manual_seed(0)
    net, x = SpaceTimeAttention(8, (4, 2)), torch.randn(2, 3, 8, 8, 12)
    flat = x.flatten(0, 1)
    maps = [net.query_embedding(flat), net.key_embedding(flat), net.value_embedding(flat)]
    heads = []
    for head, size in enumerate((4, 2)):
        parts = [one[:, 4 * head : 4 * head + 4] for one in maps]
        cut = [F.unfold(part, size, stride=size).transpose(1, 2) for part in parts]
        patches = cut[0].shape[1]
        mixed = F.scaled_dot_product_attention(*(one.reshape(2, 3 * patches, -1) for one in cut))
        mixed = mixed.reshape(6, patches, -1).transpose(1, 2)
        heads.append(F.fold(mixed, (8, 12), size, stride=size))
    expected = x + net.output_linear(torch.cat(heads, 1)).unflatten(0, (2, 3))
    torch.testing.assert_close(net(x), expected)
