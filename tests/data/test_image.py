"""Folders of image pairs: alignment, LR made on the fly, and faulty files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srtoolbox.data.image import PairedImages
from srtoolbox.data.resize import imresize
from srtoolbox.errors import UserError

SCALE = 2


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


def hwc(image: np.ndarray) -> np.ndarray:
    return image.transpose(1, 2, 0)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Three pairs; the HR image is its LR image with every pixel doubled."""
    for i in range(3):
        small = picture(12, 16 + i, i)
        save(tmp_path / "lq" / f"p{i}.png", small)
        save(tmp_path / "gt" / f"p{i}.png", small.repeat(SCALE, 0).repeat(SCALE, 1))
    return tmp_path


def folder_pair(root: Path, **more: object) -> PairedImages:
    given = {"scale": SCALE, "gt_size": 8, **more}
    return PairedImages(str(root / "gt"), str(root / "lq"), **given)


def test_whole_pairs(pairs: Path) -> None:
    dataset = folder_pair(pairs)
    assert len(dataset) == 3
    sample = dataset[1]
    assert sample["key"] == "p1"
    assert sample["lq"].shape == (1, 3, 12, 17)
    assert sample["gt"].shape == (3, 24, 34)
    assert sample["lq"].dtype == sample["gt"].dtype == np.uint8
    assert np.array_equal(hwc(sample["lq"][0]), picture(12, 17, 1))


def test_crops_are_aligned_under_every_symmetry(pairs: Path) -> None:
    dataset = folder_pair(pairs)
    seen = set()
    for seed in range(40):
        sample = dataset.draw(seed % 3, np.random.default_rng(seed))
        lq, gt = sample["lq"], sample["gt"]
        assert lq.shape == (1, 3, 4, 4)
        assert gt.shape == (3, 8, 8)
        assert np.array_equal(lq[0].repeat(SCALE, 1).repeat(SCALE, 2), gt)
        seen.add(lq.tobytes())
    assert len(seen) == 40


def test_draws_depend_on_the_given_numbers_only(pairs: Path) -> None:
    one, two = (folder_pair(pairs).draw(0, np.random.default_rng(9)) for _ in range(2))
    assert np.array_equal(one["gt"], two["gt"])


def test_crops_without_augmentation_are_parts_of_the_image(pairs: Path) -> None:
    dataset = folder_pair(pairs, use_hflip=False, use_rot=False)
    whole = hwc(dataset[0]["lq"][0])
    windows = np.lib.stride_tricks.sliding_window_view(whole, (4, 4), axis=(0, 1))
    for seed in range(10):
        crop = dataset.draw(0, np.random.default_rng(seed))["lq"][0]
        assert (windows == crop).all(axis=(2, 3, 4)).any()


@pytest.mark.parametrize("edge", ["replicate", "symmetric"])
@pytest.mark.parametrize("between", [True, False])
@pytest.mark.parametrize("scale", [2, 3])
def test_lr_on_the_fly(tmp_path: Path, edge: str, between: bool, scale: int) -> None:
    image = picture(25, 32)
    save(tmp_path / "a.png", image)
    dataset = PairedImages(
        str(tmp_path), scale=scale, gt_size=6, edge=edge, round_between_passes=between
    )
    sample = dataset[0]
    cut = image[: 25 - 25 % scale, : 32 - 32 % scale]
    expected = imresize(cut, 1 / scale, edge=edge, round_between_passes=between)
    assert np.array_equal(hwc(sample["gt"]), cut)
    assert np.array_equal(hwc(sample["lq"][0]), expected)
    assert sample["lq"].dtype == np.uint8


def test_surplus_of_the_ground_truth_is_cut(pairs: Path) -> None:
    save(pairs / "gt" / "p0.png", picture(25, 33, 5))
    sample = folder_pair(pairs)[0]
    assert np.array_equal(hwc(sample["gt"]), picture(25, 33, 5)[:24, :32])


def test_names_of_partners(tmp_path: Path) -> None:
    save(tmp_path / "gt" / "0801.png", picture(8, 8))
    save(tmp_path / "lq" / "0801x2.png", picture(4, 4))
    assert folder_pair(tmp_path, filename_tmpl="{}x2")[0]["key"] == "0801"
    with pytest.raises(UserError, match=r"0801\.png has no partner .*lq.0801\.\*"):
        folder_pair(tmp_path)
    with pytest.raises(UserError, match="filename_tmpl 'x2' must hold"):
        folder_pair(tmp_path, filename_tmpl="x2")


def test_wrong_scale(pairs: Path) -> None:
    with pytest.raises(UserError, match=r"p0\.png is 32×24, p0\.png 16×12: not scale 4"):
        folder_pair(pairs, scale=4)


def test_first_ten_offenders_are_named(tmp_path: Path) -> None:
    for i in range(13):
        save(tmp_path / "gt" / f"{i:02d}.png", picture(8, 8))
    save(tmp_path / "lq" / "00.png", picture(4, 4))
    with pytest.raises(
        UserError, match=r"12 faulty pairs[\s\S]*10\.png[\s\S]*and 2 more"
    ) as caught:
        folder_pair(tmp_path)
    assert "11.png" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 12


@pytest.mark.parametrize("side", ["gt", "lq"])
@pytest.mark.parametrize("fault", ["empty", "text", "alpha", "deep"])
def test_faulty_files_are_found_before_training(pairs: Path, side: str, fault: str) -> None:
    path = pairs / side / "p1.png"
    image = Image.open(path).copy()
    if fault == "alpha":
        image.convert("RGBA").save(path)
    elif fault == "deep":
        Image.fromarray(np.asarray(image)[..., 0].astype(np.uint16)).save(path)
    else:
        path.write_bytes(b"" if fault == "empty" else b"no image")
    with pytest.raises(UserError, match=rf"1 faulty pairs[\s\S]*{side}.p1\.png: "):
        folder_pair(pairs)


@pytest.mark.parametrize("made", [False, True])
def test_truncated_file_is_named_when_it_is_read(pairs: Path, made: bool) -> None:
    path = pairs / "gt" / "p2.png"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - 400])
    roots = [str(pairs / "gt")] if made else [str(pairs / "gt"), str(pairs / "lq")]
    dataset = PairedImages(*roots, scale=SCALE, gt_size=8)
    with pytest.raises(UserError, match=r"gt.p2\.png: broken"):
        dataset[2]


def test_faulty_file_without_a_partner_folder(tmp_path: Path) -> None:
    save(tmp_path / "good.png", picture(8, 8))
    save(tmp_path / "tiny.png", picture(8, 1))
    (tmp_path / "bad.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"2 faulty[\s\S]*bad\.png[\s\S]*tiny\.png: smaller"):
        PairedImages(str(tmp_path), scale=SCALE, gt_size=8)


def test_folders(pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "hollow").mkdir()
    with pytest.raises(UserError, match="absent: no such folder"):
        PairedImages(str(pairs / "absent"))
    with pytest.raises(UserError, match="hollow: no images here"):
        PairedImages(str(pairs / "gt"), str(tmp_path / "hollow"))


def test_crop_sizes(pairs: Path) -> None:
    with pytest.raises(UserError, match="gt_size 9 is not a multiple of scale 2"):
        folder_pair(pairs, gt_size=9)
    with pytest.raises(UserError, match="p0: 16×12 is smaller than the crop 13"):
        folder_pair(pairs, gt_size=26).draw(0, np.random.default_rng(0))
    assert folder_pair(pairs, gt_size=24).draw(0, np.random.default_rng(0))["gt"].shape[1] == 24
