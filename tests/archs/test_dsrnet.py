from __future__ import annotations

import pytest
import torch
from torch import nn

from srtoolbox.archs.dsrnet import DSRNet
from srtoolbox.errors import UserError

# The gate's first output stands for branch 2, its second for branch 1.
BRANCHES = {"output_idx0": 2, "output_idx1": 1}


@pytest.mark.parametrize(("scale", "expected"), [(2, 934_602), (3, 1_119_242), (4, 1_082_314)])
def test_has_the_published_number_of_parameters(scale, expected):
    assert sum(p.numel() for p in DSRNet(scale).parameters()) == expected


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("size", ["small", "default"])
def test_agrees_with_the_reference(golden, scale, size):
    expected = golden(f"dsrnet_x{scale}_{size}")
    num_feat = expected.entry["config"]["features"]
    lq = expected.arrays["input"]
    for key, branch in BRANCHES.items():
        net = expected.load(DSRNet(scale, num_feat, branch=branch))
        with torch.no_grad():
            torch.testing.assert_close(net(lq), expected.arrays[key], rtol=0, atol=1e-4)
    assert_logits(net, lq, expected.arrays["gate_logits"])


def test_official_weights_agree_with_the_reference(golden, reference):
    path = reference / "weights/DSRNet_x2_600000.pth"
    if not path.is_file():
        pytest.skip(f"no official weights at {path}")
    weights = torch.load(path, map_location="cpu", weights_only=True)
    arrays = golden("dsrnet_x2_officialckpt_io").arrays
    for key, branch in {**BRANCHES, "output_idx1": "gate"}.items():
        net = DSRNet(2, branch=branch).eval()
        net.load_state_dict(weights)
        with torch.no_grad():
            torch.testing.assert_close(net(arrays["input"]), arrays[key], rtol=0, atol=1e-4)
    assert_logits(net, arrays["input"], arrays["gate_logits"])


def assert_logits(net, lq, expected):
    seen = []
    handle = net.conv6.register_forward_hook(lambda module, args, output: seen.append(output))
    with torch.no_grad():
        net(lq)
        handle.remove()
        torch.testing.assert_close(net.gate.logits(seen[0]), expected, rtol=0, atol=1e-4)


def test_eval_takes_the_likelier_branch_for_each_image():
    net = lively(DSRNet(2, 8)).eval()
    lq = torch.rand(2, 3, 6, 7)
    with torch.no_grad():
        one, two = (forced(net, branch)(lq) for branch in (1, 2))
        assert (one - two).abs().max() > 1e-4
        net.gate.logits = lambda x: torch.tensor([[0.0, 1.0], [1.0, 0.0]])
        mixed = net(lq)
    torch.testing.assert_close(mixed, torch.stack((one[0], two[1])))


def test_training_draws_from_the_global_generator_for_each_image():
    net = lively(DSRNet(2, 8)).train()
    for layer in (net.gate.fc1, net.gate.fc2):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    lq = torch.rand(1, 3, 6, 7).expand(32, -1, -1, -1)
    torch.manual_seed(0)
    first = net(lq)
    torch.manual_seed(0)
    again = net(lq)
    assert torch.equal(first, again)

    is_one = torch.isclose(first, forced(net, 1)(lq), atol=1e-6).flatten(1).all(1)
    is_two = torch.isclose(first, forced(net, 2)(lq), atol=1e-6).flatten(1).all(1)
    assert torch.all(is_one ^ is_two)
    assert 4 <= is_one.sum() <= 28


def test_gate_learns():
    net = DSRNet(2, 8).train()
    net(torch.rand(4, 3, 6, 7)).square().mean().backward()
    assert net.gate.fc2.weight.grad.abs().max() > 0


@pytest.mark.parametrize("branch", [1, 2])
def test_parameters_that_a_forced_branch_leaves_alone_are_declared(branch):
    net = DSRNet(2, 8, branch=branch)
    net(torch.rand(1, 3, 6, 7)).sum().backward()
    dead = {name for name, p in net.named_parameters() if p.requires_grad and p.grad is None}
    assert dead == {n for n, _ in net.named_parameters() if n.startswith(net.dead_parameters)}


def test_mean_colour_is_frozen():
    net = DSRNet(2, 8)
    frozen = {name for name, p in net.named_parameters() if not p.requires_grad}
    assert frozen == {
        f"{layer}.shifter.{kind}"
        for layer in ("sub_mean", "add_mean")
        for kind in ("weight", "bias")
    }


def test_unknown_branch_is_refused():
    with pytest.raises(UserError, match="branch must be 'gate', 1 or 2, got 3"):
        DSRNet(branch=3)


def lively(net):
    """Sets larger weights; with initial ones the outputs of the branches are almost zero."""
    for name, parameter in net.named_parameters():
        if name.startswith("conv"):
            nn.init.kaiming_normal_(parameter, nonlinearity="relu")
    return net


def forced(net, branch):
    other = DSRNet(net.scale, 8, branch=branch).train(net.training)
    other.load_state_dict(net.state_dict())
    return other
