"""What all tests share."""

from __future__ import annotations

import gc
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from torch import Tensor


# Slow machines are no fault, and a test that passed passes again; other examples with the variable.
hypothesis.settings.register_profile(
    "srtoolbox", deadline=None, derandomize="SRTOOLBOX_FUZZ" not in os.environ
)
hypothesis.settings.load_profile("srtoolbox")


def pytest_collection_finish() -> None:
    """Leaves what is alive for all tests, such as thousands of tests, out of each collection."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder with reference images and outputs; tests that need it skip where it is absent."""
    default = Path(__file__).parents[2] / "shared"
    folder = Path(os.environ.get("SRTOOLBOX_REFERENCE", default))
    if not (folder / "goldens").is_dir():
        pytest.skip(f"no reference material at {folder} (set SRTOOLBOX_REFERENCE to its folder)")
    return folder


@pytest.fixture(scope="session")
def dstc_pairs(reference: Path) -> list[tuple[Tensor, Tensor, dict[str, float]]]:
    """Results and ground truths (3, 72, 72) with the values of DSTC-SRNet's authors.

    The results leave [0, 1] in places.
    """
    import numpy as np
    import torch

    file = np.load(reference / "goldens" / "dstc_protocol.npz")
    values = [name for name in file.files if name not in ("sr", "gt")]
    return [
        (
            torch.from_numpy(sr).movedim(-1, 0),
            torch.from_numpy(gt).movedim(-1, 0).float() / 255,
            {name: file[name][index].item() for name in values},
        )
        for index, (sr, gt) in enumerate(zip(file["sr"], file["gt"], strict=True))
    ]


@pytest.fixture
def lpips_alex(reference: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The torch hub cache of the reference material; tests skip where it lacks AlexNet."""
    pytest.importorskip("lpips")
    home = reference / "weights" / "torch"
    file = home / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth"
    if not file.is_file():
        pytest.skip(f"no backbone of LPIPS at {file}")
    monkeypatch.setenv("TORCH_HOME", str(home))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Seeds torch, so that no test depends on those before it; skips ``cuda`` without a device."""
    import torch

    torch.manual_seed(0)
    if item.get_closest_marker("cuda") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.fixture(autouse=True)
def _no_backbone_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SRTOOLBOX_LPIPS_BACKBONE", raising=False)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_log_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command sets up logging to the error stream of its test, which is gone after it."""
    monkeypatch.setattr(logging.getLogger("srtoolbox"), "handlers", [])


@pytest.fixture(autouse=True, scope="session")
def _interruptible() -> Iterator[None]:
    """SIGINT acts as in a terminal; what a shell starts in the background begins ignoring it."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)
