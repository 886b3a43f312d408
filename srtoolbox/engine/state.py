"""Everything that the rest of a training depends on, as a checkpoint holds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from srtoolbox.engine.sharding import (
    load_network,
    load_optimizer,
    network_state,
    optimizer_state,
)

if TYPE_CHECKING:
    from srtoolbox.engine.trainer import Trainer


def take_state(trainer: Trainer) -> dict[str, Any]:
    """The state of a trainer between two steps.

    Of a sharded network it is whole in the main process; all processes must ask.
    """
    networks = trainer.model.networks
    ema = trainer.ema
    return {
        "step": trainer.step,
        "networks": {name: network_state(net) for name, net in networks.items()},
        "ema": None
        if ema is None
        else {"module": network_state(ema.module), "n_averaged": int(ema.n_averaged)},
        "optimizers": {
            name: optimizer_state(networks[name], optimizer)
            for name, optimizer in trainer.optimizers.items()
        },
        "schedulers": {name: item.state_dict() for name, item in trainer.schedulers.items()},
        "scaler": trainer.scaler.state_dict(),
        "best": trainer.best,
        "evaluated": trainer.evaluated,
        "seconds": trainer.seconds,
        "sums": dict(trainer.ledger.sums),
    }


def restore_state(trainer: Trainer, state: dict[str, Any]) -> None:
    """Goes on where the state was taken, with as many processes as there are now."""
    networks = trainer.model.networks
    for name, net in networks.items():
        load_network(net, state["networks"][name])
    if trainer.ema is not None:
        load_network(trainer.ema.module, state["ema"]["module"])
        trainer.ema.n_averaged.fill_(state["ema"]["n_averaged"])
    for name, optimizer in trainer.optimizers.items():
        load_optimizer(networks[name], optimizer, state["optimizers"][name])
    for name, scheduler in trainer.schedulers.items():
        scheduler.load_state_dict(state["schedulers"][name])
    if trainer.scaler.is_enabled():
        trainer.scaler.load_state_dict(state["scaler"])
    trainer.step, trainer.seconds = state["step"], state["seconds"]
    trainer.best, trainer.ledger.sums = state["best"], state["sums"]
    trainer.evaluated = state["evaluated"]
