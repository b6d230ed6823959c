"""Every module can be imported, and no annotation stands in the way of a newer numpy."""

import ast
import importlib
import importlib.util
import tomllib
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGES = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["mypy"]["packages"]
# jaxtyping's names of an array type and its shape: Float[np.ndarray, "n m"].
SHAPED = (
    *("Shaped", "Bool", "Num", "Real", "Integer", "Inexact", "Int", "UInt", "Float", "Complex"),
    *(f"{kind}{bits}" for kind in ("Int", "UInt") for bits in (8, 16, 32, 64)),
    *("Float16", "Float32", "Float64", "Complex64", "Complex128"),
)


def files_of(package):
    return [
        path
        for path in sorted((CHECKOUT / package).rglob("*.py"))
        if not {"tests", "alias"} & set(path.relative_to(CHECKOUT).parts)
    ]


def module_name(path):
    parts = path.relative_to(CHECKOUT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = [path for package in PACKAGES for path in files_of(package)]


def test_the_modules_are_found():
    assert set(PACKAGES) <= {module_name(path) for path in FILES}


@pytest.mark.parametrize("name", [module_name(path) for path in FILES])
def test_a_module_can_be_imported(name):
    if name.endswith("_kernels_cuda") and not importlib.util.find_spec("triton"):
        pytest.skip("Triton, which its kernels are written in, is for Linux only")
    if name.endswith("__main__"):
        pytest.skip("a program that runs when it is imported")
    importlib.import_module(name)


def of_numpys_alias(content):
    """Lines where jaxtyping is given a `NDArray[...]`, or another name of one, in place of a class.

    From numpy 2.5 on that is no class, and jaxtyping fails where the module is imported.
    """
    tree = ast.parse(content)
    aliases = {"NDArray"} | {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Subscript)
        and getattr(node.value.value, "id", "") == "NDArray"
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript)
        and getattr(node.value, "id", getattr(node.value, "attr", "")) in SHAPED
        and isinstance(node.slice, ast.Tuple)
        and any(getattr(part, "id", "") in aliases for part in ast.walk(node.slice.elts[0]))
    ]


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        ('x: Float[NDArray[np.float64], "n"]', [1]),
        ('x: jaxtyping.UInt8[NDArray[np.uint8], "n"]', [1]),
        ('Pixels = NDArray[np.uint8]\nx: UInt8[Pixels, "n"]', [2]),
        ('x: Float[NDArray[np.float64] | None, "n"]', [1]),
        ('x: Float[np.ndarray, "n"]\ny: NDArray[np.uint8]\nz: tuple[NDArray[np.int64], int]', []),
    ],
)
def test_annotations_of_numpys_alias_are_seen(content, lines):
    assert of_numpys_alias(content) == lines


@pytest.mark.parametrize("package", PACKAGES)
def test_shapes_are_told_of_classes(package):
    found = {
        f"{path.relative_to(CHECKOUT)}:{line}": 'write Float[np.ndarray, "..."] and the like'
        for path in files_of(package)
        for line in of_numpys_alias(path.read_text(encoding="utf-8"))
    }
    assert found == {}
