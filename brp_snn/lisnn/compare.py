"""The noise study with and without lateral interactions, from the results of runs.

    python brp_snn/lisnn/compare.py                      of runs/
    python brp_snn/lisnn/compare.py --results results    of the committed runs

Reads the results of runs called brp_lisnn_... below --results and draws a figure for every data set
that it finds, of the networks that were trained for the most epochs.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from brp_snn.lisnn.noise_data import KINDS
from brp_snn.lisnn.train import TESTED, draw_noise, label_of, metric_of
from shared.errors import UserError
from shared.experiment import parse
from shared.figures import save_figure
from shared.options import script
from shared.report import load_results
from shared.run import RUNS

PREFIX = "brp_lisnn"
FIRST = metric_of(KINDS[0], TESTED[0])


@dataclass(frozen=True)
class Options:
    """The options."""

    results: Path = RUNS
    """Folder of the results."""
    quick: bool = False
    """Compare runs of --quick."""


def noise_curves(runs: pd.DataFrame) -> dict[str, list[dict[str, list[float]]]]:
    """Accuracies over the levels `TESTED` by kind of noise, of each seed of each network.

    Args:
        runs: rows of `shared.report.load_results` of one data set.

    Returns:
        By the network's name in words; by the experiment's where words do not tell two apart.
    """
    longest = runs[runs["epochs"] == runs["epochs"].max()]
    groups = {str(name): group for name, group in longest.groupby("experiment")}
    words = {name: label_of(group["options"].iloc[0]) for name, group in groups.items()}
    times = Counter(words.values())
    return {
        words[name] if times[words[name]] == 1 else name: [
            {kind: [found[metric_of(kind, level)] for level in TESTED] for kind in KINDS}
            for found in group["metrics"]
        ]
        for name, group in groups.items()
    }


def main() -> None:
    """Draw the figures.

    Raises:
        UserError: there are no runs to compare.
    """
    options = parse(Options, __doc__)
    results = load_results(options.results)
    names = results["experiment"]
    wanted = names.str.startswith(PREFIX) & (names.str.endswith("quick") == options.quick)
    # Recordings of events have no noise study.
    chosen = results[wanted & results["metrics"].map(lambda found: FIRST in found).astype(bool)]
    if not len(chosen):
        raise UserError(f"no {PREFIX} run lies under {options.results}: run lisnn/train.py first")
    for dataset, runs in chosen.groupby("dataset"):
        path = options.results / "figures" / f"{PREFIX}_{dataset}_noise"
        save_figure(draw_noise(noise_curves(runs), str(dataset)), path)
        print(f"{path}.png")


if __name__ == "__main__":
    script(main)
