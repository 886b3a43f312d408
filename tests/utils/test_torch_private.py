"""Every private name of torch that the toolbox uses exists in the installed torch."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn
from torch.utils import _python_dispatch, _pytree

from srtoolbox.utils.torch_private import (
    TorchDispatchMode,
    compiled_call,
    lerp_all,
    set_compiled_call,
    step_if_finite,
    storage_id,
    supports_found_inf,
    tree_leaves,
    without_compilation,
)


@pytest.mark.slow
def test_a_compiled_module_keeps_its_call_where_we_look():
    net = nn.Linear(1, 1)
    assert "_compiled_call_impl" in vars(nn.Module)
    assert compiled_call(net) is None
    net.compile()
    assert callable(compiled_call(net))


def test_a_module_calls_what_we_put_there():
    net = nn.Linear(1, 1)
    set_compiled_call(net, lambda x: x + 41)
    assert net(torch.ones(1)) == 42
    with without_compilation(net):
        assert net(torch.ones(1)).requires_grad
    assert net(torch.ones(1)) == 42
    set_compiled_call(net, None)
    assert net(torch.ones(1)).requires_grad


def test_compilation_comes_back_after_an_error():
    net = nn.Linear(1, 1)
    set_compiled_call(net, call := lambda x: x)
    with pytest.raises(KeyError), without_compilation(net):
        raise KeyError
    assert compiled_call(net) is call


@pytest.mark.parametrize("found_inf", [0.0, 1.0])
def test_a_fused_optimizer_skips_a_step_that_is_not_finite(found_inf):
    weight = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.Adam([weight], lr=0.1, fused=True)
    assert supports_found_inf(optimizer)
    weight.grad = torch.ones(1)
    step_if_finite(optimizer, torch.tensor(found_inf))
    assert (weight.item() == 1) == (found_inf == 1)
    assert not hasattr(optimizer, "found_inf") and not hasattr(optimizer, "grad_scale")


def test_all_tensors_are_interpolated_in_place():
    tensors, ends = [torch.zeros(2), torch.ones(1)], [torch.ones(2), torch.full((1,), 5.0)]
    lerp_all(tensors, ends, 0.25)
    assert tensors[0].tolist() == [0.25, 0.25] and tensors[1].tolist() == [2]


def test_other_optimizers_are_not_taken_for_fused_ones():
    assert not supports_found_inf(torch.optim.Adam([nn.Parameter(torch.ones(1))], fused=False))
    source = inspect.getsource(torch.optim.Optimizer) + inspect.getsource(torch.amp.grad_scaler)
    assert "_step_supports_amp_scaling" in source


def test_views_share_a_storage_and_copies_do_not():
    tensor = torch.zeros(4)
    same, other = tensor[1:].untyped_storage(), tensor.clone().untyped_storage()
    assert storage_id(same) == storage_id(tensor.untyped_storage())
    assert storage_id(other) != storage_id(same)


def test_a_dispatch_mode_sees_operators():
    seen = []

    class Mode(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    with Mode():
        torch.ones(1) + 1
    assert "aten.add.Tensor" in seen
    assert TorchDispatchMode is _python_dispatch.TorchDispatchMode


def test_leaves_of_a_tree():
    assert tree_leaves(({"a": 1}, [2, (3,)])) == [1, 2, 3]
    assert tree_leaves is _pytree.tree_leaves
