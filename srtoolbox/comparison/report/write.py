"""Writes the report of a study from its store; it needs no GPU, dataset or network."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from srtoolbox.comparison.analysis.scores import Scores
from srtoolbox.comparison.report.charts import (
    draw_curves,
    draw_differences,
    draw_sweeps,
    draw_tradeoff,
)
from srtoolbox.comparison.report.crops import Region, load_pictures, load_profiles
from srtoolbox.comparison.report.html import to_html
from srtoolbox.comparison.report.image_figures import draw_crops, draw_errors, draw_profiles
from srtoolbox.comparison.report.latex import to_latex
from srtoolbox.comparison.report.style import render
from srtoolbox.comparison.report.table import Table, to_csv, to_markdown
from srtoolbox.comparison.report.tables import all_tables
from srtoolbox.comparison.store import ResultStore
from srtoolbox.errors import UserError
from srtoolbox.utils.files import write_atomic
from srtoolbox.utils.portable import csv_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("md", "csv", "latex", "html", "figures")


@dataclass(frozen=True)
class Report:
    """A written report.

    Attributes:
        title: Title of the study.
        overview: Its main table.
        files: Paths of the files.
    """

    title: str
    overview: Table
    files: list[Path]


def write_report(
    folder: Path,
    formats: Sequence[str] = FORMATS,
    baseline: str | None = None,
    regions: Mapping[str, Region] | None = None,
) -> Report:
    """Writes a study's tables and figures; the same store gives the same files, byte for byte.

    ``md``: ``table.md``; ``csv``: ``table.csv`` and ``images.csv`` with every score; ``latex``:
    ``table.tex``; ``html``: ``report.html``; ``figures``: ``figures/*.png`` and ``*.svg``.

    Args:
        folder: Folder of the study.
        formats: Formats to write, from ``FORMATS``.
        baseline: Method to compare the others with; None: the best.
        regions: y and x of the corner and side in pixels of the square to enlarge, by the image's
            key; by default it is where the methods differ most.

    Raises:
        UserError: if the folder has no study, or the study no such method or image.
    """
    if unknown := [name for name in formats if name not in FORMATS]:
        raise UserError(f"unknown report format '{unknown[0]}'; known: {', '.join(FORMATS)}")
    store = ResultStore(folder)
    card = store.load_card()
    store.require_complete(card)
    views = [Scores(store, view) for view in card.views()]
    if baseline is not None and baseline not in views[0].methods:
        known = ", ".join(views[0].methods)
        raise UserError(f"no method '{baseline}' to compare the others with; known: {known}")
    title = f"{card.name} (x{card.scale})"
    tables = all_tables(views, baseline)
    contents: dict[str, str | bytes] = {}
    if "md" in formats:
        contents["table.md"] = to_markdown(tables, title)
    if "csv" in formats:
        contents["table.csv"] = to_csv(tables[0])
        contents["images.csv"] = _all_scores(views)
    if "latex" in formats:
        contents["table.tex"] = to_latex(tables, title)
    if {"html", "figures"} & set(formats):
        pictures = load_pictures(views[0], regions)
        profiles = load_profiles(views[0], pictures)
        charts = _charts(views[0], baseline)
        svgs = {name: render(figure, "svg") for name, figure in charts.items()}
        if "html" in formats:
            contents["report.html"] = to_html(views, tables, pictures, profiles, svgs)
        if "figures" in formats:
            figures = {
                "crops": draw_crops(pictures),
                "errors": draw_errors(pictures),
                "profiles": draw_profiles(profiles),
                **charts,
            }
            contents |= {f"figures/{_file_stem(name)}.svg": svg for name, svg in svgs.items()}
            contents |= {
                f"figures/{_file_stem(name)}.png": render(figure, "png")
                for name, figure in figures.items()
                if figure is not None
            }
    for name, content in contents.items():
        write_atomic(folder / name, content)
    return Report(title, tables[0], [folder / name for name in contents])


def parse_regions(texts: Sequence[str]) -> dict[str, Region]:
    """Parses regions from the command line, each ``KEY=Y,X,SIDE``.

    Raises:
        UserError: if a text has another form, or no image can have the region.
    """
    regions = {}
    for text in texts:
        key, _, numbers = text.rpartition("=")
        try:
            y, x, side = map(int, numbers.split(","))
        except ValueError as error:
            raise UserError(f"region '{text}': expected KEY=Y,X,SIDE in pixels") from error
        if min(y, x) < 0 or side < 1:
            raise UserError(
                f"region '{text}': Y and X must be at least 0 and SIDE at least 1 (pixels of the "
                "HR image)"
            )
        regions[key] = y, x, side
    return regions


def _charts(scores: Scores, baseline: str | None) -> dict[str, Figure]:
    charts = {"curves": draw_curves(scores), "sweeps": draw_sweeps(scores)}
    for dataset in scores.main_datasets:
        charts[f"tradeoff_{dataset}"] = draw_tradeoff(scores, dataset)
        charts[f"differences_{dataset}"] = draw_differences(scores, dataset, baseline)
    return {name: figure for name, figure in charts.items() if figure is not None}


def _file_stem(name: str) -> str:
    """Returns the name of a figure as a file name: letters, digits, ``-`` and ``_``."""
    return re.sub(r"[^\w-]", "_", name)


def _all_scores(views: Sequence[Scores]) -> bytes:
    """Returns CSV with one line for each protocol, dataset, method, seed, image and metric."""
    head = ["protocol", "dataset", "method", "seed", "image", "metric", "value"]
    return csv_bytes(chain([head], _score_lines(views)))


def _score_lines(views: Sequence[Scores]) -> Iterator[list[object]]:
    for scores in views:
        protocol = f"{scores.card.protocol['name']} {scores.card.protocol['hash']}"
        for dataset in scores.datasets:
            for entry in scores.card.entries:
                for record in scores.records(entry, dataset):
                    image = [protocol, dataset, entry.method, entry.seed, record["key"]]
                    for score in record["metrics"].items():
                        yield [*image, *score]
