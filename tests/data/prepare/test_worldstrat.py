"""WorldStrat: images of different grids become bursts on one grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from srtoolbox.data.files.find import scan
from srtoolbox.data.layouts import get_layout
from srtoolbox.data.prepare.worldstrat import convert_worldstrat
from srtoolbox.errors import UserError

rasterio = pytest.importorskip("rasterio", reason="needs the extra geo")

WEST, NORTH, SIDE = 500_000.0, 4_000_000.0, 240.0  # metres
TABLE = "stratified_train_val_test_split.csv"


def field(height: int, width: int, phase: float = 0) -> np.ndarray:
    """A smooth function of the place, sampled at the centres of pixels: (H, W) in [0, 1]."""
    y, x = ((np.arange(n) + 0.5) / n for n in (height, width))
    return 0.5 + 0.3 * np.sin(5 * x + phase) * np.cos(4 * y[:, None])


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = image.shape
    transform = rasterio.Affine(SIDE / width, 0, WEST, 0, -SIDE / height, NORTH)
    where = {"crs": "EPSG:32631", "transform": transform, "dtype": image.dtype}
    with rasterio.open(path, "w", "GTiff", width, height, count, **where) as file:
        file.write(image)


def plant(root: Path, tile: str, sizes: tuple[tuple[int, int], ...], hr_folder: str = "") -> None:
    hr = np.stack([10000 * field(160, 160, band) for band in range(4)])
    write(root / "hr_dataset" / hr_folder / tile / f"{tile}_ps.tiff", hr.astype(np.uint16))
    folder = root / "lr_dataset" / tile / "L2A"
    for number, size in enumerate(sizes, 1):
        lr = np.stack([field(*size, band) for band in range(12)])
        write(folder / f"{tile}-{number}-L2A_data.tiff", lr.astype(np.float32))
        clouds = np.zeros((1, *size), np.float32)
        clouds[:, : number % 3] = 1
        write(folder / f"{tile}-{number}-CLM.tiff", clouds)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    plant(tmp_path, "Landcover-7", ((24, 23), (23, 24), (25, 24)))
    plant(tmp_path, "Amnesty POI-1-1-1", ((24, 24),), hr_folder="12bit")
    lines = ["tile,split", "Landcover-7,train", "Amnesty POI-1-1-1,test", "Absent-1,val"]
    (tmp_path / TABLE).write_text("\n".join(lines))
    return tmp_path


@pytest.mark.parametrize("scale", [2, 4])
def test_bursts_lie_on_one_grid(root: Path, scale: int) -> None:
    out = root / "out"
    assert convert_worldstrat(root, out, scale=scale) == 2
    assert convert_worldstrat(root, out, scale=scale) == 0
    for split, tile, count in (("train", "Landcover-7", 3), ("test", "Amnesty POI-1-1-1", 1)):
        items, faults = scan(get_layout("worldstrat"), out, split, scale)
        assert faults == []
        assert [(item.key, len(item.lq), len(item.lq_mask)) for item in items] == [
            (tile, count, count)
        ]
        hr = tifffile.imread(items[0].gt[0])
        height, width = 24, 23 if split == "train" else 24
        assert hr.shape == (scale * height, scale * width, 4) and hr.dtype == np.uint16
        inner = np.s_[2 * scale : -2 * scale, 2 * scale : -2 * scale]
        for band in range(4):
            truth = 10000 * field(*hr.shape[:2], band)
            assert np.abs(hr[..., band] - truth)[inner].max() < 40
        for path in items[0].lq:
            lr = tifffile.imread(path)
            assert lr.shape == (height, width, 12) and lr.dtype == np.uint16
            for band in range(12):
                error = np.abs(lr[..., band] - 10000 * field(height, width, band))
                assert error[2:-2, 2:-2].max() < 100


def test_status_maps_are_those_of_the_clouds(root: Path) -> None:
    convert_worldstrat(root, root / "out")
    shares = [
        (np.asarray(Image.open(root / f"out/train/QM/Landcover-7/{t:02d}.png")) == 0).mean()
        for t in (1, 2, 3)
    ]
    assert shares[2] == 0 < shares[0] < shares[1]


def test_both_scales_fit_in_one_folder(root: Path) -> None:
    convert_worldstrat(root, root / "out", scale=2)
    convert_worldstrat(root, root / "out", scale=4)
    for scale in (2, 4):
        assert len(scan(get_layout("worldstrat"), root / "out", "train", scale)[0]) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tile,split\n../x,train", "no name of a folder"),
        ("tile,split\nLandcover-7,trian", "expected columns tile and split"),
        ("tile,split\nAbsent-1,train", "no tile of"),
        (None, "cannot be read"),
    ],
)
def test_wrong_tables(root: Path, text: str | None, words: str) -> None:
    (root / TABLE).unlink() if text is None else (root / TABLE).write_text(text)
    with pytest.raises(UserError, match=words):
        convert_worldstrat(root, root / "out")


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_damaged_and_placeless_images_are_named(root: Path) -> None:
    path = root / "lr_dataset/Landcover-7/L2A/Landcover-7-2-L2A_data.tiff"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"7-2-L2A_data.tiff: cannot be read"):
        convert_worldstrat(root, root / "out")
    tifffile.imwrite(path, np.zeros((24, 24, 12), np.float32))
    with pytest.raises(UserError, match=r"7-2-L2A_data.tiff: no coordinate system"):
        convert_worldstrat(root, root / "out")
