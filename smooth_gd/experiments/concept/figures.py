"""Figure 1: voltages of examples, and the first spike over a weight or a time."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

LABELS = {"weight": "excitatory weight / least weight", "time": "time of the inhibitory input"}


class Sweep(NamedTuple):
    """The swept values, times of the first spike (inf without one), and their slopes."""

    grid: np.ndarray[Any, Any]
    spikes: np.ndarray[Any, Any]
    slopes: np.ndarray[Any, Any]


def draw_concept(
    sweeps: Mapping[tuple[str, str], Sweep],
    examples: Mapping[tuple[str, str], Sequence[tuple[float, Any, Any]]],
    ends: Mapping[str, float],
) -> Figure:
    """A column a neuron model and swept quantity: voltages, first spike, slope.

    Args:
        sweeps: by neuron model and swept quantity.
        examples: swept value, times and voltages, by the same.
        ends: length of a trial of each neuron model.
    """
    figure, rows = plt.subplots(3, len(sweeps), figsize=(13, 7.5), layout="constrained")
    for column, (key, swept) in enumerate(sweeps.items()):
        name, what = key
        voltages, spikes, slopes = rows[:, column]
        for i, (value, time, voltage) in enumerate(examples[key]):
            words = f"{value:g} of the least" if what == "weight" else f"at {value:g}"
            voltages.plot(time, np.clip(voltage, -4, 5), color=f"C{i}", label=words)
            spikes.axvline(value, color=f"C{i}", linewidth=0.8)
        voltages.set(xlabel="time", ylabel="V", title=f"{name} neuron, {what} varied")
        voltages.legend(fontsize=7)
        spikes.plot(swept.grid, swept.spikes, color="black")
        spikes.axhline(ends[name], color="grey", linestyle="--", linewidth=0.8)
        spikes.set(xlabel=LABELS[what], ylabel="first spike", ylim=(0, 1.1 * ends[name]))
        for axes in (spikes, slopes):
            axes.set_xlim(swept.grid[0], swept.grid[-1])
        slopes.plot(swept.grid, swept.slopes, color="black")
        slopes.set(xlabel=LABELS[what], ylabel="its slope")
        slopes.set_yscale("symlog", linthresh=1)
    return figure
