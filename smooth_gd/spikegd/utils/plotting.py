"""What the figures share: sizes, labels, ticks, colors."""

from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator
from matplotlib.transforms import ScaledTranslation

STYLE = "smooth_gd.spikegd.utils.plotstyle"
"""To be in force while a figure is drawn and while it is saved."""
PER_INCH = 2.54  # cm

Color = tuple[float, float, float, float]
Colormap = Callable[[float], Any]

formatter = FuncFormatter(lambda value, _: f"{value:g}")
"""Ticks of logarithmic axes in plain numbers."""
loc_major = LogLocator(base=10.0, subs=(0.1, 1.0), numticks=12)
loc_min = LogLocator(base=10.0, subs=tuple(np.arange(1, 10) / 10), numticks=12)

cmap_grays = plt.get_cmap("gray_r")
cmap_blues = plt.get_cmap("Blues")
cmap_oranges = plt.get_cmap("Oranges")
cmap_purples = plt.get_cmap("Purples")

petroff10 = [
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
]
"""Ten colors told apart with color blindness too (https://arxiv.org/abs/2107.02270)."""


def cm2inch(x: float, y: float) -> tuple[float, float]:
    """A width and a height in cm, in inches."""
    return x / PER_INCH, y / PER_INCH


def panel_label(fig: Figure, ax: Axes, label: str, x: float = 0.0, y: float = 0.0) -> None:
    """Write a panel's label at its upper left corner, moved by x and y inches."""
    moved = ax.transAxes + ScaledTranslation(x, y, fig.dpi_scale_trans)
    ax.text(0.0, 1.0, label, transform=moved, fontsize="large")


def idx_to_color(cmap: Colormap, i: int, n: int, denom: float = 0.5) -> Color:
    """The color of curve i of n, the darker the later; denom keeps off the darkest."""
    color: Color = cmap((i + 1) / (n + denom))
    return color


def shade_behind(ax: Axes, T: float, width: float) -> None:
    """Shade the times after the trial's end T, where spikes are pseudospikes."""
    ax.add_patch(Rectangle((0, T), width, 10 * T, color="black", alpha=0.2, zorder=10))


def only_time(ax: Axes, T: float, words: str) -> None:
    """Axes with a time axis from 0 to T and nothing else."""
    ax.set(xlim=(0, T), xticks=[0, T], yticks=[])
    ax.set_xlabel(words, labelpad=-5)
    ax.spines["left"].set_visible(False)


def arc_length(times: np.ndarray[Any, Any], smoothing: int = 1) -> np.ndarray[Any, Any]:
    """The way that spike times [trials, spikes] have gone, summed over spikes.

    Args:
        times: over trials.
        smoothing: trials of a running mean that the way is measured on; the ends that it does not
            cover are left out.
    """
    window = np.ones(smoothing) / smoothing
    smooth = np.stack([np.convolve(one, window, mode="valid") for one in times.T], axis=1)
    steps: np.ndarray[Any, Any] = np.abs(np.diff(smooth, axis=0, prepend=smooth[:1])).sum(axis=1)
    return np.cumsum(steps)
