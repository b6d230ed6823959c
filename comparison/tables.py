"""Numbers of the comparison as Markdown tables: means over seeds with their 95 % intervals."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from comparison import registry
from reproduce.words import counted
from shared.figures import FEWEST_FOR_AN_INTERVAL, interval
from shared.run import read_result

SEARCHED = "validation_accuracy_paper"  # a metric that searches alone have
LOST_BITS = "lost_with_4_bits"
"""What weights of 4 bits cost, on the images that they are tested on; computed here."""


def load(folders: Iterable[Path]) -> pd.DataFrame:
    """Runs, a row each: options, seed, data set, metrics and folder; searches are marked.

    Raises:
        UserError: a folder holds no result of a run.
    """
    rows = []
    for folder in folders:
        result = read_result(folder / "result.json")
        named = {name: result[name] for name in ("experiment", "dataset", "seed", "epochs")}
        is_search = SEARCHED in result["metrics"]
        rows.append(
            {**result["metrics"], **result["options"], **named, "folder": folder}
            | {"is_search": is_search}
        )
    runs = pd.DataFrame(rows)
    if {"test_accuracy_undistorted", "test_accuracy_4_bits"} <= set(runs):
        runs[LOST_BITS] = runs["test_accuracy_undistorted"] - runs["test_accuracy_4_bits"]
    return runs


def stored(results: Path) -> pd.DataFrame:
    """All runs below a folder of results; no row where there is none."""
    return load(sorted(path.parent for path in results.glob("cmp_*/seed*/result.json")))


class Kind(NamedTuple):
    """What runs have in common beside their rule and seed.

    Attributes:
        dataset: as result.json names it.
        edition: whose settings.
        labels: percentage of the labels.
        permuted: five tasks in a row.
        dropout: share that training drops in place of the rule's own; None: the rule's own.
    """

    dataset: str
    edition: str = "paper"
    labels: int = 100
    permuted: bool = False
    dropout: float | None = None

    def of(self, runs: pd.DataFrame) -> pd.DataFrame:
        """Those of this kind; of several lengths the longest."""
        if runs.empty:
            return runs
        dropout = dropout_of(runs)
        found = runs[
            (runs["dataset"] == self.dataset)
            & ~runs["is_search"].astype(bool)
            & (runs.get("edition") == self.edition)
            & (runs.get("labels") == self.labels)
            & (runs.get("permuted") == self.permuted)
            & (dropout.isna() if self.dropout is None else dropout == self.dropout)
        ]
        return found[found["epochs"] == found["epochs"].max()]

    def of_rule(self, runs: pd.DataFrame, name: str) -> pd.DataFrame:
        """Those of this kind and of a rule."""
        found = self.of(runs)
        return found[found["rule"] == name] if len(found) else found


def dropout_of(runs: pd.DataFrame) -> "pd.Series[float]":
    """What runs drop in place of their rule's own share; NaN of all that are no such controls."""
    return runs.get("dropout", pd.Series(index=runs.index)).astype(float)


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        title: its head.
        metric: of the runs.
        factor: of its values.
        form: of the mean, as `format` has it.
    """

    title: str
    metric: str
    factor: float = 100
    form: str = ".2f"


def spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean, and from three values on the half width of its 95 % interval."""
    table = pd.DataFrame([list(values)])
    mean = float(table.mean(axis=1).iloc[0])
    if len(values) < FEWEST_FOR_AN_INTERVAL:
        return mean, None
    low, high = (float(end.iloc[0]) for end in interval(table))
    return mean, (high - low) / 2


def cell(runs: pd.DataFrame, column: Column, n_seeds: int | None = None) -> str:
    """A mean with its interval; a dash where nothing was measured.

    Args:
        runs: of one rule and kind.
        column: what is shown.
        n_seeds: how many the row says that there are; other numbers are named. None: it says none.
    """
    if column.metric not in runs:
        return "–"
    values = runs[column.metric].dropna().astype(float)
    if values.empty:
        return "–"
    mean, half = spread([column.factor * value for value in values])
    text = (
        f"{mean:{column.form}}" if half is None else f"{mean:{column.form}} ± {half:{column.form}}"
    )
    if len(values) < len(runs):
        return f"{text} ({len(values)} of {len(runs)} seeds)"
    if n_seeds is not None and len(values) != n_seeds:
        return f"{text} ({counted(len(values), 'seed')})"
    return text


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def rules_of(runs: pd.DataFrame) -> list[str]:
    """Rules that runs are of, in the order of the registry."""
    there = set(runs["rule"]) if len(runs) else set()
    return [name for name in registry.found()[0] if name in there]


def table(parts: Mapping[Kind, Sequence[Column]], runs: pd.DataFrame) -> str:
    """A row for each rule that has a run of the first kind.

    Args:
        parts: the columns that each kind of runs fills.
        runs: all of them.
    """
    found = {kind: kind.of(runs) for kind in parts}
    first = next(iter(found.values()))
    rows = []
    for name in rules_of(first):
        own = {kind: of[of["rule"] == name] if len(of) else of for kind, of in found.items()}
        n_seeds = own[next(iter(own))]["seed"].nunique()
        cells = [
            cell(own[kind], column, n_seeds)
            for kind, columns in parts.items()
            for column in columns
        ]
        rows.append([registry.rule_of(name).title, str(n_seeds), *cells])
    head = ["Rule", "Seeds", *(c.title for columns in parts.values() for c in columns)]
    return markdown(head, rows)


def words_of_rules(names: Iterable[str], part: str) -> str:
    """A table of what the rules say in words.

    Args:
        names: of the rules.
        part: "locality" or "protocol".
    """
    rows: list[list[str]] = []
    fields: tuple[str, ...] = ()
    for name in names:
        rule = registry.rule_of(name)
        said: Any = getattr(rule, part)
        fields = said._fields
        rows.append([rule.title, *said])
    return markdown(["Rule", *fields], rows)
