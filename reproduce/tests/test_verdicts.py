import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from reproduce.declared import Claim, Reproduction, Row
from reproduce.verdicts import (
    LEVEL,
    Margins,
    Verdict,
    bound,
    compare_counts,
    compare_values,
    decide,
    measured,
    of_first_seeds,
)

A = {"row": "a", "metric": "test_accuracy_last"}
B = {"row": "b", "metric": "test_accuracy_last"}


def row(name: str, **changes: object) -> Row:
    content = {"name": name, "script": "x.py", "dataset": "d", "epochs": 2, "minutes": 1.0}
    return Row.model_validate(content | changes)


def claim(**changes: object) -> Claim:
    content = {"name": "c", "says": "so", "where": "here", "kind": "above", "left": A, "right": B}
    return Claim.model_validate(content | changes)


def made_results(**values: list[float]) -> pd.DataFrame:
    """Runs of seeds 0, 1, ... of each row."""
    return pd.DataFrame(
        [
            {"experiment": name, "dataset": "d", "epochs": 2, "seed": seed}
            | {"metrics": {"test_accuracy_last": value, "networks": 100}}
            for name, series in values.items()
            for seed, value in enumerate(series)
        ]
    )


def decided(results: pd.DataFrame, *claims: Claim, seeds: int = 3, **sizes: str):
    rows = tuple(
        row(name, size=sizes.get(name, ""), seeds=list(range(seeds))) for name in ("a", "b")
    )
    return decide(Reproduction(paper="p", row=rows, claim=claims or (claim(),)), results)


@pytest.mark.parametrize(
    ("a", "b", "verdict"),
    [
        ([0.95, 0.951, 0.949], [0.90, 0.902, 0.898], Verdict.HOLDS),
        ([0.90, 0.902, 0.898], [0.95, 0.951, 0.949], Verdict.DOES_NOT_HOLD),
        ([0.95, 0.90, 0.92], [0.93, 0.92, 0.91], Verdict.UNDECIDED),
    ],
)
def test_orders(a, b, verdict):
    assert decided(made_results(a=a, b=b))[0].verdict == verdict


@pytest.mark.parametrize(
    ("apart", "verdict"),
    [(0.0, Verdict.HOLDS), (0.0031, Verdict.UNDECIDED), (0.02, Verdict.DOES_NOT_HOLD)],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_level(apart, verdict, sign):
    b = [0.900, 0.901, 0.899]
    a = [v + sign * apart + jitter for v, jitter in zip(b, (1e-4, -1e-4, 2e-4), strict=True)]
    level = claim(kind="level", margin=0.003)
    assert decided(made_results(a=a, b=b), level)[0].verdict == verdict


def test_a_published_number_is_reached_or_not():
    results = made_results(a=[0.976, 0.975, 0.977])
    reached = claim(name="reached", right=0.976, margin=0.005, kind="level")
    missed = claim(name="missed", right=0.986, margin=0.0)
    first, second = decided(results, reached, missed)
    assert (first.verdict, second.verdict) == (Verdict.HOLDS, Verdict.DOES_NOT_HOLD)
    assert first.comparison.difference == pytest.approx(0.0)
    assert first.seeds == (3,)


def test_unpaired_seeds_are_welch():
    results = made_results(a=[0.95, 0.951, 0.949], b=[0.90, 0.902])
    results["seed"] += np.where(results["experiment"] == "b", 10, 0)
    rows = (row("a"), row("b", seeds=[10, 11]))
    (decision,) = decide(Reproduction(paper="p", row=rows, claim=(claim(seeds=2),)), results)
    assert decision.seeds == (3, 2)
    welch = stats.ttest_ind([0.95, 0.951, 0.949], [0.90, 0.902], equal_var=False)
    assert decision.comparison.low == pytest.approx(welch.confidence_interval().low)
    assert decision.p == pytest.approx(welch.pvalue)


def test_the_paired_interval_is_students():
    (decision,) = decided(made_results(a=[0.95, 0.96, 0.97], b=[0.90, 0.92, 0.91]))
    apart = np.array([0.05, 0.04, 0.06])
    half = 4.302652729911275 * apart.std(ddof=1) / math.sqrt(3)
    assert decision.comparison.low == pytest.approx(0.05 - half)
    assert decision.comparison.high == pytest.approx(0.05 + half)


def test_seeds_in_common_are_paired_where_one_side_has_more():
    left, right = pd.Series([0.95, 0.96, 0.97, 0.5, 0.5]), pd.Series([0.90, 0.92, 0.91])
    compared = compare_values(left, right, Margins(0.0, 0.0))
    assert compared == compare_values(left[:3], right, Margins(0.0, 0.0))
    assert compared.difference == pytest.approx(0.05)


def test_a_claim_waits_for_all_seeds_that_its_rows_declare():
    results = made_results(a=[0.95, 0.951, 0.949, 0.95], b=[0.90, 0.902, 0.898])
    rows = (row("a", seeds=[0, 1, 2, 3, 4]), row("b"))
    (decision,) = decide(Reproduction(paper="p", row=rows, claim=(claim(),)), results)
    assert decision.verdict == Verdict.UNDECIDED
    assert decision.reason == "4 of 5 seeds"


def test_claims_without_runs_count_in_the_correction():
    results = made_results(a=[0.95, 0.96, 0.97], b=[0.90, 0.92, 0.91])
    to_come = (claim(name=str(i), right=A | {"row": "c"}) for i in range(3))
    rows = (row("a"), row("b"), row("c"))
    alone = decided(results)[0]
    of_four = decide(Reproduction(paper="p", row=rows, claim=(claim(), *to_come)), results)[0]
    assert of_four.p == pytest.approx(4 * alone.p)


def test_too_few_seeds_decide_nothing():
    (decision,) = decided(made_results(a=[0.9], b=[0.1, 0.1, 0.1]))
    assert decision.verdict == Verdict.UNDECIDED
    assert decision.reason == "1 of 3 seeds"
    assert decision.comparison.difference == pytest.approx(0.8)


def test_what_was_not_run_says_so():
    results = made_results(a=[0.9, 0.9, 0.9])
    assert decided(results)[0].verdict == Verdict.NOT_RUN
    other_length = results.assign(epochs=3)
    assert decided(other_length, claim(right=0.5))[0].verdict == Verdict.NOT_RUN


def test_a_smaller_size_is_named():
    results = made_results(a=[0.95, 0.951, 0.949], b=[0.90, 0.902, 0.898])
    (decision,) = decided(results, a="3 epochs of 100", b="3 epochs of 100")
    assert decision.reason == "3 epochs of 100"
    (too_few,) = decided(results[results["seed"] < 2], a="3 epochs of 100", b="2 epochs of 100")
    assert too_few.reason == "2 of 3 seeds; 3 epochs of 100; 2 epochs of 100"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "above 0"),
        ({"margin": 0.01}, "above 1 point"),
        ({"right": 0.99}, "above 0, from 99 %"),
        ({"right": 0.99, "margin": 0.005}, "above 0.5 points, from 99 %"),
        ({"kind": "level", "margin": 0.003}, "within 0.3 points"),
        ({"kind": "level", "margin": 0.01, "right": 0.883}, "within 1 point, from 88.3 %"),
        ({"kind": "level", "margin": 1e-3, "right": 0.0, "left": A | {"metric": "loss_last"}},
         "within 0.001"),
        ({"right": 0.5, "is_single": True, "seeds": 1}, "above 0, from 50 %, in one run"),
        ({"left": A | {"metric": "forgetting"}, "right": B | {"metric": "forgetting"}}, "above 0"),
        ({"kind": "level", "margin": 30.0, "right": 2.5, "unit": "°",
          "left": A | {"metric": "angle"}}, "within 30 °, from 2.5 °"),
    ],
)  # fmt: skip
def test_where_a_claim_holds_is_said_in_words(changes, words):
    assert bound(claim(**changes)) == words


def test_one_run_is_decided_without_an_interval_where_the_sentence_is_of_one():
    one = claim(is_single=True, seeds=1, right=0.5)
    reproduction = Reproduction(paper="p", row=(row("a", seeds=[0]),), claim=(one,))
    (decision,) = decide(reproduction, made_results(a=[0.9]))
    assert decision.verdict == Verdict.HOLDS
    assert math.isnan(decision.comparison.low)


def counted(share_a: float, right: object, **changes: object):
    quantity = A | {"counted_in": "networks"}
    results = made_results(a=[share_a], b=[0.5])
    return decided(results, claim(left=quantity, right=right, **changes), seeds=1)


def test_counts():
    other = B | {"counted_in": "networks"}
    assert counted(0.9, other)[0].verdict == Verdict.HOLDS
    assert counted(0.52, other)[0].verdict == Verdict.UNDECIDED
    assert counted(0.9, 0.8)[0].verdict == Verdict.HOLDS
    assert counted(0.8, 0.8)[0].verdict == Verdict.UNDECIDED
    (all_succeed,) = counted(1.0, 0.9)
    # Wilson's interval of 100 of 100.
    assert all_succeed.comparison.low == pytest.approx(0.9630 - 0.9, abs=1e-4)


@pytest.mark.parametrize("successes", [0, 1, 50, 99, 100])
def test_counts_that_are_level_are_not_called_otherwise(successes):
    quantity = A | {"counted_in": "networks"}
    share = successes / 100
    within = claim(left=quantity, right=min(0.99, max(0.01, share)), kind="level", margin=0.15)
    (decision,) = decided(made_results(a=[share]), within, seeds=1)
    assert decision.verdict == Verdict.HOLDS
    far = claim(left=quantity, right=abs(share - 0.5), kind="level", margin=0.02)
    assert decided(made_results(a=[0.75]), far, seeds=1)[0].verdict == Verdict.DOES_NOT_HOLD


def test_counts_at_the_margin_are_not_decided_falsely():
    generator = np.random.default_rng(2)
    wrong = 0
    for successes in generator.binomial(300, 0.98, 1000):  # 0.95 + 0.03: at the edge
        compared = compare_counts((int(successes), 300), 0.95, Margins(-0.03, 0.03))
        wrong += 2 * min(compared.above_high, compared.below_low) < LEVEL
    assert wrong <= 40  # at most 25 expected


def test_few_trials_decide_nothing():
    few = made_results(a=[1.0], b=[0.0])
    for content in few["metrics"]:
        content["networks"] = 3
    quantity = {"counted_in": "networks"}
    (decision,) = decided(few, claim(left=A | quantity, right=B | quantity), seeds=1)
    assert decision.verdict == Verdict.UNDECIDED
    assert decision.reason == "3 trials, and 30 are needed"


def test_a_seed_without_the_share_is_no_failure():
    results = made_results(a=[0.9, 0.9])
    results["metrics"].iloc[1]["test_accuracy_last"] = None
    counts = claim(left=A | {"counted_in": "networks"}, right=0.5)
    (decision,) = decided(results, counts, seeds=2)
    assert decision.comparison.difference == pytest.approx(0.4)
    assert decision.reason == "1 of 2 seeds"  # nor is the other one enough


def test_counts_wait_for_all_seeds_too():
    counts = claim(left=A | {"counted_in": "networks"}, right=0.5)
    (waits,) = decided(made_results(a=[0.9]), counts, seeds=2)
    assert (waits.verdict, waits.reason) == (Verdict.UNDECIDED, "1 of 2 seeds")
    (decision,) = decided(made_results(a=[0.9, 0.9]), counts, seeds=2)
    assert (decision.verdict, decision.sample) == (Verdict.HOLDS, "200 networks")


def test_what_waits_is_told_by_common_seeds():
    results = made_results(a=[0.95, 0.96], b=[0.90, 0.92, 0.5])
    (decision,) = decided(results)
    assert decision.reason == "2 of 3 seeds"
    assert decision.comparison.difference == pytest.approx(0.045)


@pytest.mark.parametrize(
    ("seeds_of_b", "sample"),
    [([0, 1, 2, 3], "4 and 4, 4 pairs"), ([0, 1, 2], "4 and 3, 3 pairs"),
     ([7, 8, 9], "4 and 3, unpaired"), ([1, 2, 3, 4], "4 and 4, 3 pairs")],
)  # fmt: skip
def test_what_an_interval_rests_on_is_told(seeds_of_b, sample):
    results = made_results(a=[0.95, 0.96, 0.97, 0.96], b=[0.90, 0.92, 0.91, 0.9][: len(seeds_of_b)])
    results.loc[results["experiment"] == "b", "seed"] = seeds_of_b
    rows = (row("a", seeds=[0, 1, 2, 3]), row("b", seeds=seeds_of_b))
    (decision,) = decide(Reproduction(paper="p", row=rows, claim=(claim(),)), results)
    assert decision.sample == sample


@pytest.mark.parametrize("right", [B, 0.9])
def test_seeds_without_spread_decide_nothing(right):
    results = made_results(a=[0.95, 0.95, 0.95], b=[0.90, 0.90, 0.90])
    (decision,) = decided(results, claim(right=right))
    assert decision.verdict == Verdict.UNDECIDED
    assert decision.reason == "no spread between seeds"


@pytest.mark.parametrize("a", [[0.9, math.nan, 0.9], [math.nan] * 3, [math.nan]])
@pytest.mark.parametrize("right", [B, 0.9])
def test_a_run_without_a_number_decides_nothing(a, right):
    (decision,) = decided(made_results(a=a, b=[0.8, 0.81, 0.8]), claim(right=right))
    assert decision.verdict == Verdict.UNDECIDED
    assert decision.reason == "a run gave no number"
    assert measured(decision) == "-"


def test_what_the_first_seeds_alone_say():
    results = made_results(a=[0.95, 0.90, 0.92, *[0.95] * 17], b=[0.93, 0.92, 0.91, *[0.9] * 17])
    seeds = list(range(20))
    rows = (row("a", seeds=seeds), row("b", seeds=seeds))
    reproduction = Reproduction(paper="p", row=rows, claim=(claim(),))
    assert decide(reproduction, results)[0].verdict == Verdict.HOLDS
    (few,) = of_first_seeds(reproduction, results)
    assert (few.verdict, few.seeds) == (Verdict.UNDECIDED, (3, 3))


def test_seeds_that_are_not_declared_do_not_count():
    results = made_results(a=[0.95, 0.951, 0.949, 0.1, 0.1], b=[0.90, 0.902, 0.898])
    (decision,) = decided(results)
    assert decision.seeds == (3, 3)
    assert decision.verdict == Verdict.HOLDS


def test_coin_flips_are_decided_falsely_in_5_percent_at_most():
    generator = np.random.default_rng(0)
    wrong = 0
    for a, b in generator.normal(0.9, 0.01, (1000, 2, 3)):
        compared = compare_values(pd.Series(a), pd.Series(b), Margins(0.0, 0.0))
        wrong += 2 * min(compared.above_high, compared.below_low) < LEVEL
    assert 20 <= wrong <= 60  # 50 expected, with a standard deviation of 7


def test_many_coin_flips_of_one_paper_are_corrected():
    generator = np.random.default_rng(1)
    wrong = 0
    rows = tuple(row(f"r{i}") for i in range(10))
    claims = tuple(
        claim(name=str(i), left=A | {"row": f"r{i}"}, right=0.9, seeds=3) for i in range(10)
    )
    reproduction = Reproduction(paper="p", row=rows, claim=claims)
    for values in generator.normal(0.9, 0.01, (20, 10, 3)):
        results = made_results(**{f"r{i}": list(v) for i, v in enumerate(values)})
        found = decide(reproduction, results)
        wrong += any(decision.verdict != Verdict.UNDECIDED for decision in found)
    assert wrong <= 4  # 1 of 20 expected; without the correction 8


def test_what_the_correction_undoes_says_so():
    results = made_results(a=[0.912, 0.918, 0.908], b=[0.90, 0.90, 0.90])
    alone = decided(results)[0]
    of_many = decided(results, *(claim(name=str(i)) for i in range(9)))[0]
    assert alone.verdict == Verdict.HOLDS
    assert of_many.verdict == Verdict.UNDECIDED
    assert of_many.reason == "alone: holds; not after the correction"


def test_a_true_difference_is_seen_through_the_correction():
    results = made_results(a=[0.95, 0.951, 0.949], b=[0.90, 0.902, 0.898])
    claims = [claim(name=str(i)) for i in range(4)]
    assert {decision.verdict for decision in decided(results, *claims)} == {Verdict.HOLDS}
