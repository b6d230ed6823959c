"""How much of every row, claim and figure is there, and what the rest costs."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from reproduce.declared import Reproduction, Row
from reproduce.graph import FIGURES, Graph, Job
from reproduce.verdicts import decide, runs_of
from reproduce.words import cost, counted, of_machine
from shared.report import load_results
from shared.run import REPOSITORY

# What `load_results` gives where there is no run yet.
NO_RESULTS = pd.DataFrame(columns=["experiment", "dataset", "epochs", "seed", "metrics"])


def stored_results(folder: Path = REPOSITORY / "results") -> pd.DataFrame:
    """All kept results; none where there are none."""
    return load_results(folder) if any(folder.rglob("seed*/result.json")) else NO_RESULTS


def missing_of(row: Row, results: pd.DataFrame) -> list[int]:
    """The declared seeds of a row that have no kept run."""
    there = set(runs_of(row, results)["seed"])
    return [seed for seed in row.seeds if seed not in there]


def missing_jobs(jobs: Iterable[Job], results: pd.DataFrame) -> list[Job]:
    """Those of jobs that have no kept run."""
    return [job for job in jobs if job.seed in missing_of(job.row, results)]


def state(paper: str, row: Row, results: pd.DataFrame) -> str:
    """How much of a row is there, how far runs below runs/ have come, and what the rest costs."""
    missing = [Job(paper, row, seed) for seed in missing_of(row, results)]
    done = len(row.seeds) - len(missing)
    if not missing:
        return f"done, {counted(done, 'seed')}"
    words = [f"{done} of {len(row.seeds)} seeds done"] if done else []
    for job in missing:
        if job.done:
            at = f"{row.counted} {job.done} of {row.length}"
            words.append(f"seed {job.seed} at {at} ({100 * job.done // row.length} %)")
    waiting = [str(job.seed) for job in missing if not job.done]
    words += [f"missing seeds {', '.join(waiting)}"] if waiting else []
    estimate = "" if row.is_measured else " (estimate)"
    return f"{'; '.join(words)}: {cost(sum(job.minutes_left for job in missing))}{estimate}"


def listing(
    reproductions: Sequence[Reproduction], results: pd.DataFrame, *, has_gpu: bool = False
) -> str:
    """Every row, claim and figure with its state and cost, and the total.

    Args:
        reproductions: what is declared.
        results: that are kept.
        has_gpu: what is declared was read for a GPU.
    """
    graph = Graph(tuple(reproductions))

    def rest(jobs: Iterable[Job]) -> str:
        missing = missing_jobs(jobs, results)
        return f"needs {cost(sum(job.minutes_left for job in missing))}" if missing else ""

    lines = []
    for reproduction in reproductions:
        lines.append(reproduction.paper)
        for row in reproduction.row:
            found = state(reproduction.paper, row, results)
            lines.append(f"  {row.name:52} {row.dataset:12} {found}")
        for decision in decide(reproduction, results):
            name = decision.claim.name
            words = f"{decision.verdict.value:14} {rest(graph.jobs_of_claim(name))}"
            lines.append(f"  {f'claim:{name}':52} {words}".rstrip())
        for figure in reproduction.figure:
            found = "drawn" if (REPOSITORY / FIGURES / f"{figure.name}.png").exists() else "missing"
            words = f"{found:14} {rest(graph.jobs_of_figure(figure.name))}".rstrip()
            if rowless := set(figure.curves.values()) - set(reproduction.rows):
                words += (
                    f" ({len(rowless)} of {counted(len(figure.curves), 'curve')} without a row)"
                )
            lines.append(f"  {f'figure:{figure.name}':52} {words}")
    missing = missing_jobs(graph.jobs(), results)
    measured = cost(sum(job.core_minutes_left for job in missing if job.row.is_measured))
    estimated = cost(sum(job.core_minutes_left for job in missing if not job.row.is_measured))
    lines.append(
        f"missing: {counted(len(missing), 'run')}, {measured} by measured rows and {estimated} by "
        f"estimates, {of_machine(has_gpu)}"
    )
    return "\n".join(lines)
