"""Figures that compare what learns (STL, SL, TL), from the results of runs.

    python stl_snn/compare.py stl_mnist
    python stl_snn/compare.py stl_fashion --variant width-0.125 --results results

Reads <results>/<session>[_sl|_tl|_tl_norm][_<variant>]/seed*/. A number is the mean over the seeds
found. The accuracy over epochs is drawn by `python -m shared.report`.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from shared.errors import UserError
from shared.options import script
from shared.report import load_results
from shared.run import save_figure
from stl_snn.data import LEVELS, NOISE

MODES = {"stl": "", "sl": "_sl", "tl": "_tl", "tl, norm": "_tl_norm"}
"""What learns, and the word for it in a run's name; "norm": batch normalisation too."""

NOISE_LABELS = {"gaussian": "variance (0.01)", "s&p": "share of white and black pixels (0.02)"}


def runs_of(results: pd.DataFrame, names: Mapping[str, str]) -> dict[str, pd.DataFrame]:
    """Metrics by mode, a row a seed; of runs of different lengths the longest."""
    found = {}
    for mode, name in names.items():
        runs = results[results["experiment"] == name]
        runs = runs[runs["epochs"] == runs["epochs"].max()]
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
    """Draw the comparison of one session's runs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("session", help="name of the runs without what learns, such as stl_mnist")
    parser.add_argument("--variant", default="", help="ending of the names, such as width-0.125")
    parser.add_argument("--results", type=Path, default=Path("runs"), help="(default: runs)")
    parser.add_argument("--out", type=Path, help="folder of the figures (<results>/figures)")
    args = parser.parse_args()
    ending = f"_{args.variant}" if args.variant else ""
    names = {mode: f"{args.session}{word}{ending}" for mode, word in MODES.items()}
    metrics = runs_of(load_results(args.results), names)
    if not metrics:
        raise UserError(
            f"{args.results} has no runs called {names['stl']} or the like: run them first, or "
            "name another folder with --results"
        )
    out = args.out or args.results / "figures"
    drawings = {"rates": draw_rates}
    if any(table.get("noise_samples") is not None for table in metrics.values()):
        drawings["noise"] = draw_noise
    for word, draw in drawings.items():
        figure = draw(metrics)
        figure.suptitle(f"{args.session}{ending}", fontsize=10)
        save_figure(figure, out / f"{args.session}{ending}_{word}")
    print(f"{args.session}{ending}: {', '.join(metrics)} compared in {out}")


if __name__ == "__main__":
    script(main)
