"""Tests records, averages, protocols, unavailable metrics and the published Bicubic scores."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from srtoolbox.archs.bicubic import Bicubic
from srtoolbox.config.schema import check
from srtoolbox.data import PairedImages, SampleBursts
from srtoolbox.engine.device.distributed import Ranks
from srtoolbox.engine.evaluation import evaluator as module
from srtoolbox.engine.evaluation.evaluator import Evaluator
from srtoolbox.engine.evaluation.records import Record, average, mean
from srtoolbox.engine.options import ValOptions
from srtoolbox.errors import RunError, UserError
from srtoolbox.metrics import Metric, MetricUnavailable, Protocol

CPU = torch.device("cpu")
PSNR = {"type": "PSNR"}
OF_CLIPS = {"psnr": PSNR, "tpsnr": {"type": "TemporalPSNR"}}


class Nearest(nn.Module):
    """Repeats every pixel, and insists on sizes of 4 · n from 16 on."""

    scales, num_frame, reference, size_multiple, min_size = (2, 3), 1, 0, 4, 16

    def __init__(self, scale: int = 2, gain: float = 1.0) -> None:
        super().__init__()
        self.scale, self.gain = scale, gain
        self.modes: list[bool] = []

    def forward(self, lq: Tensor) -> Tensor:
        assert min(lq.shape[-2:]) >= 16
        assert not any(side % 4 for side in lq.shape[-2:])
        self.modes.append(self.training)
        image = self.gain * lq
        return image.repeat_interleave(self.scale, -1).repeat_interleave(self.scale, -2)


class Repeated:
    """Images of odd sizes whose ground truth is the LR image with every pixel repeated."""

    scale, num_frame, reference = 2, 3, 1
    sizes = ((1, 5), (17, 31), (16, 20), (15, 33))

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = np.random.default_rng(index)
        lq = rng.integers(0, 256, (3, 3, *self.sizes[index]), dtype=np.uint8)
        return {"key": f"clip/{index}", "lq": lq, "gt": lq[1].repeat(2, 1).repeat(2, 2)}


def val_options(**options: Any) -> ValOptions:
    return check({"protocol": "rgb", "metrics": {"psnr": PSNR}, **options}, ValOptions)


def run(evaluator: Evaluator, *args: Any) -> list[Record]:
    return evaluator.run(*args)[evaluator.protocol.name]


def test_a_perfect_network_scores_infinite_at_any_size() -> None:
    records = run(Evaluator(val_options(), CPU), Nearest(), Repeated())
    assert [record["metrics"]["psnr"] for record in records] == [math.inf] * 4
    assert average(records) == {"psnr": math.inf}


def test_records() -> None:
    seen: dict[str, Tensor] = {}
    net = Nearest(gain=1.5)
    records = run(Evaluator(val_options(), CPU), net, Repeated(), seen.__setitem__)
    assert [record["key"] for record in records] == [f"clip/{i}" for i in range(4)]
    assert all(set(record) == {"key", "seconds", "metrics"} for record in records)
    assert all(record["seconds"] > 0 for record in records)
    assert list(seen) == [record["key"] for record in records]
    assert seen["clip/1"].shape == (3, 34, 62)
    assert seen["clip/1"].max() == 1  # clamped
    again = run(Evaluator(val_options(), CPU), net, Repeated())
    assert [r["metrics"] for r in again] == [r["metrics"] for r in records]


class EveryFrame(Nearest):
    num_frame, restores_all = None, True


class WholeClips:
    """Clips whose frames are all wanted; the network is right but for the second frame."""

    scale, num_frame, reference = 2, None, None

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> dict[str, Any]:
        lq = np.full((4 + index, 3, 16, 16), 100, np.uint8)
        gt = lq.repeat(2, 2).repeat(2, 3)
        gt[1] += 10
        frames = [f"{t:03d}" for t in range(len(lq))]
        return {"key": f"clip{index}", "frames": frames, "lq": lq, "gt": gt}


def test_whole_clips_are_scored_frame_by_frame() -> None:
    seen = []
    records = run(
        Evaluator(val_options(metrics={"psnr": PSNR}), CPU),
        EveryFrame(),
        WholeClips(),
        lambda key, sr: seen.append((key, sr.shape)),
    )
    keys = [f"clip{i}/{t:03d}" for i in range(2) for t in range(4 + i)]
    assert [record["key"] for record in records] == keys
    assert seen == [(key, (3, 32, 32)) for key in keys]
    worse = [r["key"] for r in records if math.isfinite(r["metrics"]["psnr"])]
    assert worse == ["clip0/001", "clip1/001"]


def test_frames_at_both_ends_can_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator = Evaluator(val_options(metrics={"psnr": PSNR}), CPU)
    monkeypatch.setattr(evaluator, "protocols", {"inner": Protocol("inner", skip_frames=1)})
    keys = [record["key"] for record in run(evaluator, EveryFrame(), WholeClips())]
    assert keys == ["clip0/001", "clip0/002", "clip1/001", "clip1/002", "clip1/003"]


def test_too_few_frames_are_reported() -> None:
    class Halved(EveryFrame):
        def forward(self, lq: Tensor) -> Tensor:
            return super().forward(lq[:, ::2])

    with pytest.raises(
        UserError, match=r"Halved .* shape \(1, 2, 3, 32, 32\) .* return .* \(1, 4, 3, 32, 32\)"
    ):
        run(Evaluator(val_options(), CPU), Halved(), WholeClips())


class LowFrame(Metric):
    """Whether LR is the frame of the ground truth, with every pixel repeated."""

    needs_lq = True

    def score(self, sr: Tensor, gt: Tensor, protocol: Protocol, scale: int, lq: Tensor) -> float:
        return (gt - lq.repeat_interleave(2, -1).repeat_interleave(2, -2)).abs().max().item()


def test_metrics_get_the_lr_frame_of_the_ground_truth() -> None:
    evaluator = Evaluator(val_options(), CPU)
    evaluator.metrics["low"] = LowFrame()
    windows = run(evaluator, Nearest(), Repeated())
    assert [record["metrics"]["low"] for record in windows] == [0] * 4
    clips = run(evaluator, EveryFrame(), WholeClips())
    wrong = {r["key"] for r in clips if r["metrics"]["low"] > 0}
    assert wrong == {"clip0/001", "clip1/001"}  # their ground truth differs


@pytest.mark.parametrize("training", [True, False])
def test_training_mode_is_restored(training: bool) -> None:
    net = Nearest().train(training)
    run(Evaluator(val_options(), CPU), net, Repeated())
    assert net.modes == [False] * 4
    assert net.training is training


def test_training_mode_is_restored_after_a_failure() -> None:
    net = Nearest(scale=3).train()  # does not fit the data
    with pytest.raises(UserError, match="shape"):
        run(Evaluator(val_options(), CPU), net, Repeated())
    assert net.training


def test_bf16_scores_are_computed_in_full_precision() -> None:
    class Convolution(Nearest):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1, bias=False)
            nn.init.dirac_(self.conv.weight)

        def forward(self, lq: Tensor) -> Tensor:
            return super().forward(self.conv(lq))

    images: dict[str, Tensor] = {}
    net = Convolution()
    nn.init.constant_(net.conv.weight, 1 / 3)
    records = run(Evaluator(val_options(), CPU, "bf16"), net, Repeated(), images.__setitem__)
    for name, image in images.items():
        lq = Repeated()[int(name[5:])]["lq"][1].astype(np.float64).mean(0) / 255
        error = np.abs(image[0, ::2, ::2].numpy() - lq).max()
        assert 1e-4 < error < 8e-3  # 8 bits of mantissa
        assert image.dtype == torch.float32
    assert 0 < average(records)["psnr"] < 40


class Missing(Metric):
    higher_is_better, digits, paper = False, 4, ""

    def score(self, sr: Tensor, gt: Tensor, protocol: Protocol, scale: int) -> float:
        raise MetricUnavailable("the backbone is not here")


def test_an_unavailable_metric_is_none_and_reported_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    module.warn_once.cache_clear()
    with caplog.at_level(logging.WARNING, "srtoolbox"):
        for _ in range(2):
            evaluator = Evaluator(val_options(), CPU)
            evaluator.metrics["other"] = Missing()
            records = run(evaluator, Nearest(), Repeated())
    assert [record["metrics"]["other"] for record in records] == [None] * 4
    assert average(records) == {"psnr": math.inf, "other": None}
    assert [record.message for record in caplog.records] == [
        "other is left out: the backbone is not here"
    ]


class TestAverage:
    records = [  # noqa: RUF012
        {"key": key, "metrics": {"psnr": value}}
        for key, value in (("a/0", 10.0), ("a/1", 20.0), ("a/2", 30.0), ("b/0", 50.0))
    ]

    def test_over_images(self) -> None:
        assert average(self.records) == {"psnr": 27.5}

    def test_over_clips(self) -> None:
        assert average(self.records, "clips") == {"psnr": 35.0}

    def test_a_gap_makes_no_other_mean(self) -> None:
        gap = [*self.records, {"key": "b/1", "metrics": {"psnr": None}}]
        assert average(gap) == average(gap, "clips") == {"psnr": None}
        assert mean([]) is None
        assert average([]) == {}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"protocol": "basicsr"}, "protocol: unknown protocol 'basicsr'.*'basicsr-y'"),
        ({"best_metric": "ssim"}, "best_metric: 'ssim' is not one of .*psnr"),
        ({"metrics": {"psnr": {"type": "PSNRR"}}}, "metrics.psnr.type.*'PSNR'"),
        ({"val_freq": 0}, "val_freq: must be >= 1"),
    ],
)
def test_faulty_sections(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        val_options(**options)


def test_bursts_give_the_reference_frame_to_a_single_image_network() -> None:
    dataset = SampleBursts("val", num_frame=3, gt_size=64, num_burst=3)
    scores = average(run(Evaluator(val_options(), CPU), Bicubic(4), dataset))
    assert scores["psnr"] > 20  # of a frame that is not aligned it would be less


BICUBIC = {  # MATLAB bicubic, luma, border of the scale: the numbers of the field's tables
    ("Set5", 2): (33.679, 0.9304),
    ("Set5", 3): (30.406, 0.8690),
    ("Set5", 4): (28.432, 0.8113),
    ("Set14", 2): (30.329, 0.8700),
    ("Set14", 3): (27.635, 0.7760),
    ("Set14", 4): (26.093, 0.7049),
}


@pytest.mark.slow
@pytest.mark.parametrize("made", [False, True], ids=["official_lr", "our_lr"])
@pytest.mark.parametrize(("name", "scale"), BICUBIC)
def test_published_bicubic_scores(reference: Path, name: str, scale: int, made: bool) -> None:
    root = reference / "data" / name
    if not root.is_dir():
        pytest.skip(f"no {name} in {root.parent}")
    lq = None if made else str(root / "LR_bicubic" / f"X{scale}")
    dataset = PairedImages(dataroot_gt=str(root / "HR"), dataroot_lq=lq, scale=scale)
    metrics = {"psnr": PSNR, "ssim": {"type": "SSIM"}}
    evaluator = Evaluator(val_options(protocol="basicsr-y", metrics=metrics), CPU)
    scores = average(run(evaluator, Bicubic(scale), dataset))
    psnr, ssim = BICUBIC[name, scale]
    assert scores["psnr"] == pytest.approx(psnr, abs=1e-3)
    assert scores["ssim"] == pytest.approx(ssim, abs=1e-4)


class Narrow(Nearest):
    """Has memory for LR images of up to 1,200 pixels."""

    def forward(self, lq: Tensor) -> Tensor:
        if lq.shape[-1] * lq.shape[-2] > 1200:
            raise torch.OutOfMemoryError("out of memory")
        return super().forward(lq)


class Large(Repeated):
    sizes = ((64, 64), (20, 20), (33, 70))


def test_out_of_memory_goes_on_in_tiles(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "srtoolbox"):
        records = run(
            Evaluator(val_options(metrics={"psnr": PSNR}, tile_halo=0), CPU), Narrow(), Large()
        )
    assert [record["metrics"]["psnr"] for record in records] == [math.inf] * 3
    assert "out of memory at clip/0, LR (3, 3, 64, 64): continuing in tiles of 32" in caplog.text
    assert "clip/2" not in caplog.text


def test_out_of_memory_even_in_tiles_is_a_failure() -> None:
    with pytest.raises(RunError, match=r"even in tiles of 32; lower val\.tile_halo"):
        run(Evaluator(val_options(tile_halo=16), CPU), Narrow(), Large())


def test_tiles_are_in_the_description() -> None:
    assert val_options(tile=128).describe().endswith("In tiles of 128 with a halo of 64.")


class SpaceTime(Repeated):
    """Two windows of a clip, three HR frames each from two LR ones; they share a frame."""

    reference, num_frame, time_scale = None, 2, 2

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> dict[str, Any]:
        frames = np.random.default_rng(0).integers(0, 256, (5, 3, 16, 20), dtype=np.uint8)
        frames = frames[2 * index : 2 * index + 3]
        return {
            "key": "clip",
            "lq": frames[::2],
            "gt": frames.repeat(2, -1).repeat(2, -2),
            "frames": [f"{2 * index + t}" for t in range(3)],
            "kinds": ["given", "interpolated", "given"],
            "scored": [0, 1, 2][index:],
        }


class Holding(Nearest):
    """Restores given frames exactly and shows the earlier one for those between."""

    num_frame, restores_all, time_scale = None, True, 2

    def forward(self, lq: Tensor) -> Tensor:
        return super().forward(lq).repeat_interleave(2, 1)[:, :-1]


def test_given_and_interpolated_frames_have_scores_of_their_own() -> None:
    records = run(Evaluator(val_options(), CPU), Holding(), SpaceTime())
    assert [record["key"] for record in records] == [f"clip/{t}" for t in range(5)]
    assert [record["kind"] for record in records] == ["given", "interpolated"] * 2 + ["given"]
    for over in ("images", "clips"):
        scores = average(records, over)
        assert list(scores) == ["psnr", "psnr_given", "psnr_interpolated"]
        assert scores["psnr_given"] == math.inf
        assert 0 < scores["psnr_interpolated"] < 12


def test_a_network_must_give_all_frames() -> None:
    class Short(Holding):
        def forward(self, lq: Tensor) -> Tensor:
            return super().forward(lq)[:, :-1]

    with pytest.raises(
        UserError, match=r"Short .* shape \(1, 2, 3, 32, 40\) .* return .* \(1, 3, 3, 32, 40\)"
    ):
        run(Evaluator(val_options(), CPU), Short(), SpaceTime())


class Windows:
    """Two clips, a frame at a time; the network is right."""

    scale, num_frame, reference = 2, 1, 0
    keys = ("a/0", "a/1", "a/2", "b/0", "b/1")
    clip_names = tuple(key[0] for key in keys)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = np.random.default_rng(index)
        lq = rng.integers(50, 200, (1, 3, 16, 16), dtype=np.uint8)
        gt = lq[0].repeat(2, 1).repeat(2, 2)
        if self.keys[index] == "a/1":
            gt = gt + np.uint8(10)
        return {"key": self.keys[index], "lq": lq, "gt": gt}


def test_metrics_of_neighbouring_frames_are_one_value_per_clip() -> None:
    records = run(Evaluator(val_options(metrics=OF_CLIPS), CPU), Nearest(), Windows())
    assert [record["key"] for record in records] == list(Windows.keys)
    values = [record["metrics"]["tpsnr"] for record in records]
    assert values[0] == values[1] == values[2] == pytest.approx(20 * math.log10(255 / 10))
    assert values[3:] == [math.inf, math.inf]


@pytest.mark.parametrize("rank", [0, 1])
def test_processes_share_whole_clips(rank: int) -> None:
    evaluator = Evaluator(val_options(metrics=OF_CLIPS), CPU)
    groups = evaluator._share(Windows(), Ranks(rank, 2))
    found = [Windows.keys[i] for group in groups for i in group]
    assert found == [key for key in Windows.keys if key[0] == "ab"[rank]]


def test_images_have_no_neighbouring_frames() -> None:
    evaluator = Evaluator(val_options(metrics=OF_CLIPS), CPU)
    with pytest.raises(
        UserError, match=r"metrics tpsnr compare .* need clips; Repeated provides single images"
    ):
        run(evaluator, Nearest(), Repeated())


def test_a_clip_needs_a_ground_truth_of_every_frame() -> None:
    class Shorter(WholeClips):
        def __getitem__(self, index: int) -> dict[str, Any]:
            sample = super().__getitem__(index)
            return {**sample, "gt": sample["gt"][1:]}

    words = "clip0: the network returned 4 frames, but the ground truth has 3"
    with pytest.raises(UserError, match=words):
        Evaluator(val_options(), CPU).run(EveryFrame(), Shorter())


class Counting(Nearest):
    def __init__(self) -> None:
        super().__init__(gain=1.1)
        self.count = 0

    def forward(self, lq: Tensor) -> Tensor:
        self.count += 1
        return super().forward(lq)


@pytest.mark.parametrize("metrics", [{"psnr": PSNR, "ssim": {"type": "SSIM"}}, OF_CLIPS])
def test_several_protocols_score_one_forward_pass(metrics: dict[str, Any]) -> None:
    names, net, data = ["basicsr-y", "rgb", "matlab-y"], Counting(), Windows()
    evaluator = Evaluator(val_options(metrics=metrics), CPU, protocols=names)
    assert list(evaluator.protocols) == names and evaluator.protocol.name == "basicsr-y"
    images: list[str] = []
    found = evaluator.run(net, data, lambda key, _: images.append(key))
    assert list(found) == names
    assert net.count == len(data) and images == list(data.keys)
    values = []
    for name in names:
        alone = run(Evaluator(val_options(protocol=name, metrics=metrics), CPU), Counting(), data)
        for record in [*alone, *found[name]]:
            assert record.pop("seconds") > 0
        assert found[name] == alone
        values.append([record["metrics"] for record in alone])
    assert values[0] != values[1]


def test_protocols_must_want_the_same_frames_of_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator = Evaluator(val_options(), CPU)
    protocols = {"all": Protocol("all"), "inner": Protocol("inner", skip_frames=1)}
    monkeypatch.setattr(evaluator, "protocols", protocols)
    assert len(evaluator.run(Nearest(), Repeated())["inner"]) == 4  # images have no ends
    with pytest.raises(UserError, match=r"different skip_frames .*'all': 0, 'inner': 1"):
        evaluator.run(EveryFrame(), WholeClips())


class Masked(Repeated):
    """Bursts of four bands with clouds; the ground truth below them is noise."""

    sizes = ((16, 20), (17, 31))
    channels = gt_channels = 4

    def __init__(self, masks: bool = True) -> None:
        self.masks = masks

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = np.random.default_rng(index)
        height, width = self.sizes[index]
        lq = rng.integers(0, 65536, (3, 4, height, width), dtype=np.uint16)
        gt = lq[1].repeat(2, 1).repeat(2, 2)
        mask = np.ones((1, *gt.shape[1:]), bool)
        mask[:, 12:20, 10:22] = False
        noise = rng.integers(0, 65536, gt.shape, dtype=np.uint16)
        sample = {"key": f"scene/{index}", "lq": lq, "gt": np.where(mask, gt, noise)}
        return {**sample, "mask": mask} if self.masks else sample


def test_masked_pixels_are_not_scored() -> None:
    metrics = {name.lower(): {"type": name} for name in ("PSNR", "SSIM", "SAM", "ERGAS", "UIQI")}
    evaluator = Evaluator(val_options(protocol="bands", metrics=metrics), CPU)
    best = {"psnr": math.inf, "ssim": 1, "sam": 0, "ergas": 0, "uiqi": 1}
    for record in run(evaluator, Nearest(), Masked()):
        assert record["metrics"] == pytest.approx(best, abs=1e-9)
        assert set(record) == {"key", "seconds", "metrics"}
    for record in run(evaluator, Nearest(), Masked(masks=False)):
        assert record["metrics"]["psnr"] < 20


class MaskedClips(WholeClips):
    """The wrong frame is masked, but for a border that the network has right."""

    clip_names = ("clip0", "clip1")

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = super().__getitem__(index)
        gt = sample["gt"]
        gt[1, :, :, :16] -= 10
        mask = np.ones((len(gt), 1, *gt.shape[2:]), bool)
        mask[1, :, :, 16:] = False
        return {**sample, "mask": mask}


def test_clips_have_a_mask_for_each_frame() -> None:
    records = run(Evaluator(val_options(metrics=OF_CLIPS), CPU), EveryFrame(), MaskedClips())
    assert {record["metrics"][name] for record in records for name in OF_CLIPS} == {math.inf}


def test_a_mask_without_a_valid_pixel_names_the_image() -> None:
    class Dark(Masked):
        def __getitem__(self, index: int) -> dict[str, Any]:
            sample = super().__getitem__(index)
            return {**sample, "mask": np.zeros_like(sample["mask"])}

    with pytest.raises(RunError, match=r"^scene/0: PSNR: the mask leaves no pixel to score"):
        run(Evaluator(val_options(protocol="bands"), CPU), Nearest(), Dark())


class Named(Metric):
    """Needs the key."""

    higher_is_better, digits, paper, needs_key = True, 1, "", True

    def score(self, sr: Tensor, gt: Tensor, protocol: Protocol, scale: int, key: str) -> float:
        return float(key.rpartition("/")[2])


def test_metrics_can_get_the_key() -> None:
    evaluator = Evaluator(val_options(), CPU)
    evaluator.metrics["named"] = Named()
    records = run(evaluator, Nearest(), Repeated())
    assert [record["metrics"]["named"] for record in records] == [0, 1, 2, 3]


@pytest.mark.parametrize("bands", [[1, 2], [], [0, 1, 2]])
def test_faulty_bands_of_pictures(bands: list[int]) -> None:
    with pytest.raises(UserError, match=r"rgb_bands"):
        val_options(rgb_bands=bands)
