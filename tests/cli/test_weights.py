"""The command fetch."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from support.backbones import write_backbone

from srtoolbox.cli import main
from srtoolbox.utils import imagenet
from srtoolbox.utils.imagenet import BACKBONES, LPIPS_BACKBONES, hub_file


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the place of torchvision's server, with a small file for LPIPS."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    file = write_backbone(tmp_path / "server" / "x.pth", whole=True)
    name = f"net-{hashlib.sha256(file.read_bytes()).hexdigest()[:8]}.pth"
    file.rename(file.with_name(name))
    small = replace(LPIPS_BACKBONES["alex"], file=name)
    monkeypatch.setitem(BACKBONES, "lpips", small)
    monkeypatch.setitem(LPIPS_BACKBONES, "alex", small)
    monkeypatch.setattr(imagenet, "_URL", f"{file.parent.as_uri()}/")
    return file.parent


def test_fetch_downloads_once(server: Path, capsys) -> None:
    (source,) = server.iterdir()
    target = hub_file(source.name)
    assert main(["fetch", "lpips"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"downloading {source.as_uri()} (233 MiB) to {target}"
    assert second.startswith(f"{source.name}: torchvision's {source.stem} (whole file), SHA-256 ")
    assert target.read_bytes() == source.read_bytes()
    source.unlink()
    assert main(["fetch", "lpips"]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{target} exists already", second]


def test_without_a_network_fetch_names_the_other_ways(server: Path, capsys) -> None:
    (source,) = server.iterdir()
    source.unlink()
    assert main(["fetch", "lpips"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        f"srtoolbox: {source.as_uri()} could not be downloaded to {hub_file(source.name)} ("
    )
    assert line.endswith(
        "copy it there, or name a copy with the option backbone or the variable "
        "SRTOOLBOX_LPIPS_BACKBONE"
    )
    assert not list(hub_file(source.name).parent.iterdir())


def test_wrong_names_and_files_are_refused(server: Path, capsys) -> None:
    assert main(["fetch", "resnet"]) == 2
    assert "must be 'lpips', 'lpips-vgg', 'lpips-squeeze' or 'vgg19'" in capsys.readouterr().err
    (source,) = server.iterdir()
    write_backbone(hub_file(source.name), "squeeze")
    assert main(["fetch", "lpips"]) == 2
    assert "delete it and run the same command again" in capsys.readouterr().err
