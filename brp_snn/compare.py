"""A figure of all modes beside each other, from the results of runs.

    python brp_snn/compare.py                                              of runs/
    python brp_snn/compare.py --topology FC_1000_FC_10 --results results   of the committed ones

Takes the options of `main.py` and looks for <results>/<name of such a run>/seed*/ of every mode; of
runs of different lengths the longest are shown, as the mean over their seeds.
"""

import copy
from pathlib import Path
from typing import Any

from brp_snn.function import MODES
from brp_snn.main import complete, defaults_of, make_parser, name_of
from shared.errors import UserError
from shared.figures import save_figure
from shared.options import script
from shared.report import Comparison, draw_comparison, load_results

SCORES: dict[str, dict[str, Any]] = {
    "nettalk": {
        "column": "test_accuracy_nearest",
        "label": "test accuracy by nearest code (%)",
    },
    "regression_synth": {
        "column": "test_squared_error",
        "label": "test error (mean square)",
        "factor": 1,
    },
}
"""What is compared on data sets that are not shown by their test accuracy."""


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
    names: dict[str, str] = {}
    for mode in MODES:
        own = copy.copy(args)
        own.train_mode = mode
        names[mode] = name_of(own, defaults)
    found = {mode: name for mode, name in names.items() if name in there}
    args.train_mode = "modes"
    title = name_of(args, defaults)
    comparison = Comparison(found, title=title, **SCORES.get(args.dataset, {}))
    figure = draw_comparison(results, comparison)
    if figure is None:
        raise UserError(
            f"{args.results} holds runs of {len(found)} of {', '.join(names.values())}: run "
            "main.py with the same options and another --train-mode first"
        )
    path = save_figure(figure, args.results / "figures" / title)
    print(f"{path}: {', '.join(found.values())}")


if __name__ == "__main__":
    script(main)
