"""Figures of few-shot learning."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from hybrid_plasticity.few_shot_learning.network import LARGEST_ETA

ENDS = ("_low_95", "_high_95")


def draw_learning(
    rows: Sequence[Mapping[str, float]],
    final: Mapping[str, float],
    chance: float,
    title: str,
) -> Figure:
    """Accuracy on characters never trained on, and losses, over training iterations.

    Args:
        rows: the run's metrics, a dict an epoch.
        final: test_accuracy_last of the last test, and the ends of its 95 % interval behind
            test_accuracy_last_low_95 and test_accuracy_last_high_95, in [0, 1].
        chance: accuracy of a guess.
        title: of the figure.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")

    def column(name: str) -> np.ndarray:
        return np.array([row[name] for row in rows])

    iterations = column("iterations")
    low, high = (100 * column(f"test_accuracy{end}") for end in ENDS)
    left.plot(iterations, 100 * column("test_accuracy"), marker=".", label="test episodes")
    left.fill_between(iterations, low, high, alpha=0.2, label="95 % interval")
    last, bottom, top = (100 * final[f"test_accuracy_last{end}"] for end in ("", *ENDS))
    reach = [[last - bottom], [top - last]]
    left.errorbar(iterations[-1], last, reach, fmt="ok", capsize=3, label="last test")
    left.axhline(100 * chance, color="gray", linestyle=":", label="chance")
    left.set(xlabel="training iterations", ylabel="accuracy (%)", ylim=(0, 102), title=title)
    left.legend(fontsize=7)
    for name in ("train", "validation"):
        if f"{name}_loss" not in rows[0]:  # under "gp" nothing is validated
            continue
        right.plot(iterations, column(f"{name}_loss"), marker=".", label=f"{name} tasks")
    right.set(xlabel="training iterations", ylabel="binary cross-entropy", title="loss")
    right.legend(fontsize=7)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    return figure


def draw_local(before: Mapping[str, Tensor], after: Mapping[str, Tensor], title: str) -> Figure:
    """What meta-learning made of alpha, beta and eta: values before and after.

    Args:
        before: state of the network before training.
        after: its state now.
        title: of the figure.
    """
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(10, 3), layout="constrained")
    values = {
        label: {name: state[name].flatten().cpu().numpy() for name in ("alpha", "beta", "eta")}
        for label, state in (("before", before), ("after", after))
    }
    every = np.concatenate([value["alpha"] for value in values.values()])
    bins = np.linspace(every.min(), every.max(), 41)
    for shift, (label, value) in zip((-0.2, 0.2), values.items(), strict=True):
        left.hist(value["alpha"], bins=bins, histtype="step", label=label)
        middle.bar(np.arange(len(value["beta"])) + shift, value["beta"], width=0.4, label=label)
        right.bar(label, value["eta"][0])
    left.set(xlabel="alpha: share of the slow weight", ylabel="synapses")
    middle.set(xlabel="output neuron", ylabel="beta: offset")
    right.set(ylabel="eta: rate of the trace")
    right.axhline(LARGEST_ETA, color="gray", linestyle=":", label="no effect above")
    for axes in (left, middle, right):
        axes.legend(fontsize=7)
    figure.suptitle(title, fontsize=10)
    return figure
