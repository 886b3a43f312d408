"""The weights inside the package load as they are and are ahead of bicubic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from skimage import data as photographs

from srtoolbox.archs.edsr import EDSR
from srtoolbox.config.load import load_options
from srtoolbox.data.resize.array import imresize
from srtoolbox.engine.evaluation.test import load_test_options, run_test
from srtoolbox.engine.options import RunOptions
from srtoolbox.engine.weights.load import load
from srtoolbox.errors import UserError
from srtoolbox.upscaling.weights import SCALES, path_of

OPTIONS = Path(__file__).parents[2] / "options" / "train" / "EDSR"
# PSNR in dB on Set5 by protocol basicsr-y; bicubic has 33.679, 30.406 and 28.432.
SET5 = {2: 37.289, 3: 33.434, 4: 31.171}


def psnr(image: np.ndarray, gt: np.ndarray, border: int) -> float:
    """Of RGB images (H, W, 3) in 8-bit levels."""
    error = (image.astype(np.float64) - gt)[border:-border, border:-border]
    return 10 * np.log10(255**2 / np.mean(error**2))


@pytest.mark.parametrize("scale", SCALES)
def test_the_file_is_small_and_says_where_it_comes_from(scale: int) -> None:
    assert path_of(scale).stat().st_size < 1_000_000
    with safe_open(path_of(scale), framework="pt") as file:
        metadata = file.metadata()
        assert {file.get_tensor(key).dtype for key in file.keys()} == {torch.float16}  # noqa: SIM118
    assert metadata["licence"] == "Apache-2.0"
    assert "CC0" in metadata["training_data"]


@pytest.mark.parametrize("scale", SCALES)
def test_it_contains_its_arch_and_loads_as_float32(scale: int) -> None:
    net, arch = load(path_of(scale))
    assert isinstance(net, EDSR)
    assert net.scale == arch["scale"] == scale
    assert {value.dtype for value in net.parameters()} == {torch.float32}
    assert 200_000 < sum(value.numel() for value in net.parameters()) < 400_000
    opt, _ = load_options(OPTIONS / f"default_x{scale}.yml", (), RunOptions)
    assert arch == {**opt.network_g, "scale": scale}


@pytest.mark.parametrize("scale", SCALES)
def test_it_is_ahead_of_bicubic_on_a_photograph_that_it_was_not_trained_on(scale: int) -> None:
    gt = photographs.stereo_motorcycle()[0][200:344, 300:444]
    lq = imresize(gt, 1 / scale)
    net, _ = load(path_of(scale))
    with torch.no_grad():
        sr = net(torch.from_numpy(lq).permute(2, 0, 1)[None].float() / 255)
    ours = (255 * sr[0].permute(1, 2, 0).numpy()).clip(0, 255).round()
    assert psnr(ours, gt, scale) > psnr(imresize(lq, scale), gt, scale) + 0.5


@pytest.mark.slow
@pytest.mark.parametrize("scale", SCALES)
def test_its_score_on_set5(scale: int, reference: Path, tmp_path: Path) -> None:
    overrides = (
        f"name=edsr_x{scale}",
        f"scale={scale}",
        f"path.experiments_root={tmp_path}",
        "val={protocol: basicsr-y, metrics: {psnr: {type: PSNR}}}",
        "datasets.test.Set5={type: PairedImages, layout: set5}",
        f"datasets.test.Set5.dataroot={reference / 'data' / 'Set5'}",
    )
    opt = load_test_options(None, overrides, path_of(scale))
    scores = run_test(opt, torch.device("cpu"), path_of(scale)).scores["Set5"]
    assert scores["psnr"] == pytest.approx(SET5[scale], abs=0.005)


def test_a_scale_without_weights() -> None:
    with pytest.raises(UserError, match=r"scale 8: the package has weights of scale 2, 3, 4; give"):
        path_of(8)
