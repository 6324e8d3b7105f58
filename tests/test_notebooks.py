"""The notebooks run from top to bottom, in a fresh kernel, in an empty folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import PROJECT

nbclient = pytest.importorskip("nbclient", reason="needs the extra [dev]: pip install '.[dev]'")
nbformat = pytest.importorskip("nbformat", reason="needs the extra [dev]: pip install '.[dev]'")

NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))
KERNEL = "this-python"


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to run in; Jupyter knows one kernel, this interpreter, and writes nowhere else."""
    spec = tmp_path / "jupyter/kernels" / KERNEL / "kernel.json"
    spec.parent.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec.write_text(
        json.dumps({"argv": argv, "display_name": KERNEL, "language": "python"}), encoding="utf-8"
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "TMPDIR"):
        folder = tmp_path / name.lower()
        folder.mkdir()
        monkeypatch.setenv(name, str(folder))
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    monkeypatch.delenv("DICOMLAKE_LAKE", raising=False)
    place = tmp_path / "here"
    place.mkdir()
    return place


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(path: Path, workplace: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(workplace)}}
    client = nbclient.NotebookClient(notebook, timeout=240, kernel_name=KERNEL, resources=resources)
    client.execute()
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    assert [output for output in outputs if output.output_type == "error"] == []
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []
    assert all(cell.execution_count for cell in code_cells(notebook))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert [cell.id for cell in code_cells(notebook) if cell.outputs or cell.execution_count] == []


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS
