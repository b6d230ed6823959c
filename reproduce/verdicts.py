"""Verdicts on claims, computed from results alone.

The interval of a difference is Student's where one side is a number or both have three seeds in
common, which pair, Welch's where they have not, Wilson's or Newcombe's for counts. Intervals of
resampled seeds are not used: three seeds all differ in one direction by chance in a quarter of
cases, and the interval of resampled means then excludes 0, where Student's does so in 5 %. The
p-values of a paper's claims are corrected by Holm's method, and a verdict stands at 5 % of those.
Claims whose runs are not there yet count, too, with a p-value of 1: else a verdict could be
withdrawn by runs of other claims. To declare another claim, or to withdraw one, still moves the
others; a claim that has been declared before its runs stays. A claim waits for all seeds that its
rows declare: who looks after every seed and stops when it is decided is wrong more often than in
5 %.
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
# Differences below it are rounding errors.
RESOLUTION = 1e-9
# Fewer trials than this decide nothing: the tests of two shares hold for large numbers.
FEWEST_TRIALS = 30
# From so many common seeds on two sides are paired on these alone.
FEWEST_PAIRS = 3


class Verdict(StrEnum):
    """What the numbers say of a claim."""

    HOLDS = "holds"
    DOES_NOT_HOLD = "does not hold"
    UNDECIDED = "undecided"
    NOT_RUN = "not run"


class Margins(NamedTuple):
    """True differences that a claim is tested at; equal but for `level`."""

    low: float
    high: float


class Comparison(NamedTuple):
    """A difference left - right of what was measured.

    Attributes:
        difference: of the means.
        low: lower end of its 95 % interval.
        high: upper end; both are NaN where there is no interval.
        above_low: p-value of a true difference above the lower margin, one-sided.
        below_low: below it.
        above_high: above the upper margin.
        below_high: below it.
    """

    difference: float
    low: float = math.nan
    high: float = math.nan
    above_low: float = 1.0
    below_low: float = 1.0
    above_high: float = 1.0
    below_high: float = 1.0


@dataclass(frozen=True)
class Decision:
    """A claim with its verdict.

    Attributes:
        claim: what was claimed.
        verdict: what the numbers say.
        comparison: the numbers, None where there are none.
        seeds: number of runs of each side that is no number.
        sample: what the interval is over, in words: "5", "5 and 3, 3 pairs", "3 and 2, unpaired",
            "1000 networks".
        p: of the verdict or, where it is undecided, of the nearer one; corrected by Holm.
        reason: why it is undecided, or for what size of run it was decided.
    """

    claim: Claim
    verdict: Verdict
    comparison: Comparison | None
    seeds: tuple[int, ...]
    sample: str
    p: float
    reason: str


class _Found(NamedTuple):
    """What runs say of a claim.

    Attributes:
        comparison: of its sides, if both have runs.
        seeds: the number of runs of each side that is no number.
        sample: as in `Decision`.
        why_not: why the runs decide nothing, or "".
    """

    comparison: Comparison | None
    seeds: tuple[int, ...]
    sample: str
    why_not: str = ""


def runs_of(row: Row, results: pd.DataFrame) -> pd.DataFrame:
    """The runs of a row: of its name, data set, length and seeds.

    Args:
        row: as declared.
        results: a row a run, its columns the keys of result.json, as
            `shared.report.load_results` gives them.
    """
    wanted = {"experiment": row.name, "dataset": row.dataset, "epochs": row.epochs}
    is_of_row = np.logical_and.reduce([results[key] == value for key, value in wanted.items()])
    return results[is_of_row & results["seed"].isin(row.seeds)]


def values_of(runs: pd.DataFrame, metric: str) -> "pd.Series[float]":
    """A metric of runs by seed, of those that have it."""
    found = {
        int(seed): metrics[metric]
        for seed, metrics in zip(runs["seed"], runs["metrics"], strict=True)
        if metrics.get(metric) is not None
    }
    return pd.Series(found, dtype=float).sort_index()


def _counts(runs: pd.DataFrame, quantity: Quantity) -> tuple[int, int]:
    """Successes and trials over the runs of a row that have both."""
    assert quantity.counted_in is not None
    columns = [values_of(runs, name) for name in (quantity.metric, quantity.counted_in)]
    both = pd.concat(columns, axis=1, keys=["share", "trials"]).dropna()
    return round(float(both.prod(axis=1).sum())), round(float(both["trials"].sum()))


def compare_values(
    left: "pd.Series[float]", right: "pd.Series[float] | float", margins: Margins
) -> Comparison:
    """Compare means over seeds; paired over those that both sides have, where they are enough.

    Args:
        left: values by seed, two at least.
        right: values by seed, two at least, or a number.
        margins: to test at.

    Returns:
        The comparison; without interval and p-values where the seeds do not spread at all, which
        is for want of resolution.
    """
    if isinstance(right, float) or _pairs(left, right):
        apart = (left - right).dropna().to_numpy()
        difference = float(apart.mean())
        if np.ptp(apart) < RESOLUTION:
            return Comparison(difference)
        test = stats.ttest_1samp(apart, 0.0)
    else:
        difference = float(left.mean() - right.mean())
        if max(np.ptp(left), np.ptp(right)) < RESOLUTION:
            return Comparison(difference)
        test = stats.ttest_ind(left, right, equal_var=False)
    interval = test.confidence_interval(1 - LEVEL)
    error = (interval.high - interval.low) / 2 / stats.t.isf(LEVEL / 2, test.df)
    at = [(difference - margin) / error for margin in margins]
    return Comparison(
        difference,
        float(interval.low),
        float(interval.high),
        above_low=float(stats.t.sf(at[0], test.df)),
        below_low=float(stats.t.cdf(at[0], test.df)),
        above_high=float(stats.t.sf(at[1], test.df)),
        below_high=float(stats.t.cdf(at[1], test.df)),
    )


def _pairs(left: "pd.Series[float]", right: "pd.Series[float]") -> bool:
    """Whether two sides have so many seeds in common that these are compared, pair by pair."""
    common = left.index.intersection(right.index)
    return len(common) >= min(FEWEST_PAIRS, max(len(left), len(right)))


def compare_counts(
    left: tuple[int, int], right: tuple[int, int] | float, margins: Margins
) -> Comparison:
    """Compare shares of trials that succeeded.

    Args:
        left: successes and trials.
        right: the same, or a share.
        margins: to test at.
    """
    if isinstance(right, float):
        share = left[0] / left[1] - right
        ends = stats.binomtest(*left).proportion_ci(1 - LEVEL, method="wilson")
        low, high = ends.low - right, ends.high - right
        ps = [_binomial(left, right + at) for at in margins]
    else:
        share = left[0] / left[1] - right[0] / right[1]
        low, high = confint_proportions_2indep(*left, *right, method="newcomb", alpha=LEVEL)
        ps = [_two_binomials(left, right, at) for at in margins]
    (above_low, below_low), (above_high, below_high) = ps
    return Comparison(share, float(low), float(high), above_low, below_low, above_high, below_high)


def _binomial(counted: tuple[int, int], share: float) -> tuple[float, float]:
    """The p-values of a true share above and below one that need not lie between 0 and 1."""
    if share < 0:
        return 0.0, 1.0
    if share > 1:
        return 1.0, 0.0
    above, below = (
        stats.binomtest(*counted, p=share, alternative=side).pvalue for side in ("greater", "less")
    )
    return float(above), float(below)


def _two_binomials(
    left: tuple[int, int], right: tuple[int, int], apart: float
) -> tuple[float, float]:
    """The p-values of a true difference of shares above and below one, by the score test."""
    above, below = (
        test_proportions_2indep(*left, *right, value=apart, alternative=side).pvalue
        for side in ("larger", "smaller")
    )
    return float(above), float(below)


def _compare(claim: Claim, rows: Mapping[str, Row], results: pd.DataFrame) -> _Found:
    """Compare the sides of a claim, where both have runs."""
    sides = claim.sides
    runs = [runs_of(rows[side.row], results) for side in sides]
    values = [values_of(r, side.metric) for r, side in zip(runs, sides, strict=True)]
    seeds = tuple(map(len, values))
    if 0 in seeds:
        return _Found(None, seeds, _words(seeds))
    right = claim.right if isinstance(claim.right, float) else values[1]
    if not all(np.isfinite(v).all() for v in values):
        return _Found(Comparison(math.nan), seeds, _words(seeds), "a run gave no number")
    alone = _Found(Comparison(_apart(values[0], right)), seeds, _words(seeds))
    if claim.is_single:
        return alone
    margins = Margins(claim.margin if claim.kind == "above" else -claim.margin, claim.margin)
    fewest = 1 if claim.left.counted_in else claim.seeds
    for side, there in zip(sides, seeds, strict=True):
        if there < (wanted := max(fewest, len(rows[side.row].seeds))):
            return alone._replace(why_not=f"{there} of {wanted} seeds")
    if claim.left.counted_in:
        counts = [_counts(r, side) for r, side in zip(runs, sides, strict=True)]
        trials = [count[1] for count in counts]
        if min(trials) < FEWEST_TRIALS:
            return alone._replace(why_not=f"{min(trials)} trials, and {FEWEST_TRIALS} are needed")
        other = right if isinstance(right, float) else counts[1]
        sample = f"{_words(trials)} {claim.left.counted_in}"
        return _Found(compare_counts(counts[0], other, margins), seeds, sample)
    compared = compare_values(values[0], right, margins)
    why_not = "no spread between seeds" if math.isnan(compared.low) else ""
    sample = _words(seeds)
    if not isinstance(right, float):
        common = len(values[0].index.intersection(right.index))
        sample += f", {common} pairs" if _pairs(values[0], right) else ", unpaired"
    return _Found(compared, seeds, sample, why_not)


def _words(numbers: Sequence[int]) -> str:
    return " and ".join(map(str, numbers))


def _apart(left: "pd.Series[float]", right: "pd.Series[float] | float") -> float:
    """The difference of means; over seeds that both sides have, where there are any.

    A side with more seeds than the other is else told by seeds that the difference, when it is
    decided in pairs, won't rest on.
    """
    if isinstance(right, float):
        return float(left.mean()) - right
    pairs = (left - right).dropna()
    return float(left.mean() - right.mean()) if pairs.empty else float(pairs.mean())


def _p_values(claim: Claim, comparison: Comparison) -> tuple[float, float]:
    """Two-sided p-values of "holds" and of "does not hold"."""
    if claim.kind == "above":
        holds, does_not = comparison.above_high, comparison.below_low
    else:
        holds = max(comparison.above_low, comparison.below_high)
        does_not = min(comparison.below_low, comparison.above_high)
    return min(1.0, 2 * holds), min(1.0, 2 * does_not)


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
    found = {c.name: _compare(c, reproduction.rows, results) for c in reproduction.claim}
    tested = {
        claim.name: min(_p_values(claim, one.comparison))
        if (one := found[claim.name]).comparison and not one.why_not
        else 1.0
        for claim in reproduction.claim
        if not claim.is_single
    }
    corrected = multipletests(list(tested.values()), LEVEL, "holm")[1] if tested else ()
    p_of = dict(zip(tested, map(float, corrected), strict=True))
    return tuple(
        _decision(claim, reproduction.rows, found[claim.name], p_of.get(claim.name, math.nan))
        for claim in reproduction.claim
    )


def _decision(claim: Claim, rows: Mapping[str, Row], found: _Found, p: float) -> Decision:
    """The verdict on a claim; p is the corrected p-value, NaN where it was not tested."""
    size = "; ".join(filter(None, dict.fromkeys(rows[side.row].size for side in claim.sides)))
    comparison, seeds, sample, why_not = found

    def decision(verdict: Verdict, p: float, *reasons: str) -> Decision:
        reason = "; ".join(filter(None, reasons))
        return Decision(claim, verdict, comparison, seeds, sample, p, reason)

    if comparison is None:
        return decision(Verdict.NOT_RUN, math.nan)
    if why_not:
        return decision(Verdict.UNDECIDED, math.nan, why_not, size)
    if claim.is_single:
        return decision(_single(claim, comparison), math.nan, size)
    holds, does_not = _p_values(claim, comparison)
    if p > LEVEL:
        why = "across the margin"
        if min(holds, does_not) <= LEVEL:
            alone = Verdict.HOLDS if holds < does_not else Verdict.DOES_NOT_HOLD
            why = f"alone: {alone}; not after the correction"
        return decision(Verdict.UNDECIDED, p, why, size)
    return decision(Verdict.HOLDS if holds < does_not else Verdict.DOES_NOT_HOLD, p, size)


def of_first_seeds(
    reproduction: Reproduction, results: pd.DataFrame, n: int = FEWEST_PAIRS
) -> tuple[Decision, ...]:
    """The verdicts if every row declared its first n seeds alone."""
    rows = tuple(row.model_copy(update={"seeds": row.seeds[:n]}) for row in reproduction.row)
    return decide(reproduction.model_copy(update={"row": rows}), results)


def measured(decision: Decision) -> str:
    """The difference with its interval, in percent points where the metric is a share."""
    if decision.comparison is None:
        return "-"
    difference, low, high, *_ = decision.comparison
    if math.isnan(difference):
        return "-"
    is_share = _is_share(decision.claim.left)
    factor, unit, form = (100, " points", "+.2f") if is_share else (1, "", "+.3g")
    unit = f" {decision.claim.unit}" if decision.claim.unit else unit
    text = f"{factor * difference:{form}}"
    if not math.isnan(low):
        text += f" ({factor * low:{form}} to {factor * high:{form}})"
    return text + unit


def told_p(decision: Decision) -> str:
    """The corrected p-value in words; "-" where nothing was tested."""
    p = decision.p
    return "-" if math.isnan(p) else "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def _is_share(side: Quantity) -> bool:
    """Whether a metric is a share, which is told in percent."""
    return any(word in side.metric for word in ("accuracy", "rate", "forgetting", "silent"))


def bound(claim: Claim) -> str:
    """Where a claim holds: what `measured` is to exceed, or to stay within, and from which number.

    Such as "within 1 point, from 88.3 %" where ours is compared with a published 88.3 %.
    """
    is_share = _is_share(claim.left)
    factor = 100 if is_share else 1
    margin = f"{factor * claim.margin:g}"
    if claim.margin:
        words = {"1": "point"}.get(margin, "points") if is_share else claim.unit
        margin = f"{margin} {words}".rstrip()
    found = [f"within {margin}" if claim.kind == "level" else f"above {margin}"]
    if isinstance(claim.right, float) and claim.right:
        unit = "%" if is_share else claim.unit
        found.append(f"from {factor * claim.right:g} {unit}".rstrip())
    return ", ".join([*found, *(["in one run"] if claim.is_single else [])])
