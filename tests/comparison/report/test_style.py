"""The common style of figures."""

from __future__ import annotations

import matplotlib
import pytest

from srtoolbox.comparison.analysis.scores import Scores
from srtoolbox.comparison.report.charts import draw_differences
from srtoolbox.comparison.report.crops import load_pictures
from srtoolbox.comparison.report.image_figures import draw_crops
from srtoolbox.comparison.report.style import in_style, looks, new_figure, render


@pytest.mark.slow
def test_a_figure_is_drawn_the_same_each_time(scores: Scores) -> None:
    pictures = load_pictures(scores)[:1]
    for kind in ("png", "svg"):
        first = render(draw_crops(pictures), kind, 60)
        assert render(draw_crops(pictures), kind, 60) == first
        assert render(draw_differences(scores, "images", "Bicubic"), kind, 60) == render(
            draw_differences(scores, "images", "Bicubic"), kind, 60
        )


def test_no_two_methods_look_alike() -> None:
    found = looks([str(i) for i in range(28)])
    assert len(set(map(str, found.values()))) == 28


def test_the_style_ends_with_the_function() -> None:
    before = matplotlib.rcParams["font.size"]
    inside = in_style()(lambda: matplotlib.rcParams["font.size"])()
    assert inside == 8.5 != before and matplotlib.rcParams["font.size"] == before


def test_dollar_signs_in_names_are_no_formulas() -> None:
    def drawn(title: str) -> bytes:
        figure = new_figure(3, 2)
        figure.text(0, 0.5, title)
        return render(figure, "svg", 60)

    assert drawn("Net|D$") != drawn("Net|D")
