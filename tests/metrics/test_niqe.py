"""Tests NIQE against BasicSR's values, and its models of natural images."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from srtoolbox.data.files.reader import read_image
from srtoolbox.data.resize.array import imresize
from srtoolbox.errors import RunError, UserError
from srtoolbox.metrics import NIQE, Protocol, get_protocol
from srtoolbox.metrics.niqe import _half, block_features, load_model

RGB = get_protocol("rgb")


def texture(height: int, width: int, channels: int = 3, seed: int = 0) -> Tensor:
    """Returns an image with structure at several scales, in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.zeros(channels, height, width)
    for step in (1, 4, 16):
        small = torch.rand(channels, -(-height // step), -(-width // step), generator=generator)
        large = small.repeat_interleave(step, 1).repeat_interleave(step, 2)
        image += large[:, :height, :width] / 3
    return image


@pytest.fixture
def published(reference: Path, tmp_path: Path) -> Path:
    golden = np.load(reference / "goldens" / "niqe.npz")
    file = tmp_path / "niqe_pris_params.npz"
    np.savez(file, **{name: golden[name] for name in golden.files if "pris_param" in name})
    return file


@pytest.fixture(autouse=True)
def _no_model_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SRTOOLBOX_NIQE_MODEL", raising=False)


@pytest.mark.parametrize(("border", "protocol"), [(0, "rgb"), (4, "basicsr-y")])
def test_values_of_basicsr(reference: Path, published: Path, border: int, protocol: str) -> None:
    golden = np.load(reference / "goldens" / "niqe.npz")
    metric = NIQE(published)
    for name, expected in zip(golden["files"], golden[f"niqe_border{border}"], strict=True):
        image = torch.tensor(read_image(reference / "data" / str(name))).float() / 255
        value = metric(image, protocol=get_protocol(protocol), scale=4)
        assert value == pytest.approx(expected, abs=1e-3), name


def test_half_size_is_that_of_matlab() -> None:
    image = np.random.default_rng(0).random((96, 192))
    assert np.abs(_half(image) - imresize(image[..., None], 0.5)[..., 0]).max() < 1e-7


def test_kinds_of_models(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = NIQE()
    assert own.kind == "srtoolbox model"
    assert "srtoolbox's own model" in own.source()["text"]
    image = texture(200, 300)
    monkeypatch.setenv("SRTOOLBOX_NIQE_MODEL", str(published))
    metric = NIQE()
    assert metric.kind == ""
    assert metric.source()["text"].startswith("the published model (niqe_pris_params.npz, SHA-256 ")
    values = [m(image, protocol=RGB, scale=4) for m in (own, metric)]
    assert abs(values[0] - values[1]) > 0.1

    # The form of the file and its place do not matter, the numbers do.
    arrays = np.load(published)
    other = tmp_path / "other.npz"
    np.savez(other, mu=arrays["mu_pris_param"][0], cov=arrays["cov_pris_param"])
    same = NIQE(other)
    assert same.source()["content"] == metric.source()["content"]
    options = {"type": "NIQE", "model": str(other)}
    assert same.identity(options) == metric.identity({"type": "NIQE"})
    assert same.identity(options) != own.identity({"type": "NIQE"})
    np.savez(other, mu=arrays["mu_pris_param"][0] + 1, cov=arrays["cov_pris_param"])
    changed = NIQE(other)
    assert changed.kind == "other"
    assert "other.npz, which differs from the published model" in changed.source()["text"]
    assert changed(image, protocol=RGB, scale=4) != values[1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no archive", "is no .npz file of numbers"),
        ({"mu": np.zeros(36)}, "lacks mu_pris_param, cov_pris_param or mu, cov; it has mu"),
        ({"mu": np.zeros(35), "cov": np.eye(36)}, r"mu has float64 .*\(35,\); expected 36 finite"),
        ({"mu": np.zeros(36), "cov": np.full((36, 36), np.nan)}, "cov has .*expected 36×36 finite"),
        ({"mu": np.zeros((2, 36)), "cov": np.eye(36)}, r"mu has .*\(2, 36\)"),
        ({"mu": np.array([{}]), "cov": np.eye(36)}, "is no .npz file of numbers"),
    ],
)
def test_faulty_models(tmp_path: Path, content: bytes | dict, message: str) -> None:
    file = tmp_path / "model.npz"
    if isinstance(content, dict):
        np.savez(file, **content)
    else:
        file.write_bytes(content)
    with pytest.raises(UserError, match=rf"NIQE: model: .*model.npz: {message}") as caught:
        NIQE(file)
    assert "\n" not in str(caught.value)


def test_missing_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"NIQE: model: .*none.npz: cannot be read \(No such file"):
        NIQE(tmp_path / "none.npz")
    monkeypatch.setenv("SRTOOLBOX_NIQE_MODEL", str(tmp_path / "none.npz"))
    with pytest.raises(UserError, match=r"NIQE: SRTOOLBOX_NIQE_MODEL: .*none.npz: cannot be read"):
        NIQE()


def test_own_model_is_the_scripts_form() -> None:
    model = load_model()
    assert model.mean.shape == (36,) and model.covariance.shape == (36, 36)
    assert np.allclose(model.covariance, model.covariance.T)
    assert np.linalg.eigvalsh(model.covariance).min() > 0
    assert (model.mean[[0, 2, 18, 20]] > 0.5).all()  # shapes of distributions


def test_worse_images_have_higher_values() -> None:
    skimage = pytest.importorskip("skimage")
    file = Path(skimage.__file__).parent / "data" / "motorcycle_left.png"
    image = torch.tensor(read_image(file)).float() / 255
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    small = torch.nn.functional.interpolate(image[None], scale_factor=0.25, mode="area")
    blurred = torch.nn.functional.interpolate(small, image.shape[1:], mode="bicubic")[0]
    good, *bad = (
        NIQE()(x.clamp(0, 1), protocol=RGB, scale=4) for x in (image, image + 0.1 * noise, blurred)
    )
    assert good < min(bad)


def test_the_ground_truth_does_not_matter() -> None:
    sr, gt = texture(200, 300), texture(200, 300, seed=1)
    metric, options = NIQE(), {"protocol": RGB, "scale": 4}
    assert metric(sr, gt, **options) == metric(sr, **options)
    grey = metric(sr, gt[:1], protocol=get_protocol("matlab-y"), scale=4)
    assert grey == metric(sr.mean(0, keepdim=True), protocol=get_protocol("matlab-y"), scale=4)


def test_rows_beyond_the_last_block_do_not_count() -> None:
    image = texture(200, 300)
    whole = NIQE()(image, protocol=RGB, scale=4)
    assert NIQE()(image[:, :192, :288], protocol=RGB, scale=4) == whole
    cropped = NIQE()(image[:, 4:-4, 4:-4], protocol=RGB, scale=4)
    assert NIQE()(image, protocol=Protocol("p", crop_border=4), scale=1) == cropped != whole


def test_values_are_rounded_as_the_protocol_says() -> None:
    image = texture(200, 300, 1).double()
    rounded = (image * 255).round() / 255
    exact = Protocol("p", round_8bit=False)
    assert NIQE()(image, protocol=RGB, scale=4) == NIQE()(rounded, protocol=RGB, scale=4)
    assert NIQE()(rounded, protocol=exact, scale=4) == pytest.approx(
        NIQE()(image, protocol=RGB, scale=4), rel=1e-3
    )
    assert NIQE()(image, protocol=exact, scale=4) != NIQE()(image, protocol=RGB, scale=4)


@pytest.mark.parametrize("size", [(95, 400), (96, 191), (150, 150)])
def test_small_images(size: tuple[int, int]) -> None:
    assert not NIQE().fits(*size, RGB)
    with pytest.raises(
        UserError, match=rf"NIQE: needs 96×192 pixels, .*leaves {size[0]}×{size[1]}"
    ):
        NIQE()(texture(*size), protocol=RGB, scale=4)
    assert not NIQE().fits(-200, -300, RGB)
    assert NIQE().fits(96, 192, RGB) and math.isfinite(
        NIQE()(texture(96, 192), protocol=RGB, scale=4)
    )


def test_images_without_structure_have_no_value() -> None:
    assert math.isnan(NIQE()(torch.full((3, 200, 200), 0.5), protocol=RGB, scale=4))
    image = texture(200, 400)
    image[:, :110, :110] = 0.5
    assert math.isfinite(NIQE()(image, protocol=RGB, scale=4))
    assert np.isnan(block_features(image[0].numpy() * 255)[0]).any()


def test_masked_blocks_are_left_out() -> None:
    image = texture(192, 288)
    mask = torch.ones(1, 192, 288, dtype=torch.bool)
    mask[:, 100:110, 205:210] = False  # in the last of six blocks, far from the others
    # Blocks of the cropped image: those right of column 192 keep no pixel but the upper one.
    value = NIQE()(image, image, protocol=RGB, scale=4, mask=mask)
    assert value != NIQE()(image, protocol=RGB, scale=4)
    other = image.clone()
    other[:, 102, 206] = 1 - other[:, 102, 206]
    assert NIQE()(other, image, protocol=RGB, scale=4, mask=mask) == value
    mask[:, 96, 96] = False
    with pytest.raises(
        RunError, match="NIQE: the mask leaves no 2 blocks of 96×96 pixels to score"
    ):
        NIQE()(image[:, :, :200], image[:, :, :200], protocol=RGB, scale=4, mask=mask[:, :, :200])


def test_bands() -> None:
    image = texture(200, 300, 5)
    bands, options = get_protocol("bands"), {"protocol": get_protocol("bands"), "scale": 2}
    assert NIQE().unsuited(5, bands) and NIQE(bands=[3, 2, 1]).unsuited(5, bands) is None
    assert NIQE(bands=[3, 2, 1])(image, **options) == NIQE()(image[[2, 1, 0]], **options)
    assert NIQE(bands=[4])(image, **options) == NIQE()(image[[3]], **options)
    with pytest.raises(UserError, match="NIQE: it scores grey or RGB images, not 5 bands"):
        NIQE()(image, **options)
    with pytest.raises(UserError, match="NIQE: there is no band 6 in images with 5"):
        NIQE(bands=[6])(image, **options)
    with pytest.raises(UserError, match=r"NIQE: bands \[1, 2\]: expected one, or three"):
        NIQE(bands=[1, 2])
