"""The discriminators: sizes, scores, gradients, published numbers of parameters."""

from __future__ import annotations

import io
import typing

import pytest
import torch
import torch.nn.functional as F

from srtoolbox.archs.discriminators import (
    ISRDiscriminator,
    UNetDiscriminatorSN,
    VGGStyleDiscriminator,
    _ISRBlock,
)
from srtoolbox.errors import UserError
from srtoolbox.registry import ARCH_REGISTRY, DISCRIMINATOR_REGISTRY, constructor_parameters
from srtoolbox.utils.meta import without_memory

SMALL = {
    "ISRDiscriminator": {},
    "UNetDiscriminatorSN": {"num_feat": 8},
    "VGGStyleDiscriminator": {"num_feat": 8, "input_size": 32},
}
NAMES = DISCRIMINATOR_REGISTRY.names()
every_discriminator = pytest.mark.parametrize("name", NAMES)


def build(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return DISCRIMINATOR_REGISTRY.get(name)(**SMALL[name])


def images(n: int = 2) -> torch.Tensor:
    return torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_they_are_no_networks_for_super_resolution() -> None:
    assert sorted(SMALL, key=str.lower) == NAMES
    assert not set(NAMES) & set(ARCH_REGISTRY.names())


@every_discriminator
def test_constructor_is_an_option_schema(name: str) -> None:
    cls = DISCRIMINATOR_REGISTRY.get(name)
    hints = typing.get_type_hints(cls.__init__)
    for parameter in constructor_parameters(cls).values():
        assert parameter.name in hints
        assert parameter.default is not parameter.empty
    assert cls.paper


@pytest.mark.parametrize(
    ("make", "trained", "averages"),
    [
        (ISRDiscriminator, 5_215_425, 5_219_137 - 5_215_425),
        (UNetDiscriminatorSN, 4_376_897, 0),
        (VGGStyleDiscriminator, 14_499_401, 5_760),
    ],
)
def test_number_of_parameters(make: type, trained: int, averages: int) -> None:
    with without_memory():
        net = make()
    assert sum(p.numel() for p in net.parameters()) == trained
    running = [buffer for name, buffer in net.named_buffers() if "running" in name]
    assert sum(buffer.numel() for buffer in running) == averages


@every_discriminator
def test_scores_and_gradients(name: str) -> None:
    net = build(name).train()
    image = images().requires_grad_()
    score = net(image)
    shapes = {"UNetDiscriminatorSN": (1, 32, 32), "ISRDiscriminator": (1, 8, 8)}
    assert score.shape == (2, *shapes.get(name, (1,)))
    assert (score < 0).any() or (score > 1).any(), "logits, no probabilities"
    score.square().mean().backward()
    assert image.grad.any()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.any(), key


@every_discriminator
def test_eval_is_deterministic_and_survives_saving(name: str) -> None:
    net = build(name)
    net.train()(images(4))
    net.eval()
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    fresh = DISCRIMINATOR_REGISTRY.get(name)(**SMALL[name]).eval()
    fresh.load_state_dict(torch.load(file, weights_only=True))
    with torch.no_grad():
        score = net(images())
        assert torch.equal(score, net(images()))
        torch.testing.assert_close(fresh(images()), score)


@every_discriminator
def test_runs_under_autocast(name: str) -> None:
    net = build(name).train()
    with torch.autocast("cpu", torch.bfloat16):
        score = net(images())
    score.float().square().mean().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("input_size", [32, 96, 128, 192, 256])
def test_vgg_style_sizes(input_size: int) -> None:
    net = VGGStyleDiscriminator(input_size, num_feat=4).eval()
    with torch.no_grad():
        assert net(torch.rand(1, 3, input_size, input_size)).shape == (1, 1)


def test_vgg_style_faults() -> None:
    for size in (0, 100, 160):
        with pytest.raises(UserError, match=rf"multiple of (32|64), got {size}"):
            VGGStyleDiscriminator(size)
    with pytest.raises(UserError, match="'batch' or 'none'"):
        VGGStyleDiscriminator(32, norm="layer")
    with pytest.raises(UserError, match=r"32×32 pixels but got 40×32; set network_d.input_size"):
        VGGStyleDiscriminator(32, num_feat=4)(torch.rand(1, 3, 40, 32))
    plain = VGGStyleDiscriminator(32, num_feat=4, norm="none")
    assert not any("running" in name for name, _ in plain.named_buffers())


def test_unet_takes_any_size_from_8_on() -> None:
    net = build("UNetDiscriminatorSN").eval()
    for size in ((8, 8), (13, 22)):
        with torch.no_grad():
            assert net(torch.rand(1, 3, *size)).shape == (1, 1, *size)


def test_unet_weights_have_spectral_norm_one() -> None:
    net = build("UNetDiscriminatorSN").train()
    for _ in range(30):
        net(images())
    for layer in (*net.down, *net.up, *net.tail):
        norm = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
        assert norm.item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("size", [8, 9])
def test_isr_pads_like_tensorflow(size: int) -> None:
    """Output i of a "same" convolution with stride 2 is centred on 2 i + 1 at even sizes."""
    block = _ISRBlock(1, 1, 2).eval()
    with torch.no_grad():
        block.conv.weight.zero_()[0, 0, 1, 1] = 1
        block.conv.bias.zero_()
        ramp = torch.arange(float(size * size)).view(1, 1, size, size)
        output = block(ramp)
    start = 1 - size % 2
    expected = ramp[..., start::2, start::2] / (1 + 1e-3) ** 0.5
    torch.testing.assert_close(output, expected)


def test_isr_starts_from_glorot_uniform_weights() -> None:
    net = build("ISRDiscriminator")
    bound = (6 / (9 * (256 + 512))) ** 0.5
    weight = net.blocks[5].conv.weight
    assert 0.99 * bound < weight.abs().max() <= bound
    assert not net.score.bias.any()
    assert net.blocks[0].norm.eps == 1e-3
    assert net.blocks[0].norm.momentum == 0.2


def test_isr_activates_before_it_normalises() -> None:
    block = _ISRBlock(3, 4, 1).eval()
    with torch.no_grad():
        block.norm.running_mean.fill_(0.5)
        image = images()
        expected = F.leaky_relu(F.conv2d(image, block.conv.weight, block.conv.bias, padding=1), 0.2)
        torch.testing.assert_close(block(image), (expected - 0.5) / (1 + 1e-3) ** 0.5)
