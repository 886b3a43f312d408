"""Images and clips whose LR is made by a random degradation."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
import torch
from skimage import data

from srtoolbox.config.schema import build
from srtoolbox.data.base import dataset_info
from srtoolbox.data.datasets.degraded import Degrader
from srtoolbox.data.degradations.blind import FirstOrder, RealESRGAN
from srtoolbox.data.degradations.steps import Resize, for_frame
from srtoolbox.data.resize.tensor import imresize_tensor
from srtoolbox.data.stream import SampleStream
from srtoolbox.errors import UserError
from srtoolbox.registry import DEGRADATION_REGISTRY

CLEAN = {"type": "first_order", "blur_prob": 0, "gaussian_noise_prob": 0, "margin": 16}
NAMES = ("bsrgan", "first_order", "real_esrgan")
needs_av = pytest.mark.skipif(
    find_spec("av") is None, reason="needs PyAV: pip install srtoolbox[video]"
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photographs, two clips of six frames, and images of four bands of 16 bits."""
    folder, photograph = tmp_path_factory.mktemp("data"), data.astronaut()[..., ::-1]
    for name in ("images", "bands", "clips/GT/a", "clips/GT/b"):
        (folder / name).mkdir(parents=True)
    for i in range(3):
        part = photograph[50 * i : 50 * i + 98, 150 : 150 + 110 + 4 * i]
        assert cv2.imwrite(str(folder / f"images/{i}.png"), part)
        four = np.dstack([part, part[..., :1]]).astype(np.uint16) * 257
        tifffile.imwrite(
            folder / f"bands/{i}.tif", four, photometric="minisblack", planarconfig="contig"
        )
        for t in range(3 * i, 3 * i + 3):
            for clip, x in (("a", 150), ("b", 200)):
                frame = photograph[60 + t : 60 + t + 64, x + t : x + t + 80]
                assert cv2.imwrite(str(folder / f"clips/GT/{clip}/{t:08d}.png"), frame)
    return folder


def images(root: Path, spec: dict[str, Any], **options: Any) -> Any:
    given = {"dataroot_gt": str(root / "images"), "gt_size": 32, **options}
    return build("dataset", {"type": "PairedImages", "degradation": spec, **given})


def clips(root: Path, spec: dict[str, Any], **options: Any) -> Any:
    given = {"dataroot": str(root / "clips"), "gt_size": 32, "num_frame": 3, **options}
    return build("dataset", {"type": "Clips", "degradation": spec, **given})


def batch(dataset: Any, step: int = 0, size: int = 3, **given: Any) -> dict[str, Any]:
    return next(SampleStream(dataset, 7, size, **given).batches(step, step + 1))


class TestTraining:
    def test_without_blur_and_noise_it_is_matlabs_reduction(self, root: Path) -> None:
        """The crop equals that of the reduced whole image, but for the image's edges."""
        made = batch(images(root, CLEAN, use_hflip=False, use_rot=False, gt_size=64))
        gt = made["gt"]
        lq = imresize_tensor(gt, 1 / 4, dtype=torch.float64).clamp(0, 1)[..., 2:-2, 2:-2]
        assert (made["lq"][:, 0, :, 2:-2, 2:-2] - lq).abs().max() < 0.6 / 255

    @pytest.mark.parametrize("name", NAMES)
    def test_lq_belongs_to_gt(self, root: Path, name: str) -> None:
        made = batch(images(root, {"type": name}, gt_size=64), size=6)
        assert made["lq"].shape == (6, 1, 3, 16, 16)
        assert made["gt"].shape == (6, 3, 64, 64)
        small = torch.nn.functional.avg_pool2d(made["gt"], 4)
        distance = (made["lq"] - small).abs().mean((-3, -2, -1))  # of all pairs
        own = distance.diagonal().mean()
        assert own < 0.6 * (distance.sum() - distance.diagonal().sum()) / 30

    @pytest.mark.parametrize("name", NAMES)
    def test_workers_make_the_samples_of_the_device(self, root: Path, name: str) -> None:
        expected = batch(images(root, {"type": name}))
        made = batch(images(root, {"type": name}, on_device=False))
        assert torch.equal(made["lq"], expected["lq"])
        assert torch.equal(made["gt"], expected["gt"])

    @pytest.mark.parametrize("name", NAMES)
    def test_a_sample_does_not_depend_on_its_batch(self, root: Path, name: str) -> None:
        """Two processes with half of each batch get the samples of one with all."""
        whole = batch(images(root, {"type": name}), size=4)
        for rank in range(2):
            part = batch(images(root, {"type": name}), size=4, rank=rank, world_size=2)
            assert torch.equal(part["lq"], whole["lq"][rank::2])

    @pytest.mark.cuda
    @pytest.mark.parametrize("name", NAMES)
    def test_devices_agree(self, root: Path, name: str) -> None:
        stream = SampleStream(images(root, {"type": name}), 7, 8)
        for ours, theirs in zip(stream.batches(0, 8), stream.batches(0, 8, 0, "cuda"), strict=True):
            for key in ("lq", "gt"):
                torch.testing.assert_close(ours[key], theirs[key].cpu(), rtol=0, atol=1e-5)

    def test_steps_have_their_own_degradations(self, root: Path) -> None:
        dataset = images(root, {"type": "first_order"}, use_hflip=False, use_rot=False)
        rng = [np.random.default_rng(seed) for seed in (1, 2)]
        plans = [dataset.draw(0, numbers)["synthesis"]["plan"] for numbers in rng]
        assert plans[0].steps != plans[1].steps

    def test_sharpening_changes_gt_and_lq(self, root: Path) -> None:
        plain, sharp = (
            batch(images(root, {**CLEAN, "gt_usm": usm}, use_rot=False)) for usm in (False, True)
        )
        assert not torch.equal(plain["gt"], sharp["gt"])
        assert sharp["gt"].var() > plain["gt"].var()
        assert sharp["lq"].var() > plain["lq"].var()

    def test_the_margin_is_a_multiple_of_the_scale(self) -> None:
        assert Degrader(FirstOrder(margin=13), 4, 3).margin == 16
        assert Degrader(FirstOrder(margin=0), 4, 3).margin == 0
        assert Degrader(RealESRGAN(), 4, 3).margin == 72

    def test_a_small_image(self, root: Path) -> None:
        with pytest.raises(UserError, match="smaller than gt_size 128"):
            images(root, CLEAN, gt_size=128).draw(0, np.random.default_rng(0))


class TestEvaluation:
    @pytest.mark.parametrize("name", NAMES)
    def test_depends_on_name_and_seed_alone(self, root: Path, name: str) -> None:
        first, again = (images(root, {"type": name}) for _ in range(2))
        other = images(root, {"type": name}, degradation_seed=1)
        assert np.array_equal(first[1]["lq"], first[1]["lq"])
        again[0], again[2]
        assert np.array_equal(first[1]["lq"], again[1]["lq"])
        assert not np.array_equal(first[1]["lq"], other[1]["lq"])

    def test_whole_images(self, root: Path) -> None:
        dataset = images(root, {"type": "real_esrgan"})
        for index in range(3):
            sample = dataset[index]
            assert sample["lq"].shape == (1, 3, 24, 27 + index)
            assert sample["gt"].shape == (3, 96, 108 + 4 * index)
            assert sample["lq"].dtype == np.uint8
            plain = build("dataset", {"type": "PairedImages", "dataroot_gt": str(root / "images")})
            assert np.array_equal(sample["gt"], plain[index]["gt"])  # it is not sharpened

    def test_dataset_info(self, root: Path) -> None:
        info = dataset_info(images(root, {"type": "bsrgan"}))
        assert info.finish is not None
        assert info.gt_sizes is not None
        assert set(info.gt_sizes().values()) == {(96, 108), (96, 112), (96, 116)}
        plain = build("dataset", {"type": "PairedImages", "dataroot_gt": str(root / "images")})
        assert dataset_info(plain).finish is None


class TestBands:
    @pytest.mark.parametrize("name", NAMES)
    def test_four_bands_of_16_bits(self, root: Path, name: str) -> None:
        options = {"dataroot_gt": str(root / "bands"), "channels": 4, "bit_depth": 16}
        dataset = images(root, {"type": name}, **options)
        sample = dataset[0]
        assert sample["lq"].shape == (1, 4, 24, 27)
        assert sample["lq"].dtype == np.float32
        assert 0 <= sample["lq"].min() < sample["lq"].max() <= 1
        made = batch(dataset)
        assert made["lq"].shape == (3, 1, 4, 8, 8)
        assert made["gt"].shape == (3, 4, 32, 32)

    def test_depth(self, root: Path) -> None:
        options = {"dataroot_gt": str(root / "bands"), "channels": 4}
        for bits in (8, 10, 16):
            lq = images(root, CLEAN, **options, bit_depth=bits)[0]["lq"]
            levels = lq.astype(float) / (255 if bits == 8 else 1) * (2**bits - 1)
            np.testing.assert_allclose(levels, np.round(levels), atol=2e-2)
        with pytest.raises(UserError, match="bit_depth must be from 8 to 16"):
            images(root, CLEAN, **options, bit_depth=7)

    def test_missing_pixels(self, tmp_path: Path) -> None:
        pixels = np.full((64, 64), 300, np.uint16)
        pixels[:, :8] = 0
        tifffile.imwrite(tmp_path / "a.tif", pixels)
        dataset = images(
            tmp_path, CLEAN, dataroot_gt=str(tmp_path), channels=1, nodata=0, white_level=1000
        )
        sample = dataset[0]
        assert sample["mask"].shape == (1, 64, 64)
        assert not sample["mask"][..., :8].any()
        assert sample["mask"][..., 8:].all()
        assert np.unique(sample["lq"]).tolist() == [77]  # filled before
        made = batch(dataset, size=2)
        assert made["mask"].shape == (2, 1, 32, 32)


class TestClips:
    def test_frames_share_a_degradation_but_not_its_noise(self, root: Path) -> None:
        spec = {"type": "first_order", "noise_range": [9, 9]}
        dataset = clips(root, spec)
        plan = dataset.draw(0, np.random.default_rng(0))["synthesis"]["plan"]
        assert len({str(list(map(str, recipe))) for recipe in plan.recipes}) == 1
        assert plan.recipes[0][0].kernel is plan.recipes[2][0].kernel
        seeds = [recipe[2].seed for recipe in plan.recipes]
        assert seeds == [seeds[0], seeds[0] + 1, seeds[0] + 2]
        assert list(map(str, for_frame(plan.recipes[0], 5))) == list(map(str, plan.recipes[0]))

    def test_per_frame(self, root: Path) -> None:
        dataset = clips(root, {"type": "real_esrgan"}, per_frame=True)
        plan = dataset.draw(0, np.random.default_rng(0))["synthesis"]["plan"]
        assert len({str(list(map(str, recipe))) for recipe in plan.recipes}) == 3

    @pytest.mark.parametrize("target", ["centre", "all"])
    def test_training(self, root: Path, target: str) -> None:
        made = batch(clips(root, CLEAN, target=target), size=2)
        assert made["lq"].shape == (2, 3, 3, 8, 8)
        assert made["gt"].shape == ((2, 3, 32, 32) if target == "centre" else (2, 3, 3, 32, 32))
        truth = made["gt"] if target == "centre" else made["gt"][:, 1]
        small = torch.nn.functional.avg_pool2d(truth, 4)
        distance = [(made["lq"][:, t] - small).abs().mean() for t in range(3)]
        assert min(distance) == distance[1]

    def test_a_frame_is_the_same_in_all_windows_and_in_the_clip(self, root: Path) -> None:
        spec = {"type": "real_esrgan"}
        windows = clips(root, spec, num_frame=3, missing_neighbours="mirror")
        whole = clips(root, spec, num_frame=None, target="all")
        clip = whole[1]
        assert clip["lq"].shape == (9, 3, 16, 20)
        for t in range(1, 8):
            sample = windows[9 + t]
            assert np.array_equal(sample["lq"], clip["lq"][t - 1 : t + 2])
            assert np.array_equal(sample["gt"], clip["gt"][t])

    @needs_av
    def test_video_compression(self, root: Path) -> None:
        plain = clips(root, CLEAN)
        video = clips(root, CLEAN, video_compression={"codec": ["mpeg4"], "qscale": [9, 9]})
        plan = video.draw(0, np.random.default_rng(0))["synthesis"]["plan"]
        assert plan.steps[-1] == "mpeg4 9"
        difference = np.abs(video[4]["lq"].astype(int) - plain[4]["lq"])
        assert 0.5 < difference.mean() < 20
        assert np.array_equal(video[4]["lq"], video[4]["lq"])
        first, second = batch(video), batch(video)
        assert torch.equal(first["lq"], second["lq"])
        workers = clips(
            root,
            CLEAN,
            video_compression={"codec": ["mpeg4"], "qscale": [9, 9]},
            on_device=False,
        )
        assert torch.equal(batch(workers)["lq"], first["lq"])

    @needs_av
    def test_codecs_have_8_bits(self, root: Path) -> None:
        with pytest.raises(UserError, match="video_compression needs bit_depth 8"):
            clips(root, CLEAN, video_compression={}, bit_depth=10)

    def test_options_that_a_degradation_does_not_take(self, root: Path) -> None:
        with pytest.raises(UserError, match="mirror_sequence needs LR files; remove it, or"):
            clips(root, CLEAN, target="all", mirror_sequence=True)
        with pytest.raises(UserError, match="makes LR at one scale; remove scales, or"):
            images(root, CLEAN, scales=[2, 4])

    def test_compression_needs_a_degradation(self, root: Path) -> None:
        spec = {"type": "Clips", "dataroot": str(root / "clips"), "video_compression": {}}
        with pytest.raises(UserError, match="part of a degradation; add degradation"):
            build("dataset", spec)


@pytest.mark.parametrize(
    ("option", "value"), [("dataroot_lq", "lq"), ("bands_gt", [1]), ("edge", "replicate")]
)
def test_options_without_effect_are_refused(root: Path, option: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"makes LR from the ground truth; remove {option}"):
        images(root, CLEAN, **{option: value})


def test_lr_files_of_a_layout_are_not_read(tmp_path: Path) -> None:
    for name, size in (("HR", 64), ("LR", 16)):
        (tmp_path / name).mkdir()
        value = 100 if name == "HR" else 0
        assert cv2.imwrite(
            str(tmp_path / name / "a.png"), np.full((size, size, 3), value, np.uint8)
        )
    spec = {"type": "PairedImages", "dataroot": str(tmp_path), "degradation": CLEAN}
    assert build("dataset", spec)[0]["lq"].min() == 100


class Own:
    """A plain reduction."""

    margin, gt_usm = 8, False

    def __init__(self, kernel: str = "nearest", factor: int = 1) -> None:
        self.kernel, self.factor = kernel, factor

    def draw(
        self, rng: np.random.Generator, size: tuple[int, int], scale: int, channels: int
    ) -> Any:
        if self.kernel == "none":
            return None
        small = size[0] // scale // self.factor, size[1] // scale // self.factor
        return [Resize(small, self.kernel)]  # pyright: ignore[reportArgumentType]


class TestOwnDegradations:
    @pytest.fixture(autouse=True)
    def registry(self, monkeypatch: pytest.MonkeyPatch) -> None:
        entries = {**DEGRADATION_REGISTRY._entries, "Own": Own, "Poor": object}
        monkeypatch.setattr(DEGRADATION_REGISTRY, "_entries", entries)

    def test_is_used(self, root: Path) -> None:
        made = batch(images(root, {"type": "Own"}, use_rot=False, use_hflip=False))
        assert torch.equal(made["lq"][:, 0], made["gt"][..., 2::4, 2::4])

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"kernel": "none"}, "returned None (is the return statement missing?)"),
            ({"factor": 2}, "make (3, 6, 6) of (3, 48, 48); at scale 4 they must make (3, 12, 12)"),
            ({"kernel": 3}, "kernel must be 'nearest'"),
        ],
    )
    def test_mistakes(self, root: Path, options: dict[str, Any], words: str) -> None:
        dataset = images(root, {"type": "Own", **options})
        with pytest.raises(UserError) as caught:
            batch(dataset)
        assert words in str(caught.value)

    def test_missing_members(self, root: Path) -> None:
        with pytest.raises(UserError, match="object lacks margin, gt_usm, draw"):
            images(root, {"type": "Poor"})
