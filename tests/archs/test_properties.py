"""Properties of every registered network."""

from __future__ import annotations

import io
import typing
from functools import cache

import pytest
import torch
from support.bursts import bursts
from support.networks import NAMES, NAMES_AND_SCALES, SMALL, outputs

from srtoolbox.archs.base import arch_info
from srtoolbox.errors import UserError
from srtoolbox.inference.padding import run_padded
from srtoolbox.registry import ARCH_REGISTRY, constructor_parameters

every_arch = pytest.mark.parametrize("name", NAMES)
DRAWS = ("DSRNet", "MDSR")
every_scale = pytest.mark.parametrize(("name", "scale"), NAMES_AND_SCALES)


def build(name, scale=None, seed=1):
    """Returns a small network whose weights are all nonzero."""
    arch = ARCH_REGISTRY.get(name)
    torch.manual_seed(seed)
    net = arch(scale or arch.scales[-1], **SMALL.get(name, {}))
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return net


@cache
def evaluated(name):
    """Returns a small network in eval mode, an input and its outputs, for tests that keep them."""
    net = build(name).eval()
    lq = make_lq(net)
    with torch.no_grad():
        return net, lq, outputs(net, lq)


def make_lq(net, n=2, size=None, frames=3):
    torch.manual_seed(2)
    info = arch_info(net)
    if size is None:
        multiple = info.size_multiple
        enough = max(8, info.min_size) + multiple - 1
        size = (enough // multiple * multiple, enough // multiple * multiple + multiple)
    if info.num_frame == 1:
        return torch.rand(n, 3, *size)
    return torch.rand(n, info.num_frame or frames, 3, *size)


def sr_shape(net, lq):
    """Returns the expected shape of the SR image, or of the SR clip."""
    info, frames = arch_info(net), ()
    if info.restores_all:
        frames = (info.time_scale * (lq.shape[1] - 1) + 1,)
    return (len(lq), *frames, 3, lq.shape[-2] * net.scale, lq.shape[-1] * net.scale)


@every_arch
def test_constructor_is_an_option_schema(name):
    arch = ARCH_REGISTRY.get(name)
    parameters = constructor_parameters(arch)
    first = next(iter(parameters.values()))
    assert (first.name, first.default) == ("scale", 4 if 4 in arch.scales else arch.scales[-1])
    hints = typing.get_type_hints(arch.__init__)
    for parameter in parameters.values():
        assert parameter.kind is parameter.POSITIONAL_OR_KEYWORD, parameter
        assert parameter.name in hints, f"{parameter} has no type hint"


@every_arch
def test_every_scale_is_as_declared(name):
    arch = ARCH_REGISTRY.get(name)
    for scale in arch.scales:
        net, shown = build(name, scale).eval(), f"x{scale}"
        for info in (arch_info(arch), arch_info(net)):  # which checks all types
            assert info.paper, shown
            assert "\n" not in info.paper, shown
            assert scale in info.scales, shown
            assert info.num_frame is None or info.num_frame >= 1, shown
            assert 0 <= info.reference < (info.num_frame or 2), shown
            assert info.size_multiple >= 1, shown
            assert info.min_size >= 1, shown
        assert net.scale == scale
        lq = make_lq(net)
        before = lq.clone()
        with torch.no_grad():
            sr = outputs(net, lq)["sr"]
        assert sr.shape == sr_shape(net, lq), shown
        assert sr.dtype == torch.float32, shown
        assert torch.equal(lq, before), f"{shown}: the network changed its input"


@every_arch
def test_other_scales_are_refused(name):
    for scale in (0, 7):
        with pytest.raises(UserError, match=rf"scale {scale} is not available; use one of \d"):
            ARCH_REGISTRY.get(name)(scale)


@every_arch
def test_any_input_size(name):
    net, *_ = evaluated(name)
    for size in ((1, 1), (7, 5), (9, 18)):
        lq = make_lq(net, 1, size)
        with torch.no_grad():
            sr = run_padded(net, lq)
        assert sr.shape == sr_shape(net, lq), size
        assert torch.isfinite(sr).all(), size


@pytest.mark.parametrize(
    "name", [name for name in NAMES if arch_info(ARCH_REGISTRY.get(name)).num_frame is None]
)
def test_any_number_of_frames_if_declared(name):
    net, *_ = evaluated(name)
    for frames in (1, 2, 5):
        with torch.no_grad():
            sr = outputs(net, make_lq(net, frames=frames))["sr"]
        assert torch.isfinite(sr).all(), f"{frames} frames"


@pytest.mark.slow
@every_scale
def test_gradient_reaches_every_parameter(name, scale):
    net = build(name, scale)
    silent = {n for n, p in net.named_parameters() if p.requires_grad}
    if not silent:
        pytest.skip(f"{name} has nothing to learn")
    dead = {n for n in silent if n.startswith(arch_info(net).dead_parameters)}
    for seed in (1, 2, 3):  # a ReLU of so small a network may be dead with one of them
        net = build(name, scale, seed).train()
        # So many images that every branch of a network that draws one is drawn. A network for any
        # number of frames may use those that show new samples of the scene alone.
        any_number = arch_info(net).num_frame is None
        lq = bursts(4, 16, 3, 2)[0] if any_number else make_lq(net, 24 if name in DRAWS else 4)
        result = outputs(net, lq)
        sum(tensor.square().mean() for tensor in result.values()).backward()
        silent &= {n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()}
        if silent == dead:
            break
    assert silent == dead


@every_arch
def test_eval_is_deterministic(name):
    net, lq, first = evaluated(name)
    torch.manual_seed(4)
    state = torch.get_rng_state()
    with torch.no_grad():
        second = outputs(net, lq)
    assert torch.equal(torch.get_rng_state(), state), "random numbers were drawn"
    for key in first:
        assert torch.equal(first[key], second[key])


@every_arch
def test_training_is_a_function_of_the_seed(name):
    net = build(name).train()
    lq = make_lq(net)
    results = []
    for _ in range(2):
        torch.manual_seed(5)
        results.append(outputs(net, lq))
    for key in results[0]:
        assert torch.equal(results[0][key], results[1][key])


@every_arch
def test_images_of_a_batch_do_not_mix(name):
    net, lq, both = evaluated(name)
    with torch.no_grad():
        second = outputs(net, lq[1:])
    for key in both:
        torch.testing.assert_close(both[key][1:], second[key], rtol=0, atol=1e-4)


@every_arch
def test_weights_survive_saving(name):
    net, lq, result = evaluated(name)
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    torch.manual_seed(6)
    fresh = ARCH_REGISTRY.get(name)(net.scale, **SMALL.get(name, {})).eval()
    fresh.load_state_dict(torch.load(file, weights_only=True))
    with torch.no_grad():
        assert torch.equal(result["sr"], outputs(fresh, lq)["sr"])


@every_arch
def test_memory_format_does_not_change_the_result(name):
    _, lq, expected = evaluated(name)
    net = build(name).eval().to(memory_format=torch.channels_last)
    with torch.no_grad():
        actual = outputs(net, lq)
    # Sums come in another order, so where values are large the last bits differ.
    for key, value in expected.items():
        atol = 1e-5 * max(1.0, value.abs().max().item())
        torch.testing.assert_close(actual[key], value, rtol=0, atol=atol)


@every_arch
def test_runs_under_autocast(name):
    net = build(name).train()
    lq = make_lq(net)
    torch.manual_seed(7)
    with torch.autocast("cpu", torch.bfloat16):
        result = outputs(net, lq)
    assert all(torch.isfinite(tensor).all() for tensor in result.values())
    learned = [p for p in net.parameters() if p.requires_grad]
    if learned:
        sum(tensor.float().square().mean() for tensor in result.values()).backward()
        assert all(torch.isfinite(p.grad).all() for p in learned if p.grad is not None)

    net.eval()
    with torch.no_grad():
        exact = outputs(net, lq)["sr"]
        with torch.autocast("cpu", torch.bfloat16):
            rough = outputs(net, lq)["sr"].float()
    assert (rough - exact).abs().mean() < 0.05 * exact.abs().mean() + 0.01
