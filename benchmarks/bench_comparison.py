"""Comparison: time and memory of a training step of every rule, all in one run.

    python benchmarks/bench_comparison.py                  all rules
    python benchmarks/bench_comparison.py --cases brp stl  some of them

A step is a batch of 100 images of 784 pixels through a network with 400 hidden neurons at the
settings of the rule's paper, on made images as bright as MNIST's. The rules take turns, so that
what else the machine does meets all of them. One thread, as the comparison's runs have, unless
--threads says otherwise; its page reads what was measured with one. Memory is what a step
needs at its peak beside network, gradients and optimizer, in a fresh process.
"""

import shared.waiting

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from measure import (
    Benchmark,
    Step,
    interleaved,
    memory_in_fresh_process,
    print_times,
    step_memory_mb,
)
from measure import Options as EveryOption

from comparison import registry
from comparison.interface import Learner, Plan
from shared.experiment import Positive
from shared.options import script

BATCH, PIXELS, HIDDEN, CLASSES = 100, 784, 400, 10
BRIGHT = 0.19  # share of MNIST's pixels that are not black
REPEATS = 5  # steps a turn
NAMES = tuple(registry.found()[0])


@dataclass(frozen=True)
class Options(EveryOption):
    """The options."""

    threads: Positive[int] | None = 1
    """CPU threads."""


def learner_of(name: str, device: torch.device) -> Learner:
    """A rule's network, untrained."""
    rule = registry.rule_of(name)
    rule.prepare(device, torch.get_num_threads())
    learner = rule.build(Plan(PIXELS, CLASSES, HIDDEN, BATCH, 0, rule.choice, device))
    learner.begin(0, 20)
    return learner


def step_of(learner: Learner) -> Step:
    """A training step on the same made images every time."""
    random = np.random.default_rng(0)
    gray = random.integers(1, 256, (BATCH, PIXELS))
    images = np.where(random.random((BATCH, PIXELS)) < BRIGHT, gray, 0).astype(np.uint8)
    labels = random.integers(0, CLASSES, BATCH)
    return lambda: learner.step(images, labels)


def memory_of(name: str, device: torch.device) -> float:
    """Memory of a step after the first, in MB; the largest of three.

    The first step compiles what it runs, which for some rules needs more than the step itself.
    """
    step = step_of(learner_of(name, device))
    return max(step_memory_mb(step, step, device) for _ in range(3))


def bench(case: str, options: Options, device: torch.device) -> dict[str, Any]:
    """All the rules that are asked for, at once, under the first one's name."""
    if case != options.cases[0]:
        return {}
    steps = {name: step_of(learner_of(name, device)) for name in options.cases}
    repeats = dict.fromkeys(options.cases, REPEATS)
    times = interleaved(steps, device, options.rounds, repeats)
    words = options.passed_on()
    memory = {name: memory_in_fresh_process(__file__, name, *words) for name in options.cases}
    print_times(times, memory)
    return {name: {**times[name], "memory_mb": memory[name]} for name in options.cases}


BENCHMARK = Benchmark("comparison", __doc__, Options, NAMES, bench, memory_of)


if __name__ == "__main__":
    script(BENCHMARK.main)
