"""A result that was computed again, beside the stored one."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from reproduce.declared import Row

MACHINE = ("device", "processor")


class Difference(NamedTuple):
    """A metric, or an option, of both results.

    Attributes:
        name: as result.json has it.
        stored: value in results/; None where there is none.
        new: value that was computed again.
        apart: new - stored, NaN where one of them is no number.
        has_moved: whether they differ by more than is stated.
    """

    name: str
    stored: Any
    new: Any
    apart: float
    has_moved: bool


def is_same_machine(stored: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether both results name the same kind of machine; older ones do not name it whole."""
    return all(key in stored and stored[key] == new.get(key) for key in MACHINE)


def compare(stored: Mapping[str, Any], new: Mapping[str, Any], row: Row) -> list[Difference]:
    """Every metric of both results, and the options that differ.

    The new result is of the command that the stored one names. An option whose default is another
    one since then is found here: both results have all their options.

    Args:
        stored: content of the kept result.json.
        new: of the one that was computed again.
        row: says what may differ.
    """
    allowed = row.tolerance
    if allowed is None:
        allowed = 0.0 if is_same_machine(stored, new) else math.inf
    found = []
    for name in dict.fromkeys([*stored["metrics"], *new["metrics"]]):
        before, now = stored["metrics"].get(name), new["metrics"].get(name)
        apart = _apart(before, now)
        may_differ = name in row.unsteady or allowed == math.inf or abs(apart) <= allowed
        has_moved = not (may_differ or before == now or _is_nan(before, now))
        found.append(Difference(name, before, now, apart, has_moved))
    options, now_options = stored.get("options", {}), new["options"]
    for name in sorted(options.keys() & now_options.keys()):
        if options[name] != now_options[name]:
            words = f"--{name.replace('_', '-')}"
            found.append(Difference(words, options[name], now_options[name], math.nan, True))
    return found


def _apart(before: float | None, now: float | None) -> float:
    return math.nan if before is None or now is None else now - before


def _is_nan(*values: float | None) -> bool:
    return all(value is not None and math.isnan(value) for value in values)


def table(stored: Mapping[str, Any], new: Mapping[str, Any], differences: list[Difference]) -> str:
    """What was stored, what is found now, and their difference, a line each."""
    then, now = (str(result.get("commit"))[:8] for result in (stored, new))
    lines = [
        f"{stored['experiment']}, seed {stored['seed']}: stored at {then}, now {now}",
        *(f"  {key}: {stored.get(key, 'not told')} / {new[key]}" for key in MACHINE),
        f"  {'':40} {'stored':>22} {'new':>22} {'difference':>12}",
    ]
    for name, before, after, apart, has_moved in differences:
        mark = "  moved" if has_moved else ""
        lines.append(f"  {name:40} {before!s:>22} {after!s:>22} {apart:>12.3g}{mark}")
    return "\n".join(lines)
