"""The scores of the rich study."""

from __future__ import annotations

from pathlib import Path

import pytest

from srtoolbox.comparison.analysis.scores import Scores
from srtoolbox.comparison.report.table import Table
from srtoolbox.comparison.report.tables import all_tables
from srtoolbox.comparison.store import ResultStore


@pytest.fixture
def views(rich_study: Path) -> list[Scores]:
    """One per protocol."""
    store = ResultStore(rich_study)
    return [Scores(store, card) for card in store.load_card().views()]


@pytest.fixture
def scores(views: list[Scores]) -> Scores:
    """Those of the first protocol."""
    return views[0]


@pytest.fixture
def tables(views: list[Scores]) -> dict[str, Table]:
    """All tables by title."""
    return {table.title: table for table in all_tables(views)}
