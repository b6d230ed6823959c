"""The benchmark's peer: what is said before anything is computed where it is missing."""

import importlib.util
from pathlib import Path

import pytest

from shared.errors import UserError

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def test_the_peer_is_asked_for_at_the_start(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import bench_smooth_gd

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(bench_smooth_gd, "prepare", lambda settings: None)
    with pytest.raises(UserError, match="jaxsnn is not installed: nox -s bench -- smooth_gd"):
        bench_smooth_gd.prepared(bench_smooth_gd.Options(cases=("mnist", "lif")))
    without = bench_smooth_gd.Options(cases=("mnist", "rnn"))
    assert bench_smooth_gd.prepared(without) == bench_smooth_gd.CPU
    in_process = bench_smooth_gd.Options(cases=("mnist", "lif"), memory_of=("fast",))
    assert bench_smooth_gd.prepared(in_process) == bench_smooth_gd.CPU
