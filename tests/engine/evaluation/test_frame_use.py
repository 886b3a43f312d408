"""Tests the measure with networks whose use of the frames is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from srtoolbox.archs.edsr import EDSR
from srtoolbox.config.schema import check
from srtoolbox.engine.evaluation.frame_use import all_frames, frame_use
from srtoolbox.engine.evaluation.records import BLIND, SHUFFLED, gain_from_frames
from srtoolbox.engine.options import ValOptions
from srtoolbox.errors import UserError

CPU = torch.device("cpu")
OPTIONS = check(
    {"protocol": "rgb", "metrics": {"ssim": {"type": "SSIM"}, "psnr": {"type": "PSNR"}}}, ValOptions
)


class Noisy:
    """Seven noisy views of one grey image each; the fourth is the reference."""

    scale, num_frame, reference = 1, 7, 3

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = np.random.default_rng(index)
        noise = 0.1 * rng.standard_normal((7, 3, 16, 16))
        gt = np.full((3, 16, 16), 0.5, np.float32)
        return {"key": str(index), "lq": (gt + noise).astype(np.float32), "gt": gt}


class Frames(nn.Module):
    """A weighted mean of the frames it is given; remembers them."""

    scale, scales, size_multiple, min_size = 1, (1,), 1, 1

    def __init__(self, weights: list[float] | None = None, num_frame: int | None = None) -> None:
        super().__init__()
        self.weights, self.num_frame = weights, num_frame
        self.reference = 0 if num_frame is None else num_frame // 2
        self.seen: list[Tensor] = []

    def forward(self, lq: Tensor) -> Tensor:
        self.seen.append(lq)
        if self.weights is None:
            return lq.mean(1)
        return (torch.tensor(self.weights)[:, None, None, None] * lq).sum(1)


def test_a_network_that_averages_gains_with_every_frame() -> None:
    scores = frame_use(Frames(), Noisy(), OPTIONS, CPU)
    assert list(scores) == ["1 frame", "3 frames", "5 frames", "7 frames", BLIND, SHUFFLED]
    assert scores["7 frames"] == pytest.approx(scores["1 frame"] + 10 * np.log10(7), abs=0.3)
    assert scores["1 frame"] < scores["3 frames"] < scores["5 frames"] < scores["7 frames"]
    assert scores[BLIND] == pytest.approx(scores["1 frame"], abs=1e-3)
    assert scores[SHUFFLED] == pytest.approx(scores["7 frames"], abs=1e-3)


def test_a_network_that_looks_at_the_reference_alone_is_detected() -> None:
    net = Frames([0, 0, 0, 1, 0, 0, 0], num_frame=7)
    scores = frame_use(net, Noisy(), OPTIONS, CPU)
    assert len(set(scores.values())) == 1


def test_a_network_that_minds_the_order_is_detected() -> None:
    net = Frames([0.4, 0, 0, 0.6, 0, 0, 0], num_frame=7)
    sample = Noisy()[0]["lq"]
    scores = frame_use(net, Noisy(), OPTIONS, CPU, counts=[3])
    assert list(scores) == ["3 frames", "7 frames", BLIND, SHUFFLED]
    first = [lq[0].numpy() for lq in net.seen[::3]]  # of sample 0, for each of the variants
    np.testing.assert_array_equal(first[0], sample[[3, 3, 2, 3, 4, 3, 3]])
    np.testing.assert_array_equal(first[1], sample)
    np.testing.assert_array_equal(first[2], sample[[3] * 7])
    assert not np.array_equal(first[3], sample)
    np.testing.assert_array_equal(first[3][3], sample[3])
    assert sorted(first[3].sum((1, 2, 3))) == sorted(sample.sum((1, 2, 3)))
    net.seen.clear()
    assert frame_use(net, Noisy(), OPTIONS, CPU, counts=[3]) == scores


def test_what_is_known_is_not_measured_again() -> None:
    net, data = Frames(), Noisy()
    known = {all_frames(data): 17.0}
    scores = frame_use(net, data, OPTIONS, CPU, counts=(), known=known, shuffled=False)
    assert list(scores) == ["7 frames", BLIND] and scores["7 frames"] == 17.0
    assert len(net.seen) == len(data)
    assert frame_use(net, data, OPTIONS, CPU, counts=(), known=scores, shuffled=False) == scores
    assert len(net.seen) == len(data)


def test_the_reference_goes_where_a_network_expects_it() -> None:
    net = Frames()
    frame_use(net, Noisy(), OPTIONS, CPU, counts=[3])
    sample = Noisy()[0]["lq"]
    np.testing.assert_array_equal(net.seen[0][0].numpy(), sample[[3, 2, 4]])
    np.testing.assert_array_equal(net.seen[3][0].numpy(), sample[[3, 0, 1, 2, 4, 5, 6]])


def test_unusable_networks_and_datasets() -> None:
    with pytest.raises(UserError, match="EDSR takes single images"):
        frame_use(EDSR(num_feat=4, num_block=1), Noisy(), OPTIONS, CPU)
    every = Noisy()
    every.reference = None
    with pytest.raises(UserError, match="target: centre"):
        frame_use(Frames(), every, OPTIONS, CPU)


def test_gain_from_frames() -> None:
    assert gain_from_frames({"1 frame": 20.0, "5 frames": 23.5, BLIND: 20.5, SHUFFLED: 23.4}) == 3.0
    assert gain_from_frames({"1 frame": np.inf, "5 frames": np.inf, BLIND: np.inf}) == 0
    assert (
        gain_from_frames({"1 frame": None, "5 frames": None, BLIND: None, SHUFFLED: None}) is None
    )


def test_bands_and_masks_are_those_of_the_evaluation() -> None:
    """The other bands and the masked pixels are wrong, but neither counts."""

    class FourBands(Noisy):
        def __getitem__(self, index: int) -> dict[str, Any]:
            sample = super().__getitem__(index)
            lq, gt = (
                np.concatenate([sample[name]] * 2, -3)[..., :4, :, :] for name in ("lq", "gt")
            )
            lq[:, 3], mask = 0, np.ones((1, 16, 16), bool)
            lq[..., :4, :], mask[:, :4] = 0, False
            return {**sample, "lq": lq, "gt": gt, "mask": mask}

    metrics = {"psnr": {"type": "PSNR", "bands": [3, 2, 1]}, "nir": {"type": "PSNR", "bands": [4]}}
    options = check({"protocol": "rgb", "metrics": metrics}, ValOptions)
    masked, plain = (
        frame_use(Frames(), data, opt, CPU)
        for data, opt in ((FourBands(), options), (Noisy(), OPTIONS))
    )
    assert masked["7 frames"] == pytest.approx(plain["7 frames"], abs=0.3)
    assert gain_from_frames(masked) == pytest.approx(gain_from_frames(plain), abs=0.3)
