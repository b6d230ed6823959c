"""What can be asked for by name, and the runs that it takes.

A job is one seed of one row. Its run lies below runs/, with the checkpoints by which a killed one
goes on; what is kept of it, below results/. Paths are relative to the repository.
"""

import contextlib
import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reproduce.declared import Claim, Figure, Reproduction, Row
from shared.errors import UserError
from shared.run import REPOSITORY, RUNS, read_result

RESULTS = Path("results")
FIGURES = RESULTS / "figures"
ANEW = RUNS / "again"
MOST_SEEDS = 10_000


@dataclass(frozen=True)
class Job:
    """One seed of one row.

    Attributes:
        paper: the folder of the row's script.
        row: as declared.
        seed: of all random draws.
    """

    paper: str
    row: Row
    seed: int

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.row.name}, seed {self.seed}"

    @property
    def _place(self) -> Path:
        return Path(self.paper) / self.row.name / f"seed{self.seed}"

    @property
    def folder(self) -> Path:
        """Where it runs, which is also where its script runs if it is called by hand."""
        return RUNS / self._place

    @property
    def kept(self) -> Path:
        """The result that is kept."""
        return RESULTS / self._place / "result.json"

    @property
    def anew(self) -> Path:
        """Where it runs once more, to compare."""
        return ANEW / self._place

    @property
    def kept_anew(self) -> Path:
        """The result of that."""
        return self.anew.with_suffix(".json")

    @property
    def is_done(self) -> bool:
        """Whether its result is kept.

        Raises:
            UserError: the file is there, but is the result of something else.
        """
        path = REPOSITORY / self.kept
        if not path.exists():
            return False
        self.check(read_result(path), self.kept)
        return True

    def check(self, result: Mapping[str, Any], path: Path) -> None:
        """Refuse a result that is not this job's.

        Args:
            result: content of result.json.
            path: where it lies.

        Raises:
            UserError: it is another experiment's, on other data, or of another length or seed.
        """
        wanted = {
            "experiment": self.row.name,
            "dataset": self.row.dataset,
            "epochs": self.row.epochs,
            "seed": self.seed,
        }
        for key, value in wanted.items():
            if result.get(key) != value:
                raise UserError(
                    f"{path} has {key} {result.get(key)}, but {self.paper}/reproduction.toml says "
                    f"{value}: correct the row there, or move the run away"
                )

    @property
    def done(self) -> int:
        """How far its run below runs/ has come, of the row's length."""
        folder = REPOSITORY / self.folder
        if (folder / "result.json").exists():
            return self.row.length
        metrics = folder / "metrics.jsonl"
        lines = metrics.read_text().splitlines() if metrics.exists() else []
        for line in reversed(lines):
            with contextlib.suppress(json.JSONDecodeError):  # a kill can cut the last line
                return min(int(json.loads(line)["epoch"]), self.row.length)
        return 0

    @property
    def minutes_left(self) -> float:
        """What it takes from where it stands."""
        return self.row.minutes * (1 - self.done / self.row.length)

    @property
    def core_minutes_left(self) -> float:
        """What that takes of all cores together."""
        return self.minutes_left * self.row.cores


@dataclass(frozen=True)
class Wanted:
    """What was asked for.

    Attributes:
        jobs: to be done, each once.
        claims: asked for by name.
        figures: asked for by name.
    """

    jobs: tuple[Job, ...]
    claims: tuple[Claim, ...] = ()
    figures: tuple[Figure, ...] = ()


@dataclass(frozen=True)
class Graph:
    """All that the papers' folders declare, by name.

    Attributes:
        reproductions: what each folder declares.
    """

    reproductions: tuple[Reproduction, ...]

    def row(self, paper: str, name: str) -> Row:
        """A row of a paper.

        Raises:
            UserError: there is none of that name.
        """
        for reproduction in self.reproductions:
            if reproduction.paper == paper and name in reproduction.rows:
                return reproduction.rows[name]
        raise UserError(f"{paper}/reproduction.toml has no row {name}")

    def before(self, job: Job) -> list[Job]:
        """The jobs whose results a job reads, with those that these read, first ones first."""
        found: list[Job] = []
        for name in job.row.after:
            row = self.row(job.paper, name)
            for seed in row.seeds:
                found += [*self.before(one := Job(job.paper, row, seed)), one]
        return found

    def with_those_before(self, jobs: Iterable[Job]) -> list[Job]:
        """Jobs, each behind those that it needs, each once."""
        return list(dict.fromkeys(one for job in jobs for one in (*self.before(job), job)))

    def jobs(self, seeds: Sequence[int] | None = None) -> Iterator[Job]:
        """Every job there is; of other seeds than the declared ones, if they are given."""
        for reproduction in self.reproductions:
            for row in reproduction.row:
                for seed in seeds or row.seeds:
                    yield Job(reproduction.paper, row, seed)

    def jobs_of_claim(self, name: str, seeds: Sequence[int] | None = None) -> list[Job]:
        """The jobs that a claim compares."""
        paper, claim = self._claims()[name]
        rows = {side.row for side in claim.sides}
        return [job for job in self.jobs(seeds) if job.paper == paper and job.row.name in rows]

    def jobs_of_figure(self, name: str, seeds: Sequence[int] | None = None) -> list[Job]:
        """The jobs of a figure's curves; a curve that no row makes has none.

        Raises:
            UserError: there is no such figure.
        """
        if name not in self._figures():
            raise UserError(f"no reproduction.toml has a figure {name}")
        paper, figure = self._figures()[name]
        rows = set(figure.curves.values())
        return [
            job
            for job in self.jobs(seeds)
            if job.paper == paper and job.row.name in rows and job.row.dataset == figure.dataset
        ]

    def _claims(self) -> dict[str, tuple[str, Claim]]:
        return {claim.name: (r.paper, claim) for r in self.reproductions for claim in r.claim}

    def _figures(self) -> dict[str, tuple[str, Figure]]:
        return {figure.name: (r.paper, figure) for r in self.reproductions for figure in r.figure}

    def select(self, names: Iterable[str], seeds: Sequence[int] | None = None) -> Wanted:
        """What names stand for: rows, papers (all rows), claim:NAME and figure:NAME.

        Args:
            names: as they are written on the command line.
            seeds: in place of the declared ones.

        Raises:
            UserError: a name stands for nothing; the nearest one that does is named.
        """
        jobs: list[Job] = []
        claims: list[Claim] = []
        figures: list[Figure] = []
        for name in names:
            kind, colon, inner = name.partition(":")
            if colon and kind == "claim" and inner in self._claims():
                claims.append(self._claims()[inner][1])
                jobs += self.jobs_of_claim(inner, seeds)
            elif colon and kind == "figure" and inner in self._figures():
                figures.append(self._figures()[inner][1])
                jobs += self.jobs_of_figure(inner, seeds)
            else:
                found = [job for job in self.jobs(seeds) if name in (job.row.name, job.paper)]
                jobs += found or self._refuse(name)
        return Wanted(tuple(dict.fromkeys(jobs)), tuple(claims), tuple(figures))

    def _refuse(self, name: str) -> list[Job]:
        known = [
            *dict.fromkeys(word for job in self.jobs() for word in (job.paper, job.row.name)),
            *(f"claim:{claim}" for claim in self._claims()),
            *(f"figure:{figure}" for figure in self._figures()),
        ]
        near = difflib.get_close_matches(name, known, 1, 0.4)
        advice = f"did you mean {near[0]}?" if near else "--list shows all names"
        raise UserError(f"there is no row, paper, claim: or figure: {name}; {advice}")


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds as people write them: 3, 0-9, or 0,2,5-7.

    Raises:
        UserError: they are not written so, or are more than `MOST_SEEDS`.
    """
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first or len(seeds) + last - first >= MOST_SEEDS:
            raise UserError(f"--seeds {text} must look like 3, 0-9 or 0,2,5-7")
        seeds += range(first, last + 1)
    return tuple(dict.fromkeys(seeds))
