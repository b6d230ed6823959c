"""Figures of shifting learning, and the demonstration of the shift.

    python shifting_learning/figures.py --out FOLDER    an input spike moves, the output follows

The other figures are drawn by the experiments' scripts at the end of a run.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import ConfusionMatrixDisplay, auc, roc_curve

from shared.figures import save_figure
from shared.options import script
from shifting_learning.kernels import SILENT
from shifting_learning.network import Network
from shifting_learning.SL_Layer import SNNLayer

FLOAT = NDArray[np.floating]


def draw_curves(rows: Sequence[Mapping[str, float]], title: str) -> Figure:
    """Accuracy of the three splits, loss, and silent hidden neurons, over epochs."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.2), layout="constrained")
    epochs = [row["epoch"] for row in rows]
    for name in ("train", "validation", "test"):
        values = [100 * row[f"{name}_accuracy"] for row in rows if f"{name}_accuracy" in row]
        if values:
            left.plot(epochs, values, label=name)
    left.set(xlabel="epoch", ylabel="accuracy (%)", title=title)
    left.legend()
    left.grid(alpha=0.3)
    middle.plot(epochs, [row["loss"] for row in rows], color="C4")
    middle.set(xlabel="epoch", ylabel="mean over images of sum d²", title="loss", yscale="log")
    middle.grid(alpha=0.3)
    right.plot(epochs, [100 * row["silent_hidden"] for row in rows], color="C3")
    right.set(xlabel="epoch", ylabel="silent hidden neurons (%)", title="neurons without a spike")
    right.set_ylim(bottom=0)
    right.grid(alpha=0.3)
    return figure


def draw_confusion(labels: NDArray[np.int64], decisions: NDArray[np.int64], title: str) -> Figure:
    """Confusion matrix, in percent of the true class."""
    figure, axes = plt.subplots(figsize=(5, 4.4), layout="constrained")
    ConfusionMatrixDisplay.from_predictions(
        labels, decisions, normalize="true", values_format=".0%", cmap="Blues", colorbar=False,
        ax=axes, text_kw={"fontsize": 6},
    )  # fmt: skip
    axes.set_title(title)
    return figure


def draw_roc(labels: NDArray[np.int64], scores: FLOAT, title: str) -> Figure:
    """Receiver operating characteristic of each class against the others.

    Args:
        labels: right classes [n].
        scores: larger for the more likely class, [n, classes].
        title: of the figure.
    """
    figure, axes = plt.subplots(figsize=(5, 4), layout="constrained")
    for k in range(scores.shape[1]):
        false, true, _ = roc_curve(labels == k, scores[:, k])
        axes.plot(false, true, label=f"{k} (area {auc(false, true):.4f})", linewidth=1)
    axes.set(xlabel="false positive rate", ylabel="true positive rate", title=title)
    axes.set(xscale="log", xlim=(1e-4, 1))
    axes.legend(fontsize=7, title="class", title_fontsize=7, loc="lower right")
    axes.grid(alpha=0.3)
    return figure


def draw_layers_raster(codes: Sequence[FLOAT], names: Sequence[str], title: str) -> Figure:
    """Spikes of one trial through the layers, a panel a layer.

    Args:
        codes: spike codes z = exp(t) of each layer's neurons; silent neurons are left out.
        names: of the layers.
        title: of the figure.
    """
    figure, panels = plt.subplots(
        1, len(codes), figsize=(3.2 * len(codes), 3.2), layout="constrained", sharex=True
    )
    for axes, z, name in zip(panels, codes, names, strict=True):
        fired = z < SILENT / 2
        axes.scatter(np.log(z[fired]), np.flatnonzero(fired), s=14 if len(z) < 50 else 2)
        axes.set(xlabel="time (synaptic time constants)", ylabel=f"{name} neuron")
        axes.set_title(f"{fired.sum()} of {len(z)} spike")
        axes.set_ylim(-0.5, len(z) - 0.5)
    first = panels[-1]
    first.axvline(np.log(codes[-1].min()), color="C3", linewidth=1, label="first spike: decision")
    first.legend(fontsize=7)
    figure.suptitle(title)
    return figure


def membrane_potential(t: FLOAT, spike_times: FLOAT, timings: FLOAT) -> FLOAT:
    """Potential of a non-leaky neuron with exponentially decaying synaptic currents.

    V(t) = sum_i s_i (1 - exp(t_i - t)) over the inputs that have come; the threshold is 1. This is
    the equation behind the codes: V = 1 at exp(t) = sum s_i exp(t_i) / (sum s_i - 1).

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
    """Potentials of the output neurons before and after training, a column a trial.

    Dashed lines are the output spikes; where the passing times differ from 1 they lie beside the
    crossings of the threshold.

    Args:
        before: the last layer in the trials.
        after: the last layer in the same trials.
        trials: names of the trials.
        right: the neuron that should spike first in each.
    """
    figure, panels = plt.subplots(
        2, len(trials), figsize=(2.6 * len(trials), 4.6), layout="constrained", sharey=True
    )
    for row, view, when in zip(panels, (before, after), ("before", "after"), strict=True):
        for axes, arrivals, decided, name, wanted in zip(
            row, view.arrivals, view.decided, trials, right, strict=True
        ):
            spiked = np.exp(decided) < SILENT / 2
            end = (decided[spiked].max() if spiked.any() else arrivals.max()) + 0.3
            t = np.linspace(min(0.0, arrivals.min()), end, 400)
            for k in range(len(decided)):
                words = f"output {k}" + (" (right)" if k == wanted else "")
                axes.plot(t, membrane_potential(t, arrivals, view.timings[:, k]), label=words)
                if spiked[k]:
                    axes.axvline(decided[k], color=f"C{k}", linestyle="--", linewidth=1)
            axes.axhline(1, color="grey", linestyle=":", linewidth=1)
            axes.set(title=f"{name}, {when}", ylim=(-0.2, 1.6))
            axes.legend(fontsize=6, loc="upper left")
        row[0].set_ylabel("membrane potential")
    for axes in panels[-1]:
        axes.set_xlabel("time (synaptic time constants)")
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
    for shift, colour in zip((0.1, 0.5, 0.9, 1.3), ("C0", "C1", "C2", "C3"), strict=True):
        times = np.array([0.2, shift, 0.7, 1.2])
        spike = float(layer(torch.from_numpy(np.exp(times))[None]).log())
        potential = membrane_potential(t, times, timings)
        upper.plot(t[t <= spike], potential[t <= spike], color=colour, label=f"input at {shift}")
        upper.plot([spike, spike], [1, 1.25], color=colour)
        upper.plot(shift, -0.06, marker="|", markersize=10, color=colour, clip_on=False)
    upper.axhline(1, color="grey", linestyle=":", linewidth=1)
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
