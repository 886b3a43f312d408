from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from srtoolbox.archs.dstcsrnet import DSTCSRNet
from srtoolbox.archs.layers.upsample import bicubic_upsample
from srtoolbox.errors import UserError

TINY = {
    "num_feat": 16,
    "num_block": 1,
    "num_level": 2,
    "memory_kernel": 1,
    "num_block_spatial": 1,
    "num_layer_fusion": 1,
    "num_head": 2,
    "window_size": 4,
    "num_group": 1,
    "num_block_group": 1,
    "num_block_decoder": 0,
}


def tiny(seed: int = 0, **options) -> DSTCSRNet:
    torch.manual_seed(seed)
    return DSTCSRNet(**{**TINY, **options})


def bursts(num: int, size: int, num_frame: int, seed: int, scale: int = 4):
    """Shifted views of random scenes with detail beyond what one frame can hold.

    Returns lq (num, T, 3, size, size) and gt (num, 3, size·scale, size·scale).
    """
    draw = torch.Generator().manual_seed(seed)
    pad, side = 8, size * scale
    detail = torch.rand(num, 3, (side + 2 * pad) // 3, (side + 2 * pad) // 3, generator=draw)
    scene = F.interpolate(detail, (side + 2 * pad,) * 2, mode="bicubic", antialias=True).clamp(0, 1)
    frames = []
    for t in range(num_frame):
        x, y = torch.randint(0, 2 * pad + 1, (2,), generator=draw) if t else (pad, pad)
        frames.append(F.avg_pool2d(scene[..., y : y + side, x : x + side], scale))
    lq = torch.stack(frames, 1)
    lq = lq + 0.01 * torch.randn(lq.shape, generator=draw)
    return lq, scene[..., pad:-pad, pad:-pad]


def psnr(sr: torch.Tensor, gt: torch.Tensor) -> float:
    return -10 * ((sr - gt)[..., 8:-8, 8:-8] ** 2).mean().log10().item()


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(("num_frame", "size"), [(1, (8, 8)), (3, (13, 18)), (5, (1, 2))])
def test_any_scale_number_of_frames_and_size(scale, num_frame, size):
    net = tiny(scale=scale).eval()
    with torch.no_grad():
        sr = net(torch.rand(2, num_frame, 3, *size))
    assert sr.shape == (2, 3, size[0] * scale, size[1] * scale)
    assert sr.isfinite().all()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"alignment": "global"},
        {"alignment": "residual"},
        {"alignment": "none"},
        {"streams": "temporal"},
        {"streams": "spatial"},
        {"fusion": "concat"},
        {"fusion": "sum"},
        {"mlfe": "off"},
        {"decoder": "plain", "num_block_decoder": 1},
        {"num_level": 1, "memory_kernel": 3},
    ],
    ids=str,
)
def test_gradient_reaches_every_parameter_of_every_variant(options):
    net = tiny(**options)
    net(torch.rand(1, 3, 3, 12, 12)).square().mean().backward()
    silent = [k for k, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_scale_must_be_known():
    with pytest.raises(UserError, match="scale 5 is not available"):
        DSTCSRNet(scale=5)


def test_base_has_the_size_it_is_said_to_have():
    count = sum(p.numel() for p in DSTCSRNet().parameters())
    assert 3.5e6 < count < 5.5e6


def test_reference_may_stand_anywhere():
    lq, _ = bursts(1, 12, 4, seed=0)
    first, third = tiny().eval(), tiny(reference=2).eval()
    with torch.no_grad():
        assert torch.equal(first(lq), third(lq[:, [1, 2, 0, 3]]))


def test_bfloat16_stays_close():
    lq, _ = bursts(1, 16, 3, seed=0)
    net = tiny().eval()
    with torch.no_grad():
        exact = net(lq)
        with torch.autocast("cpu", torch.bfloat16):
            rough = net(lq)
    assert torch.equal(exact, net(lq))
    assert (exact - rough).abs().max() < 0.05


def test_other_frames_help_before_any_training():
    lq, gt = bursts(4, 24, 8, seed=1)
    with torch.no_grad():
        sr = tiny().eval()(lq)
    assert psnr(sr, gt) > psnr(bicubic_upsample(lq[:, 0], 4), gt) + 0.2


@pytest.mark.parametrize("seed", [0, 1])
def test_training_does_not_settle_as_a_single_image_network(seed):
    net = tiny(seed)
    lq, gt = bursts(40, 16, 5, seed=10 + seed)
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3)
    for step in range(30):
        batch = slice(step * 4 % 40, step * 4 % 40 + 4)
        optimizer.zero_grad()
        F.l1_loss(net(lq[batch]), gt[batch]).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        optimizer.step()

    lq, gt = bursts(6, 24, 5, seed=99)
    net.eval()
    with torch.no_grad():
        score = psnr(net(lq), gt)
        blind = psnr(net(lq[:, :1].expand_as(lq)), gt)
    assert score > psnr(bicubic_upsample(lq[:, 0], 4), gt) + 1
    assert score > blind + 1
