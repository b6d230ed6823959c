"""Figures 3 and S1: rasters, spike times over trials and over the way they have gone, loss.

What is drawn are the dictionaries that `rnn.run` returns. A unit of time is 10 ms.
"""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from shared.errors import UserError
from shared.figures import GREEN, VERMILLION, integer_ticks, legend_beside
from smooth_gd.spikegd.models import Config, Events
from smooth_gd.spikegd.utils import plotting
from smooth_gd.spikegd.utils.plotting import formatter, idx_to_color, loc_min

Arrays = Mapping[str, Any]
MS = 10.0  # of a unit of time
COLORS = ("C0", "C1")  # of the target neurons, in turn
TRIALS, WAY = "trials", "arclength"
WAY_SMOOTHING = 11  # trials

__all__ = [
    "draw_changes",
    "draw_learning",
    "draw_weights",
    "idx_to_color",
    "plot_loss",
    "plot_spikes",
    "plot_spikescomparison",
    "plot_times",
]


def _color(i: int) -> str:
    return COLORS[i % len(COLORS)]


def _rows(ax: Axes, spikes: list[Any], **style: Any) -> None:
    """Rows of spikes; matplotlib wants a row to have one at least."""
    ax.eventplot([row if len(row) else [np.nan] for row in spikes], **style)


def plot_spikes(ax: Axes, examples: Arrays, i_ex: int, config: Config) -> None:
    """Spikes of all neurons, targets behind those of the target neurons (panel b).

    Args:
        ax: where it is drawn.
        examples: that `run` returns.
        i_ex: 0 before learning, 1 after it.
        config: with T, N, Ntar, Ntrial.
    """
    events, n, n_targets = Events(*examples["outs"][i_ex]), config["N"], config["Ntar"]
    times, neurons = np.asarray(events.times), np.asarray(events.neurons)
    own = ~np.asarray(events.spike_in)
    spikes = [MS * times[own & (neurons == i)] for i in range(n)]
    colors = [_color(i) if i < n_targets else "black" for i in range(n)]
    lengths = [1.0 if i < n_targets else 0.5 for i in range(n)]
    places = np.cumsum(lengths) - np.array(lengths) / 2
    _rows(ax, spikes, colors=colors, linelengths=lengths, lineoffsets=places)
    targets = [MS * np.asarray(t) for t in examples["t_targets"]]
    place = places[:n_targets]
    _rows(ax, targets, colors="C4", linelengths=lengths[:n_targets], lineoffsets=place, zorder=0)
    ax.set_title(f"trial {(0, config['Ntrial'])[i_ex]}")
    plotting.only_time(ax, MS * config["T"], "time (ms)")


def plot_times(
    ax: Axes,
    metrics: Arrays,
    i_ex: int,
    config: Config,
    x: str = TRIALS,
    smoothing: int = 1,
    color: str = "C0",
) -> None:
    """Spike times of a target neuron while it learns (panels c and d); pseudospikes in the shade.

    Args:
        ax: where it is drawn.
        metrics: that `run` returns.
        i_ex: the neuron.
        config: with T, Ntrial.
        x: what they are drawn over, "trials" or "arclength", the way that they have gone.
        smoothing: trials of a running mean that the way is measured on.
        color: of the spikes; the surplus one is black.

    Raises:
        UserError: x is neither.
    """
    if x not in (TRIALS, WAY):
        raise UserError(f"x must be '{TRIALS}' or '{WAY}', not {x!r}")
    T = MS * config["T"]
    times = MS * np.stack([np.asarray(trial[i_ex]) for trial in metrics["t_out"]])
    style: dict[str, Any] = {}
    if x == TRIALS:
        places = np.arange(1, len(times) + 1)
        ax.set_xscale("log")
        ax.xaxis.set_minor_locator(loc_min)
        ax.set_xlabel("trials + 1")
    else:
        places = plotting.arc_length(times, smoothing)
        start = (smoothing - 1) // 2
        times = times[start : start + len(places)]
        style = {"linestyle": "", "marker": ".", "markersize": 1.0, "rasterized": True}
        ax.set_xlabel("way of the spike times (ms)")
    ax.plot(places, times[:, :-1], color=color, **style)
    ax.plot(places, times[:, -1], color="black", **style)
    plotting.shade_behind(ax, T, float(places[-1]))
    targets = MS * np.asarray(metrics["t_targets"][i_ex])[:-1]
    ends = np.full(len(targets), places[-1])
    ax.plot(ends, targets, ".", color="C4", clip_on=False)
    ax.set_ylim(0, 1.3 * T)


def plot_loss(ax: Axes, metrics: Arrays, config: Config) -> None:
    """Loss over trials (panel S1a)."""
    loss = np.asarray(metrics["loss"])
    ax.plot(np.arange(1, len(loss) + 1), loss, color="black")
    ax.set(xscale="log", yscale="log", xlabel="trials + 1", ylabel="loss")
    ax.xaxis.set_major_formatter(formatter)
    ax.xaxis.set_minor_locator(loc_min)
    ax.xaxis.set_minor_formatter(NullFormatter())


def plot_spikescomparison(ax: Axes, examples: Arrays, config: Config) -> None:
    """Spikes of the target neurons: targets, learned, and without the other neurons (panel S1b).

    Of each neuron the targets are on top, then the spikes after learning, then those without the
    weights onto the neurons that are no target neurons.
    """
    T, n, step = MS * config["T"], config["Ntar"], 1.1
    for i in range(n):
        bottom = 3 * step * i + 0.5
        rows = (examples["t_outs"][-1][i], examples["t_outs"][1][i], examples["t_targets"][i])
        for k, (times, color, alpha) in enumerate(
            zip(rows, (_color(i), _color(i), "C4"), (0.5, 1.0, 1.0), strict=True)
        ):
            place = bottom + k * step
            ax.eventplot(MS * np.asarray(times), lineoffsets=place, colors=color, alpha=alpha)
        if i:
            ax.axhline(bottom - 0.55, color="black", linewidth=1, zorder=10)
    ax.set_title(f"trial {config['Ntrial']}")
    plotting.only_time(ax, T, "time (ms)")


def draw_learning(metrics: Arrays, examples: Arrays, config: Config) -> Figure:
    """Figure S1, which holds all panels of figure 3; to be drawn in `plotting.STYLE`."""
    figure = plt.figure(figsize=plotting.cm2inch(22, 10))
    rows = figure.add_gridspec(2, 4, hspace=0.6, wspace=0.35)
    axes = [[figure.add_subplot(rows[i, j]) for j in range(4)] for i in (0, 1)]
    plot_loss(axes[0][0], metrics, config)
    plot_spikescomparison(axes[0][1], examples, config)
    for i in (0, 1):
        plot_spikes(axes[1][i], examples, i, config)
    for i in range(min(config["Ntar"], 2)):
        for row, x, smoothing in ((0, TRIALS, 1), (1, WAY, WAY_SMOOTHING)):
            ax = axes[row][2 + i]
            smoothing = min(smoothing, len(metrics["loss"]))
            plot_times(ax, metrics, i, config, x, smoothing, _color(i))
            ax.set_ylim(0, 15 * config["T"])
        axes[0][2 + i].set_title(f"neuron {i + 1}")
    for row in (0, 1):
        axes[row][2].set_ylabel("spike time (ms)")
    for label, ax in zip("abcde", (*axes[0][:2], axes[1][0], axes[0][2], axes[1][2]), strict=True):
        plotting.panel_label(figure, ax, f"({label})", x=-0.4, y=0.1)
    return figure


def draw_changes(counts: np.ndarray[Any, Any]) -> Figure:
    """Number of ordinary spikes over trials, and how many have been added and removed.

    Spikes come and go at the trial's end alone: by their number, added and removed ones are told.

    Args:
        counts: spikes of each neuron in each trial.
    """
    figure, ax = plt.subplots(figsize=(8.4, 3), layout="constrained")
    changes, trials = np.diff(counts, axis=0), np.arange(1, len(counts) + 1)
    ax.plot(trials, counts.sum(1), color="black", linewidth=0.9, label="ordinary spikes")
    for sign, color, words in ((1, GREEN, "added by the gradient"), (-1, VERMILLION, "removed")):
        total = np.cumsum((sign * changes).clip(0).sum(1))
        ax.plot(trials[1:], total, color=color, linewidth=0.9, label=words)
    ax.set(ylabel="spikes of the network", xlabel="trial")
    integer_ticks(ax.xaxis)
    integer_ticks(ax.yaxis)
    legend_beside(ax)
    return figure


def draw_weights(weights: np.ndarray[Any, Any]) -> Figure:
    """Learned weights."""
    figure, axes = plt.subplots(figsize=(4.2, 3.6), layout="constrained")
    limit = np.abs(weights).max() or 1.0
    image = axes.imshow(weights, cmap="RdBu_r", vmin=-limit, vmax=limit)
    axes.set(xlabel="from neuron", ylabel="to neuron")
    integer_ticks(axes.xaxis)
    integer_ticks(axes.yaxis)
    figure.colorbar(image, label="weight")
    return figure
