"""Rows, claims and figures, as `<paper>/reproduction.toml` declares them.

A row is a script with its options: what has to be run. A claim is a sentence of the paper that
numbers of rows can decide. A figure shows several experiments beside each other.
docs/extending.md has an example of a row and a claim, `Figure` one of a figure.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shared.errors import UserError
from shared.run import REPOSITORY

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
# Names are parts of files' names and words of commands.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$")]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class _Declared(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class Row(_Declared):
    """What is run: one script with its options, once per seed.

    Attributes:
        name: of the experiment, as result.json has it.
        script: below the paper's folder.
        options: of the script, without --seed.
        seeds: that the row should have.
        dataset: as result.json names it.
        epochs: of a run of this row.
        logged: what a whole run counts in metrics.jsonl, where that is not its epochs but parts:
            the tasks of a course, the trials of a search.
        size: what is smaller or shorter than in the paper, in words; empty if nothing is.
        minutes: that one seed takes on its cores of the machine that the results name.
        is_measured: whether these minutes are from a run, or an estimate.
        gpu_minutes: that one seed takes on a GPU; None where nobody can tell.
        is_gpu_measured: whether these minutes are from a run, or an estimate.
        cores: that one seed is given, one thread each.
        memory_mb: that one seed needs at most.
        gpu_slots: of a GPU's slots those that one seed takes, where a GPU is shared.
        tolerance: by which a metric that is computed again may differ from the stored one, on any
            machine. If it is not stated, nothing may differ on a machine of the same kind, and on
            another one everything may.
        unsteady: metrics that differ from run to run, such as times; not compared.
        after: rows of the same folder whose results it reads, and which are therefore made first.
    """

    name: Name
    script: str
    options: tuple[str, ...] = ()
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0, 1, 2)
    dataset: str
    epochs: Count
    logged: Count | None = None
    size: str = ""
    minutes: Positive
    is_measured: bool = True
    gpu_minutes: Positive | None = None
    is_gpu_measured: bool = True
    cores: Count = 1
    memory_mb: Count = 2500
    gpu_slots: Count = 1
    tolerance: Annotated[float, Field(ge=0)] | None = None
    unsteady: tuple[str, ...] = ()
    after: tuple[Name, ...] = ()

    @property
    def length(self) -> int:
        """Where the count in metrics.jsonl ends."""
        return self.epochs if self.logged is None else self.logged

    @property
    def counted(self) -> str:
        """What metrics.jsonl counts, in a word."""
        return "epoch" if self.logged is None else "part"

    def on_gpu(self) -> "Row":
        """The row with what it takes on a GPU for its minutes; as it is, where nobody can tell."""
        if self.gpu_minutes is None:
            return self
        on_gpu = {"minutes": self.gpu_minutes, "is_measured": self.is_gpu_measured}
        return self.model_copy(update=on_gpu)


class Quantity(_Declared):
    """A metric of a row's runs.

    Attributes:
        row: name of the row.
        metric: of result.json.
        counted_in: the metric that holds the number of trials, if this one is the share of
            those that succeeded.
    """

    row: str
    metric: str
    counted_in: str | None = None


class Claim(_Declared):
    """A sentence that numbers can decide.

    `above` says that left exceeds right by more than the margin; `level` that they differ by less
    than the margin.

    Attributes:
        name: for commands.
        says: the sentence.
        where: who says so, and where.
        link: where that can be read, such as a DOI's address.
        kind: what is compared, see above.
        left: the metric that the sentence is about.
        right: another metric, or a number: a published one.
        margin: in the unit of the metrics.
        seeds: fewest runs of each side that may decide it; all that its rows declare must be there.
        is_single: the sentence is about one run, such as the figure of one seed: no interval.
        unit: of the metrics, where they are no shares.
        published: what the paper gives, in words.
        front: whether README.md shows it.
        seen: whether it was written, or got its bound or its rows, when runs of every side that it
            compares had been seen.
    """

    name: Name
    says: str
    where: str
    link: Annotated[str, Field(pattern=r"^(https://[^\s()|]+)?$")] = ""
    kind: Literal["above", "level"]
    left: Quantity
    right: Quantity | float
    margin: Annotated[float, Field(ge=0)] = 0.0
    seeds: Count = 3
    is_single: bool = False
    unit: str = ""
    published: str = ""
    front: bool = False
    seen: bool = False

    @property
    def sides(self) -> tuple[Quantity, ...]:
        """What is compared, without a number."""
        return (self.left, self.right) if isinstance(self.right, Quantity) else (self.left,)

    @property
    def source(self) -> str:
        """Who says so, and whether the claim came after a look at its runs."""
        return f"{self.where} (after a look)" if self.seen else self.where

    @model_validator(mode="after")
    def _check_decidable(self) -> "Claim":
        if self.kind == "level" and self.margin == 0:
            raise ValueError("level needs a margin above 0: nothing is ever exactly level")
        if len({side.counted_in is None for side in self.sides}) > 1:
            raise ValueError("counted_in is needed on both sides, or on none")
        if self.seeds == 1 and not self.is_single and self.left.counted_in is None:
            raise ValueError("one seed decides nothing: two at least, or is_single, or counted_in")
        return self


class Figure(_Declared):
    """A metric over epochs of several experiments, a curve each.

        [[figure]]
        name = "sl_mnist"
        title = "MNIST, 784-800-10"
        dataset = "mnist"
        [figure.curves]
        shifting = "sl_mnist"
        exact = "sl_mnist_exact"
        "shifting, published settings" = "sl_mnist_published_ties-event"

    Attributes:
        name: of the file in results/figures.
        title: in words.
        dataset: as result.json names it.
        curves: experiments, as result.json names them, by the words for them. The words before a
            comma are the rule, which gives the color: "BRP, 30 steps".
        column: of metrics.jsonl.
        label: of the axis, with its unit.
        factor: of the numbers; 100 makes percent of shares.
        scale: of their axis; logarithmic for errors that differ in their orders of size.
    """

    name: Name
    title: str
    dataset: str
    curves: Annotated[dict[str, str], Field(min_length=2)]
    column: str = "test_accuracy"
    label: str = "test accuracy (%)"
    factor: Positive = 100
    scale: Literal["linear", "log"] = "linear"

    @model_validator(mode="after")
    def _check_curves(self) -> "Figure":
        if len(set(self.curves.values())) < len(self.curves):
            raise ValueError(f"figure {self.name} shows one experiment by two names")
        return self


class Reproduction(_Declared):
    """All that a paper's folder declares.

    Attributes:
        paper: the folder's name.
        row: what is run.
        claim: in the order of the paper.
        figure: of several experiments.
    """

    paper: str
    row: tuple[Row, ...]
    claim: tuple[Claim, ...] = ()
    figure: tuple[Figure, ...] = ()

    @property
    def rows(self) -> dict[str, Row]:
        """The rows by name."""
        return {row.name: row for row in self.row}

    def on_gpu(self) -> "Reproduction":
        """The same where there is a GPU."""
        return self.model_copy(update={"row": tuple(row.on_gpu() for row in self.row)})

    @model_validator(mode="after")
    def _check_names(self) -> "Reproduction":
        for kind, names in (
            ("row", [row.name for row in self.row]),
            ("claim", [claim.name for claim in self.claim]),
            ("figure", [figure.name for figure in self.figure]),
        ):
            for name in names:
                if names.count(name) > 1:
                    raise ValueError(f"two {kind}s are called {name}")
        self._check_order()
        for claim in self.claim:
            for side in claim.sides:
                if claim.is_single and side.row in self.rows and len(self.rows[side.row].seeds) > 1:
                    raise ValueError(f"claim {claim.name} is of one run, but {side.row} has more")
                if side.row not in self.rows:
                    raise ValueError(
                        f"claim {claim.name} needs a row {side.row}, which is not here"
                    )
        return self

    def _check_order(self) -> None:
        """Refuse rows that come after rows that are not here, or in the end after themselves."""
        for row in self.row:
            before = list(row.after)
            for name in before:  # which grows
                if name not in self.rows:
                    raise ValueError(f"row {row.name} comes after {name}, which is not here")
                if name == row.name:
                    raise ValueError(f"row {row.name} comes after itself")
                before += [other for other in self.rows[name].after if other not in before]


def read(path: Path) -> Reproduction:
    """What one file declares; its folder is the paper.

    Raises:
        UserError: it cannot be read, or does not say what it must.
    """
    try:
        content = tomllib.loads(path.read_text())
        return Reproduction.model_validate({"paper": path.parent.name, **content})
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error})") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError(f"{path}: {place or 'as a whole'}: {first['msg']}") from error


def read_all(repository: Path = REPOSITORY, *, has_gpu: bool = False) -> tuple[Reproduction, ...]:
    """What all folders of a repository declare, by the folders' names.

    Args:
        repository: whose folders.
        has_gpu: rows that say what they take on a GPU take that.

    Raises:
        UserError: as in `read`; or no folder declares anything; or two declare one name.
    """
    paths = sorted(repository.glob("*/reproduction.toml"))
    if not paths:
        raise UserError(f"no folder of {repository} has a reproduction.toml")
    found = tuple(map(read, paths))
    for kind in ("row", "claim", "figure"):
        owners: dict[str, str] = {}
        for reproduction in found:
            for each in getattr(reproduction, kind):
                if (
                    owner := owners.setdefault(each.name, reproduction.paper)
                ) != reproduction.paper:
                    raise UserError(
                        f"{owner} and {reproduction.paper} both declare a {kind} {each.name}"
                    )
    return tuple(each.on_gpu() for each in found) if has_gpu else found
