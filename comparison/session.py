"""All rules one after the other, and the page that compares them.

    python comparison/session.py --quick           every step on little data, in under 3 minutes
    python comparison/session.py --minutes 30      a reduced edition that fits: fewer images, epochs
                                                   and seeds, the same for every rule
    python comparison/session.py --rules brp stl   some rules only

The page says what was reduced. The full comparison is a set of rows of the reproduction graph:
`nox -s reproduce -- comparison`. A rule whose framework or data set is missing is named and left
out; the others go on.
"""

import shared.waiting

import dataclasses
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from comparison import registry, report, run, tables
from comparison.data import Data, DataName
from comparison.measures import N_DISTORTED, SHARES
from shared.errors import UserError
from shared.experiment import Positive, parse
from shared.options import script
from shared.run import RUNS

SEEDS, EPOCHS = (3, 2, 1), (20, 10, 5, 2)
IMAGES = (None, 25_000, 10_000, 5_000, 2_000, 1_000, 500)
"""What a reduced edition chooses from; None is all images."""

WARM, TIMED = 2, 3  # batches
SPARE = 0.1  # share of the time that is not planned


@dataclass(frozen=True)
class Options:
    """The options; what else `run.py` has is chosen here."""

    quick: bool = False
    """Every step of the real path on little data; its numbers mean nothing."""
    minutes: Positive[float] = 30
    """Time that there is for all rules together."""
    rules: tuple[str, ...] = ()
    """Which rules; without it all."""
    dataset: DataName = "mnist"
    """Data set."""
    data_root: Path | None = None
    """Folder of the data sets; without it the environment variable SNN_DATA, else datasets/."""
    device: str = "auto"
    """auto, cuda, cuda:N, mps or cpu; auto takes the first of these that is there."""
    threads: Positive[int] = 1
    """CPU threads."""
    resume: bool = True
    """Go on from checkpoints, and keep runs that are done; --no-resume starts anew."""
    out: Path | None = None
    """Folder of the page; without it runs/comparison."""


@dataclass(frozen=True)
class Size:
    """What is the same for all rules.

    Attributes:
        seeds: trainings of each rule.
        epochs: passes of each.
        images: training images; None for all.
    """

    seeds: int
    epochs: int
    images: int | None

    @property
    def words(self) -> list[str]:
        """Options of `run.py`."""
        limit = [] if self.images is None else ["--images", str(self.images)]
        return ["--epochs", str(self.epochs), *limit]


class Speed(NamedTuple):
    """Seconds of an image, of all rules together.

    Attributes:
        learned: in a training step.
        shown: in an answer.
    """

    learned: float
    shown: float

    def seconds(self, size: Size, data: Data) -> float:
        """Time of all rules at a size."""
        n = len(data.train.labels) if size.images is None else size.images
        tested = len(data.test.labels)
        tests = (1 + len(SHARES)) * tested + N_DISTORTED * min(tested, run.ROBUSTNESS_IMAGES)
        shown = size.epochs * len(data.validation.labels) + tests
        return size.seeds * (size.epochs * n * self.learned + shown * self.shown)


def speed_of(name: str, data: Data, settings: run.Settings) -> Speed:
    """A rule's speed, measured."""
    device = run.EXPERIMENT.device(settings)
    learner = run.build(settings, registry.rule_of(name), data, device)
    learner.begin(0, 1)
    size = settings.batch_size

    def timed(work: Callable[[slice], object]) -> float:
        for i in range(WARM + TIMED):
            if i == WARM:
                started = time.perf_counter()
            work(slice(i * size, (i + 1) * size))
        return (time.perf_counter() - started) / (TIMED * size)

    images, labels = data.train
    return Speed(
        timed(lambda chosen: learner.step(images[chosen], labels[chosen])),
        timed(lambda chosen: learner.answer(images[chosen], 0)),
    )


def fitting(speed: Speed, data: Data, seconds: float) -> Size:
    """The size that shows most images in training, with most seeds of equal ones, within a time.

    Where none fits it is the smallest.
    """
    there = len(data.train.labels)
    images = [n for n in IMAGES if n is None or n < there]
    sizes = [Size(*choice) for choice in itertools.product(SEEDS, EPOCHS, images)]
    fit = [size for size in sizes if speed.seconds(size, data) <= (1 - SPARE) * seconds]

    def worth(size: Size) -> tuple[int, int]:
        shown = size.seeds * size.epochs * (there if size.images is None else size.images)
        return shown, size.seeds

    return max(fit, key=worth) if fit else min(sizes, key=worth)


def chosen_size(options: Options, names: Sequence[str]) -> Size:
    """What fits into the time, by the speed of every rule on this machine."""
    asked = [run.EXPERIMENT.parse(words_of(options, name)) for name in names]
    data = run.EXPERIMENT.load(asked[0], run.EXPERIMENT.device(asked[0]))
    speeds = [speed_of(name, data, of) for name, of in zip(names, asked, strict=True)]
    return fitting(Speed(*map(sum, zip(*speeds, strict=True))), data, 60 * options.minutes)


def buildable(options: Options, names: Sequence[str]) -> list[str]:
    """Rules whose data and network can be had; the others are named."""
    kept: list[str] = []
    data: Data | None = None  # the same for all
    for name in names:
        with leaving_out(name):
            asked = run.EXPERIMENT.parse(words_of(options, name))
            device = run.EXPERIMENT.device(asked)
            data = data or run.EXPERIMENT.load(asked, device)
            run.build(asked, registry.rule_of(name), data, device)
            kept.append(name)
    if not kept:
        raise UserError("no rule could be run: the reasons stand above")
    return kept


def kept_size(options: Options, names: Sequence[str], folder: Path) -> Size:
    """What fits into the time, or what was chosen when a session was begun in this folder.

    Speeds are never measured twice alike; of another size all runs would begin anew.
    """
    path = folder / "size.json"
    asked = {"minutes": options.minutes, "dataset": options.dataset, "rules": list(names)}
    if options.resume and path.exists():
        kept = json.loads(path.read_text())
        if kept["asked"] == asked:
            return Size(**kept["size"])
    size = chosen_size(options, names)
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"asked": asked, "size": dataclasses.asdict(size)}, indent=2))
    return size


def words_of(options: Options, name: str, seed: int = 0) -> list[str]:
    """The command line of `run.py` for a rule."""
    words = ["--rule", name, "--dataset", options.dataset, "--seed", str(seed)]
    words += ["--device", options.device, "--threads", str(options.threads)]
    if options.data_root is not None:
        words += ["--data-root", str(options.data_root)]
    words += ["--quick"] if options.quick else []
    return [*words, *([] if options.resume else ["--no-resume"])]


@contextmanager
def command(words: Sequence[str]) -> Iterator[None]:
    """Let the records of a run name the command that gives it alone."""
    before = sys.argv
    sys.argv = [str(Path(run.__file__)), *words]
    try:
        yield
    finally:
        sys.argv = before


def do(words: Sequence[str]) -> Path | None:
    """One run, or the reason why not.

    Returns:
        Its folder; None where it could not be had.
    """
    with command(words), leaving_out(" ".join(words)):
        settings = run.EXPERIMENT.parse(words)
        data = run.EXPERIMENT.load(settings, None)
        loaded = dataclasses.replace(run.EXPERIMENT, load=lambda *_: data)
        loaded.run(settings, run.train)
        return loaded.folder(settings, data.name)
    return None


@contextmanager
def leaving_out(what: str) -> Iterator[None]:
    """Name what cannot be had, by wrong input or for want of a package, and go on."""
    try:
        yield
    except (UserError, ModuleNotFoundError) as error:
        print(f"left out: {what}: {error}", file=sys.stderr, flush=True)


def names_of(asked: Sequence[str]) -> list[str]:
    """The rules that are asked for and there; those whose module is left out are named.

    Raises:
        UserError: a rule has no module.
    """
    there, left_out = registry.found()
    for module, why in left_out.items():
        print(f"left out: the rules of comparison/rules/{module}.py: {why}", file=sys.stderr)
    kept = []
    for name in asked or there:
        if name in there:
            kept.append(name)
        elif not left_out:
            raise registry.unknown(name)
        else:  # its module may be one that could not be imported
            print(f"left out: {registry.unknown(name)}", file=sys.stderr, flush=True)
    return kept


def main() -> None:
    """Run all rules and write the page.

    Raises:
        UserError: no rule could be run.
    """
    options = parse(Options, __doc__)
    names = names_of(options.rules)
    if not options.quick:
        names = buildable(options, names)
    out = options.out or RUNS / "comparison"
    size = Size(1, 2, None) if options.quick else kept_size(options, names, out)
    extra = [] if options.quick else size.words
    if not options.quick:
        print(f"each rule: {dataclasses.asdict(size)}", flush=True)
    folders = [
        do([*words_of(options, name, seed), *extra]) for seed in range(size.seeds) for name in names
    ]
    done = [folder for folder in folders if folder is not None]
    if not done:
        raise UserError("no rule could be run: the reasons stand above")
    report.write(tables.load(done), out / "comparison.md", out)
    print(f"{out / 'comparison.md'}: {len(done)} runs")


if __name__ == "__main__":
    script(main)
