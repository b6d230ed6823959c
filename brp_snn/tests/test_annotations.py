"""Shapes in annotations, as every release of NumPy and Python that is allowed can read them."""

import ast
from pathlib import Path

import jaxtyping
import pytest

FOLDER = Path(__file__).resolve().parents[1]
MODULES = sorted(set(FOLDER.rglob("*.py")) - set((FOLDER / "tests").rglob("*.py")))


def shaped(source: str) -> list[ast.Subscript]:
    """The annotations `Float[array, "shape"]` and the like."""
    return [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Subscript)
        and isinstance(node.value, ast.Name)
        and hasattr(jaxtyping, node.value.id)
        and isinstance(node.slice, ast.Tuple)
    ]


def test_there_are_shapes_to_look_at():
    assert sum(len(shaped(path.read_text())) for path in MODULES) > 100
    assert len(shaped('x: Float[NDArray[np.float64], "n"]')) == 1


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(FOLDER).as_posix())
def test_arrays_in_shapes_are_classes(path):
    """From Python 3.12 and NumPy 2.5 on `NDArray[...]` is an alias, and jaxtyping wants a class."""
    for found in shaped(path.read_text()):
        assert isinstance(found.slice, ast.Tuple)
        array = ast.unparse(found.slice.elts[0])
        assert "NDArray" not in array, f"line {found.lineno}: write np.ndarray for {array}"
