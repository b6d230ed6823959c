"""Figures of the multitask experiment."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure

from hybrid_plasticity.multitask_learning.scores import Matrix, forgetting, mean_accuracies
from shared.figures import BLUE, Curve, draw_curves, integer_ticks

# The methods in words, by which `shared.figures.RULES` gives colors.
METHODS = {
    "hp": "HP",
    "hp_no_replay": "HP without replay",
    "gp": "GP",
    "ewc": "EWC",
    "ewc_masks": "EWC with masks",
    "finetune": "fine-tuning",
}


def draw_tasks(matrices: Mapping[str, Sequence[Matrix]], title: str) -> Figure:
    """Mean accuracy over the tasks seen, after each task.

    Args:
        matrices: of each method the accuracies [after task, on task], one per seed.
        title: of the figure.
    """
    curves = []
    for method, runs in matrices.items():
        means = [100 * mean_accuracies(matrix) for matrix in runs]
        series = [pd.Series(mean, index=np.arange(1, len(mean) + 1)) for mean in means]
        curves.append(Curve(METHODS[method], series))
    return draw_curves(curves, "mean test accuracy on the tasks seen (%)", title, "tasks seen")


def draw_matrix(matrix: Matrix, title: str) -> Figure:
    """Accuracy on each task after each task; its colors span what was measured."""
    figure, axes = plt.subplots(figsize=(4.8, 3.8), layout="constrained")
    n, percent = len(matrix), 100 * matrix
    low, high = float(np.nanmin(percent)), float(np.nanmax(percent))
    room = max(0.5 - (high - low) / 2, 0)  # a span of a point at least: less is noise
    image = axes.imshow(
        percent, vmin=low - room, vmax=high + room, cmap="cividis",
        extent=(0.5, n + 0.5, n + 0.5, 0.5),
    )  # fmt: skip
    figure.colorbar(image, label="test accuracy (%)")
    axes.set(xlabel="on task", ylabel="after task", title=title)
    axes.title.set_fontsize(10)
    axes.set_facecolor("0.9")  # of tasks that came later
    for axis in (axes.xaxis, axes.yaxis):
        integer_ticks(axis)
    for row, column in np.argwhere(np.isfinite(percent)) if n <= 10 else ():
        value = percent[row, column]
        color = "black" if value > (low + high) / 2 else "white"
        axes.text(
            column + 1, row + 1, f"{value:.1f}", ha="center", va="center", fontsize=7, color=color
        )
    return figure


def draw_forgetting(matrix: Matrix, title: str) -> Figure:
    """What each task has lost of its best accuracy when all are learned."""
    lost: Float[np.ndarray, " earlier"] = 100 * forgetting(matrix)
    figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
    axes.bar(np.arange(1, len(lost) + 1), lost, color=BLUE)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set(xlabel="task", ylabel="best less last accuracy (points)", title=title)
    axes.title.set_fontsize(10)
    axes.grid(alpha=0.3, axis="y")
    integer_ticks(axes.xaxis)
    return figure
