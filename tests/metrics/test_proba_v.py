"""cPSNR and the score of the PROBA-V challenge, against the challenge's rule in plain loops."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from srtoolbox.config.schema import build
from srtoolbox.errors import UserError
from srtoolbox.metrics import CPSNR, ProbaVScore, Protocol, get_protocol

_PROBAV = {"protocol": get_protocol("probav"), "scale": 3}


def _pair(channels: int = 1, side: int = 40) -> tuple[Tensor, Tensor, Tensor]:
    """Returns a result, a smooth ground truth with noise, and a mask of clear pixels."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side + 2), indexing="ij")
    waves = [torch.sin(x * 0.3 + i) * torch.cos(y * 0.2 - i) for i in range(channels)]
    gt = 0.2 + 0.05 * torch.stack(waves)
    gt += 0.01 * torch.randn(gt.shape, generator=generator)
    sr = gt + 0.01 * torch.randn(gt.shape, generator=generator)
    mask = torch.rand(1, side, side + 2, generator=generator) > 0.2
    mask[:, 5:12, 20:31] = False
    return sr, gt, mask


def _by_loops(sr: Tensor, gt: Tensor, mask: Tensor, shift: int = 3) -> float:
    x, y, clear = sr.double().numpy(), gt.double().numpy(), mask.numpy()[0]
    height, width = x.shape[1] - 2 * shift, x.shape[2] - 2 * shift
    best = -math.inf
    for u in range(2 * shift + 1):
        for v in range(2 * shift + 1):
            errors = []
            for band in range(len(x)):
                hr = y[band, u : u + height, v : v + width]
                result = x[band, shift : shift + height, shift : shift + width]
                valid = clear[u : u + height, v : v + width]
                bias = (hr - result)[valid].mean()
                errors.append(((hr - (result + bias)) ** 2)[valid].mean())
            best = max(best, -10 * math.log10(np.mean(errors)))
    return best


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("moved", [(0, 0), (2, -3)])
def test_the_rule_of_the_challenge(channels, moved):
    sr, gt, mask = _pair(channels)
    sr = sr.roll(moved, (1, 2))
    for valid in (mask, torch.ones_like(mask)):
        value = CPSNR()(sr, gt, mask=valid, **_PROBAV)
        assert value == pytest.approx(_by_loops(sr, gt, valid), rel=1e-12)
    assert CPSNR(shift=1)(sr, gt, mask=mask, **_PROBAV) == pytest.approx(
        _by_loops(sr, gt, mask, 1), rel=1e-12
    )


def test_brightness_and_shifts_do_not_count():
    sr, gt, mask = _pair()
    values = [
        CPSNR()(image, gt, mask=mask, **_PROBAV)
        for image in (sr, sr + 0.1, sr - 0.05, sr.roll((3, 3), (1, 2)), sr.roll((-3, 1), (1, 2)))
    ]
    assert values[1:3] == pytest.approx([values[0]] * 2, rel=1e-6)
    assert values[3:] == pytest.approx([values[0]] * 2, abs=0.5)  # of other pixels at the border
    assert CPSNR()(sr.roll(4, 2), gt, mask=mask, **_PROBAV) < values[0] - 3
    assert CPSNR(shift=0)(sr.roll(1, 2), gt, mask=mask, **_PROBAV) < values[0] - 3
    assert CPSNR()(gt.roll((1, -2), (1, 2)), gt, mask=mask, **_PROBAV) == math.inf


def test_each_band_has_its_own_brightness():
    sr, gt, mask = _pair(2)
    brighter = sr + torch.tensor([0.1, -0.1]).reshape(2, 1, 1)
    expected = CPSNR()(sr, gt, mask=mask, **_PROBAV)
    assert CPSNR()(brighter, gt, mask=mask, **_PROBAV) == pytest.approx(expected, rel=1e-6)


def test_masked_pixels_of_the_truth_change_nothing_at_any_shift():
    sr, gt, mask = _pair()
    sr = sr.roll((2, 1), (1, 2))
    noise = torch.where(mask, gt, torch.rand(gt.shape))
    assert CPSNR()(sr, noise, mask=mask, **_PROBAV) == CPSNR()(sr, gt, mask=mask, **_PROBAV)


def test_white_levels_are_converted_back_to_sixteen_bits():
    sr, gt, mask = _pair()
    values = CPSNR()(sr, gt, mask=mask, **_PROBAV)
    brighter = (image * 65535 / 32767 for image in (sr, gt))
    same = CPSNR(white_level=32767)(*brighter, mask=mask, **_PROBAV)
    assert same == pytest.approx(values, abs=1e-4)


def test_broken_and_small_images():
    sr, gt, _ = _pair()
    assert math.isnan(CPSNR()(sr * math.nan, gt, **_PROBAV))
    small = torch.rand(1, 10, 10)
    assert CPSNR()(small, small, **_PROBAV) == math.inf
    with pytest.raises(UserError, match=r"CPSNR: needs 7×7 pixels, but protocol 't' leaves 6×6"):
        CPSNR()(small, small, protocol=Protocol("t", crop_border=2), scale=3)
    with pytest.raises(UserError, match="CPSNR: shift must be at least 0, got -1"):
        CPSNR(shift=-1)
    with pytest.raises(UserError, match="CPSNR: white_level must be from 1 to 65535, got 0"):
        CPSNR(white_level=0)


@pytest.fixture
def norm(tmp_path: Path) -> Path:
    file = tmp_path / "norm.csv"
    file.write_text("imgset0594 45.5\nimgset0595 50\n\n")
    return file


def test_score(norm):
    sr, gt, mask = _pair()
    cpsnr = CPSNR()(sr, gt, mask=mask, **_PROBAV)
    metric = build("metric", {"type": "ProbaVScore", "norm": str(norm)})
    for key, baseline in (("imgset0594", 45.5), ("RED/imgset0595", 50), ("imgset0595/SR", 50)):
        assert metric(sr, gt, mask=mask, key=key, **_PROBAV) == baseline / cpsnr
    assert metric(gt, gt, mask=mask, key="imgset0594", **_PROBAV) == 0
    assert ProbaVScore(norm, white_level=1)(sr, gt, key="imgset0594", **_PROBAV) < 45.5 / cpsnr
    checks = torch.tensor([0.0, 1.0]).repeat(6).view(1, 1, 12).repeat(1, 12, 1)
    noise = (torch.rand(1, 12, 12) > 0.5).float()
    value = CPSNR()(noise, checks, **_PROBAV)
    assert 0 < value < 10
    for key in ("imgset0001", None):
        with pytest.raises(UserError, match=r"ProbaVScore: .*norm\.csv has no line for"):
            metric(sr, gt, key=key, **_PROBAV)


def test_identity_has_the_content_of_the_file(norm, tmp_path):
    copy = tmp_path / "copy.csv"
    copy.write_bytes(norm.read_bytes())
    first, second = (
        ProbaVScore(file).identity({"type": "ProbaVScore", "norm": str(file)})
        for file in (norm, copy)
    )
    assert first == second
    copy.write_text("imgset0594 45.6")
    assert ProbaVScore(copy).identity({"type": "ProbaVScore", "norm": str(copy)}) != first


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"imgset0594\n", r":1: expected the name of a scene and its cPSNR.*got 'imgset0594'"),
        (b"a 45\nb 4 5\n", r":2: expected .* got 'b 4 5'"),
        (b"a nan\n", r":1: expected"),
        (b"a -3\n", r":1: expected"),
        (b"\xff\xfe\x00", "cannot be read .it is no text file"),
        (b"\n", "it has no scenes"),
        (None, "cannot be read .No such file"),
    ],
)
def test_faulty_files(tmp_path, content, words):
    file = tmp_path / "norm.csv"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=rf"ProbaVScore: norm: .*norm\.csv.*{words}"):
        ProbaVScore(file)
