"""The program of the convolutional classifiers: their command line, training and tests.

Each script of `classification/` names a network and how it is trained.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import torch
from torch import Tensor

from hybrid_plasticity.classification.figures import draw_steps
from hybrid_plasticity.classification.network import Classifier, Rule
from hybrid_plasticity.classification.parallel import SharedClassifier
from hybrid_plasticity.classification.wiring import Coding, Wiring
from hybrid_plasticity.figures import draw_constants, draw_training
from hybrid_plasticity.training import (
    Protocol,
    evaluate,
    following,
    load_all,
    optimizers,
    step_of,
    train_epoch,
)
from shared import datasets, experiment, parallel
from shared.errors import UserError, check_word
from shared.experiment import UNNAMED, Experiment, Named, Positive, as_published, paper
from shared.run import Run
from shared.tensors import Samples, drawn_generator, global_generators, moved_and_mirrored

Shown = Callable[[Tensor], Tensor]
DataSet = Literal["mnist", "fashion_mnist", "cifar10"]
Learner = Literal["adam", "sgd"]
Schedule = Literal["constant", "step", "cosine"]

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}
QUICK_SAMPLES = 100
QUICK_SINGLE_SAMPLES = 20
QUICK_EPOCHS = 2
MOMENTUM, WEIGHT_DECAY = 0.9, 1e-8
REACH = 4  # pixels that an image of CIFAR-10 is moved by at most
LOWERED = (41, 81)  # epochs, counted from 0, whose step sizes are lowered first


@dataclass(frozen=True)
class Options(experiment.Settings):
    """The command line of a script; each states its epochs, codings and layers."""

    rule: Annotated[Rule, Named("{}"), paper("hp")] = "hp"
    """hp: weights by gradient beside a Hebbian trace; gp: weights alone."""
    coding: Annotated[Coding, Named("{}"), paper("rank")] = "rank"
    """Output: rank, the last potential / threshold; rate, spikes / steps."""
    plastic: tuple[int, ...] = (1,)
    """Fully connected layers, from 1, that have a trace."""
    width: Annotated[Positive[float], paper(1.0)] = 1.0
    """Factor of all channels and hidden neurons."""
    precision: Annotated[Literal["float32", "bfloat16"], Named("{}"), paper("float32")] = "float32"
    """Number format of the convolutions after the first one; bfloat16 is several times faster where
    the hardware has it."""
    single_samples: Annotated[Positive[int], UNNAMED] = 10_000
    """First samples of the test set that are tested one by one; their number stands in the
    result."""
    epochs: Positive[int] = 1
    """Passes over the training set."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "plastic", tuple(sorted(self.plastic)))

    def check(self) -> None:
        """Refuse a layer that is named twice."""
        if len({*self.plastic}) < len(self.plastic):
            raise UserError(
                f"--plastic {' '.join(map(str, self.plastic))} names a layer twice: name each once"
            )


@dataclass(frozen=True)
class Program:
    """One script: the network that it trains, on what and how.

    Attributes:
        dataset: "mnist", "fashion_mnist" or "cifar10".
        options: class of its command line.
        wiring: of the network.
        published: the paper's test accuracy, of the best test epoch.
        batch_size: samples per step; the trace is a mean over them.
        optimizer: of the weights: Adam, or SGD with momentum and weight decay; alpha, beta and eta
            have Adam.
        lr, lr_local: step sizes of the weights, and of alpha, beta and eta.
        schedule: "constant"; "step", both step sizes times 0.1 after 41 and after 81 epochs;
            "cosine", the weights' step size falls to 0 over the epochs of the run.
        augmented: training images are cropped at random and flipped at random.
        means, spreads: of the channels' intensities, which the network is shown less the mean and
            divided by the spread.
        quick_width: width of the network with --quick.

    Raises:
        ValueError: a word is none of the above.
    """

    dataset: DataSet
    options: type[Options]
    wiring: Wiring
    published: float
    batch_size: int
    optimizer: Learner = "adam"
    lr: float = 5e-4
    lr_local: float = 5e-4
    schedule: Schedule = "constant"
    augmented: bool = False
    means: tuple[float, ...] = (0.0,)
    spreads: tuple[float, ...] = (1.0,)
    quick_width: float = 0.125

    def __post_init__(self) -> None:
        check_word("dataset", self.dataset, DataSet)
        check_word("optimizer", self.optimizer, Learner)
        check_word("schedule", self.schedule, Schedule)

    def shown(self, device: torch.device) -> Shown:
        """Makes of a batch of uint8 pixels on a device what the network is given, float32."""
        # On the device once: made for each batch, they would hold a GPU up.
        means, spreads = (
            torch.tensor(values, device=device)[:, None, None]
            for values in (self.means, self.spreads)
        )
        return lambda pixels: (pixels.float() / 255 - means) / spreads

    def defaults(self, asked: Options) -> Options:
        """What options that are not given take."""
        if not asked.quick:
            return self.options()
        return dataclasses.replace(
            self.options(),
            epochs=QUICK_EPOCHS,
            width=self.quick_width,
            single_samples=QUICK_SINGLE_SAMPLES,
        )

    def load(self, options: Options, device: torch.device) -> datasets.Dataset:
        """The data set, see `training.load_all`."""
        return load_all(self.dataset, options, QUICK_SAMPLES)

    def numbers(self, options: Options, data: str) -> Mapping[str, float] | None:
        """The paper's accuracy of a run in its configuration and length, else None."""
        is_the_papers = data == self.dataset and as_published(options) == options
        return {"test_accuracy_best": self.published} if is_the_papers else None

    def experiment(self, description: str | None) -> Experiment[Options, datasets.Dataset]:
        """The script.

        Args:
            description: its docstring, for --help.
        """
        return Experiment(
            paper="hybrid_plasticity",
            description=description,
            settings=self.options,
            load=self.load,
            session=lambda options, data: f"hp_classification_{data}",
            defaults=self.defaults,
            published=self.numbers,
            grows=lambda options: self.schedule != "cosine",
            shares_batches=True,
        )

    def main(self, description: str | None) -> None:
        """Read the command line, train and test."""
        self.experiment(description).main(partial(train, self))


def build(options: Options, program: Program) -> Classifier:
    """The network that the options ask for, with its initial weights, on the CPU."""
    wiring = program.wiring.scaled(options.width)
    wiring = dataclasses.replace(wiring, coding=options.coding, plastic=options.plastic)
    kind = Classifier if parallel.processes() == 1 else SharedClassifier
    network = kind(wiring, options.rule)
    network.precision = PRECISIONS[options.precision]
    return network


def learners(
    network: Classifier, program: Program, epochs: int
) -> tuple[dict[str, torch.optim.Optimizer], dict[str, torch.optim.lr_scheduler.LRScheduler]]:
    """Optimizers, grouped by role, and the schedules of their step sizes, which step by epoch."""
    made = optimizers(network, program.lr, program.lr_local)
    if program.optimizer == "sgd":
        made["optimizer"] = following(
            torch.optim.SGD(
                network.global_parameters(), program.lr, MOMENTUM, weight_decay=WEIGHT_DECAY
            )
        )
    schedules: dict[str, torch.optim.lr_scheduler.LRScheduler] = {}
    if program.schedule == "step":
        for name, learner in made.items():
            schedules[f"{name}_schedule"] = torch.optim.lr_scheduler.MultiStepLR(learner, LOWERED)
    elif program.schedule == "cosine":
        schedules["optimizer_schedule"] = torch.optim.lr_scheduler.CosineAnnealingLR(
            made["optimizer"], epochs
        )
    return made, schedules


def scored(
    network: Classifier, test: Samples, program: Program, protocol: Protocol = "published"
) -> dict[str, float]:
    """`evaluate` on a test set."""
    return evaluate(network, test, program.batch_size, protocol, program.shown(test.device))


def train(
    program: Program, options: Options, data: datasets.Dataset, device: torch.device, run: Run
) -> None:
    """Train and test the network, write figures and result."""
    training, test = Samples.of(data.train, device), Samples.of(data.test, device)
    # Dropout draws from torch's own generators, as often as the network has taken steps; order and
    # moves of the images are the same under every rule, and a seed gives the published weights.
    with torch.random.fork_rng(devices=[]):
        orders, moves = drawn_generator(torch.device("cpu")), drawn_generator(device)
    network = build(options, program).to(device)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    learning, schedules = learners(network, program, options.epochs)
    state = {"network": network, **learning, **schedules, **global_generators(device)}
    state |= {"orders": orders, "moves": moves}
    first = run.restore(**state)
    as_shown, learner = program.shown(device), parallel.replicated(network)

    def shown(pixels: Tensor) -> Tensor:
        return as_shown(moved_and_mirrored(pixels, REACH, moves) if program.augmented else pixels)

    for epoch in range(first, options.epochs):
        row = train_epoch(
            learner, training, program.batch_size, step_of(learning), options.rule, shown, orders
        )
        for schedule in schedules.values():
            schedule.step()
        if parallel.is_first():
            seen = scored(network, test, program)
            row |= {f"test_{key}": value for key, value in seen.items()}
        run.log(epoch + 1, row)
        run.checkpoint(epoch + 1, **state)

    if parallel.is_first():
        report(program, options, run, network, before, test)


def saved_steps(steps: float, network: Classifier) -> float:
    """Share of the time steps that the early exit saves, of the mean number that it leaves."""
    return 1 - steps / network.wiring.steps


def report(
    program: Program,
    options: Options,
    run: Run,
    network: Classifier,
    before: Mapping[str, Tensor],
    test: Samples,
) -> None:
    """Test under all protocols and without early exit, draw the figures and write the result."""
    rows, title = run.metrics(), run.experiment
    last = rows[-1]
    metrics: dict[str, float | None] = {
        "test_accuracy_last": last["test_accuracy"],
        "test_accuracy_best": max(row["test_accuracy"] for row in rows),
        "steps_last": last["test_steps"],
        "steps_saved_last": saved_steps(last["test_steps"], network),
    }
    with network.all_steps():
        metrics["test_accuracy_last_all_steps"] = scored(network, test, program)["accuracy"]
    if network.plastic_layers():
        frozen = scored(network, test, program, "frozen")
        metrics["test_accuracy_last_frozen"] = frozen["accuracy"]
        carried = scored(network, test, program, "carried")
        metrics["test_accuracy_last_carried"] = carried["accuracy"]
        few = test.first(options.single_samples)
        single = scored(network, few, program, "single")
        metrics["test_accuracy_last_single"] = single["accuracy"]
        metrics["samples_single"] = float(len(few))
        run.save_figure(draw_constants(before, network.state_dict(), title), "constants")
    metrics |= {
        "train_accuracy_last": last["train_accuracy"],
        "train_loss_last": last["train_loss"],
        "test_spikes_last": last["test_spikes"],
    }
    steps = draw_steps(rows, network.wiring.steps, options.rule, title)
    run.save_figure(steps, "steps")
    run.finish(
        epochs=int(last["epoch"]),
        metrics=metrics,
        figure=run.save_figure(draw_training(rows, options.rule, title), "curves"),
    )
