"""Published numbers are only in the tables of their own protocol."""

from __future__ import annotations

import pytest
from support.studies import compare

from srtoolbox.comparison.options import StudyOptions
from srtoolbox.comparison.report.footnotes import published_marks, published_notes
from srtoolbox.comparison.store import Published
from srtoolbox.config.load import load_options
from srtoolbox.config.schema import OptionErrors

ROW = """
published:
  - method: LGTD
    dataset: {dataset}
    protocol: {protocol}
    scores: {{{metric}: 36.08, ssim: 0.9604}}
    params: 20.7e6
    source: {source}
"""


def row(dataset="sample", protocol="rgb", metric="psnr", source="'Table II of LGTD'") -> str:
    return ROW.format(dataset=dataset, protocol=protocol, metric=metric, source=source)


def test_a_row_is_on_the_card_of_its_protocol(study_file) -> None:
    only = "methods: {EDSR: !delete, EDVR: !delete}\nprotocols: [basicsr-y, rgb]\n"
    card = compare(study_file(row() + only)).load_card()
    published = Published(
        "LGTD", "sample", "rgb", {"psnr": 36.08, "ssim": 0.9604}, "Table II of LGTD", 20.7e6
    )
    assert card.published == [published]
    views = {view.protocol["name"]: view.published for view in card.views()}
    assert views == {"basicsr-y": [], "rgb": [published]}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"protocol": "jilin189-table"},
            r"study.yml:6: published.0.protocol: the scores of LGTD are of protocol "
            r"jilin189-table, the table is of rgb: their numbers cannot be compared; add",
        ),
        ({"protocol": "jilin"}, r"published.0.protocol: unknown protocol 'jilin'; did you mean"),
        ({"dataset": "samples"}, r"published.0.dataset: the study has no 'samples'; did you mean"),
        ({"metric": "psnt"}, r"published.0.scores.psnt: the study has no 'psnt'"),
        ({"source": "''"}, r"published.0.source: name the publication that prints the numbers"),
    ],
)
def test_a_row_that_matches_no_table_is_refused(study_file, values: dict, message: str) -> None:
    with pytest.raises(OptionErrors, match=message):
        load_options(study_file(row(**values)), (), StudyOptions)


def test_rows_of_several_sources_have_numbers() -> None:
    rows = [
        Published("TDAN", "clips", "rgb", {"psnr": 34.97}, "ten clips", 1.97e6),
        Published("Bicubic", "clips", "rgb", {"psnr": 31.16}, "ten clips"),
        Published("TDAN", "clips", "rgb", {"psnr": 35.18}, "five clips"),
    ]
    assert published_marks(rows[:2]) == {"ten clips": "published"}
    assert published_marks(rows) == {"ten clips": "published 1", "five clips": "published 2"}
    end = "(not measured here, not ranked):"
    assert published_notes(rows, sizes=False) == [
        f"Published 1 {end} TDAN, Bicubic. Source: ten clips.",
        f"Published 2 {end} TDAN. Source: five clips.",
    ]
    assert published_notes(rows, sizes=True)[0] == (
        f"Published 1 {end} TDAN, 1.97 M parameters; Bicubic. Source: ten clips."
    )
