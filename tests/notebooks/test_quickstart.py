"""The notebook runs from its first to its last cell."""

from __future__ import annotations

import ast
import os
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "quickstart.ipynb"
SMALL = 'STEPS = 4\nNUM_IMAGE = 2\nSIZE = 96\nFOLDER = "demo"'


@pytest.fixture(scope="module")
def notebook() -> Any:
    nbformat = pytest.importorskip("nbformat", reason="the extra notebook is not installed")
    found = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(found)
    return found


def parameters(notebook: Any) -> Any:
    (cell,) = (c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
    return cell


def test_it_is_stored_without_outputs(notebook: Any) -> None:
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None
            ast.parse(cell.source.replace("%pip", "pass  # %pip"))


def test_the_parameters_of_the_test_are_those_of_the_notebook(notebook: Any) -> None:
    def names(source: str) -> list[str]:
        assigned = [node for node in ast.parse(source).body if isinstance(node, ast.Assign)]
        return [target.id for node in assigned for target in node.targets]  # type: ignore[attr-defined]

    assert names(parameters(notebook).source) == names(SMALL)


@pytest.mark.slow
def test_it_runs(notebook: Any, tmp_path: Path, monkeypatch) -> None:
    nbclient = pytest.importorskip("nbclient", reason="the extra notebook is not installed")
    pytest.importorskip("ipykernel", reason="the extra notebook is not installed")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    root = str(NOTEBOOK.parents[1])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    parameters(notebook).source = SMALL
    nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    outputs = [output for c in notebook.cells for output in c.get("outputs", [])]
    data = [output["data"] for output in outputs if "data" in output]
    table = "".join(item["text/markdown"] for item in data if "text/markdown" in item)
    assert all(f"\n| {name}" in table for name in ("Bicubic", "EDSR", "MyNet"))
    assert "basicsr-y" in table
    assert sum("image/png" in item for item in data) == 2  # the first picture, and the figure
    assert (tmp_path / "demo" / "experiments" / "compare" / "demo" / "study.json").exists()
