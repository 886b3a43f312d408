"""Options that change the cost of a training do not change its result."""

from __future__ import annotations

import logging
from collections import Counter

import pytest
import torch
from support.networks import SMALL
from support.runs import go, start

from srtoolbox.archs.base import arch_info
from srtoolbox.archs.bicubic import Bicubic
from srtoolbox.engine.options import TrainOptions
from srtoolbox.engine.training.acceleration import accelerate
from srtoolbox.errors import UserError
from srtoolbox.registry import ARCH_REGISTRY

OFFERING = [name for name in SMALL if hasattr(ARCH_REGISTRY.get(name), "checkpoint_blocks")]


def gradients(net: torch.nn.Module, lq: torch.Tensor) -> list[torch.Tensor]:
    torch.manual_seed(1)  # random branches, such as drop path, are drawn alike in every call
    output = net(lq)
    (output["sr"] if isinstance(output, dict) else output).square().mean().backward()
    return [p.grad.clone() for p in net.parameters() if p.grad is not None]


@pytest.mark.parametrize("name", OFFERING)
def test_recomputed_blocks_give_the_same_gradients(name: str) -> None:
    torch.manual_seed(0)
    net = ARCH_REGISTRY.get(name)(**SMALL[name])
    num_frame = arch_info(net).num_frame or 2
    shape = (1, 3, 8, 8) if num_frame == 1 else (1, num_frame, 3, 8, 8)
    lq = torch.rand(shape)
    expected = gradients(net, lq)
    net.zero_grad()
    keys = list(net.state_dict())
    accelerate(net, TrainOptions(total_iter=1, checkpointing=True), generator=True)
    runs: Counter[torch.nn.Module] = Counter()
    block = next(net.get_submodule(net.checkpoint_blocks[0]).children())
    for module in block.modules():  # of some, only the weights are used
        module.register_forward_hook(lambda called, *_: runs.update([called]))
    found = gradients(net, lq)
    assert max(runs.values()) >= 2  # forward, and once more for the backward pass
    assert list(net.state_dict()) == keys
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_networks_without_such_blocks_are_told() -> None:
    with pytest.raises(UserError, match="Bicubic names no blocks to recompute"):
        accelerate(Bicubic(), TrainOptions(total_iter=1, checkpointing=True), generator=True)


def test_a_training_with_recomputed_blocks_and_an_average(options, tmp_path) -> None:
    weights = []
    for flag in ("false", "true"):
        opt = options(f"train.checkpointing={flag}", "train.ema_decay=0.9")
        weights.append(go(start(opt, tmp_path / flag), tmp_path / flag).result.state_dict())
    for key, value in weights[0].items():
        torch.testing.assert_close(weights[1][key], value)


def test_compilation_that_fails_goes_on_without_it(options, tmp_path, caplog, monkeypatch) -> None:
    def broken(self: torch.nn.Module, **_: object) -> None:
        def fail(*_: object) -> None:
            raise RuntimeError("no compiler here\nand much more")

        self._compiled_call_impl = fail

    monkeypatch.setattr(torch.nn.Module, "compile", broken)
    with caplog.at_level(logging.WARNING, "srtoolbox"):
        compiled = go(start(options("train.compile=default"), tmp_path / "a"), tmp_path / "a")
    assert "train.compile: continuing without it (RuntimeError: no compiler here)" in caplog.text
    plain = go(start(options(), tmp_path / "b"), tmp_path / "b")
    for key, value in plain.result.state_dict().items():
        assert torch.equal(compiled.result.state_dict()[key], value)


@pytest.mark.slow
def test_compiled_training_is_the_same_training(options, tmp_path) -> None:
    """Uses the backend that only traces; the default one needs a compiler and a minute."""
    trainer = start(options("train.ema_decay=0.9"), tmp_path / "a")
    trainer.model.networks["g"].compile(backend="eager")
    compiled = go(trainer, tmp_path / "a").result.state_dict()
    plain = go(start(options("train.ema_decay=0.9"), tmp_path / "b"), tmp_path / "b")
    assert all(torch.equal(compiled[k], v) for k, v in plain.result.state_dict().items())
