"""Tables for LaTeX, and that TeX takes them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from srtoolbox.comparison.report.latex import escape, to_latex
from srtoolbox.comparison.report.table import Table


@pytest.fixture
def tables(tables: dict[str, Table]) -> list[Table]:
    return list(tables.values())


def test_nothing_is_a_command_but_what_is_meant() -> None:
    assert escape(r"a_b & 5% #1 {x} $y \z") == r"a\_b \& 5\% \#1 \{x\} \$y \textbackslash{}z"
    assert escape("~^<>|") == r"\textasciitilde{}\textasciicircum{}$<$$>$$|$"
    assert escape("[x]*\nline") == "{[}x]{*} line"
    assert escape("1 ± 2 × 3 – 4 ↑ †") == r"1 $\pm$ 2 $\times$ 3 -- 4 $\uparrow$ $^\dagger$"


def test_the_best_is_bold_and_the_second_underlined(tables) -> None:
    text = to_latex(tables, "rich <study>")
    row = next(line for line in text.splitlines() if line.startswith(r"Late $^\dagger$"))
    assert row.count(r"\textbf{") == 4 and row.endswith(r" \\")
    assert r"\underline{" in next(line for line in text.splitlines() if line.startswith("Net$|$D"))
    assert r"\textit{DUF (published)} & \textit{31.50}" in text
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == len(tables)
    assert text.isascii()


def test_every_row_has_as_many_cells_as_the_table_columns(tables) -> None:
    columns = 0
    for line in to_latex(tables, "t").splitlines():
        if found := re.match(r"\\begin\{tabular\}\{@\{\}l(r+)@\{\}\}", line):
            columns = 1 + len(found[1])
        elif line.endswith(r" \\"):
            assert len(re.findall(r"(?<!\\)&", line)) + 1 == columns


def test_tex_takes_it(tables, tmp_path: Path) -> None:
    compilers = {"pdflatex": ["-interaction=nonstopmode", "-halt-on-error"], "tectonic": []}
    compiler = next((name for name in compilers if shutil.which(name)), None)
    if compiler is None:
        pytest.skip("no TeX is installed (pdflatex or tectonic)")
    (tmp_path / "table.tex").write_text(to_latex(tables, "rich <study>"))
    (tmp_path / "paper.tex").write_text(
        r"\documentclass{article}\usepackage{booktabs}\begin{document}\input{table}\end{document}"
    )
    done = subprocess.run(
        [compiler, *compilers[compiler], "paper.tex"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "paper.pdf").stat().st_size > 1000
