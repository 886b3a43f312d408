"""Measured costs compared with values that are calculated by hand."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from srtoolbox.archs import EDSR
from srtoolbox.archs.layers.deform import deform_conv2d
from srtoolbox.engine import profiling
from srtoolbox.engine.profiling import (
    FUSED_ATTENTION,
    TrainingStep,
    count_flops,
    flop_formulas,
    measure_inference,
    peak_memory,
)
from srtoolbox.losses import L1Loss
from srtoolbox.models import SRModel

CPU = torch.device("cpu")
MIB = 2**20


def test_peak_memory_counts_what_is_alive_at_once() -> None:
    side = 512  # 1 MiB per float32 image

    def chain() -> None:
        a = torch.zeros(side, side)  # 1
        b = a + 1  # 2
        del a  # 1
        c = b * 2  # 2
        torch.stack([b, c])  # 4

    assert peak_memory(chain, CPU) == pytest.approx(4)


def test_weights_inputs_and_views_are_not_counted() -> None:
    weight = torch.zeros(MIB // 4)

    def work() -> None:
        weight.view(2, -1).t()

    assert peak_memory(work, CPU) == 0


def test_the_backward_pass_is_counted() -> None:
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))
    batch = torch.zeros(MIB // 256, 64)  # 1 MiB
    with torch.no_grad():
        forward = peak_memory(lambda: net(batch), CPU)
    both = peak_memory(lambda: net(batch).sum().backward(), CPU)
    assert both > forward >= 2


def test_costs_of_edsr() -> None:
    net = EDSR(scale=2, num_feat=8, num_block=1)
    cost = measure_inference(net.train(), torch.rand(1, 3, 3, 10, 12), reference=0)
    assert cost["params"] == sum(p.numel() for p in net.parameters())
    pixels = 10 * 12
    body = 3 * 8 + 8 * 8 * 3  # first, two of the block, one after the body
    macs = 9 * pixels * (body + 8 * 32 + 4 * 8 * 3)  # upsampling conv, last conv on 4× pixels
    assert cost["flops"] == 2 * macs
    assert 0 < cost["latency"] <= cost["latency_p95"] and cost["memory"] > 0
    assert cost["runs"] >= 7
    assert (cost["input"], cost["precision"]) == ([1, 3, 3, 10, 12], "fp32")
    assert cost["uncounted"] == []
    assert net.training


@pytest.mark.parametrize("mode", [("nearest", 0), ("bilinear", 4), ("bicubic", 16)])
def test_flops_of_sampling(mode: tuple[str, int]) -> None:
    name, taps = mode
    x, grid = torch.rand(2, 3, 6, 7), torch.rand(2, 4, 5, 2)
    flops, _ = count_flops(lambda: F.grid_sample(x, grid, mode=name, align_corners=False))
    assert flops == 2 * taps * 2 * 3 * 4 * 5


@pytest.mark.parametrize("antialias", [False, True])
def test_flops_of_interpolation(antialias: bool) -> None:
    x = torch.rand(1, 3, 8, 6)
    options = {"mode": "bicubic", "antialias": antialias}
    flops, _ = count_flops(lambda: F.interpolate(x, size=(16, 12), **options))
    assert flops == 2 * 16 * 3 * 16 * 12


@pytest.mark.parametrize("backend", ["grid_sample", "torchvision"])
@pytest.mark.parametrize("masked", [False, True])
def test_deformable_convolution_costs_the_same_by_whatever_operator(
    backend: str, masked: bool
) -> None:
    pytest.importorskip("torchvision")
    n, channels, out, groups, h, w = 2, 8, 6, 2, 5, 7
    x, weight = torch.rand(n, channels, h, w), torch.rand(out, channels, 3, 3)
    offset = torch.rand(n, 2 * groups * 9, h, w)
    mask = torch.rand(n, groups * 9, h, w) if masked else None
    flops, uncounted = count_flops(
        lambda: deform_conv2d(x, offset, weight, torch.rand(out), mask, backend=backend)
    )
    sampled, weighted = n * channels * 9 * h * w, n * out * channels * 9 * h * w
    assert flops == 8 * sampled + 2 * weighted
    assert uncounted == []


SHAPES = {  # query (N, heads, L, E), key (N, heads, S, E), width of the values
    "self": ((2, 3, 10, 4), (2, 3, 10, 4), 4),
    "cross": ((2, 3, 10, 4), (2, 3, 20, 4), 4),
    "narrow": ((1, 2, 64, 3), (1, 2, 16, 3), 3),
    "values": ((2, 3, 10, 4), (2, 3, 20, 4), 7),
    "grouped": ((2, 6, 10, 4), (2, 3, 20, 4), 4),
}


def products(query: tuple[int, ...], key: tuple[int, ...], widths: int) -> int:
    n, heads, length, _ = query
    return 2 * n * heads * length * key[2] * widths


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("math", [False, True], ids=["default", "math"])
@pytest.mark.parametrize("masked", [False, True], ids=["all", "masked"])
@pytest.mark.parametrize("name", SHAPES)
def test_flops_of_attention(name: str, masked: bool, math: bool, context: Any) -> None:
    query, key, width = SHAPES[name]
    q, k, v = torch.rand(query), torch.rand(key), torch.rand(*key[:3], width)
    mask = torch.zeros(query[2], key[2]) if masked else None

    def work() -> None:
        F.scaled_dot_product_attention(q, k, v, mask, enable_gqa=name == "grouped")

    with sdpa_kernel(SDPBackend.MATH) if math else nullcontext(), context():
        assert count_flops(work) == (products(query, key, query[3] + width), [])


@pytest.mark.parametrize("name", SHAPES)
def test_flops_of_the_backward_pass_of_attention(name: str) -> None:
    query, key, width = SHAPES[name]
    q, k = torch.rand(query, requires_grad=True), torch.rand(key, requires_grad=True)
    v = torch.rand(*key[:3], width, requires_grad=True)

    def forward() -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, enable_gqa=name == "grouped")

    flops, uncounted = count_flops(lambda: forward().sum().backward())
    # The fused operator computes the scores (L, S) again; the other one has kept them.
    again = "flash" in type(forward().grad_fn).__name__.lower()
    assert again or name in ("values", "grouped")  # these two only in some versions of torch
    once = products(query, key, query[3] + width)
    assert flops == once + 2 * once + again * products(query, key, query[3])
    assert uncounted == []


def test_flops_of_torchs_own_transformer_layers() -> None:
    """Without gradients torch runs each as one operator, otherwise step by step."""
    x = torch.rand(2, 10, 8)
    attention = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    expected = 2 * (2 * 10) * 4 * 8 * 8 + products((2, 2, 10, 4), (2, 2, 10, 4), 8)
    for context in (torch.no_grad, torch.inference_mode, torch.enable_grad):
        with context():
            flops = count_flops(lambda: attention(x, x, x, need_weights=False))
            assert flops == (expected, [])
            assert count_flops(lambda: layer(x)) == (expected + 2 * (2 * 10) * 2 * 8 * 16, [])


def test_attention_without_a_formula_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiling, "FUSED_ATTENTION", ())
    q = torch.rand(1, 1, 4, 4)
    with torch.no_grad():
        _, uncounted = count_flops(lambda: F.scaled_dot_product_attention(q, q, q))
    assert uncounted == ["aten._scaled_dot_product_flash_attention_for_cpu"]


@pytest.mark.parametrize("operator", FUSED_ATTENTION)
def test_every_fused_attention_has_a_formula(operator: str) -> None:
    if not hasattr(torch.ops.aten, operator):
        pytest.skip(f"no {operator} in torch {torch.__version__}")
    formulas = flop_formulas()
    forward = formulas[getattr(torch.ops.aten, operator)]
    assert forward((2, 6, 10, 4), (2, 3, 20, 4), (2, 3, 20, 5), None, False) == 2 * 1200 * 2 * 9
    backward = getattr(torch.ops.aten, f"{operator}_backward", None)
    if backward is not None:
        shapes = ((2, 6, 10, 5), (2, 6, 10, 4), (2, 3, 20, 4), (2, 3, 20, 5))
        assert formulas[backward](*shapes, None) == 2 * 1200 * 2 * (3 * 4 + 2 * 5)


def test_an_operator_of_another_package_is_named() -> None:
    @torch.library.custom_op("srtoolbox_test::twice", mutates_args=())
    def twice(x: Tensor) -> Tensor:
        return 2 * x

    flops, uncounted = count_flops(lambda: twice(torch.rand(3)))
    assert (flops, uncounted) == (0, ["srtoolbox_test.twice"])


def step_of(batch: int) -> tuple[EDSR, TrainingStep]:
    net = EDSR(scale=2, num_feat=8, num_block=1)
    sample = {"lq": torch.rand(batch, 1, 3, 8, 8), "gt": torch.rand(batch, 3, 16, 16), "key": []}
    return net, TrainingStep(SRModel(net, {"l_pix": L1Loss()}, 0), sample, CPU)


def test_gradients_are_computed_and_weights_stay() -> None:
    net, step = step_of(2)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert step.seconds() > 0
    assert all(parameter.grad is not None for parameter in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_memory_grows_with_the_batch_and_holds_the_gradients() -> None:
    net, small = step_of(1)
    _, large = step_of(8)
    gradients = sum(p.numel() * p.element_size() for p in net.parameters()) / 2**20
    assert gradients < small.memory() < large.memory()


def test_phases_share_a_memo_and_may_make_no_step() -> None:
    memos = []

    class Model:
        phases = ("g", "d")
        networks: ClassVar[dict[str, nn.Module]] = {"g": nn.Linear(1, 1), "d": nn.Linear(1, 1)}

        def objective(self, phase, batch, step=0, memo=None):
            memos.append(memo)
            return {} if phase == "g" else {"l_d": self.networks["d"](batch["lq"]).sum()}

    TrainingStep(Model(), {"lq": torch.ones(1, 1)}, CPU).run()
    assert memos[0] is memos[1] is not None
    grads = [net.weight.grad is not None for net in Model.networks.values()]
    assert grads == [False, True]
