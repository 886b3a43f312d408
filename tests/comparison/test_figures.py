"""Images of every form are shown as 8-bit RGB."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from srtoolbox.comparison.figures import _read


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_any_image_can_be_shown(tmp_path: Path, channels: int, dtype: str) -> None:
    shown = np.random.default_rng(0).integers(0, 256, (6, 9, channels), dtype=np.uint8)
    if dtype == "float32":
        np.save(tmp_path / "a.npy", shown.astype(np.float32) / 255)
        path = tmp_path / "a.npy"
    else:
        path = tmp_path / "a.png"
        cv2.imwrite(str(path), (shown * np.array(np.iinfo(dtype).max // 255, dtype))[..., ::-1])
    image = _read(path)
    assert image.dtype == np.uint8 and image.shape == (6, 9, 3)
    assert np.array_equal(image, np.broadcast_to(shown, (6, 9, 3)))
