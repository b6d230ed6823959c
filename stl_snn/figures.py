"""Figures of a run."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from stl_snn.operations import Count

Rows = Sequence[Mapping[str, float]]


def draw_curves(rows: Rows, title: str) -> Figure:
    """Loss and accuracy of all parts over epochs."""
    table = pd.DataFrame(rows).set_index("epoch")
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for part in ("train", "validation", "test"):
        for panel, score, factor in zip(axes, ("loss", "accuracy"), (1, 100), strict=True):
            panel.plot(factor * table[f"{part}_{score}"], label=part, marker=".", markersize=4)
    for panel, label in zip(axes, ("loss", "accuracy (%)"), strict=True):
        _over_epochs(panel, label)
        panel.legend()
    figure.suptitle(title, fontsize=10)
    return figure


def draw_rates(rows: Rows, title: str) -> Figure:
    """Spikes a neuron and step of each layer over epochs; epoch 0 is the untrained network."""
    table = pd.DataFrame(rows).set_index("epoch")
    figure, axes = plt.subplots(figsize=(5.2, 3.4), layout="constrained")
    for name in [column for column in table if column.startswith("rate_")]:
        axes.plot(100 * table[name], label=name.removeprefix("rate_"), marker=".")
    _over_epochs(axes, "spikes a neuron and step (%)")
    axes.set_title(title, fontsize=10)
    axes.legend(title="layer", fontsize=8, title_fontsize=8)
    return figure


def _over_epochs(axes: Axes, label: str) -> None:
    axes.set(xlabel="epoch", ylabel=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)


def draw_thresholds(
    before: Mapping[str, NDArray[np.floating]], after: Mapping[str, NDArray[np.floating]]
) -> Figure:
    """Histogram of each layer's thresholds before and after training, a panel a layer."""
    n_columns = min(len(after), 4)
    n_rows = -(-len(after) // n_columns)
    figure, panels = plt.subplots(
        n_rows,
        n_columns,
        figsize=(2.6 * n_columns, 2.6 * n_rows),
        layout="constrained",
        squeeze=False,
    )
    for axes in panels.flat[len(after) :]:
        axes.axis("off")
    for axes, (name, theta) in zip(panels.flat, after.items(), strict=False):
        values = (before[name].ravel(), theta.ravel())
        low, high = min(v.min() for v in values), max(v.max() for v in values)
        margin = max(0.05 * (high - low), 1e-3)
        edges = np.linspace(low - margin, high + margin, 61)
        for v, label in zip(values, ("before", "after"), strict=True):
            share = np.full(v.size, 100 / v.size)
            axes.hist(v, edges, weights=share, label=label, histtype="stepfilled", alpha=0.6)
        axes.set_yscale("log")
        axes.set_title(f"{name} ({theta.size})", fontsize=9)
        axes.set_xlabel("threshold")
    panels[0, 0].set_ylabel("share of the layer (%)")
    panels[0, 0].legend(fontsize=8)
    return figure


def draw_noise(found: Mapping[str, Sequence[float]], levels: Sequence[int], title: str) -> Figure:
    """Accuracy against the level of noise, a line a kind."""
    figure, axes = plt.subplots(figsize=(5.2, 3.4), layout="constrained")
    for kind, accuracies in found.items():
        axes.plot(levels, 100 * np.array(accuracies), label=kind, marker=".")
    axes.set(
        xlabel="level (Gaussian: variance in 0.01; s&p: share in 0.02)", ylabel="test accuracy (%)"
    )
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def draw_energy(counts: Mapping[str, Count], title: str) -> Figure:
    """Operations of each layer of synapses, and how many there would be if everything took part."""
    figure, axes = plt.subplots(figsize=(5.2, 3.4), layout="constrained")
    places = np.arange(len(counts))
    axes.bar(places - 0.2, [c.dense for c in counts.values()], 0.4, label="Dense")
    axes.bar(places + 0.2, [c.effective for c in counts.values()], 0.4, label="Effective")
    for place, count in zip(places, counts.values(), strict=True):
        axes.annotate(
            f"{count.energy_uj:.2g} µJ",
            (place + 0.2, max(count.effective, 1)),
            ha="center",
            va="bottom",
            fontsize=7,
        )
    axes.set(yscale="log", ylabel="operations a sample", xticks=places, xticklabels=counts)
    axes.set_title(title, fontsize=10)
    axes.legend()
    return figure
