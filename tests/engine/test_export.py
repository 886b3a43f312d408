"""Exported programs against their networks."""

from __future__ import annotations

import builtins
import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from support.networks import NAMES, SMALL

from srtoolbox.archs.base import arch_info
from srtoolbox.archs.edsr import EDSR
from srtoolbox.archs.rrdbnet import RRDBNet
from srtoolbox.cli import main
from srtoolbox.engine import export as exporting
from srtoolbox.engine.export import FIXED_SIZE, TOLERANCE, export, export_network
from srtoolbox.engine.onnx_model import METADATA_KEY, ProgramInfo, load_onnx
from srtoolbox.engine.weights.load import save_weights, weights_hash
from srtoolbox.errors import RunError, UserError
from srtoolbox.inference.padding import run_padded
from srtoolbox.registry import ARCH_REGISTRY

# Few frames: tracing takes most of the time, and its time grows with the frames.
FRAMES = {"EDVR": 3, "FBANet": 2, "LGTD": 3, "MSDTGP": 3, "MSTTSTVSR": 3, "TDAN": 3}
TO_TORCH = ("DSTCSRNetPlus", "EDSR", "TDAN", "UpConv7")
EDSR_SMALL = {"type": "EDSR", "scale": 2, "num_feat": 4, "num_block": 1}


@pytest.fixture(autouse=True)
def _onnx() -> None:
    for name in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(name, reason=f"{name} is missing; pip install srtoolbox[onnx]")


def build(name: str) -> tuple[Any, dict[str, Any]]:
    """Returns a small network, and its name and options."""
    options = SMALL.get(name, {}) | ({"num_frame": FRAMES[name]} if name in FRAMES else {})
    arch = ARCH_REGISTRY.get(name)
    torch.manual_seed(0)
    return arch(arch.scales[0], **options), {"type": name, **options}


def frames(net: Any) -> int | None:
    if arch_info(net).num_frame is not None:
        return None
    return 3 if type(net).__name__ == "BasicVSRPlusPlus" else 2  # it looks two frames back


@pytest.fixture
def _recorded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both formats get the program that was recorded for the first."""
    programs: dict[Any, Any] = {}
    record = exporting._record

    def once(net: Any, inputs: tuple[torch.Tensor, ...], free: bool) -> Any:
        key = (free, *(x.shape for x in inputs))
        if key not in programs:
            programs[key] = record(net, inputs, free)
        return programs[key]

    monkeypatch.setattr(exporting, "_record", once)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_weights(tmp_path / "net.safetensors", EDSR_SMALL, EDSR(2, num_feat=4, num_block=1))
    return tmp_path / "net.safetensors"


def clip(net: Any, size: tuple[int, int]) -> torch.Tensor:
    info = arch_info(net)
    torch.manual_seed(3)
    image = torch.rand(1, info.channels, *size)
    if info.num_frame == 1:
        return image
    return torch.stack([image.roll(t, -1) for t in range(info.num_frame or frames(net) or 1)], 1)


@pytest.mark.slow
@pytest.mark.usefixtures("_recorded_once")
@pytest.mark.parametrize("name", NAMES)
def test_every_arch_is_exported(tmp_path: Path, name: str) -> None:
    net, arch = build(name)
    if name in TO_TORCH:
        check_program_of_torch(net, arch, name, tmp_path / "net.pt2")
    report = export_network(net, arch, tmp_path / "net.onnx", "onnx", num_frame=frames(net))
    model = load_onnx(tmp_path / "net.onnx")
    fixed = model.input_size is not None
    assert fixed == (("onnx", name) in FIXED_SIZE), report.describe()
    assert len(report.info.checks) == 3
    own, theirs = arch_info(net), arch_info(model)
    same = (
        "size_multiple",
        "pad_mode",
        "channels",
        "restores_all",
        "time_scale",
        "needs_flow",
        "reference",
    )
    assert all(getattr(own, fact) == getattr(theirs, fact) for fact in same)
    assert theirs.num_frame == (own.num_frame or frames(net))
    # Another size than those of the checks, which needs padding.
    lq = clip(net, model.input_size or (29, 23))
    with torch.no_grad():
        sr, expected = run_padded(model, lq), run_padded(net, lq)
    limit = TOLERANCE * max(1.0, expected.abs().max().item())
    torch.testing.assert_close(sr, expected, rtol=0, atol=limit)


def check_program_of_torch(net: Any, arch: dict[str, Any], name: str, target: Path) -> None:
    """Exports a network; its program runs alone, without the toolbox."""
    report = export_network(net, arch, target, "torch", num_frame=frames(net))
    assert (report.info.input_size is not None) == (("torch", name) in FIXED_SIZE)
    entries = {METADATA_KEY: ""}
    program = torch.export.load(target, extra_files=entries)
    assert ProgramInfo.from_json(entries[METADATA_KEY]) == report.info
    lq = clip(net, report.info.input_size or (19, 26))
    with torch.no_grad():
        torch.testing.assert_close(program.module()(lq), run_padded(net, lq), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_facts_and_report(weights: Path, tmp_path: Path) -> None:
    report = export(weights, tmp_path / "net.onnx", "onnx", overrides=["img_range=1.0"])
    info = report.info
    assert (info.scale, info.num_frame, info.channels, info.input_size) == (2, 1, 3, None)
    assert info.arch == {**EDSR_SMALL, "img_range": 1.0}
    torch.manual_seed(0)
    assert info.weights == weights_hash(EDSR(2, num_feat=4, num_block=1))
    assert load_onnx(report.path).info == info
    text = report.describe()
    assert "checked at 24x33: maximum difference from the network" in text
    assert f"wrote {report.path}: EDSR x2 ({info.weights}), inputs of any size from 2" in text


@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "torch"])
def test_networks_of_other_bands(tmp_path: Path, format: exporting.Format) -> None:
    torch.manual_seed(0)
    bands = {"num_in_ch": 4, "num_out_ch": 2}
    net = EDSR(2, num_feat=4, num_block=1, **bands)
    target = tmp_path / f"net{exporting.SUFFIXES[format]}"
    report = export_network(net, {**EDSR_SMALL, **bands}, target, format)
    assert (report.info.channels, report.info.out_channels) == (4, 2)
    assert "), 4 channels, inputs of any size" in report.describe()
    lq = clip(net, (29, 23))
    with torch.no_grad():
        if format == "onnx":
            model = load_onnx(target)
            assert (arch_info(model).channels, arch_info(model).out_channels) == (4, 2)
            sr = run_padded(model, lq)
        else:
            sr = torch.export.load(target).module()(lq)
        assert sr.shape == (1, 2, 58, 46)
        torch.testing.assert_close(sr, run_padded(net, lq), rtol=0, atol=1e-4)


@pytest.mark.slow
def test_a_fixed_size_is_kept(tmp_path: Path) -> None:
    net = RRDBNet(2, num_feat=4, num_block=1, num_grow_ch=2)
    arch = {"type": "RRDBNet"}
    with pytest.raises(UserError, match=r"does not take 15x32 pixels; the next larger .* 16x32"):
        export_network(net, arch, tmp_path / "net.onnx", "onnx", size=(15, 32))
    report = export_network(net, arch, tmp_path / "net.onnx", "onnx", size=(16, 32), opset=18)
    assert load_onnx(report.path).input_size == (16, 32)
    assert "inputs of 16x32 pixels, multiples of 2" in report.describe()
    assert report.fixed_because is None


@pytest.mark.slow
def test_a_network_with_branches_by_size_gets_a_fixed_one(tmp_path: Path) -> None:
    class Branching(EDSR):
        def forward(self, lq: torch.Tensor) -> torch.Tensor:
            sr = super().forward(lq)
            return sr * 2 if lq.shape[-1] == 33 else sr

    net = Branching(2, num_feat=4, num_block=1)
    report = export_network(net, EDSR_SMALL, tmp_path / "net.pt2", "torch")
    assert report.info.input_size == (64, 64)
    assert report.describe().startswith("free sizes are not possible (")


@pytest.mark.slow
def test_a_wrong_program_is_not_written(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "TOLERANCE", -1.0)
    with pytest.raises(RunError, match=r"differs from the network by .* at 64x64 pixels"):
        export(weights, tmp_path / "net.pt2", "torch")
    assert not (tmp_path / "net.pt2").exists()


def test_faults(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the name must end in \.onnx"):
        export(weights, tmp_path / "net.pt2", "onnx")
    burst, arch = build("DSTCSRNetPlus")
    with pytest.raises(UserError, match=r"takes any number of frames.* set --frames T"):
        export_network(burst, arch, tmp_path / "net.pt2", "torch")
    with pytest.raises(UserError, match="EDSR takes 1 frame, not 3"):
        export(weights, tmp_path / "net.pt2", "torch", num_frame=3)


def test_missing_packages_are_named(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without_onnx(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "onnxscript":
            raise ImportError("no module", name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_onnx)
    with pytest.raises(UserError, match=r"onnxscript is missing.*pip install srtoolbox\[onnx\]"):
        export(weights, tmp_path / "net.onnx", "onnx")


def test_the_table_of_fixed_sizes_names_registered_archs() -> None:
    assert {name for _, name in FIXED_SIZE} <= set(NAMES)


@pytest.mark.slow
def test_command(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "folder" / "net.onnx"
    arguments = ["export", str(weights), "--to", "onnx", "-o", str(target), "--tile", "24"]
    assert main(arguments) == 0
    assert "inputs of 24x24 pixels" in capsys.readouterr().out
    assert load_onnx(target).input_size == (24, 24)
    assert main(["export", str(weights)]) == 0
    assert load_onnx(weights.with_suffix(".onnx")).input_size is None


@pytest.mark.parametrize("size", ["24", "0x8", "axb", "8x-8"])
def test_wrong_sizes_are_refused(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["export", "w", "--to", "onnx", "-o", "x.onnx", f"--size={size}"])
    assert "expected height and width such as 128x128" in capsys.readouterr().err


def test_nothing_needs_onnx_at_import() -> None:
    source = Path(importlib.import_module("srtoolbox.engine.onnx_model").__file__ or "")
    for file in (source, source.with_name("export.py")):
        lines = file.read_text().splitlines()
        assert not [line for line in lines if line.startswith(("import onnx", "from onnx"))]
