"""What all tests share."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder with reference images and outputs; tests that need it skip where it is absent."""
    default = Path(__file__).parents[2] / "shared"
    folder = Path(os.environ.get("SRTOOLBOX_REFERENCE", default))
    if not (folder / "goldens").is_dir():
        pytest.skip(f"no reference material at {folder} (set SRTOOLBOX_REFERENCE to its folder)")
    return folder


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
