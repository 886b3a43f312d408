"""Figures with a study's images."""

from __future__ import annotations

import numpy as np

from srtoolbox.comparison.analysis.scores import Scores
from srtoolbox.comparison.report.crops import load_pictures, load_profiles
from srtoolbox.comparison.report.image_figures import draw_crops, draw_errors, draw_profiles


def test_without_images_there_are_no_figures() -> None:
    assert draw_crops([]) is draw_errors([]) is draw_profiles([]) is None


def test_crops_show_the_picture_and_the_region_of_every_version(scores: Scores) -> None:
    picture = load_pictures(scores, {"im_1": (3, 4, 16)})[2]
    assert picture.key == "im_1"
    whole, *parts = [axis.images[0].get_array() for axis in draw_crops([picture]).axes]
    assert np.array_equal(whole, picture.gt) and len(parts) == len(picture.cells)
    for part, image in zip(parts, picture.cells.values(), strict=True):
        assert np.array_equal(part, image[3:19, 4:20])


def test_error_maps_of_a_picture_share_their_scale(scores: Scores) -> None:
    picture = load_pictures(scores)[0]
    maps, level = picture.errors()
    *axes, bar = draw_errors([picture]).axes
    assert bar.get_ylabel() == "mean |error|, levels of 255"
    for axis, errors in zip(axes, maps.values(), strict=True):
        assert np.array_equal(axis.images[0].get_array(), errors)
        assert axis.images[0].get_clim() == (0, level)


def test_a_profile_has_a_strip_for_every_method(scores: Scores) -> None:
    profile = load_profiles(scores, load_pictures(scores))[0]
    frame, *strips = [axis.images[0].get_array() for axis in draw_profiles([profile]).axes]
    assert np.array_equal(frame, profile.picture)
    for strip, rows in zip(strips, profile.slices.values(), strict=True):
        assert np.array_equal(strip, rows)
