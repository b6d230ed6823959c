"""Benchmarks without the libraries that they compare with: their sides are left out."""

import importlib

import pytest

from benchmarks.on_gpu import REPOSITORY


@pytest.fixture
def without(monkeypatch):
    """Modules of benchmarks, as they are where no library is installed."""
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    libraries = importlib.import_module("libraries")
    monkeypatch.setattr(libraries, "MISSING", libraries.PEERS)

    def module(name):
        found = importlib.import_module(name)
        if hasattr(found, "MISSING"):
            monkeypatch.setattr(found, "MISSING", libraries.PEERS)
        return found

    return module


def test_brp(without):
    bench = without("bench_brp_snn")
    assert bench.sides_of("mnist_fc", "BP") == ("plain", "dense", "layerwise")


def test_stl(without):
    options = without("bench_stl_snn").Options()
    assert options.of("step") == ["plain", "before", "fast"]
    assert options.of("layer") == ["plain", "fast"]


def test_what_was_left_out_is_said(without, capsys):
    assert without("libraries").peers() == {}
    assert "snntorch is not installed and was left out" in capsys.readouterr().out
