from __future__ import annotations

from pathlib import Path

import pytest
from support.tiny_weights import tiny_edsr

from srtoolbox.web.choices import Choices
from srtoolbox.web.work import Limits, Workplace


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("weights")
    return [str(tiny_edsr(folder / f"tiny{scale}.safetensors", scale)) for scale in (2, 3)]


@pytest.fixture(scope="module")
def choices(weights: list[str]) -> Choices:
    return Choices(weights)


@pytest.fixture
def place(choices: Choices, tmp_path: Path) -> Workplace:
    limits = Limits(bytes=2**20, pixels=100_000, seconds=1)
    return Workplace(choices, limits, tmp_path / "results")
