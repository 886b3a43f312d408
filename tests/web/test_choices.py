"""Which weights can be chosen, and which networks stay in memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.tiny_weights import tiny_edsr

from srtoolbox.errors import UserError
from srtoolbox.web.choices import Choices


def test_names_are_unique_and_facts_come_from_the_files(tmp_path: Path) -> None:
    for name in ("a/net.pth", "b/net.pth", "b/net.safetensors"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        tiny_edsr(tmp_path / name, 3)
    files = [str(tmp_path / name) for name in ("a/net.pth", "b/net.pth", "b/net.safetensors")]
    choices = Choices([*files, files[0]])
    assert choices.names == ["net", "b/net", "b/net (2)"]
    assert (choices["net"].network, choices["net"].scale) == ("EDSR", 3)
    assert choices["net"].params == sum(p.numel() for p in choices.networks("net")[0].parameters())
    with pytest.raises(UserError, match="'other' is not among"):
        choices.networks("other")


def test_a_folder_has_denoising_levels(tmp_path: Path) -> None:
    files = {level: f"net_noise{level}.safetensors" for level in (1, 3)}
    for level, name in files.items():
        tiny_edsr(tmp_path / name, seed=level)
    choices = Choices([str(tmp_path)])
    name = choices.names[0]
    assert name == tmp_path.name and choices[name].levels == (1, 3)
    assert choices.variants == [(name, 1), (name, 3)]
    assert choices.networks(name) is choices.networks(name, 1)
    with pytest.raises(UserError, match="denoising level 2"):
        choices.networks(name, 2)


def test_few_networks_stay_in_memory(tmp_path: Path) -> None:
    files = [str(tiny_edsr(tmp_path / f"{number}.safetensors")) for number in range(4)]
    choices = Choices(files)
    last = choices.networks("3")
    assert choices.networks("3") is last
    for name in ("0", "1", "2"):
        choices.networks(name)
    assert choices.networks("3") is not last


def test_a_missing_file_is_named() -> None:
    with pytest.raises(UserError, match=r"nowhere\.safetensors"):
        Choices(["nowhere.safetensors"])
