"""Figure 4: learning curves, activity, and the spikes of a sample before and after learning."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from smooth_gd.spikegd.layered import Response


def draw_curves(rows: Sequence[Mapping[str, float]], initial: Mapping[str, float]) -> Figure:
    """Test error and loss, with and without pseudospikes, over epochs; epoch 0 is untrained."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    epochs = range(len(rows) + 1)
    for ending, words in (("", "with pseudospikes"), ("_ordinary", "ordinary spikes only")):
        accuracy = [initial[f"accuracy{ending}"], *(row[f"test_accuracy{ending}"] for row in rows)]
        left.plot(epochs, 1 - np.array(accuracy), label=words)
        loss = [initial[f"loss{ending}"], *(row[f"test_loss{ending}"] for row in rows)]
        right.plot(epochs, loss, label=words)
    left.set(xlabel="epoch", ylabel="test error", yscale="log")
    right.set(xlabel="epoch", ylabel="test loss", yscale="log")
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    left.legend(fontsize=8)
    return figure


def draw_activity(rows: Sequence[Mapping[str, float]], initial: Mapping[str, float]) -> Figure:
    """Silent hidden neurons and spikes a hidden neuron over epochs."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    epochs = range(len(rows) + 1)
    for ending, words in (
        ("in_trial", "in the trial"),
        ("until_first", "until the first output spike"),
    ):
        for axes, name in ((left, "silent"), (right, "activity")):
            key = f"{name}_{ending}"
            axes.plot(epochs, [initial[key], *(row[f"test_{key}"] for row in rows)], label=words)
    left.set(xlabel="epoch", ylabel="hidden neurons that never spike (share)")
    right.set(xlabel="epoch", ylabel="spikes of a hidden neuron and sample")
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    left.legend(fontsize=8)
    return figure


def draw_raster(before: Response, after: Response, label: int, T: float) -> Figure:
    """Spikes of one sample before and after learning, by layer; pseudospikes of outputs are open.

    Args:
        before: response to that sample, a batch of one.
        after: the same.
        label: its class.
        T: the trial's end.
    """
    figure, columns = plt.subplots(
        len(before.hidden) + 1, 2, figsize=(8, 5.5), sharex=True, sharey="row", layout="constrained"
    )
    for j, (response, words) in enumerate(((before, "before"), (after, "after"))):
        for axes, layer in zip(columns[:-1, j], response.hidden, strict=True):
            times = np.asarray(layer.times[0])
            neurons = np.broadcast_to(np.arange(len(times))[:, None], times.shape)
            axes.plot(times.ravel(), neurons.ravel(), "|", color="black", markersize=4)
            axes.set_ylim(-1, len(times))
        _outputs(columns[-1, j], response, label)
        columns[0, j].set_title(f"{words} learning", fontsize=10)
        columns[-1, j].set_xlabel("time")
        for axes in columns[:, j]:
            axes.axvline(T, color="grey", linewidth=0.8, linestyle="--")
    for i, axes in enumerate(columns[:-1, 0], 1):
        axes.set_ylabel(f"hidden layer {i}")
    columns[-1, 0].set_ylabel("output")
    columns[-1, 1].legend(fontsize=7, loc="center")
    return figure


def _outputs(axes: Axes, response: Response, label: int) -> None:
    first, ordinary = np.asarray(response.first[0]), np.asarray(response.ordinary[0])
    neurons = np.arange(len(first))
    for own, color, words in (
        (neurons == label, "C3", "label"),
        (neurons != label, "black", "other classes"),
    ):
        axes.plot(first[own & ordinary], neurons[own & ordinary], "o", color=color, label=words)
        axes.plot(first[own & ~ordinary], neurons[own & ~ordinary], "o", mfc="none", color=color)
    axes.set_ylim(-1, len(first))
