"""Tests weight files of other projects, and hostile ones."""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import pickle
import struct
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from srtoolbox.archs.edsr import EDSR
from srtoolbox.archs.isr import ISR_RRDN
from srtoolbox.archs.mdsr import MDSR
from srtoolbox.engine.weights.convert import convert
from srtoolbox.engine.weights.load import load, load_weights, read_weights, weights_hash
from srtoolbox.errors import UserError


def net(seed: int = 0) -> EDSR:
    torch.manual_seed(seed)
    return EDSR(scale=2, num_feat=4, num_block=2)


def fault_of(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_weights(net(), path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message


class TestPrefixes:
    @pytest.mark.parametrize("prefix", ["generator.", "model.", "net_g.", "module.netG.a.b."])
    def test_a_common_prefix_is_removed(self, tmp_path: Path, prefix: str) -> None:
        state = {prefix + key: value for key, value in net(3).state_dict().items()}
        state |= {"discriminator.conv.weight": torch.ones(3), "step_counter": torch.ones(1)}
        torch.save({"state_dict": state, "epoch": 3}, tmp_path / "net.ckpt")
        loaded = net(1)
        line = load_weights(loaded, tmp_path / "net.ckpt")
        assert weights_hash(loaded) == weights_hash(net(3))
        assert "of other parts, not used: discriminator.conv.weight, step_counter" in line

    def test_the_moving_average_of_mmagic_is_preferred(self, tmp_path: Path) -> None:
        state = {"generator." + key: value for key, value in net(3).state_dict().items()}
        state |= {"generator_ema." + key: value for key, value in net(4).state_dict().items()}
        torch.save({"meta": {"epoch": 1}, "state_dict": state}, tmp_path / "net.pth")
        loaded = net(1)
        load_weights(loaded, tmp_path / "net.pth")
        assert weights_hash(loaded) == weights_hash(net(4))

    @pytest.mark.slow
    def test_what_does_not_fit_is_named_without_the_prefix(self, tmp_path: Path) -> None:
        state = {"generator." + key: value for key, value in net(3).state_dict().items()}
        state["generator.conv_1st.weight"] = state.pop("generator.conv_first.weight")
        torch.save(state, tmp_path / "net.pth")
        message = fault_of(tmp_path / "net.pth")
        assert "not found: conv_first.weight" in message and "not used: conv_1st.weight" in message

    @pytest.mark.slow
    def test_the_arch_is_recognised(self, tmp_path: Path) -> None:
        torch.save({f"generator.{k}": v for k, v in net().state_dict().items()}, tmp_path / "n.pth")
        with pytest.raises(UserError, match="its tensors have the names of EDSR"):
            load(tmp_path / "n.pth")


class Block(nn.Module):
    """The residual block of EDSR-PyTorch, by its names."""

    def __init__(self, num_feat: int, kernel: int = 3) -> None:
        super().__init__()
        conv = (nn.Conv2d(num_feat, num_feat, kernel, padding=kernel // 2) for _ in range(2))
        self.body = nn.Sequential(next(conv), nn.ReLU(), next(conv))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def upsampler(scale: int, num_feat: int) -> nn.Sequential:
    steps = [3] if scale == 3 else [2] * (scale // 2)
    layers = ((nn.Conv2d(num_feat, s * s * num_feat, 3, 1, 1), nn.PixelShuffle(s)) for s in steps)
    return nn.Sequential(*(layer for pair in layers for layer in pair))


class Official(nn.Module):
    """EDSR or MDSR with the names of EDSR-PyTorch."""

    def __init__(self, several: bool, scale: int, num_feat: int = 4, num_block: int = 2) -> None:
        super().__init__()
        self.index = scale - 2
        mean = torch.tensor([0.4488, 0.4371, 0.4040])
        self.sub_mean, self.add_mean = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        for layer, sign in ((self.sub_mean, -1), (self.add_mean, 1)):
            layer.weight.data = torch.eye(3)[:, :, None, None]
            layer.bias.data = sign * 255 * mean
        self.head = nn.Sequential(nn.Conv2d(3, num_feat, 3, padding=1))
        blocks = [Block(num_feat) for _ in range(num_block)]
        self.body = nn.Sequential(*blocks, nn.Conv2d(num_feat, num_feat, 3, padding=1))
        last = nn.Conv2d(num_feat, 3, 3, padding=1)
        if several:
            self.pre_process = nn.ModuleList(
                nn.Sequential(Block(num_feat, 5), Block(num_feat, 5)) for _ in range(3)
            )
            self.upsample = nn.ModuleList(upsampler(s, num_feat) for s in (2, 3, 4))
            self.tail = nn.Sequential(last)
        else:
            self.tail = nn.Sequential(upsampler(scale, num_feat), last)

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(self.sub_mean(255 * x))
        x = self.pre_process[self.index](x) if hasattr(self, "pre_process") else x
        x = x + self.body(x)
        x = self.upsample[self.index](x) if hasattr(self, "upsample") else x
        return self.add_mean(self.tail(x)) / 255


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("arch", [EDSR, MDSR])
def test_names_of_edsr_pytorch(tmp_path: Path, arch: type[EDSR | MDSR], scale: int) -> None:
    theirs = Official(arch is MDSR, scale)
    torch.save(theirs.state_dict(), tmp_path / "net.pt")
    ours = arch(scale=scale, num_feat=4, num_block=2)
    load_weights(ours, tmp_path / "net.pt")
    x = torch.rand(1, 3, 7, 9)
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-5, rtol=0)
    if scale == 2:
        with pytest.raises(UserError, match=f"the names of {arch.__name__}"):
            load(tmp_path / "net.pt")


class Spy:
    """An object whose pickle would write a file when it is loaded by Python."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("executed",)


class TestOtherObjects:
    def test_they_are_skipped(self, tmp_path: Path) -> None:
        content = {
            "state_dict": {f"model.{key}": value for key, value in net(3).state_dict().items()},
            "hyper_parameters": argparse.Namespace(lr=1e-4, scale=[2]),
            "best": np.float64(31.2),
            "step": np.int64(3),
            "path": pathlib.PurePosixPath("a/b"),
            "array": np.arange(5),
            "criterion": nn.L1Loss,
        }
        torch.save(content, tmp_path / "net.ckpt")
        loaded = net(1)
        load_weights(loaded, tmp_path / "net.ckpt")
        assert weights_hash(loaded) == weights_hash(net(3))

    def test_no_code_runs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        torch.save({"params": net().state_dict(), "spy": Spy()}, tmp_path / "net.pth")
        assert "holds pickled Python objects" in fault_of(tmp_path / "net.pth")
        assert not (tmp_path / "executed").exists()
        (tmp_path / "evil.py").write_text("import os; os.mkdir('imported')\nclass A: pass\n")
        monkeypatch.syspath_prepend(tmp_path)
        module = types.ModuleType("evil")
        module.A = type("A", (), {"__module__": "evil"})  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "evil", module)
        torch.save({"params": net(3).state_dict(), "a": module.A()}, tmp_path / "net.pth")
        monkeypatch.delitem(sys.modules, "evil")
        loaded = net()
        load_weights(loaded, tmp_path / "net.pth")
        assert weights_hash(loaded) == weights_hash(net(3))
        assert "evil" not in sys.modules and not (tmp_path / "imported").exists()

    @pytest.mark.parametrize("module", ["posix", "builtins"])
    def test_dangerous_functions(self, tmp_path: Path, module: str) -> None:
        name = "system" if module == "posix" else "eval"
        body = f"c{module}\n{name}\n(S'1'\ntR.".encode()
        (tmp_path / "net.pth").write_bytes(body)
        fault_of(tmp_path / "net.pth")


def test_a_torch_file_called_safetensors(tmp_path: Path) -> None:
    torch.save(net(3).state_dict(), tmp_path / "net.safetensors")
    loaded = net(1)
    load_weights(loaded, tmp_path / "net.safetensors")
    assert weights_hash(loaded) == weights_hash(net(3))
    save_file(net(4).state_dict(), tmp_path / "net.pth")
    load_weights(loaded, tmp_path / "net.pth")
    assert weights_hash(loaded) == weights_hash(net(4))


class TestUnusualTensors:
    @pytest.mark.filterwarnings("ignore::UserWarning")  # torch's, about these kinds of tensors
    @pytest.mark.parametrize(
        ("make", "words"),
        [
            (lambda x: x.to_sparse(), "a sparse tensor"),
            (lambda x: x.flatten(1).to_sparse_csr(), "a sparse tensor"),
            (lambda x: x.to("meta"), "without values"),
            (lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8), "a quantised tensor"),
            (lambda x: torch.nested.nested_tensor([x[0], x[1, :, :2]]), "a nested tensor"),
            (lambda x: x.to(torch.complex64), "complex"),
        ],
    )
    def test_one_line(self, tmp_path: Path, make: Any, words: str) -> None:
        state = net().state_dict()
        state["conv_first.weight"] = make(state["conv_first.weight"])
        torch.save(state, tmp_path / "net.pth")
        message = fault_of(tmp_path / "net.pth")
        assert words in message and "conv_first.weight" in message


class TestHostileFiles:
    def test_nested_headers(self, tmp_path: Path) -> None:
        for header in (b'{"a":' + b"[" * 100_000, b'{"a":' * 5000 + b"1" + b"}" * 5000):
            (tmp_path / "net.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
            fault_of(tmp_path / "net.safetensors")

    def test_huge_header(self, tmp_path: Path) -> None:
        with (tmp_path / "net.safetensors").open("wb") as file:
            file.write(struct.pack("<Q", 90_000_000) + b"{")
            file.truncate(200_000_000)
        assert "a header of 90000000 bytes" in fault_of(tmp_path / "net.safetensors")

    def test_nested_arch(self, tmp_path: Path) -> None:
        nested = json.dumps({"type": "EDSR", "a": None})
        for depth in (60, 500, 100_000):
            arch = nested.replace("null", '{"a":' * depth + "1" + "}" * depth)
            save_file(net().state_dict(), tmp_path / "net.safetensors", {"arch": arch})
            with pytest.raises(UserError, match=r"levels deep|does not contain the name"):
                load(tmp_path / "net.safetensors")

    @pytest.mark.parametrize("arch", [{"type": "EDSR", "num_feat": -1}, {"type": "EDSR", "x": 3}])
    def test_faulty_arch(self, tmp_path: Path, arch: dict[str, Any]) -> None:
        save_file(net().state_dict(), tmp_path / "net.safetensors", {"arch": json.dumps(arch)})
        with pytest.raises(UserError, match="EDSR"):
            load(tmp_path / "net.safetensors")

    def test_compressed_tensors(self, tmp_path: Path) -> None:
        torch.save({"conv_first.weight": torch.zeros(1_000_000)}, tmp_path / "plain.pth")
        with (
            zipfile.ZipFile(tmp_path / "plain.pth") as plain,
            zipfile.ZipFile(tmp_path / "net.pth", "w", zipfile.ZIP_DEFLATED) as packed,
        ):
            for entry in plain.infolist():
                packed.writestr(entry.filename, plain.read(entry))
        assert (tmp_path / "net.pth").stat().st_size < 50_000
        assert "holds compressed tensors" in fault_of(tmp_path / "net.pth")

    def test_what_is_no_file(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.pth")
        (tmp_path / "zero.pth").symlink_to("/dev/zero")
        (tmp_path / "folder.pth").mkdir()
        assert "is a pipe" in fault_of(tmp_path / "pipe.pth")
        assert "is a device" in fault_of(tmp_path / "zero.pth")
        assert "directory" in fault_of(tmp_path / "folder.pth")
        with pytest.raises(UserError, match="is no path"):
            read_weights(Path("a\0b.pth"))

    def test_a_legacy_file_that_promises_too_much(self, tmp_path: Path) -> None:
        torch.save(torch.zeros(3), tmp_path / "a.pth", _use_new_zipfile_serialization=False)
        content = (tmp_path / "a.pth").read_bytes()
        (tmp_path / "net.pth").write_bytes(content.replace(b"K\x03", b"J\xff\xff\xff\x7f"))
        fault_of(tmp_path / "net.pth")

    def test_a_pickle_that_is_nested(self, tmp_path: Path) -> None:
        nested: Any = None
        for _ in range(400):
            nested = {"a": nested}
        (tmp_path / "net.pth").write_bytes(pickle.dumps(nested, 2))
        fault_of(tmp_path / "net.pth")


def test_hdf5_of_keras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"num_feat": 4, "num_block": 1, "num_dense_block": 1, "num_layer": 2}
    torch.manual_seed(0)
    original = ISR_RRDN(scale=2, num_grow_ch=4, **options)
    arrays = {}
    for layer, ours in original.keras_layers().items():
        module = original.get_submodule(ours)
        kernel = module.weight.detach()
        if ours == "upscale.0":
            kernel = kernel.unflatten(0, (3, -1)).transpose(0, 1).flatten(0, 1)
        bias = module.bias.detach()
        if ours == "upscale.0":
            bias = bias.unflatten(0, (3, -1)).transpose(0, 1).flatten(0, 1)
        arrays[f"model/{layer}/kernel:0"] = kernel.movedim((0, 1), (-1, -2)).numpy()
        arrays[f"model/{layer}/bias:0"] = bias.numpy()
    monkeypatch.setitem(sys.modules, "h5py", _fake_h5py(arrays))
    (tmp_path / "rrdn.hdf5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    sets = [f"{key}={value}" for key, value in options.items()]
    sets += ["num_grow_ch=4", "scale=2"]
    convert(tmp_path / "rrdn.hdf5", tmp_path / "out.safetensors", "ISR_RRDN", sets)
    loaded, _ = load(tmp_path / "out.safetensors")
    assert weights_hash(loaded) == weights_hash(original)
    with pytest.raises(UserError, match="only ISR_RDN and ISR_RRDN read"):
        load_weights(net(), tmp_path / "rrdn.hdf5")


def _fake_h5py(arrays: dict[str, np.ndarray]) -> types.ModuleType:
    """Returns the part of h5py that is used; h5py itself is an optional package."""

    class Dataset:
        def __init__(self, content: np.ndarray) -> None:
            self.content, self.dtype = content, content.dtype

        def __getitem__(self, key: tuple[()]) -> np.ndarray:
            return self.content

    class File:
        def __init__(self, path: Path, mode: str) -> None:
            pass

        def __enter__(self) -> File:
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def visititems(self, keep: Any) -> None:
            for name, content in arrays.items():
                keep(name, Dataset(content))

    module = types.ModuleType("h5py")
    module.Dataset, module.File = Dataset, File  # type: ignore[attr-defined]
    return module
