"""Datasets of any number of bands, any depth, and with missing pixels."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from support.images import save

from srtoolbox.config.schema import build
from srtoolbox.data.base import dataset_info
from srtoolbox.data.cache import pixels as pixel_cache
from srtoolbox.data.datasets.paired_images import PairedImages
from srtoolbox.data.datasets.reading import Reading
from srtoolbox.data.files import windows
from srtoolbox.data.files.image_info import ReadOptions
from srtoolbox.data.resize.array import imresize
from srtoolbox.data.stream import SampleStream
from srtoolbox.errors import UserError

SCALE, NODATA = 2, -9999
TOPS = {"uint8": 255, "uint16": 4095, "int16": 10000, "float32": 1}


def tif(path: Path, image: np.ndarray, nodata: float | None = None) -> None:
    """Writes (C, H, W), with the tag by which GDAL states the value of missing pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tags = () if nodata is None else ((42113, "s", 0, str(nodata), True),)
    planes = np.ascontiguousarray(image.transpose(1, 2, 0))
    form: dict[str, Any] = {"photometric": "minisblack", "extratags": tags}
    if planes.shape[-1] == 1:
        tifffile.imwrite(path, planes[..., 0], **form)
    else:
        tifffile.imwrite(path, planes, planarconfig="contig", **form)


def bands(channels: int, size: tuple[int, int], seed: int, dtype: str = "uint8") -> np.ndarray:
    rng = np.random.default_rng(seed)
    if dtype == "float32":
        return rng.random((channels, *size), dtype=np.float32)
    return rng.integers(0, TOPS[dtype] + 1, (channels, *size)).astype(dtype)


def write(root: Path, kind: str, channels: int, dtype: str = "uint8", **more: Any) -> None:
    """Writes three images, clips of four frames, or bursts of two, with LR files."""
    lq, gt = (8, 9), (16, 18)
    for i in range(3):
        if kind == "PairedImages":
            tif(root / "gt" / f"{i}.tif", bands(channels, gt, i, dtype), **more)
            tif(root / "lq" / f"{i}.tif", bands(channels, lq, 10 + i, dtype), **more)
        elif kind == "Bursts":
            for t in range(2):
                image = bands(channels, lq, 10 * i + t, dtype)
                tif(root / "LR" / f"{i}" / f"{t}.tif", image, **more)
            tif(root / "HR" / f"{i}.tif", bands(channels, gt, 99 + i, dtype), **more)
        else:
            for t in range(4):
                tif(root / "GT" / f"{i}" / f"{t}.tif", bands(channels, gt, 10 * i + t, dtype))
                tif(root / "LR" / f"{i}" / f"{t}.tif", bands(channels, lq, 50 + t, dtype))


def spec(root: Path, kind: str, **more: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"type": kind, "scale": SCALE, "gt_size": 8}
    if kind == "PairedImages":
        given |= {"dataroot_gt": str(root / "gt"), "dataroot_lq": str(root / "lq")}
    elif kind == "SyntheticBursts":
        given |= {"dataroot": str(root / "gt"), "num_frame": 2, "max_shift": 2.0}
    else:
        given |= {"dataroot": str(root), "num_frame": 2}
    return given | more


KINDS = ("PairedImages", "Clips", "SpaceTimeClips", "Bursts", "SyntheticBursts")


@pytest.mark.parametrize("channels", [1, 4, 13])
@pytest.mark.parametrize("kind", KINDS)
def test_any_number_of_bands(tmp_path: Path, kind: str, channels: int) -> None:
    write(tmp_path, "PairedImages" if kind == "SyntheticBursts" else kind, channels)
    dataset = build("dataset", spec(tmp_path, kind), channels=channels)
    info = dataset_info(dataset)
    assert (info.channels, info.gt_channels, info.raw) == (channels, channels, False)
    (batch,) = SampleStream(dataset, 3, 4).batches(0, 1)
    assert batch["lq"].shape[2] == batch["gt"].shape[-3] == channels
    assert batch["lq"].dtype == torch.float32
    assert "mask" not in batch
    whole = dataset[0]
    assert whole["lq"].shape[1] == whole["gt"].shape[-3] == channels
    for band, pixels in enumerate(np.moveaxis(whole["gt"], -3, 0)):
        assert pixels.std() > 0
        assert not band or not np.array_equal(pixels, np.moveaxis(whole["gt"], -3, 0)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_bands_are_chosen_and_ordered(tmp_path: Path, kind: str) -> None:
    write(tmp_path, "PairedImages" if kind == "SyntheticBursts" else kind, 5)
    whole = build("dataset", spec(tmp_path, kind), channels=5)[0]
    chosen = build("dataset", spec(tmp_path, kind, bands=[4, 1]))
    assert (chosen.channels, chosen.gt_channels) == (2, 2)
    assert np.array_equal(chosen[0]["gt"], np.take(whole["gt"], [3, 0], -3))
    if kind == "SyntheticBursts":
        return
    assert np.array_equal(chosen[0]["lq"], whole["lq"][:, [3, 0]])
    other = build("dataset", spec(tmp_path, kind, bands=[4, 1], bands_gt=[2, 3, 5]))
    assert (other.channels, other.gt_channels) == (2, 3)
    assert np.array_equal(other[0]["gt"], np.take(whole["gt"], [1, 2, 4], -3))
    assert np.array_equal(other[0]["lq"], chosen[0]["lq"])


def test_lr_made_here_has_its_own_bands(tmp_path: Path) -> None:
    write(tmp_path, "PairedImages", 4)
    made = {"dataroot_lq": None, "bands": [2], "bands_gt": [4, 3]}
    sample = build("dataset", spec(tmp_path, "PairedImages", **made))[1]
    image = bands(4, (16, 18), 1)
    small = imresize(image[1], 1 / 2, edge="replicate", round_between_passes=True)
    assert np.array_equal(sample["lq"][0, 0], small)
    assert np.array_equal(sample["gt"], image[[3, 2]])


def test_grey_stays_grey_only_if_one_channel_is_asked_for(tmp_path: Path) -> None:
    write(tmp_path, "PairedImages", 1)
    grey, colour = (build("dataset", spec(tmp_path, "PairedImages"), channels=n) for n in (1, 3))
    for dataset, channels in ((grey, 1), (colour, 3)):
        sample = dataset.draw(0, np.random.default_rng(0))
        assert sample["lq"].shape == (1, channels, 4, 4)
        assert sample["gt"].shape == (channels, 8, 8)
    assert dataset_info(build("dataset", spec(tmp_path, "PairedImages"))).channels == 3


class TestDepth:
    @pytest.mark.parametrize("kind", KINDS)
    def test_twelve_bits_are_those_of_the_same_content_in_floats(
        self, tmp_path: Path, kind: str
    ) -> None:
        source = "PairedImages" if kind == "SyntheticBursts" else kind
        write(tmp_path, source, 4, "uint16")
        one = build("dataset", spec(tmp_path, kind, white_level=4095), channels=4)[0]
        for path in tmp_path.rglob("*.tif"):
            image = tifffile.imread(path).astype(np.float32) / np.float32(4095)
            np.save(path.with_suffix(".npy"), image)
            path.unlink()
        other = build("dataset", spec(tmp_path, kind), channels=4)[0]
        assert one["gt"].dtype == np.float32
        assert np.array_equal(one["gt"], other["gt"])
        assert np.array_equal(one["lq"], other["lq"])

    def test_each_band_has_its_levels(self, tmp_path: Path) -> None:
        write(tmp_path, "PairedImages", 2, "int16")
        levels = {"white_level": [10000, 5000], "black_level": [0, -1000], "bands": [2, 1]}
        sample = build("dataset", spec(tmp_path, "PairedImages", **levels))[0]
        image = bands(2, (16, 18), 0, "int16").astype(np.float32)
        expected = np.stack([image[1] / 10000, (image[0] + 1000) / 6000]).clip(0, 1)
        np.testing.assert_allclose(sample["gt"], expected, atol=1e-6)

    def test_lr_made_of_signed_numbers_is_rounded_before_the_levels(self, tmp_path: Path) -> None:
        image = np.random.default_rng(0).integers(-500, 10000, (2, 16, 18)).astype(np.int16)
        tif(tmp_path / "gt" / "a.tif", image)
        given = {"dataroot_lq": None, "white_level": 10000, "black_level": -500}
        sample = build("dataset", spec(tmp_path, "PairedImages", **given), channels=2)[0]
        small = imresize(
            image.transpose(1, 2, 0), 1 / 2, edge="replicate", round_between_passes=True
        )
        expected = (small.transpose(2, 0, 1).astype(np.float32) + 500) / 10500
        np.testing.assert_allclose(sample["lq"][0], expected.clip(0, 1), atol=1e-6)

    def test_floats_of_any_range(self, tmp_path: Path) -> None:
        image = bands(4, (16, 18), 0, "float32") * 3000 - 200
        tif(tmp_path / "gt" / "a.tif", image)
        scaled = {"dataroot_lq": None, "white_level": 2800, "black_level": -200}
        sample = build(
            "dataset", spec(tmp_path, "PairedImages", **scaled, scale_floats=True), channels=4
        )[0]
        np.testing.assert_allclose(sample["gt"], (image + 200) / 3000, atol=1e-6)
        with pytest.raises(UserError, match="scale"):
            build("dataset", spec(tmp_path, "PairedImages", **scaled), channels=4)[0]

    def test_levels_that_do_not_apply_to_floats_are_named(self, tmp_path: Path, caplog) -> None:
        tif(tmp_path / "gt" / "a.tif", bands(4, (16, 18), 0, "float32"))
        given = spec(tmp_path, "PairedImages", dataroot_lq=None)
        words = "a.tif: white_level does not apply to float files, which must be in [0, 1]; set"
        with caplog.at_level("WARNING", "srtoolbox"):
            build("dataset", given, channels=4)
            assert words not in caplog.text
            build("dataset", {**given, "white_level": 1, "scale_floats": True}, channels=4)
            assert words not in caplog.text
            build("dataset", {**given, "white_level": 3000}, channels=4)
        assert f"{words} scale_floats: true" in caplog.text

    def test_synthetic_frames_keep_more_bits(self, tmp_path: Path) -> None:
        write(tmp_path, "PairedImages", 4, "uint16")
        given = {"white_level": 4095, "bit_depth": 12, "noise_sigma": (0, 0)}
        dataset = build("dataset", spec(tmp_path, "SyntheticBursts", **given), channels=4)
        steps = dataset[0]["lq"] * 4095
        assert steps.dtype == np.float32
        np.testing.assert_allclose(steps, steps.round(), atol=1e-2)
        assert len(np.unique(steps.round())) > 256


def with_holes(image: np.ndarray, value: float, seed: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Returns an image with missing pixels, and its mask (1, H, W)."""
    mask = np.random.default_rng(seed).random((1, *image.shape[1:])) < 0.8
    mask[0, :4, :4] = False
    return np.where(mask, image, np.array(value, image.dtype)), mask


class TestMissing:
    @pytest.mark.parametrize("stated", [True, False])
    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_pixels_without_data_are_masked(
        self, tmp_path: Path, channels: int, stated: bool
    ) -> None:
        image, mask = with_holes(bands(channels, (16, 18), 0, "int16"), NODATA)
        tif(tmp_path / "gt" / "a.tif", image, NODATA if stated else None)
        given = {"dataroot_lq": None, "white_level": 10000}
        given |= {} if stated else {"nodata": NODATA}
        dataset = build("dataset", spec(tmp_path, "PairedImages", **given), channels=channels)
        assert (dataset.channels, dataset.gt_channels) == (channels, channels)
        sample = dataset[0]
        assert sample["mask"].dtype == bool
        assert np.array_equal(sample["mask"], mask)
        assert sample["gt"].shape == (channels, 16, 18)
        known = image.astype(np.float32) / 10000
        wide = np.broadcast_to(mask, image.shape)
        np.testing.assert_allclose(sample["gt"][wide], known[wide], atol=1e-6)
        assert sample["lq"].shape == (1, channels, 8, 9)
        assert sample["lq"].min() >= 0
        # LR is made of the filled image, so it has no trace of the value of missing pixels.
        assert abs(sample["lq"].mean() - 0.5) < 0.1

    @pytest.mark.parametrize("kind", ["PairedImages", "SyntheticBursts"])
    def test_only_some_files_state_a_value(self, tmp_path: Path, kind: str) -> None:
        """A batch needs a mask for each sample."""
        image, mask = with_holes(bands(4, (16, 18), 0).clip(1), 0)
        tif(tmp_path / "gt" / "a.tif", image, 0)
        tif(tmp_path / "gt" / "b.tif", bands(4, (16, 18), 1).clip(1))
        given = {"dataroot_lq": None} if kind == "PairedImages" else {}
        dataset = build("dataset", spec(tmp_path, kind, **given), channels=4)
        assert np.array_equal(dataset[0]["mask"], mask)
        assert dataset[1]["mask"].all()

    def masked(self, root: Path, values: float, **more: Any) -> PairedImages:
        image, mask = with_holes(bands(4, (40, 44), 0), values)
        tif(root / "gt" / "a.tif", image)
        save(root / "mask" / "a.png", mask[0].astype(np.uint8) * 255)
        given = {"dataroot_lq": None, "dataroot_mask": str(root / "mask"), **more}
        return build("dataset", spec(root, "PairedImages", **given), channels=4)

    @pytest.mark.slow
    def test_values_below_a_mask_have_no_influence(self, tmp_path: Path) -> None:
        """Not in whole images, in crops, or in LR made of them, with a cache or without."""
        for cache in (None, str(tmp_path / "cache")):
            one = self.masked(tmp_path / f"one{cache is None}", 0, cache=cache)
            two = self.masked(tmp_path / f"two{cache is None}", 255, cache=cache)
            for seed in range(20):
                rng = np.random.default_rng
                a, b = (data.draw(0, rng(seed)) for data in (one, two))
                for name in ("lq", "gt", "mask"):
                    assert np.array_equal(a[name], b[name])
            a, b = one[0], two[0]
            for name in ("lq", "gt", "mask"):
                assert np.array_equal(a[name], b[name])

    def test_a_crop_is_that_of_the_whole(self, tmp_path: Path) -> None:
        dataset = self.masked(tmp_path, 7)
        whole = dataset[0]
        places = set()
        for seed in range(30):
            crop = dataset.draw(0, np.random.default_rng(seed))
            found = [
                (y, x)
                for y, x in itertools.product(range(0, 33, 2), range(0, 37, 2))
                if np.array_equal(crop["gt"], whole["gt"][:, y : y + 8, x : x + 8])
            ]
            ((y, x),) = found
            places.add((y, x))
            assert np.array_equal(crop["mask"], whole["mask"][:, y : y + 8, x : x + 8])
            lq = whole["lq"][:, :, y // 2 : y // 2 + 4, x // 2 : x // 2 + 4]
            assert np.array_equal(crop["lq"], lq)
        assert len(places) > 15

    def test_masks_and_stated_values_are_joined(self, tmp_path: Path) -> None:
        image, mask = with_holes(bands(4, (16, 18), 0).clip(1), 0)
        other = np.random.default_rng(8).random((16, 18)) < 0.7
        tif(tmp_path / "gt" / "a.tif", image, 0)
        save(tmp_path / "mask" / "a.png", other.astype(np.uint8))
        given = {"dataroot_lq": None, "dataroot_mask": str(tmp_path / "mask")}
        dataset = build("dataset", spec(tmp_path, "PairedImages", **given), channels=4)
        assert np.array_equal(dataset[0]["mask"], mask & other)

    @pytest.mark.parametrize("kind", ["Clips", "SpaceTimeClips", "Bursts"])
    def test_masks_of_clips_and_bursts(self, tmp_path: Path, kind: str) -> None:
        holes = {}
        write(tmp_path, kind, 4)
        for path in [*(tmp_path / "GT").rglob("*.tif"), *(tmp_path / "HR").rglob("*.tif")]:
            image = tifffile.imread(path).transpose(2, 0, 1).clip(1)
            image, mask = with_holes(image, 0, seed=len(holes))
            tif(path, image, 0)
            holes[path] = mask
        for path in (tmp_path / "LR").rglob("*.tif"):
            tif(path, tifffile.imread(path).transpose(2, 0, 1).clip(1), 0)
        dataset = build("dataset", spec(tmp_path, kind), channels=4)
        sample = dataset[0]
        truths = [path for path in dataset.paths() if path in holes]
        expected = holes[truths[0]] if kind != "SpaceTimeClips" else None
        if kind == "SpaceTimeClips":
            expected = np.stack([holes[path] for path in truths[:3]])
        assert np.array_equal(sample["mask"], expected)
        crop = dataset.draw(0, np.random.default_rng(0))
        assert crop["mask"].shape == (*crop["gt"].shape[:-3], 1, 8, 8)

    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore:This DataLoader will create")
    @pytest.mark.parametrize("kind", ["PairedImages", "SyntheticBursts", "SBSRBursts"])
    def test_the_stream_has_masks_in_the_orientation_of_the_truth(
        self, tmp_path: Path, kind: str
    ) -> None:
        """The first band says where pixels are missing."""
        for i in range(3):
            image, mask = with_holes(bands(4, (24, 26), i).clip(1), 0, i)
            image[0] = np.where(mask[0], 200, 0)
            tif(tmp_path / "gt" / f"{i}.tif", image, 0)
        given: dict[str, Any] = {"dataroot_lq": None}
        if kind != "PairedImages":
            given = {"dataroot": str(tmp_path / "gt"), "num_frame": 2}
        dataset = build("dataset", spec(tmp_path, kind, **given), channels=4)
        stream = SampleStream(dataset, 5, 6)
        found = list(stream.batches(0, 2))
        for batch in found:
            assert batch["mask"].shape == (6, 1, 8, 8)
            assert 0 < batch["mask"].float().mean() < 1
            # Missing pixels are filled by the other value of the band.
            assert (batch["gt"][:, 0][batch["mask"][:, 0]] * 255).round().eq(200).all()
        for one, two in zip(stream.batches(0, 2, num_worker=2), found, strict=True):
            for name in ("lq", "gt", "mask"):
                assert torch.equal(one[name], two[name])

    def test_masks_turn_with_the_truth(self, tmp_path: Path) -> None:
        """With a ground truth of 0 below masks that are too wide to be filled."""
        image = np.full((1, 90, 90), 200, np.uint8)
        image[:, 20:, :30] = 0
        tif(tmp_path / "gt" / "a.tif", image, 0)
        for kind in ("PairedImages", "SyntheticBursts"):
            given = {"gt_size": 88} | ({"dataroot_lq": None} if kind == "PairedImages" else {})
            dataset = build("dataset", spec(tmp_path, kind, **given), channels=1)
            shapes = set()
            for step in range(8):
                (batch,) = SampleStream(dataset, 1, 1).batches(step, step + 1)
                far = batch["gt"] == 0
                assert far.any()
                assert not batch["mask"][far].any()
                assert (batch["gt"][batch["mask"]] * 255).round().eq(200).all()
                shapes.add(batch["mask"].numpy().tobytes())
            assert len(shapes) > 3

    @pytest.mark.parametrize("on_device", [False, True])
    def test_masks_of_synthetic_bursts(self, tmp_path: Path, on_device: bool) -> None:
        image, mask = with_holes(bands(4, (17, 19), 0).clip(1), 0)
        tif(tmp_path / "gt" / "a.tif", image, 0)
        given = {"on_device": on_device, "num_object": 1, "object_shift": 2.0}
        dataset = build("dataset", spec(tmp_path, "SyntheticBursts", **given), channels=4)
        assert np.array_equal(dataset[0]["mask"], mask[:, :16, :18])
        (batch,) = SampleStream(dataset, 5, 3).batches(0, 1)
        assert batch["mask"].shape == (3, 1, 8, 8)
        assert batch["lq"].shape == (3, 2, 4, 4, 4)
        again = build(
            "dataset",
            spec(tmp_path, "SyntheticBursts", **{**given, "on_device": not on_device}),
            channels=4,
        )
        (other,) = SampleStream(again, 5, 3).batches(0, 1)
        assert torch.equal(other["mask"], batch["mask"])

    def test_sbsr_bursts(self, tmp_path: Path) -> None:
        image, mask = with_holes(bands(5, (24, 28), 0).clip(1), 0)
        tif(tmp_path / "gt" / "a.tif", image, 0)
        given = {"dataroot": str(tmp_path / "gt"), "num_frame": 2, "image_size": 20}
        dataset = build("dataset", spec(tmp_path, "SBSRBursts", **given), channels=5)
        sample = dataset[0]
        assert sample["lq"].shape == (2, 5, 10, 10)
        assert np.array_equal(sample["mask"], mask[:, 2:22, 4:24])
        given["resize"] = True
        resized = build("dataset", spec(tmp_path, "SBSRBursts", **given), channels=5)[0]
        assert resized["gt"].shape == (5, 20, 20)
        assert resized["mask"].shape == (1, 20, 20)
        assert resized["mask"].sum() < mask.sum()  # a pixel counts if all its parts do

    def test_crops_without_a_pixel_are_drawn_again(self, tmp_path: Path) -> None:
        """Only a corner has pixels; the draws depend on their random numbers only."""
        image = bands(4, (64, 64), 0).clip(1)
        image[:, :, 40:] = image[:, 40:] = 0
        tif(tmp_path / "gt" / "a.tif", image, 0)
        cache = str(tmp_path / "cache")
        for kind, given in (
            ("PairedImages", {"dataroot_lq": None}),
            ("SyntheticBursts", {}),
            ("SBSRBursts", {"dataroot": str(tmp_path / "gt"), "num_frame": 2}),
        ):
            dataset = build("dataset", spec(tmp_path, kind, cache=cache, **given), channels=4)
            rng = np.random.default_rng
            samples = [dataset.draw(0, rng(seed)) for seed in range(20)]
            assert all(sample["mask"].any() for sample in samples)
            again = [dataset.draw(0, rng(seed)) for seed in range(20)]
            for one, two in zip(samples, again, strict=True):
                assert np.array_equal(one["gt"], two["gt"])
        image[:] = 0
        tif(tmp_path / "gt" / "a.tif", image, 0)
        dataset = build("dataset", spec(tmp_path, "PairedImages", dataroot_lq=None), channels=4)
        assert not dataset.draw(0, np.random.default_rng(0))["mask"].any()  # and it ends

    def test_missing_lr_pixels_are_filled(self, tmp_path: Path) -> None:
        write(tmp_path, "PairedImages", 4)
        low, _ = with_holes(np.full((4, 8, 9), 200, np.uint8), 0)
        tif(tmp_path / "lq" / "0.tif", low, 0)
        sample = build("dataset", spec(tmp_path, "PairedImages"), channels=4)[0]
        assert sample["lq"].shape == (1, 4, 8, 9)
        assert (sample["lq"] == 200).all()

    def test_a_cache_changes_no_sample(self, tmp_path: Path) -> None:
        image, _ = with_holes(bands(4, (16, 18), 0, "int16"), NODATA)
        tif(tmp_path / "gt" / "a.tif", image, NODATA)
        given = {"dataroot_lq": None, "white_level": 10000}
        plain, cached = (
            build("dataset", spec(tmp_path, "PairedImages", **given, cache=cache), channels=4)
            for cache in (None, str(tmp_path / "cache"))
        )
        for seed in range(5):
            one, two = (data.draw(0, np.random.default_rng(seed)) for data in (plain, cached))
            for name in ("lq", "gt", "mask"):
                assert np.array_equal(one[name], two[name])


@pytest.mark.parametrize("masked", [True, False])
def test_large_files_are_read_by_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, masked: bool
) -> None:
    """Samples are those of files that are read whole."""
    image, mask = with_holes(bands(4, (42, 47), 0).clip(1), 0)
    path = tmp_path / "gt" / "a.tif"
    tif(path, image, 0 if masked else None)
    form: dict[str, Any] = {"photometric": "minisblack", "tile": (16, 16)}
    tags = ((42113, "s", 0, "0", True),) if masked else ()
    planes = np.ascontiguousarray(image.transpose(1, 2, 0))
    tifffile.imwrite(path, planes, planarconfig="contig", extratags=tags, **form)
    given: dict[str, Any] = {"dataroot_lq": None}
    if masked:
        save(tmp_path / "mask" / "a.png", mask[0].astype(np.uint8))
        given["dataroot_mask"] = str(tmp_path / "mask")
    specs = [spec(tmp_path, "PairedImages", **given), spec(tmp_path, "SyntheticBursts")]
    whole = [build("dataset", options, channels=4) for options in specs]
    expected = [
        [data[0], *(data.draw(0, np.random.default_rng(i)) for i in range(4))] for data in whole
    ]
    opened: list[Any] = []

    def open_windowed(path: Path, options: ReadOptions) -> Any:
        opened.append(windows.open_image(path, options, large=0))
        return opened[-1]

    monkeypatch.setattr(pixel_cache, "open_image", open_windowed)
    for options, samples in zip(specs, expected, strict=True):
        data = build("dataset", options, channels=4)
        found = [data[0], *(data.draw(0, np.random.default_rng(i)) for i in range(4))]
        for one, two in zip(found, samples, strict=True):
            assert one.keys() == two.keys()
            for name in one.keys() - {"key", "orientation"}:
                assert np.array_equal(one[name], two[name])
    assert any(isinstance(image, windows.WindowedImage) for image in opened)


class TestFaults:
    @pytest.mark.parametrize(
        ("channels", "options", "words"),
        [
            (3, {}, r"5 channels; expected 1 \(grey\) or 3.*bands: \[3, 2, 1\]"),
            (4, {}, r"5 bands; expected 4 bands.*bands: \[1, 2, 3, 4\]"),
            (1, {}, r"expected grey.*bands: \[1\]"),
            (8, {}, "5 bands; expected 8 bands.*num_in_ch"),
            (2, {"bands": [1, 6]}, r"bands: \[1, 6\] needs files of 6"),
            (3, {"bands": [1, 2]}, "bands lists 2 bands, but channels is 3"),
            (None, {"bands": [1, 1]}, "different numbers"),
            (None, {"bands": []}, "bands"),
            (None, {"bands": [1, 2], "bands_gt": [0]}, r"bands: \[0\]"),
            (0, {}, "channels must be at least 1"),
            (5, {"white_level": [1, 2]}, "white_level lists 2 numbers, but 5 bands"),
            (5, {"black_level": [1] * 5, "bands_gt": [1]}, "black_level lists 5.*ground truth"),
            (5, {"dataroot_mask": "nowhere"}, "nowhere: no such folder"),
        ],
    )
    def test_options(
        self, tmp_path: Path, channels: int | None, options: dict[str, Any], words: str
    ) -> None:
        write(tmp_path, "PairedImages", 5)
        with pytest.raises(UserError, match=words):
            build("dataset", spec(tmp_path, "PairedImages", **options), channels=channels)

    def test_signed_files_need_a_white_level(self, tmp_path: Path) -> None:
        write(tmp_path, "PairedImages", 4, "int16")
        with pytest.raises(UserError, match=r"int16 pixels.*set white_level"):
            build("dataset", spec(tmp_path, "PairedImages"), channels=4)

    def test_masks(self, tmp_path: Path) -> None:
        write(tmp_path, "PairedImages", 4)
        folder = str(tmp_path / "mask")
        for i in range(2):
            save(tmp_path / "mask" / f"{i}.png", np.ones((16, 18 - i), np.uint8))
        given = spec(tmp_path, "PairedImages", dataroot_mask=folder)
        with pytest.raises(UserError, match=r"2\.tif: has no mask"):
            build("dataset", given, channels=4)
        save(tmp_path / "mask" / "2.png", np.ones((16, 18), np.uint8))
        with pytest.raises(UserError, match="17×16; expected 18×16"):
            build("dataset", given, channels=4)
        with pytest.raises(UserError, match="dataroot_mask works with dataroot_gt only"):
            PairedImages(dataroot=str(tmp_path / "gt"), dataroot_mask=folder)

    def test_raw_has_no_such_options(self) -> None:
        from srtoolbox.data.layouts import get_layout

        layout = get_layout("burstsr")
        for options in ({"bands": [1]}, {"nodata": 0}, {"white_level": 1023}):
            with pytest.raises(UserError, match="layout 'burstsr'"):
                Reading(**options).check_raw(layout)

    def test_raw_bursts_are_made_of_three_bands(self, tmp_path: Path) -> None:
        write(tmp_path, "PairedImages", 5)
        given = {"pipeline": "raw", "scale": 8, "bands": [5, 3, 1], "max_shift": 8.0}
        dataset = build("dataset", spec(tmp_path, "SyntheticBursts", **given), channels=4)
        info = dataset_info(dataset)
        assert (info.channels, info.gt_channels, info.raw) == (4, 3, True)
        assert dataset[0]["lq"].shape[1] == 4
        for name, value in (("bit_depth", 12), ("band_shift", 1.0)):
            with pytest.raises(UserError, match=f"pipeline 'raw' has no {name}"):
                build("dataset", spec(tmp_path, "SyntheticBursts", **given, **{name: value}))


def test_nan_is_no_value_of_missing_pixels() -> None:
    with pytest.raises(UserError, match="nodata must be a finite number, got nan; NaN counts as"):
        Reading(nodata=float("nan"))


def test_float64_among_float32_is_read_as_checked(tmp_path: Path) -> None:
    for number, dtype in enumerate([np.float32, np.float64]):
        pixels = np.random.default_rng(number).random((16, 16, 3)).astype(dtype)
        np.save(tmp_path / f"{number}.npy", pixels)
    pairs = build("dataset", {"type": "PairedImages", "dataroot_gt": str(tmp_path), "gt_size": 8})
    pairs.check_training()
    assert [pairs[index]["gt"].dtype for index in (0, 1)] == [np.float32, np.float32]
