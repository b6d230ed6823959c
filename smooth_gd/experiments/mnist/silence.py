"""Accuracy against how silent a network was before it learned, from the results of runs.

    python smooth_gd/experiments/mnist/mnist.py --spread 2 --epochs 10      for some spreads, then
    python smooth_gd/experiments/mnist/silence.py --epoch 10

Reads gd_mnist[_spread-<number>][_<number>-epochs]/seed*/ below --results, where the data set is
MNIST: the share of hidden neurons that never spiked before learning, and the test accuracy after
that many epochs. A run counts where it lasted that long.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from shared import experiment
from shared.errors import UserError
from shared.experiment import Positive
from shared.figures import RULES, legend_beside, save_figure
from shared.options import script
from shared.report import load_results

NAME = re.compile(r"gd_mnist(?:_spread-([0-9.e+-]+))?(?:_[0-9]+-epochs)?")
PAPER_SPREAD = 0.5


@dataclass(frozen=True)
class Settings:
    """The options."""

    results: Path = Path("runs")
    """Folder of the runs, of which all below it are read; the figure goes into its folder
    figures."""
    epoch: Positive[int] = 10
    """Epoch after which the accuracies are taken."""


def collect(results: pd.DataFrame, epoch: int) -> pd.DataFrame:
    """A row per run: spread, silent (share before learning), accuracy and accuracy_ordinary.

    Args:
        results: `shared.report.load_results`.
        epoch: the epoch after which the accuracies are taken.

    Raises:
        UserError: no two spreads have runs that long.
    """
    rows = []
    for run in results.itertuples():
        named = NAME.fullmatch(str(run.experiment))
        if not named or run.dataset != "mnist" or int(run.epochs) < epoch:
            continue
        table = pd.read_json(Path(run.folder) / "metrics.jsonl", lines=True).set_index("epoch")
        rows.append(
            {
                "spread": float(named[1] or PAPER_SPREAD),
                "silent": run.metrics["initial_silent_in_trial"],
                "accuracy": table.loc[epoch, "test_accuracy"],
                "accuracy_ordinary": table.loc[epoch, "test_accuracy_ordinary"],
            }
        )
    found = pd.DataFrame(rows)
    if not len(found) or found["spread"].nunique() < 2:
        raise UserError(
            f"fewer than two spreads have runs of {epoch} epochs: train with --spread first"
        )
    return found.sort_values("spread")


def draw(runs: pd.DataFrame, epoch: int) -> Figure:
    """Accuracy with and without pseudospikes over the share of silent neurons."""
    figure, axes = plt.subplots(figsize=(6.6, 3.6), layout="constrained")
    for name, label, rule in (
        ("accuracy", "with pseudospikes", "pseudospikes"),
        ("accuracy_ordinary", "ordinary spikes only", "ordinary spikes"),
    ):
        color, marker = RULES[rule]
        shares = 100 * runs["silent"], 100 * runs[name]
        axes.plot(*shares, linestyle="", color=color, marker=marker, label=label)
    for i, (_, run) in enumerate(runs.drop_duplicates("spread").iterrows()):
        is_left = i % 2 == 0  # neighbors on either side of their dots, which can be close
        axes.annotate(
            f"{run['spread']:g}",
            (100 * run["silent"], 100 * run["accuracy"]),
            xytext=(-6 if is_left else 6, 0),
            textcoords="offset points",
            fontsize=7,
            ha="right" if is_left else "left",
            va="center",
        )
    axes.margins(x=0.08)  # room for a number beside the last dot
    axes.set(
        xlabel="hidden neurons silent before learning (%)",
        ylabel="test accuracy (%)",
        title=f"MNIST, epoch {epoch}; numbers: spread of the initial weights",
    )
    axes.title.set_fontsize(10)
    axes.grid(alpha=0.3)
    legend_beside(axes)
    return figure


def main() -> None:
    """Draw the figure."""
    settings = experiment.parse(Settings, __doc__)
    runs = collect(load_results(settings.results), settings.epoch)
    path = settings.results / "figures" / "gd_mnist_silence"
    save_figure(draw(runs, settings.epoch), path)
    print(runs.to_string(index=False))
    print(f"{path}.png")


if __name__ == "__main__":
    script(main)
