"""Small networks for the tests."""

import torch

from comparison import registry
from comparison.interface import Choice, Learner, Plan

N_INPUTS, N_CLASSES, BATCH = 64, 3, 12


def small(
    name: str, choice: Choice | None = None, *, seed: int = 0, dropout: float | None = None
) -> Learner:
    """A rule's network of 64-10-3 neurons."""
    rule = registry.rule_of(name)
    cpu = torch.device("cpu")
    plan = Plan(N_INPUTS, N_CLASSES, 10, BATCH, seed, choice or rule.choice, cpu, dropout)
    return rule.build(plan)
