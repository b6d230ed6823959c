"""Figures of the convolutional classifiers."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure


def draw_steps(rows: Sequence[Mapping[str, float]], steps: int, title: str) -> Figure:
    """Share of a test presentation's steps that the early exit saves, over epochs."""
    table = pd.DataFrame(rows).set_index("epoch")
    figure, axes = plt.subplots(figsize=(4.5, 3.2), layout="constrained")
    axes.plot(100 * (1 - table["test_steps"] / steps), marker=".", markersize=3)
    axes.set(xlabel="epoch", ylabel=f"saved of {steps} steps (%)", ylim=(-3, 103), title=title)
    axes.grid(alpha=0.3)
    return figure
