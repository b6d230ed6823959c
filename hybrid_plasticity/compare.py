"""Figures that compare the rules, from the results of runs.

    python hybrid_plasticity/compare.py hp_simple              the simple example's three rules
    python hybrid_plasticity/compare.py hp_tolerance_mnist     tolerance curves of HP and GP
    python hybrid_plasticity/compare.py hp_fewshot             learning curves of HP and GP
    python hybrid_plasticity/compare.py hp_multitask           figure 5: accuracy over tasks seen

Reads <experiment>_<rule>[_<variant>]/seed*/ below the results. A curve is the mean over the seeds
found.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import matplotlib.pyplot as plt
import pandas as pd
import tyro
from matplotlib.figure import Figure

from hybrid_plasticity.distortions import KINDS
from hybrid_plasticity.figures import (
    NAMES,
    STRENGTHS,
    followed_in,
    level_curves,
    levels_of,
    plot_spikes,
)
from hybrid_plasticity.multitask_learning.figures import METHODS
from shared.errors import UserError
from shared.experiment import parse
from shared.figures import (
    Curve,
    Panel,
    draw_curves,
    draw_panels,
    legend_of_all,
    plot_curves,
    save_figure,
)
from shared.options import script
from shared.report import load_results
from shared.run import RUNS

TITLES = {
    "hp_simple": "Fashion-MNIST, 784-512-10",
    "hp_tolerance_fashion_mnist": "Fault tolerance, Fashion-MNIST",
    "hp_tolerance_mnist": "Fault tolerance, MNIST",
    "hp_fewshot": "Omniglot, 5-way 1-shot",
    "hp_multitask": "Pixel-shuffled MNIST tasks",
}
"""What stands above the figures."""

# What these experiments call an epoch.
UNITS = {"hp_fewshot": "thousand iterations", "hp_multitask": "tasks seen"}
WORDS = {**METHODS, "lp": "LP"}  # endings of experiments' names, and the words for them


@dataclass(frozen=True)
class Options:
    """The command line."""

    experiment: Annotated[str, tyro.conf.Positional] = "hp_simple"
    """Name of the runs without their rule."""
    variant: str = ""
    """Ending of the runs' names, such as quick."""
    results: Path = RUNS
    """Folder of the runs."""
    out: Path | None = None
    """Folder of the figures; without it <results>/figures."""
    pdf: bool = False
    """Draw them as PDF, too."""


def runs_of(results: pd.DataFrame, experiment: str) -> pd.DataFrame:
    """The runs of an experiment with the most epochs: a shorter trial run does not mix in."""
    runs = results[results["experiment"] == experiment]
    return runs[runs["epochs"] == runs["epochs"].max()]


def tables_of(results: pd.DataFrame, experiment: str) -> list[pd.DataFrame]:
    """Metrics of each run of an experiment, indexed by epoch."""
    folders = runs_of(results, experiment)["folder"]
    return [
        pd.read_json(folder / "metrics.jsonl", lines=True).set_index("epoch") for folder in folders
    ]


def draw_training(results: pd.DataFrame, title: str, names: Mapping[str, str]) -> Figure:
    """Test accuracy over epochs, and spikes per hidden neuron against it.

    Where the runs followed a distortion, its accuracy is drawn, too.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
    curves = []
    for rule, name in names.items():
        tables, word = tables_of(results, name), WORDS[rule]
        columns = {"test_accuracy": word}
        for column, words in followed_in(list(tables[0])).items():
            columns[column] = f"{word}, {words}"
        for column, label in columns.items():
            curves.append(Curve(label, [100 * table[column] for table in tables], word))
        for table in tables:
            plot_spikes(right, table, word)
    plot_curves(left, curves, "test accuracy (%)")
    right.set(title="a dot per epoch, rings the last")
    right.title.set_fontsize(9)
    legend_of_all(figure)
    figure.suptitle(title, fontsize=10)
    return figure


def draw_progress(results: pd.DataFrame, title: str, names: Mapping[str, str], unit: str) -> Figure:
    """Test accuracy over epochs or tasks, a curve per method."""
    curves = [
        Curve(WORDS[method], [100 * table["test_accuracy"] for table in tables_of(results, name)])
        for method, name in names.items()
    ]
    return draw_curves(curves, "test accuracy (%)", title, unit)


def draw_tolerance(results: pd.DataFrame, title: str, names: Mapping[str, str]) -> Figure:
    """Accuracy against the strength of every distortion tested."""
    metrics = {rule: list(runs_of(results, name)["metrics"]) for rule, name in names.items()}
    first = next(iter(metrics.values()))[0]
    panels = [
        Panel(
            NAMES[kind],
            STRENGTHS[kind][0],
            [curve for rule, runs in metrics.items() for curve in level_curves(runs, kind, rule)],
        )
        for kind in KINDS
        if len(levels_of(first, kind))
    ]
    return draw_panels(panels, "test accuracy (%)", title)


def main() -> None:
    """Draw the comparison of one experiment."""
    options = parse(Options, __doc__)
    results = load_results(options.results)
    there = set(results["experiment"])
    ending = f"_{options.variant}" if options.variant else ""
    names = {method: f"{options.experiment}_{method}{ending}" for method in WORDS}
    names = {rule: name for rule, name in names.items() if name in there}
    if not names:
        raise UserError(
            f"{options.results} has no runs called {options.experiment}_hp{ending} or the like: "
            "run them first, or name another folder with --results"
        )
    out = options.out or options.results / "figures"
    compared = options.experiment + ending
    title = TITLES.get(options.experiment, options.experiment)
    if options.experiment in UNITS:
        figures = {compared: draw_progress(results, title, names, UNITS[options.experiment])}
    else:
        figures = {
            f"{compared}_training": draw_training(results, title, names),
            f"{compared}_levels": draw_tolerance(results, title, names),
        }
    for name, figure in figures.items():
        save_figure(figure, out / name, pdf=options.pdf)
    print(f"{compared}: {', '.join(names)} compared in {out}")


if __name__ == "__main__":
    script(main)
