"""A network spread over the processes of a run (FSDP2), for one that does not fit into a GPU.

Its parameters, its average and its optimizer's state lie in parts on all of them. What is saved is
whole, so that a run goes on with another number of processes, or without sharding.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

_SHARDED = "_srtoolbox_template"  # on a sharded network: a whole one to fill with its values


def shard(net: nn.Module, size: int, device: torch.device) -> None:
    """Spreads a network over ``size`` processes, in place, block by block where it names blocks."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    template = copy.deepcopy(net).cpu()
    mesh = init_device_mesh(device.type, (size,))
    for name in getattr(net, "checkpoint_blocks", ()):
        for block in net.get_submodule(name).children():
            fully_shard(block, mesh=mesh)
    fully_shard(net, mesh=mesh)
    object.__setattr__(net, _SHARDED, template)  # not a submodule


def is_sharded(net: nn.Module) -> bool:
    """Whether ``shard`` was called on a network."""
    return hasattr(net, _SHARDED)


def whole(net: nn.Module) -> nn.Module:
    """The network itself, or of a sharded one a copy on the CPU; all processes must ask.

    Only the main process's copy has the values.
    """
    if not is_sharded(net):
        return net
    template: nn.Module = getattr(net, _SHARDED)
    state = network_state(net)
    if state:
        template.load_state_dict(state)
    return template.train(net.training)


def network_state(net: nn.Module) -> dict[str, Any]:
    """The state dict of a network; of a sharded one whole, in the main process."""
    if not is_sharded(net):
        return net.state_dict()
    from torch.distributed.checkpoint.state_dict import get_model_state_dict

    return get_model_state_dict(net, options=_options())


def optimizer_state(net: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """The state dict of a network's optimizer; of a sharded one whole, in the main process."""
    if not is_sharded(net):
        return optimizer.state_dict()
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

    found = get_optimizer_state_dict(net, optimizer, options=_options())
    return {**found, "by_name": True} if found else found


def load_network(net: nn.Module, state: dict[str, Any]) -> None:
    """Puts a whole state dict into a network, sharded or not."""
    if not is_sharded(net):
        net.load_state_dict(state)
        return
    from torch.distributed.checkpoint.state_dict import set_model_state_dict

    set_model_state_dict(net, state, options=_options(cpu_offload=False))


def load_optimizer(net: nn.Module, optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Puts a whole state dict into an optimizer, of a sharded network or not, saved by either."""
    by_name = state.pop("by_name", False)
    if not is_sharded(net):
        optimizer.load_state_dict(_numbered(state, optimizer, net) if by_name else state)
        return
    from torch.distributed.checkpoint.state_dict import set_optimizer_state_dict

    named = state if by_name else _named(state, optimizer, net)
    set_optimizer_state_dict(net, optimizer, named, options=_options(cpu_offload=False))


def full_tensor(value: Tensor) -> Tensor:
    """A value that lies in parts, as a plain tensor."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def _options(cpu_offload: bool = True) -> Any:
    from torch.distributed.checkpoint.state_dict import StateDictOptions

    return StateDictOptions(full_state_dict=True, cpu_offload=cpu_offload)


def _named(state: dict[str, Any], optimizer: Optimizer, net: nn.Module) -> dict[str, Any]:
    """An optimizer's state by the parameters' names instead of their numbers."""
    order = _order(optimizer, net)
    groups = [
        {**group, "params": [order[number] for number in group["params"]]}
        for group in state["param_groups"]
    ]
    return {
        "state": {order[number]: entry for number, entry in state["state"].items()},
        "param_groups": groups,
    }


def _numbered(state: dict[str, Any], optimizer: Optimizer, net: nn.Module) -> dict[str, Any]:
    """The reverse of ``_named``."""
    number = {name: i for i, name in enumerate(_order(optimizer, net))}
    groups = [
        {**group, "params": [number[name] for name in group["params"]]}
        for group in state["param_groups"]
    ]
    return {
        "state": {number[name]: entry for name, entry in state["state"].items()},
        "param_groups": groups,
    }


def _order(optimizer: Optimizer, net: nn.Module) -> list[str]:
    """The names of an optimizer's parameters in its order."""
    name_of = {id(parameter): name for name, parameter in net.named_parameters()}
    return [name_of[id(p)] for group in optimizer.param_groups for p in group["params"]]
