"""A figure of all modes beside each other, from the results of runs.

    python brp_snn/compare.py                                              of runs/
    python brp_snn/compare.py --topology FC_1000_FC_10 --results results   of the committed ones

Takes the options of `main.py` and looks below --results for runs of that name of every mode. Each
data set that those runs loaded has a figure of its own.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from brp_snn.function import MODES, Mode
from brp_snn.main import EXPERIMENT, Settings, defaults
from shared.errors import UserError
from shared.experiment import UNNAMED, parse
from shared.figures import save_figure
from shared.options import script
from shared.report import Comparison, draw_comparison, load_results
from shared.run import RUNS

ACCURACY = Comparison({})
SCORES = {
    "nettalk": Comparison({}, "test_accuracy_nearest", "test accuracy by nearest code (%)"),
    "regression_synth": Comparison({}, "test_squared_error", "test error (mean square)", 1),
}
"""What is compared on data sets that are not shown by their test accuracy."""


@dataclass(frozen=True)
class Options(Settings):
    """What main.py takes, and where the results lie."""

    results: Annotated[Path, UNNAMED] = RUNS
    """Folder of the results."""


def name_of(options: Options, mode: Mode, loaded: str) -> str:
    """Name of the experiment of that mode, on the data set that was loaded."""
    return EXPERIMENT.name(replace(options, train_mode=mode), loaded)


def main() -> None:
    """Draw the figures.

    Raises:
        UserError: fewer than two modes have a run to compare.
    """
    options = parse(Options, __doc__, defaults=defaults, shorthands=EXPERIMENT.shorthands)
    results = load_results(options.results)
    drawn = False
    for loaded in sorted(set(results["dataset"])):
        names: dict[str, str] = {mode: name_of(options, mode, loaded) for mode in MODES}
        title = names["BRP"].replace("_BRP", "_modes", 1)
        comparison = SCORES.get(options.dataset, ACCURACY)
        comparison = comparison._replace(curves=names, title=title, dataset=loaded)
        figure = draw_comparison(results, comparison)
        if figure is not None:
            print(save_figure(figure, options.results / "figures" / title))
            drawn = True
    if not drawn:
        raise UserError(
            f"{options.results} does not hold runs of two modes: run main.py with the same options "
            "and another --train-mode first"
        )


if __name__ == "__main__":
    script(main)
