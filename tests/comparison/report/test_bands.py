"""Pictures of images of other than one or three bands: what is shown, and errors of all bands."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from srtoolbox.comparison.analysis.scores import Scores
from srtoolbox.comparison.report.crops import Shown, load_pictures, load_profiles
from srtoolbox.comparison.report.image_figures import draw_crops, draw_errors
from srtoolbox.comparison.report.write import write_report
from srtoolbox.comparison.store import ResultStore
from srtoolbox.engine.evaluation.images import save_image
from srtoolbox.errors import UserError

BANDS = 5


def with_bands(folder: Path, count: int, rgb_bands: list[int] | None = None) -> ResultStore:
    """Gives every stored picture of a study ``count`` bands; those of methods err in the last."""
    store = ResultStore(folder)
    rng = np.random.default_rng(0)
    truth: dict[str, np.ndarray] = {}
    for path in sorted(folder.rglob("*.png")):
        name = path.stem.removesuffix("_gt").removesuffix("_lq")
        if name not in truth:
            truth[name] = (0.1 + 0.3 * rng.random((count, 32, 40))).astype(np.float32)
        image = truth[name].copy()
        if path.stem.endswith("_lq"):
            image = image[:, ::4, ::4]
        elif not path.stem.endswith("_gt"):
            image[-1] += 0.1
        save_image(path, torch.from_numpy(image), rgb_bands)
    store.save_card(replace(store.load_card(), rgb_bands=rgb_bands))
    return store


@pytest.fixture
def store(rich_study: Path) -> ResultStore:
    return with_bands(rich_study, BANDS, [4, 3, 2])


class TestShown:
    def test_the_ground_truth_sets_the_brightness(self) -> None:
        image = np.linspace(0.2, 0.4, 4 * 100, dtype=np.float32).reshape(4, 10, 10)
        shown = Shown.of(image, [3, 2, 1])
        picture = shown.picture(image)
        assert picture.shape == (10, 10, 3) and picture.dtype == np.uint8
        assert picture.min() == 0 and picture.max() == 255
        assert picture[0, 0, 0] > picture[0, 0, 1] > picture[0, 0, 2]  # brighter bands come later
        assert "bands 3, 2, 1 of 4 as red, green, blue" in shown.text

    @pytest.mark.parametrize(("count", "bands"), [(2, (1,)), (4, (1, 2, 3)), (13, (1, 2, 3))])
    def test_default_bands(self, count: int, bands: tuple[int, ...]) -> None:
        assert Shown.of(np.random.default_rng(0).random((count, 4, 4)), None).bands == bands

    def test_constant_images(self) -> None:
        shown = Shown.of(np.full((4, 3, 3), 0.5), None)
        assert not shown.picture(np.full((4, 3, 3), 0.5)).any()


def test_pictures_show_the_chosen_bands(store: ResultStore) -> None:
    picture = load_pictures(Scores(store))[0]
    assert picture.shown is not None and picture.shown.bands == (4, 3, 2)
    assert set(picture.bands) == {"GT", *picture.results}
    expected = picture.shown.picture(picture.bands["GT"])
    assert np.array_equal(picture.gt, expected)
    for image in picture.results.values():  # only the last band differs, which is not shown
        assert np.abs(image.astype(int) - picture.gt).max() <= 1
    assert picture.lq is not None and picture.lq.shape == picture.gt.shape


def test_errors_are_those_of_all_bands(store: ResultStore) -> None:
    picture = load_pictures(Scores(store))[0]
    maps, level = picture.errors()
    for error in maps.values():
        assert np.allclose(error, 255 * 0.1 / BANDS, atol=0.01)
    assert level == pytest.approx(5.1, abs=0.01)
    assert picture.error_text == "mean over all 5 bands"


def test_profiles_use_the_same_bands(store: ResultStore) -> None:
    pictures = load_pictures(Scores(store))
    profiles = load_profiles(Scores(store), pictures)
    assert profiles and all(profile.slices["GT"].dtype == np.uint8 for profile in profiles)
    profile = profiles[0]
    for name, rows in profile.slices.items():
        if name != "GT":
            assert np.abs(rows.astype(int) - profile.slices["GT"]).max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize(("count", "rgb_bands"), [(1, None), (13, [4, 3, 2])])
def test_reports_of_any_number_of_bands(
    rich_study: Path, count: int, rgb_bands: list[int] | None
) -> None:
    store = with_bands(rich_study, count, rgb_bands)
    write_report(store.folder, ["html", "figures"])
    page = (store.folder / "report.html").read_text()
    assert ("intensities from" in page) == (count != 1)
    assert (f"mean over all {count} bands" in page) == (count != 1)
    pictures = load_pictures(Scores(store))
    crops, errors = draw_crops(pictures), draw_errors(pictures)
    assert crops is not None and errors is not None
    texts = [text.get_text() for text in crops.texts]
    assert any("intensities" in text for text in texts) == (count != 1)
    labels = [axis.get_ylabel() for axis in errors.axes]
    assert any(f"of {count} bands" in label for label in labels) == (count != 1)


def test_damaged_bands_are_named(store: ResultStore) -> None:
    path = next(store.folder.rglob("*_gt.tif"))
    path.write_bytes(b"II*\0")
    with pytest.raises(UserError, match=rf"{path.name}: damaged"):
        load_pictures(Scores(store))
