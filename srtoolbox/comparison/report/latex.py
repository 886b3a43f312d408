"""The tables of a study for LaTeX, with booktabs and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from srtoolbox.comparison.report.table import TIED_MARK, Table

_WIDE = 8  # columns from which a table spans both columns of a paper, in smaller type

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    '"': "''",
    # After the end of a row these would be an argument of it.
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
    "✗": r"$^\ast$",
    "°": r"$^\circ$",
    "…": r"\ldots{}",
    "’": "'",
    "“": "``",
    "”": "''",
}


def to_latex(tables: Sequence[Table], title: str) -> str:
    r"""Tables to be taken into a paper by ``\input``; its preamble needs ``booktabs``.

    The best of each column is bold, the second underlined. Notes stand below each table.
    """
    head = [
        f"% {_one_line(title)}",
        r"% \usepackage{booktabs} in the preamble; notes refer to marks in the table.",
    ]
    return "\n".join([*head, *(line for table in tables for line in _table(table, title)), ""])


def escape(text: str) -> str:
    """Text of which nothing is taken for a command; characters beyond ASCII by their commands."""
    return "".join(_SPECIAL.get(mark, mark) for mark in _one_line(text))


def _table(table: Table, title: str) -> list[str]:
    columns = range(len(table.columns))
    wide = len(columns) >= _WIDE
    environment = "table*" if wide else "table"
    rows = [_row([escape(table.head), *(_head(c.title) for c in table.columns)]), r"\midrule"]
    for row, method in enumerate(table.methods):
        if row in table.summary or (row in table.published and row - 1 not in table.published):
            rows.append(r"\midrule")
        cells = [escape(method), *(_cell(table, row, column) for column in columns)]
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
        rf"\begin{{tabular}}{{@{{}}l{'r' * len(columns)}@{{}}}}",
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


def _cell(table: Table, row: int, column: int) -> str:
    text = table.text(row, column)
    close = text.endswith(TIED_MARK)
    signed = table.columns[column].signed
    shown = escape(text.rstrip(TIED_MARK).replace("-", "−") if signed else text.rstrip(TIED_MARK))
    form = {0: "{}", 1: r"\textbf{{{}}}", 2: r"\underline{{{}}}"}[table.rank(row, column)]
    return form.format(shown) + (r"$^{\approx}$" if close else "")


def _head(title: str) -> str:
    """A head whose arrow stays with its last word."""
    return escape(title).replace(" $\\", "~$\\")


def _row(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


def _one_line(text: str) -> str:
    return " ".join(text.split())
