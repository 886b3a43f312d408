"""Layouts of known datasets are complete and consistent, and are found by name."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from srtoolbox.cli.info import layouts_table
from srtoolbox.data.layouts import ALIASES, LAYOUTS, Layout, get_layout
from srtoolbox.errors import UserError

DATASETS = {"jilin189", "realbsr_rgb", "realbsr_raw", "burstsr", "syntheticburst", "sbsr", "div2k"}
DATASETS |= {"flickr2k", "set5", "set14", "bsd100", "urban100", "manga109"}
DATASETS |= {"vid4", "reds", "vimeo90k", "satellite_clips", "sbsr_official", "rbsr"}
DATASETS |= {"probav", "sen2venus", "worldstrat", "multiband"}
PLAIN = {"folder": "image", "clips": "clip", "bursts": "burst"}


@pytest.fixture(params=LAYOUTS.values(), ids=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> Layout:
    return request.param


def test_the_datasets_are_known():
    assert set(LAYOUTS) == DATASETS | PLAIN.keys()
    assert {name: LAYOUTS[name].kind for name in PLAIN} == PLAIN


def test_names_lead_to_layouts(layout: Layout):
    assert get_layout(layout.name) is layout


def test_bsr_is_an_alias_that_the_layout_explains():
    assert ALIASES == {"bsr": "realbsr_rgb"}
    assert get_layout("bsr").name == "realbsr_rgb"
    assert "our reading" in get_layout("bsr").note


def test_a_wrong_name_is_answered_with_close_ones():
    with pytest.raises(UserError, match="layout 'Jilin-189': unknown; did you mean 'jilin189'"):
        get_layout("Jilin-189")


def test_templates_hold_known_placeholders_and_name_their_items(layout: Layout):
    for split in layout.splits.values():
        for found in split:
            assert found.gt or found.lq
            for files in filter(None, (found.gt, found.lq)):
                words = re.findall(r"\{([^}]+)\}", files)
                assert set(words) <= {"clip", "frame", "stem", "scale", "any", "-any"}
                assert ("stem" if layout.kind == "image" else "clip") in words
                assert not files.startswith("/")
                assert ".." not in files
            if layout.kind == "burst":
                assert found.lq
                assert "{frame}" in found.lq
                assert "{frame}" not in (found.gt or "")
            assert found.gt != found.lq, "HR and LR would be the same files"


def test_arrangements_of_a_split_differ(layout: Layout):
    for split in layout.splits.values():
        assert len(set(split)) == len(split)


def test_sizes_fit_the_scale(layout: Layout):
    if layout.gt_size and layout.lq_size:
        factor = layout.scales[0] * (2 if layout.raw else 1)
        assert layout.gt_size == tuple(factor * side for side in layout.lq_size)


def test_levels_fit_the_bit_depth(layout: Layout):
    if layout.white_level:
        assert layout.black_level < layout.white_level <= 2**layout.bit_depth


def test_facts_are_given_or_said_not_to_be_stated(layout: Layout):
    assert layout.title
    assert layout.source
    assert layout.degradation
    if layout.name not in PLAIN:
        assert layout.licence
        assert layout.paper or layout.source == f"srtoolbox prepare {layout.name}"
        assert layout.scales


def test_reds4_is_held_out():
    reds = LAYOUTS["reds"].splits
    reds4 = {"000", "011", "015", "020"}
    assert all(reds4 <= set(found.without) for found in reds["train"])
    assert all(
        set(found.only) == reds4 for found in reds["test"] if found.gt != "GT/{clip}/{frame}"
    )
    assert reds["train"][0].num_item == 240 - len(reds4)


def test_the_table_has_a_line_for_every_layout():
    page = io.StringIO()
    Console(width=400, file=page).print(layouts_table())
    text = page.getvalue()
    for name in LAYOUTS:
        assert re.search(rf"\b{name}\b", text)
    facts, origin = (line for line in text.splitlines() if " jilin189 " in f" {line} ")
    for fact in ("clip", "train 189", "test 12", "x4", "100", "640×640"):
        assert fact in facts
    assert "zenodo" in origin


def test_the_page_of_datasets_is_up_to_date():
    """docs/datasets.md is made from the layouts: run docs/reference.py after a change."""
    import importlib.util

    script = Path(__file__).parents[3] / "docs" / "list_datasets.py"
    spec = importlib.util.spec_from_file_location("list_datasets", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.tables() in module.PAGE.read_text()
