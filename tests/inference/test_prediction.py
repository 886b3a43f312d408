"""Tests combinations of enhancements of one forward pass."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from srtoolbox.archs.bicubic import Bicubic
from srtoolbox.config.schema import check
from srtoolbox.data.resize.tensor import imresize_tensor
from srtoolbox.errors import UserError
from srtoolbox.inference.prediction import EnhanceOptions, predict


class Blurred(nn.Module):
    """The last frame, enlarged and too dark."""

    scales, num_frame, reference, scale, size_multiple, min_size = (2,), 3, 2, 2, 1, 1

    def forward(self, lq: Tensor) -> Tensor:
        return 0.9 * Bicubic(2)(lq[:, 2])


def test_back_projection_is_onto_the_reference_frame() -> None:
    lq = torch.rand(1, 3, 3, 6, 9, generator=torch.Generator().manual_seed(0))
    enhance = EnhanceOptions(self_ensemble=True, back_projection=80)
    sr = predict(Blurred(), lq, 1, enhance)
    assert torch.allclose(imresize_tensor(sr, 1 / 2, edge="replicate"), lq[:, 1], atol=1e-5)
    assert not torch.allclose(predict(Blurred(), lq, 1), sr, atol=1e-2)
    assert not sr.requires_grad


def test_words() -> None:
    assert EnhanceOptions().describe() == ""
    everything = EnhanceOptions(self_ensemble=True, back_projection=1, cascade=2)
    assert everything.describe() == (
        "Predicted with a cascade of 2 networks and geometric self-ensemble ×8 and "
        "1 iteration of back-projection (replicate edge)."
    )


def test_only_what_changes_scores_counts() -> None:
    assert EnhanceOptions(in_training=True, back_projection_edge="symmetric").changed == {}
    changed = EnhanceOptions(back_projection=3, back_projection_edge="symmetric").changed
    assert changed == {"back_projection": 3, "back_projection_edge": "symmetric"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"back_projection": -1}, "back_projection: must be >= 0, got -1"),
        ({"back_projection": 1, "back_projection_edge": "wrap"}, "back_projection_edge: expected"),
        ({"cascade": 0}, "cascade: must be >= 1"),
        ({"cascade_weights": "x2.pth"}, "cascade_weights: there is no second stage"),
        ({"self_ensembel": True}, "did you mean 'self_ensemble'"),
    ],
)
def test_faulty_options(options: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        check(options, EnhanceOptions)


class Between(nn.Module):
    """All frames, enlarged and too dark, and the mean of each two between them."""

    scales, num_frame, scale, time_scale, size_multiple, min_size = (2,), None, 2, 2, 1, 1
    restores_all = True

    def forward(self, lq: Tensor) -> Tensor:
        frames = [lq[:, 0]]
        for t in range(1, lq.shape[1]):
            frames += [(lq[:, t - 1] + lq[:, t]) / 2, lq[:, t]]
        return 0.9 * Bicubic(2)(torch.stack(frames, 1).flatten(0, 1)).unflatten(0, (len(lq), -1))


def test_space_and_time() -> None:
    lq = torch.rand(1, 3, 3, 6, 9, generator=torch.Generator().manual_seed(0))
    plain = predict(Between(), lq, None)
    assert plain.shape == (1, 5, 3, 12, 18)
    both = predict(Between(), lq, None, EnhanceOptions(self_ensemble=True, back_projection=80))
    assert torch.allclose(imresize_tensor(both[:, ::2], 1 / 2, edge="replicate"), lq, atol=1e-5)
    assert torch.allclose(both[:, 1::2], plain[:, 1::2], atol=1e-5)
