"""Tests messages about files that are not weight files, or not complete."""

from __future__ import annotations

import pickle
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from srtoolbox.archs.edsr import EDSR
from srtoolbox.engine.weights.load import read_weights
from srtoolbox.errors import UserError


def net() -> EDSR:
    return EDSR(scale=2, num_feat=4, num_block=1)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0a\nsize 9\n",
            "git lfs pull",
        ),
        (
            b"\n<!DOCTYPE html><html>Log in</html>",
            "a web page saved under the name of a weight file",
        ),
        (b"\xef\xbb\xbf<HTML>", "a web page saved under the name of a weight file"),
        pytest.param(
            b"\x89HDF\r\n\x1a\n" + bytes(9),
            "srtoolbox[keras]",
            marks=pytest.mark.skipif(find_spec("h5py") is not None, reason="h5py is installed"),
        ),
        (b"weights {conv: 3}" * 9, "is a text file, not a weight file"),
        (pickle.dumps([1], 4), "holds pickled Python objects"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_it_is_instead(tmp_path: Path, content: bytes, words: str, suffix: str) -> None:
    path = tmp_path / f"net{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_weights(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.99])
@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_a_cut_file(tmp_path: Path, form: str, share: float) -> None:
    path = tmp_path / "net.pth"
    if form == "safetensors":
        save_file(net().state_dict(), path)
    else:
        torch.save(net().state_dict(), path, _use_new_zipfile_serialization=form == "zip")
    read_weights(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(UserError, match=r"net\.pth: incomplete: the file is cut off after \d+"):
        read_weights(path)


def test_a_cut_off_copy_of_official_weights(reference: Path, tmp_path: Path) -> None:
    content = (reference / "weights" / "DSRNet_x2_600000.pth").read_bytes()
    (tmp_path / "net.pth").write_bytes(content[:3745280])
    with pytest.raises(UserError, match="incomplete: the file is cut off after 3745280 bytes"):
        read_weights(tmp_path / "net.pth")


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_a_whole_module(tmp_path: Path, form: str) -> None:
    torch.save(net(), tmp_path / "net.pth", _use_new_zipfile_serialization=form == "zip")
    words = r"Python objects \(srtoolbox\.archs\.edsr\.EDSR\), as written by torch\.save\(net\)"
    with pytest.raises(UserError, match=words):
        read_weights(tmp_path / "net.pth")


def test_other_archives(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "net.pth", "w") as archive:
        archive.writestr("weights/net_g.pth", b"...")
    with pytest.raises(UserError, match="is a zip archive, not a file of tensors; unpack it"):
        read_weights(tmp_path / "net.pth")
