"""Verdicts on claims, computed from results alone.

The interval of a difference is Student's where seeds pair or one side is a number, Welch's where
they do not, Wilson's or Newcombe's for counts. Intervals of resampled seeds are not used: three
seeds all differ in one direction by chance in a quarter of cases, and the interval of resampled
means then excludes 0, where Student's does so in 5 %. The p-values of a paper's claims are
corrected by Holm's method, and a verdict stands at 5 % of those.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep, test_proportions_2indep

from reproduce.declared import Claim, Quantity, Reproduction, Row

LEVEL = 0.05


class Verdict(StrEnum):
    """What the numbers say of a claim."""

    HOLDS = "holds"
    DOES_NOT_HOLD = "does not hold"
    UNDECIDED = "undecided"
    NOT_RUN = "not run"


class Comparison(NamedTuple):
    """A difference left - right of what was measured.

    Attributes:
        difference: of the means.
        low: lower end of its 95 % interval.
        high: upper end; both are NaN where there is no interval.
        p_above: that a difference as large or larger comes about where the true one is the
            claim's margin (for `level`: minus the margin).
        p_below: likewise as small or smaller, at the margin.
    """

    difference: float
    low: float
    high: float
    p_above: float
    p_below: float


@dataclass(frozen=True)
class Decision:
    """A claim with its verdict.

    Attributes:
        claim: what was claimed.
        verdict: what the numbers say.
        comparison: the numbers, None where there are none.
        seeds: number of runs of each side that is no number.
        p: of the verdict or, where it is undecided, of the nearer one; corrected by Holm.
        reason: why it is undecided, or for what size of run it was decided.
    """

    claim: Claim
    verdict: Verdict
    comparison: Comparison | None
    seeds: tuple[int, ...]
    p: float
    reason: str


def runs_of(row: Row, results: pd.DataFrame) -> pd.DataFrame:
    """The runs of a row: of its name, data set and length.

    Args:
        row: as declared.
        results: a row a run, its columns the keys of result.json, as
            `shared.report.load_results` gives them.
    """
    wanted = {"experiment": row.name, "dataset": row.dataset, "epochs": row.epochs}
    is_of_row = np.logical_and.reduce([results[key] == value for key, value in wanted.items()])
    return results[is_of_row]


def values_of(runs: pd.DataFrame, metric: str) -> "pd.Series[float]":
    """A metric of runs by seed, of those that have it."""
    found = {
        int(seed): metrics[metric]
        for seed, metrics in zip(runs["seed"], runs["metrics"], strict=True)
        if metrics.get(metric) is not None
    }
    return pd.Series(found, dtype=float).sort_index()


def _counts(runs: pd.DataFrame, quantity: Quantity) -> tuple[int, int]:
    """Successes and trials over all runs of a row."""
    assert quantity.counted_in is not None
    share, trials = (values_of(runs, name) for name in (quantity.metric, quantity.counted_in))
    return round(float((share * trials).sum())), round(float(trials.sum()))


def compare_values(
    left: "pd.Series[float]", right: "pd.Series[float] | float", low_at: float, high_at: float
) -> Comparison:
    """Compare means over seeds; paired where both sides have the same seeds.

    Args:
        left: values by seed, two at least.
        right: values by seed, two at least, or a number.
        low_at: true difference for which `p_above` is computed.
        high_at: true difference for which `p_below` is computed.
    """
    if isinstance(right, float) or list(left.index) == list(right.index):
        apart = left.to_numpy() - (right if isinstance(right, float) else right.to_numpy())
        test = stats.ttest_1samp(apart, 0.0) if np.ptp(apart) else None
        difference = float(apart.mean())
    else:
        test = stats.ttest_ind(left, right, equal_var=False)
        difference = float(left.mean() - right.mean())
    if test is None:  # no spread, no doubt
        p_above, p_below = float(difference <= low_at), float(difference >= high_at)
        return Comparison(difference, difference, difference, p_above, p_below)
    interval = test.confidence_interval(1 - LEVEL)
    error = (interval.high - interval.low) / 2 / stats.t.isf(LEVEL / 2, test.df)
    return Comparison(
        difference,
        float(interval.low),
        float(interval.high),
        float(stats.t.sf((difference - low_at) / error, test.df)),
        float(stats.t.cdf((difference - high_at) / error, test.df)),
    )


def compare_counts(
    left: tuple[int, int], right: tuple[int, int] | float, low_at: float, high_at: float
) -> Comparison:
    """Compare shares of trials that succeeded; arguments as in `compare_values`."""
    share = left[0] / left[1]
    if isinstance(right, float):
        interval = stats.binomtest(*left).proportion_ci(1 - LEVEL, method="wilson")
        p_above, p_below = (
            float(stats.binomtest(*left, p=min(1.0, max(0.0, right + at)), alternative=side).pvalue)
            for at, side in ((low_at, "greater"), (high_at, "less"))
        )
        low, high = (float(end) - right for end in (interval.low, interval.high))
        return Comparison(share - right, low, high, p_above, p_below)
    low, high = confint_proportions_2indep(*left, *right, method="newcomb", alpha=LEVEL)
    p_above, p_below = (
        float(test_proportions_2indep(*left, *right, value=at, alternative=side).pvalue)
        for at, side in ((low_at, "larger"), (high_at, "smaller"))
    )
    return Comparison(share - right[0] / right[1], float(low), float(high), p_above, p_below)


def _compare(
    claim: Claim, rows: Mapping[str, Row], results: pd.DataFrame
) -> tuple[Comparison | None, tuple[int, ...]]:
    """Compare the sides of a claim, where both have runs.

    Returns:
        The comparison, if there are runs; the number of runs of each side that is no number.
    """
    sides = claim.sides
    runs = [runs_of(rows[side.row], results) for side in sides]
    values = [values_of(r, side.metric) for r, side in zip(runs, sides, strict=True)]
    seeds = tuple(map(len, values))
    if 0 in seeds:
        return None, seeds
    low_at = claim.margin if claim.kind == "above" else -claim.margin
    number = claim.right if isinstance(claim.right, float) else None
    if claim.left.counted_in:
        counts = [_counts(r, side) for r, side in zip(runs, sides, strict=True)]
        other = counts[1] if number is None else number
        return compare_counts(counts[0], other, low_at, claim.margin), seeds
    if claim.is_single or 1 in seeds:
        alone = float(values[1].mean()) if number is None else number
        difference = float(values[0].mean()) - alone
        return Comparison(difference, math.nan, math.nan, 1.0, 1.0), seeds
    right = values[1] if number is None else number
    return compare_values(values[0], right, low_at, claim.margin), seeds


def _p_values(claim: Claim, comparison: Comparison) -> tuple[float, float]:
    """Two-sided p-values of "holds" and of "does not hold"."""
    above, below = comparison.p_above, comparison.p_below
    if claim.kind == "above":
        return min(1.0, 2 * above), min(1.0, 2 * below)
    # Level: inside both margins; not level: outside of one, which is the other one-sided test.
    return min(1.0, 2 * max(above, below)), min(1.0, 2 * (1 - max(above, below)))


def _single(claim: Claim, comparison: Comparison) -> Verdict:
    """The verdict of a claim about one run."""
    apart = comparison.difference
    is_so = apart > claim.margin if claim.kind == "above" else abs(apart) <= claim.margin
    return Verdict.HOLDS if is_so else Verdict.DOES_NOT_HOLD


def decide(reproduction: Reproduction, results: pd.DataFrame) -> tuple[Decision, ...]:
    """The verdicts on all claims of a paper.

    Args:
        reproduction: what the paper declares.
        results: as in `runs_of`.
    """
    compared = [_compare(claim, reproduction.rows, results) for claim in reproduction.claim]
    pairs = list(zip(reproduction.claim, compared, strict=True))
    tested = {
        claim.name: min(_p_values(claim, comparison))
        for claim, (comparison, seeds) in pairs
        if comparison and not claim.is_single and not _too_few(claim, seeds)
    }
    corrected = multipletests(list(tested.values()), LEVEL, "holm")[1] if tested else ()
    p_of = dict(zip(tested, map(float, corrected), strict=True))
    return tuple(
        _decision(claim, reproduction.rows, comparison, seeds, p_of.get(claim.name))
        for claim, (comparison, seeds) in pairs
    )


def _too_few(claim: Claim, seeds: Sequence[int]) -> str:
    """Why the runs are too few to decide, or nothing."""
    if claim.is_single or claim.left.counted_in or min(seeds) >= claim.seeds:
        return ""
    return f"{min(seeds)} of {claim.seeds} seeds"


def _decision(
    claim: Claim,
    rows: Mapping[str, Row],
    comparison: Comparison | None,
    seeds: tuple[int, ...],
    p: float | None,
) -> Decision:
    """The verdict on a claim; p is the corrected p-value, None where it was not tested."""
    size = "; ".join(filter(None, dict.fromkeys(rows[side.row].size for side in claim.sides)))
    if comparison is None:
        return Decision(claim, Verdict.NOT_RUN, None, seeds, math.nan, "")
    if claim.is_single:
        return Decision(claim, _single(claim, comparison), comparison, seeds, math.nan, size)
    if p is None:
        reason = _too_few(claim, seeds)
        return Decision(claim, Verdict.UNDECIDED, comparison, seeds, math.nan, reason)
    if p > LEVEL:
        alone = min(_p_values(claim, comparison)) <= LEVEL
        why = "decided alone, but not after the correction" if alone else "across the margin"
        reason = "; ".join(filter(None, (why, size)))
        return Decision(claim, Verdict.UNDECIDED, comparison, seeds, p, reason)
    holds, does_not = _p_values(claim, comparison)
    verdict = Verdict.HOLDS if holds < does_not else Verdict.DOES_NOT_HOLD
    return Decision(claim, verdict, comparison, seeds, p, size)
