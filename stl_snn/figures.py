"""Figures of a run, and of several runs beside each other."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from shared.figures import (
    GRAY,
    RULES,
    Curve,
    Panel,
    draw_panels,
    legend_beside,
    legend_of_all,
    plot_columns,
    styles_of,
)
from stl_snn.data import LEVELS
from stl_snn.operations import Count

Metrics = Mapping[str, float]

STRENGTHS = {
    "gaussian": ("Gaussian noise", "variance", 0.01),
    "s&p": ("salt and pepper", "share of white and black pixels (%)", 2.0),
}
"""Title of a kind of noise, its strength in words, and the strength of a level."""

RATE = "spikes per neuron and step (%)"


def draw_rates(rows: Sequence[Metrics], title: str) -> Figure:
    """Spikes per neuron and step of each layer over epochs; epoch 0 is the untrained network."""
    figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
    names = {name: name.removeprefix("rate_") for name in rows[0] if name.startswith("rate_")}
    plot_columns(axes, rows, names, RATE, factor=100)
    axes.set_title(title, fontsize=10)
    legend_beside(axes, "layer")
    return figure


def draw_thresholds(
    before: Mapping[str, NDArray[np.floating]], after: Mapping[str, NDArray[np.floating]]
) -> Figure:
    """Histogram of each layer's thresholds before and after training, a panel per layer."""
    n_columns = min(len(after), 4)
    n_rows = -(-len(after) // n_columns)
    figure, panels = plt.subplots(
        n_rows,
        n_columns,
        figsize=(2.6 * n_columns + 1, 2.6 * n_rows),
        layout="constrained",
        squeeze=False,
    )
    for axes in panels.flat[len(after) :]:
        axes.axis("off")
    colors = (GRAY, RULES["STL"].color)
    for axes, (name, theta) in zip(panels.flat, after.items(), strict=False):
        values = (before[name].ravel(), theta.ravel())
        low, high = min(v.min() for v in values), max(v.max() for v in values)
        margin = max(0.05 * (high - low), 1e-3)
        edges = np.linspace(low - margin, high + margin, 61)
        for v, label, color in zip(values, ("before", "after"), colors, strict=True):
            share = np.full(v.size, 100 / v.size)
            axes.hist(
                v, edges, weights=share, label=label, color=color, histtype="stepfilled", alpha=0.7
            )
        axes.set_yscale("log")
        axes.set_title(f"{name} ({theta.size} thresholds)", fontsize=9)
        axes.set_xlabel("threshold")
        axes.locator_params(axis="x", nbins=4)
    for row in panels:
        row[0].set_ylabel("share of the layer (%)")
    legend_of_all(figure, "training")
    return figure


def strengths_of(metrics: Metrics, kind: str) -> pd.Series:
    """Accuracies under a kind of noise in percent, by the noise's strength."""
    step = STRENGTHS[kind][2]
    found = {
        step * level: 100 * metrics[name]
        for level in LEVELS
        if metrics.get(name := f"test_accuracy_{kind}_{level}") is not None
    }
    return pd.Series(found, dtype=float)


def draw_noise(runs: Mapping[str, Sequence[Metrics]], title: str) -> Figure:
    """Accuracy against the strength of noise, a panel per kind.

    Args:
        runs: metrics of result.json of each seed, by what learned, such as "STL".
        title: of the figure.
    """
    panels = []
    for kind, (words, over, _) in STRENGTHS.items():
        found = {label: [strengths_of(m, kind) for m in seeds] for label, seeds in runs.items()}
        curves = [
            Curve(label, series)
            for label, seeds in found.items()
            if (series := [s for s in seeds if len(s)])
        ]
        if curves:
            panels.append(Panel(words, over, curves))
    return draw_panels(panels, "test accuracy (%)", title)


def draw_energy(counts: Mapping[str, Count], title: str) -> Figure:
    """Operations of each layer of synapses, and how many there would be if everything took part."""
    figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
    places = np.arange(len(counts))
    dense, effective = (
        [getattr(c, kind) for c in counts.values()] for kind in ("dense", "effective")
    )
    axes.bar(places - 0.2, dense, 0.4, label="all (dense)", color=GRAY)
    done = "done (effective),\nenergy in µJ on top"
    axes.bar(places + 0.2, effective, 0.4, label=done, color=RULES["STL"].color)
    for place, count in zip(places, counts.values(), strict=True):
        axes.annotate(
            f"{count.energy_uj:.2g}",
            (place + 0.2, max(count.effective, 1)),
            ha="center",
            va="bottom",
            fontsize=7,
        )
    axes.set(yscale="log", ylabel="operations per sample", xlabel="layer of synapses")
    axes.set_xticks(places, list(counts))
    axes.set_title(title, fontsize=10)
    axes.margins(y=0.1)
    legend_beside(axes)
    return figure


def draw_rates_and_energy(runs: Mapping[str, pd.DataFrame], title: str) -> Figure:
    """Firing rates of every layer before and after training, and the energy of a sample.

    Args:
        runs: metrics of result.json, a row per seed, by what learned, such as "STL".
        title: of the figure.
    """
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(9, 3.4), width_ratios=(2, 1), layout="constrained"
    )
    first = next(iter(runs.values()))
    layers = [key.removesuffix("_before") for key in first if key.endswith("_before")]
    bars = {"untrained": [first[f"{key}_before"].mean() for key in layers]}
    bars |= {label: [table[key].mean() for key in layers] for label, table in runs.items()}
    colors = {label: style.color for label, (style, _) in zip(runs, styles_of(runs), strict=True)}
    places, width = np.arange(len(layers)), 0.8 / len(bars)
    for i, (label, rates) in enumerate(bars.items()):
        shift = (i - (len(bars) - 1) / 2) * width
        color = colors.get(label, "lightgrey")
        left.bar(places + shift, 100 * np.array(rates), width, label=label, color=color)
    left.set(xlabel="layer of neurons", ylabel=RATE, xticks=places)
    left.set_xticklabels([key.removeprefix("rate_") for key in layers])
    energies = [table["energy_uj"].mean() for table in runs.values()]
    right.bar(list(runs), energies, color=list(colors.values()))
    right.set(ylabel="energy of a sample (µJ)")
    legend_of_all(figure)
    figure.suptitle(title, fontsize=10)
    return figure


def draw_depth(depths: Sequence[float], found: Sequence[Metrics], title: str) -> Figure:
    """Energy of a presentation, and accuracy, against the number of convolutions."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    rows = [{"depth": depth, **metrics} for depth, metrics in zip(depths, found, strict=True)]
    energies = {
        "energy_uj_dense_one_step": "all multiply-accumulates of one step, 4.6 pJ each",
        "energy_uj": "additions by spikes in all steps, 0.9 pJ each",
    }
    plot_columns(left, rows, energies, "energy of a sample (µJ)", x="depth", over="convolutions")
    left.set_ylim(bottom=0)
    left.legend(loc="lower left", bbox_to_anchor=(0, 1.02), fontsize=8)
    accuracy = {"test_accuracy_last": "test"}
    plot_columns(
        right, rows, accuracy, "test accuracy (%)", factor=100, x="depth", over="convolutions"
    )
    for axes in (left, right):
        axes.set_xticks(depths)
    figure.suptitle(title, fontsize=10)
    return figure


def draw_theta(thetas: Sequence[float], found: Sequence[Metrics], title: str) -> Figure:
    """Accuracy, firing rates and thresholds after training against the initial threshold."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
    rows = [{"theta": theta, **metrics} for theta, metrics in zip(thetas, found, strict=True)]
    over = "initial threshold $\\Theta_0$"
    accuracy = {"test_accuracy_last": "test"}
    plot_columns(left, rows, accuracy, "test accuracy (%)", factor=100, x="theta", over=over)
    layers = [key.removeprefix("theta_mean_") for key in rows[0] if key.startswith("theta_mean_")]
    rates = {f"rate_{layer}": layer for layer in layers}
    plot_columns(middle, rows, rates, RATE, factor=100, x="theta", over=over)
    for layer, (style, _) in zip(layers, styles_of(layers), strict=True):
        means, spreads = ([m[f"theta_{k}_{layer}"] for m in found] for k in ("mean", "sd"))
        look = {"marker": style.marker, "color": style.color, "label": layer}
        right.errorbar(thetas, means, spreads, capsize=3, **look)
    right.plot(thetas, thetas, color="black", linewidth=0.8, linestyle=":", label="unchanged")
    right.set(xlabel=over, ylabel="threshold after training (mean, sd)")
    right.grid(alpha=0.3)
    legend_beside(right, "layer")
    figure.suptitle(title, fontsize=10)
    return figure
