"""A figure of all modes beside each other, from the results of runs.

    python brp_snn/compare.py                                              of runs/
    python brp_snn/compare.py --topology FC_1000_FC_10 --results results   of the committed ones

Takes the options of `main.py` and looks for <results>/<name of such a run>/seed*/ of every mode; of
runs of different lengths the longest are shown.
"""

import copy
from pathlib import Path

import pandas as pd

from brp_snn.function import MODES
from brp_snn.main import complete, defaults_of, make_parser, name_of
from shared.errors import UserError
from shared.figures import Curve, draw_curves, save_figure
from shared.options import script
from shared.report import load_results

SCORES = {
    "nettalk": ("test_accuracy_nearest", "test accuracy by nearest code (%)", 100),
    "regression_synth": ("test_squared_error", "test error (mean square)", 1),
}
"""Column of metrics.jsonl, its label and factor where it is not the test accuracy."""
ACCURACY = ("test_accuracy", "test accuracy (%)", 100)


def curve_of(mode: str, runs: pd.DataFrame, column: str, factor: float) -> Curve:
    """A column over epochs of the longest runs of a mode, a series per seed."""
    longest = runs.loc[runs["epochs"] == runs["epochs"].max(), "folder"]
    tables = [pd.read_json(folder / "metrics.jsonl", lines=True) for folder in longest]
    return Curve(mode, [factor * table.set_index("epoch")[column] for table in tables])


def main() -> None:
    """Draw the figure.

    Raises:
        UserError: fewer than two modes have a run to compare.
    """
    parser = make_parser(__doc__)
    parser.add_argument("--results", type=Path, default=Path("runs"), help="(default: runs)")
    args = complete(parser.parse_args())
    defaults = defaults_of(parser, args)
    results = load_results(args.results)
    there = set(results["experiment"])
    names = {}
    for mode in MODES:
        own = copy.copy(args)
        own.train_mode = mode
        names[mode] = name_of(own, defaults)
    found = {mode: name for mode, name in names.items() if name in there}
    if len(found) < 2:
        raise UserError(
            f"{args.results} holds runs of {len(found)} of {', '.join(names.values())}: run "
            "main.py with the same options and another --train-mode first"
        )
    column, label, factor = SCORES.get(args.dataset, ACCURACY)
    curves = [
        curve_of(mode, results[results["experiment"] == name], column, factor)
        for mode, name in found.items()
    ]
    args.train_mode = "modes"
    path = args.results / "figures" / name_of(args, defaults)
    save_figure(draw_curves(curves, label, args.dataset), path)
    print(f"{path}.png: {', '.join(found)}")


if __name__ == "__main__":
    script(main)
