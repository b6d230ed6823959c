"""Figure 2: spike times over trials, and the voltage in some of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

Arrays = Mapping[str, np.ndarray[Any, Any]]


def draw_learning(history: Arrays, targets: Sequence[float], T: float) -> Figure:
    """Spike times, number of ordinary spikes, learned inputs, and loss over trials."""
    figure, rows = plt.subplots(4, 1, figsize=(7, 8), sharex=True, layout="constrained")
    trials = np.arange(1, len(history["loss"]) + 1)
    times, count = history["times"], history["ordinary"]
    for k, target in enumerate(targets):
        is_ordinary = count > k
        spike = np.where(is_ordinary, times[:, k], np.nan)
        pseudo = np.where(is_ordinary, np.nan, times[:, k])
        rows[0].plot(trials, spike, color=f"C{k}", label=f"spike {k + 1}")
        rows[0].plot(trials, pseudo, ":", color=f"C{k}", label=f"pseudospike {k + 1}")
        rows[0].axhline(target, color=f"C{k}", linewidth=0.7, alpha=0.6)
    rows[0].axhline(T, color="grey", linestyle="--", linewidth=0.8)
    rows[0].set(ylabel="spike time")
    rows[0].legend(fontsize=7, ncols=2)
    rows[1].plot(trials, count, drawstyle="steps-post", color="black")
    rows[1].set(ylabel="ordinary spikes", yticks=range(int(count.max()) + 1))
    for i in range(history["learned"].shape[2]):
        rows[2].plot(
            trials, history["learned"][:, 0, i], color=f"C{i + 2}", label=f"weight {i + 1}"
        )
        rows[2].plot(
            trials, history["learned"][:, 1, i], "--", color=f"C{i + 2}", label=f"time {i + 1}"
        )
    rows[2].set(ylabel="learned inputs")
    rows[2].legend(fontsize=7, ncols=2)
    rows[3].plot(trials, history["loss"], color="black")
    rows[3].set(ylabel="loss", yscale="log", xlabel="trial")
    return figure


def draw_trials(shown: Sequence[tuple[str, Arrays]], targets: Sequence[float], T: float) -> Figure:
    """Voltage, spikes (with those after the trial), and inputs of some trials."""
    figure, rows = plt.subplots(
        len(shown), 1, figsize=(7, 1.7 * len(shown)), sharex=True, layout="constrained"
    )
    for axes, (words, trial) in zip(np.atleast_1d(rows), shown, strict=True):
        axes.plot(trial["time"], np.clip(trial["voltage"], -5, 5), color="black", linewidth=0.9)
        for time, weight in zip(trial["times_in"], trial["weights"], strict=True):
            axes.plot([time, time], [-6, -6 + weight], color="C0" if weight > 0 else "C3")
        for k, (time, target) in enumerate(zip(trial["spikes"], targets, strict=True)):
            axes.plot(time, 5.5, "v", color=f"C{k}", mfc=f"C{k}" if time <= T else "none")
            axes.axvline(target, color=f"C{k}", linewidth=0.7, alpha=0.6)
        axes.axvline(T, color="grey", linestyle="--", linewidth=0.8)
        axes.set(ylabel="V", ylim=(-8.5, 6.5), title=words)
        axes.title.set_fontsize(9)
    np.atleast_1d(rows)[-1].set_xlabel("time (10 ms)")
    return figure
