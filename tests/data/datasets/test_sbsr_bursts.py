"""SBSR bursts from folders of images: fixed ones for evaluation, crops for training."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from support.images import picture, save, save_pictures

from srtoolbox.data.datasets.sbsr_bursts import SBSRBursts, burst_image
from srtoolbox.data.degradations.sbsr import SBSRPipeline
from srtoolbox.data.stream import SampleStream
from srtoolbox.errors import UserError
from srtoolbox.inference.prediction import predict

SIZES = {"a": (70, 93), "b": (64, 64), "grey": (66, 81)}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pictures(tmp_path_factory.mktemp("images"), SIZES)


def bursts(root: Path, **more: Any) -> SBSRBursts:
    return SBSRBursts(**{"dataroot": str(root), "num_frame": 3, "gt_size": 16, **more})


def draw(dataset: SBSRBursts, index: int = 0, seed: int = 0) -> dict[str, Any]:
    return dataset.draw(index, np.random.default_rng(seed))


@pytest.mark.parametrize("scale", [4, 8])
def test_form(root: Path, scale: int) -> None:
    dataset = bursts(root, scale=scale)
    assert (len(dataset), dataset.reference, dataset.num_frame) == (3, 0, 3)
    for index, (key, (height, width)) in enumerate(SIZES.items()):
        whole, crop = dataset[index], draw(dataset, index)
        assert whole["key"] == crop["key"] == key
        small = height // scale, width // scale
        assert whole["lq"].shape == (3, 3, *small)
        assert whole["gt"].shape == (3, scale * small[0], scale * small[1])
        assert crop["lq"].shape == (3, 3, 16 // scale, 16 // scale)
        assert crop["gt"].shape == (3, 16, 16)
        for sample in (whole, crop):
            for name in ("lq", "gt"):
                assert sample[name].dtype == np.uint8
                assert sample[name].flags.c_contiguous


def test_the_truth_of_evaluation_is_the_image(root: Path) -> None:
    image = picture(*SIZES["a"], 0).transpose(2, 0, 1)
    assert np.array_equal(bursts(root)[0]["gt"], image[:, :68, :92])
    cut = bursts(root, image_size=48)[0]["gt"]
    assert np.array_equal(cut, image[:, 11:59, 22:70])


def test_resized_images_are_those_of_the_authors(root: Path) -> None:
    dataset = bursts(root, image_size=64, resize=True)
    image = picture(*SIZES["a"], 0)
    wanted = cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA)
    assert np.array_equal(dataset[0]["gt"], wanted.transpose(2, 0, 1))
    assert np.array_equal(dataset[1]["gt"], picture(64, 64, 1).transpose(2, 0, 1))
    small = bursts(root, image_size=96, gt_size=96, resize=True)
    small.check_training()  # images are enlarged
    assert draw(small)["gt"].shape == (3, 96, 96)


def test_images_smaller_than_image_size_keep_their_size(root: Path) -> None:
    assert bursts(root, image_size=384)[0]["gt"].shape == (3, 68, 92)
    image = picture(8, 23).transpose(2, 0, 1)
    assert burst_image(image, 4, 16).shape == (8, 16, 3)


def test_only_the_first_images(root: Path) -> None:
    dataset = bursts(root, num_image=2)
    assert [dataset[index]["key"] for index in range(len(dataset))] == ["a", "b"]


def test_fixed_bursts_depend_on_the_name_alone(root: Path, tmp_path: Path) -> None:
    save(tmp_path / "b.png", picture(*SIZES["b"], 1))  # another folder, another place in the list
    here, there = bursts(root)[1], bursts(tmp_path)[0]
    assert np.array_equal(here["lq"], there["lq"])
    save(tmp_path / "c.png", picture(*SIZES["b"], 1))  # the same pixels, another name
    assert not np.array_equal(here["lq"], bursts(tmp_path)[1]["lq"])
    assert np.array_equal(bursts(root, num_frame=6)[1]["lq"][:3], here["lq"])


def test_draws_depend_on_the_given_numbers_only(root: Path) -> None:
    dataset = bursts(root)
    copy = pickle.loads(pickle.dumps(dataset))
    for seed in range(3):
        one, two = draw(dataset, 0, seed), draw(copy, 0, seed)
        assert np.array_equal(one["lq"], two["lq"])
        assert np.array_equal(one["gt"], two["gt"])
    assert not np.array_equal(draw(dataset, 0, 3)["gt"], one["gt"])


def test_samples_depend_on_seed_step_and_index_only(root: Path) -> None:
    def batches(seed: int, start: int) -> list[dict[str, Any]]:
        return list(SampleStream(bursts(root), seed, batch_size=2).batches(start, 4))

    expected = batches(7, 0)
    for batch, other in zip(batches(7, 2), expected[2:], strict=True):
        assert torch.equal(batch["lq"], other["lq"])
        assert torch.equal(batch["gt"], other["gt"])
    assert not torch.equal(batches(8, 0)[0]["gt"], expected[0]["gt"])


def test_a_training_crop_shows_its_truth(root: Path) -> None:
    """Frame 0 is not moved: it is the truth, blurred and reduced."""
    dataset = bursts(root, gt_size=64, noise_sigma=0.0, exact=False, num_frame=1)
    sample = draw(dataset, 1)
    pipeline = SBSRPipeline(4, 1, noise_sigma=0, exact=False)
    draws = pipeline.draw(np.random.default_rng(0))
    frame = pipeline.make(np.ascontiguousarray(sample["gt"].transpose(1, 2, 0)), draws)
    assert np.array_equal(sample["lq"][0], frame[0].transpose(2, 0, 1))


def test_images_are_turned_before_the_burst_is_made(root: Path) -> None:
    image = picture(*SIZES["b"], 1).transpose(2, 0, 1)
    turned = bursts(root, gt_size=64)
    views = [np.rot90(image[..., :: 1 - 2 * (code % 2)], code // 2, (1, 2)) for code in range(8)]
    seen = set()
    for seed in range(40):
        gt = draw(turned, 1, seed)["gt"]
        seen |= {code for code, view in enumerate(views) if np.array_equal(gt, view)}
    assert seen == set(range(8))
    plain = bursts(root, gt_size=64, use_hflip=False, use_rot=False)
    assert np.array_equal(draw(plain, 1, 5)["gt"], image)


def test_single_image_networks_get_frame_0(root: Path) -> None:
    from srtoolbox.archs import Bicubic

    dataset = bursts(root)
    lq = torch.from_numpy(dataset[1]["lq"])[None] / 255
    net = Bicubic(scale=4)
    one = predict(net, lq, dataset.reference)
    other = predict(net, lq[:, :1], 0)
    assert torch.equal(one, other)


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
        ({"resize": True}, "resize needs image_size"),
        ({"image_size": 3}, "image_size 3 is smaller than scale 4"),
        ({"num_image": 0}, "num_image must be at least 1"),
        ({"num_frame": 0}, "num_frame must be at least 1"),
    ],
)
def test_bad_options(root: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        bursts(root, **options)


def test_unsuitable_images_are_named(root: Path, tmp_path: Path) -> None:
    dataset = bursts(root, gt_size=68)
    with pytest.raises(UserError, match=r"b\.png"):
        dataset.check_training()
    with pytest.raises(UserError, match=r"b\.png gives an image of 64×64, smaller than gt_size 68"):
        draw(dataset, 1)
    with pytest.raises(UserError, match="image_size 32 is smaller than gt_size 64"):
        bursts(root, image_size=32, gt_size=64).check_training()
    save(tmp_path / "deep.png", picture(32, 32, 0, np.uint16))
    with pytest.raises(UserError, match=r"deep\.png: uint16 pixels"):
        draw(bursts(tmp_path))
