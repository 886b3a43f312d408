"""Scoring: records, averages, missing metrics, and the field's published bicubic numbers."""

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
from srtoolbox.data import PairedImages, SampleBursts
from srtoolbox.engine import evaluator as module
from srtoolbox.engine.evaluator import Evaluator, ValSection, average, mean
from srtoolbox.errors import UserError
from srtoolbox.metrics import Metric, MetricUnavailable, Protocol
from srtoolbox.schema import check

CPU = torch.device("cpu")
PSNR = {"type": "PSNR"}


class Nearest(nn.Module):
    """Repeats every pixel, and insists on sizes of 4 · n from 16 on."""

    num_frame, reference, size_multiple, min_size = 1, 0, 4, 16

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


def section(**options: Any) -> ValSection:
    return check({"protocol": "rgb", "metrics": {"psnr": PSNR}, **options}, ValSection)


def test_a_perfect_network_scores_infinite_at_any_size() -> None:
    records = Evaluator(section(), CPU).run(Nearest(), Repeated())
    assert [record["metrics"]["psnr"] for record in records] == [math.inf] * 4
    assert average(records) == {"psnr": math.inf}


def test_records() -> None:
    seen: dict[str, Tensor] = {}
    net = Nearest(gain=1.5)
    records = Evaluator(section(), CPU).run(net, Repeated(), seen.__setitem__)
    assert [record["key"] for record in records] == [f"clip/{i}" for i in range(4)]
    assert all(set(record) == {"key", "seconds", "metrics"} for record in records)
    assert all(record["seconds"] > 0 for record in records)
    assert list(seen) == [record["key"] for record in records]
    assert seen["clip/1"].shape == (3, 34, 62)
    assert seen["clip/1"].max() == 1  # clamped
    again = Evaluator(section(), CPU).run(net, Repeated())
    assert [r["metrics"] for r in again] == [r["metrics"] for r in records]


@pytest.mark.parametrize("training", [True, False])
def test_training_mode_is_restored(training: bool) -> None:
    net = Nearest().train(training)
    Evaluator(section(), CPU).run(net, Repeated())
    assert net.modes == [False] * 4
    assert net.training is training


def test_training_mode_is_restored_after_a_failure() -> None:
    net = Nearest(scale=3).train()  # does not fit the data
    with pytest.raises(UserError, match="shape"):
        Evaluator(section(), CPU).run(net, Repeated())
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
    records = Evaluator(section(), CPU, "bf16").run(net, Repeated(), images.__setitem__)
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


def test_an_unavailable_metric_is_none_and_said_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    module._warn_once.cache_clear()
    with caplog.at_level(logging.WARNING, "srtoolbox"):
        for _ in range(2):
            evaluator = Evaluator(section(), CPU)
            evaluator.metrics["other"] = Missing()
            records = evaluator.run(Nearest(), Repeated())
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
        ({"best_metric": "ssim"}, "best_metric: 'ssim' is none of"),
        ({"metrics": {"psnr": {"type": "PSNRR"}}}, "metrics.psnr.type.*'PSNR'"),
        ({"val_freq": 0}, "val_freq: must be >= 1"),
    ],
)
def test_faulty_sections(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        section(**options)


def test_bursts_give_the_reference_frame_to_a_single_image_network() -> None:
    dataset = SampleBursts("val", num_frame=3, gt_size=64, num_burst=3)
    scores = average(Evaluator(section(), CPU).run(Bicubic(4), dataset))
    assert scores["psnr"] > 20  # of a frame that is not aligned it would be less


BICUBIC = {  # MATLAB bicubic, luma, border of the scale: the numbers of the field's tables
    ("Set5", 2): (33.679, 0.9304),
    ("Set5", 3): (30.406, 0.8690),
    ("Set5", 4): (28.432, 0.8113),
    ("Set14", 2): (30.329, 0.8700),
    ("Set14", 3): (27.635, 0.7760),
    ("Set14", 4): (26.093, 0.7049),
}


@pytest.mark.parametrize("made", [False, True], ids=["official_lr", "our_lr"])
@pytest.mark.parametrize(("name", "scale"), BICUBIC)
def test_published_bicubic_scores(reference: Path, name: str, scale: int, made: bool) -> None:
    root = reference / "data" / name
    if not root.is_dir():
        pytest.skip(f"no {name} in {root.parent}")
    lq = None if made else str(root / "LR_bicubic" / f"X{scale}")
    dataset = PairedImages(str(root / "HR"), lq, scale=scale)
    metrics = {"psnr": PSNR, "ssim": {"type": "SSIM"}}
    evaluator = Evaluator(section(protocol="basicsr-y", metrics=metrics), CPU)
    scores = average(evaluator.run(Bicubic(scale), dataset))
    psnr, ssim = BICUBIC[name, scale]
    assert scores["psnr"] == pytest.approx(psnr, abs=1e-3)
    assert scores["ssim"] == pytest.approx(ssim, abs=1e-4)
