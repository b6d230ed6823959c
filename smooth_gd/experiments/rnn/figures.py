"""Figure 3: spikes of the target neurons over trials, rasters, and weights."""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from smooth_gd.experiments.rnn.task import N, Task
from smooth_gd.spikegd.models import Events


def draw_learning(history: Mapping[str, np.ndarray[Any, Any]], task: Task, T: float) -> Figure:
    """Spike times of the target neurons, numbers of spikes, and loss over trials.

    Spikes come and go at the trial's end alone: by their number, added and removed ones are marked.
    """
    figure, rows = plt.subplots(4, 1, figsize=(7, 9), sharex=True, layout="constrained")
    trials = np.arange(1, len(history["loss"]) + 1)
    for i, target in enumerate(task.targets):
        times = history[f"times_{i}"]
        rows[i].plot(trials, np.where(times <= T, times, np.nan), color=f"C{i}", linewidth=0.9)
        rows[i].plot(trials, np.where(times > T, times, np.nan), ":", color=f"C{i}", linewidth=0.9)
        for time in target[:-1]:
            rows[i].axhline(time, color="black", linewidth=0.4)
        rows[i].axhline(T, color="grey", linestyle="--", linewidth=0.8)
        rows[i].set(ylabel=f"spikes of neuron {i}", ylim=(0, 1.4 * T))
    counts = history["counts"]
    changes = np.diff(counts, axis=0)
    rows[2].plot(trials, counts.sum(1), color="black", linewidth=0.9, label="ordinary spikes")
    for sign, color, words in ((1, "C2", "added by the gradient"), (-1, "C3", "removed")):
        total = np.cumsum((sign * changes).clip(0).sum(1))
        rows[2].plot(trials[1:], total, color=color, linewidth=0.9, label=words)
    rows[2].set(ylabel="spikes of the network")
    rows[2].legend(fontsize=7)
    rows[3].plot(trials, history["loss"], color="black", linewidth=0.9)
    rows[3].set(ylabel="loss", yscale="log", xlabel="trial")
    return figure


def draw_rasters(rasters: Mapping[str, Events], task: Task, T: float) -> Figure:
    """Spikes of all neurons, with the targets of the first ones, for several networks."""
    figure, rows = plt.subplots(
        len(rasters), 1, figsize=(7, 2.1 * len(rasters)), sharex=True, layout="constrained"
    )
    for axes, (words, events) in zip(rows, rasters.items(), strict=True):
        neurons = np.asarray(events.neurons)
        own = ~np.asarray(events.spike_in) & (neurons >= 0)
        axes.plot(np.asarray(events.times)[own], neurons[own], "|", color="black", markersize=7)
        for i, target in enumerate(task.targets):
            axes.plot(target[:-1], np.full(len(target) - 1, i), "o", mfc="none", color="C3")
        axes.set(ylabel="neuron", xlim=(0, T), ylim=(N - 0.5, -0.5), title=words)
        axes.title.set_fontsize(9)
    rows[-1].set_xlabel("time (circles: targets)")
    return figure


def draw_weights(weights: np.ndarray[Any, Any]) -> Figure:
    """Learned weights."""
    figure, axes = plt.subplots(figsize=(4.2, 3.6), layout="constrained")
    limit = np.abs(weights).max() or 1.0
    image = axes.imshow(weights, cmap="RdBu_r", vmin=-limit, vmax=limit)
    axes.set(xlabel="from neuron", ylabel="to neuron")
    figure.colorbar(image, label="weight")
    return figure
