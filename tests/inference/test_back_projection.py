"""Back-projection: steps that make the error smaller every time."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from skimage import data as photographs
from torch import Tensor

from srtoolbox.archs.layers.upsample import bicubic_upsample
from srtoolbox.data.resize.array import imresize
from srtoolbox.data.resize.tensor import imresize_tensor
from srtoolbox.errors import UserError
from srtoolbox.inference.back_projection import back_project

EDGES = ["replicate", "symmetric"]


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    return photographs.astronaut()[60:252, 120:336]


def tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None] / 255


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_error_shrinks_with_every_iteration(
    photograph: np.ndarray, scale: int, edge: str
) -> None:
    lq = tensor(imresize(photograph, 1 / scale, edge=edge)).double()
    sr = bicubic_upsample(lq, scale)
    errors = []
    for _ in range(60):
        errors.append((imresize_tensor(sr, 1 / scale, edge=edge) - lq).norm().item())
        sr = back_project(sr, lq, scale, 1, edge)
    assert all(after < 0.78 * before for before, after in itertools.pairwise(errors))
    assert errors[-1] < 1e-6 * errors[0]


def test_iterations_add_up() -> None:
    lq = torch.rand(2, 3, 7, 5, generator=torch.Generator().manual_seed(0))
    sr = bicubic_upsample(lq, 2)
    assert torch.equal(back_project(sr, lq, 2, 0), sr)
    twice = back_project(back_project(sr, lq, 2, 1), lq, 2, 1)
    assert torch.equal(back_project(sr, lq, 2, 2), twice)


def test_it_raises_the_psnr_of_bicubic(photograph: np.ndarray) -> None:
    lq = tensor(imresize(photograph, 1 / 4, edge="replicate", round_between_passes=True))
    gt, before = tensor(photograph), bicubic_upsample(lq, 4)

    def psnr(sr: Tensor) -> float:
        return -10 * math.log10((sr.clamp(0, 1) - gt).square().mean())

    assert psnr(back_project(before, lq, 4, 10)) > psnr(before) + 0.3


def test_half_precision_is_corrected_in_full() -> None:
    lq = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    sr = bicubic_upsample(lq, 2).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        corrected = back_project(sr, lq, 2, 60)
    assert corrected.dtype == torch.float32
    assert torch.allclose(imresize_tensor(corrected, 1 / 2, edge="replicate"), lq, atol=1e-5)


def test_images_of_other_channels_cannot_be_compared() -> None:
    sr, lq = torch.rand(1, 3, 8, 8), torch.rand(1, 1, 4, 4)
    with pytest.raises(UserError, match=r"have 3 and 1 channels; set val\.enhance\."):
        back_project(sr, lq, 2, 1)
    assert torch.equal(back_project(sr, lq, 2, 0), sr)
