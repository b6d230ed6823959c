"""Which runs decide most claims in the time there is."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from reproduce.declared import Claim, Reproduction
from reproduce.graph import Job
from reproduce.states import missing_of
from reproduce.verdicts import Verdict, decide


class Need(NamedTuple):
    """A claim that is not decided, and the runs that it waits for.

    Attributes:
        claim: what is claimed.
        jobs: runs of its rows that are declared and not there.
    """

    claim: Claim
    jobs: tuple[Job, ...]


def needs(reproduction: Reproduction, results: pd.DataFrame) -> list[Need]:
    """What a paper's claims wait for; those that wait for nothing are left out."""
    open_claims = [
        decision.claim
        for decision in decide(reproduction, results)
        if decision.verdict in (Verdict.NOT_RUN, Verdict.UNDECIDED)
    ]
    found = []
    for claim in open_claims:
        rows = [reproduction.rows[name] for name in dict.fromkeys(s.row for s in claim.sides)]
        jobs = [
            Job(reproduction.paper, row, seed) for row in rows for seed in missing_of(row, results)
        ]
        if jobs:
            found.append(Need(claim, tuple(jobs)))
    return found


def choose(
    waiting: Sequence[Need],
    hours: float,
    cores: int,
    allowed: Collection[Job] | None = None,
    slots: int | None = None,
) -> list[Need]:
    """The claims that can be decided in a time: as many as can be, of those the cheapest.

    Args:
        waiting: claims with what they wait for.
        hours: that there are.
        cores: that compute in them.
        allowed: the only jobs that may be done; None: all.
        slots: of GPUs, of which every job takes some; None: there is no GPU.

    Returns:
        The claims, and for each its jobs.
    """
    waiting = [
        need
        for need in waiting
        if all(job.minutes_left <= 60 * hours for job in need.jobs)
        and (allowed is None or set(need.jobs) <= set(allowed))
        and (slots is None or all(job.row.gpu_slots <= slots for job in need.jobs))
    ]
    jobs = list(dict.fromkeys(job for need in waiting for job in need.jobs))
    if not jobs:
        return []
    # A variable for every claim, then one for every job; a claim is decided by all of its jobs.
    costs = np.array([job.core_minutes_left for job in jobs])
    pairs = [(n, jobs.index(job)) for n, need in enumerate(waiting) for job in need.jobs]
    columns = np.array([(n, len(waiting) + k) for n, k in pairs]).ravel()
    lines = np.repeat(np.arange(len(pairs)), 2)
    signs = np.tile([1.0, -1.0], len(pairs))
    size = len(waiting) + len(jobs)
    needed = coo_array((signs, (lines, columns)), shape=(len(pairs), size))
    spent = np.concatenate([np.zeros(len(waiting)), costs])
    limits = [LinearConstraint(spent[None], ub=60 * hours * cores)]
    if slots is not None:
        taken = [job.minutes_left * job.row.gpu_slots for job in jobs]
        on_gpu = np.concatenate([np.zeros(len(waiting)), taken])
        limits.append(LinearConstraint(on_gpu[None], ub=60 * hours * slots))
    # Less than one claim for all jobs together: time decides only between equally many claims.
    worth = np.concatenate([-np.ones(len(waiting)), costs / (1 + 2 * costs.sum())])
    solved = milp(
        worth,
        integrality=np.ones(size),
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint(needed.tocsr(), ub=0), *limits],
    )
    return [need for need, x in zip(waiting, solved.x, strict=False) if x > 0.5]
