"""Figure 1: currents, voltages and spikes of examples, and the first spike over what is varied.

What is drawn are the dictionaries that `concept.run` returns.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from shared.errors import check_word
from smooth_gd.spikegd.models import Config
from smooth_gd.spikegd.utils import plotting
from smooth_gd.spikegd.utils.plotting import Colormap, cmap_blues, cmap_grays, cmap_purples

Arrays = Mapping[str, Any]
idx_to_color = partial(plotting.idx_to_color, denom=0.0)

# Lower and upper end of the voltages shown, and the name of the upper gray line.
_VOLTAGES = {"QIF": (-2.0, 3.0, r"$V_\mathrm{sep}$"), "LIF": (-0.5, 1.5, r"$V_\Theta$")}
_EVERY = 10  # points of a grid that are drawn


def plot_current(ax: Axes, examples: Arrays, cmap: Colormap = cmap_grays) -> None:
    """The examples' currents, each moved to the right and up (panel a)."""
    n = len(examples["traces"])
    for i, (times, states) in enumerate(examples["traces"]):
        color = idx_to_color(cmap, i, n)
        ax.plot(
            np.asarray(times) + i, np.asarray(states)[:, 1] + 0.7 * i, color=color, zorder=9 - i
        )
    ax.margins(0.4, 0.05)
    ax.axis("off")


def plot_spikes(ax: Axes, examples: Arrays, config: Config, cmap: Colormap = cmap_blues) -> None:
    """The examples' first spikes."""
    spikes = np.asarray(examples["spiketimes"])
    for i, time in enumerate(spikes):
        ax.eventplot(
            [time] if np.isfinite(time) else [], colors=[idx_to_color(cmap, i, len(spikes))]
        )
    ax.set_xlim(0, config["T"])
    ax.set_axis_off()


def plot_voltage(
    ax: Axes,
    examples: Arrays,
    config: Config,
    cmap: Colormap = cmap_blues,
    neuron_type: str = "QIF",
) -> None:
    """The examples' voltages (panels b and c); neuron_type is QIF or LIF.

    Raises:
        ValueError: it is neither.
    """
    check_word("neuron_type", neuron_type, _VOLTAGES)
    low, high, upper = _VOLTAGES[neuron_type]
    n, T = len(examples["traces"]), config["T"]
    for i, (times, states) in enumerate(examples["traces"]):
        color = idx_to_color(cmap, i, n)
        ax.plot(np.asarray(times), np.asarray(states)[:, 0], color=color, zorder=9 - i)
    for level in (0, 1):
        ax.axhline(level, color="gray", alpha=0.3, zorder=0)
    ax.axvline(T, color="black", alpha=0.5, clip_on=False)
    ax.set(ylim=(low, high))
    ax.set_xticks([0, T], ["0", "T"])
    ax.set_yticks([0, 1], [r"$V_\mathrm{rest}$", upper])
    ax.text(0.01 * T, 0.8 * low, neuron_type, color="C0" if neuron_type == "QIF" else "C3")


def plot_spiketimes(
    ax: Axes,
    grid: Arrays,
    examples: Arrays,
    config: Config,
    c: str,
    cmap: Colormap = cmap_blues,
) -> None:
    """The first spike over what is varied, as shares of T and of the grid's end (panel d)."""
    T, largest = config["T"], float(np.max(grid["p"]))
    values, spikes = (np.asarray(grid[name])[::_EVERY] for name in ("p", "spiketimes"))
    ax.plot(values / largest, spikes / T, color=c, zorder=0)
    for i, (value, time) in enumerate(zip(examples["p"], examples["spiketimes"], strict=True)):
        color = idx_to_color(cmap, i, len(examples["p"]))
        ax.scatter(value / largest, time / T, color=[color], s=5, zorder=10)
    ax.set(xlim=(0, 1), xticks=[0, 0.5, 1], ylim=(0, 1), yticks=[0, 1])


def plot_gradients(ax: Axes, grid: Arrays, examples: Arrays, config: Config, c: str) -> None:
    """Slope of the first spike over what is varied (inset of panel d); none without a spike."""
    values, spikes, slopes = (
        np.asarray(grid[name])[::_EVERY] for name in ("p", "spiketimes", "grads")
    )
    shown = np.where(spikes <= config["T"], slopes, np.nan)
    ax.plot(values / float(np.max(grid["p"])), shown, color=c, zorder=0)
    ax.set(xlim=(0, 1), xticks=[0, 0.5, 1], ylim=(-40, 1), yticks=[-40, -20, 0])


def draw_concept(
    grids: Mapping[tuple[str, str], Arrays],
    examples: Mapping[tuple[str, str], Arrays],
    configs: Mapping[str, Config],
) -> Figure:
    """All panels, to be drawn in `plotting.STYLE`: left the weight varies, right the time.

    Args:
        grids: by neuron model, QIF or LIF, and what is varied, weight or time.
        examples: by the same.
        configs: by neuron model.
    """
    heights = [2.0, 1.0, 2.5, 0.4, 1.0, 2.5, 1.0, 2.5]
    figure = plt.figure(figsize=plotting.cm2inch(15, 18))
    rows = figure.add_gridspec(8, 2, hspace=0.0, wspace=0.3, height_ratios=heights)
    for column, what in enumerate(("weight", "time")):
        plot_current(figure.add_subplot(rows[0, column]), examples["QIF", what])
        _draw_examples(figure, rows, column, examples, configs)
        _draw_sweeps(figure, rows, column, grids, examples, configs)
    for label, place in (("(a)", 0), ("(b)", 1), ("(c)", 3), ("(d)", 5)):
        plotting.panel_label(figure, figure.axes[place], label, x=-0.5)
    return figure


def _draw_examples(
    figure: Figure, rows: Any, column: int, examples: Mapping[Any, Arrays], configs: Any
) -> None:
    what = ("weight", "time")[column]
    for row, name, cmap in ((1, "LIF", cmap_purples), (4, "QIF", cmap_blues)):
        shown, config = examples[name, what], configs[name]
        plot_spikes(figure.add_subplot(rows[row, column]), shown, config, cmap)
        axes = figure.add_subplot(rows[row + 1, column])
        plot_voltage(axes, shown, config, cmap, name)
        if column:
            axes.tick_params(labelleft=False)
        else:
            axes.set_ylabel("potential $V$")
    axes.set_xlabel("time $t$", labelpad=-6)


def _draw_sweeps(
    figure: Figure, rows: Any, column: int, grids: Any, examples: Any, configs: Any
) -> None:
    axes, what = figure.add_subplot(rows[7, column]), ("weight", "time")[column]
    curves = (("QIF", "C0", cmap_blues), ("LIF", "C3", cmap_purples))
    for name, color, cmap in curves:
        key = name, what
        plot_spiketimes(axes, grids[key], examples[key], configs[name], color, cmap)
    axes.axhline(1, color="black", alpha=0.5, clip_on=False)
    if column:
        axes.plot([0, 1], [0, 1], ":", color="black", zorder=-1)
        axes.set_xticks([0, 0.5, 1], ["0", "$T/2$", "$T$"])
        axes.set_xlabel("time of the inhibitory input")
        axes.tick_params(labelleft=False)
        return
    axes.set_xticks([0, 0.5, 1], ["0", r"$w_\mathrm{min}$", r"$2w_\mathrm{min}$"])
    axes.set(xlabel="weight of the input", ylabel="time of the first spike")
    axes.set_yticks([0, 1], ["0", "$T$"])
    inset = axes.inset_axes((0.15, 0.2, 0.3, 0.5))
    for name, color, _ in reversed(curves):
        plot_gradients(inset, grids[name, what], examples[name, what], configs[name], color)
    inset.set(xlim=(0.45, 1), ylim=(-20, 1), xticks=[0.5, 1])
    inset.set_title(r"$\partial t / \partial w$", fontsize=6)
