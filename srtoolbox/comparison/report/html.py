"""A study as one HTML file that needs nothing else: no network, no other file, no server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from srtoolbox.comparison.analysis.scores import Scores
from srtoolbox.comparison.report.crops import Picture, Profile
from srtoolbox.comparison.report.html_images import (
    before_after,
    crops,
    data_uri,
    error_maps,
    profile_rows,
)
from srtoolbox.comparison.report.table import TIED_MARK, Table

_LEGEND = (
    "<p>Bold is the best of a column, underlined the second best. "
    '<span class="hint">A click on a head sorts by it.</span></p>'
)
_HINT = "cannot be told apart from the best"


def to_html(
    views: Sequence[Scores],
    tables: Sequence[Table],
    pictures: Sequence[Picture],
    profiles: Sequence[Profile],
    charts: Mapping[str, bytes],
) -> str:
    """The whole report.

    Args:
        views: Of one study, protocol by protocol.
        tables: The overview first.
        pictures: That were kept.
        profiles: Of clips.
        charts: SVG by name: ``curves``, ``sweeps``, and ``tradeoff`` and ``differences`` of each
            dataset.
    """
    scores = views[0]
    card = scores.card
    whole = [table for table in tables if table.dataset is None]
    sections = {
        "Overview": [_LEGEND, *(_table(table) for table in whole if table.quantity is None)],
        "Sweeps": [
            _chart(charts, "sweeps", "Scores over the quantities that test sets differ in"),
            *(_table(table) for table in whole if table.quantity is not None),
        ],
        "Cost": [
            _chart(charts, f"tradeoff_{dataset}", f"Quality on {dataset} against cost", dataset)
            for dataset in scores.main_datasets
        ],
        "Training": [_chart(charts, "curves", "Training loss and validation score")],
    }
    for dataset in scores.datasets:
        own = [table for table in tables if table.dataset == dataset]
        sections[f"Statistics: {dataset}"] = [
            _chart(charts, f"differences_{dataset}", f"Differences on {dataset}", dataset),
            *(_table(table) for table in own if not table.across),
            *(_folded(table) for table in own if table.across),
        ]
    sections |= {
        "Before and after": [before_after(pictures)],
        "Crops": [crops(picture) for picture in pictures],
        "Error maps": [error_maps(picture) for picture in pictures],
        "Temporal profiles": [profile_rows(profile) for profile in profiles],
    }
    sections = {
        title: filled for title, parts in sections.items() if (filled := [*filter(None, parts)])
    }
    template = Template(_asset("report.html"))
    return template.substitute(
        title=escape(f"{card.name} (×{card.scale})"),
        lead=escape(_lead(views)),
        css=_asset("report.css"),
        js=_asset("report.js"),
        filters=_filters(views, list(sections)),
        sections="\n".join(_section(title, parts) for title, parts in sections.items()),
        footer=escape(_environment(card.environment)),
    )


def _section(title: str, parts: Sequence[str]) -> str:
    anchor = _anchor(title)
    head = f'<section id="{anchor}">\n<h2>{escape(title)}</h2>'
    return "\n".join([head, *parts, "</section>"])


def _anchor(title: str) -> str:
    return escape("-".join(title.lower().split()), quote=True)


def _table(table: Table, titled: bool = True) -> str:
    heads = [f'<th scope="col"><button type="button">{escape(table.head)}</button></th>']
    for column in table.columns:
        about = _about(dataset=column.dataset)
        heads.append(
            f'<th scope="col" data-better="{column.better}" {about}>'
            f'<button type="button">{_head(column.title)}</button></th>'
        )
    rows = []
    for row, name in enumerate(table.methods):
        kind = "published" if row in table.published else "summary" if row in table.summary else ""
        cells = "".join(_cell(table, row, column) for column in range(len(table.columns)))
        rows.append(f'<tr class="{kind}"><th scope="row">{escape(name)}</th>{cells}</tr>')
    title = f"<h3>{escape(table.title)}</h3>" if titled and table.title else ""
    notes = "".join(f"<li>{escape(note)}</li>" for note in table.notes)
    return (
        f"<div {_about(protocol=table.protocol, dataset=table.dataset)}>{title}"
        f'<div class="scroll" tabindex="0"><table>\n<thead><tr>{"".join(heads)}</tr></thead>\n'
        f"<tbody>\n{chr(10).join(rows)}\n</tbody></table></div>\n"
        f'<ul class="notes">{notes}</ul></div>'
    )


def _head(title: str) -> str:
    """A head whose arrow stays with its last word."""
    words, _, arrow = title.rpartition(" ")
    return escape(f"{words}\N{NO-BREAK SPACE}{arrow}" if arrow in ("↑", "↓") else title)


def _folded(table: Table) -> str:
    about = _about(protocol=table.protocol, dataset=table.dataset)
    body = _table(table, titled=False)
    return f"<details {about}><summary>{escape(table.title)}</summary>{body}</details>"


def _cell(table: Table, row: int, column: int) -> str:
    text, value = table.text(row, column), table.values[row][column]
    close = text.endswith(TIED_MARK)
    number, _, interval = text.rstrip(TIED_MARK).partition(" ")
    tag = {0: "{}", 1: "<b>{}</b>", 2: "<u>{}</u>"}[table.rank(row, column)]
    shown = tag.format(escape(number.replace("-", "−")))
    if interval:
        shown += f" <small>{escape(interval.replace('-', '−'))}</small>"
    if close:
        shown += f'<sup title="{_HINT}">{TIED_MARK}</sup>'
    about = _about(dataset=table.columns[column].dataset)
    return f'<td data-value="{"" if value is None else repr(value)}" {about}>{shown}</td>'


def _chart(charts: Mapping[str, bytes], name: str, text: str, dataset: str | None = None) -> str:
    if name not in charts:
        return ""
    source = data_uri(charts[name], "image/svg+xml")
    image = f'<img src="{source}" alt="{escape(text, quote=True)}">'
    return f'<figure class="chart scroll" tabindex="0" {_about(dataset=dataset)}>{image}</figure>'


def _filters(views: Sequence[Scores], titles: Sequence[str]) -> str:
    protocols = [scores.card.protocol["name"] for scores in views]
    choices = "".join(
        f'<label>{name.capitalize()}<select name="{name}"><option value="">all</option>'
        + "".join(f"<option>{escape(value)}</option>" for value in values)
        + "</select></label>"
        for name, values in (("dataset", views[0].main_datasets), ("protocol", protocols))
        if len(values) > 1
    )
    links = "".join(f'<a href="#{_anchor(title)}">{escape(title)}</a>' for title in titles)
    return f'<nav class="filters{"" if choices else " bare"}">{links}{choices}</nav>'


def _lead(views: Sequence[Scores]) -> str:
    scores = views[0]
    seeds = len({entry.seed for entry in scores.card.entries})
    datasets = [dataset for dataset in scores.datasets if not scores.repeats(dataset)]
    images = sum(len(scores.keys(dataset)) for dataset in datasets)
    counts = [
        (len(scores.methods), "method"),
        (len(datasets), "dataset"),
        (images, "test image"),
        (seeds, "seed"),
    ]
    words = [f"{count} {name}{'' if count == 1 else 's'}" for count, name in counts]
    names = [f"{s.card.protocol['name']} ({s.card.protocol['hash']})" for s in views]
    return " · ".join([*words, "protocol " + ", ".join(names)])


def _environment(environment: dict[str, Any]) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in environment["packages"].items())
    return (
        f"Made by srtoolbox {environment['srtoolbox']}, commit {environment['commit']}, on "
        f"{environment['device']}, {environment['platform']}, Python {environment['python']}: "
        f"{packages}."
    )


def _about(**facts: str | None) -> str:
    """Attributes by which the filters find a part."""
    return " ".join(
        f'data-{name}="{escape(value, quote=True)}"' for name, value in facts.items() if value
    )


def _asset(name: str) -> str:
    return (files("srtoolbox.comparison") / "templates" / name).read_text(encoding="utf-8").strip()
