"""A figure of all modes beside each other, from the results of runs.

    python brp_snn/compare.py                                              of runs/
    python brp_snn/compare.py --topology FC_1000_FC_10 --results results   of the committed ones

Takes the options of `main.py` and looks below --results for runs of that name of every mode. Each
data set that those runs loaded has a figure of its own.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import pandas as pd

from brp_snn.function import MODES, Mode
from brp_snn.main import EXPERIMENT, Settings, defaults
from shared.errors import UserError
from shared.experiment import UNNAMED, parse
from shared.figures import Curve, draw_curves, save_figure
from shared.options import script
from shared.report import load_results
from shared.run import RUNS

SCORES = {
    "nettalk": ("test_accuracy_nearest", "test accuracy by nearest code (%)", 100),
    "regression_synth": ("test_squared_error", "test error (mean square)", 1),
}
"""Column of metrics.jsonl, its label and factor where it is not the test accuracy."""
ACCURACY = ("test_accuracy", "test accuracy (%)", 100)


@dataclass(frozen=True)
class Options(Settings):
    """What main.py takes, and where the results lie."""

    results: Annotated[Path, UNNAMED] = RUNS
    """Folder of the results."""


def name_of(options: Options, mode: Mode, loaded: str) -> str:
    """Name of the experiment of that mode, on the data set that was loaded."""
    return EXPERIMENT.name(replace(options, train_mode=mode), loaded)


def curve_of(mode: str, runs: pd.DataFrame, column: str, factor: float) -> Curve:
    """A column of metrics.jsonl over epochs, a series per run."""
    tables = [pd.read_json(folder / "metrics.jsonl", lines=True) for folder in runs["folder"]]
    return Curve(mode, [factor * table.set_index("epoch")[column] for table in tables])


def main() -> None:
    """Draw the figures.

    Raises:
        UserError: fewer than two modes have a run to compare.
    """
    options = parse(Options, __doc__, defaults=defaults, shorthands=EXPERIMENT.shorthands)
    column, label, factor = SCORES.get(options.dataset, ACCURACY)
    drawn = False
    for loaded, runs in load_results(options.results).groupby("dataset"):
        names = {mode: name_of(options, mode, str(loaded)) for mode in MODES}
        of_mode = {mode: runs[runs["experiment"] == name] for mode, name in names.items()}
        curves = [curve_of(m, found, column, factor) for m, found in of_mode.items() if len(found)]
        if len(curves) > 1:
            path = options.results / "figures" / names["BRP"].replace("_BRP", "_modes", 1)
            save_figure(draw_curves(curves, label, str(loaded)), path)
            print(f"{path}.png: {', '.join(curve.label for curve in curves)}")
            drawn = True
    if not drawn:
        raise UserError(
            f"{options.results} does not hold runs of two modes: run main.py with the same options "
            "and another --train-mode first"
        )


if __name__ == "__main__":
    script(main)
