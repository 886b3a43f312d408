"""Images of any number of bands and any depth: from a folder to a table to an enlarged GeoTIFF."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.upscaling import texture

from srtoolbox.cli import main
from srtoolbox.media.geo import geo_info

rasterio = pytest.importorskip("rasterio", reason='needs pip install "srtoolbox[geo]"')

NODATA = {"uint8": 0, "uint16": 0, "int16": -9999, "float32": -1.0}
LARGEST = {"uint8": 255, "uint16": 4095, "int16": 10000, "float32": 2.0}


def save_map(path: Path, bands: int, dtype: str, seed: int, below: float | None = None) -> Path:
    """Writes a map with missing pixels; ``below`` are values where a mask file hides them."""
    from rasterio.transform import Affine

    values = np.roll(texture(64, 72, bands, np.float32), seed * 7, axis=1)
    values = (LARGEST[dtype] * (0.1 + 0.8 * values)).astype(dtype)
    values[:, 20:28, 30:40] = NODATA[dtype] if below is None else below
    path.parent.mkdir(parents=True, exist_ok=True)
    place = Affine(10, 0, 399960.1, 0, -10, 4600020.3)
    form: dict[str, Any] = {"driver": "GTiff", "count": bands, "height": 64, "width": 72}
    form |= {"dtype": dtype, "crs": "EPSG:32650", "transform": place, "photometric": "MINISBLACK"}
    form |= {"compress": "lzw"} | ({"nodata": NODATA[dtype]} if below is None else {})
    with rasterio.open(path, "w", **form) as target:
        target.write(values)
        target.descriptions = [f"B{number}" for number in range(1, bands + 1)]
    return path


def study(folder: Path, bands: int, dtype: str, data: str = "") -> Path:
    levels = "" if dtype == "uint8" else f", white_level: {LARGEST[dtype]}"
    levels += ", scale_floats: true" if dtype == "float32" else ""
    path = folder / "study.yml"
    path.write_text(
        f"""
name: bands
scale: 2
seeds: [0]
path: {{experiments_root: '{folder / "experiments"}'}}
datasets:
  train:
    {{type: PairedImages, dataroot_gt: '{folder / "train"}', gt_size: 32{levels}{data},
      cache: '{folder / "cache"}'}}
  val:
    maps: {{type: PairedImages, dataroot_gt: '{folder / "val"}'{levels}{data}}}
train:
  total_iter: 4
  batch_size: 2
  optim_g: {{type: Adam, lr: 1e-3}}
  losses: {{l_pix: {{type: L1Loss}}}}
val:
  val_freq: 4
  protocol: bands
  metrics:
    psnr: {{type: PSNR}}
    psnr_last: {{type: PSNR, bands: [{bands}]}}
    ssim: {{type: SSIM}}
    sam: {{type: SAM}}
    ergas: {{type: ERGAS}}
    uiqi: {{type: UIQI}}
logger: {{use_tb_logger: false}}
methods:
  Bicubic: {{network_g: {{type: Bicubic, num_in_ch: {bands}}}}}
  EDSR: {{network_g: {{type: EDSR, num_feat: 4, num_block: 1, num_in_ch: {bands}}}}}
"""
    )
    return path


def scores(folder: Path) -> dict[tuple[str, str], dict[str, float]]:
    lines = (folder / "results.jsonl").read_text().splitlines()
    records = [record for record in map(json.loads, lines) if "metrics" in record]
    return {(record["method"], record["key"]): record["metrics"] for record in records}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bands", "dtype"),
    [(1, "uint16"), (3, "uint8"), (4, "int16"), (13, "float32")],
)
def test_from_a_folder_to_a_table_to_a_map(tmp_path: Path, bands: int, dtype: str, capsys) -> None:
    for seed in range(2):
        save_map(tmp_path / "train" / f"t{seed}.tif", bands, dtype, seed)
        save_map(tmp_path / "val" / f"v{seed}.tif", bands, dtype, seed + 2)
    assert main(["compare", str(study(tmp_path, bands, dtype))]) == 0
    table = capsys.readouterr().out
    assert "Bicubic" in table and "EDSR" in table and "SAM" in table
    folder = tmp_path / "experiments" / "compare" / "bands"
    found = scores(folder)
    assert {key for _, key in found} == {"v0", "v1"}
    assert all(np.isfinite([*metrics.values()]).all() for metrics in found.values())

    (weights,) = folder.glob("runs/*/weights/net_g_latest.*")
    source = save_map(tmp_path / "scene.tif", bands, dtype, 5)
    arguments = ["upscale", str(source), "-o", str(tmp_path / "out"), "--weights", str(weights)]
    assert main(arguments) == 0
    (result,) = (tmp_path / "out").glob("*.tif")
    before, after = geo_info(source), geo_info(result)
    assert after.bounds == before.bounds and after.crs == before.crs
    assert (after.num_band, after.dtype, after.nodata) == (bands, dtype, NODATA[dtype])
    assert after.descriptions == before.descriptions
    with rasterio.open(result) as raster:
        missing = raster.read() == NODATA[dtype]
    assert missing[:, 40:56, 60:80].all() and missing.sum() == bands * 16 * 20


@pytest.mark.slow
def test_pixels_below_a_mask_change_nothing(tmp_path: Path) -> None:
    from PIL import Image

    results = []
    for below in (0, 4000):
        folder = tmp_path / str(below)
        for split in ("train", "val"):
            for seed in range(2):
                name = f"{split[0]}{seed}"
                save_map(folder / split / f"{name}.tif", 4, "uint16", seed, below)
                mask = np.full((64, 72), 255, np.uint8)
                mask[20:28, 30:40] = 0
                (folder / f"{split}_masks").mkdir(exist_ok=True)
                Image.fromarray(mask).save(folder / f"{split}_masks" / f"{name}.png")
        path = study(folder, 4, "uint16")
        text = path.read_text()
        for split in ("train", "val"):
            root = f"dataroot_gt: '{folder / split}'"
            text = text.replace(root, f"{root}, dataroot_mask: '{folder / f'{split}_masks'}'")
        path.write_text(text)
        assert main(["compare", str(path)]) == 0
        results.append(scores(folder / "experiments" / "compare" / "bands"))
    assert results[0] == results[1]


@pytest.mark.slow
def test_12_bits_score_as_8_bits(tmp_path: Path) -> None:
    """The same content in 8 bits, and in 12 of 16 bits, has the same PSNR under one protocol."""
    import tifffile

    # Multiples of 17: they are exact with 8 and with 12 bits.
    values = 17 * (16 * texture(64, 64, 3, np.float32)).astype(np.uint8).clip(0, 15)
    found = []
    for dtype, factor in (("uint8", 1), ("uint16", 4095 / 255)):
        folder = tmp_path / dtype
        for name, image in (("val/a", values), ("lq/a", values[:, ::2, ::2])):
            path = folder / f"{name}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.round(image * factor).astype(dtype).transpose(1, 2, 0)
            tifffile.imwrite(path, pixels, photometric="rgb")
        levels = ", white_level: 4095" if dtype == "uint16" else ""
        (folder / "test.yml").write_text(
            f"""
name: depth
scale: 2
network_g: {{type: Bicubic}}
path: {{experiments_root: '{folder / "experiments"}'}}
datasets:
  test:
    a:
      {{type: PairedImages, dataroot_gt: '{folder / "val"}',
        dataroot_lq: '{folder / "lq"}'{levels}}}
val: {{protocol: rgb, metrics: {{psnr: {{type: PSNR}}}}}}
"""
        )
        assert main(["test", str(folder / "test.yml")]) == 0
        (results,) = (folder / "experiments").rglob("results.jsonl")
        (record,) = map(json.loads, results.read_text().splitlines())
        found.append(record["metrics"]["psnr"])
    assert 10 < found[0] < 60 and found[1] == pytest.approx(found[0], abs=1e-4)
