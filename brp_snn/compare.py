"""A figure of all modes beside each other, from the results of runs.

    python brp_snn/compare.py                                              of runs/
    python brp_snn/compare.py --topology FC_1000_FC_10 --results results   of the committed ones

Takes the options of `main.py` and looks for <results>/<name of such a run>/seed*/ of every mode; of
runs of different lengths the longest are shown, as the mean over their seeds.
"""

import copy
from pathlib import Path

from brp_snn.function import MODES
from brp_snn.main import complete, defaults_of, make_parser, name_of
from shared.errors import UserError
from shared.figures import save_figure
from shared.options import script
from shared.report import SCORES, Comparison, draw_comparison, load_results


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
    names = []
    for mode in MODES:
        own = copy.copy(args)
        own.train_mode = mode
        names.append(name_of(own, defaults))
    found = tuple(name for name in names if name in there)
    if len(found) < 2:
        raise UserError(
            f"{args.results} holds runs of {len(found)} of {', '.join(names)}: run main.py with "
            "the same options and another --train-mode first"
        )
    comparison = Comparison(found, *SCORES.get(args.dataset, ()))
    args.train_mode = "modes"
    path = args.results / "figures" / name_of(args, defaults)
    save_figure(draw_comparison(results, comparison), path)
    print(f"{path}.png: {', '.join(found)}")


if __name__ == "__main__":
    script(main)
