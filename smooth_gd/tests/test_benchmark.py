"""The benchmark: what is said where its peer is missing, and how it weighs a step."""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
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


def test_a_steps_memory_is_that_of_its_results_and_of_what_lies_between(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from bench_smooth_gd import CompiledStep

    # The product of two matrices [1000, 1000] is needed whole before it is turned into one number.
    numbers = jnp.ones((1000, 1000), jnp.float32)
    outer = CompiledStep(jax.jit(lambda x: x + 1), (numbers,))
    inner = CompiledStep(jax.jit(lambda x: jnp.sin(x @ x).sum()), (numbers,))
    assert outer.memory_mb() == pytest.approx(4.0, abs=0.01)
    assert inner.memory_mb() == pytest.approx(4.0, abs=0.2)
    assert CompiledStep(outer.function, (numbers,), 2).memory_mb() == 2 * outer.memory_mb()
    assert outer().shape == (1000, 1000)
