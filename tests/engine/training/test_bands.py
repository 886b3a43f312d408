"""A training on masked images of four bands and 12 bits, and the use of its weights on a map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import srtoolbox
from srtoolbox.engine.training.train import train
from srtoolbox.engine.weights.load import read_weights
from srtoolbox.engine.weights.pixels import PixelFacts
from srtoolbox.errors import UserError

CPU = torch.device("cpu")
rasterio = pytest.importorskip("rasterio", reason='needs pip install "srtoolbox[geo]"')


def write(path: Path, values: np.ndarray, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = values.shape
    form = {"driver": "GTiff", "count": count, "height": height, "width": width}
    form |= {"dtype": values.dtype.name, "photometric": "MINISBLACK", "crs": "EPSG:32650"}
    form["transform"] = rasterio.transform.Affine(10, 0, 399960.0, 0, -10, 4600020.3)
    with rasterio.open(path, "w", **{**form, **options}) as target:
        target.write(values)
    return path


def folders(root: Path, below: int, seed: int = 0) -> str:
    """Writes images of five bands and masks; masked pixels have the value ``below``."""
    rng = np.random.default_rng(seed)
    for index in range(2):
        values = rng.integers(0, 4096, (5, 64, 64)).astype(np.uint16)
        mask = np.full((1, 64, 64), 255, np.uint8)
        mask[:, 8:40, 8:50] = 0
        values[:, mask[0] == 0] = below
        write(root / f"gt/{index}.tif", values)
        write(root / f"mask/{index}.tif", mask)
    lq = root / "lq"
    for index in range(2):
        write(lq / f"{index}.tif", rng.integers(0, 4096, (5, 16, 16)).astype(np.uint16))
    return (
        f"{{type: PairedImages, dataroot_gt: {root / 'gt'}, dataroot_lq: {lq}, gt_size: 32, "
        f"dataroot_mask: {root / 'mask'}, bands: [4, 3, 2, 1], white_level: 4095}}"
    )


@pytest.mark.slow
@pytest.mark.parametrize("model", ["SRModel", "GANModel"])
def test_what_lies_below_a_mask_changes_no_weight(options, tmp_path: Path, model: str) -> None:
    given = (
        *("datasets.val=!delete", "network_g.num_in_ch=4", f"model_type={model}"),
        "train.losses={l_pix: {type: L1Loss}, l_edge: {type: EdgeLoss}}",
        "train.accumulate=2",
    )
    hashes = set()
    for below in (0, 4000):
        data = folders(tmp_path / str(below), below)
        opt = options(*given, f"datasets.train={data}", f"name=masked{below}")
        hashes.add(train(opt, CPU, resume=False).weights)
    assert len(hashes) == 1
    weights = opt.folder / "weights" / "net_g_latest.pth"
    assert read_weights(weights).pixels == PixelFacts(4, (4, 3, 2, 1), 4095)

    rng = np.random.default_rng(1)
    source = write(tmp_path / "map.tif", rng.integers(0, 4096, (5, 20, 24)).astype(np.uint16))
    report = srtoolbox.upscale(weights, source, tmp_path / "out.tif")
    assert not report.failed
    assert "bands 4, 3, 2, 1, values 0 to 4095 as 0 to 1" in report.done[0].notes[0]
    with rasterio.open(source) as before, rasterio.open(tmp_path / "out.tif") as after:
        assert after.bounds == before.bounds
        assert (after.count, after.dtypes[0], after.width) == (4, "uint16", 96)


@pytest.mark.slow
def test_losses_of_rgb_are_refused_before_the_training(options, tmp_path: Path) -> None:
    file = tmp_path / "vgg.pth"
    file.touch()
    data = folders(tmp_path, 0)
    loss = f"train.losses={{l_vgg: {{type: PerceptualLoss, weights: {file}}}}}"
    given = ("datasets.val=!delete", "network_g.num_in_ch=4", loss)
    opt = options(*given, f"datasets.train={data}")
    with pytest.raises(UserError, match=r"train\.losses\.l_vgg: PerceptualLoss: needs RGB.* bands"):
        train(opt, CPU, resume=False)
    assert not opt.folder.exists() or not (opt.folder / "run.json").exists()
