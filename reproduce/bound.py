"""Numbers and verdicts in READMEs, written where they are named.

    <!-- value: EXPERIMENT METRIC -->98.58 ± 0.06 %<!-- end -->   mean and deviation over its seeds
    <!-- seeds: EXPERIMENT -->3 seeds<!-- end -->                 how many these are
    <!-- ours: CLAIM -->-0.12 (-0.34 to +0.10) points<!-- end -->  what a claim compares
    <!-- verdict: CLAIM -->undecided<!-- end -->                   what it comes to

`nox -s report` fills in what stands between the two marks; nobody types it. The marks are
comments: a reader sees the text alone.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from reproduce.declared import Reproduction, Row
from reproduce.verdicts import Decision, decide, measured, runs_of
from reproduce.words import counted
from shared.errors import UserError
from shared.report import mean_and_spread

END = "<!-- end -->"
KINDS = "value|seeds|ours|verdict"
# No other mark stands in between: one that has lost its end would take the text up to the next.
BOUND = re.compile(rf"<!-- ({KINDS}): ([^>]*?) -->(?:(?!<!--).)*{END}", flags=re.DOTALL)
ALONE = re.compile(rf"<!-- (?:{KINDS}):.*?-->|{END}")


@dataclass(frozen=True)
class Binder:
    """Writes what marks ask for.

    Attributes:
        results: as `shared.report.load_results` gives them.
        rows: that are declared, by name; those without runs are "not run".
        decisions: on claims, by name.
    """

    results: pd.DataFrame
    rows: Mapping[str, Row]
    decisions: Mapping[str, Decision]

    @classmethod
    def of(cls, reproductions: Iterable[Reproduction], results: pd.DataFrame) -> "Binder":
        """The binder of all papers' declarations."""
        declared = tuple(reproductions)
        rows = {row.name: row for r in declared for row in r.row}
        decisions = {d.claim.name: d for r in declared for d in decide(r, results)}
        return cls(results, rows, decisions)

    def filled(self, text: str) -> str:
        """A text with what stands between marks written anew.

        Raises:
            UserError: a mark names an experiment, metric or claim that does not exist; or it has
                no end, or an end has no mark.
        """
        for line, words in enumerate(BOUND.sub(_blank_lines, text).split("\n"), 1):
            if alone := ALONE.search(words):
                raise UserError(
                    f'line {line}: "{alone[0]}" stands alone; one of {KINDS.replace("|", ", ")} '
                    f'opens a number, "{END}" closes it, and text alone stands in between'
                )
        return BOUND.sub(self._written, text)

    def _written(self, match: re.Match[str]) -> str:
        kind, words = match[1], match[2].split()
        write: dict[str, tuple[int, Callable[..., str]]] = {
            "value": (2, self._value),
            "seeds": (1, self._seeds),
            "ours": (1, lambda name: measured(self._decision(name))),
            "verdict": (1, lambda name: self._decision(name).verdict),
        }
        takes, written = write[kind]
        if len(words) != takes:
            raise UserError(
                f'"{kind}: {match[2]}" takes {counted(takes, "name")}, not {len(words)}'
            )
        return f"<!-- {kind}: {' '.join(words)} -->{written(*words)}{END}"

    def _runs(self, name: str) -> pd.DataFrame:
        """What a row's verdicts look at; of an experiment that no row declares, all runs."""
        if name in self.rows:
            return runs_of(self.rows[name], self.results)
        runs = self.results[self.results["experiment"] == name]
        if runs.empty:
            raise UserError(f'"{name}" is neither a run under results/ nor a declared row')
        if len(runs[["dataset", "epochs"]].drop_duplicates()) > 1:
            raise UserError(
                f'runs of "{name}" differ in data set or epochs: declare a row of those meant'
            )
        return runs

    def _value(self, name: str, metric: str) -> str:
        runs = self._runs(name)
        if runs.empty:
            return "not run"
        number = mean_and_spread(metric, runs)
        if number is None:
            raise UserError(f'runs of {name} have no metric "{metric}"')
        return number

    def _seeds(self, name: str) -> str:
        return counted(len(self._runs(name)), "seed")

    def _decision(self, name: str) -> Decision:
        if name not in self.decisions:
            raise UserError(f'no claim is named "{name}"; --list has them all')
        return self.decisions[name]


def _blank_lines(match: re.Match[str]) -> str:
    """As many lines as were there, empty."""
    return "\n" * match[0].count("\n")
