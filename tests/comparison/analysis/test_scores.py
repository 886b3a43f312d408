"""Scores of the rich study by method, dataset and metric."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from srtoolbox.comparison.analysis.scores import Scores
from srtoolbox.comparison.store import ResultStore


@pytest.fixture
def store(rich_study: Path) -> ResultStore:
    return ResultStore(rich_study)


def test_methods_datasets_and_metrics_have_the_order_of_the_study(store) -> None:
    scores = Scores(store)
    assert scores.methods == ["Bicubic", "A_B & <i>C</i>", "Net|D$", "Late", "Broken"]
    assert [entry.seed for entry in scores.entries["Late"]] == [0, 1]
    assert scores.datasets == scores.main_datasets == ["clips", "images"]
    assert list(scores.metrics) == ["psnr", "ssim", "lpips"]
    assert scores.shown_metrics == ["psnr", "ssim"]  # LPIPS is unavailable, and not published
    assert scores.average == "clips"


def test_a_published_metric_is_shown_though_it_is_unavailable(store) -> None:
    card = store.load_card()
    card.published[0].scores["lpips"] = 0.1
    store.save_card(card)
    assert Scores(store).shown_metrics == ["psnr", "ssim", "lpips"]


def test_images_are_means_over_seeds_and_clips_are_means_over_frames(store) -> None:
    scores = Scores(store)
    images = scores.images("Late", "clips", "psnr")
    assert list(images) == scores.keys("clips") and len(images) == 15
    by_seed = [
        {record["key"]: record["metrics"]["psnr"] for record in scores.records(entry, "clips")}
        for entry in scores.entries["Late"]
    ]
    for key, value in images.items():
        assert value == pytest.approx(np.mean([values[key] for values in by_seed]))
    clips = scores.clips("Late", "clips", "psnr")
    assert list(clips) == ["000", "001", "002"]
    frames = [value for key, value in images.items() if key.startswith("001/")]
    assert clips["001"] == pytest.approx(np.mean(frames))
    means = [means["psnr"] for means in scores.seed_means("Late", "clips")]
    assert np.mean(means) == pytest.approx(np.mean(list(clips.values())))


def test_a_missing_score_leaves_the_method_out(store) -> None:
    scores = Scores(store)
    assert scores.images("Broken", "clips", "psnr") == {}
    assert scores.images("Late", "clips", "lpips") == {}
    assert list(scores.samples("clips", "psnr")) == scores.methods[:-1]
    assert scores.samples("clips", "lpips") == {} and scores.best("clips", "lpips") is None
    card = store.load_card()
    card.entries = [e for e in card.entries if (e.method, e.seed) != ("Late", 1)]
    assert "Late" in Scores(store, card.views()[0]).samples("clips", "psnr")
    card.entries[-1].evaluations["clips"] = "not evaluated"  # a seed of "Net|D$" or "Broken"
    late = next(entry for entry in card.entries if entry.method == "Net|D$" and entry.seed == 1)
    late.evaluations["clips"] = "not evaluated"
    assert "Net|D$" not in Scores(store, card.views()[0]).samples("clips", "psnr")


def test_a_metric_that_the_card_does_not_list_is_left_out(store) -> None:
    card = store.load_card()
    del card.metrics["ssim"]
    scores = Scores(store, card.views()[0])
    assert all("ssim" not in means for means in scores.seed_means("Late", "clips"))
    assert all(means["psnr"] is not None for means in scores.seed_means("Late", "clips"))


def test_samples_are_clips_or_images(store) -> None:
    scores = Scores(store)
    assert scores.unit("clips") == "clips" and scores.unit("images") == "images"
    assert {len(values) for values in scores.samples("clips", "psnr").values()} == {3}
    assert {len(values) for values in scores.samples("images", "psnr").values()} == {12}
    assert not scores.has_clips("nothing") and scores.keys("nothing") == []


def test_the_best_and_its_ties(store) -> None:
    scores = Scores(store)
    assert scores.best("images", "psnr") == "Late"
    assert scores.tied_with_best("images", "psnr") == set()
    scores.metrics["psnr"] = {**scores.metrics["psnr"], "higher_is_better": False}
    assert scores.best("images", "psnr") == "Bicubic"
    card = store.load_card()
    card.entries = [entry for entry in card.entries if entry.method != "Late"]
    rest = Scores(store, card.views()[0])
    names = {"A_B & <i>C</i>", "Net|D$"}  # their true gains differ by 0.02 dB, the noise is 0.1 dB
    best = rest.best("clips", "psnr")
    assert best in names
    assert rest.tied_with_best("clips", "psnr") == names - {best}
    card.entries = [entry for entry in card.entries if entry.method == "Bicubic"]
    assert Scores(store, card.views()[0]).tied_with_best("clips", "psnr") == set()


def test_kinds_of_frames_are_metrics(store) -> None:
    card = store.load_card()
    card.entries, card.metrics = card.entries[:1], {"psnr": card.metrics["psnr"]}
    card.entries[0].evaluations = {"st": "st"}
    store.add_records([
        {"evaluation": "st", "key": f"000/{t}", "index": t, "of": 3, "seconds": 0.1,
         "kind": "interpolated" if t == 1 else "given", "metrics": {"psnr": 30.0 + t}}
        for t in range(3)
    ])  # fmt: skip
    scores = Scores(store, card.views()[0])
    assert list(scores.metrics) == ["psnr", "psnr_given", "psnr_interpolated"]
    assert scores.images("Bicubic", "st", "psnr_interpolated") == {"000/1": 31.0}
    assert scores.images("Bicubic", "st", "psnr_given") == {"000/0": 30.0, "000/2": 32.0}


def test_a_sweep_may_repeat_a_main_dataset(store) -> None:
    card = store.load_card()
    for entry in card.entries:
        if entry.evaluations:
            entry.evaluations |= {"far": entry.evaluations["images"], "near": "other"}
    card.sweeps = {"noise": {"near": 0, "far": 5}}
    scores = Scores(store, card.views()[0])
    assert scores.main_datasets == ["clips", "images"]
    assert scores.repeats("far") and not scores.repeats("near") and not scores.repeats("images")


def test_costs_and_titles(store) -> None:
    scores = Scores(store)
    assert scores.cost(scores.entries["Late"][0])["params"] == 300_000
    assert scores.cost(scores.entries["Broken"][0]) == {}
    assert scores.title("psnr") == "PSNR (dB) ↑"
    assert scores.title("lpips") == "LPIPS ↓"
    assert [scores.direction(name) for name in ("psnr", "lpips")] == [1, -1]
