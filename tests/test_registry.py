"""Registries: names, misses, duplicates, constructors as schemas."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from srtoolbox.errors import UserError
from srtoolbox.registry import Registry, RegistryError, close_names, constructor_parameters


@pytest.fixture
def nets() -> Registry:
    registry = Registry("arch")

    @registry.register()
    class EDSR:
        def __init__(self, scale: int = 4, num_feat: int = 64) -> None:
            self.scale = scale

    @registry.register("DSTC-SRNet")
    class Other:
        pass

    return registry


def test_names_are_exact(nets: Registry) -> None:
    assert nets.get("EDSR").__name__ == "EDSR"
    assert nets.get("DSTC-SRNet").__name__ == "Other"
    assert nets.names() == list(nets) == ["DSTC-SRNet", "EDSR"]
    assert len(nets) == 2
    assert "EDSR" in nets
    assert "edsr" not in nets
    assert "Other" not in nets
    assert repr(nets) == "Registry('arch', ['DSTC-SRNet', 'EDSR'])"


def test_decorator_returns_the_class(nets: Registry) -> None:
    class Net:
        pass

    assert nets.register("n")(Net) is Net


@pytest.mark.parametrize(
    ("name", "close"), [("edsr", "'EDSR'"), ("dstc_srnet", "'DSTC-SRNet'"), ("EDRS", "'EDSR'")]
)
def test_miss_lists_close_names_and_the_way_out(nets: Registry, name: str, close: str) -> None:
    with pytest.raises(RegistryError) as caught:
        nets.get(name)
    message = str(caught.value)
    assert f"unknown arch '{name}'; did you mean {close}?" in message
    assert "registered: DSTC-SRNet, EDSR" in message
    assert "@ARCH_REGISTRY.register()" in message
    assert "plugins:" in message
    assert isinstance(caught.value, UserError)


def test_miss_without_close_names(nets: Registry) -> None:
    with pytest.raises(RegistryError, match=r"^unknown arch 'xyz'; registered: "):
        nets.get("xyz")


def test_duplicate_says_where_both_are_and_changes_nothing(nets: Registry) -> None:
    before = nets.get("EDSR")

    class Mine:
        pass

    with pytest.raises(RegistryError) as caught:
        nets.register("EDSR")(Mine)
    assert str(caught.value).count(f"{Path(__file__).name}:") == 2
    assert nets.get("EDSR") is before


def test_same_definition_again_is_no_duplicate(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "twice_net.py").write_text(
        "from srtoolbox.registry import Registry\nR = globals().get('R') or Registry('arch')\n"
        "@R.register()\nclass Net:\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("twice_net")
    try:
        first = module.R.get("Net")
        importlib.reload(module)
        assert module.R.get("Net") is not first
    finally:
        del sys.modules["twice_net"]


@pytest.mark.parametrize("star", ["*args", "**kwargs"])
def test_open_constructors_are_refused(nets: Registry, star: str) -> None:
    scope: dict = {}
    exec(f"class Net:\n    def __init__(self, a=1, {star}): pass", scope)
    with pytest.raises(RegistryError, match=r"names every parameter"):
        nets.register()(scope["Net"])
    assert "Net" not in nets


def test_forgotten_parentheses(nets: Registry) -> None:
    with pytest.raises(RegistryError, match=r"needs its parentheses"):

        @nets.register
        class Net:
            pass


def test_home_is_imported_at_first_look_up(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "home_of_nets.py").write_text("LOADED = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry("arch", "home_of_nets")
    registry.register("A")(type("A", (), {}))
    assert "home_of_nets" not in sys.modules
    assert "A" in registry
    assert sys.modules.pop("home_of_nets").LOADED


def test_constructor_parameters() -> None:
    class Base:
        def __init__(self, a: int, b: str = "x") -> None: ...

    class Child(Base):
        pass

    class Bare:
        pass

    def function(c: float = 1.0) -> None: ...

    assert list(constructor_parameters(Child)) == ["a", "b"]
    assert constructor_parameters(Bare) == {}
    assert list(constructor_parameters(function)) == ["c"]


def test_close_names() -> None:
    assert close_names("num_features", ["num_feat", "scale"]) == "'num_feat'"
    assert close_names("zzz", ["num_feat", "scale"]) == ""
