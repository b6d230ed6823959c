"""The results table of docs/results.md, and figures of several experiments, from results/.

    python -m shared.report            write the table
    python -m shared.report --check    fail where the page does not say what results/ holds

A number in the table is the mean and standard deviation over the seeds whose result.json lies
under results/; nothing is typed by hand.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from shared.errors import UserError
from shared.figures import Curve, draw_curves
from shared.options import script
from shared.run import REPOSITORY, read_result

BEGIN, END = "<!-- results: written by `nox -s report` -->", "<!-- end of results -->"
COLUMNS = ("Experiment", "Data set", "Seeds", "Epochs", "Measured", "Published", "Device", "Commit")

KEYS = ["experiment", "dataset", "epochs"]  # runs that differ in nothing else share a row

# What a row states, in this order, with the words for it; accuracies and rates in percent.
HEADLINES = {
    "test_accuracy_last": "test, last epoch",
    "test_accuracy_mean_of_last_looks": "test, mean of the last five looks",
    "test_accuracy_of_tasks": "test, mean of the tasks at the end",
    "test_accuracy_when_learned": "test, each task when it was learned",
    "forgetting": "forgetting",
    "test_accuracy_selected": "test, epoch picked by validation",
    "test_accuracy_ordinary_last": "by ordinary spikes only",
    "loss_last": "loss of the last trial",
    "QIF_largest_jump_by_weight": "largest jump of a QIF neuron's spike time",
    "LIF_largest_jump_by_weight": "of an LIF neuron's",
    "test_accuracy_last_frozen": "trace frozen",
    "test_accuracy_last_single": "one image a batch",
    "test_accuracy_last_other_drawing": "queries that were no sample",
    "test_accuracy_best_of_tests": "best of the tests during training",
    "test_accuracy_last_carried": "trace carried through the test",
    "test_accuracy_best": "best test epoch",
    "test_accuracy_joint": "joint decision",
    "test_accuracy_gaussian_6": "Gaussian noise of variance 0.06",
    "test_accuracy_gaussian_6_frozen": "that with the trace frozen",
    "test_accuracy_gaussian_6_carried": "that with the trace carried through the test",
    "test_accuracy_exact_last": "all bits right",
    "test_accuracy_nearest_last": "nearest code right",
    "success_rate": "runs that succeed",
    "test_count_error_last": "mean absolute error of the count",
    "test_squared_error_last": "mean squared error",
    "test_accuracy_of_spike_counts": "ridge regression on the spike counts alone",
    "test_count_error_of_spike_counts": "its mean absolute error of the count",
    "validation_accuracy_best": "validation, best of the choices",
    "validation_accuracy_paper": "the paper's own",
}


class Comparison(NamedTuple):
    """What a figure of several experiments shows.

    Attributes:
        curves: experiments by the words for them; the words before a comma name the rule.
        column: of metrics.jsonl.
        label: of the axis.
        factor: of the numbers.
        title: of the figure.
        dataset: as result.json names it; None: the runs are of one set.
        scale: of the axis of the numbers, "linear" or "log".
    """

    curves: Mapping[str, str]
    column: str = "test_accuracy"
    label: str = "test accuracy (%)"
    factor: float = 100
    title: str = ""
    dataset: str | None = None
    scale: str = "linear"


def load_results(folder: Path) -> pd.DataFrame:
    """All results under a folder, a row per run; column "folder" says where each lies.

    Raises:
        UserError: a file is not a result of a run.
    """
    rows = []
    for path in sorted(folder.rglob("seed*/result.json")):
        rows.append(read_result(path) | {"folder": path.parent})
    if not rows:
        raise UserError(f"no result.json under {folder}: run an experiment with --out there first")
    return pd.DataFrame(rows)


def mean_and_spread(name: str, runs: pd.DataFrame, key: str = "metrics") -> str | None:
    """A metric's mean and standard deviation over runs, in words.

    Args:
        name: of the metric; accuracies and rates are written in percent.
        runs: rows of `load_results`.
        key: "metrics", or "published" for the numbers beside them.

    Returns:
        The words; None where no run has the metric.
    """
    rows = [row for row in runs[key] if row and row.get(name) is not None]
    if not rows:
        return None
    values = [row[name] for row in rows]
    mean, spread = pd.Series(values).mean(), pd.Series(values).std()
    if key == "published":
        spread = None  # one number, repeated in every run
    inner = rows[0].get(f"{name}_sd_of_seeds")
    if len(values) == 1 and inner is not None:
        spread = inner  # one run of several seeds
    is_share = any(word in name for word in ("accuracy", "rate", "silent", "forgetting"))
    factor, unit = (100, " points" if name == "forgetting" else " %") if is_share else (1, "")
    is_count = not is_share and len(values) == 1 and float(mean).is_integer()
    form = ".0f" if is_count else ".2f" if is_share or mean >= 0.1 else ".2g"
    text = f"{factor * mean:{form}}"
    if pd.notna(spread):
        text += f" ± {factor * spread:{form}}"
    low, high = (rows[0].get(f"{name}_{end}_95") for end in ("low", "high"))
    if len(values) == 1 and low is not None and high is not None:  # an interval of one run's trials
        text += f" ({factor * low:.1f} to {factor * high:.1f})"
    return text + unit


class Summary(NamedTuple):
    """What runs that differ in nothing but their seed say together.

    Attributes:
        experiment: as result.json names it.
        dataset: the same.
        epochs: the same.
        seeds: in words.
        measured: mean and spread of each metric that is stated, by the words for it.
        published: the published numbers of these metrics.
        device: in words; each, if the runs had several.
        commit: abbreviated; each, if the runs had several.
        runs: what is summarized, a row per run.
    """

    experiment: str
    dataset: str
    epochs: int
    seeds: str
    measured: dict[str, str]
    published: dict[str, str]
    device: str
    commit: str
    runs: pd.DataFrame


def shortened(commit: str | None) -> str:
    """A commit's first digits, and whether files had changes; "none" outside of a repository."""
    if not commit:
        return "none"
    return commit[:7] + (" with changes" if commit.endswith("+") else "")


def summaries(results: pd.DataFrame) -> list[Summary]:
    """A summary per experiment, by name."""
    return [
        Summary(
            experiment,
            dataset,
            int(epochs),
            _seeds(runs),
            _stated(runs, "metrics"),
            _stated(runs, "published"),
            _distinct(runs["device"]),
            _distinct([shortened(commit) for commit in runs["commit"]]),
            runs,
        )
        for (experiment, dataset, epochs), runs in results.groupby(KEYS, sort=True)
    ]


def _stated(runs: pd.DataFrame, key: str) -> dict[str, str]:
    numbers = {words: mean_and_spread(name, runs, key) for name, words in HEADLINES.items()}
    return {words: number for words, number in numbers.items() if number}


def table(results: pd.DataFrame) -> str:
    """The results as a Markdown table, a row per experiment."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for row in summaries(results):
        measured, published = (
            "; ".join(f"{words}: {number}" for words, number in numbers.items())
            for numbers in (row.measured, row.published)
        )
        cells = (
            row.experiment,
            row.dataset,
            row.seeds,
            str(row.epochs),
            measured,
            published or "not published",
            row.device,
            row.commit,
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _seeds(runs: pd.DataFrame) -> str:
    seeds = ", ".join(map(str, sorted(runs["seed"])))
    networks = runs["metrics"].iloc[0].get("networks")
    return f"{seeds} ({networks} networks)" if networks else seeds


def _distinct(values: Sequence[object] | pd.Series) -> str:
    return ", ".join(dict.fromkeys(map(str, values)))


def with_table(page: str, text: str, begin: str = BEGIN, end: str = END) -> str:
    """A page's text with the table between its two marks replaced.

    Raises:
        UserError: the marks are not there.
    """
    if begin not in page or end not in page:
        raise UserError(f"the page has lost the marks {begin} and {end}: put them back")
    before, rest = page.split(begin, 1)
    after = rest.split(end, 1)[1]
    return f"{before}{begin}\n{text}\n{end}{after}"


def curves_of(results: pd.DataFrame, comparison: Comparison) -> list[Curve]:
    """A curve per experiment that has runs; of runs of different lengths the longest.

    Args:
        results: as `load_results` gives them.
        comparison: what is compared.
    """
    if comparison.dataset is not None:
        results = results[results["dataset"] == comparison.dataset]
    found = []
    for words, experiment in comparison.curves.items():
        runs = results[results["experiment"] == experiment]
        longest = runs.loc[runs["epochs"] == runs["epochs"].max(), "folder"]
        tables = [read_metrics(folder) for folder in longest]
        if tables:
            column = comparison.column
            found.append(Curve(words, [comparison.factor * table[column] for table in tables]))
    return found


def read_metrics(folder: Path) -> pd.DataFrame:
    """A run's metrics, a row per epoch."""
    return pd.read_json(folder / "metrics.jsonl", lines=True).set_index("epoch")


def draw_comparison(results: pd.DataFrame, comparison: Comparison) -> Figure | None:
    """A metric over epochs of several experiments: mean of the seeds, and each seed.

    Returns:
        The figure; None where fewer than two of the experiments have runs.
    """
    curves = curves_of(results, comparison)
    if len(curves) < 2:
        return None
    figure = draw_curves(curves, comparison.label, comparison.title)
    axes = figure.axes[0]
    axes.set_yscale(comparison.scale)
    if comparison.scale == "log":
        # An interval may reach down to 0, which no such axis shows.
        axes.set_ylim(bottom=0.7 * min(float(curve.table.min(axis=None)) for curve in curves))
    return figure


def main() -> None:
    """Write the table, or check it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    parser.add_argument("--results", type=Path, default=REPOSITORY / "results")
    parser.add_argument("--page", type=Path, default=REPOSITORY / "docs" / "results.md")
    args = parser.parse_args()
    results = load_results(args.results)
    page = args.page.read_text()
    written = with_table(page, table(results))
    if args.check:
        if written != page:
            raise UserError(f"{args.page.name} differs from results/: run `nox -s report`")
        return
    args.page.write_text(written)
    print(f"{args.page.name}: {len(results)} runs of {results['experiment'].nunique()} experiments")


if __name__ == "__main__":
    script(main)
