"""The names that ``import srtoolbox`` offers."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

import srtoolbox
from srtoolbox.comparison.options import StudyOptions
from srtoolbox.registry import REGISTRIES


def test_every_public_name_exists() -> None:
    for name in srtoolbox.__all__:
        assert getattr(srtoolbox, name) is not None
    assert set(srtoolbox.__all__) <= set(dir(srtoolbox))
    for registry in REGISTRIES.values():
        assert getattr(srtoolbox, f"{registry.kind.upper()}_REGISTRY") is registry


def test_unknown_names_raise() -> None:
    with pytest.raises(AttributeError, match="'srtoolbox' has no attribute 'upscal'"):
        _ = srtoolbox.upscal
    assert not hasattr(srtoolbox, "nothing")


def test_the_functions_are_those_of_their_modules() -> None:
    load = importlib.import_module("srtoolbox.config.load")
    assert srtoolbox.load_options is load.load_options


def test_options_can_be_loaded_by_the_name_of_a_shipped_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    opt, tree = srtoolbox.load_options("quickstart", ["name=mine"], StudyOptions)
    assert opt.name == tree["name"] == "mine"
    assert "EDSR" in opt.methods
