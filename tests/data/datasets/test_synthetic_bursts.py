"""Bursts made from folders of images: fixed and random ones, in the workers and on the device."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.images import picture, save, save_pictures

from srtoolbox.data.datasets.synthetic_bursts import SyntheticBursts, fixed_rng, mirrored_window
from srtoolbox.data.stream import SampleStream, to_float
from srtoolbox.errors import UserError

SIZES = {"a": (40, 53), "b": (32, 32), "grey": (47, 36)}
PIPELINES = [
    {},
    {"pipeline": "raw", "scale": 8, "max_shift": 5.0},
    {"num_object": 2, "object_shift": 8.0},
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pictures(tmp_path_factory.mktemp("images"), SIZES)


def bursts(root: Path, **more: Any) -> SyntheticBursts:
    return SyntheticBursts(**{"dataroot": str(root), "num_frame": 3, "gt_size": 16, **more})


def draw(dataset: SyntheticBursts, index: int = 0, seed: int = 0) -> dict[str, Any]:
    return dataset.draw(index, np.random.default_rng(seed))


@pytest.mark.parametrize("options", PIPELINES)
def test_form(root: Path, options: dict[str, Any]) -> None:
    dataset = bursts(root, **options)
    scale, raw = dataset.scale, "pipeline" in options
    assert (len(dataset), dataset.reference, dataset.num_frame) == (3, 0, 3)
    assert dataset.channels == (4 if raw else 3)
    assert dataset.paths() == [root / "a.png", root / "b.png", root / "grey.png"]
    for index, (key, (height, width)) in enumerate(SIZES.items()):
        whole, crop = dataset[index], draw(dataset, index)
        small = height // scale, width // scale
        assert whole["key"] == crop["key"] == key
        assert whole["lq"].shape == (3, dataset.channels, *small)
        assert whole["gt"].shape == (3, scale * small[0], scale * small[1])
        assert crop["lq"].shape == (3, dataset.channels, 16 // scale, 16 // scale)
        assert crop["gt"].shape == (3, 16, 16)
        for sample in (whole, crop):
            for name in ("lq", "gt"):
                assert sample[name].dtype == (np.float32 if raw else np.uint8)
                assert sample[name].flags.c_contiguous


def test_the_truth_of_evaluation_is_the_image(root: Path) -> None:
    image = picture(*SIZES["a"], 0).transpose(2, 0, 1)
    assert np.array_equal(bursts(root)[0]["gt"], image[:, :40, :52])


def test_only_the_hr_images_of_a_layout_matter(tmp_path: Path) -> None:
    for number in ("0801", "0802"):
        save(tmp_path / "DIV2K_valid_HR" / f"{number}.png", picture(40, 48))
    (tmp_path / "DIV2K_valid_LR_bicubic" / "X4").mkdir(parents=True)
    (tmp_path / "DIV2K_valid_LR_bicubic" / "X4" / "0801x4.png").write_bytes(b"no image")
    dataset = bursts(tmp_path, layout="div2k", split="val", scale=8)
    assert [dataset[i]["key"] for i in range(2)] == ["0801", "0802"]


@pytest.mark.parametrize("options", PIPELINES)
def test_fixed_bursts_depend_on_the_name_alone(
    root: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    save(tmp_path / "b.png", picture(*SIZES["b"], 1))  # another folder, another place in the list
    for name in ("lq", "gt"):
        here, there = bursts(root, **options)[1], bursts(tmp_path, **options)[0]
        assert np.array_equal(here[name], there[name])
    save(tmp_path / "c.png", picture(*SIZES["b"], 1))  # the same pixels, another name
    assert not np.array_equal(here["lq"], bursts(tmp_path, **options)[1]["lq"])


def test_fixed_numbers_never_change() -> None:
    """A benchmark would change with them."""
    assert fixed_rng("0801").integers(10**6, size=3).tolist() == [451814, 405983, 41261]
    assert fixed_rng("0801", 1).integers(10**6) != 451814


@pytest.mark.parametrize("options", PIPELINES)
def test_draws_depend_on_the_given_numbers_only(root: Path, options: dict[str, Any]) -> None:
    dataset = bursts(root, **options)
    copy = pickle.loads(pickle.dumps(dataset))
    for seed in range(3):
        one, two = draw(dataset, 0, seed), draw(copy, 0, seed)
        assert np.array_equal(one["lq"], two["lq"])
        assert np.array_equal(one["gt"], two["gt"])
    assert not np.array_equal(draw(dataset, 0, 3)["gt"], one["gt"])


@pytest.mark.parametrize("options", PIPELINES)
def test_bursts_made_on_the_device_are_the_same(root: Path, options: dict[str, Any]) -> None:
    late, early = (bursts(root, on_device=on, **options) for on in (True, False))
    sample = draw(late)
    assert sample.keys() == {"key", "hr", "synthesis"}
    assert sample["hr"].dtype == np.uint8
    assert sample["hr"].flags.c_contiguous
    made, plain = (
        next(iter(SampleStream(dataset, 7, batch_size=3).batches(2, 3)))
        for dataset in (late, early)
    )
    assert made["key"] == plain["key"]
    assert made.keys() == plain.keys() == {"key", "lq", "gt"}
    for name in ("lq", "gt"):
        assert made[name].dtype == torch.float32
        assert torch.equal(made[name], plain[name])


@pytest.mark.cuda
@pytest.mark.parametrize("options", PIPELINES)
def test_a_gpu_makes_the_same_bursts_but_for_rounding(root: Path, options: dict[str, Any]) -> None:
    stream = SampleStream(bursts(root, on_device=True, **options), 7, batch_size=3)
    near, far = (next(iter(stream.batches(0, 1, device=device))) for device in ("cpu", "cuda"))
    difference = (near["lq"] - far["lq"].cpu()).abs()
    assert (difference > 1e-4).float().mean() < 0.01


def test_evaluation_is_not_moved_to_the_device(root: Path) -> None:
    dataset = bursts(root, on_device=True)
    sample = dataset[0]
    assert {"lq", "gt"} <= sample.keys()
    assert dataset.finish(sample) is sample


def test_orientation_comes_before_the_burst(root: Path) -> None:
    """So that RAW keeps its pattern and its place on the ground truth."""
    still = {"max_rotation": 0.0, "noise_sigma": (0, 0), "blur_sigma": (0, 0)}
    dataset = bursts(root, gt_size=32, num_frame=1, **still)
    image = picture(*SIZES["b"], 1).transpose(2, 0, 1)
    seen = set()
    for seed in range(40):
        sample = draw(dataset, 1, seed)
        gt = sample["gt"]
        codes = [
            code
            for code in range(8)
            if np.array_equal(gt, np.rot90(image[..., :: 1 - 2 * (code % 2)], code // 2, (1, 2)))
        ]
        seen |= set(codes)
        box = gt.reshape(3, 8, 4, 8, 4).mean((2, 4))
        assert np.array_equal(sample["lq"][0], np.floor(box + 0.5))
    assert seen == set(range(8))
    plain = bursts(root, gt_size=32, use_hflip=False, use_rot=False)
    assert np.array_equal(draw(plain, 1, 5)["gt"], image)


def test_margins_show_the_image_where_there_is_more_of_it_and_its_mirror_elsewhere() -> None:
    image = np.arange(3 * 20 * 30).reshape(3, 20, 30)
    padded = np.pad(image, ((0, 0), (9, 9), (9, 9)), mode="reflect")
    for y, x in ((0, 0), (4, 7), (12, 22)):
        window = mirrored_window(image, y, x, (8, 8), 9)
        assert np.array_equal(window, padded[:, y : y + 26, x : x + 26])
    far = mirrored_window(image[:1, :3, :1], 0, 0, (3, 1), 7)
    assert far.shape == (3, 17, 15)
    assert np.array_equal(far[0, :, 0], np.pad(image[0, :3, 0], 7, mode="reflect"))


@pytest.mark.parametrize("pipeline", ["rgb", "raw"])
def test_sixteen_bits(tmp_path: Path, pipeline: str) -> None:
    save(tmp_path / "deep.png", picture(32, 32, 0, np.uint16))
    dataset = bursts(tmp_path, pipeline=pipeline, scale=8)
    sample = draw(dataset)
    assert sample["gt"].dtype == (np.uint16 if pipeline == "rgb" else np.float32)
    assert sample["lq"].dtype == (np.uint8 if pipeline == "rgb" else np.float32)
    assert to_float(torch.from_numpy(sample["lq"])).mean() > 0.05


def test_the_cache_changes_no_sample(root: Path, tmp_path: Path) -> None:
    plain, cached = bursts(root), bursts(root, cache=str(tmp_path))
    for index in range(3):
        for one, two in ((plain[index], cached[index]), (draw(plain, index), draw(cached, index))):
            assert np.array_equal(one["lq"], two["lq"])
            assert np.array_equal(one["gt"], two["gt"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataroot": None}, "dataroot is missing"),
        ({"gt_size": 18}, "gt_size 18 is not a multiple of scale 4"),
        ({"layout": "clips"}, "describes clips"),
        ({"pipeline": "raw", "scale": 3, "gt_size": 18}, "scale of packed RAW must be even"),
        ({"pipeline": "raw", "scale": 8, "blur_sigma": (0, 2)}, "'raw' has no blur_sigma"),
        ({"pipeline": "raw", "scale": 8, "num_object": 1}, "'raw' has no num_object"),
        ({"pipeline": "raw", "scale": 8, "object_shift": 1.0}, "'raw' has no object_shift"),
        ({"truncate": False}, "'rgb' has no truncate"),
        ({"num_frame": 0}, "num_frame must be at least 1"),
        ({"blur_sigma": (2, 1)}, r"blur_sigma must be \(low, high\)"),
    ],
)
def test_bad_options(root: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        bursts(root, **options)


def test_small_and_broken_images_are_named(root: Path, tmp_path: Path) -> None:
    dataset = bursts(root, gt_size=36)
    with pytest.raises(UserError, match=r"b\.png"):
        dataset.check_training()
    with pytest.raises(UserError, match=r"b\.png is 32×32, smaller than gt_size 36"):
        draw(dataset, 1)
    (tmp_path / "x.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"x\.png"):
        bursts(tmp_path)
