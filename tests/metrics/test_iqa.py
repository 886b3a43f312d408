"""Tests the metrics of pyiqa with the real package, offline."""

from __future__ import annotations

import builtins
import hashlib
import socket
import threading
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from srtoolbox.data.files.reader import read_image
from srtoolbox.data.resize.array import imresize
from srtoolbox.errors import RunError, UserError
from srtoolbox.metrics import (
    PSNR,
    SSIM,
    Metric,
    MetricUnavailable,
    Protocol,
    PyIQA,
    build_metric,
    get_protocol,
)
from srtoolbox.metrics import iqa as iqa_module
from srtoolbox.metrics import iqa_network as network_module

pyiqa = pytest.importorskip("pyiqa")
RGB = get_protocol("rgb")
CNNIQA = "CNNIQA_koniq10k-e6f14c91.pth"


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    gt = torch.rand(1, 3, 120, 132, generator=generator)
    gt = torch.nn.functional.avg_pool2d(gt, 5, 1, 2)[0]
    return (gt + 0.02 * torch.randn(gt.shape, generator=generator)).clamp(0, 1), gt


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty folders in place of the caches of this machine."""
    from huggingface_hub import constants
    from pyiqa.utils import download_util

    folder = tmp_path / "torch"
    monkeypatch.setenv("TORCH_HOME", str(folder))
    monkeypatch.setattr(download_util, "DEFAULT_CACHE_DIR", str(folder / "hub" / "pyiqa"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    network_module._build.cache_clear()
    return folder / "hub" / "pyiqa"


def write_cnniqa(folder: Path, seed: int = 0, extra: object = None) -> Path:
    """Writes a weight file of CNNIQA with random weights, as pyiqa stores it."""
    from pyiqa.archs.cnniqa_arch import CNNIQA as Arch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        state = Arch(pretrained=None).state_dict()
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"params": state, **({"extra": extra} if extra else {})}, folder / CNNIQA)
    return folder / CNNIQA


@pytest.mark.parametrize(
    ("name", "options", "protocol", "own", "tolerance"),
    [
        ("psnr", {}, "basicsr-rgb", PSNR, 1e-3),
        ("psnry", {"color_space": "ycbcr"}, "basicsr-y", PSNR, 1e-3),
        ("psnry", {"color_space": "ycbcr", "data_range": 255}, "matlab-y", PSNR, 1e-3),
        ("ssimc", {}, "basicsr-rgb", SSIM, 1e-6),
        ("ssim", {"color_space": "ycbcr"}, "matlab-y", SSIM, 1e-4),
    ],
)
def test_agrees_with_own_metrics(
    pair, name: str, options: dict, protocol: str, own: type[Metric], tolerance: float
) -> None:
    arguments = {"protocol": get_protocol(protocol), "scale": 4}
    value = PyIQA(name, options)(*pair, **arguments)
    assert value == pytest.approx(own()(*pair, **arguments), abs=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "protocol", "own", "tolerance"),
    [("psnry", "basicsr-y", PSNR, 1e-3), ("ssim", "matlab-y", SSIM, 5e-4)],
)
def test_agrees_on_photographs(
    reference: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    protocol: str,
    own: type[Metric],
    tolerance: float,
) -> None:
    metric = PyIQA(name, {"color_space": "ycbcr"})
    pairs = []
    for number in (3, 5):
        file = reference / "data" / "Set5" / "HR" / f"img_{number:03d}.png"
        gt = read_image(file).transpose(1, 2, 0)
        gt = gt[: gt.shape[0] // 4 * 4, : gt.shape[1] // 4 * 4]
        sr = imresize(imresize(gt, 0.25), 4.0)
        pairs.append([torch.tensor(image).permute(2, 0, 1).float() / 255 for image in (sr, gt)])
    options = {"protocol": get_protocol(protocol), "scale": 4}
    expected = [own()(*images, **options) for images in pairs]
    found = [metric(*images, **options) for images in pairs]
    assert found == pytest.approx(expected, abs=tolerance)
    # pyiqa sets negative values of contrast and structure to 0; this is the whole difference.
    without = SimpleNamespace(relu=lambda values: values)
    monkeypatch.setattr("pyiqa.archs.ssim_arch.F", without)
    found = [metric(*images, **options) for images in pairs]
    assert found == pytest.approx(expected, abs=tolerance / 10)


def test_what_pyiqa_states() -> None:
    facts = {
        name: (metric.higher_is_better, metric.needs_gt)
        for name in ("psnry", "piqe", "entropy", "lpips", "musiq")
        for metric in [PyIQA(name)]
    }
    assert facts == {
        "psnry": (True, True),
        "piqe": (False, False),
        "entropy": (True, False),
        "lpips": (False, True),
        "musiq": (True, False),
    }


def test_no_reference_metrics(pair) -> None:
    sr, gt = pair
    metric = build_metric({"type": "pyiqa", "name": "piqe"})
    value = metric(sr, protocol=RGB, scale=4)
    assert value == metric(sr, gt, protocol=RGB, scale=4)
    rounded = (sr * 255).round()[None] / 255
    assert value == pytest.approx(pyiqa.create_metric("piqe", device="cpu")(rounded).item())
    with pytest.raises(UserError, match="pyiqa: 'psnry' needs the ground truth"):
        PyIQA("psnry")(sr, protocol=RGB, scale=4)
    grey = metric(sr[:1], protocol=RGB, scale=4)
    assert grey == metric(sr[:1].expand(3, -1, -1), protocol=RGB, scale=4)
    bands = PyIQA("piqe", bands=[3, 2, 1])(
        torch.cat([sr.flip(0), gt]), protocol=get_protocol("bands"), scale=2
    )
    cropped = Protocol("p", crop_border=2, round_8bit=False)
    assert bands == metric(sr, protocol=cropped, scale=2)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("musik", r"pyiqa \S+ has no metric 'musik'; did you mean 'musiq'.*`pyiqa -ls` lists all"),
        ("fid", "pyiqa: 'fid' scores whole sets of images"),
        ("clipscore", "pyiqa: 'clipscore' scores an image with its caption"),
    ],
)
def test_unknown_metrics(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        PyIQA(name)


def test_files_have_hashes(home: Path, pair) -> None:
    metric = PyIQA("cnniqa")
    reason = metric.available()
    assert reason and reason.startswith("pyiqa: 'cnniqa' needs ") and "\n" not in reason
    assert str(home / CNNIQA) in reason and "https://huggingface.co/chaofengc/" in reason
    assert metric.source() is None
    spec = {"type": "pyiqa", "name": "cnniqa"}
    assert metric.identity(spec) == spec
    with pytest.raises(MetricUnavailable, match="'cnniqa' needs"):
        metric(*pair, protocol=RGB, scale=4)
    assert not (home / CNNIQA).exists()

    file = write_cnniqa(home)
    assert metric.available() is None
    digits = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    assert metric.source()["text"] == (
        f"cnniqa of pyiqa {pyiqa.__version__} ({CNNIQA}, SHA-256 {digits})"
    )
    value, identity = metric(*pair, protocol=RGB, scale=4), metric.identity(spec)
    assert identity != spec
    write_cnniqa(home, seed=1)
    network_module._build.cache_clear()
    assert metric.identity(spec) != identity
    assert metric(*pair, protocol=RGB, scale=4) != value


def test_nothing_else_changes(home: Path, pair, capsys: pytest.CaptureFixture[str]) -> None:
    write_cnniqa(home)
    before = builtins.open, torch.load, torch.hub.download_url_to_file, socket.getaddrinfo
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    metric = PyIQA("cnniqa")
    metric(*pair, protocol=RGB, scale=4)
    assert torch.equal(torch.rand(3), expected)
    assert (builtins.open, torch.load, torch.hub.download_url_to_file, socket.getaddrinfo) == before
    assert capsys.readouterr() == ("", "")


def test_downloads_are_stopped_in_this_thread_only(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[object] = []

    def other() -> None:
        try:
            found.append(socket.getaddrinfo("localhost", 80))
        except OSError as error:
            found.append(error)

    with network_module._recorded(fetch=False, unpickle=False):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        with pytest.raises(network_module._Missing, match=r"a file of example\.org"):
            socket.getaddrinfo("example.org", 80)
    assert found and not isinstance(found[0], network_module._Missing)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lpips", ["alexnet-owt-7be5be79.pth (https://download.pytorch.org/models/"]),
        ("brisque", ["brisque_svm_weights.pth (https://huggingface.co/"]),
        ("clipiqa", ["RN50.pt (https://openaipublic.azureedge.net/"]),
        pytest.param(
            "topiq_nr", ["weights timm/resnet50.a1_in1k in the cache"], marks=pytest.mark.slow
        ),
    ],
)
def test_missing_files_are_named(name: str, words: list[str]) -> None:
    reason = PyIQA(name).available()
    assert reason and "\n" not in reason
    if name == "clipiqa" and find_spec("pkg_resources") is None:  # CLIP of pyiqa imports it
        assert reason.endswith("needs the package 'pkg_resources': pip install \"setuptools<81\"")
        return
    for word in [*words, "fetch: true"]:
        assert word in reason, reason


class _Harmless:
    """Stands for an object that is more than tensors."""


def test_weight_files_with_code(home: Path, pair) -> None:
    write_cnniqa(home, extra=_Harmless())
    reason = PyIQA("cnniqa").available()
    assert reason and "read by pickle and can run code" in reason and "unpickle: true" in reason
    metric = PyIQA("cnniqa", unpickle=True)
    assert metric.available() is None
    write_cnniqa(home)
    network_module._build.cache_clear()
    assert metric(*pair, protocol=RGB, scale=4) == PyIQA("cnniqa")(*pair, protocol=RGB, scale=4)


def test_failures_are_one_line() -> None:
    small = torch.rand(3, 4, 4)
    with pytest.raises(RunError, match="pyiqa: 'cw_ssim' fails for an image of 4×4, which may"):
        PyIQA("cw_ssim")(small, small, protocol=RGB, scale=4)
    reason = PyIQA("piqe", {"unknown": 1}).available()
    assert reason and "pyiqa: 'piqe' cannot be built: TypeError: " in reason


def test_without_the_package(pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iqa_module, "is_installed", lambda: False)
    metric = PyIQA("musiq")
    assert metric.available() == 'pyiqa is not installed: pip install "srtoolbox[iqa]"'
    assert metric.source() is None
    with pytest.raises(MetricUnavailable, match=r"srtoolbox\[iqa\]"):
        metric(*pair, protocol=RGB, scale=4)
