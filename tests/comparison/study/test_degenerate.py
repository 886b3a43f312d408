"""Trivial outputs are recognised; outputs of networks that learned something are not."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from srtoolbox.archs.layers.upsample import bicubic_upsample
from srtoolbox.comparison.study.degenerate import CONSTANT, ENLARGED, degenerate_output
from srtoolbox.data import SampleBursts
from srtoolbox.data.stream import to_float


@pytest.fixture(scope="module")
def images() -> list[tuple[torch.Tensor, torch.Tensor]]:
    data = SampleBursts("test", num_frame=1, gt_size=64, num_burst=3)
    samples = [data[i] for i in range(len(data))]
    return [
        (to_float(torch.from_numpy(s["lq"][0])), to_float(torch.from_numpy(s["gt"])))
        for s in samples
    ]


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
def test_an_enlarged_frame_with_another_brightness(images, mode: str) -> None:
    def enlarge(lq: torch.Tensor) -> torch.Tensor:
        if mode == "bicubic":
            return bicubic_upsample(lq[None], 4)[0]
        return F.interpolate(lq[None], scale_factor=4, mode=mode)[0]

    assert degenerate_output((lq, enlarge(lq) + 0.02, gt) for lq, gt in images) == ENLARGED


def test_constant_colours(images) -> None:
    outputs = ((lq, gt.mean((1, 2), keepdim=True).expand_as(gt), gt) for lq, gt in images)
    assert degenerate_output(outputs) == CONSTANT


def test_outputs_that_approach_the_ground_truth(images) -> None:
    for weight in (0.2, 1.0):
        outputs = (
            (lq, torch.lerp(bicubic_upsample(lq[None], 4)[0], gt, weight), gt) for lq, gt in images
        )
        assert degenerate_output(outputs) is None


def test_a_single_trivial_image_does_not_count(images) -> None:
    (lq, gt), *others = images
    outputs = [(lq, bicubic_upsample(lq[None], 4)[0], gt), *((x, y, y) for x, y in others)]
    assert degenerate_output(outputs) is None


def test_packed_raw_has_no_enlarged_frame(images) -> None:
    lq, gt = images[0]
    raw = torch.cat([lq, lq[:1]])
    assert degenerate_output([(raw, gt, gt)]) is None
    assert degenerate_output([(raw, torch.zeros_like(gt), gt)]) == CONSTANT
