"""MSTT-STVSR: size and names of the published network, effects of flow and of `legacy`."""

from __future__ import annotations

import pytest
import torch

from srtoolbox.archs.layers.video import space_time
from srtoolbox.archs.msttstvsr import MSTTSTVSR, _warp
from srtoolbox.errors import UserError
from srtoolbox.utils.meta import without_memory

TINY = {
    "num_feat": 8,
    "num_extract_block": 1,
    "num_reconstruct_block": 1,
    "deformable_groups": 2,
    "patch_sizes": (4, 2),
}


def tiny(**options) -> MSTTSTVSR:
    torch.manual_seed(0)
    return MSTTSTVSR(**{**TINY, **options}).eval()


@pytest.mark.parametrize(("blocks", "count"), [(10, 4925723), (20, 5664283), (40, 7141403)])
def test_number_of_parameters(blocks: int, count: int) -> None:
    with without_memory():
        net = MSTTSTVSR(num_reconstruct_block=blocks)
    assert sum(parameter.numel() for parameter in net.parameters()) == count
    assert len(net.state_dict()) == 72 + 4 * blocks


def test_names_of_the_published_weights() -> None:
    names = set(tiny().state_dict())
    assert {name.split(".")[0] for name in names} == {
        *("conv_first", "feature_extraction", "MSD_align", "fusion", "blending", "MSST_former"),
        *("recon_trunk", "upconv1", "upconv2", "HRconv", "conv_last"),
    }
    assert {
        "MSST_former.encoder.4.weight",
        "MSST_former.decoder.0.conv.weight",
        "MSST_former.transformer.0.attention.query_embedding.weight",
        "MSST_former.transformer.0.attention.output_linear.0.bias",
        "MSST_former.transformer.0.feed_forward.conv.2.weight",
        "MSD_align.dcnpack.conv_offset_mask.weight",
    } <= names


def test_sizes_follow_from_the_patches() -> None:
    assert (MSTTSTVSR.size_multiple, MSTTSTVSR.min_size) == (80, 80)
    with without_memory():
        assert MSTTSTVSR().size_multiple == 80
    assert tiny(patch_sizes=(6, 4)).size_multiple == 24


@torch.no_grad()
@pytest.mark.parametrize("frames", [2, 5])
def test_other_numbers_of_frames(frames: int) -> None:
    sr = tiny(num_frame=frames)(torch.rand(1, frames, 3, 8, 8))
    assert sr.shape == (1, 2 * frames - 1, 3, 32, 32)


@torch.no_grad()
def test_no_flow_is_no_motion() -> None:
    net, lq = tiny(), torch.rand(1, 4, 3, 8, 16)
    still = torch.zeros(1, 2, 3, 2, 8, 16)
    assert torch.equal(net(lq), net(lq, still))
    moved = still.clone()
    moved[:, 1, 2] = 3.0
    assert not torch.allclose(net(lq), net(lq, moved))


def test_warp() -> None:
    feat = torch.rand(1, 2, 6, 9)
    still = torch.zeros(1, 2, 6, 9)
    torch.testing.assert_close(_warp(feat, still, legacy=False), feat)
    assert not torch.allclose(_warp(feat, still, legacy=True), feat, atol=1e-2)
    still[:, 0] = 2
    right = _warp(feat, still, legacy=False)
    torch.testing.assert_close(right[..., :-2], feat[..., 2:])
    assert not right[..., -2:].any()  # zero beyond the border


@torch.no_grad()
def test_legacy_does_not_align_backwards() -> None:
    lq, flow = torch.rand(1, 4, 3, 8, 8), torch.zeros(1, 2, 3, 2, 8, 8)
    for legacy, expected in ((False, 6), (True, 3)):
        net, calls = tiny(legacy=legacy), []
        net.MSD_align.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        net(lq, flow)
        assert len(calls) == expected


def test_parts_of_the_attention_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    net, lq = tiny().train(), torch.rand(2, 4, 3, 8, 8)
    results = []
    for pairs in (2**22, 20):
        monkeypatch.setitem(space_time.PAIRS, "cpu", pairs)
        net.zero_grad()
        sr = net(lq)
        sr.square().mean().backward()
        results.append([sr.detach(), *(p.grad.clone() for p in net.parameters())])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


def test_bad_options() -> None:
    with pytest.raises(UserError, match="num_frame must be at least 2, got 1"):
        tiny(num_frame=1)
    with pytest.raises(UserError, match="number divides"):
        tiny(patch_sizes=(4, 2, 1))
