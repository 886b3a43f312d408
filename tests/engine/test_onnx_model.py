"""Exported ONNX files in place of networks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from support.networks import SMALL

from srtoolbox.archs.dstcsrnet_plus import DSTCSRNetPlus
from srtoolbox.archs.edsr import EDSR
from srtoolbox.archs.rrdbnet import RRDBNet
from srtoolbox.engine.export import export_network
from srtoolbox.engine.onnx_model import METADATA_KEY, ProgramInfo, load_onnx
from srtoolbox.errors import UserError
from srtoolbox.inference.padding import run_padded
from srtoolbox.inference.prediction import EnhanceOptions, predict
from srtoolbox.inference.tiling import run_tiled

onnx = pytest.importorskip("onnx", reason="onnx is missing; pip install srtoolbox[onnx]")
for package in ("onnxruntime", "onnxscript"):
    pytest.importorskip(package, reason=f"{package} is missing; pip install srtoolbox[onnx]")

HALO = 8  # above the receptive field of the small networks


@pytest.fixture(scope="module")
def edsr() -> EDSR:
    torch.manual_seed(0)
    return EDSR(2, num_feat=4, num_block=1).eval()


@pytest.fixture(scope="module")
def fixed_file(edsr: EDSR, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("fixed") / "net.onnx"
    arch = {"type": "EDSR", "num_feat": 4, "num_block": 1}
    export_network(edsr, arch, target, "onnx", size=(32, 40))
    return target


@pytest.mark.slow
@pytest.mark.parametrize("size", [(32, 40), (33, 41), (70, 95), (32, 97), (90, 40)])
def test_fixed_tiles_equal_the_whole_image(
    edsr: EDSR, fixed_file: Path, size: tuple[int, int]
) -> None:
    model, lq = load_onnx(fixed_file), torch.rand(2, 3, *size)
    with torch.no_grad():
        tiled, whole = run_tiled(model, lq, tile=512, halo=HALO), run_padded(edsr, lq)
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_small_images_get_repeated_borders(edsr: EDSR, fixed_file: Path) -> None:
    model, lq = load_onnx(fixed_file), torch.rand(1, 3, 20, 35)
    with torch.no_grad():
        sr, whole = run_tiled(model, lq, 64, HALO), edsr(lq)
    assert sr.shape == whole.shape
    inner = (..., slice(0, 40 - 2 * HALO), slice(0, 70 - 2 * HALO))
    torch.testing.assert_close(sr[inner], whole[inner], rtol=0, atol=1e-5)


@pytest.mark.slow
def test_other_sizes_are_refused(fixed_file: Path) -> None:
    model = load_onnx(fixed_file)
    with pytest.raises(UserError, match="takes only inputs of 32x40 pixels, got 32x41"):
        model(torch.rand(1, 3, 32, 41))
    with pytest.raises(UserError, match=r"takes only images of 32x40 .*val\.tile: 32"):
        run_padded(model, torch.rand(1, 3, 32, 41))


@pytest.mark.slow
def test_free_sizes_in_tiles_with_a_multiple(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = RRDBNet(2, num_feat=4, num_block=1, num_grow_ch=2).eval()
    export_network(net, {"type": "RRDBNet"}, tmp_path / "net.onnx", "onnx")
    model, lq = load_onnx(tmp_path / "net.onnx"), torch.rand(1, 3, 51, 61)
    with torch.no_grad():
        for run in (run_padded, lambda n, x: run_tiled(n, x, 20, 2)):
            torch.testing.assert_close(run(model, lq), run(net, lq), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_a_burst_network_of_four_bands_equals_its_program_in_tiles(tmp_path: Path) -> None:
    torch.manual_seed(0)
    options = {**SMALL["DSTCSRNetPlus"], "num_in_ch": 4}
    net = DSTCSRNetPlus(2, **options).eval()
    arch = {"type": "DSTCSRNetPlus", **options}
    report = export_network(net, arch, tmp_path / "net.onnx", "onnx", size=(24, 32), num_frame=2)
    assert (report.info.channels, report.info.out_channels) == (4, 4)
    model = load_onnx(tmp_path / "net.onnx")
    torch.manual_seed(1)
    image = torch.nn.functional.interpolate(torch.rand(1, 4, 12, 16), (44, 58), mode="bilinear")
    lq = torch.stack([image, image.roll(1, -1)], 1)
    enhance = EnhanceOptions(back_projection=1)
    with torch.no_grad():
        net.input_size = model.input_size  # so that it gets the same tiles
        sr, expected = (
            predict(n, lq, 1, enhance, lambda n, x: run_tiled(n, x, 24, 4)) for n in (model, net)
        )
    torch.testing.assert_close(sr, expected, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_foreign_and_damaged_files(fixed_file: Path, tmp_path: Path) -> None:
    target = tmp_path / "net.onnx"
    with pytest.raises(UserError, match=r"net\.onnx: cannot be read \(No such file"):
        load_onnx(target)
    target.write_bytes(b"no program")
    with pytest.raises(UserError, match=r"net\.onnx: is not a usable ONNX file"):
        load_onnx(target)
    proto = onnx.load(fixed_file)
    (entry,) = (entry for entry in proto.metadata_props if entry.key == METADATA_KEY)
    fields = json.loads(entry.value)
    for change in ({"scale": "2"}, {"min_size": 0}, {"reference": 1}, {"unknown": 1}):
        entry.value = json.dumps({**fields, **change})
        target.write_bytes(proto.SerializeToString())
        with pytest.raises(
            UserError, match=r"net\.onnx: .*is damaged .*; export the network again"
        ):
            load_onnx(target)
    proto.metadata_props.remove(entry)
    target.write_bytes(proto.SerializeToString())
    with pytest.raises(UserError, match="only ONNX files that `srtoolbox export` wrote"):
        load_onnx(target)


def test_facts_survive_json() -> None:
    info = ProgramInfo(
        *("0.1", {"type": "EDSR"}, "abc", 2, 1, 0, 3, 1, 1, False, 1, None, (8, 9)),
        checks=((8, 9, 1e-7),),
    )
    assert ProgramInfo.from_json(info.to_json()) == info


def test_files_of_earlier_versions_do_not_declare_the_channels_of_the_output() -> None:
    info = ProgramInfo("0.1", {"type": "EDSR"}, "abc", 2, 1, 0, 3, 1, 1, False, 1, None, (8, 9))
    fields = json.loads(info.to_json())
    del fields["out_channels"]
    assert ProgramInfo.from_json(json.dumps(fields)) == info
    assert info.out_channels is None
