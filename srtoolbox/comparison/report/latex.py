"""Writes the tables of a study for LaTeX; booktabs is the only package they need."""

from __future__ import annotations

from collections.abc import Sequence

from srtoolbox.comparison.report.table import Cell, Table

_WIDE_COLUMNS = 8  # from here on a table spans both columns of a paper, in smaller type

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    '"': "''",
    # At the start of a row LaTeX would read these as an argument of the preceding \\.
    "[": "{[}",
    "*": "{*}",
    **{mark: "\\" + mark for mark in "&%$#_{}"},
    "–": "--",
    "—": "---",
    "−": "$-$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "≈": r"$\approx$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "†": r"$^\dagger$",
    "‡": r"$^\ddagger$",
    "§": r"$^\S$",
    "✗": r"$^\ast$",
    "°": r"$^\circ$",
    "…": r"\ldots{}",
    "’": "'",
    "“": "``",
    "”": "''",
}


def to_latex(tables: Sequence[Table], title: str) -> str:
    r"""Returns tables that a paper includes with ``\input``; its preamble needs ``booktabs``.

    The best value of a column is bold, the second best underlined. Each table has its notes below.
    """
    head = [
        f"% {_one_line(title)}",
        r"% \usepackage{booktabs} in the preamble; notes refer to marks in the table.",
    ]
    return "\n".join([*head, *(line for table in tables for line in _table(table, title)), ""])


def escape(text: str) -> str:
    """Returns text in which LaTeX finds no command, with commands for characters beyond ASCII."""
    return "".join(_SPECIAL.get(mark, mark) for mark in _one_line(text))


def _table(table: Table, title: str) -> list[str]:
    wide = len(table.columns) >= _WIDE_COLUMNS
    # An arrow stays on the line of the last word of its title.
    titles = [escape(column.title).replace(" $\\", "~$\\") for column in table.columns]
    environment = "table*" if wide else "table"
    rows = [_row([escape(table.head), *titles]), r"\midrule"]
    for row, name in enumerate(table.names):
        if row in table.summary or (row in table.published and row - 1 not in table.published):
            rows.append(r"\midrule")
        columns = range(len(table.columns))
        cells = [escape(name), *(_cell(table.cell(row, column)) for column in columns)]
        if row in table.published:
            cells = [rf"\textit{{{cell}}}" for cell in cells]
        rows.append(_row(cells))
    return [
        "",
        rf"\begin{{{environment}}}",
        r"\centering",
        rf"\caption{{{escape(table.title or title)}}}",
        r"\footnotesize" if wide else r"\small",
        r"\setlength{\tabcolsep}{4pt}",
        rf"\begin{{tabular}}{{@{{}}l{'r' * len(table.columns)}@{{}}}}",
        r"\toprule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
        "",
        r"\medskip",
        r"\begin{minipage}{\linewidth}\raggedright\footnotesize",
        *(escape(note) + r"\par" for note in table.notes),
        r"\end{minipage}",
        rf"\end{{{environment}}}",
    ]


def _cell(cell: Cell) -> str:
    numbers = " ".join(filter(None, [cell.number, cell.spread])).replace("-", "−")
    form = {0: "{}", 1: r"\textbf{{{}}}", 2: r"\underline{{{}}}"}[cell.rank]
    return form.format(escape(numbers)) + (r"$^{\approx}$" if cell.tied else "")


def _row(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


def _one_line(text: str) -> str:
    return " ".join(text.split())
