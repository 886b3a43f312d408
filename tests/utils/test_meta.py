from __future__ import annotations

import torch
from torch import nn

from srtoolbox.archs.swinir import SwinIR
from srtoolbox.registry import ARCH_REGISTRY
from srtoolbox.utils.meta import without_memory


def test_tensors_have_their_names_and_shapes_alone() -> None:
    for build in (lambda: SwinIR(2, embed_dim=12, depths=(2,), num_heads=(3,), window_size=4),
                  lambda: ARCH_REGISTRY.get("EDSR")(2, num_feat=8, num_block=1)):  # fmt: skip
        with without_memory():
            empty = build().state_dict()
        assert all(value.is_meta for value in empty.values())
        full = build().state_dict()
        assert {k: (v.shape, v.dtype) for k, v in empty.items()} == {
            k: (v.shape, v.dtype) for k, v in full.items()
        }


def test_what_has_memory_is_drawn() -> None:
    with without_memory():
        tensor = torch.zeros(9, device="cpu").normal_()
        assert nn.init.uniform_(torch.zeros(9, device="cpu"), 1, 2).min() >= 1
        assert nn.init.uniform_(torch.zeros(9), 1, 2).is_meta
    assert tensor.all()
    assert not torch.zeros(1).is_meta
