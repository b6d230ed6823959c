"""Writes reproduction.toml: rows of all rules, behind them what claims.toml claims and draws.

    python -m comparison.rows            write it
    python -m comparison.rows --check    fail where it says something else

Minutes are estimates, from the times of a training step and of an answer on one core.
"""

import shared.waiting

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from comparison import registry, search
from comparison.data import DataName
from comparison.measures import N_DISTORTED
from comparison.run import (
    DROPOUT,
    EPOCHS,
    LAST_LOOKS,
    LOOKS,
    ROBUSTNESS_IMAGES,
    SEEDS,
    TASKS,
    n_seeds,
    short,
)
from comparison.tuned import search_name
from shared.errors import UserError
from shared.options import script

FOLDER = Path(__file__).resolve().parent
PAGE, CLAIMS = FOLDER / "reproduction.toml", FOLDER / "claims.toml"
SETS: tuple[DataName, ...] = ("mnist", "fashion_mnist")
IMAGES, TESTED, BATCH = 50_000, 10_000, 100
VARIANTS = N_DISTORTED * ROBUSTNESS_IMAGES  # distorted images of a run

# Milliseconds of a training step and of an answer, 100 images each.
TIMES: dict[str, tuple[float, float]] = {
    "shifting": (13, 10), "exact": (13, 10),
    "brp": (20, 14), "bp": (22, 14), "fa": (22, 14), "dfa": (20, 14), "sdfa": (20, 14),
    "shallow": (16, 14),
    "stl": (14, 6), "sl": (15, 6), "tl": (12, 6),
    "hp": (19, 10), "gp": (5, 3), "lp": (13, 10),
    "smooth": (9, 6), "smooth_ordinary": (9, 6),
    "snntorch": (29, 16), "relu": (2, 2),
}  # fmt: skip
UNTIMED = (30, 20)


def minutes(name: str, learned: float, shown: float) -> float:
    """Of a run on one core; images that are learned and shown."""
    step, answer = TIMES.get(name, UNTIMED)
    return float(f"{(learned * step + shown * answer) / BATCH / 6e4 + 0.1:.2g}")


def row(
    name: str, options: Sequence[str], dataset: str, epochs: int, time: float, **more: Any
) -> dict[str, Any]:
    """A row of run.py."""
    common = {"name": name, "script": "run.py", "options": list(options), "dataset": dataset}
    return {**common, "epochs": epochs, "minutes": time, "is_measured": False, **more}


def seeds_of(number: int) -> dict[str, Any]:
    """Of a row, where it has more than the usual ones."""
    return {"seeds": list(range(number))} if number > SEEDS else {}


def rows_of(rule: str, dataset: DataName) -> Iterator[dict[str, Any]]:
    """All rows of a rule on a data set."""
    data = short(dataset)
    base = f"cmp_{data}_{rule}"
    asked = ["--rule", rule, *(["--dataset", dataset] if dataset != "mnist" else [])]
    seeds = seeds_of(n_seeds(rule, dataset))
    tests = LOOKS * TESTED + 4 * TESTED + VARIANTS
    whole = minutes(rule, EPOCHS[100] * IMAGES, tests)
    yield row(base, asked, dataset, EPOCHS[100], whole, **seeds)
    for percent in (10, 1):
        few = EPOCHS[percent] * IMAGES * percent // 100
        options = [*asked, "--labels", str(percent)]
        time = minutes(rule, few, (2 + LAST_LOOKS) * TESTED)
        more = seeds_of(n_seeds(rule, dataset, percent))
        yield row(f"{base}_{percent}-percent", options, dataset, EPOCHS[percent], time, **more)
        if (dataset, percent) == ("mnist", 1) and rule in DROPOUT:
            name = f"{base}_{percent}-percent_dropout-{DROPOUT[rule]}"
            options = [*options, "--dropout", str(DROPOUT[rule])]
            yield row(name, options, dataset, EPOCHS[percent], time, **more)
    if dataset == "mnist":
        time = minutes(rule, EPOCHS[100] * IMAGES, TASKS * TASKS * TESTED)
        more = seeds_of(n_seeds(rule, dataset, permuted=True))
        yield row(f"{base}_permuted", [*asked, "--permuted"], dataset, EPOCHS[100], time, **more)
    found = search_name(rule, data)
    learned = search.TRIALS * search.EPOCHS * search.IMAGES
    learned += search.FINALISTS * search.LONG_EPOCHS * search.LONG_IMAGES
    time = minutes(rule, learned, (search.TRIALS + search.FINALISTS) * TESTED)
    logged = search.TRIALS + search.FINALISTS
    more = {"script": "search.py", "seeds": [0], "logged": logged}
    yield row(found, asked, dataset, search.EPOCHS, time) | more
    options = [*asked, "--edition", "tuned"]
    more = {"after": [found], **seeds}
    yield row(f"{base}_tuned", options, dataset, EPOCHS[100], whole, **more)


def written(entry: dict[str, Any]) -> str:
    """A row in TOML; its values are those of JSON."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in entry.items()]
    return "\n".join(["[[row]]", *lines]) + "\n"


def text() -> str:
    """The whole file."""
    entries = [
        entry
        for name in registry.found()[0]
        for dataset in SETS
        for entry in rows_of(name, dataset)
    ]
    head = (
        "# Rows of the comparison, by `python -m comparison.rows`; its claims are in claims.toml.\n"
    )
    return "\n".join([head, *map(written, entries), CLAIMS.read_text()])


def main() -> None:
    """Write the file, or compare it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    args = parser.parse_args()
    if left_out := registry.found()[1]:
        raise UserError(f"rules of {', '.join(left_out)} are left out: install what they need")
    if not args.check:
        PAGE.write_text(text())
    elif PAGE.read_text() != text():
        raise UserError(f"{PAGE.name} differs: run `python -m comparison.rows`")


if __name__ == "__main__":
    script(main)
