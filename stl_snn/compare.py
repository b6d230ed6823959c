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

import pandas as pd

from shared.errors import UserError
from shared.figures import counted, draw_curves, save_figure
from shared.options import script
from shared.report import Comparison, curves_of, load_results
from stl_snn.figures import draw_noise, draw_rates_and_energy
from stl_snn.train import completed, make_parser, name_of

MODES: dict[str, dict[str, Any]] = {
    "stl": {"learning": "stl"},
    "sl": {"learning": "sl"},
    "tl": {"learning": "tl", "train_norm": False},
    "tl, norm": {"learning": "tl", "train_norm": True},
}
"""What learns, and the options for it; "norm": batch normalisation too."""

LABELS = {"stl": "STL", "sl": "SL", "tl": "TL", "tl, norm": "TL and norm"}


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
    title = f"{names['stl']}, {dataset}, {counted(epochs, 'epoch')}"
    labelled = {LABELS[mode]: table for mode, table in metrics.items()}
    compared = Comparison({LABELS[mode]: names[mode] for mode in metrics})
    figures = {
        "": draw_curves(curves_of(runs, compared), compared.label, title),
        "_rates": draw_rates_and_energy(labelled, title),
    }
    if any(table.get("noise_samples") is not None for table in metrics.values()):
        rows = {label: table.to_dict("records") for label, table in labelled.items()}
        figures["_noise"] = draw_noise(rows, title)
    path = args.results / "figures" / names["stl"]
    for ending, figure in figures.items():
        save_figure(figure, path.with_name(path.name + ending))
    drawn = ", ".join(f"{path}{ending}.png" for ending in figures)
    print(f"{', '.join(metrics)} on {dataset}, {counted(epochs, 'epoch')}: {drawn}")


if __name__ == "__main__":
    script(main)
