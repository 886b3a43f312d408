from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from support.bursts import bursts
from torch.utils.flop_counter import FlopCounterMode

from srtoolbox.archs.dstcsrnet_plus import DSTCSRNetPlus
from srtoolbox.archs.layers.burst.bayer import demosaic
from srtoolbox.archs.layers.upsample import bicubic_upsample
from srtoolbox.config.files import read
from srtoolbox.data import SampleBursts, SampleStream, SyntheticBursts
from srtoolbox.data.stream import to_float
from srtoolbox.engine.options import TrainOptions
from srtoolbox.engine.training.acceleration import accelerate
from srtoolbox.errors import UserError
from srtoolbox.registry import constructor_parameters
from srtoolbox.utils.meta import without_memory

ROOT = Path(__file__).parents[2]
TINY = {"num_feat": 16, "num_block": 1, "num_feat_fine": 8, "num_layer_fine": 1}


def tiny(seed: int = 0, **options) -> DSTCSRNetPlus:
    torch.manual_seed(seed)
    return DSTCSRNetPlus(**{**TINY, **options})


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
        {"average": False},
        {"samples": False},
        {"refine": False},
        {"trust": False},
        {"num_layer_fine": 2, "scale": 3},
        {"scale": 2},
        {"channels": 4, "scale": 8},
        {"num_in_ch": 4},
        {"num_in_ch": 1, "samples": False},
    ],
    ids=str,
)
def test_gradient_reaches_every_parameter_of_every_variant(options):
    net = tiny(**options)
    lq = bursts(1, 16, 4, seed=0)[0].repeat_interleave(2, 2)[:, :, : net.channels]
    net(lq).square().mean().backward()
    silent = [k for k, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_options_must_be_possible():
    with pytest.raises(UserError, match="num_feat_fine must be even, got 7"):
        DSTCSRNetPlus(num_feat_fine=7)
    with pytest.raises(UserError, match="max_frame must be at least 1, got 0"):
        DSTCSRNetPlus(max_frame=0)
    with pytest.raises(UserError, match="num_layer_fine must be at least 1, got 0"):
        DSTCSRNetPlus(num_layer_fine=0)


def test_scale_must_be_known():
    with pytest.raises(UserError, match="scale 5 is not available"):
        DSTCSRNetPlus(scale=5)


@pytest.mark.parametrize(("preset", "low", "high"), [("s", 0.1, 1), ("b", 1, 2), ("l", 4, 8)])
def test_presets_have_their_sizes(preset, low, high):
    options = dict(read(ROOT / f"options/_base_/networks/dstcsrnet_plus_{preset}.yml")["network_g"])
    assert options.pop("type") == "DSTCSRNetPlus"
    with without_memory():
        count = sum(p.numel() for p in DSTCSRNetPlus(**options).parameters())
    assert low * 1e6 < count < high * 1e6


def test_b_is_the_default():
    options = dict(read(ROOT / "options/_base_/networks/dstcsrnet_plus_b.yml")["network_g"])
    defaults = {k: p.default for k, p in constructor_parameters(DSTCSRNetPlus).items()}
    assert options.pop("type") == "DSTCSRNetPlus"
    assert options.items() <= defaults.items()


@pytest.mark.slow
def test_cost_grows_with_frames_and_pixels_and_no_faster():
    net = tiny().eval()

    def flops(num_frame: int, size: int) -> int:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            net(torch.rand(1, num_frame, 3, size, size))
        return counter.get_total_flops()

    assert flops(6, 16) - flops(4, 16) == flops(4, 16) - flops(2, 16)
    assert flops(3, 32) == pytest.approx(4 * flops(3, 16), rel=0.01)


def test_blocks_can_be_recomputed():
    lq = torch.rand(1, 3, 3, 10, 14)
    gradients = []
    for recompute in (False, True):
        net = tiny()
        accelerate(net, TrainOptions(10, checkpointing=recompute), generator=True)
        net(lq).square().mean().backward()
        gradients.append([p.grad for p in net.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


@pytest.mark.parametrize("scale", [4, 6, 8])
def test_raw(scale):
    net = tiny(scale=scale, channels=4).eval()
    with torch.no_grad():
        assert net(torch.rand(1, 3, 4, 5, 7)).shape == (1, 3, 5 * scale, 7 * scale)


def test_scale_of_raw_counts_packing():
    with pytest.raises(UserError, match="scale 3 is not available; use one of 4, 6, 8"):
        DSTCSRNetPlus(scale=3, channels=4)


def test_other_frames_help_in_raw_before_any_training():
    lq, gt = bursts(4, 48, 8, seed=1)
    packed = F.pixel_unshuffle(mosaic(lq.flatten(0, 1)), 2).unflatten(0, lq.shape[:2])
    with torch.no_grad():
        sr = tiny(scale=8, channels=4).eval()(packed)
    alone = bicubic_upsample(demosaic(packed[:, 0]), 4)
    assert psnr(sr, gt) > psnr(alone, gt) + 0.2


def mosaic(rgb: torch.Tensor) -> torch.Tensor:
    """Samples RGB images (N, 3, h, w) with an RGGB pattern: (N, 1, h, w)."""
    kept = rgb[:, 1:2].clone()
    kept[..., ::2, ::2] = rgb[:, 0:1, ::2, ::2]
    kept[..., 1::2, 1::2] = rgb[:, 2:3, 1::2, 1::2]
    return kept


def test_four_bands_are_not_raw():
    raw, bands = tiny(channels=4), tiny(num_in_ch=4)
    assert (raw.channels, raw.out_channels, raw.raw, raw.scales) == (4, 3, True, (4, 6, 8))
    assert (bands.channels, bands.out_channels, bands.raw, bands.scales) == (4, 4, False, (2, 3, 4))
    with torch.no_grad():
        assert bands.eval()(torch.rand(1, 3, 4, 5, 7)).shape == (1, 4, 20, 28)
    with pytest.raises(UserError, match="means packed RAW, but num_in_ch is 4; for images of 4 b"):
        tiny(channels=4, num_in_ch=4)
    with pytest.raises(UserError, match="channels must be 3 or 4, got 5"):
        tiny(channels=5)


@pytest.mark.parametrize("num_band", [1, 4, 8])
def test_other_frames_help_in_any_number_of_bands_before_any_training(num_band):
    lq, gt = bursts(4, 24, 8, seed=1)
    lq, gt = (x.repeat_interleave(3, -3)[..., :num_band, :, :] for x in (lq, gt))
    with torch.no_grad():
        sr = tiny(num_in_ch=num_band).eval()(lq)
    assert psnr(sr, gt) > psnr(bicubic_upsample(lq[:, 0], 4), gt) + 0.2


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
def test_one_step_at_a_high_rate_does_not_shift_the_image(seed):
    net = tiny(seed)
    lq, gt = bursts(2, 16, 5, seed)
    optimizer = torch.optim.Adam(net.parameters(), 2.5e-3)
    before = net(lq)
    F.l1_loss(before, gt).backward()
    optimizer.step()
    with torch.no_grad():
        assert (net(lq) - before).abs().mean() < 0.02


def fit(net: DSTCSRNetPlus, dataset: object, seed: int, steps: int, precision: str) -> None:
    """Trains for some steps on a dataset's stream of samples."""
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3)
    for batch in SampleStream(dataset, seed, 2).batches(0, steps):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            sr = net(batch["lq"])
        F.l1_loss(sr.float(), batch["gt"]).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        optimizer.step()


def owed_to_other_frames(net: DSTCSRNetPlus, dataset: object, indices: range) -> float:
    """Returns the PSNR gain over an input with every frame replaced by the reference."""
    lost = []
    net.eval()
    with torch.no_grad():
        for sample in (dataset[i] for i in indices):
            lq, gt = (to_float(torch.from_numpy(sample[key]))[None] for key in ("lq", "gt"))
            blind = net(lq[:, :1].expand_as(lq))
            lost.append(psnr(net(lq), gt) - psnr(blind, gt))
    return sum(lost) / len(lost)


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "precision"), [(0, "fp32"), (1, "bf16")])
def test_training_finds_the_other_frames_of_the_sample_bursts(seed, precision):
    net = tiny(seed)
    fit(net, SampleBursts("train", num_frame=5, gt_size=64), seed, 25, precision)
    test = SampleBursts("test", num_frame=5, gt_size=128, num_burst=4)
    assert owed_to_other_frames(net, test, range(4)) > 0.9


@pytest.mark.slow
def test_training_finds_the_other_frames_of_synthetic_bursts(reference):
    net = tiny(2)
    photographs = reference / "data/yang91/HR"
    fit(net, SyntheticBursts(dataroot=str(photographs), num_frame=5, gt_size=64), 2, 25, "fp32")
    test = SyntheticBursts(dataroot=str(reference / "data/Set5/HR"), num_frame=5)
    assert owed_to_other_frames(net, test, range(1, 4)) > 0.9  # the small ones of the five
