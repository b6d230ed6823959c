"""The optimizer of the published program."""

from typing import Any

import optax

EPS = 1e-16


def adabelief(
    learning_rate: optax.ScalarOrSchedule, b1: float = 0.9, b2: float = 0.999
) -> optax.GradientTransformation:
    """AdaBelief that holds a gradient g[t] against the mean m[t-1] of those before it.

        m[t] = b1 m[t-1] + (1 - b1) g[t]
        s[t] = b2 s[t-1] + (1 - b2) (g[t] - m[t-1])^2 + eps
        step = -learning_rate m^[t] / (sqrt(s^[t]) + eps), with m^ and s^ corrected for their start

    The first step is one of learning_rate, as Adam's. This is optax's `adabelief` up to version
    0.2.3, of July 2024, when the program was published. Since version 0.2.4 optax holds g[t]
    against m[t], as the paper of AdaBelief (Zhuang et al., 2020) has it: that difference is b1
    times this one, so that steps are 1 / b1 as long.

    Args:
        learning_rate: a number, or a function of the step.
        b1: decay of the mean, in (0, 1).
        b2: decay of the spread, in (0, 1).
    """
    of_the_paper: Any = optax.adabelief(learning_rate, b1, b2, eps=b1 * EPS, eps_root=b1**2 * EPS)
    made: optax.GradientTransformation = optax.chain(of_the_paper, optax.scale(b1))
    return made
