"""Compiled and recorded networks compute what they compute without."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import torch

from srtoolbox.bench.modes import Mode
from srtoolbox.bench.network import build_net
from srtoolbox.bench.variant import Variant

EDSR = {"type": "EDSR", "num_feat": 4, "num_block": 1}
LQ = torch.rand(1, 1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def variant(mode: str | None) -> Variant:
    net = build_net("net", EDSR, (1, 3, 8, 8))
    return Variant(net, LQ, mode and Mode.parse(mode), backend="aot_eager")


def gradients(of: Variant) -> list[torch.Tensor]:
    of.training()
    return [parameter.grad for parameter in of._net.parameters()]


def test_modes() -> None:
    assert Mode.parse("fp32") == Mode()
    assert Mode.parse("tf32+graphs") == Mode("tf32", graphs=True)
    assert Mode.parse("bf16+compile+channels_last") == Mode("bf16", True, True, False)


@pytest.mark.slow
def test_a_compiled_network() -> None:
    calls = []
    plain, compiled = variant(None), variant("fp32+compile")
    original = compiled._net._call_impl
    compiled._net._call_impl = lambda *inputs: calls.append(1) or original(*inputs)
    compiled.prepare()
    assert compiled.preparation > 0
    assert not calls, "the network ran as it is written"
    torch.testing.assert_close(compiled.forward(), plain.forward())
    torch.testing.assert_close(gradients(compiled), gradients(plain))
    assert min(compiled.memory()) > 0


@pytest.mark.cuda
def test_a_recorded_network() -> None:
    net = build_net("net", EDSR, (1, 3, 8, 8)).cuda()
    plain, recorded = (Variant(net, LQ.cuda(), mode) for mode in (None, Mode(graphs=True)))
    recorded.prepare()
    for _ in range(2):
        torch.testing.assert_close(recorded.forward(), plain.forward(), rtol=1e-4, atol=1e-4)


def test_recorded_work_is_replayed(monkeypatch) -> None:
    """A graph that computes at once stands for one of CUDA, to run this code without a GPU."""
    recorded, replayed = [], []

    class Graph:
        def replay(self) -> None:
            replayed.append(self)

    @contextmanager
    def graph(one: Graph):
        recorded.append(one)
        yield

    stream = SimpleNamespace(wait_stream=lambda other: None)
    fakes = {"CUDAGraph": Graph, "graph": graph, "Stream": lambda device: stream}
    fakes |= {"stream": lambda stream: nullcontext(), "current_stream": lambda device: stream}
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    plain, ours = variant(None), variant("fp32+graphs")
    ours.prepare()
    assert len(recorded) == 2, "the forward pass and the training step"
    assert replayed == recorded
    torch.testing.assert_close(ours.forward(), plain.forward())
    assert replayed[2:] == recorded[:1]
    torch.testing.assert_close(gradients(ours), gradients(plain))
    assert ours.memory() == (None, None)
