"""What every paper draws: curves over epochs, accuracy against levels, confusion matrices.

A rule has one color and one marker in the whole project (`RULES`); variants of one rule differ by
their line. Colors are seaborn's "colorblind" palette. Functions called `draw_` make a figure, those
called `plot_` fill axes; figures are to be made with `layout="constrained"`, which leaves room for
a legend beside the axes.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Int
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

BLACK, GRAY = "#000000", "#949494"
BLUE, SKY, GREEN = "#0173b2", "#56b4e9", "#029e73"
ORANGE, VERMILLION, BROWN, PURPLE = "#de8f05", "#d55e00", "#ca9161", "#cc78bc"


class Style(NamedTuple):
    """How a rule is drawn.

    Attributes:
        color: as matplotlib has it.
        marker: of its points.
    """

    color: str
    marker: str


RULES: dict[str, Style] = {
    # Baselines, and what projects errors or reward to hidden layers.
    "BP": Style(BLACK, "o"),
    "exact": Style(BLACK, "s"),
    "FA": Style(SKY, "s"),
    "DFA": Style(BLUE, "^"),
    "sDFA": Style(PURPLE, "v"),
    "DRTP": Style(GREEN, "D"),
    "BRP": Style(VERMILLION, "o"),
    "shallow": Style(GRAY, "X"),
    # Spike times that shift.
    "shifting": Style(BLUE, "o"),
    # Plasticity: hybrid, global, local; and what is learned task after task.
    "HP": Style(ORANGE, "o"),
    "GP": Style(BLUE, "s"),
    "LP": Style(GREEN, "^"),
    "HP without replay": Style(BROWN, "v"),
    "EWC with masks": Style(PURPLE, "s"),
    "EWC": Style(SKY, "D"),
    "fine-tuning": Style(GRAY, "o"),
    # Synapses and thresholds.
    "STL": Style(GREEN, "o"),
    "SL": Style(BLUE, "D"),
    "TL": Style(ORANGE, "s"),
    "TL and norm": Style(BROWN, "^"),
    # Smooth spike times.
    "smooth": Style(PURPLE, "o"),
    "pseudospikes": Style(PURPLE, "D"),
    "ordinary spikes": Style(SKY, "o"),
    "QIF": Style(BLUE, "v"),
    "LIF": Style(VERMILLION, "s"),
    # What one would take instead.
    "snnTorch": Style(BROWN, ">"),
    "ReLU": Style(GRAY, "<"),
    # Parts of a data set, which a run of one rule is drawn by.
    "train": Style(GRAY, "^"),
    "validation": Style(ORANGE, "v"),
    "test": Style(BLUE, "P"),
}
"""Color and marker of every rule; no two are drawn alike."""

COLORS = (BLUE, ORANGE, GREEN, VERMILLION, PURPLE, BROWN, SKY, GRAY, BLACK)
"""Colors of what is no rule, in this order; as many things as there are colors differ by color."""

MARKERS = ("o", "s", "^", "D", "v", "X", "P", "<", ">")
LINES = ("-", "--", ":", "-.")
FEWEST_FOR_AN_INTERVAL = (
    3  # that of two seeds is 12.7 standard errors to each side: it says nothing
)
MARKED = 12  # markers that a line has at most


@dataclass(frozen=True)
class Curve:
    """What a line of a figure shows.

    Attributes:
        label: in words.
        runs: a series per seed, in the unit of the axis, indexed by epoch or level; NaN where
            nothing was measured.
        rule: name in `RULES` that gives color and marker; empty, it is what the label says before
            its first comma ("BRP, 30 steps"), which gets a color of its own where it is no rule.
        line: style of the line; empty, the first curve of a rule is solid, and others of it differ.
    """

    label: str
    runs: Sequence[pd.Series]
    rule: str = ""
    line: str = ""

    @property
    def table(self) -> pd.DataFrame:
        """What was measured, a column per seed; epochs that a seed lacks are left out."""
        return pd.concat([run.dropna() for run in self.runs], axis=1, join="inner").sort_index()


class Panel(NamedTuple):
    """Axes of a figure of several.

    Attributes:
        title: of the axes.
        over: label of the x axis, with its unit.
        curves: what is drawn.
    """

    title: str
    over: str
    curves: Sequence[Curve]


def counted(n: int, what: str) -> str:
    """A number and what it is of: "1 epoch", "3 epochs"."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def count_of_seeds(n: int) -> str:
    """The number of seeds in words, "1 seed" or "3 seeds"."""
    return counted(n, "seed")


def styles_of(names: Iterable[str]) -> list[tuple[Style, str]]:
    """Style and line of things that are drawn beside each other.

    A name in `RULES` has that style, and again and again other lines. Another name gets a color
    that nothing beside it has, while there are any.
    """
    names, seen = list(names), dict[str, int]()
    taken = {RULES[name].color for name in names if name in RULES}
    free = itertools.cycle([color for color in COLORS if color not in taken] or COLORS)
    others: dict[str, Style] = {}
    found = []
    for name in names:
        if name not in RULES and name not in others:
            others[name] = Style(next(free), MARKERS[len(others) % len(MARKERS)])
        line = LINES[seen.get(name, 0) % len(LINES)]
        seen[name] = seen.get(name, 0) + 1
        found.append((RULES[name] if name in RULES else others[name], line))
    return found


def interval(table: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Ends of the 95 % interval of the mean over columns, by Student's t, for each row.

    Args:
        table: a column per seed, two at least.
    """
    from scipy.stats import t as student  # here, since it takes a second of every start

    n = table.shape[1]
    mean = table.mean(axis=1)
    reach = student.ppf(0.975, n - 1) * table.std(axis=1) / np.sqrt(n)
    return mean - reach, mean + reach


def integer_ticks(axis: Axis) -> None:
    """Ticks at whole numbers only: nothing happens at epoch 1.2."""
    axis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))


def legend_beside(axes: Axes, title: str | None = None) -> None:
    """A legend to the right of the axes, where it hides no data; none where nothing is named."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(
            title=title, loc="upper left", bbox_to_anchor=(1.02, 1), borderaxespad=0, fontsize=8,
            title_fontsize=8,
        )  # fmt: skip


def legend_of_all(figure: Figure, title: str | None = None) -> None:
    """One legend to the right of all axes of a figure, each label once."""
    named = {
        label: handle
        for axes in figure.axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if named:
        figure.legend(
            named.values(), named.keys(), title=title, loc="outside right center", fontsize=8,
            title_fontsize=8, handlelength=3,
        )  # fmt: skip


def plot_curves(
    axes: Axes,
    curves: Sequence[Curve],
    label: str,
    over: str = "epoch",
    *,
    counts_seeds: bool = True,
) -> None:
    """Lines of the mean over seeds, the 95 % interval from three seeds on, and thin single seeds.

    Curves that all have one epoch are points instead, a row per curve with its label.

    Args:
        axes: what is filled; it gets no legend.
        curves: what is drawn.
        label: of the values, with their unit.
        over: label of what they are over, with its unit; whole numbers get whole ticks.
        counts_seeds: whether labels say how many seeds a curve has.
    """
    words = [
        f"{curve.label} ({count_of_seeds(len(curve.runs))})" if counts_seeds else curve.label
        for curve in curves
    ]
    tables = [curve.table for curve in curves]
    styles = styles_of(curve.rule or curve.label.split(",")[0] for curve in curves)
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    if tables and all(len(table) <= 1 for table in tables):
        _plot_points(axes, words, tables, [style for style, _ in styles])
        axes.set_xlabel(label)
        return
    bounds = _bounds(tables, label)
    for curve, table, word, (style, line) in zip(curves, tables, words, styles, strict=True):
        _plot_line(axes, table, word, style, curve.line or line, bounds)
    _widen(axes)
    axes.set(xlabel=over, ylabel=label)
    if all(pd.api.types.is_integer_dtype(table.index) for table in tables):
        integer_ticks(axes.xaxis)


def _widen(axes: Axes) -> None:
    """Values that differ by rounding alone look equal."""
    low, high = axes.dataLim.intervaly
    if high - low < 1e-6 * max(abs(low), abs(high)):
        axes.set_ylim(*sorted((0.9 * low, 1.1 * high)))


def _bounds(tables: Sequence[pd.DataFrame], label: str) -> tuple[float, float]:
    """What values cannot pass: 0 where none is below it, and 100 where they are percent."""
    is_negative = any((table < 0).any(axis=None) for table in tables)
    return (-np.inf if is_negative else 0.0), (100.0 if "(%)" in label else np.inf)


def _plot_line(
    axes: Axes,
    table: pd.DataFrame,
    label: str,
    style: Style,
    line: str,
    bounds: tuple[float, float],
) -> None:
    """Mean, interval within bounds, and seeds of one curve."""
    if table.shape[1] > 1:
        axes.plot(table, color=style.color, alpha=0.35, linewidth=0.7, linestyle=line)
    if table.shape[1] >= FEWEST_FOR_AN_INTERVAL:
        low, high = (end.clip(*bounds) for end in interval(table))
        axes.fill_between(table.index, low, high, color=style.color, alpha=0.15, linewidth=0)
    axes.plot(
        table.mean(axis=1), color=style.color, linestyle=line, label=label, marker=style.marker,
        markersize=4, markevery=max(1, -(-len(table) // MARKED)),
    )  # fmt: skip


def _plot_points(
    axes: Axes, labels: Sequence[str], tables: Sequence[pd.DataFrame], styles: Sequence[Style]
) -> None:
    """A row per curve of one epoch: the mean in figures, its 95 % interval, and seeds as rings."""
    for place, (table, style) in enumerate(zip(tables, styles, strict=True)):
        values = table.to_numpy().ravel()
        if len(values) > 1:
            below = np.full(len(values), place + 0.22)
            axes.scatter(values, below, s=14, facecolors="none", edgecolors=style.color)
        if len(values) >= FEWEST_FOR_AN_INTERVAL:
            low, high = (float(end.iloc[0]) for end in interval(table))
            axes.plot([low, high], [place, place], color=style.color, linewidth=1.5)
        if len(values):
            mean = values.mean()
            axes.plot(mean, place, color=style.color, marker=style.marker, markersize=6)
            axes.annotate(
                f"{mean:.4g}", (mean, place), (0, 6), textcoords="offset points", ha="center",
                fontsize=8,
            )  # fmt: skip
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.6)  # the first on top


def draw_curves(
    curves: Sequence[Curve], label: str, title: str | None = None, over: str = "epoch"
) -> Figure:
    """A figure of `plot_curves`, with its legend beside it."""
    figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    plot_curves(axes, curves, label, over)
    legend_beside(axes)
    if title:
        axes.set_title(title, fontsize=10)
    return figure


def draw_panels(panels: Sequence[Panel], label: str, title: str | None = None) -> Figure:
    """Axes beside each other with one range of values and one legend: accuracy against levels.

    Args:
        panels: at least one; up to four share a row.
        label: of the values, with their unit.
        title: of the figure.
    """
    n_rows = -(-len(panels) // 4)
    n_columns = -(-len(panels) // n_rows)
    figure, grid = plt.subplots(
        n_rows, n_columns, figsize=(max(2.9 * n_columns, 4.2) + 1.6, 2.9 * n_rows), sharey=True,
        squeeze=False, layout="constrained",
    )  # fmt: skip
    for axes, panel in zip(grid.flat, panels, strict=False):
        plot_curves(axes, panel.curves, label, panel.over)
        axes.set_title(panel.title, fontsize=10)
        axes.label_outer(remove_inner_ticks=False) if n_rows == 1 else axes.set_ylabel("")
    for row in grid:
        row[0].set_ylabel(label)
    for axes in grid.flat[len(panels) :]:
        axes.axis("off")
    legend_of_all(figure)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def parts_of(score: str) -> dict[str, str]:
    """Columns of a score of the training, validation and test set, and the words for them."""
    return {f"{part}_{score}": part for part in ("train", "validation", "test")}


def plot_columns(
    axes: Axes,
    rows: Sequence[Mapping[str, float]],
    columns: Mapping[str, str],
    label: str,
    *,
    factor: float = 1,
    x: str = "epoch",
    over: str | None = None,
) -> None:
    """Columns of one run's metrics, a line each.

    Args:
        axes: what is filled; it gets no legend.
        rows: the run's metrics, a mapping per epoch.
        columns: what is drawn, and the words for it; those without a number are left out.
        label: of the values, with their unit.
        factor: of the values.
        x: column of the x axis.
        over: its label; None is its name.
    """
    table = pd.DataFrame(rows).set_index(x).dropna(axis=1, how="all")
    curves = [Curve(words, [factor * table[c]]) for c, words in columns.items() if c in table]
    plot_curves(axes, curves, label, over or x, counts_seeds=False)


def draw_run(rows: Sequence[Mapping[str, float]], title: str, loss: str = "loss") -> Figure:
    """Loss and accuracy of all parts of the data over epochs of one run; accuracy where it is.

    Args:
        rows: the run's metrics with train_loss, test_accuracy and so on, a mapping per epoch.
        title: of the figure.
        loss: label of the loss.
    """
    panels = [("loss", loss, 1.0), ("accuracy", "accuracy (%)", 100.0)]
    there = [panel for panel in panels if any(name in rows[0] for name in parts_of(panel[0]))]
    figure, grid = plt.subplots(
        1, len(there), figsize=(4.4 * len(there) + 1, 3.2), squeeze=False, layout="constrained"
    )
    for axes, (score, label, factor) in zip(grid[0], there, strict=True):
        plot_columns(axes, rows, parts_of(score), label, factor=factor)
    legend_of_all(figure)
    figure.suptitle(title, fontsize=10)
    return figure


def draw_confusion(
    labels: Int[np.ndarray, " n"],
    decisions: Int[np.ndarray, " n"],
    title: str,
    classes: Sequence[str] | None = None,
) -> Figure:
    """Confusion matrix in percent of the true class; what never happens is left empty.

    Args:
        labels: true classes.
        decisions: those that a network gave.
        title: of the figure.
        classes: names of the classes 0, 1, ...; None numbers those that occur.
    """
    from sklearn.metrics import confusion_matrix  # likewise

    there = np.arange(len(classes)) if classes else np.union1d(labels, decisions)
    matrix = 100 * confusion_matrix(labels, decisions, labels=there, normalize="true")
    n = len(matrix)
    figure, axes = plt.subplots(figsize=(5.6, 4.6), layout="constrained")
    image = axes.imshow(matrix, cmap="Blues", vmin=0, vmax=100)
    figure.colorbar(image, label="share of the true class (%)")
    for row, column in np.argwhere(matrix > 0) if n <= 20 else ():
        value = matrix[row, column]
        color = "white" if value > 50 else "black"
        axes.text(
            column, row, f"{value:.1f}", ha="center", va="center", fontsize=min(8, 80 / n),
            color=color,
        )  # fmt: skip
    if n <= 20:
        names = classes or [str(k) for k in there]
        axes.set_xticks(range(n), names, rotation=45 if classes else 0)
        axes.set_yticks(range(n), names)
    axes.set(xlabel="decided class", ylabel="true class", title=title)
    axes.title.set_fontsize(10)
    return figure


def save_figure(figure: Figure, path: Path, *, pdf: bool = False) -> Path:
    """Write a figure as <path>.png, and as <path>.pdf on demand, without dates, and close it.

    Returns:
        The PNG.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    png = path.with_name(path.name + ".png")
    figure.savefig(png, dpi=150, bbox_inches="tight")
    if pdf:
        figure.savefig(
            path.with_name(path.name + ".pdf"), bbox_inches="tight", metadata={"CreationDate": None}
        )
    plt.close(figure)
    return png
