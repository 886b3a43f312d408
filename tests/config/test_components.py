"""Options against the constructors of components, and building these."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest

from srtoolbox.config import files as options
from srtoolbox.config.frozen import freeze
from srtoolbox.config.schema import (
    Component,
    OptionErrors,
    build,
    check,
    option,
)
from srtoolbox.errors import UserError
from srtoolbox.registry import REGISTRIES, Registry

if TYPE_CHECKING:
    from collections.abc import Iterable

NETS = Registry("net")


@NETS.register()
class Small:
    def __init__(
        self,
        scale: int,
        num_feat: int = 64,
        act: Literal["relu", "gelu"] = "relu",
        ratio: float = 0.5,
        sizes: tuple[int, int] | None = None,
        hook=None,
        untyped=0.1,
    ) -> None:
        if num_feat == 13:
            raise ValueError("13 is unlucky")
        if num_feat == 14:
            raise UserError("14 is refused politely")
        self.arguments = {"scale": scale, "num_feat": num_feat, "ratio": ratio, "sizes": sizes}


@NETS.register()
class Other:
    def __init__(
        self,
        width: NotImportedHere = 3,  # noqa: F821 (as where a name is imported for checkers only)
        name: str = "x",
        sizes: Iterable[int] = (),
    ) -> None:
        self.width = width


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(REGISTRIES, "net", NETS)
    return tmp_path


@dataclass
class Nets:
    network: Annotated[dict, Component("net", injected=("scale",))] | None = None
    more: dict[str, Annotated[dict, Component("net")]] = option({})


@dataclass
class Schedule:
    optim: Annotated[dict, Component("optimizer")] = option({"type": "Adam"})
    sched: Annotated[dict, Component("scheduler")] | None = None


def read(text: str) -> options.Tree:
    Path("x.yml").write_text(text, encoding="utf-8")
    return options.read("x.yml")


def errors_of(text: str, section: type = Nets) -> list[str]:
    with pytest.raises(OptionErrors) as caught:
        check(read(text), section)
    assert str(caught.value).splitlines() == list(caught.value.errors)
    return list(caught.value.errors)


class TestComponents:
    def network(self, text: str) -> Any:
        return check(read(f"network: {text}\n"), Nets).network

    def error(self, text: str) -> str:
        (error,) = errors_of(f"network: {text}\n")
        return error

    def test_only_what_is_given_converted(self) -> None:
        spec = self.network("{type: Small, ratio: 1, sizes: [1, 2], hook: {a: 1}}")
        assert repr(spec) == repr(
            {"type": "Small", "ratio": 1.0, "sizes": (1, 2), "hook": {"a": 1}}
        )

    def test_injected_parameters_may_be_given(self) -> None:
        assert self.network("{type: Small, scale: 2}") == {"type": "Small", "scale": 2}

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("{num_feat: 3}", "network.type: missing; one of Other, Small"),
            ("3", "network: expected a mapping or null, got 3 (a number)"),
            ("{type: [a]}", "network.type: expected text, got a list"),
            ("{type: Small, n_feat: 3}", "network.n_feat: unknown; did you mean 'num_feat'?"),
            ("{type: Small, act: silu}", "network.act: expected 'relu' or 'gelu', got 'silu' {}"),
            ("{type: Small, num_feat: x}", "network.num_feat: expected an integer, got 'x' {}"),
            (
                "{type: Small, untyped: x}",
                "network.untyped: expected an integer or a number, got 'x' {}",
            ),
            (
                "{type: Other, width: x}",
                "network.width: expected an integer or a number, got 'x' {}",
            ),
            ("{type: Other, sizes: [x]}", "network.sizes.0: expected an integer, got 'x' {}"),
        ],
    )
    def test_mistakes(self, text: str, expected: str) -> None:
        assert self.error(text) == f"x.yml:1: {expected.format('(a string)')}"

    def test_unknown_type_gives_the_registry_s_advice(self) -> None:
        error = self.error("{type: Smal}")
        assert error.startswith("x.yml:1: network.type: unknown net 'Smal'; did you mean 'Small'?")

    def test_required_parameter_that_nobody_gives(self) -> None:
        assert errors_of("more: {a: {type: Small}}\n") == [
            "x.yml:1: more.a.scale: missing; Small needs it"
        ]

    def test_build(self) -> None:
        spec = {"type": "Small", "num_feat": 8}
        for kind in ("net", NETS):
            for given in (spec, freeze(spec)):
                net = build(kind, given, scale=2, num_feat=99, unknown_to_it=1)
                assert net.arguments["scale"] == 2  # injected
                assert net.arguments["num_feat"] == 8  # the user's word counts more

    def test_build_names_the_component(self) -> None:
        with pytest.raises(
            UserError, match=r"^net 'Small' cannot be built: 13 is unlucky \(test_c"
        ):
            build("net", {"type": "Small", "num_feat": 13}, scale=2)
        with pytest.raises(UserError, match=r"^net 'Small' cannot be built: .*scale"):
            build("net", {"type": "Small"})
        with pytest.raises(UserError, match=r"^14 is refused politely$"):
            build("net", {"type": "Small", "num_feat": 14}, scale=2)


class TestTorch:
    def test_check_and_build(self) -> None:
        import torch

        text = "optim: {type: AdamW, lr: 1, betas: [0.9, 0.99], weight_decay: 0}\n"
        text += "sched: {type: MultiStepLR, milestones: [2, 4], gamma: 0.5}\n"
        section = check(read(text), Schedule)
        weight = torch.nn.Parameter(torch.zeros(1))
        optimizer = build("optimizer", section.optim, params=[weight], fused=None, not_there=1)
        scheduler = build("scheduler", section.sched, optimizer=optimizer)
        assert isinstance(optimizer, torch.optim.AdamW)
        assert optimizer.defaults["betas"] == (0.9, 0.99)
        assert dict(scheduler.milestones) == {2: 1, 4: 1}

    @pytest.mark.parametrize(
        ("text", "part"),
        [
            ("{type: adam}", "unknown optimizer 'adam'; did you mean 'Adam'"),
            ("{type: Optimizer}", "unknown optimizer"),
            ("{type: Adam, learning_rate: 1}", "optim.learning_rate: unknown; did you mean 'lr'?"),
            ("{type: Adam, params: 1}", "optim.params: unknown"),
            ("{type: Adam, lr: high}", "optim.lr: expected a number, got 'high'"),
            ("{type: SGD, momentum: x}", "optim.momentum: expected a number"),
            ("{type: Adam, betas: [0.9]}", "optim.betas: expected 2 values, got 1"),
        ],
    )
    def test_optimizer_mistakes(self, text: str, part: str) -> None:
        (error,) = errors_of(f"optim: {text}\n", Schedule)
        assert part in error

    @pytest.mark.parametrize(
        ("text", "part"),
        [
            ("{type: MultiStepLR}", "sched.milestones: missing; MultiStepLR needs it"),
            ("{type: MultiStepLR, milestones: [a]}", "milestones.0: expected an integer"),
            ("{type: CosineAnnealingLR, T_max: 1.5}", "sched.T_max: expected an integer"),
            ("{type: CosineLR}", "unknown scheduler 'CosineLR'; did you mean"),
        ],
    )
    def test_scheduler_mistakes(self, text: str, part: str) -> None:
        (error,) = errors_of(f"sched: {text}\n", Schedule)
        assert part in error
