"""Figures of the multitask experiment."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from hybrid_plasticity.multitask_learning.scores import Matrix, forgetting, mean_accuracies


def draw_tasks(matrices: Mapping[str, Matrix], title: str) -> Figure:
    """Mean accuracy over the tasks seen, after each task.

    Args:
        matrices: accuracies [after task, on task], by label.
        title: of the figure.
    """
    figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
    for label, matrix in matrices.items():
        tasks = np.arange(1, len(matrix) + 1)
        axes.plot(tasks, 100 * mean_accuracies(matrix), marker=".", label=label)
    axes.set(xlabel="tasks seen", ylabel="mean test accuracy over them (%)", title=title)
    axes.legend(fontsize=7)
    axes.grid(alpha=0.3)
    return figure


def draw_matrix(matrix: Matrix, title: str) -> Figure:
    """Accuracy on each task after each task."""
    figure, axes = plt.subplots(figsize=(4.6, 3.8), layout="constrained")
    n = len(matrix)
    image = axes.imshow(100 * matrix, vmin=0, vmax=100, extent=(0.5, n + 0.5, n + 0.5, 0.5))
    figure.colorbar(image, label="test accuracy (%)")
    axes.set(xlabel="on task", ylabel="after task", title=title)
    return figure


def draw_forgetting(matrix: Matrix, title: str) -> Figure:
    """What each task has lost of its best accuracy when all are learned."""
    lost: Float[np.ndarray, " earlier"] = 100 * forgetting(matrix)
    figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
    axes.bar(np.arange(1, len(lost) + 1), lost)
    axes.set(xlabel="task", ylabel="best less last accuracy (%)", title=title)
    axes.grid(alpha=0.3, axis="y")
    return figure
