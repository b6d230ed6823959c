"""What the search of the tuned edition chose, from its stored results."""

from pathlib import Path

from comparison import registry
from comparison.interface import Choice
from shared.errors import UserError
from shared.run import REPOSITORY, RUNS, read_result

FOLDERS = (REPOSITORY / "results", RUNS)
KNOB_RANGE = ("knob_low", "knob_high")
"""Metrics of a search: the range of the rule's own knob."""


def search_name(rule: str, data: str) -> str:
    """The experiment that searches; data as in experiments' names."""
    return f"cmp_{data}_{rule}_search"


def tuned_choice(rule: str, data: str) -> Choice:
    """The best trial of the search that is stored, in results/ or else in runs/.

    Raises:
        UserError: there is none, or it was drawn from other values of the knob than are declared.
    """
    place = Path("comparison") / search_name(rule, data) / "seed0" / "result.json"
    path = next((folder / place for folder in FOLDERS if (folder / place).exists()), None)
    if path is None:
        raise UserError(
            f"--edition tuned: no search of {rule} on {data} is stored; run comparison/search.py "
            f"--rule {rule} first"
        )
    metrics = read_result(path)["metrics"]
    try:
        found = Choice(**{name: metrics[f"best_{name}"] for name in Choice.__dataclass_fields__})
        drawn = tuple(metrics[name] for name in KNOB_RANGE)
    except KeyError as error:
        raise UserError(f"{path} is no result of comparison/search.py: it has no {error}") from None
    knob = registry.rule_of(rule).knob
    if drawn != (knob.low, knob.high):
        raise UserError(
            f"{path} chose among knobs from {drawn[0]:g} to {drawn[1]:g}, but {rule} now has "
            f"{knob.low:g} to {knob.high:g}: delete it and run comparison/search.py --rule {rule} "
            "--no-resume"
        )
    return found
