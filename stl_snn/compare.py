"""Figures that compare what learns (STL, SL, TL), from the results of runs.

    python stl_snn/compare.py                                             of MNIST, in runs/
    python stl_snn/compare.py -data nmnist --width 0.0625 --results results

Takes the options of `train.py` and looks for <results>/<name of such a run>/seed*/ of everything
that can learn. Only runs of one length are compared: that which most of what can learn has, and the
longest of those. A number is the mean over their seeds. Figures: in <results>/figures, by the name
of the run of STL: the accuracy over epochs, and with _noise and _rates behind the name accuracy
under noise, firing rates and energy.
"""

import argparse
import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from shared.errors import UserError
from shared.figures import save_figure
from shared.options import script
from shared.report import Comparison, draw_comparison, load_results
from stl_snn.data import LEVELS, NOISE
from stl_snn.train import completed, make_parser, name_of

MODES: dict[str, dict[str, Any]] = {
    "stl": {"learning": "stl"},
    "sl": {"learning": "sl"},
    "tl": {"learning": "tl", "train_norm": False},
    "tl, norm": {"learning": "tl", "train_norm": True},
}
"""What learns, and the options for it; "norm": batch normalisation too."""

NOISE_LABELS = {"gaussian": "variance (0.01)", "s&p": "share of white and black pixels (0.02)"}


def names_of(args: argparse.Namespace) -> dict[str, str]:
    """Names of the runs by mode.

    Args:
        args: options as read; what learns is the mode's.

    Raises:
        UserError: the options cannot be, or say what learns.
    """
    if args.learning or args.thresholds:
        raise UserError("--learning, -tl and --no-tl say what learns, and all of it is compared: "
                        "leave them out")  # fmt: skip
    names = {}
    for mode, options in MODES.items():
        own = copy.copy(args)
        vars(own).update(options)
        names[mode] = name_of(completed(own))
    return names


def of_one_set(results: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    """Runs of these names on one data set: a stand-in's runs have the same names as the set's."""
    runs = results[results["experiment"].isin([*names.values()])]
    # The set itself sorts before what stands in for it: mnist, mnist5k; nmnist, nmnist_small.
    return runs[runs["dataset"] == runs["dataset"].min()]


def of_one_length(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs of as many epochs as most experiments have runs of; of equals the longest."""
    experiments = runs.groupby("epochs")["experiment"].nunique()
    return runs[runs["epochs"] == experiments[experiments == experiments.max()].index.max()]


def runs_of(results: pd.DataFrame, names: Mapping[str, str]) -> dict[str, pd.DataFrame]:
    """Metrics by mode, a row a seed."""
    found = {}
    for mode, name in names.items():
        runs = results[results["experiment"] == name]
        if len(runs):
            found[mode] = pd.DataFrame(list(runs["metrics"]))
    return found


def levels_of(table: pd.DataFrame, kind: str) -> list[int]:
    """The levels of noise that runs were tested at."""
    return [level for level in LEVELS if f"test_accuracy_{kind}_{level}" in table]


def draw_noise(metrics: Mapping[str, pd.DataFrame]) -> Figure:
    """Accuracy against the level of noise, a panel a kind."""
    kinds = [kind for kind in NOISE if any(levels_of(t, kind) for t in metrics.values())]
    figure, panels = plt.subplots(
        1, len(kinds), figsize=(4.4 * len(kinds), 3.4), sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for axes, kind in zip(panels[0], kinds, strict=True):
        for mode, table in metrics.items():
            levels = levels_of(table, kind)
            accuracy = [100 * table[f"test_accuracy_{kind}_{level}"].mean() for level in levels]
            axes.plot(levels, accuracy, marker=".", label=f"{mode.upper()} ({len(table)})")
        axes.set(xlabel=NOISE_LABELS[kind], title=kind)
        axes.grid(alpha=0.3)
    panels[0, 0].set(ylabel="test accuracy (%)")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    title = "what learns (seeds)"
    figure.legend(
        handles, labels, title=title, fontsize=8, title_fontsize=8, loc="outside right center"
    )
    return figure


def draw_rates(metrics: Mapping[str, pd.DataFrame]) -> Figure:
    """Firing rates of every layer before and after training, and the energy of a sample."""
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(9, 3.4), width_ratios=(2, 1), layout="constrained"
    )
    first = next(iter(metrics.values()))
    layers = [key.removesuffix("_before") for key in first if key.endswith("_before")]
    bars: dict[str, list[float]] = {"untrained": [first[f"{key}_before"].mean() for key in layers]}
    bars |= {mode.upper(): [table[key].mean() for key in layers] for mode, table in metrics.items()}
    places = np.arange(len(layers))
    for i, (label, rates) in enumerate(bars.items()):
        shift = (i - (len(bars) - 1) / 2) * 0.8 / len(bars)
        color = "lightgrey" if label == "untrained" else f"C{i - 1}"
        left.bar(places + shift, 100 * np.array(rates), 0.8 / len(bars), label=label, color=color)
    left.set(
        ylabel="spikes a neuron and step (%)",
        xticks=places,
        xticklabels=[key.removeprefix("rate_") for key in layers],
    )
    left.legend(fontsize=8)
    energies = [table["energy_uj"].mean() for table in metrics.values()]
    names = [mode.upper() for mode in metrics]
    right.bar(names, energies, color=[f"C{i}" for i in range(len(names))])
    right.set(ylabel="energy of a sample (µJ)")
    return figure


def main() -> None:
    """Draw the comparison.

    Raises:
        UserError: there are no runs to compare.
    """
    parser = make_parser(__doc__)
    parser.add_argument("--results", type=Path, default=Path("runs"), help="(default: runs)")
    args = parser.parse_args()
    if args.out:
        raise UserError("--out names one run's folder: the figures lie in --results, in figures/")
    names = names_of(args)
    runs = of_one_set(load_results(args.results), names)
    if not len(runs):
        raise UserError(
            f"{args.results} has no runs called {', '.join(names.values())}: run train.py with the "
            "same options first, or name another folder with --results"
        )
    runs = of_one_length(runs)
    metrics, dataset = runs_of(runs, names), runs["dataset"].iloc[0]
    epochs = runs["epochs"].iloc[0]
    figures = {
        "": draw_comparison(runs, Comparison(tuple(names[mode] for mode in metrics))),
        "_rates": draw_rates(metrics),
    }
    if any(table.get("noise_samples") is not None for table in metrics.values()):
        figures["_noise"] = draw_noise(metrics)
    path = args.results / "figures" / names["stl"]
    for ending, figure in figures.items():
        figure.suptitle(f"{names['stl']}, {dataset}, {epochs} epochs", fontsize=10)
        save_figure(figure, path.with_name(path.name + ending))
    drawn = ", ".join(f"{path}{ending}.png" for ending in figures)
    print(f"{', '.join(metrics)} on {dataset}, {epochs} epochs: {drawn}")


if __name__ == "__main__":
    script(main)
