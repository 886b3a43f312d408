"""Tables on a terminal, all of one look."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text


def terminal_table(
    title: str | None, head: Sequence[str], rows: Sequence[Sequence[str | Text]], names: int = 1
) -> Table:
    """A table for ``rich``. Heads may be broken between words, cells never.

    Args:
        title: Above it.
        head: Titles of the columns.
        rows: The cells; plain strings are printed as they are, markup is in a ``Text``.
        names: How many of the first columns are names, which stand left; with several, the rows
            of one name in the first stand together.
    """
    rows = [[Text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for index, words in enumerate(head):
        if index < names:
            table.add_column(words, no_wrap=True)
        else:
            width = max([*map(len, words.split()), *(row[index].cell_len for row in rows)])
            table.add_column(words, justify="right", min_width=width)
    for number, row in enumerate(rows, 1):
        following = rows[number : number + 1]
        ends = names > 1 and any(row[0].plain != other[0].plain for other in following)
        table.add_row(*row, end_section=ends)
    return table
