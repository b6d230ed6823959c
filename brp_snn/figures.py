"""The figures of BRP-SNN's own: angles between gradients."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from shared.figures import legend_beside, plot_columns

RIGHT_ANGLE = 90  # degrees: a gradient that has nothing in common with BP's


def draw_angles(rows: Sequence[Mapping[str, float]], title: str) -> Figure:
    """Angle of each layer's weight gradient to that of BP, over epochs.

    Args:
        rows: the run's metrics with angle_1 and so on, in degrees, a mapping per epoch.
        title: of the figure.
    """
    names = [name for name in rows[0] if name.startswith("angle_")]
    columns = {name: f"layer {name.removeprefix('angle_')}" for name in names}
    figure, axes = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
    plot_columns(axes, rows, columns, "angle to BP's gradient (degrees)")
    # One epoch makes no line: its angles then lie along the other axis.
    mark = axes.axvline if len(rows) == 1 else axes.axhline
    mark(RIGHT_ANGLE, color="black", linewidth=0.8, linestyle=":", label="unrelated")
    legend_beside(axes)
    axes.set_title(title, fontsize=10)
    return figure
