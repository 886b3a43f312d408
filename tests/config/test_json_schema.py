"""The JSON Schema that editors check option files by."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from srtoolbox.config.json_schema import json_schema, parameter_docs
from srtoolbox.config.schema import Component, option
from srtoolbox.registry import REGISTRIES, Registry

NETS = Registry("net")


@NETS.register()
class Small:
    """A small net.

    It has a second paragraph.

    Args:
        scale: Upsampling factor.
        num_feat: Channels of
            the body.
        act: Activation.
    """

    def __init__(
        self,
        scale: int,
        num_feat: int = 64,
        act: Literal["relu", "gelu"] = "relu",
        sizes: tuple[int, int] | None = None,
    ) -> None: ...


@NETS.register()
class Other:
    def __init__(self, width: int = 3, name: str = "x") -> None: ...


@pytest.fixture(autouse=True)
def nets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REGISTRIES, "net", NETS)


@dataclass
class Train:
    """How to train.

    More about it.
    """

    total_iter: int = option(doc="optimizer steps", min=1)
    lr: float = option(1e-4, exclusive_min=0, doc="learning rate")
    ema: float | None = option(None, min=0, max=1)
    milestones: list[int] = option([100, 200], min=1)
    precision: Literal["fp32", "bf16", 8] = "fp32"


@dataclass
class Top:
    train: Train
    name: str = "x"
    root: Path | None = None
    network: Annotated[dict, Component("net", injected=("scale",))] | None = None
    more: dict[str, Annotated[dict, Component("net")]] = option({})
    pair: tuple[int, float] = (1, 2.0)
    either: int | str | list[str] = 0
    anything: Any = None


@dataclass
class Optim:
    optim: Annotated[dict, Component("optimizer")]
    sched: Annotated[dict, Component("scheduler")] | None = None


def test_structure() -> None:
    written = json_schema(Top)
    assert json.loads(json.dumps(written)) == written
    train = written["$defs"][f"{__name__}.Train"]
    assert train["description"] == "How to train."
    assert train["additionalProperties"] is False
    assert train["properties"]["lr"] == {
        "type": "number",
        "exclusiveMinimum": 0,
        "description": "learning rate",
        "default": 1e-4,
    }
    assert train["properties"]["ema"]["anyOf"][0] == {
        "type": "number",
        "minimum": 0,
        "maximum": 1,
    }
    assert train["properties"]["precision"]["enum"] == ["fp32", "bf16", 8]
    assert train["properties"]["milestones"]["items"] == {"type": "integer", "minimum": 1}
    assert "_base_" in train["properties"]
    small = written["$defs"]["net.Small"]["properties"]
    assert small["num_feat"]["description"] == "Channels of the body."
    assert small["act"]["enum"] == ["relu", "gelu"]


def test_parameter_docs() -> None:
    assert parameter_docs(Small) == {
        "scale": "Upsampling factor.",
        "num_feat": "Channels of the body.",
        "act": "Activation.",
    }


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("network: {type: Small, num_feat: 8, sizes: [1, 2]}", True),
        ("network: {_base_: net.yml, num_feat: 8}", True),
        ("_base_: [a.yml, b.yml]\nname: x", True),
        ("more: {a: {type: Other, name: y}, b: {type: Small, scale: 2}}", True),
        ("train: {_base_: a.yml, lr: 1}", True),
        ("pair: [1, 0.5]\nroot: null\neither: [x]", True),
        ("network: {type: Small, name: y}", False),
        ("network: {type: Smal}", False),
        ("network: {type: Small, num_feat: x}", False),
        ("more: {a: {type: Other, nam: y}}", False),
        ("train: {lr: 0}", False),
        ("train: {learning_rate: 1}", False),
        ("train: {milestones: [0]}", False),
        ("pair: [1, 2, 3]", False),
        ("nam: x", False),
    ],
)
def test_agrees_with_a_validator(text: str, good: bool) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    import yaml

    validator = jsonschema.Draft202012Validator(json_schema(Top))
    validator.check_schema(validator.schema)
    assert validator.is_valid(yaml.safe_load(text)) is good


def test_torch_kinds() -> None:
    written = json_schema(Optim)
    adam = written["$defs"]["optimizer.Adam"]["properties"]
    assert adam["lr"]["type"] == "number"
    assert "params" not in adam
    assert "milestones" in written["$defs"]["scheduler.MultiStepLR"]["properties"]
