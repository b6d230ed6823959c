"""Figures of few-shot learning."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from hybrid_plasticity.few_shot_learning.network import LARGEST_ETA
from hybrid_plasticity.figures import plot_values
from shared.figures import BLACK, GRAY, RULES, legend_beside, legend_of_all, plot_columns

ENDS = ("_low_95", "_high_95")


def draw_learning(
    rows: Sequence[Mapping[str, float]],
    final: Mapping[str, float],
    chance: float,
    title: str,
) -> Figure:
    """Accuracy on characters never trained on, and losses, over training iterations.

    Args:
        rows: the run's metrics, a mapping per epoch.
        final: test_accuracy_last of the last test, and the ends of its 95 % interval under
            test_accuracy_last_low_95 and test_accuracy_last_high_95, in [0, 1].
        chance: accuracy of a guess.
        title: of the figure.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.4), layout="constrained")
    rows = [{**row, "iterations": row["iterations"] / 1000} for row in rows]
    x, over = "iterations", "thousand training iterations"
    seen = {"test_accuracy": "test"}
    plot_columns(left, rows, seen, "accuracy (%)", factor=100, x=x, over=over)
    if len(rows) > 1:
        iterations = [row["iterations"] for row in rows]
        low, high = (100 * np.array([row[f"test_accuracy{end}"] for row in rows]) for end in ENDS)
        color = RULES["test"].color
        left.fill_between(iterations, low, high, color=color, alpha=0.2, label="95 % interval")
        last, bottom, top = (100 * final[f"test_accuracy_last{end}"] for end in ("", *ENDS))
        reach = [[last - bottom], [top - last]]
        left.errorbar(
            iterations[-1], last, reach, fmt="o", color=BLACK, capsize=3, label="last test"
        )
        left.axhline(100 * chance, color=GRAY, linestyle=":", label="chance")
        left.set(ylim=(0, 102))
    losses = {"train_loss": "train tasks", "validation_loss": "validation tasks"}
    plot_columns(right, rows, losses, "binary cross-entropy (nats)", x=x, over=over)
    for axes in (left, right):
        legend_beside(axes)
    figure.suptitle(title, fontsize=10)
    return figure


def draw_local(before: Mapping[str, Tensor], after: Mapping[str, Tensor], title: str) -> Figure:
    """What meta-learning made of alpha, beta and eta: values before and after.

    Args:
        before: state of the network before training.
        after: its state now.
        title: of the figure.
    """
    figure, axes = plt.subplots(1, 3, figsize=(11.5, 3), layout="constrained")
    words = {
        "alpha": "alpha, share of the slow weight",
        "beta": "beta, offset of the growth",
        "eta": "eta, rate of the trace",
    }
    for plot, (name, label) in zip(axes, words.items(), strict=True):
        values = {
            when: state[name].flatten().cpu().numpy()
            for when, state in (("before training", before), ("after training", after))
        }
        plot_values(plot, values, label)
    axes[0].set(ylabel="synapses")
    axes[1].set(xlabel="output neuron")
    axes[2].axhline(LARGEST_ETA, color=GRAY, linestyle=":", label="no effect above")
    axes[2].set(xlabel="", xticks=[])
    legend_of_all(figure)
    figure.suptitle(title, fontsize=10)
    return figure
