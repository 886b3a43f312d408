"""The pictures of LR and ground truth that a study keeps."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from srtoolbox.comparison.study.evaluate import StudyEvaluator


class Pair:
    """One pair whose LR image and ground truth may have different bands."""

    scale, num_frame, reference = 2, 1, 0

    def __init__(self, lq: int, gt: int) -> None:
        self.sample: Any = {"key": "a"}
        for name, bands, side in (("lq", lq, 8), ("gt", gt, 16)):
            values = np.arange(1, bands + 1, dtype=np.uint8) * 10
            self.sample[name] = np.broadcast_to(values[:, None, None], (bands, side, side)).copy()
        self.sample["lq"] = self.sample["lq"][None]

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Any:
        return self.sample


@pytest.mark.parametrize(
    ("lq", "gt", "expected_lq", "expected_gt"),
    [
        (4, 4, [40, 30, 20], [40, 30, 20]),
        (3, 4, [10, 20, 30], [40, 30, 20]),  # LR has no fourth band: its first three are shown
        (1, 4, [10, 10, 10], [40, 30, 20]),
    ],
)
def test_pictures_show_the_chosen_bands(
    tmp_path: Path, lq: int, gt: int, expected_lq: list[int], expected_gt: list[int]
) -> None:
    evaluator: Any = object.__new__(StudyEvaluator)
    evaluator._opt = SimpleNamespace(val=SimpleNamespace(rgb_bands=[4, 3, 2]))
    evaluator._store = SimpleNamespace(image_folder=lambda name: tmp_path / name)
    (tmp_path / "evaluation").mkdir()
    Image.new("RGB", (16, 16)).save(tmp_path / "evaluation" / "a.png")
    test_set: Any = SimpleNamespace(name="set", data=Pair(lq, gt))
    evaluator._keep_originals(test_set, ["evaluation"])
    for kind, expected in (("lq", expected_lq), ("gt", expected_gt)):
        pixels = np.asarray(Image.open(tmp_path / "set" / f"a_{kind}.png"))
        assert pixels[0, 0].tolist() == expected
