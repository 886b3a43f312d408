"""Notes below tables."""

from __future__ import annotations

from srtoolbox.comparison.analysis.scores import Scores
from srtoolbox.comparison.report.footnotes import study_notes, tied_note
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
