"""Figures of shifting learning, and the demonstration of the shift.

    python shifting_learning/figures.py --out FOLDER    an input spike moves, the output follows

The other figures are drawn by the experiments' scripts at the end of a run.
"""

import shared.waiting

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from shared.figures import (
    COLORS,
    RULES,
    VERMILLION,
    draw_confusion,
    integer_ticks,
    legend_beside,
    legend_of_all,
    parts_of,
    plot_columns,
    save_figure,
)
from shared.options import script
from shifting_learning.kernels import SILENT
from shifting_learning.network import Network
from shifting_learning.SL_Layer import SNNLayer

FLOAT = NDArray[np.floating]
FEWEST_FALSE = 1e-4
"""False positive rate at which the receiver operating characteristic begins."""

__all__ = [
    "draw_confusion",
    "draw_curves",
    "draw_layers_raster",
    "draw_potentials",
    "draw_roc",
    "draw_shift",
    "logarithmic",
    "look_at_last_layer",
]


def draw_curves(rows: Sequence[Mapping[str, float]], title: str) -> Figure:
    """Accuracy of the parts of the data, loss, and silent hidden neurons, over epochs."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 3.2), layout="constrained")
    plot_columns(left, rows, parts_of("accuracy"), "accuracy (%)", factor=100)
    plot_columns(middle, rows, {"loss": "train"}, "mean over images of sum d²")
    silent = {"silent_hidden": "train"}
    plot_columns(right, rows, silent, "silent hidden neurons (%)", factor=100)
    if len(rows) > 1:  # what has one epoch is points, not curves
        logarithmic(middle)
        right.set_ylim(bottom=0)
    legend_of_all(figure)
    figure.suptitle(title, fontsize=10)
    return figure


def logarithmic(axes: Axes) -> None:
    """A logarithmic y axis with ticks in plain numbers, also where it spans less than a decade."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def draw_roc(labels: NDArray[np.int64], scores: FLOAT, title: str) -> Figure:
    """Receiver operating characteristic of the classes against the others.

    On the left the mean over classes and their range, on the right what each class lacks to an
    area of 1.

    Args:
        labels: right classes [n].
        scores: larger for the more likely class, [n, classes].
        title: of the figure.
    """
    from sklearn.metrics import auc, roc_curve  # here, since it takes a second of every start

    figure, (left, right) = plt.subplots(
        1, 2, figsize=(8.6, 3.4), layout="constrained", width_ratios=[3, 2]
    )
    classes = np.arange(scores.shape[1])
    found = [roc_curve(labels == k, scores[:, k]) for k in classes]
    at = np.geomspace(FEWEST_FALSE, 1, 200)
    rates = 100 * np.array([np.interp(at, false, true) for false, true, _ in found])
    color = RULES["test"].color
    left.fill_between(100 * at, rates.min(0), rates.max(0), color=color, alpha=0.2, linewidth=0)
    left.plot(100 * at, rates.mean(0), color=color)
    left.set(xlabel="false positive rate (%)", ylabel="true positive rate (%)", xscale="log")
    left.set(xlim=(100 * FEWEST_FALSE, 100), ylim=(None, 101))
    left.set_title("mean and range of the classes", fontsize=9)
    lacking = [1 - auc(false, true) for false, true, _ in found]
    right.plot(lacking, classes, "o", color=color)
    right.set(xlabel="1 - area under the curve", ylabel="class", xlim=(0, None))
    right.set(ylim=(len(classes) - 0.5, -0.5))
    integer_ticks(right.yaxis)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.suptitle(title, fontsize=10)
    return figure


def draw_layers_raster(codes: Sequence[FLOAT], names: Sequence[str], title: str) -> Figure:
    """Spikes of one trial through the layers, a panel per layer.

    Args:
        codes: spike codes z = exp(t) of each layer's neurons; silent neurons are left out.
        names: of the layers.
        title: of the figure.
    """
    figure, panels = plt.subplots(
        1, len(codes), figsize=(3.2 * len(codes) + 1.6, 3.2), layout="constrained", sharex=True
    )
    for axes, z, name in zip(panels, codes, names, strict=True):
        fired = z < SILENT / 2
        axes.scatter(np.log(z[fired]), np.flatnonzero(fired), s=14 if len(z) < 50 else 2)
        axes.set(xlabel="time (synaptic time constants)", ylabel=f"{name} neuron")
        axes.set_title(f"{fired.sum()} of {len(z)} spike")
        axes.set_ylim(-0.5, len(z) - 0.5)
        integer_ticks(axes.yaxis)
    last = panels[-1]
    first = np.log(codes[-1].min())
    last.axvline(first, color=VERMILLION, linewidth=1, label="first spike:\ndecision")
    legend_beside(last)
    figure.suptitle(title)
    return figure


def membrane_potential(t: FLOAT, spike_times: FLOAT, timings: FLOAT) -> FLOAT:
    """Potential of a non-leaky neuron with exponentially decaying synaptic currents.

    V(t) = sum_i s_i (1 - exp(t_i - t)) over the inputs that have come; the threshold is 1. This is
    the equation behind the codes: V = 1 at exp(t) = sum s_i exp(t_i) / (sum s_i - 1). The rule
    takes the smallest admissible code, of the inputs in its causal set alone: where an input of
    negative timing comes between these and that time, the potential there is still below 1.

    Args:
        t: times, shape [n].
        spike_times: input spike times t_i, shape [inputs].
        timings: exponential shifting timings s_i, shape [inputs].

    Returns:
        Potentials, shape [n].
    """
    elapsed = t[:, None] - spike_times
    potential: FLOAT = (np.where(elapsed > 0, 1 - np.exp(-elapsed), 0) * timings).sum(axis=1)
    return potential


class LastLayer(NamedTuple):
    """What the output neurons of a network get and do in some trials, times in time constants.

    Attributes:
        arrivals: spike times of the last hidden layer, shape [trials, hidden].
        timings: exponential shifting timings of the output layer, shape [hidden, out].
        decided: spike times of the outputs, their passing times added, shape [trials, out].
    """

    arrivals: FLOAT
    timings: FLOAT
    decided: FLOAT


def look_at_last_layer(network: Network, z_in: torch.Tensor) -> LastLayer:
    """The last layer of a network, or of the first of several, in the trials given.

    Args:
        network: its layers take one spike a synapse.
        z_in: input codes, shape [trials, in], or [networks, trials, in].
    """
    z_hidden = z_in
    for layer in network.layers[:-1]:
        z_hidden = layer(z_hidden)
    last = network.layers[-1]
    z_out, timings = last(z_hidden), last.e_ts.detach().clone()
    if timings.ndim == 3:
        z_hidden, z_out, timings = z_hidden[0], z_out[0], timings[0]
    found = (z_hidden.log(), timings, z_out.log())
    return LastLayer(*(x.double().cpu().numpy() for x in found))


def draw_potentials(
    before: LastLayer, after: LastLayer, trials: Sequence[str], right: Sequence[int]
) -> Figure:
    """Potentials of the output neurons before and after training, a column per trial.

    Dashed lines are the output spikes. They lie beside the crossings of the threshold where the
    passing times differ from 1, and where an inhibitory input comes after the causal set and before
    the spike: the rule's search does not ask for it, see `membrane_potential`.

    Args:
        before: the last layer in the trials.
        after: the last layer in the same trials.
        trials: names of the trials.
        right: the neuron that should spike first in each.
    """
    figure, panels = plt.subplots(
        2, len(trials), figsize=(2.6 * len(trials) + 1, 4.6), layout="constrained", sharey=True
    )
    for row, view, when in zip(panels, (before, after), ("before", "after"), strict=True):
        for axes, arrivals, decided, name, wanted in zip(
            row, view.arrivals, view.decided, trials, right, strict=True
        ):
            spiked = np.exp(decided) < SILENT / 2
            end = (decided[spiked].max() if spiked.any() else arrivals.max()) + 0.3
            t = np.linspace(min(0.0, arrivals.min()), end, 400)
            for k in range(len(decided)):
                potential = membrane_potential(t, arrivals, view.timings[:, k])
                color = COLORS[k % len(COLORS)]
                axes.plot(t, potential, color=color, label=f"output {k}")
                if spiked[k]:
                    axes.axvline(decided[k], color=color, linestyle="--", linewidth=1)
            axes.axhline(1, color="gray", linestyle=":", linewidth=1)
            axes.set(ylim=(-0.2, 1.6))
            axes.set_title(f"{name}, {when}; right: {wanted}", fontsize=9)
        row[0].set_ylabel("membrane potential")
    for axes in panels[-1]:
        axes.set_xlabel("time (synaptic time constants)")
    legend_of_all(figure)
    return figure


def draw_shift() -> Figure:
    """An input spike moves: the membrane potential and the output spike follow."""
    figure, (upper, lower) = plt.subplots(
        2, 1, figsize=(6, 5), layout="constrained", sharex=True, height_ratios=[3, 2]
    )
    timings = np.array([0.8, 0.9, 0.7, 0.6])
    layer = SNNLayer(4, 1, torch.from_numpy(timings)[:, None])
    t = np.linspace(0, 2.2, 1000)
    moves = np.linspace(0.1, 1.3, 60)
    outputs = []
    for shift in moves:
        times = np.array([0.2, shift, 0.7, 1.2])
        outputs.append(float(layer(torch.from_numpy(np.exp(times))[None]).log()))
    for shift, color in zip((0.1, 0.5, 0.9, 1.3), COLORS, strict=False):
        times = np.array([0.2, shift, 0.7, 1.2])
        spike = float(layer(torch.from_numpy(np.exp(times))[None]).log())
        potential = membrane_potential(t, times, timings)
        upper.plot(t[t <= spike], potential[t <= spike], color=color, label=f"input at {shift}")
        upper.plot([spike, spike], [1, 1.25], color=color)
        upper.plot(shift, -0.06, marker="|", markersize=10, color=color, clip_on=False)
    upper.axhline(1, color="gray", linestyle=":", linewidth=1)
    upper.set(ylabel="membrane potential", ylim=(-0.1, 1.3), title="threshold 1, four inputs")
    upper.legend(fontsize=8, loc="upper left")
    lower.plot(outputs, moves, color="k")
    lower.set(xlabel="time of the output spike (synaptic time constants)")
    lower.set(ylabel="time of the moved input")
    lower.grid(alpha=0.3)
    return figure


def main() -> None:
    """Draw the demonstration of the shift."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/sl_shift"),
        help="folder of shift.png and shift.pdf (default: runs/sl_shift)",
    )
    args = parser.parse_args()
    save_figure(draw_shift(), args.out / "shift")
    print(args.out / "shift.png")


if __name__ == "__main__":
    script(main)
