"""Backbones trained on ImageNet: how their files are found, recognised and downloaded."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.backbones import random_state, write_backbone

from srtoolbox.utils import imagenet
from srtoolbox.utils.imagenet import (
    BACKBONES,
    LPIPS_BACKBONES,
    VARIABLE,
    BackboneUnavailable,
    download,
    hub_file,
    inspect,
    lpips_file,
    lpips_weights,
)
from srtoolbox.utils.meta import without_memory

ALEX = LPIPS_BACKBONES["alex"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of weight files in an empty torch hub cache."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    return hub_file("x").parent


@pytest.mark.slow
def test_the_shapes_are_torchvisions() -> None:
    models = pytest.importorskip("torchvision.models")
    names = {"alex": "alexnet", "vgg": "vgg16", "squeeze": "squeezenet1_1", "vgg19": "vgg19"}
    for backbone in BACKBONES.values():
        with without_memory():
            state = getattr(models, names[backbone.name])().state_dict()
        features = {key: tuple(value.shape) for key, value in state.items() if "features" in key}
        assert backbone.shapes == features


@pytest.mark.slow
def test_the_whole_file_and_its_convolutions_are_one_backbone(tmp_path: Path) -> None:
    whole = write_backbone(tmp_path / "whole.pth", whole=True)
    part = write_backbone(tmp_path / "part.pth")
    other = write_backbone(tmp_path / "other.pth", seed=1)
    first, second, third = (inspect("t", file, ALEX) for file in (whole, part, other))
    assert first.content == second.content != third.content
    assert not first.is_official
    digits = hashlib.sha256(whole.read_bytes()).hexdigest()[:12]
    text = f"whole.pth, which differs from torchvision's alexnet-owt-7be5be79, SHA-256 {digits}"
    assert first.text == text
    write_backbone(part, seed=1)  # a file that is replaced is read again
    assert inspect("t", part, ALEX).content == third.content


def test_torchvisions_file_is_recognised(tmp_path: Path) -> None:
    file = write_backbone(tmp_path / "mine.pth")
    digits = hashlib.sha256(file.read_bytes()).hexdigest()
    whole = replace(ALEX, file=f"net-{digits[:8]}.pth")
    found = inspect("t", file, whole)
    name = f"torchvision's net-{digits[:8]}"
    assert (found.text, found.is_official) == (f"{name} (whole file), SHA-256 {digits[:12]}", True)
    part = replace(ALEX, content=found.content)
    assert "torchvision's alexnet-owt-7be5be79 (convolutions)" in inspect("t", file, part).text


@pytest.mark.slow
@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_the_reference_files_are_torchvisions(
    reference: Path, monkeypatch: pytest.MonkeyPatch, net: str
) -> None:
    file = reference / "weights" / "torch" / "hub" / "checkpoints" / LPIPS_BACKBONES[net].file
    if not file.is_file():
        pytest.skip(f"no backbone of LPIPS at {file}")
    monkeypatch.setenv("TORCH_HOME", str(reference / "weights" / "torch"))
    found = lpips_weights(net)
    assert found is not None and found.is_official
    assert found.text.startswith(f"torchvision's {file.stem} (convolutions), SHA-256 ")


@pytest.mark.slow
def test_option_then_variable_then_cache(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = home / ALEX.file
    assert lpips_file("alex") == cached  # also if it is missing
    variable = write_backbone(tmp_path / "variable.pth")
    option = write_backbone(tmp_path / "option.pth", seed=1)
    monkeypatch.setenv(VARIABLE, str(variable))
    assert lpips_file("alex") == variable
    assert lpips_file("alex", option) == option
    # A file with AlexNet says nothing about SqueezeNet.
    assert lpips_file("squeeze") == home / LPIPS_BACKBONES["squeeze"].file
    folder = tmp_path / "folder"
    inside = write_backbone(folder / ALEX.file)
    monkeypatch.setenv(VARIABLE, str(folder))
    assert lpips_file("alex") == inside
    assert lpips_file("squeeze") == home / LPIPS_BACKBONES["squeeze"].file
    monkeypatch.delenv(VARIABLE)
    assert lpips_file("alex", folder) == inside
    with pytest.raises(BackboneUnavailable, match=r"squeezenet1_1.*: no such weight file"):
        lpips_file("squeeze", folder)


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.pth"
    state = random_state("alex")
    short = {key: value for key, value in state.items() if key != "features.8.bias"}
    wrong_shape = {**state, "features.0.weight": torch.zeros(64, 3, 3, 3)}
    cases = {
        "features.8.bias is missing": short,
        "features.0.weight has the shape 64×3×3×3 instead of 64×3×11×11": wrong_shape,
        "it has those of 'squeeze'": random_state("squeeze"),
        "it has a list": [1],
    }
    for words, content in cases.items():
        torch.save(content, file)
        with pytest.raises(BackboneUnavailable, match=words) as caught:
            lpips_file("alex", file)
        line = str(caught.value)
        assert line.startswith(f"LPIPS: backbone: {file} does not have the convolutions of 'alex'")
        assert "alexnet-owt-7be5be79.pth (`srtoolbox fetch lpips`) or its convolutions" in line
        assert "\n" not in line
    file.write_bytes(b"<html>")
    with pytest.raises(BackboneUnavailable, match="it is no weight file"):
        lpips_file("alex", file)
    monkeypatch.setenv(VARIABLE, str(file))
    with pytest.raises(BackboneUnavailable, match=f"{VARIABLE}: .* it is no weight file"):
        lpips_file("alex")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "none.pth"))
    with pytest.raises(BackboneUnavailable, match=f"{VARIABLE}: .*none.pth: no such weight file"):
        lpips_file("alex")


def test_a_download_is_complete_and_checked(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_backbone(tmp_path / "server" / "x.pth")
    digits = hashlib.sha256(source.read_bytes()).hexdigest()[:8]
    source.rename(source.with_name(f"net-{digits}.pth"))
    monkeypatch.setattr(imagenet, "_URL", f"{source.parent.as_uri()}/")
    backbone = replace(ALEX, file=f"net-{digits}.pth")
    download(backbone)
    assert "(whole file)" in inspect("t", home / backbone.file, backbone).text
    (source.parent / "net-00000000.pth").write_bytes(b"damaged")
    with pytest.raises(BackboneUnavailable, match="invalid hash value"):
        download(replace(ALEX, file="net-00000000.pth"))
    assert [file.name for file in home.iterdir()] == [backbone.file]
