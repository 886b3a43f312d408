"""Numbers that others printed, as rows of a study's tables."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from srtoolbox.comparison.results import Published
from srtoolbox.errors import UserError
from srtoolbox.metrics import get_protocol
from srtoolbox.registry import close_names


def check_published(
    rows: Sequence[Published],
    protocols: Collection[str],
    datasets: Collection[str],
    metrics: Collection[str],
) -> Iterator[tuple[str, str]]:
    """Faults of rows that are to stand in tables of these protocols, datasets and metrics.

    Yields:
        The key of each fault and what is wrong: above all a row that was measured under another
        protocol, whose numbers are no neighbours of the table's.
    """
    for number, row in enumerate(rows):
        key = f"published.{number}"
        try:
            get_protocol(row.protocol)
        except UserError as error:
            yield f"{key}.protocol", str(error)
            continue
        if row.protocol not in protocols:
            tables = f"table is of {protocols[0]}" if len(protocols) == 1 else (
                f"tables are of {', '.join(protocols)}"
            )  # fmt: skip
            yield (
                f"{key}.protocol",
                f"the scores of {row.method} are of protocol {row.protocol}, the {tables}: their "
                f"numbers do not compare; add {row.protocol} to 'protocols', or leave the row out",
            )
        if row.dataset not in datasets:
            yield f"{key}.dataset", _unknown(row.dataset, datasets)
        for metric in row.scores:
            if metric not in metrics:
                yield f"{key}.scores.{metric}", _unknown(metric, metrics)
        if not row.scores:
            yield f"{key}.scores", "give at least one"
        if not row.source.strip():
            yield f"{key}.source", "say where the numbers are printed"


def _unknown(name: str, known: Collection[str]) -> str:
    close = close_names(name, list(known))
    hint = f"did you mean {close}? " if close else ""
    return f"the study has no '{name}'; {hint}there are: {', '.join(known)}"
