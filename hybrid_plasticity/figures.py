"""Figures of hybrid plasticity."""

import re
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from shared.figures import (
    GRAY,
    RULES,
    Curve,
    Panel,
    draw_panels,
    integer_ticks,
    legend_of_all,
    plot_columns,
)

# What a distortion's strength is, with its unit, and how much of it a level stands for.
STRENGTHS = {
    "crop": ("side of the blanked square (pixels)", 2),
    "gaussian": ("variance of the noise (intensity²)", 0.01),
    "salt": ("share of white pixels", 0.01),
    "pepper": ("share of black pixels", 0.06),
    "s&p": ("share of white and black pixels", 0.02),
    "speckle": ("variance of the factor", 100),
}

NAMES = {
    "crop": "blanked center",
    "gaussian": "Gaussian noise",
    "salt": "white pixels",
    "pepper": "black pixels",
    "s&p": "white and black pixels",
    "speckle": "multiplicative noise",
}

# What the trace does in a test: the ending of the metrics' names, and the style of the curve.
PROTOCOLS = {
    "as published": ("", "-"),
    "frozen": ("_frozen", ":"),
    "carried": ("_carried", "--"),
}

FEW = 40  # neurons that have a place each on an axis


def strength_of(kind: str, level: int) -> str:
    """A distortion in words: Gaussian noise, variance 0.06."""
    value = STRENGTHS[kind][1] * level
    word = STRENGTHS[kind][0].split(" (")[0].removesuffix(" of the noise")
    return f"{NAMES[kind]}, {word} {value:g}"


def followed_in(columns: Sequence[str]) -> dict[str, str]:
    """Columns of test accuracies under a distortion, and the words for them."""
    found = {}
    for column in columns:
        if match := re.fullmatch(r"test_accuracy_(.+)_(\d+)", column):
            found[column] = strength_of(match[1], int(match[2]))
    return found


def draw_training(rows: Sequence[Mapping[str, float]], rule: str, title: str) -> Figure:
    """Accuracy over epochs, and spikes per hidden neuron against test accuracy.

    Args:
        rows: the run's metrics, a mapping per epoch.
        rule: "hp", "gp" or "lp", which has a color.
        title: of the figure.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
    noisy = {column: f"test, {words}" for column, words in followed_in(list(rows[0])).items()}
    columns = {"train_accuracy": "train", "test_accuracy": "test", **noisy}
    plot_columns(left, rows, columns, "accuracy (%)", factor=100)
    plot_spikes(right, pd.DataFrame(rows).set_index("epoch"), rule)
    right.set(title="a dot per epoch, the ring the last")
    right.title.set_fontsize(9)
    legend_of_all(figure)
    figure.suptitle(title, fontsize=10)
    return figure


def plot_spikes(axes: Axes, table: pd.DataFrame, rule: str, label: str | None = None) -> None:
    """Spikes of a hidden neuron in a presentation against test accuracy, a dot per epoch."""
    color, accuracy = RULES[rule.upper()].color, 100 * table["test_accuracy"]
    axes.scatter(table["test_spikes"], accuracy, s=8, color=color, label=label)
    last = table.iloc[-1]
    axes.scatter(
        last["test_spikes"], 100 * last["test_accuracy"], s=50, facecolors="none", edgecolors=color
    )
    axes.set(xlabel="spikes per hidden neuron and sample", ylabel="test accuracy (%)")
    axes.grid(alpha=0.3)


def levels_of(metrics: Mapping[str, float | None], kind: str, ending: str = "") -> pd.Series:
    """Accuracies under a kind of distortion, in percent, indexed by its strength."""
    found = {}
    for level in range(15):
        value = metrics.get(f"test_accuracy_{kind}_{level}{ending}")
        if value is not None:
            found[STRENGTHS[kind][1] * level] = 100 * value
    return pd.Series(found, dtype=float)


def level_curves(runs: Sequence[Mapping[str, float | None]], kind: str, rule: str) -> list[Curve]:
    """Curves of a rule under a kind of distortion, one for what the trace does.

    Args:
        runs: metrics of each seed.
        kind: of the distortion.
        rule: in lower case.
    """
    found = []
    for protocol, (ending, line) in PROTOCOLS.items():
        series = [curve for run in runs if len(curve := levels_of(run, kind, ending))]
        if series:
            words = rule.upper() if rule == "gp" else f"{rule.upper()}, trace {protocol}"
            found.append(Curve(words, series, rule.upper(), line))
    return found


def draw_levels(
    metrics: Mapping[str, float | None], kinds: Sequence[str], rule: str, title: str
) -> Figure:
    """Accuracy of one network against the strength of each distortion."""
    panels = [
        Panel(NAMES[kind], STRENGTHS[kind][0], level_curves([metrics], kind, rule))
        for kind in kinds
    ]
    return draw_panels(panels, "test accuracy (%)", title)


def draw_constants(before: Mapping[str, Tensor], after: Mapping[str, Tensor], title: str) -> Figure:
    """What learning made of alpha, beta and eta: values before and after, a row per layer.

    Args:
        before: state of the network before training, with entries <layer>.alpha and so on.
        after: its state now.
        title: of the figure.
    """
    layers = [name.removesuffix(".beta") for name in after if name.endswith(".beta")]
    figure, axes = plt.subplots(
        len(layers), 2, figsize=(8.5, 2.6 * len(layers)), squeeze=False, layout="constrained"
    )
    words = {"beta": "beta, drive of a presynaptic neuron", "eta": "eta, sliding threshold"}
    for number, (row, layer) in enumerate(zip(axes, layers, strict=True), 1):
        for plot, (name, label) in zip(row, words.items(), strict=True):
            values = {
                when: state[f"{layer}.{name}"].flatten().cpu().numpy()
                for when, state in (("before training", before), ("after training", after))
            }
            plot_values(plot, values, label)
        alphas = [float(state[f"{layer}.alpha"].mean()) for state in (before, after)]
        row[0].set_title(
            f"layer {number}: alpha {alphas[0]:.3f} before, {alphas[1]:.3f} after", fontsize=9
        )
    legend_of_all(figure)
    figure.suptitle(title, fontsize=10)
    return figure


def plot_values(
    axes: Axes, values: Mapping[str, Float[np.ndarray, " neurons"]], label: str
) -> None:
    """Values of neurons: a point each where they are few, else how many have which value.

    Args:
        axes: what is filled; it gets no legend.
        values: by the words of the legend, those before and those after.
        label: what they are.
    """
    colors = (GRAY, RULES["HP"].color)
    if len(next(iter(values.values()))) <= FEW:
        for (words, each), color, marker in zip(values.items(), colors, "os", strict=True):
            axes.plot(each, linestyle="", marker=marker, color=color, label=words, markersize=4)
        axes.set(xlabel="neuron", ylabel=label.replace(", ", ",\n"))
        integer_ticks(axes.xaxis)
    else:
        every = np.concatenate(list(values.values()))
        # One value alone would have no width.
        reach = (every.min() - 1e-9, every.max() + 1e-9)
        bins = list(np.linspace(*reach, 41))
        for (words, each), color in zip(values.items(), colors, strict=True):
            axes.hist(each, bins=bins, histtype="stepfilled", alpha=0.5, color=color, label=words)
        axes.set(xlabel=label, ylabel="neurons", yscale="log", ylim=(0.7, None))
        axes.locator_params(axis="x", nbins=5)
    axes.grid(alpha=0.3)
