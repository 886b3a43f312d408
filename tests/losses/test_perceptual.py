"""Perceptual losses with random backbones: search, loading and use of weights."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from support.backbones import write_backbone
from torch import Tensor

from srtoolbox.errors import UserError
from srtoolbox.losses import LPIPSLoss, PerceptualLoss
from srtoolbox.losses.perceptual import VGG19_LAYERS, load_vgg19
from srtoolbox.utils.imagenet import LPIPS_BACKBONES, VGG19, BackboneUnavailable
from srtoolbox.utils.meta import without_memory

CHANNELS = [64, 64, 128, 128, 256, 256, 256, 256, *[512] * 8]
POSITIONS = [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34]


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """VGG19's convolutions in torchvision's names, with random weights."""
    generator = torch.Generator().manual_seed(0)
    state, num_in = {}, 3
    for position, channels in zip(POSITIONS, CHANNELS, strict=True):
        weight = torch.randn(channels, num_in, 3, 3, generator=generator)
        state[f"features.{position}.weight"] = weight * (2 / (9 * num_in)) ** 0.5
        state[f"features.{position}.bias"] = torch.randn(channels, generator=generator) * 0.1
        num_in = channels
    return state


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, state: dict[str, Tensor]) -> Path:
    file = tmp_path_factory.mktemp("home") / "hub/checkpoints" / VGG19.file
    file.parent.mkdir(parents=True)
    torch.save(state, file)
    return file


@pytest.fixture
def home(file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A torch hub cache with VGG19; clears the cache of built networks."""
    monkeypatch.setenv("TORCH_HOME", str(file.parents[2]))
    yield file.parents[2]
    load_vgg19.cache_clear()


def images(size: int = 20) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.rand(2, 3, size, size, generator=generator) for _ in range(2))


def features(x: Tensor, state: dict[str, Tensor], convolutions: int) -> Tensor:
    """Returns the output of a convolution (numbered from 1) before its activation."""
    for index, position in enumerate(POSITIONS[:convolutions]):
        if index:
            x = F.relu(x)
            if position - POSITIONS[index - 1] == 3:
                x = F.max_pool2d(x, 2)
        x = F.conv2d(
            x, state[f"features.{position}.weight"], state[f"features.{position}.bias"], padding=1
        )
    return x


def test_layers_are_where_torchvision_has_them() -> None:
    assert (VGG19_LAYERS["relu2_2"], VGG19_LAYERS["relu3_3"]) == (8, 15)
    assert (VGG19_LAYERS["conv5_4"], VGG19_LAYERS["pool5"]) == (34, 36)
    models = pytest.importorskip("torchvision.models")
    with without_memory():
        theirs = models.vgg19().features
    assert len(theirs) == len(VGG19_LAYERS)
    for name, index in VGG19_LAYERS.items():
        kind = {"conv": "Conv2d", "relu": "ReLU", "pool": "MaxPool2d"}[name[:4]]
        assert type(theirs[index]).__name__ == kind


def test_the_default_is_esrgans(home: Path, state: dict[str, Tensor]) -> None:
    sr, gt = images(16)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x, y = (
        features((image - mean.view(3, 1, 1)) / std.view(3, 1, 1), state, 16) for image in (sr, gt)
    )
    sr.requires_grad_()
    value = PerceptualLoss(loss_weight=0.5)(sr, gt)
    assert value.item() == pytest.approx((x - y).abs().mean().item() / 2, rel=1e-4)
    value.backward()
    assert sr.grad.isfinite().all()
    assert sr.grad.any()
    assert PerceptualLoss()(gt, gt).item() == 0


def test_isrs_two_layers(home: Path, state: dict[str, Tensor]) -> None:
    sr, gt = images()
    layers = {"relu3_3": 0.25, "relu2_2": 0.5}
    loss = PerceptualLoss(layers=layers, criterion="mse", preprocess="none")
    expected = 0.0
    for convolutions, weight in ((7, 0.25), (4, 0.5)):
        x, y = (F.relu(features(image, state, convolutions)) for image in (sr, gt))
        expected += weight * (x - y).square().mean().item()
    assert loss(sr, gt).item() == pytest.approx(expected, rel=1e-4)


def test_caffe_input(home: Path, state: dict[str, Tensor]) -> None:
    sr, gt = images()
    mean = torch.tensor([103.939, 116.779, 123.68]).view(3, 1, 1)
    x, y = (features(255 * image[:, [2, 1, 0]] - mean, state, 2) for image in (sr, gt))
    loss = PerceptualLoss(layers={"conv1_2": 1.0}, preprocess="caffe")
    assert loss(sr, gt).item() == pytest.approx((x - y).abs().mean().item(), rel=1e-4)


def test_style(home: Path, state: dict[str, Tensor]) -> None:
    sr, gt = images()
    x, y = (features(image, state, 2) for image in (sr, gt))
    grams = [torch.einsum("nchw,ndhw->ncd", z, z) / z[0].numel() for z in (x, y)]
    options = {"layers": {"conv1_2": 2.0}, "preprocess": "none"}
    plain = PerceptualLoss(**options)(sr, gt).item()
    styled = PerceptualLoss(**options, style_weight=3.0)(sr, gt).item()
    expected = 2 * 3 * (grams[0] - grams[1]).abs().mean().item()
    assert styled - plain == pytest.approx(expected, rel=1e-3)


def test_clips_are_compared_frame_by_frame(home: Path) -> None:
    loss = PerceptualLoss(layers={"conv2_1": 1.0})
    sr, gt = images()
    value = loss(sr, gt).item()
    assert loss(sr[None], gt[None]).item() == pytest.approx(value, rel=1e-5)


def test_it_adds_nothing_to_what_is_trained_or_saved(home: Path) -> None:
    loss = PerceptualLoss(layers={"conv1_1": 1.0})
    loss(*images())
    assert not list(loss.parameters())
    assert not loss.state_dict()


def test_a_network_built_under_inference_mode_serves_training(home: Path) -> None:
    loss = PerceptualLoss(layers={"conv1_2": 1.0})
    sr, gt = images()
    with torch.inference_mode():
        loss(sr, gt)
    sr.requires_grad_()
    loss(sr, gt).backward()
    assert sr.grad.any()


def test_faults_are_named(home: Path) -> None:
    with pytest.raises(UserError, match="layers names conv5_5, fc6; VGG19 has conv1_1"):
        PerceptualLoss(layers={"conv5_5": 1.0, "fc6": 1.0})
    with pytest.raises(UserError, match="names nothing"):
        PerceptualLoss(layers={})
    with pytest.raises(UserError, match="criterion must be 'l1' or 'mse'"):
        PerceptualLoss(criterion="l2")
    with pytest.raises(UserError, match="must be 'imagenet', 'caffe' or 'none'"):
        PerceptualLoss(preprocess="keras")
    with pytest.raises(UserError, match="16×16 pixels, got 15×15"):
        PerceptualLoss()(*images(15))
    with pytest.raises(UserError, match="RGB images, got 4 channels"):
        PerceptualLoss()(torch.zeros(1, 4, 16, 16), torch.zeros(1, 4, 16, 16))


def test_missing_weights_say_what_to_put_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    message = (
        r"PerceptualLoss needs vgg19-dcbb9e9d\.pth in .*hub/checkpoints; "
        r"run `srtoolbox fetch vgg19`, or name the file with the option weights"
    )
    with pytest.raises(UserError, match=message):
        PerceptualLoss()
    with pytest.raises(UserError, match=r"mine\.pth: no such weight file"):
        PerceptualLoss(weights=tmp_path / "mine.pth", fetch=True)

    def no_network(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    with pytest.raises(BackboneUnavailable, match=r"vgg19.*no route to host"):
        PerceptualLoss(fetch=True)


def test_weights_of_ones_own(home: Path, tmp_path: Path, state: dict[str, Tensor]) -> None:
    mine = tmp_path / "mine.pth"
    torch.save({key: value * 2 for key, value in state.items()}, mine)
    loss = PerceptualLoss(layers={"conv1_1": 1.0}, weights=mine)
    usual = PerceptualLoss(layers={"conv1_1": 1.0})(*images()).item()
    assert loss(*images()).item() == pytest.approx(2 * usual, rel=1e-4)


@pytest.mark.parametrize("content", [b"", b"<html>", {"features.0.weight": 1}, 7])
def test_a_wrong_file_is_named(tmp_path: Path, content: object) -> None:
    mine = tmp_path / "mine.pth"
    if isinstance(content, bytes):
        mine.write_bytes(content)
    else:
        torch.save(content, mine)
    loss = PerceptualLoss(layers={"conv1_1": 1.0}, weights=mine)
    with pytest.raises(BackboneUnavailable, match=r"mine\.pth.*'vgg19'.*vgg19-dcbb9e9d\.pth"):
        loss(*images())


@pytest.mark.slow
def test_lpips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lpips = pytest.importorskip("lpips")
    models = pytest.importorskip("torchvision.models")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"LPIPS needs alexnet-owt-7be5be79\.pth in .*checkpoints"):
        LPIPSLoss(net="alex")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = models.AlexNet(num_classes=1).features
    file = tmp_path / "hub/checkpoints/alexnet-owt-7be5be79.pth"
    file.parent.mkdir(parents=True)
    torch.save({f"features.{key}": value for key, value in backbone.state_dict().items()}, file)

    sr, gt = images(40)
    loss = LPIPSLoss(net="alex", loss_weight=0.5)
    with torch.inference_mode():
        loss(sr, gt)
    sr.requires_grad_()
    value = loss(sr, gt)
    value.backward()
    assert sr.grad.any()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    for part in (f"slice{number}" for number in range(1, 6)):
        for index, layer in getattr(theirs.net, part).named_children():
            layer.load_state_dict(backbone[int(index)].state_dict())
    expected = theirs(2 * sr - 1, 2 * gt - 1).mean().item() / 2
    assert value.item() == pytest.approx(expected, rel=1e-4)
    with pytest.raises(UserError, match="31×31 pixels, got 30×30"):
        loss(*images(30))
    with pytest.raises(UserError, match="must be 'alex', 'vgg' or 'squeeze'"):
        LPIPSLoss(net="resnet")


@pytest.mark.slow
def test_lpips_with_a_file_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lpips")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    files = [write_backbone(tmp_path / f"{seed}.pth", seed=seed) for seed in (0, 1)]
    sr, gt = images(40)
    first, second = (LPIPSLoss(net="alex", backbone=file)(sr, gt).item() for file in files)
    assert first != second
    options = {"type": "LPIPSLoss", "net": "alex"}
    missing = LPIPSLoss.identity(options)
    assert missing == options
    mine, other = (LPIPSLoss.identity({**options, "backbone": str(file)}) for file in files)
    assert mine != other and str(tmp_path) not in str([mine, other])
    monkeypatch.setenv("SRTOOLBOX_LPIPS_BACKBONE", str(files[0]))
    assert LPIPSLoss.identity(options) == mine
    assert LPIPSLoss(net="alex")(sr, gt).item() == first
    # Trainings with torchvision's weights keep the hash that they had before this option.
    alex = replace(LPIPS_BACKBONES["alex"], content=mine["backbone"])
    monkeypatch.setitem(LPIPS_BACKBONES, "alex", alex)
    assert LPIPSLoss.identity({**options, "backbone": str(files[0])}) == options
