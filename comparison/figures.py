"""Figures of the comparison: what accuracy costs, and what it withstands."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from comparison import registry
from comparison.measures import DISTORTIONS, SHARES, WEIGHT_NOISE
from comparison.tables import Kind, rules_of, spread
from shared.figures import (
    Curve,
    Panel,
    draw_curves,
    draw_panels,
    legend_beside,
    save_figure,
    styles_of,
)
from shared.report import read_metrics

SETS = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST"}
STRENGTHS = {
    "gaussian": "standard deviation",
    "salt_pepper": "share of pixels",
    "occlusion": "side of the square",
    "weight_noise": "standard deviation / r.m.s.",
}
TITLES = {
    "gaussian": "Gaussian noise",
    "salt_pepper": "salt and pepper",
    "occlusion": "occlusion",
    "weight_noise": "noise on weights",
}
FEWEST_RULES = 2  # that are drawn beside each other
LEVELS = {kind: levels for kind, (_, levels) in DISTORTIONS.items()} | {
    "weight_noise": WEIGHT_NOISE
}


def levels_of(row: pd.Series, kind: str) -> pd.Series:
    """Accuracy in percent of one run against the strength of a distortion."""
    found = {0.0: row["test_accuracy_undistorted"]}
    found |= {level: row[f"test_accuracy_{kind}_{level}"] for level in LEVELS[kind]}
    return 100 * pd.Series(found, dtype=float)


def heads_of(runs: pd.DataFrame) -> list[str]:
    """Rules of runs that stand for their family; all of them where none does."""
    names = rules_of(runs)
    return [name for name in names if name in registry.heads()] or names


def draw_robustness(runs: pd.DataFrame, title: str) -> Figure:
    """Accuracy against the strength of each distortion, a curve per family's first rule."""

    def curves(kind: str) -> list[Curve]:
        return [
            Curve(
                registry.rule_of(name).title,
                [levels_of(row, kind) for _, row in runs[runs["rule"] == name].iterrows()],
            )
            for name in heads_of(runs)
        ]

    panels = [Panel(TITLES[kind], STRENGTHS[kind], curves(kind)) for kind in STRENGTHS]
    return draw_panels(panels, "test accuracy (%)", title)


def draw_early(runs: pd.DataFrame, title: str) -> Figure | None:
    """Accuracy against the share of the trial at its decision, a curve per family's first rule.

    None where no trial takes time.
    """

    def of(row: pd.Series) -> pd.Series:
        found = {100 * x: row[f"test_accuracy_after_{100 * x:.0f}"] for x in SHARES}
        return 100 * pd.Series(found | {100.0: row["test_accuracy_last"]}, dtype=float)

    curves = [
        Curve(
            registry.rule_of(name).title,
            [of(row) for _, row in runs[runs["rule"] == name].iterrows()],
        )
        for name in heads_of(runs)
        if registry.rule_of(name).timed
    ]
    if not curves:
        return None
    return draw_curves(curves, "test accuracy (%)", title, "share of the trial (%)")


def draw_angles(runs: pd.DataFrame, title: str) -> Figure | None:
    """Angle of the hidden update to the gradient over epochs; None where no rule has one."""
    curves = []
    for name in rules_of(runs):
        tables = [read_metrics(folder) for folder in runs[runs["rule"] == name]["folder"]]
        if all("angle" in table for table in tables):
            angles = [table["angle"].dropna() for table in tables]
            curves.append(Curve(registry.rule_of(name).title, angles))
    return draw_curves(curves, "angle to the gradient (°)", title) if curves else None


class Cost(NamedTuple):
    """What a rule takes.

    Attributes:
        value: the mean, or the median.
        low: where its interval begins; the value where there is none.
        high: where it ends.
    """

    value: float
    low: float
    high: float

    @property
    def bars(self) -> list[list[float]] | None:
        """Both parts of the error bar, as matplotlib takes them."""
        if self.low == self.high:
            return None
        return [[self.value - self.low], [self.high - self.value]]


def draw_against(runs: pd.DataFrame, cost: Mapping[str, Cost], label: str, title: str) -> Figure:
    """Test accuracy against a cost, a point per rule with its intervals.

    Args:
        runs: of one kind.
        cost: of each rule.
        label: of the cost, with its unit; its axis is logarithmic.
        title: of the figure.
    """
    figure, axes = plt.subplots(figsize=(6.4, 4.4), layout="constrained")
    names = [name for name in rules_of(runs) if name in cost]
    titles = [registry.rule_of(name).title for name in names]
    for name, title_of, (style, _) in zip(names, titles, styles_of(titles), strict=True):
        own = 100 * runs[runs["rule"] == name]["test_accuracy_last"].astype(float)
        y, y_half = spread(own.tolist())
        x, color = cost[name].value, style.color
        half = y_half or 0.0
        ends = [[min(half, y)], [min(half, 100 - y)]]  # no interval leaves what can be
        axes.errorbar(x, y, yerr=ends, xerr=cost[name].bars, fmt="none", ecolor=color, capsize=2)
        # Apart from its bars, which would hide the marker in the legend.
        axes.plot(x, y, style.marker, color=color, label=title_of, markersize=6)
    axes.set(xscale="log", xlabel=label, ylabel="test accuracy (%)", title=title)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.title.set_fontsize(10)
    axes.grid(alpha=0.3)
    legend_beside(axes)
    return figure


def energies(runs: pd.DataFrame) -> dict[str, Cost]:
    """Energy of an answer in microjoule, by rule."""
    found = {}
    for name in rules_of(runs):
        mean, half = spread(runs[runs["rule"] == name]["energy_uj"].astype(float).tolist())
        found[name] = Cost(mean, mean - (half or 0.0), mean + (half or 0.0))
    return found


def draw_all(
    runs: pd.DataFrame, kind: Kind, seconds: Mapping[str, Cost], folder: Path, name: str
) -> dict[str, str]:
    """Draw what the runs of a kind show.

    Args:
        runs: of all kinds.
        kind: which are drawn.
        seconds: of a whole training, by rule; empty where nothing was timed.
        folder: where figures go.
        name: how their names begin.

    Returns:
        File names by the words for them.
    """
    own = kind.of(runs)
    if len(rules_of(own)) < FEWEST_RULES:
        return {}
    words = SETS.get(kind.dataset, kind.dataset)
    title = f"{words}, {kind.edition} settings, {own['epochs'].iloc[0]} epochs"
    made: dict[str, Figure | None] = {
        "accuracy against energy": draw_against(
            own, energies(own), "energy of an answer at 45 nm (µJ)", title
        ),
        "robustness": draw_robustness(own, title),
        "early decisions": draw_early(own, title),
        "angles": draw_angles(own, title),
    }
    if seconds:
        made["accuracy against training cost"] = draw_against(
            own, seconds, "time of training on one core (s), fastest to slowest turn", title
        )
    found = {}
    for words, figure in made.items():
        if figure is not None:
            file = f"{name}_{words.replace(' ', '-')}"
            found[words] = save_figure(figure, folder / file).name
    return found
