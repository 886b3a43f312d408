"""SR images as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from srtoolbox.engine.evaluation.images import image_writer, save_image


def test_save_image(tmp_path: Path) -> None:
    image = torch.tensor([-1.0, 0.0, 0.5, 1.0, 2.0, 0.1]).view(1, 2, 3).expand(3, -1, -1)
    save_image(tmp_path / "clip" / "000.png", image)
    saved = np.asarray(Image.open(tmp_path / "clip" / "000.png"))
    assert saved[..., 0].tolist() == [[0, 0, 128], [255, 255, 26]]


def test_grey_images_are_written_as_rgb_under_their_key(tmp_path: Path) -> None:
    image_writer(tmp_path)("clip/000", torch.tensor([[[0.0, 0.2]]]))
    saved = np.asarray(Image.open(tmp_path / "clip" / "000.png"))
    assert saved.tolist() == [[[0, 0, 0], [51, 51, 51]]]
