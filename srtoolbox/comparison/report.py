"""Everything that is printed of a study, made from its store alone."""

from __future__ import annotations

import logging
from pathlib import Path

from srtoolbox.comparison.figures import draw_comparison, draw_curves
from srtoolbox.comparison.results import ResultStore
from srtoolbox.comparison.table import Table, build_table, to_csv, to_markdown
from srtoolbox.engine.files import write_atomic

_log = logging.getLogger("srtoolbox")


def write_report(folder: Path) -> tuple[str, Table]:
    """Writes ``table.md``, ``table.csv``, ``comparison.png`` and ``curves.png`` into a study.

    Args:
        folder: A study's folder.

    Returns:
        The study's title and its table.

    Raises:
        UserError: if the folder holds no study.
    """
    store = ResultStore(folder)
    card = store.load_card()
    title = f"{card.name} (x{card.scale})"
    table = build_table(store, card)
    write_atomic(folder / "table.md", to_markdown(table, title))
    write_atomic(folder / "table.csv", to_csv(table))
    draw_comparison(store, card, folder / "comparison.png")
    draw_curves(store, card, folder / "curves.png")
    return title, table
