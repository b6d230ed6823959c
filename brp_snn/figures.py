"""Figures of BRP-SNN."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator


def draw_curves(rows: Sequence[Mapping[str, float]], title: str) -> Figure:
    """Loss, and accuracy where there is one, of all parts over epochs."""
    table = pd.DataFrame(rows).set_index("epoch")
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for part in ("train", "validation", "test"):
        for panel, score, factor in zip(axes, ("loss", "accuracy"), (1, 100), strict=True):
            if f"{part}_{score}" in table:
                panel.plot(factor * table[f"{part}_{score}"], label=part, marker=".", markersize=4)
    for panel, label in zip(axes, ("loss", "accuracy (%)"), strict=True):
        panel.set(xlabel="epoch", ylabel=label)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.grid(alpha=0.3)
        if panel.lines:
            panel.legend()
    figure.suptitle(title, fontsize=10)
    return figure


def draw_angles(rows: Sequence[Mapping[str, float]], title: str) -> Figure:
    """Angle of each layer's weight gradient to that of BP over epochs."""
    table = pd.DataFrame(rows).set_index("epoch")
    figure, axes = plt.subplots(figsize=(5, 3.4), layout="constrained")
    for name in [column for column in table if column.startswith("angle_")]:
        axes.plot(table[name], label=f"layer {name.removeprefix('angle_')}", marker=".")
    axes.axhline(90, color="black", linewidth=0.8, linestyle=":")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", ylabel="angle to BP's gradient (degrees)", title=title, ylim=(0, 180))
    axes.legend()
    axes.grid(alpha=0.3)
    return figure
