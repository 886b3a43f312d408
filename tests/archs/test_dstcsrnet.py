from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from srtoolbox.archs import dstcsrnet
from srtoolbox.archs.dstcsrnet import DSTCSRNet
from srtoolbox.archs.layers.conv_lstm import ConvLSTM
from srtoolbox.bench.straightforward import straightforward
from srtoolbox.config.files import read
from srtoolbox.config.schema import build
from srtoolbox.engine.options import TrainOptions
from srtoolbox.engine.training.acceleration import accelerate
from srtoolbox.errors import UserError
from srtoolbox.utils.meta import without_memory
from srtoolbox.utils.torch_private import TorchDispatchMode, tree_leaves

ROOT = Path(__file__).parents[2]


def tiny(seed: int = 0, **options) -> DSTCSRNet:
    """Returns a small network in which every weight has an influence."""
    torch.manual_seed(seed)
    net = DSTCSRNet(**{"num_feat": 8, **options})
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return net


def gradients(net: nn.Module, lq: torch.Tensor) -> torch.Tensor:
    """Returns the gradients of all parameters and of the frames, as one vector."""
    net.zero_grad(set_to_none=True)
    lq = lq.clone().requires_grad_()
    net(lq).square().mean().backward()
    grads = [p.new_zeros(p.shape) if p.grad is None else p.grad for p in (*net.parameters(), lq)]
    return torch.cat([grad.flatten() for grad in grads])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["16f", "b2", "odd"])
def test_agrees_with_the_reference(golden, name):
    expected = golden(f"dstcsrnet_{name}")
    net = expected.load(DSTCSRNet())
    alphas = []
    net.alpha_predictor.register_forward_hook(lambda module, inputs, alpha: alphas.append(alpha))
    with torch.no_grad():
        output = net(expected.arrays["input"])
    torch.testing.assert_close(output, expected.arrays["output"], rtol=0, atol=1e-4)
    torch.testing.assert_close(alphas[0], expected.arrays["alphas"], rtol=0, atol=1e-4)


def test_has_the_tensors_of_the_authors(reference: Path):
    manifest = json.loads((reference / "goldens/manifest.json").read_text(encoding="utf-8"))
    with without_memory():
        net = DSTCSRNet()
    own = {key: list(value.shape) for key, value in net.state_dict().items()}
    assert own == manifest["_dstcsrnet_keys"]


def test_has_the_published_number_of_parameters():
    with without_memory():
        net = DSTCSRNet()
    assert len(net.state_dict()) == 269
    assert sum(p.numel() for p in net.parameters()) == 3_487_333


@pytest.mark.parametrize(("name", "expected"), [("", 3_487_333), ("_s", 220_039)])
def test_option_bases_have_their_sizes(name, expected):
    path = ROOT / f"options/_base_/networks/dstcsrnet{name}.yml"
    with without_memory():
        net = build("arch", read(path)["network_g"])
    assert sum(p.numel() for p in net.parameters()) == expected
    assert f"{expected / 1e6:.2f} M" in path.read_text(encoding="utf-8").splitlines()[0]


def test_layers_start_like_those_of_torch():
    torch.manual_seed(0)
    net = DSTCSRNet()
    attention = net.alpha_predictor.temporal_attention
    limit = math.sqrt(6 / (64 + 3 * 64))
    assert 0.95 * limit < attention.in_proj_weight.abs().max() <= limit
    assert not attention.in_proj_bias.any() and not attention.out_proj.bias.any()
    assert net.get_parameter("unit1.init_layer.1.weight").item() == 0.25
    assert net.feature_enhancement.residual_scale.item() == pytest.approx(0.1)
    assert not any(p.any() for n, p in net.named_parameters() if ".b_" in n)


@pytest.mark.parametrize("num_frame", [1, 4])
def test_bursts_of_a_batch_do_not_mix(num_frame):
    net = tiny().double().eval()
    lq = torch.rand(3, num_frame, 3, 6, 7, dtype=torch.float64)
    with torch.no_grad():
        each = torch.cat([net(burst[None]) for burst in lq])
        torch.testing.assert_close(net(lq), each, rtol=0, atol=1e-12)


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_smallest_and_odd_sizes(scale):
    net = tiny(scale=scale).eval()
    for size in [(4, 4), (5, 11)]:
        with torch.no_grad():
            sr = net(torch.rand(2, 2, 3, *size))
        assert sr.shape == (2, 3, size[0] * scale, size[1] * scale)
        assert sr.isfinite().all()


def test_inference_in_parts_of_few_frames_gives_the_same(monkeypatch):
    net = tiny().double().eval()
    lq = torch.rand(2, 5, 3, 6, 7, dtype=torch.float64)
    expected = net(lq)
    for frames in (1, 2, 3):
        monkeypatch.setitem(dstcsrnet._INFERENCE_PIXELS, "cpu", frames * 2 * 6 * 7)
        with torch.no_grad():
            torch.testing.assert_close(net(lq), expected, rtol=0, atol=1e-12)


def test_reference_is_the_lower_median_of_sixteen_frames():
    net = tiny().eval()
    seen = []
    net.unit1.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    lq = torch.rand(2, 18, 3, 4, 5)
    with torch.no_grad():
        net(lq)
    assert torch.equal(seen[0].unflatten(0, (2, 19))[:, -1], lq[:, :16].sort(1).values[:, 7])


@pytest.mark.parametrize("num_feat", [0, 4, 12])
def test_other_widths_are_refused(num_feat):
    with pytest.raises(UserError, match=f"num_feat must be a multiple of 8, got {num_feat}"):
        DSTCSRNet(num_feat=num_feat)


CASES = [((2, 3, 3, 9, 7), 4), ((2, 1, 3, 4, 5), 3), ((1, 17, 3, 8, 8), 2)]


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "scale"), CASES)
def test_agrees_with_the_straightforward_form(shape, scale):
    net = tiny(scale=scale).double()
    other = straightforward(copy.deepcopy(net))
    lq = torch.rand(shape, dtype=torch.float64)
    torch.testing.assert_close(net(lq), other(lq), rtol=1e-9, atol=1e-9)
    ours, theirs = gradients(net, lq), gradients(other, lq)
    assert (ours - theirs).norm() <= 1e-9 * theirs.norm()

    net, other = net.float(), other.float()
    torch.testing.assert_close(net(lq.float()), other(lq.float()), rtol=0, atol=1e-4)
    ours, theirs = gradients(net, lq.float()), gradients(other, lq.float())
    assert (ours - theirs).norm() <= 1e-4 * theirs.norm()


def test_only_the_straightforward_form_has_another_form():
    other = nn.Conv2d(1, 1, 1)
    assert straightforward(other) is other


@pytest.mark.slow
def test_gradients_of_the_recurrence_are_those_of_finite_differences():
    torch.manual_seed(0)
    lstm = ConvLSTM(2, 3).double()
    x = torch.rand(2, 3, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    names, parameters = zip(*lstm.named_parameters(), strict=True)

    def run(x, *parameters):
        return torch.func.functional_call(lstm, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(run, (x, *parameters), fast_mode=True)


class Largest(TorchDispatchMode):
    """Keeps the largest number of elements of a tensor that an operator returns."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        self.elements = max(self.elements, *sizes, 0)
        return result


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_weights_of_the_attention_are_never_a_tensor(precision):
    net = tiny()
    lq = torch.rand(1, 2, 3, 40, 40)
    pixels = lq.shape[-2] * lq.shape[-1]
    with Largest() as largest:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            sr = net(lq)
        sr.float().square().mean().backward()
        forward_and_backward = largest.elements
        with torch.no_grad():
            net.eval()(lq)
    assert max(forward_and_backward, largest.elements) < pixels**2
    with Largest() as largest, torch.no_grad():
        straightforward(net)(lq)
    assert largest.elements >= pixels**2


@pytest.mark.slow
def test_recomputation_changes_no_gradient():
    net = tiny()
    lq = torch.rand(1, 3, 3, 6, 6)
    before = gradients(net, lq)
    options = {"optim_g": {"type": "Adam"}, "checkpointing": True, "total_iter": 1}
    accelerate(net, TrainOptions(**options), generator=True)
    torch.testing.assert_close(gradients(net, lq), before)


@pytest.mark.slow
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradients_in_bf16_are_close(layout):
    net = tiny()
    lq = torch.rand(2, 4, 3, 12, 12)
    exact = gradients(net, lq)
    net.to(memory_format=layout)
    with torch.autocast("cpu", torch.bfloat16):
        rough = gradients(net, lq)
    assert (rough - exact).norm() < 0.1 * exact.norm()


@pytest.mark.slow
def test_learns_a_burst():
    torch.manual_seed(0)
    net = DSTCSRNet(2, num_feat=8)
    gt = torch.rand(1, 3, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    lq = nn.functional.avg_pool2d(gt, 2)[:, None].repeat(1, 3, 1, 1, 1)
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    losses = []
    for _ in range(60):
        loss = (net(lq) - gt).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
