"""One rule on one data set: training, and all that is measured of the trained network.

    python comparison/run.py --rule brp                            at its paper's settings, MNIST
    python comparison/run.py --rule brp --dataset fashion_mnist
    python comparison/run.py --rule brp --edition tuned            at those that search.py chose
    python comparison/run.py --rule brp --labels 10                with 10 % of the labels
    python comparison/run.py --rule brp --permuted                 five shuffled tasks in a row
    python comparison/run.py --rule stl --labels 1 --dropout 0     without its dropout

Every rule trains a network with one hidden layer on the same 50,000 images in batches of 100. The
other 10,000 training images validate. The accuracy of the last epoch on the 10,000 test images is
the result, with few labels beside the mean of the last five looks; test data choose nothing.
"""

import shared.waiting

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import annotated_types
import numpy as np
import torch
from jaxtyping import UInt8

from comparison import registry
from comparison.data import Data, DataName, Part, labeled, load, pixel_orders
from comparison.interface import Choice, Labels, Learner, Plan, Rule
from comparison.measures import (
    ANGLE_IMAGES,
    IN_BATCH,
    accuracy,
    activity,
    early,
    forgetting,
    in_batch,
    robustness,
    seen,
)
from comparison.tuned import tuned_choice
from shared import experiment
from shared.device import prepare, torch_device
from shared.errors import UserError
from shared.experiment import UNNAMED, Experiment, Named, Positive
from shared.options import script
from shared.run import Run, progress

EPOCHS = {100: 20, 10: 100, 1: 1000}
"""Passes by the percentage of labels. With few labels these are 5,000 steps, half of all labels':
a rule that is slow would otherwise be compared by its steps, not by its labels."""

STAIRS = EPOCHS[100]
"""Of the step size, over the epochs of a task, or of a trial of a search, too, which are fewer."""

LOOKS = 20
"""Lines of the log, checkpoints and, with all labels, looks at the validation part, evenly over the
epochs."""

LAST_LOOKS = 5
"""Looks at the test part with few labels, the last of all. Their mean is stated beside the last: an
epoch of one percent is five steps, over which a network may wander."""

SEEDS, MANY_SEEDS = 3, 5
SHORT_STEPS = frozenset({"shifting", "exact", "gp", "relu", "smooth", "smooth_ordinary"})
"""Rules with many seeds, because they are cheap."""

FEW_COMPARED = frozenset({"bp", "brp", "dfa", "hp", "stl", "sl"})
TASKS_COMPARED = frozenset({"bp", "dfa", "hp"})
"""Rules with many seeds on MNIST with one percent of the labels, and with shuffled tasks, which
claims or sentences on them compare: three seeds could hardly decide these."""

DROPOUT = {"stl": 0.0, "relu": 0.5}
"""Controls with one percent of MNIST's labels: STL without its dropout, ReLU with it."""

TASKS = 5
ROBUSTNESS_IMAGES = 2000
GOALS = {"mnist": 0.95, "mnist5k": 0.95, "digits": 0.95, "fashion_mnist": 0.85}
"""Validation accuracy whose first epoch is noted."""

QUICK_IMAGES, QUICK_EPOCHS, QUICK_TESTED = 500, 2, 200


@dataclass(frozen=True)
class Settings(experiment.Settings):
    """The options; step size, decay, scale and knob are the edition's where they are not given."""

    rule: Annotated[str, UNNAMED] = "shifting"
    """How the network learns; a name that is not there lists those that are."""
    dataset: Annotated[DataName, UNNAMED] = "mnist"
    """Data set; where MNIST cannot be had, the 5,000 digits of mnist5k stand in."""
    edition: Annotated[Literal["paper", "tuned"], Named("{}")] = "paper"
    """Whose settings: the rule's paper's, or those that search.py chose."""
    labels: Annotated[Literal[100, 10, 1], Named("{}-percent")] = 100
    """Share of the training images that is used, in percent; of all classes alike."""
    permuted: bool = False
    """Five tasks in a row with shuffled pixels, which share the epochs."""
    images: Annotated[Positive[int] | None, Named("{}-images")] = None
    """The first so many training images only."""
    epochs: Positive[int] = 20
    """Passes over the training images; 100 with 10 percent of the labels, 1000 with 1."""
    hidden: Positive[int] = 400
    """Neurons of the hidden layer."""
    batch_size: Positive[int] = 100
    """Images per step."""
    lr: Positive[float] = 1.0
    """Step size in the first epoch."""
    decay: Annotated[float, annotated_types.Gt(0), annotated_types.Le(1)] = 1.0
    """Step size after the last epoch, as a share of the first."""
    scale: Positive[float] = 1.0
    """Factor of the initial weights."""
    knob: float = 1.0
    """Value of the rule's own knob."""
    dropout: Annotated[float, annotated_types.Ge(0), annotated_types.Lt(1)] | None = None
    """Share of input and hidden units that training drops, in place of the rule's own; the page of
    results shows such controls with 1 percent of the labels."""
    threads: Annotated[Positive[int] | None, UNNAMED] = 1
    """CPU threads; more would wait for each other longer than they work."""

    def check(self) -> None:
        """Refuse unknown rules, knobs out of range, dropout without such, unequal tasks."""
        rule = registry.rule_of(self.rule)
        most = max(rule.knob.high, rule.choice.knob)
        if not 0 <= self.knob <= most:
            raise UserError(
                f"--knob {self.knob:g} must lie between 0 and {most:g}: of {self.rule} it is the "
                f"{rule.knob.name}"
            )
        if self.dropout is not None and not rule.drops:
            can = ", ".join(name for name, one in registry.found()[0].items() if one.drops)
            raise UserError(f"--dropout: {self.rule} drops nothing; the rules that can are {can}")
        if self.permuted and self.epochs % TASKS:
            raise UserError(
                f"--permuted has {TASKS} tasks, which share --epochs {self.epochs} evenly: give a "
                f"multiple of {TASKS}"
            )

    @property
    def choice(self) -> Choice:
        """What the tuned edition chooses."""
        return Choice(self.lr, self.decay, self.scale, self.knob)


def n_seeds(rule: str, dataset: str, labels: int = 100, *, permuted: bool = False) -> int:
    """Seeds that the full comparison has of a rule."""
    compared = TASKS_COMPARED if permuted else FEW_COMPARED if labels == 1 else frozenset()
    is_compared = dataset == "mnist" and rule in compared
    return MANY_SEEDS if rule in SHORT_STEPS or is_compared else SEEDS


def session(settings: Settings, data: str) -> str:
    """How a run's name begins, such as cmp_mnist_brp or cmp_fashion_stl."""
    return f"cmp_{short(data)}_{settings.rule}"


def short(data: str) -> str:
    """A data set's name in those of experiments."""
    return data.removesuffix("_mnist")


def defaults(asked: Settings) -> Settings:
    """What options that are not given start from: by rule, edition and labels."""
    choice = registry.rule_of(asked.rule).choice
    if asked.edition == "tuned":
        choice = tuned_choice(asked.rule, short(asked.dataset))
    epochs = QUICK_EPOCHS if asked.quick else EPOCHS[asked.labels]
    if asked.quick and asked.permuted:
        epochs = TASKS
    return replace(
        Settings(),
        epochs=epochs,
        lr=choice.lr,
        decay=choice.decay,
        scale=choice.scale,
        knob=choice.knob,
    )


def load_data(settings: Settings, device: torch.device) -> Data:
    """The data set that was asked for."""
    data = load(settings.dataset, settings.data_root)
    if not settings.quick:
        return data
    return replace(
        data,
        train=data.train.first(QUICK_IMAGES * 100 // settings.labels),
        validation=data.validation.first(QUICK_TESTED),
        test=data.test.first(QUICK_TESTED),
    )


def prepared(rule: str, settings: experiment.Settings) -> torch.device:
    """Set torch up, and what a rule needs beside it; returns torch's device."""
    # A framework that seeds all random streams goes first.
    registry.rule_of(rule).prepare(torch_device(settings.device), settings.threads or 1)
    return prepare(settings.device, settings.seed, settings.threads, settings.deterministic)


def build(settings: Settings, rule: Rule, data: Data, device: torch.device) -> Learner:
    """A network that has learned nothing yet."""
    return rule.build(
        Plan(
            data.n_pixels,
            data.n_classes,
            settings.hidden,
            settings.batch_size,
            settings.seed,
            settings.choice,
            device,
            settings.dropout,
        )
    )


def batches(
    part: Part, batch_size: int, seed: int, epoch: int
) -> Iterator[tuple[UInt8[np.ndarray, "batch pixels"], Labels]]:
    """One pass in a random order that seed and epoch say; an incomplete last batch is left out."""
    n_steps = len(part.labels) // batch_size
    if not n_steps:
        raise UserError(f"--batch-size {batch_size}: there are {len(part.labels)} training images")
    order = np.random.default_rng((seed, epoch)).permutation(len(part.labels))
    for i in progress(range(n_steps), n_steps, "train"):
        chosen = order[i * batch_size : (i + 1) * batch_size]
        yield part.images[chosen], part.labels[chosen]


def train_epoch(
    learner: Learner,
    part: Part,
    batch_size: int,
    seed: int,
    epoch: int,
    *,
    of: tuple[int, int],
    stairs: int,
) -> float:
    """Learn from one pass; see `batches`.

    Args:
        learner: the network.
        part: what is learned.
        batch_size: images per step.
        seed: of the order.
        epoch: of the order.
        of: the epoch, counted from 0, and their number, over which the step size falls.
        stairs: of the step size over these, evenly as far as there are steps.

    Returns:
        The mean loss before each step.
    """
    within, epochs = of
    n_steps, stair, losses = len(part.labels) // batch_size, -1, []
    for step, shown in enumerate(batches(part, batch_size, seed, epoch), within * n_steps):
        if (now := step * stairs // (epochs * n_steps)) != stair:
            stair = now
            learner.begin(stair, stairs)
        losses.append(learner.step(*shown))
    return float(np.mean(losses))


def stops_of(epochs: int) -> list[int]:
    """Epochs, counted from 1, that end with a line of the log and a checkpoint."""
    every = max(1, epochs // LOOKS)
    return sorted({*range(every, epochs + 1, every), epochs})


def train(settings: Settings, data: Data, device: torch.device, run: Run) -> None:
    """Train and measure one network, and write the result."""
    rule = registry.rule_of(settings.rule)
    learner = build(settings, rule, data, device)
    training = labeled(data.train, settings.labels, settings.seed).first(settings.images)
    done = 0
    if saved := run.load():
        done, state = saved
        learner.load(state)
    work = learn_tasks if settings.permuted else learn_one
    metrics = work(settings, rule, learner, replace(data, train=training), run, done)
    run.finish(epochs=settings.epochs, metrics=metrics)


def learn_one(
    settings: Settings, rule: Rule, learner: Learner, data: Data, run: Run, done: int
) -> dict[str, float | None]:
    """One task: learned, looked at, measured.

    Args:
        settings: of the run.
        rule: of the network.
        learner: the network.
        data: what is learned.
        run: its folder.
        done: epochs that are done.

    Returns:
        The metrics of the result.
    """
    size, seed, epochs, losses = settings.batch_size, settings.seed, settings.epochs, []
    stops = stops_of(epochs)
    for epoch in range(done + 1, epochs + 1):
        of = (epoch - 1, epochs)
        loss = train_epoch(learner, data.train, size, seed, epoch, of=of, stairs=epochs)
        losses.append(loss)
        if epoch in stops:
            row = {"train_loss": float(np.mean(losses))}
            run.log(epoch, row | look(settings, learner, data, epoch))
            run.save(epoch, learner.state())
            losses = []
    rows = run.metrics()
    tested = seen(learner, data.test, size)
    found = {
        "test_accuracy_last": tested.accuracy,
        "validation_accuracy_last": rows[-1]["validation_accuracy"],
        "train_loss_last": rows[-1]["train_loss"],
        "angle_last": rows[-1].get("angle"),
        **activity(rule, tested),
    }
    if settings.labels < 100:
        # Whether it has learned at least those that it was told.
        told = accuracy(learner, data.train, size)
        late = [row["test_accuracy"] for row in rows if "test_accuracy" in row]
        return {
            **found,
            "test_accuracy_mean_of_last_looks": float(np.mean(late)),
            "train_accuracy_last": told,
            **in_batch(learner, data.test, None, size),
        }
    goal = GOALS[data.name]
    reached = (row["epoch"] for row in rows if row.get("validation_accuracy", 0.0) >= goal)
    few = data.test.first(ROBUSTNESS_IMAGES)
    return {
        **found,
        "epochs_to_goal": next(reached, None),
        **early(rule, learner, data.test, size),
        **robustness(learner, few, size),
        **in_batch(learner, data.test, few, size),
    }


def look(settings: Settings, learner: Learner, data: Data, epoch: int) -> dict[str, float]:
    """What is measured of a network at a stop.

    With few labels passes are short, and looks at all validation images would take longer than
    these: only the last looks are taken, at the test part, whose mean is part of the result.
    """
    size, found = settings.batch_size, {}
    if settings.labels < 100 and epoch in stops_of(settings.epochs)[-LAST_LOOKS:]:
        found["test_accuracy"] = accuracy(learner, data.test, size)
    if settings.labels == 100 or epoch == settings.epochs:
        found["validation_accuracy"] = accuracy(learner, data.validation, size)
        if (angle := learner.angle(*data.validation.first(ANGLE_IMAGES))) is not None:
            found["angle"] = angle
    return found


def learn_tasks(
    settings: Settings, rule: Rule, learner: Learner, data: Data, run: Run, done: int
) -> dict[str, float | None]:
    """Tasks with shuffled pixels in a row, without masks or replay; arguments as in `learn_one`.

    Epochs are shared out evenly; the step size begins anew with each task, and what an optimizer
    remembers is kept.
    """
    size, epochs = settings.batch_size, settings.epochs // TASKS
    orders = pixel_orders(data.n_pixels, TASKS, settings.seed)
    for epoch in range(done + 1, TASKS * epochs + 1):
        task, within = divmod(epoch - 1, epochs)
        shown = data.train.shuffled(orders[task])
        of, stairs = (within, epochs), max(STAIRS, epochs)
        loss = train_epoch(learner, shown, size, settings.seed, epoch, of=of, stairs=stairs)
        row = {"train_loss": loss}
        if within == epochs - 1:
            for number, order in enumerate(orders, 1):
                row |= on_task(learner, data.test.shuffled(order), size, number)
        run.log(epoch, row)
        run.save(epoch, learner.state())
    found: dict[str, float | None] = {}
    for ending in ("", IN_BATCH):
        names = [f"test_accuracy_task_{number}{ending}" for number in range(1, TASKS + 1)]
        rows = [[row[name] for name in names] for row in run.metrics() if names[0] in row]
        if rows:
            table = np.array(rows)
            found |= {
                f"test_accuracy_of_tasks{ending}": float(table[-1].mean()),
                f"test_accuracy_when_learned{ending}": float(np.diag(table).mean()),
                f"forgetting{ending}": forgetting(table),
                **dict(zip(names, table[-1].tolist(), strict=True)),
            }
    return found


def on_task(learner: Learner, test: Part, batch_size: int, number: int) -> dict[str, float]:
    """Accuracy on a task; of a network that adapts to a batch, then, too."""
    name = f"test_accuracy_task_{number}"
    found = {name: accuracy(learner, test, batch_size)}
    if (context := learner.adapting()) is not None:
        with context:
            found[name + IN_BATCH] = accuracy(learner, test, batch_size)
    return found


EXPERIMENT: Experiment[Settings, Data] = Experiment(
    paper="comparison",
    description=__doc__,
    settings=Settings,
    load=load_data,
    session=session,
    defaults=defaults,
    grows=lambda settings: False,  # the step size falls over all epochs
    prepare=lambda settings: prepared(settings.rule, settings),
)


def main() -> None:
    """Train and measure one network."""
    EXPERIMENT.main(train)


if __name__ == "__main__":
    script(main)
