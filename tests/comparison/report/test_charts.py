"""Charts of a study's numbers."""

from __future__ import annotations

import numpy as np
import pytest

from srtoolbox.comparison.analysis.scores import Scores
from srtoolbox.comparison.report.charts import (
    draw_curves,
    draw_differences,
    draw_tradeoff,
    generator_losses,
    summarize_seeds,
)
from srtoolbox.comparison.report.style import render


@pytest.mark.slow
def test_charts_show_every_method_that_has_numbers(scores: Scores) -> None:
    figure = draw_tradeoff(scores, "clips")
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["Bicubic", "A_B & <i>C</i>", "Net|D$", "Late"]
    axis = draw_differences(scores, "images", "Bicubic").axes[0]
    assert [text.get_text() for text in axis.get_yticklabels()] == labels[1:]
    assert "difference to Bicubic by image" in axis.get_title(loc="left")


@pytest.mark.slow
def test_many_dots_do_not_fill_a_report(scores: Scores, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = render(draw_differences(scores, "images", "Bicubic"), "svg")
    monkeypatch.setattr("srtoolbox.comparison.report.charts._MOST_DOTS", 1)
    pixels = render(draw_differences(scores, "images", "Bicubic"), "svg")
    assert vectors.count(b"<use ") > pixels.count(b"<use ")
    assert b"<image " in pixels and b"<image " not in vectors


def test_gradients_and_rates_are_no_losses(scores: Scores) -> None:
    assert generator_losses(scores, scores.entries["Late"][0]) == {
        s: 1.5 + 1 / s for s in (2, 4, 6)
    }


def test_a_curve_is_of_the_steps_that_all_seeds_have() -> None:
    steps, middle, low, high = summarize_seeds([{1: 1.0, 2: 2.0, 3: 9.0}, {}, {1: 3.0, 2: 2.0}])
    assert [part.tolist() for part in (steps, middle, low, high)] == [
        [1, 2], [2, 2], [1, 2], [3, 2]
    ]  # fmt: skip
    assert summarize_seeds([]) is None


def test_curves_show_losses_and_validation_scores(scores: Scores) -> None:
    figure = draw_curves(scores)
    loss, quality = figure.axes
    assert (loss.get_title(loc="left"), loss.get_yscale()) == ("training loss", "log")
    assert quality.get_title(loc="left") == "validation PSNR (dB)"
    late = next(line for line in quality.lines if line.get_label() == "Late")
    assert late.get_xdata().tolist() == [3, 6] and late.get_ydata().tolist() == [24.5, 27.5]


def test_a_method_without_parameters_is_a_line(scores: Scores) -> None:
    axis = draw_tradeoff(scores, "images").axes[0]
    height = np.mean([means["psnr"] for means in scores.seed_means("Bicubic", "images")])
    line = next(line for line in axis.lines if len(set(line.get_xdata())) == 2)
    assert line.get_ydata() == [height, height]


def test_without_numbers_there_are_no_charts(scores: Scores) -> None:
    scores.entries = {"Broken": scores.entries["Broken"]}
    assert draw_tradeoff(scores, "images") is draw_differences(scores, "images") is None
