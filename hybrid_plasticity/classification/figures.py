"""Figures of the convolutional classifiers."""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from shared.figures import Curve, draw_curves


def draw_steps(rows: Sequence[Mapping[str, float]], steps: int, rule: str, title: str) -> Figure:
    """Share of a test presentation's steps that the early exit saves, over epochs.

    Args:
        rows: the run's metrics, a mapping per epoch.
        steps: of a whole presentation.
        rule: "hp" or "gp".
        title: of the figure.
    """
    saved = 100 * (1 - pd.DataFrame(rows).set_index("epoch")["test_steps"] / steps)
    label = f"saved of {steps} steps (%)"
    return draw_curves([Curve(rule.upper(), [saved])], label, title)
