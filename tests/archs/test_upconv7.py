"""The network of waifu2x, and what the published weights score with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from srtoolbox.archs.upconv7 import UpConv7
from srtoolbox.config.load import load_options
from srtoolbox.engine.evaluation.test import run_test
from srtoolbox.engine.options import RunOptions
from srtoolbox.engine.weights.convert import convert
from srtoolbox.engine.weights.load import load, load_weights, read_weights, weights_hash
from srtoolbox.errors import UserError
from srtoolbox.inference.padding import run_padded
from srtoolbox.inference.tiling import run_tiled

CPU = torch.device("cpu")
OPTIONS = Path(__file__).parents[2] / "options" / "test" / "DSRNet" / "dsrnet_x2_official.yml"
VARIANTS = ("", "_noise0", "_noise1", "_noise2", "_noise3")

# PSNR in dB and SSIM on Set5 x2, luma, 2 pixels cropped, without denoising.
SCORES = {"basicsr-y": (37.149, 0.9568), "matlab-y": (37.081, 0.9557)}


def published(reference: Path, variant: str = "") -> Path:
    file = reference / "weights" / "waifu2x" / f"upconv7_photo{variant}_scale2.0x.safetensors"
    if not file.is_file():
        pytest.skip(f"no weights of waifu2x at {file}")
    return file


def test_has_the_published_number_of_parameters() -> None:
    assert sum(parameter.numel() for parameter in UpConv7().parameters()) == 552_483


def test_only_scale_2_exists() -> None:
    with pytest.raises(UserError, match="UpConv7: scale 4 is not available; use one of 2"):
        UpConv7(4)


def test_starts_with_outputs_of_the_size_of_its_inputs() -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        sr = UpConv7()(torch.rand(1, 3, 16, 16))
    assert 0.1 < sr.std() < 3


def test_receptive_field_reaches_7_pixels() -> None:
    net = UpConv7()
    lq = torch.rand(1, 3, 31, 31, requires_grad=True)
    net(lq)[..., 30:32, 30:32].sum().backward()  # the four SR pixels of the LR pixel 15
    assert lq.grad is not None
    rows = lq.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    assert (rows.min(), rows.max()) == (15 - 7, 15 + 7)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(40, 53), (61, 17)])
def test_tiles_equal_the_whole_image(size: tuple[int, int]) -> None:
    torch.manual_seed(1)
    net, lq = UpConv7().eval(), torch.rand(1, 3, *size)
    with torch.no_grad():
        whole = run_padded(net, lq)
        tiled, narrow = (run_tiled(net, lq, tile=16, halo=halo) for halo in (7, 6))
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-5)
    assert (narrow - whole).abs().max() > 1e-4, "a smaller halo would do"


@pytest.mark.parametrize("variant", VARIANTS)
def test_published_weights_load(reference: Path, tmp_path: Path, variant: str) -> None:
    source, target = published(reference, variant), tmp_path / "net.safetensors"
    net = UpConv7()
    assert "14 of 14 tensors" in load_weights(net, source)
    with pytest.raises(UserError, match="its tensors have the names of UpConv7"):
        read_weights(source).require_arch()
    convert(source, target, "UpConv7")
    loaded, arch = load(target)
    assert arch == {"type": "UpConv7", "scale": 2}
    assert weights_hash(loaded) == weights_hash(net)


@pytest.mark.slow
@pytest.mark.parametrize("protocol", SCORES)
def test_scores_of_the_published_weights(reference: Path, tmp_path: Path, protocol: str) -> None:
    overrides = [
        "network_g.branch=!delete",
        "network_g.type=UpConv7",
        f"path.pretrain_network_g={published(reference)}",
        f"path.experiments_root={tmp_path}",
        f"datasets.test.Set5.dataroot={reference / 'data' / 'Set5'}",
        f"val.protocol={protocol}",
    ]
    opt = load_options(OPTIONS, overrides, RunOptions)[0]
    scores = run_test(opt, CPU).scores["Set5"]
    psnr, ssim = SCORES[protocol]
    assert scores["psnr"] == pytest.approx(psnr, abs=6e-4)
    assert scores["ssim"] == pytest.approx(ssim, abs=6e-5)
