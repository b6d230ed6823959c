"""Figure 2: a trial before and after learning, spike times over trials, gradients.

What is drawn are the dictionaries that `single.run` returns. A unit of time is 10 ms.
"""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpecBase

from shared.figures import COLORS, integer_ticks, legend_beside
from smooth_gd.spikegd.models import Config
from smooth_gd.spikegd.utils import plotting
from smooth_gd.spikegd.utils.plotting import (
    cmap_blues,
    cmap_oranges,
    cmap_purples,
    idx_to_color,
    panel_label,
)

Arrays = Mapping[str, Any]
MS = 10.0  # of a unit of time


def plot_dynamics(
    fig: Figure,
    gs: GridSpecBase,
    examples: Arrays,
    i_ex: int,
    config: Config,
    labels: bool = True,
) -> None:
    """Output spikes, voltage, current and input spikes of an example (panel b).

    Args:
        fig: where it is drawn.
        gs: of twelve rows.
        examples: that `run` returns.
        i_ex: 0 before learning, 1 after it.
        config: with T, Ntrial, Ntrain, t_targets.
        labels: whether axes are named.
    """
    T, trained = MS * config["T"], config["Ntrain"]
    targets = MS * np.asarray(config["t_targets"])
    times, states = (np.asarray(x) for x in examples["traces"][i_ex])
    output = fig.add_subplot(gs[:2])
    for i, time in enumerate(MS * np.asarray(examples["t_out"][i_ex])):
        output.eventplot([time], lineoffsets=0, colors=[idx_to_color(cmap_blues, i, len(targets))])
    output.eventplot(targets, lineoffsets=0, colors="C4", zorder=0)
    output.set_title(f"trial {(0, config['Ntrial'])[i_ex]}")
    output.set_xlim(0, T)
    output.set_axis_off()
    curves = ((2, 7, 0, (-7, 8), (0, 1), "potential $V$"), (7, 10, 1, (-3, 6), (0,), "current $I$"))
    for top, bottom, which, limits, levels, words in curves:
        axes = fig.add_subplot(gs[top:bottom])
        axes.plot(MS * times, states[:, which], color="C0")
        axes.plot([-2, -2], [0, 1], color="black", clip_on=False)  # the length of 1
        for level in levels:
            axes.axhline(level, color="gray", alpha=0.3)
        axes.set(xlim=(0, T), ylim=limits, xticks=[], yticks=[])
        axes.spines[["left", "bottom"]].set_visible(False)
        if labels:
            axes.set_ylabel(words)
    inputs = fig.add_subplot(gs[10:])
    times_in = MS * np.asarray(examples["times_in"][i_ex])
    inputs.eventplot(times_in[trained:], lineoffsets=0, colors="black")
    for i, time in enumerate(times_in[:trained]):
        color = idx_to_color(cmap_oranges, i, trained)
        inputs.eventplot([time], lineoffsets=0, colors=[color], zorder=10)
    plotting.only_time(inputs, T, "time (ms)")


def plot_spiketimes(ax: Axes, metrics: Arrays, config: Config) -> None:
    """Output spikes, pseudospikes in the shade, and trained input times over trials (panel c)."""
    T, trials, trained = MS * config["T"], config["Ntrial"], config["Ntrain"]
    outputs, inputs = MS * np.asarray(metrics["t_out"]), MS * np.asarray(metrics["p"])[:, 1]
    for times, cmap in ((outputs, cmap_blues), (inputs, cmap_oranges)):
        for i, one in enumerate(times.T):
            ax.plot(one, color=idx_to_color(cmap, i, trained))
    targets = MS * np.asarray(config["t_targets"])
    ax.scatter(np.full(len(targets), trials), targets, color="C4", s=10, zorder=10, clip_on=False)
    plotting.shade_behind(ax, T, trials)
    ax.text(0.4 * trials, 1.15 * T, "pseudospikes", color="white", zorder=11)
    ax.set(xticks=[0, trials], yticks=[0, T], xlim=(0, trials), ylim=(0, 1.1 * outputs[0, -1]))
    ax.set(xlabel="trials", ylabel="spike time (ms)")


def plot_gradients(ax: Axes, metrics: Arrays, config: Config) -> None:
    """The loss's gradients over the way that the output spikes have gone (panel d).

    Each is divided by its largest absolute value.
    """
    way = plotting.arc_length(MS * np.asarray(metrics["t_out"]))
    gradients, n = np.asarray(metrics["grad"]), config["Ntrain"]
    for row, cmap, words in ((1, cmap_oranges, "t"), (0, cmap_purples, "w")):
        for i in range(n):
            slope = gradients[:, row, i]
            ax.plot(
                way,
                slope / (np.abs(slope).max() or 1.0),
                color=idx_to_color(cmap, i, n),
                zorder=2 + row,
                label=rf"$\partial L / \partial {words}_{i + 1}$",
            )
    ax.legend(
        labelcolor="linecolor", handlelength=0, labelspacing=0, frameon=False, loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
    )  # fmt: skip
    ax.set(ylim=(-1.1, 1.1), xlabel="way of the spike times (ms)", ylabel="normalized gradient")


def draw_single(metrics: Arrays, examples: Arrays, config: Config) -> Figure:
    """All panels, to be drawn in `plotting.STYLE`."""
    figure = plt.figure(figsize=plotting.cm2inch(15, 13))
    rows = figure.add_gridspec(2, 1, height_ratios=[2, 1], hspace=0.35)
    top, bottom = (rows[i].subgridspec(1, 2, wspace=0.35) for i in (0, 1))
    for i in (0, 1):
        part = top[i].subgridspec(12, 1, hspace=1.0)
        plot_dynamics(figure, part, examples, i, config, labels=i == 0)
    panel_label(figure, figure.axes[0], "(b)", x=-0.3, y=0.1)
    for place, draw, label in ((0, plot_spiketimes, "(c)"), (1, plot_gradients, "(d)")):
        axes = figure.add_subplot(bottom[place])
        draw(axes, metrics, config)
        panel_label(figure, axes, label, x=-0.4)
    return figure


def draw_learning(history: Arrays, config: Config) -> Figure:
    """Number of ordinary spikes, trained inputs, and loss over trials."""
    figure, rows = plt.subplots(4, 1, figsize=(7, 7), sharex=True, layout="constrained")
    trials = np.arange(1, len(history["loss"]) + 1)
    count, learned = history["ordinary"], history["learned"]
    rows[0].plot(trials, count, drawstyle="steps-post", color="black")
    rows[0].set(ylabel="ordinary spikes", yticks=range(int(count.max()) + 1))
    for row, words in ((0, "weight"), (1, "time")):
        for i in range(learned.shape[2]):
            values = (1.0, MS)[row] * learned[:, row, i]
            rows[1 + row].plot(trials, values, color=COLORS[i], label=f"input {i + 1}")
        rows[1 + row].set_ylabel(f"trained {words}s{' (ms)' if row else ''}")
        legend_beside(rows[1 + row])
    rows[3].plot(trials, history["loss"], color="black")
    rows[3].set(ylabel="loss", yscale="log", xlabel="trial")
    integer_ticks(rows[3].xaxis)
    return figure
