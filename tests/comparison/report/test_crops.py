"""Images that a study stored."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from srtoolbox.comparison.analysis.scores import Scores
from srtoolbox.comparison.report.crops import disagreement, load_pictures, load_profiles, read_shown


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
    image = read_shown(path)
    assert image.dtype == np.uint8 and image.shape == (6, 9, 3)
    assert np.array_equal(image, np.broadcast_to(shown, (6, 9, 3)))


def test_the_region_is_where_the_methods_differ() -> None:
    image = np.full((60, 90, 3), 100, np.uint8)
    other = image.copy()
    other[33:50, 61:75] = 180
    y, x, side = disagreement([image, other])
    assert side == 20 and y <= 33 and y + side >= 50 and x <= 61 and x + side >= 75
    assert disagreement([image[:5, :7]] * 2) == (0, 0, 5)


def test_a_picture_has_every_version_of_an_image(scores: Scores) -> None:
    pictures = load_pictures(scores, {"im_1": (3, 4, 16), "001/04": (0, 0, 8)})
    assert [picture.key for picture in pictures] == ["001/04", "000/02", "001/02", "im_1", "im_0"]
    picture = pictures[3]
    names = ["LR", "Bicubic", "A_B & <i>C</i>", "Net|D$", "Late", "GT"]
    assert list(picture.cells) == names
    assert np.array_equal(picture.crop(picture.gt), picture.gt[3:19, 4:20])
    assert picture.lq.shape == picture.gt.shape and picture.captions["Late"].count(" / ") == 1
    maps, level = picture.errors()
    expected = np.abs(picture.results["Late"].astype(float) - picture.gt).mean(-1)
    assert np.allclose(maps["Late"], expected, atol=1e-3) and level > 10


def test_a_profile_is_one_row_of_every_frame(scores: Scores) -> None:
    pictures = load_pictures(scores)
    profiles = load_profiles(scores, pictures)
    assert [profile.clip for profile in profiles] == ["000", "001"]
    frames = scores.store.image_folder("clips")
    gt = [read_shown(frames / f"001__{t:02}_gt.png")[profiles[1].row] for t in range(5)]
    assert np.array_equal(profiles[1].slices["GT"], np.stack(gt))
    assert list(profiles[1].slices) == [*scores.methods[:4], "GT"]
