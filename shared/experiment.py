"""One experiment: its settings on the command line, its name, its run.

A program declares its settings as a frozen dataclass; the command line is made from it:

    @dataclass(frozen=True)
    class Settings(experiment.Settings):
        epochs: Annotated[Positive[int], paper(100)] = 20
        \"\"\"Passes over the training set.\"\"\"

A field's type gives the words or numbers that an option takes, `Positive`, `NonNegative`, `Share`
and other bounds of `annotated_types` what they must lie in, its docstring the help, `paper` the
paper's value, and `Named` how the setting enters the experiment's name. An `Experiment` says what
else belongs to the program; its training loop stays in the program, in sight.
"""

import contextlib
import dataclasses
import io
import math
import operator
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Generic, Protocol, TypeVar, get_type_hints

import annotated_types
import tyro

from shared import parallel
from shared.device import prepare
from shared.errors import UserError
from shared.run import NOT_COMPARED, RUNS, Follower, Run, print_table, stored_options

T = TypeVar("T")

Positive = Annotated[T, annotated_types.Gt(0)]
"""Above 0."""
NonNegative = Annotated[T, annotated_types.Ge(0)]
"""0 or above."""
Share = Annotated[float, annotated_types.Ge(0), annotated_types.Lt(1)]
"""A part of a whole that is never all of it."""


# ---------------------------------------------------------------------------- what a field says


@dataclass(frozen=True)
class Paper:
    """The paper's value of a setting, shown behind its default; made by `paper`."""

    value: Any

    def __call__(self, default: str) -> str:
        """What --help says behind the setting's description."""
        return f"(default: {default}, paper: {_shown(self.value)})"


def paper(value: Any) -> object:
    """State the paper's value of a setting, in `Annotated`."""
    return tyro.conf.arg(help_behavior_hint=Paper(value))


def spelled(name: str, *others: str) -> object:
    """Give an option its published spelling, in `Annotated`.

    Args:
        name: without hyphens in front, such as randKill.
        others: spellings besides, with their hyphens, such as -data.
    """
    return tyro.conf.arg(name=name, aliases=others or None)


@dataclass(frozen=True)
class Named:
    """How a setting that differs from its default enters the experiment's name, in `Annotated`.

    Attributes:
        form: with "{}" for the value, such as T{}; None where the name keeps silent. A setting that
            says nothing enters as its field's name and its value, lr-0.01. A switch enters by its
            word alone, its field's name or the form, with "no-" in front of it where it is off.
    """

    form: str | None


UNNAMED = Named(None)
"""A setting that never enters the name."""


def _shown(value: Any) -> str:
    return " ".join(map(_shown, value)) if isinstance(value, list | tuple) else str(value)


# --------------------------------------------------------------------------------- settings


@dataclass(frozen=True)
class Settings:
    """The options that every program has; base class of a program's settings."""

    seed: Annotated[int, UNNAMED] = 0
    """Seed of all random draws."""
    device: Annotated[str, UNNAMED] = "auto"
    """auto, cuda, cuda:N, mps or cpu; auto takes the first of these that is there."""
    data_root: Annotated[Path | None, UNNAMED] = None
    """Folder of the data sets; without it the environment variable SNN_DATA, else datasets/."""
    out: Annotated[Path | None, UNNAMED] = None
    """Folder of the run; without it runs/<paper>/<experiment>/seed<seed>."""
    resume: Annotated[bool, UNNAMED] = True
    """Go on from the checkpoint in --out, if any; --no-resume starts anew and replaces what the
    folder holds."""
    quick: Annotated[bool, UNNAMED] = False
    """Every step of the real path on little data, in under a minute; its numbers mean nothing."""
    threads: Annotated[Positive[int] | None, UNNAMED] = None
    """CPU threads; without it all cores."""
    deterministic: Annotated[bool, UNNAMED] = False
    """Deterministic algorithms only: the same seed gives the same bytes on one machine."""
    tensorboard: Annotated[bool, UNNAMED] = False
    """Write the metrics for TensorBoard too (needs the extra `tensorboard`)."""
    pdf: Annotated[bool, UNNAMED] = False
    """Draw figures as PDF, too."""

    def check(self) -> None:
        """Refuse settings that cannot be together; bounds of single ones are in their types.

        Raises:
            UserError: they cannot.
        """


S = TypeVar("S", bound=Settings)
C = TypeVar("C")


def _hints(kind: type) -> Mapping[str, tuple[Any, ...]]:
    """What the fields of a class say besides their types, by the field's name."""
    hints = get_type_hints(kind, include_extras=True)
    return {each.name: tuple(_extras(hints[each.name])) for each in dataclasses.fields(kind)}


def _extras(hint: Any) -> Iterator[Any]:
    """All that stands in a type's `Annotated`, those of a union's or a tuple's types, too."""
    yield from getattr(hint, "__metadata__", ())
    for inner in getattr(hint, "__args__", ()):
        yield from _extras(inner)


def option(kind: type, name: str) -> str:
    """The option of a field, as it is written on the command line."""
    return f"--{_spelling(name.replace('_', '-'), _hints(kind)[name])}"


def _spelling(name: str, extras: Sequence[Any]) -> str:
    """A setting's published spelling, if it has one, else its name."""
    return next((extra.name for extra in extras if getattr(extra, "name", None)), name)


def paper_values(kind: type) -> dict[str, Any]:
    """The paper's values that the fields of a class state, by the field's name."""
    hints = (
        (name, getattr(extra, "help_behavior_hint", None))
        for name, extras in _hints(kind).items()
        for extra in extras
    )
    return {name: hint.value for name, hint in hints if isinstance(hint, Paper)}


def as_published(settings: S) -> S:
    """The settings with the paper's value wherever their class states one."""
    return dataclasses.replace(settings, **paper_values(type(settings)))


def check_bounds(settings: Any) -> None:
    """Refuse numbers outside of what their fields' types allow.

    Args:
        settings: an object of a dataclass.

    Raises:
        UserError: one is, or is not finite.
    """
    for name, extras in _hints(type(settings)).items():
        value = getattr(settings, name)
        values = value if isinstance(value, list | tuple) else (value,)
        for number in values:
            if isinstance(number, int | float) and not isinstance(number, bool):
                _check_number(option(type(settings), name), number, extras)


_BOUNDS: tuple[tuple[str, Callable[[Any, Any], bool], str], ...] = (
    ("gt", operator.gt, "above {}"),
    ("ge", operator.ge, "{} or above"),
    ("lt", operator.lt, "below {}"),
    ("le", operator.le, "{} or below"),
)


def _check_number(name: str, number: float, extras: Sequence[Any]) -> None:
    bounds = [
        (holds(number, getattr(extra, key)), words.format(getattr(extra, key)))
        for key, holds, words in _BOUNDS
        for extra in extras
        if hasattr(extra, key)
    ]
    bounds += [(False, "finite")] if not math.isfinite(number) else []
    if not all(inside for inside, _ in bounds):
        words = " and ".join(word for _, word in bounds)
        raise UserError(f"{name} {number} must be {words}")


# ----------------------------------------------------------------------------- command line


def parse(
    kind: type[C],
    description: str | None,
    argv: Sequence[str] | None = None,
    *,
    defaults: Callable[[C], C] | None = None,
    shorthands: Mapping[str, Sequence[str]] | None = None,
) -> C:
    """Read a command line into a dataclass.

    Args:
        kind: the dataclass; every field has a default.
        description: the script's docstring, for --help.
        argv: words in place of the command line's.
        defaults: gives the settings whose values options that were not given take, from what was
            read with the class's own; such as those of a preset or of a data set that is named.
        shorthands: words that stand for others, such as -gpu for --device cuda. A key of two words
            is an option with that value; a value of N is any number, and is put in for N.

    Returns:
        The settings, numbers within their bounds.

    Raises:
        UserError: the words are no such command line, or two of them contradict each other.
    """
    _check_shorthands(sys.argv[1:] if argv is None else argv, shorthands or {})
    words = _spelled_out(sys.argv[1:] if argv is None else argv, shorthands or {})
    description = _described(description, shorthands or {})
    asked = [word for word in words if word not in ("-h", "--help")]
    base = kind()
    if defaults is not None:
        base = defaults(_read(kind, description, asked, base))
    settings = _read(kind, description, words, base)
    check_bounds(settings)
    if isinstance(settings, Settings):
        settings.check()
    return settings


def _check_shorthands(words: Sequence[str], shorthands: Mapping[str, Sequence[str]]) -> None:
    """Refuse a shorthand beside another value of its option, or beside another shorthand of it."""
    apart = [part for word in words for part in word.split("=", 1)]  # --lr=2 is --lr 2
    given = [(name, value, f"{name} {value}") for name, value in pairwise(apart)]
    short = [(*shorthands[word], word) for word in words if len(shorthands.get(word, ())) == 2]
    for name, value, word in short:
        for other, another, said in (*given, *short):
            if other == name and another != value:
                raise UserError(f"{said} contradicts {word}: give one of them")


def _spelled_out(words: Sequence[str], shorthands: Mapping[str, Sequence[str]]) -> list[str]:
    found: list[str] = []
    rest = list(words)
    while rest:
        option, value = rest[0], "".join(rest[1:2])
        pair = f"{option} {value}"
        any_number = f"{option} N"
        if pair not in shorthands and value.isdigit() and any_number in shorthands:
            found += [word.replace("N", value) for word in shorthands[any_number]]
            rest = rest[2:]
        else:
            found += shorthands.get(pair, shorthands.get(option, [option]))
            rest = rest[2 if pair in shorthands else 1 :]
    return found


def _described(description: str | None, shorthands: Mapping[str, Sequence[str]]) -> str:
    lines = [f"    {short:20}{' '.join(words)}" for short, words in shorthands.items()]
    short = ["", "Other spellings:", "", *lines] if lines else []
    return "\n".join([(description or "").strip(), *short])


def _read(kind: type[C], description: str, words: Sequence[str], default: C) -> C:
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(kind, description=description, args=words, default=default)
    except SystemExit as ended:
        if not ended.code:
            raise
        raise UserError(_sentence(complaint.getvalue())) from None


def _sentence(box: str) -> str:
    """The complaint that a frame of tyro's holds: what stands between its title and a rule."""
    lines = [line.strip().strip("│|").strip() for line in box.splitlines()[1:]]
    is_rule = [not line.strip("─-╰╯+") for line in lines]
    while is_rule and is_rule[0]:  # where a terminal has no frames, one stands below the title
        del lines[0], is_rule[0]
    end = is_rule.index(True) if True in is_rule else len(lines)
    meant = next((b.split()[0] for a, b in pairwise(lines) if a.startswith("Perhaps you mean")), "")
    advice = f"did you mean {meant}?" if meant else "--help lists the options"
    return f"{' '.join(' '.join(lines[:end]).split()).rstrip('.')}; {advice}"


# ------------------------------------------------------------------------------- experiment


class Loaded(Protocol):
    """What an experiment must know of its data."""

    @property
    def name(self) -> str:
        """What was really loaded, which can be a stand-in."""

    @property
    def fingerprint(self) -> Mapping[str, Any] | None:
        """Name, number of samples and checksum; None where the seed makes the data."""


@dataclass(frozen=True)
class Made:
    """Data that a program makes of its seed: there is a name and nothing to compare."""

    name: str
    fingerprint: None = None


D = TypeVar("D", bound=Loaded)


def _nothing(settings: Any, data: str) -> None:
    return None


@dataclass(frozen=True)
class Experiment(Generic[S, D]):
    """A program: what its settings are, what it loads, how its runs are called.

    Attributes:
        paper: the paper's folder.
        description: the script's docstring, for --help.
        settings: class of the settings.
        load: the data that the settings ask for; told the device.
        session: how an experiment's name begins, from the settings and the data that were loaded,
            such as sl_mnist.
        defaults: see `parse`; also says what the settings are compared with for the name.
        published: the paper's numbers by metric for these settings and the data that were loaded;
            None where it has none.
        grows: whether a run of some epochs is the beginning of a longer one, by its settings.
        shorthands: see `parse`.
        prepare: sets the machine up and returns the device; None is `shared.device.prepare`.
        shares_batches: under torchrun its processes train one network, see `shared.parallel`.
    """

    paper: str
    description: str | None
    settings: type[S]
    load: Callable[[S, Any], D]
    session: Callable[[S, str], str]
    defaults: Callable[[S], S] | None = None
    published: Callable[[S, str], Mapping[str, float] | None] = _nothing
    grows: Callable[[S], bool] = lambda settings: True
    shorthands: Mapping[str, Sequence[str]] = field(default_factory=dict)
    prepare: Callable[[S], Any] | None = None
    shares_batches: bool = False

    def parse(self, argv: Sequence[str] | None = None) -> S:
        """The settings of the command line, or of other words; raises as `parse`.

        With the command line's own, the processes that torchrun started come together.

        Raises:
            UserError: there are several, and this program's cannot share batches.
        """
        if argv is None:
            parallel.join()
            if parallel.processes() > 1 and not self.shares_batches:
                raise UserError("this program trains in one process: start it without torchrun")
        return parse(
            self.settings,
            self.description,
            argv,
            defaults=self.defaults,
            shorthands=self.shorthands,
        )

    def saved(self, folder: Path) -> S:
        """The settings of the run that a folder holds, to load its network by.

        Raises:
            UserError: the folder holds no run of this program.
        """
        options = stored_options(folder)
        hints = get_type_hints(self.settings)
        unknown = set(options) - set(hints)
        if unknown:
            names = ", ".join(sorted(unknown))
            raise UserError(f"{folder} holds a run of another program: nothing here has {names}")
        return self.settings(**{name: _typed(hints[name], options[name]) for name in options})

    def check_same(self, asked: S, folder: Path) -> None:
        """Refuse options that the run of a folder was not made with; its length may be another.

        Raises:
            UserError: one is another; or the folder holds no run of this program.
        """
        then = self.saved(folder)
        for name in stored_options(folder):
            before, now = getattr(then, name), getattr(asked, name)
            if name not in (*NOT_COMPARED, "epochs", "deterministic") and before != now:
                raise UserError(
                    f"{folder} holds a run with --{name.replace('_', '-')} {_shown(before)}, not "
                    f"{_shown(now)}: give the options that it was trained with"
                )

    def device(self, settings: S) -> Any:
        """Set up device, seed, threads and determinism."""
        if self.prepare is not None:
            return self.prepare(settings)
        device = parallel.own_device(settings.device)
        return prepare(device, settings.seed, settings.threads, settings.deterministic)

    def name(self, settings: S, data: str) -> str:
        """The experiment's name: how it begins, and what differs from the defaults.

        Args:
            settings: of the run.
            data: name of the data that were loaded.

        Returns:
            Such as sl_mnist, sl_mnist_published_ties-event or brp_mnist_FA_3-epochs.
        """
        base = self.settings()
        if self.defaults is not None:
            base = self.defaults(settings)
        words = [self.session(settings, data)]
        length: list[str] = []
        for name, extras in _hints(type(settings)).items():
            value = getattr(settings, name)
            if value != getattr(base, name):
                found = length if name == "epochs" else words
                found += _words(name, value, extras)
        return "_".join([*words, *length, *(["quick"] if settings.quick else [])])

    def folder(self, settings: S, data: str) -> Path:
        """The run's folder: --out, else a default one below runs/."""
        default = RUNS / self.paper / self.name(settings, data) / f"seed{settings.seed}"
        return settings.out or default

    def main(self, work: Callable[[S, D, Any, Run], None]) -> None:
        """Read the command line and run, see `run`."""
        self.run(self.parse(), work)

    def run(self, settings: S, work: Callable[[S, D, Any, Run], None]) -> None:
        """Do a run's work in its folder, or show the result where it has been done already.

        Args:
            settings: of the run.
            work: trains and tests with settings, data and device, and finishes the run it is given.
                Of several processes those but the first are given a `Follower`.

        Raises:
            UserError: the data cannot be had, the folder cannot be used as asked, or another
                process of the run has ended or was asked for something else.
        """
        with parallel.together():
            self._run(settings, work)

    def _run(self, settings: S, work: Callable[[S, D, Any, Run], None]) -> None:
        device = self.device(settings)
        data = parallel.in_turn(lambda: self.load(settings, device))
        name = self.name(settings, data.name)
        mine = name, settings.seed, data.fingerprint
        if parallel.of_first(lambda: mine) != mine:
            raise UserError(
                "processes of this run have different options or data: give the same command and "
                "the same data sets on every machine"
            )
        folder = self.folder(settings, data.name)
        kind = Run if parallel.is_first() else Follower
        with kind(
            folder,
            dataclasses.asdict(settings),
            device,
            data.fingerprint,
            experiment=name,
            paper=self.paper,
            dataset=data.name,
            published=None if settings.quick else self.published(settings, data.name),
            grows=self.grows(settings),
        ) as run:
            finished = run.finished  # others than the first wait until it has made the folder ready
            if finished is None:
                work(settings, data, device, run)
            else:
                print_table(finished)
                print(f"\nalready in {folder}; --no-resume computes it anew")


def _typed(hint: Any, value: Any) -> Any:
    """A value as JSON has it, as a field of that type has it."""
    if isinstance(value, list):
        return tuple(value)
    takes_path = hint is Path or Path in getattr(hint, "__args__", ())
    return Path(value) if takes_path and value is not None else value


def _words(name: str, value: Any, extras: Sequence[Any]) -> list[str]:
    """How a setting that differs from its default enters a name; no word or one."""
    form = next((extra.form for extra in extras if isinstance(extra, Named)), "")
    text = "-".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    if form is None:
        return []
    if isinstance(value, bool):
        word = form or name.replace("_", "-")
        return [word if value else f"no-{word}"]
    if form:
        return [form.format(text)]
    if name == "epochs":
        return [f"{text}-epochs"]
    return [f"{_spelling(name, extras)}-{text}"]
