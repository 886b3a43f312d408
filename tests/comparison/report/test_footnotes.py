"""Notes below tables."""

from __future__ import annotations

from srtoolbox.comparison.analysis.scores import Scores
from srtoolbox.comparison.report.footnotes import behind_untrained, study_notes, tied_note
from srtoolbox.comparison.report.tables import overview


def test_costs_name_their_conditions_and_what_they_lack(scores: Scores) -> None:
    cost = scores.cost(scores.entries["Late"][0])
    cost |= {"input": [1, 5, 3, 8, 10], "uncounted": ["aten::roll"]}
    notes = study_notes(scores)
    first = next(note for note in notes if note.startswith("Costs are of one SR frame"))
    for part in (
        "from 3×3×8×10",
        "on a CPU, CPU threads: 1, torch 2.9, fp32.",
        "CPU threads per training: 1.",
    ):
        assert part in first
    assert "Costs of Late were measured with 5×3×8×10." in notes
    assert "GFLOPs of Late do not include aten::roll." in notes
    assert not any("GFLOPs" in note for note in study_notes(scores, costs=False))


def test_deviations_and_failures_are_sentences(scores: Scores) -> None:
    scores.entries["Late"][0].deviations = ["total_iter 12 instead of 6", "path.strict false"]
    notes = study_notes(scores)
    assert (
        "† Late differs from the shared settings: total_iter 12 instead of 6; path.strict false."
        in notes
    )
    assert "✗ Broken with seed 0 failed: loss is not finite" in notes
    assert notes[0] == "Protocol duf-y (duf-y0123)."
    assert notes[1] == "Training: 6 iterations; seeds 0, 1 (mean ± standard deviation)."


def test_the_sign_of_a_tie_is_explained_where_it_is_used(scores: Scores) -> None:
    assert tied_note("clips").startswith("≈ marks a value that does not differ significantly")
    scores.card.entries = [
        e for e in scores.card.entries if e.method in ("A_B & <i>C</i>", "Net|D$")
    ]
    table = overview(Scores(scores.store, scores.card))
    assert table.tied_with_best and table.notes[1] == tied_note("clips or images")
    assert not any(note.startswith("≈") for note in overview(scores).notes[2:])


def test_trivial_outputs_are_named_with_their_seeds(scores: Scores) -> None:
    method, entries = next((m, e) for m, e in scores.entries.items() if len(e) > 1)
    entries[1].degenerate = "output equals its enlarged frame"
    note = f"‡ {method} with seed {entries[1].seed}: output equals its enlarged frame."
    assert note in study_notes(scores)
    row = next(name for name in overview(scores).names if name.startswith(method))
    assert "‡" in row


def test_a_trained_method_behind_an_untrained_one_is_marked(scores: Scores) -> None:
    untrained = "Bicubic"
    for entry in scores.entries[untrained]:
        assert scores.cost(entry)["params"] == 0
    trained = [m for m, (entry, *_) in scores.entries.items() if entry.run]
    assert not any("§" in name for name in overview(scores).names)
    assert not behind_untrained(scores, untrained)
    dataset, metric = scores.main_datasets[0], scores.shown_metrics[0]
    for record in scores.records(scores.entries[untrained][0], dataset):
        record["metrics"][metric] = 99.0 * scores.direction(metric)
    changed = Scores(scores.store, scores.card)
    behind = [m for m in trained if behind_untrained(changed, m)]
    assert behind
    for method in behind:
        assert f"{method} §" in " ".join(overview(changed).names).replace(" †", "")
        assert any(
            note.startswith(f"§ {method} is behind {untrained} on {dataset}")
            for note in study_notes(changed)
        )
