"""Figure 4: learning curves, activity, and the spikes of a sample before and after learning."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from shared.figures import (
    BLACK,
    VERMILLION,
    Curve,
    integer_ticks,
    legend_beside,
    legend_of_all,
    plot_curves,
)
from smooth_gd.spikegd.layered import Response
from smooth_gd.spikegd.models import Config
from smooth_gd.spikegd.utils import plotting
from smooth_gd.spikegd.utils.plotting import formatter, petroff10


def _over_epochs(
    rows: Sequence[Mapping[str, float]], initial: Mapping[str, float], name: str
) -> pd.Series:
    """A number on the test set over epochs; epoch 0 is untrained."""
    return pd.Series([initial[name], *(row[f"test_{name}"] for row in rows)])


def draw_curves(rows: Sequence[Mapping[str, float]], initial: Mapping[str, float]) -> Figure:
    """Test error and loss, with and without pseudospikes, over epochs; epoch 0 is untrained."""
    figure, panels = plt.subplots(1, 2, figsize=(9.6, 3.2), layout="constrained")
    for axes, name, words in zip(panels, ("accuracy", "loss"), ("error (%)", "loss"), strict=True):
        curves = []
        for ending, label, rule in (
            ("", "with pseudospikes", "pseudospikes"),
            ("_ordinary", "ordinary spikes only", "ordinary spikes"),
        ):
            values = _over_epochs(rows, initial, f"{name}{ending}")
            shown = 100 * (1 - values) if name == "accuracy" else values
            curves.append(Curve(label, [shown], rule))
        plot_curves(axes, curves, f"test {words}", counts_seeds=False)
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(formatter)
        axes.yaxis.set_minor_formatter(NullFormatter())
    legend_of_all(figure)
    return figure


def draw_activity(rows: Sequence[Mapping[str, float]], initial: Mapping[str, float]) -> Figure:
    """Silent hidden neurons and the spikes of each over epochs; epoch 0 is untrained."""
    figure, panels = plt.subplots(1, 2, figsize=(9.6, 3.2), layout="constrained")
    for axes, name, factor, words in (
        (panels[0], "silent", 100, "hidden neurons that never spike (%)"),
        (panels[1], "activity", 1, "spikes per hidden neuron and sample"),
    ):
        curves = [
            Curve(label, [factor * _over_epochs(rows, initial, f"{name}_{ending}")])
            for ending, label in (
                ("in_trial", "in the trial"),
                ("until_first", "until the first output spike"),
            )
        ]
        plot_curves(axes, curves, words, counts_seeds=False)
    legend_of_all(figure)
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
        len(before.hidden) + 1, 2, figsize=(9, 5.5), sharex=True, sharey="row", layout="constrained"
    )
    for j, (response, words) in enumerate(((before, "before"), (after, "after"))):
        for axes, layer in zip(columns[:-1, j], response.hidden, strict=True):
            times = np.asarray(layer.times[0])
            neurons = np.broadcast_to(np.arange(len(times))[:, None], times.shape)
            axes.plot(times.ravel(), neurons.ravel(), "|", color="black", markersize=4)
            axes.set_ylim(-1, len(times))
        _outputs(columns[-1, j], response, label)
        columns[0, j].set_title(f"{words} learning", fontsize=10)
        columns[-1, j].set_xlabel("time $t$")
        for axes in columns[:, j]:
            axes.axvline(T, color="gray", linewidth=0.8, linestyle="--")
    for i, axes in enumerate(columns[:-1, 0], 1):
        axes.set_ylabel(f"hidden layer {i}")
    columns[-1, 0].set_ylabel("output")
    legend_beside(columns[-1, 1])
    return figure


def _outputs(axes: Axes, response: Response, label: int) -> None:
    first, ordinary = np.asarray(response.first[0]), np.asarray(response.ordinary[0])
    neurons = np.arange(len(first))
    for own, color, words in (
        (neurons == label, VERMILLION, "label"),
        (neurons != label, BLACK, "other classes"),
    ):
        for chosen, inside, how in (
            (own & ordinary, color, words),
            (own & ~ordinary, "none", f"{words}, pseudospike"),
        ):
            axes.plot(first[chosen], neurons[chosen], "o", mfc=inside, color=color, label=how)
    axes.set_ylim(-1, len(first))
    integer_ticks(axes.yaxis)


def plot_spikes(ax: Axes, example: Mapping[str, Any], config: Config) -> None:
    """Spikes of all neurons in one trial, layer upon layer (panel a).

    Args:
        ax: where it is drawn.
        example: that `run_example` returns.
        config: with T, Nhidden, Nlayer, Nout.
    """
    T, width, n_hidden = config["T"], config["Nhidden"], config["Nlayer"] - 1
    n = n_hidden * width + config["Nout"]
    rows = [row if len(row) else [np.nan] for row in example["spiketimes"]]
    ax.eventplot(rows, colors="black", linewidths=0.5, linelengths=2)
    for layer in range(n_hidden + 1):
        bottom, shaded = layer * width - 0.5, layer % 2
        words = f"hidden layer {layer + 1}" if layer < n_hidden else "output"
        if shaded:
            top = bottom + (width if layer < n_hidden else config["Nout"])
            ax.axhspan(bottom, top, color="black", alpha=0.2, zorder=0)
        color = "white" if shaded else "lightgray"
        ax.text(T, bottom, words, ha="right", va="bottom", color=color, zorder=1)
    ends = [0, *(layer * width - 1 for layer in range(1, n_hidden + 1)), n - 1]
    ax.set_yticks(ends, [str(end + 1) for end in ends])
    ax.set(xlim=(0, T), xticks=[0, T], ylim=(-1, n), xlabel="time $t$", ylabel="neuron")


def plot_error(ax: Axes, metrics: Mapping[str, Any], config: Config) -> None:
    """Test error over epochs, mean and standard deviation over networks (panel c).

    Args:
        ax: where it is drawn.
        metrics: that `run` returns, stacked [networks, epochs + 1].
        config: of the networks.
    """
    for name, words, color in (("acc_ord", "ordinary spikes only", "C0"), ("acc", "all", "C1")):
        error = 1 - np.asarray(metrics[name])
        mean, spread, epochs = error.mean(0), error.std(0), np.arange(1, error.shape[1] + 1)
        ax.plot(epochs, mean, color=color, label=words)
        ax.fill_between(epochs, mean - spread, mean + spread, color=color, alpha=0.3)
    legend_beside(ax)
    ax.set(xscale="log", yscale="log", ylim=(0.01, 1), xlabel="epochs + 1", ylabel="test error")
    ax.xaxis.set_major_formatter(formatter)
    ax.yaxis.set_major_formatter(formatter)
    ax.xaxis.set_minor_formatter(NullFormatter())


def plot_traces(ax: Axes, example: Mapping[str, Any], config: Config) -> None:
    """Potentials of the output neurons in one trial (panel b); config has T and Nout."""
    times, potentials = np.asarray(example["trace_ts"]), np.asarray(example["trace_Vs"])
    ax.axhline(0, color="gray", alpha=0.3, zorder=-1)
    ax.plot([-0.1, -0.1], [0, 1], color="black", clip_on=False)  # the length of 1
    for i in range(config["Nout"]):
        color = petroff10[i % len(petroff10)]
        ax.plot(times, potentials[:, i - config["Nout"]], color=color)
        ax.text(i % 5 * 0.15, -4 - i // 5 * 3, str(i), color=color)
    plotting.only_time(ax, config["T"], "time $t$")
    ax.set(ylim=(-8, 8), ylabel="potential $V$")


def draw_example(
    examples: Sequence[Mapping[str, Any]], metrics: Mapping[str, Any], config: Config
) -> Figure:
    """The figure's panels, to be drawn in `plotting.STYLE`.

    Args:
        examples: that `run_example` returns, before and after learning.
        metrics: see `plot_error`.
        config: of the network, with Nepochs.
    """
    figure = plt.figure(figsize=plotting.cm2inch(16, 10))
    rows = figure.add_gridspec(2, 3, hspace=0.4, wspace=0.4)
    left, middle = (figure.add_subplot(rows[:, i]) for i in (0, 1))
    for ax, example, epoch in zip((left, middle), examples, (0, config["Nepochs"]), strict=True):
        plot_spikes(ax, example, config)
        ax.set_title(f"epoch {epoch}")
    middle.set(ylabel="", yticklabels=[])
    width = math.isqrt(len(example["input"]))
    if width**2 == len(example["input"]):
        inset = left.inset_axes((0.02, 0.02, 0.3, 0.15))
        inset.imshow(np.reshape(example["input"], (width, width)), cmap="gray")
        inset.set(xticks=[], yticks=[])
    above, below = (figure.add_subplot(rows[i, 2]) for i in (0, 1))
    plot_traces(above, examples[1], config)
    plot_error(below, metrics, config)
    for ax, label in ((left, "(a)"), (above, "(b)"), (below, "(c)")):
        plotting.panel_label(figure, ax, label, x=-0.4, y=0.05)
    return figure
