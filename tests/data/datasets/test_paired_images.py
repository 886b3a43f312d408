"""Image pairs: alignment, LR made on the fly, depths and channels, cache, and faulty files."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from support.images import assert_same, chw, picture, save

from srtoolbox.data.datasets.paired_images import PairedImages
from srtoolbox.data.resize.array import imresize
from srtoolbox.errors import UserError

SCALE = 2


def doubled(image: np.ndarray) -> np.ndarray:
    return image.repeat(SCALE, -2).repeat(SCALE, -1)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Three pairs; the HR image is its LR image with every pixel doubled."""
    for i in range(3):
        small = picture(12, 16 + i, i)
        save(tmp_path / "lq" / f"p{i}.png", small)
        save(tmp_path / "gt" / f"p{i}.png", small.repeat(SCALE, 0).repeat(SCALE, 1))
    return tmp_path


def folder_pair(root: Path, **more: Any) -> PairedImages:
    roots = {"dataroot_gt": str(root / "gt"), "dataroot_lq": str(root / "lq")}
    return PairedImages(**{**roots, "scale": SCALE, "gt_size": 8, **more})


def made(root: Path, **more: Any) -> PairedImages:
    return PairedImages(**{"dataroot_gt": str(root), "scale": SCALE, "gt_size": 8, **more})


def draws(dataset: PairedImages, count: int = 12) -> list[dict]:
    return [dataset.draw(seed % len(dataset), np.random.default_rng(seed)) for seed in range(count)]


def test_whole_pairs(pairs: Path) -> None:
    dataset = folder_pair(pairs)
    assert len(dataset) == 3
    sample = dataset[1]
    assert sample["key"] == "p1"
    assert sample["lq"].shape == (1, 3, 12, 17)
    assert sample["gt"].shape == (3, 24, 34)
    assert sample["lq"].dtype == sample["gt"].dtype == np.uint8
    assert np.array_equal(sample["lq"][0], chw(picture(12, 17, 1)))
    assert "orientation" not in sample
    assert (dataset.num_frame, dataset.reference, dataset.channels) == (1, 0, 3)


def test_crops_are_aligned_and_differ(pairs: Path) -> None:
    samples = draws(folder_pair(pairs), 40)
    for sample in samples:
        assert sample["lq"].shape == (1, 3, 4, 4)
        assert sample["gt"].shape == (3, 8, 8)
        assert sample["lq"].flags.c_contiguous
        assert sample["gt"].flags.c_contiguous
        assert np.array_equal(doubled(sample["lq"][0]), sample["gt"])
    assert len({sample["lq"].tobytes() for sample in samples}) > 30


def test_orientations_are_drawn_but_not_applied(pairs: Path) -> None:
    turned, plain = (
        draws(folder_pair(pairs), 60),
        draws(folder_pair(pairs, use_hflip=False, use_rot=False), 60),
    )
    assert {sample["orientation"] for sample in turned} == set(range(8))
    assert {sample["orientation"] for sample in plain} == {0}
    for turned_crop, plain_crop in zip(turned, plain, strict=True):
        assert np.array_equal(turned_crop["gt"], plain_crop["gt"])


def test_draws_depend_on_the_given_numbers_only(pairs: Path) -> None:
    dataset = folder_pair(pairs)
    expected = draws(dataset)
    dataset[0], dataset.draw(1, np.random.default_rng(99))
    assert_same(draws(dataset), expected)
    assert_same(draws(folder_pair(pairs)), expected)


@pytest.mark.parametrize("edge", ["replicate", "symmetric"])
@pytest.mark.parametrize("between", [True, False])
@pytest.mark.parametrize("scale", [2, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_lr_on_the_fly(tmp_path: Path, edge: str, between: bool, scale: int, dtype: type) -> None:
    image = picture(25, 32, dtype=dtype)
    save(tmp_path / "a.png", image)
    dataset = made(tmp_path, scale=scale, gt_size=6, edge=edge, round_between_passes=between)
    sample = dataset[0]
    cut = image[: 25 - 25 % scale, : 32 - 32 % scale]
    small = imresize(cut, 1 / scale, edge=edge, round_between_passes=between)
    assert sample["lq"].dtype == sample["gt"].dtype == dtype
    assert np.array_equal(sample["gt"], chw(cut))
    assert np.array_equal(sample["lq"][0], chw(small))


@pytest.mark.parametrize("kind", ["rgb", "grey", "deep", "float"])
def test_a_crop_of_lr_made_here_is_that_of_the_whole(tmp_path: Path, kind: str) -> None:
    image = picture(41, 38, 3, np.uint16 if kind == "deep" else np.uint8)
    if kind == "grey":
        image = image[..., 0]
    if kind == "float":
        save(tmp_path / "a.npy", image.astype(np.float32) / 255)
    else:
        save(tmp_path / "a.png", image)
    dataset = made(tmp_path, scale=3, gt_size=12)
    whole = dataset[0]
    for sample in draws(dataset, 30):
        found = 0
        for y in range(whole["lq"].shape[2] - 3):
            for x in range(whole["lq"].shape[3] - 3):
                crop = whole["lq"][:, :, y : y + 4, x : x + 4]
                if np.array_equal(crop, sample["lq"]):
                    gt = whole["gt"][:, 3 * y : 3 * y + 12, 3 * x : 3 * x + 12]
                    found += np.array_equal(np.broadcast_to(gt, (3, 12, 12)), sample["gt"])
        assert found == 1


def test_floats_stay_in_range(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 2, (24, 24, 3)).astype(np.float32)
    save(tmp_path / "a.npy", image)
    lq = made(tmp_path)[0]["lq"]
    assert lq.dtype == np.float32
    assert (lq.min(), lq.max()) == (0, 1)


def test_grey_images(tmp_path: Path) -> None:
    save(tmp_path / "gt" / "a.png", picture(16, 16)[..., 0])
    save(tmp_path / "lq" / "a.png", picture(8, 8)[..., 0])
    dataset = folder_pair(tmp_path)
    whole, crop = dataset[0], dataset.draw(0, np.random.default_rng(0))
    assert whole["lq"].shape == (1, 3, 8, 8)
    assert whole["gt"].shape == (1, 16, 16)
    assert crop["lq"].shape == (1, 3, 4, 4)
    assert crop["gt"].shape == (3, 8, 8)
    for image in (whole["lq"][0], crop["lq"][0], crop["gt"]):
        assert (image == image[:1]).all()


@pytest.mark.parametrize("on_disk", [True, False])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_cache_changes_no_sample(tmp_path: Path, on_disk: bool, dtype: type) -> None:
    for i in range(3):
        save(tmp_path / "gt" / f"{i}.png", picture(20, 24 + i, i, dtype))
        save(tmp_path / "lq" / f"{i}.png", picture(10, 12 + i // 2, i, dtype))
    more = {} if on_disk else {"dataroot_lq": None}
    plain = folder_pair(tmp_path, **more)
    cached = folder_pair(tmp_path, cache=str(tmp_path / "cache"), **more)
    assert any((tmp_path / "cache").rglob("*"))
    for dataset in (cached, pickle.loads(pickle.dumps(cached))):
        assert_same(draws(dataset), draws(plain))
        assert_same([dataset[i] for i in range(3)], [plain[i] for i in range(3)])
        assert type(dataset[0]["gt"]) is np.ndarray


def test_surplus_of_the_ground_truth_is_cut(pairs: Path) -> None:
    save(pairs / "gt" / "p0.png", picture(25, 33, 5))
    sample = folder_pair(pairs)[0]
    assert np.array_equal(sample["gt"], chw(picture(25, 33, 5)[:24, :32]))


def test_names_of_partners(tmp_path: Path) -> None:
    save(tmp_path / "gt" / "0801.png", picture(8, 8))
    save(tmp_path / "lq" / "0801x2.png", picture(4, 4))
    assert folder_pair(tmp_path, filename_tmpl="{}x2")[0]["key"] == "0801"
    with pytest.raises(UserError, match="0801"):
        folder_pair(tmp_path)
    with pytest.raises(UserError, match="filename_tmpl"):
        folder_pair(tmp_path, filename_tmpl="x2")


def test_wrong_scale(pairs: Path) -> None:
    with pytest.raises(UserError, match=r"p0\.png[\s\S]*p1\.png[\s\S]*p2\.png"):
        folder_pair(pairs, scale=4)


def test_first_ten_offenders_are_named(tmp_path: Path) -> None:
    for i in range(13):
        save(tmp_path / "gt" / f"{i:02d}.png", picture(8, 8))
    save(tmp_path / "lq" / "00.png", picture(4, 4))
    with pytest.raises(UserError, match=r"PairedImages[\s\S]*12 [\s\S]*10\.png") as caught:
        folder_pair(tmp_path)
    assert "11.png" not in str(caught.value)


@pytest.mark.parametrize("side", ["gt", "lq"])
@pytest.mark.parametrize("fault", ["empty", "text", "alpha"])
def test_faulty_files_are_found_before_training(pairs: Path, side: str, fault: str) -> None:
    path = pairs / side / "p1.png"
    if fault == "alpha":
        Image.open(path).convert("RGBA").save(path)
    else:
        path.write_bytes(b"" if fault == "empty" else b"no image")
    with pytest.raises(UserError, match=rf"{side}.p1\.png"):
        folder_pair(pairs)


@pytest.mark.parametrize("on_disk", [True, False])
def test_truncated_file_is_named(pairs: Path, on_disk: bool) -> None:
    path = pairs / "gt" / "p2.png"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - 400])
    with pytest.raises(UserError, match=r"gt.p2\.png"):
        folder_pair(pairs, **({} if on_disk else {"dataroot_lq": None}))[2]


def test_image_smaller_than_the_scale(tmp_path: Path) -> None:
    save(tmp_path / "good.png", picture(8, 8))
    save(tmp_path / "tiny.png", picture(8, 1))
    with pytest.raises(UserError, match=r"tiny\.png"):
        made(tmp_path)


def test_folders(pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "hollow").mkdir()
    with pytest.raises(UserError, match="absent"):
        made(pairs / "absent")
    with pytest.raises(UserError, match="hollow"):
        made(tmp_path / "hollow")


def test_crop_sizes(pairs: Path) -> None:
    with pytest.raises(UserError, match="gt_size 9 is not a multiple of scale 2"):
        folder_pair(pairs, gt_size=9)
    large = folder_pair(pairs, gt_size=26)
    with pytest.raises(UserError, match="p0 is 16×12 in LR, smaller than the crop of 13"):
        large.draw(0, np.random.default_rng(0))
    with pytest.raises(UserError, match=r"p0\.png[\s\S]*p2\.png"):
        large.check_training()
    fitting = folder_pair(pairs, gt_size=24)
    fitting.check_training()
    assert fitting.draw(0, np.random.default_rng(0))["gt"].shape == (3, 24, 24)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "give either dataroot .* or dataroot_gt"),
        ({"dataroot": "a", "dataroot_gt": "b"}, "give either dataroot .* or dataroot_gt"),
        ({"dataroot_gt": "a", "split": "all"}, "split works with dataroot only"),
        ({"dataroot": "a", "filename_tmpl": "{}x4"}, "filename_tmpl works with dataroot_gt only"),
        ({"dataroot": "a", "layout": "clips"}, "layout 'clips' describes clips.*type: Clips"),
        ({"dataroot": "a", "layout": "foldr"}, "'folder'"),
    ],
)
def test_impossible_options(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        PairedImages(**options)


def test_a_plain_folder_is_a_layout(pairs: Path) -> None:
    one = made(pairs / "gt")
    other = PairedImages(dataroot=str(pairs / "gt"), scale=SCALE, gt_size=8)
    assert_same(draws(other), draws(one))
    assert other.paths() == sorted((pairs / "gt").iterdir())


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("name", ["Set5", "Set14"])
def test_benchmark_lr_is_exact(reference: Path, name: str, scale: int) -> None:
    root = reference / "data" / name
    official = PairedImages(
        dataroot_gt=str(root / "HR"),
        dataroot_lq=str(root / "LR_bicubic" / f"X{scale}"),
        scale=scale,
        gt_size=24,
    )
    ours = made(root / "HR", scale=scale, gt_size=24)
    for i in range(len(ours)):
        assert_same([ours[i]], [official[i]])
        assert_same(
            [ours.draw(i, np.random.default_rng(i))], [official.draw(i, np.random.default_rng(i))]
        )
    greys = sum(len(ours[i]["gt"]) == 1 for i in range(len(ours)))
    assert greys == (name == "Set14")


def save_deep(path: Path, pixels: np.ndarray, factor: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels.astype(np.uint16)[..., ::-1] * factor)


def test_mixed_bit_depths_are_named_before_training(pairs: Path) -> None:
    save_deep(pairs / "gt" / "p1.png", picture(24, 34, 1), 257)
    dataset = folder_pair(pairs)
    assert dataset[1]["gt"].dtype == np.uint16  # no fault for evaluation
    with pytest.raises(UserError, match=r"p1\.png: uint16 pixels, but 2 of 3 HR files have uint8"):
        dataset.check_training()


def test_white_and_black_level(pairs: Path) -> None:
    wanted = folder_pair(pairs)[0]
    for side in ("gt", "lq"):
        for path in sorted((pairs / side).iterdir()):
            stored = np.asarray(Image.open(path)).astype(np.uint16)
            save_deep(path, stored * 16 + 100, 1)
    dataset = folder_pair(pairs, white_level=100 + 255 * 16, black_level=100)
    sample = dataset[0]
    for name in ("lq", "gt"):
        assert sample[name].dtype == np.float32
        assert np.allclose(sample[name], wanted[name] / np.float32(255), atol=1e-6)
    assert dataset.draw(0, np.random.default_rng(0))["gt"].max() <= 1


def test_levels_do_not_change_8_bits(pairs: Path) -> None:
    assert_same([folder_pair(pairs, white_level=4095)[1]], [folder_pair(pairs)[1]])


@pytest.mark.parametrize("levels", [{"white_level": 0}, {"white_level": 5, "black_level": 5}])
def test_levels_have_ranges(pairs: Path, levels: dict) -> None:
    with pytest.raises(UserError, match="0 <= black_level < white_level <= 65535"):
        folder_pair(pairs, **levels)


@pytest.mark.parametrize("cached", [False, True])
def test_dark_16_bit_sets_are_named(
    pairs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, cached: bool
) -> None:
    caplog.set_level("WARNING", logger="srtoolbox")
    cache = {"cache": str(tmp_path / "cache")} if cached else {}
    folder_pair(pairs, **cache)
    for i in range(3):
        save_deep(pairs / "gt" / f"p{i}.png", picture(24, 32 + 2 * i, i), 16)
    assert not caplog.records
    folder_pair(pairs, **cache)
    (record,) = caplog.records
    assert "at most" in record.message
    assert "set white_level: 4095" in record.message
    caplog.clear()
    folder_pair(pairs, white_level=4095, **cache)
    assert not caplog.records


def test_convert(pairs: Path, tmp_path: Path) -> None:
    wanted = folder_pair(pairs)[1]
    for side in ("gt", "lq"):
        path = pairs / side / "p1.png"
        image = Image.open(path).convert("RGBA")
        image.putalpha(3)
        image.save(path)
    with pytest.raises(UserError, match="convert: rgb"):
        folder_pair(pairs)
    for cache in (None, str(tmp_path / "cache")):
        assert_same([folder_pair(pairs, convert="rgb", cache=cache)[1]], [wanted])


def test_turned_pairs(pairs: Path, tmp_path: Path) -> None:
    wanted = folder_pair(pairs)[1]
    path = pairs / "gt" / "p1.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(path).rotate(90, expand=True).save(path, exif=exif)
    for cache in (None, str(tmp_path / "cache")):
        assert_same([folder_pair(pairs, cache=cache)[1]], [wanted])


def test_home_and_variables_in_paths(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = folder_pair(pairs)[0]
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MY_DATA", str(pairs))
    for root in ("~", "$MY_DATA", "${MY_DATA}"):
        roots = {"dataroot_gt": f"{root}/gt", "dataroot_lq": f"{root}/lq"}
        dataset = PairedImages(**roots, scale=SCALE, gt_size=8, cache=f"{root}/cache")
        assert_same([dataset[0]], [wanted])
    assert (tmp_path / "cache").is_dir()
    with pytest.raises(
        UserError, match="~nosuchuser/gt: the home folder of ~nosuchuser is not known"
    ):
        made(Path("~nosuchuser/gt"))


def test_recursive(pairs: Path) -> None:
    for side in ("gt", "lq"):
        (pairs / side / "sub").mkdir()
        for path in (pairs / side).glob("p2.png"):
            path.rename(pairs / side / "sub" / path.name)
    assert [folder_pair(pairs)[i]["key"] for i in range(2)] == ["p0", "p1"]
    dataset = folder_pair(pairs, recursive=True)
    assert [dataset[i]["key"] for i in range(3)] == ["p0", "p1", "sub/p2"]
