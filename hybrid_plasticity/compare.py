"""Figures that compare the rules, from the results of runs.

    python hybrid_plasticity/compare.py hp_simple              the simple example's three rules
    python hybrid_plasticity/compare.py hp_tolerance_mnist     tolerance curves of HP and GP
    python hybrid_plasticity/compare.py hp_fewshot             learning curves of HP and GP
    python hybrid_plasticity/compare.py hp_multitask           figure 5: accuracy over tasks seen

Reads <results>/<experiment>_<rule>[_<variant>]/seed*/. A curve is the mean over the seeds found.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from hybrid_plasticity.distortions import KINDS
from hybrid_plasticity.figures import PROTOCOLS, STRENGTHS, draw_spikes, levels_of
from shared.errors import UserError
from shared.figures import save_figure
from shared.options import script
from shared.report import load_results

# What may stand behind an experiment's name: rules, and the multitask experiment's methods.
METHODS = ("hp", "gp", "lp", "hp_no_replay", "ewc_masks", "ewc", "finetune")
# What these experiments call an epoch.
UNITS = {"hp_fewshot": "thousand iterations", "hp_multitask": "tasks seen"}
COLORS = {method: f"C{number}" for number, method in enumerate(METHODS)}


def runs_of(results: pd.DataFrame, experiment: str) -> pd.DataFrame:
    """The runs of an experiment with the most epochs: a shorter trial run does not mix in."""
    runs = results[results["experiment"] == experiment]
    return runs[runs["epochs"] == runs["epochs"].max()]


def draw_training(results: pd.DataFrame, title: str, names: Mapping[str, str]) -> Figure:
    """Test accuracy over epochs, and spikes per hidden neuron against it, a color a rule.

    Dotted lines are the accuracy under the noise that the runs followed, where they did.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for rule, name in names.items():
        runs, tables = runs_of(results, name), []
        for folder in runs["folder"]:
            tables.append(pd.read_json(folder / "metrics.jsonl", lines=True).set_index("epoch"))
        curves = pd.concat([100 * table["test_accuracy"] for table in tables], axis=1)
        label = f"{rule.upper()} ({len(tables)} seeds)"
        left.plot(curves.mean(axis=1), color=COLORS[rule], label=label)
        if len(tables) > 1:
            low, high = curves.min(axis=1), curves.max(axis=1)
            left.fill_between(curves.index, low, high, color=COLORS[rule], alpha=0.2, linewidth=0)
        noisy = [table.filter(regex=r"^test_accuracy_.+_\d+$") for table in tables]
        if all(table.shape[1] for table in noisy):
            mean = 100 * pd.concat(noisy, axis=1).mean(axis=1)
            left.plot(mean, ":", color=COLORS[rule], label=f"{rule.upper()}, {noisy[0].columns[0]}")
        for number, table in enumerate(tables):
            draw_spikes(right, table, COLORS[rule], label if number == 0 else None)
    left.set(xlabel="epoch", ylabel="test accuracy (%)", title="band: all seeds")
    right.set(title="each dot an epoch, rings the last")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    left.legend()
    figure.suptitle(title, fontsize=10)
    return figure


def draw_progress(results: pd.DataFrame, title: str, names: Mapping[str, str], unit: str) -> Figure:
    """Test accuracy over epochs or tasks, a curve a method, thin lines for single seeds."""
    figure, axes = plt.subplots(figsize=(6, 3.8), layout="constrained")
    for method, name in names.items():
        curves = []
        for folder in runs_of(results, name)["folder"]:
            table = pd.read_json(folder / "metrics.jsonl", lines=True).set_index("epoch")
            curves.append(100 * table["test_accuracy"])
            axes.plot(curves[-1], color=COLORS[method], alpha=0.3, linewidth=0.8)
        label = f"{method.replace('_', ' ')} ({len(curves)})"
        axes.plot(pd.concat(curves, axis=1).mean(axis=1), color=COLORS[method], label=label)
    axes.set(xlabel=unit, ylabel="test accuracy (%)", title=title)
    axes.legend(title="method (seeds)", fontsize=8, title_fontsize=8)
    axes.grid(alpha=0.3)
    return figure


def draw_tolerance(results: pd.DataFrame, title: str, names: Mapping[str, str]) -> Figure:
    """Accuracy against the level of every distortion tested: mean and spread over seeds."""
    first = runs_of(results, next(iter(names.values())))["metrics"].iloc[0]
    kinds = [kind for kind in KINDS if len(levels_of(first, kind))]
    rows = -(-len(kinds) // 3)
    columns = -(-len(kinds) // rows)
    figure, grid = plt.subplots(
        rows, columns, figsize=(3.6 * columns + 1.6, 2.9 * rows), sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for axes, kind in zip(grid.flat, kinds, strict=False):
        for rule, name in names.items():
            for protocol, (ending, style) in PROTOCOLS.items():
                metrics = runs_of(results, name)["metrics"]
                curves = pd.concat([levels_of(run, kind, ending) for run in metrics], axis=1)
                if not curves.size:
                    continue
                label = rule.upper() + (f", trace {protocol}" if ending else "")
                mean, spread = curves.mean(axis=1), curves.std(axis=1).fillna(0)
                x = STRENGTHS[kind][1] * mean.index.to_numpy()
                axes.plot(x, mean, style, marker=".", color=COLORS[rule], label=label)
                axes.fill_between(
                    x, mean - spread, mean + spread, color=COLORS[rule], alpha=0.2,
                    linewidth=0,
                )  # fmt: skip
        axes.set(title=kind, xlabel=STRENGTHS[kind][0])
        axes.grid(alpha=0.3)
    for row in grid:
        row[0].set(ylabel="test accuracy (%)")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize=7, handlelength=3.5)
    figure.suptitle(f"{title}: mean and standard deviation over seeds", fontsize=10)
    return figure


def main() -> None:
    """Draw the comparison of one experiment."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiment", help="name of the runs without their rule")
    parser.add_argument("--variant", default="", help="ending of the runs' names, such as quick")
    parser.add_argument("--results", type=Path, default=Path("runs"), help="(default: runs)")
    parser.add_argument(
        "--out", type=Path, help="folder of the figures (default: <results>/figures)"
    )
    args = parser.parse_args()
    results = load_results(args.results)
    there = set(results["experiment"])
    ending = f"_{args.variant}" if args.variant else ""
    names = {method: f"{args.experiment}_{method}{ending}" for method in METHODS}
    names = {rule: name for rule, name in names.items() if name in there}
    if not names:
        raise UserError(
            f"{args.results} has no runs called {args.experiment}_hp{ending} or the like: run them "
            "first, or name another folder with --results"
        )
    out = args.out or args.results / "figures"
    title = args.experiment + ending
    if args.experiment in UNITS:
        figure = draw_progress(results, title, names, UNITS[args.experiment])
        save_figure(figure, out / title)
    else:
        save_figure(draw_training(results, title, names), out / f"{title}_training")
        save_figure(draw_tolerance(results, title, names), out / f"{title}_levels")
    print(f"{title}: {', '.join(names)} compared in {out}")


if __name__ == "__main__":
    script(main)
