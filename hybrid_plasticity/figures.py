"""Figures of hybrid plasticity."""

import re
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

# Label of a distortion's strength, and what a level stands for.
STRENGTHS = {
    "crop": ("side of the blanked square (pixels)", 2),
    "gaussian": ("variance", 0.01),
    "salt": ("share of white pixels", 0.01),
    "pepper": ("share of black pixels", 0.06),
    "s&p": ("share of white and black pixels", 0.02),
    "speckle": ("variance", 100),
}

# What the trace does in a test: the ending of the metrics' names, and the style of the curve.
PROTOCOLS = {
    "as published": ("", "-"),
    "frozen": ("_frozen", ":"),
    "carried": ("_carried", "--"),
}


def draw_curves(rows: Sequence[Mapping[str, float]], title: str) -> Figure:
    """Accuracy over epochs, and spikes per hidden neuron against test accuracy."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    table = pd.DataFrame(rows).set_index("epoch")
    for name in ("train", "test"):
        left.plot(100 * table[f"{name}_accuracy"], label=name, marker=".", markersize=3)
    for name in table.columns:
        if found := re.fullmatch(r"test_accuracy_(.+)_(\d+)", name):
            label = f"test, {found[1]} {found[2]}"
            left.plot(100 * table[name], label=label, marker=".", markersize=3)
    left.set(xlabel="epoch", ylabel="accuracy (%)", title=title)
    left.legend()
    draw_spikes(right, table, "C0")
    right.set(title="each dot an epoch, the ring the last")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    return figure


def draw_spikes(axes: Axes, table: pd.DataFrame, color: str, label: str | None = None) -> None:
    """Spikes of a hidden neuron in a presentation against test accuracy, a dot an epoch."""
    accuracy = 100 * table["test_accuracy"]
    axes.scatter(table["test_spikes"], accuracy, s=8, color=color, label=label)
    last = table.iloc[-1]
    axes.scatter(
        last["test_spikes"], 100 * last["test_accuracy"], s=50, facecolors="none", edgecolors=color
    )
    axes.set(xlabel="spikes per hidden neuron and sample", ylabel="test accuracy (%)")


def levels_of(metrics: Mapping[str, float | None], kind: str, ending: str = "") -> pd.Series:
    """Accuracies under a kind of distortion, in percent, indexed by level."""
    found = {}
    for level in range(15):
        value = metrics.get(f"test_accuracy_{kind}_{level}{ending}")
        if value is not None:
            found[level] = 100 * value
    return pd.Series(found, dtype=float)


def draw_levels(metrics: Mapping[str, float | None], kinds: Sequence[str], title: str) -> Figure:
    """Accuracy of one network against the level of each distortion."""
    figure, axes = plt.subplots(
        1, len(kinds), figsize=(1.5 + 2.6 * len(kinds), 3), sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for plot, kind in zip(axes[0], kinds, strict=True):
        for protocol, (ending, style) in PROTOCOLS.items():
            curve = levels_of(metrics, kind, ending)
            if len(curve):
                x = STRENGTHS[kind][1] * curve.index.to_numpy()
                plot.plot(x, curve, style, marker=".", color="C0", label=protocol)
        if len(levels_of(metrics, kind, "_frozen")):
            plot.legend(title="trace", fontsize=7, title_fontsize=7)
        plot.set(xlabel=STRENGTHS[kind][0], title=kind)
        plot.grid(alpha=0.3)
    axes[0, 0].set(ylabel="test accuracy (%)")
    figure.suptitle(title, fontsize=10)
    return figure


def draw_constants(before: Mapping[str, Tensor], after: Mapping[str, Tensor], title: str) -> Figure:
    """What learning made of alpha, beta and eta: values before and after, a row a layer.

    Args:
        before: state of the network before training, with entries <layer>.alpha and so on.
        after: its state now.
        title: of the figure.
    """
    layers = [name.removesuffix(".beta") for name in after if name.endswith(".beta")]
    figure, axes = plt.subplots(
        len(layers), 2, figsize=(7.5, 2.6 * len(layers)), squeeze=False, layout="constrained"
    )
    for row, layer in zip(axes, layers, strict=True):
        for plot, name in zip(row, ("beta", "eta"), strict=True):
            for state, label in ((before, "before"), (after, "after")):
                values = state[f"{layer}.{name}"].flatten().cpu().numpy()
                plot.hist(values, bins=40, histtype="step", label=label)
            plot.set(xlabel=name, ylabel="neurons", yscale="log")
            plot.locator_params(axis="x", nbins=5)
            plot.legend(fontsize=7)
        alphas = [float(state[f"{layer}.alpha"].mean()) for state in (before, after)]
        row[0].set_title(f"{layer}: alpha {alphas[0]:.3f}, then {alphas[1]:.3f}", fontsize=9)
    figure.suptitle(title, fontsize=10)
    return figure
