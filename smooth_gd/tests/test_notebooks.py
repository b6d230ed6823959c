"""The notebooks run from their first cell to their last, and draw."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "name", ["concept/concept", "singleneuron/single", "rnn/rnn", "mnist/mnist"]
)
def test_a_notebook_runs(monkeypatch, tmp_path, name):
    path = FOLDER / "experiments" / f"{name}.ipynb"
    paths = [FOLDER.parent, FOLDER / "alias", *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, paths)))
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setenv("SMALL", "1")
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=500, resources={"metadata": {"path": path.parent}})
    client.execute()
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    assert any("image/png" in out.get("data", {}) for out in outputs)
    errors = [out for out in outputs if out.output_type == "stream" and out.name == "stderr"]
    assert not errors, errors
