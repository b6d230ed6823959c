"""The program of the convolutional classifiers: their training, tests and command line.

Each script of `classification/` names a network and how it is trained.
"""

import argparse
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from hybrid_plasticity.classification.figures import draw_steps
from hybrid_plasticity.classification.images import Images, cropped_and_flipped, on_device
from hybrid_plasticity.classification.network import Classifier
from hybrid_plasticity.classification.wiring import Coding, Wiring
from hybrid_plasticity.figures import draw_constants, draw_curves
from hybrid_plasticity.training import (
    Protocol,
    evaluate,
    generators,
    optimizers,
    train_epoch,
)
from shared import datasets
from shared.device import prepare
from shared.errors import UserError
from shared.options import add_common_options, check_positive
from shared.run import Run, carry_out

Shown = Callable[[Tensor], Tensor]

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Experiment:
    """One script: the network that it trains, on what and how.

    Attributes:
        session: name of the runs.
        dataset: "mnist", "fashion_mnist" or "cifar10".
        wiring: of the network.
        published: the paper's test accuracy, of the best test epoch.
        epochs: passes over the training set.
        batch_size: samples a step; the trace is a mean over them.
        optimizer: of the weights: Adam, or SGD with momentum and weight decay; alpha, beta and eta
            have Adam.
        lr, lr_local: step sizes of the weights, and of alpha, beta and eta.
        schedule: "constant"; "step", both step sizes times 0.1 after 41 and after 81 epochs;
            "cosine", the weights' step size falls to 0 over the epochs of the run.
        augmented: training images are cropped at random and flipped at random.
        means, spreads: of the channels' intensities, which the network is shown less the mean and
            divided by the spread.
        codings: what the script offers as output, the default first.
        quick_width: width of the network with --quick.
    """

    session: str
    dataset: str
    wiring: Wiring
    published: float
    epochs: int
    batch_size: int
    optimizer: Literal["adam", "sgd"] = "adam"
    lr: float = 5e-4
    lr_local: float = 5e-4
    schedule: Literal["constant", "step", "cosine"] = "constant"
    augmented: bool = False
    means: tuple[float, ...] = (0.0,)
    spreads: tuple[float, ...] = (1.0,)
    codings: tuple[Coding, ...] = ("rank",)
    quick_width: float = 0.25

    def shown(self, device: torch.device) -> Shown:
        """Makes of a batch of uint8 pixels on a device what the network is given, float32."""
        # On the device once: made for each batch, they would hold a GPU up.
        means, spreads = (
            torch.tensor(values, device=device)[:, None, None]
            for values in (self.means, self.spreads)
        )
        return lambda pixels: (pixels.float() / 255 - means) / spreads


QUICK_SAMPLES = 200
QUICK_SINGLE_SAMPLES = 20
MOMENTUM, WEIGHT_DECAY = 0.9, 1e-8
LOWERED = (41, 81)  # epochs, counted from 0, whose step sizes are lowered first


def build(args: argparse.Namespace, experiment: Experiment) -> Classifier:
    """The network that the options ask for, with its initial weights, on the CPU."""
    wiring = experiment.wiring.scaled(args.width)
    plastic = tuple(args.plastic or wiring.plastic)
    wiring = dataclasses.replace(wiring, coding=args.coding, plastic=plastic)
    network = Classifier(wiring, args.rule)
    network.precision = PRECISIONS[args.precision]
    return network


def learners(
    network: Classifier, experiment: Experiment, epochs: int
) -> tuple[dict[str, torch.optim.Optimizer], dict[str, torch.optim.lr_scheduler.LRScheduler]]:
    """Optimizers, grouped by role, and the schedules of their step sizes, which step by epoch."""
    made = optimizers(network, experiment.lr, experiment.lr_local)
    if experiment.optimizer == "sgd":
        made["optimizer"] = torch.optim.SGD(
            network.global_parameters(), experiment.lr, MOMENTUM, weight_decay=WEIGHT_DECAY
        )
    schedules: dict[str, torch.optim.lr_scheduler.LRScheduler] = {}
    if experiment.schedule == "step":
        for name, learner in made.items():
            schedules[f"{name}_schedule"] = torch.optim.lr_scheduler.MultiStepLR(learner, LOWERED)
    elif experiment.schedule == "cosine":
        schedules["optimizer_schedule"] = torch.optim.lr_scheduler.CosineAnnealingLR(
            made["optimizer"], epochs
        )
    return made, schedules


def scored(
    network: Classifier, test: Images, experiment: Experiment, protocol: Protocol = "published"
) -> dict[str, float]:
    """`evaluate` on a test set."""
    size, shown = experiment.batch_size, experiment.shown(test.pixels.device)
    return evaluate(network, test.pixels, test.labels, size, protocol, shown)


def train(
    args: argparse.Namespace,
    experiment: Experiment,
    name: str,
    run: Run,
    data: datasets.Dataset,
    device: torch.device,
) -> None:
    """Train and test the network, write figures and result."""
    training, test = on_device(data.train, device), on_device(data.test, device)
    network = build(args, experiment).to(device)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    learning, schedules = learners(network, experiment, args.epochs)
    state = {"network": network, **learning, **schedules, **generators(device)}
    first = run.restore(**state)

    def step() -> None:
        for learner in learning.values():
            learner.step()

    as_shown = experiment.shown(device)

    def shown(pixels: Tensor) -> Tensor:
        return as_shown(cropped_and_flipped(pixels) if experiment.augmented else pixels)

    for epoch in range(first, args.epochs):
        row = train_epoch(
            network, training.pixels, training.labels, experiment.batch_size, step, args.rule, shown
        )
        for schedule in schedules.values():
            schedule.step()
        seen = scored(network, test, experiment)
        run.log(epoch + 1, row | {f"test_{key}": value for key, value in seen.items()})
        run.checkpoint(epoch + 1, **state)

    report(args, experiment, name, run, data, network, before, test)


def saved_steps(steps: float, network: Classifier) -> float:
    """Share of the time steps that the early exit saves, of the mean number that it leaves."""
    return 1 - steps / network.wiring.steps


def report(
    args: argparse.Namespace,
    experiment: Experiment,
    name: str,
    run: Run,
    data: datasets.Dataset,
    network: Classifier,
    before: Mapping[str, Tensor],
    test: Images,
) -> None:
    """Test under all protocols and without early exit, draw the figures and write the result."""
    rows = run.metrics()
    last = rows[-1]
    metrics: dict[str, float | None] = {
        "test_accuracy_last": last["test_accuracy"],
        "test_accuracy_best": max(row["test_accuracy"] for row in rows),
        "steps_last": last["test_steps"],
        "steps_saved_last": saved_steps(last["test_steps"], network),
    }
    with network.all_steps():
        metrics["test_accuracy_last_all_steps"] = scored(network, test, experiment)["accuracy"]
    if network.plastic_layers():
        frozen = scored(network, test, experiment, "frozen")
        metrics["test_accuracy_last_frozen"] = frozen["accuracy"]
        carried = scored(network, test, experiment, "carried")
        metrics["test_accuracy_last_carried"] = carried["accuracy"]
        few = test.first(args.single_samples)
        single = scored(network, few, experiment, "single")
        metrics["test_accuracy_last_single"] = single["accuracy"]
        metrics["samples_single"] = float(len(few.labels))
        run.save_figure(draw_constants(before, network.state_dict(), name), "constants")
    metrics |= {
        "train_accuracy_last": last["train_accuracy"],
        "train_loss_last": last["train_loss"],
        "test_spikes_last": last["test_spikes"],
    }
    run.save_figure(draw_steps(rows, network.wiring.steps, name), "steps")
    run.finish(
        experiment=name,
        paper="hybrid_plasticity",
        dataset=data.name,
        epochs=int(last["epoch"]),
        metrics=metrics,
        published=published(args, experiment, name),
        figure=run.save_figure(draw_curves(rows, name), "curves"),
    )


def published(
    args: argparse.Namespace, experiment: Experiment, name: str
) -> dict[str, float] | None:
    """The published accuracy of a run in the paper's configuration and length, else None.

    Args:
        args: the options.
        experiment: what the script is about.
        name: of the run, which tells where it differs from the paper, but for its length.
    """
    as_published = (name, args.epochs) == (experiment.session, experiment.epochs)
    return {"test_accuracy_best": experiment.published} if as_published else None


def options(experiment: Experiment, description: str | None) -> argparse.ArgumentParser:
    """The parser of a script."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rule",
        choices=("hp", "gp"),
        default="hp",
        help="hp: weights by gradient beside a Hebbian trace; gp: weights alone (default: hp)",
    )
    parser.add_argument(
        "--coding",
        choices=experiment.codings,
        default=experiment.codings[0],
        help="output: rank, the last potential / threshold; rate, spikes / steps (default and "
        f"paper: {experiment.codings[0]})",
    )
    layers = range(1, len(experiment.wiring.hidden) + 2)
    paper = " ".join(map(str, experiment.wiring.plastic))
    parser.add_argument(
        "--plastic",
        type=int,
        nargs="+",
        choices=layers,
        help=f"fully connected layers, from 1, that have a trace (default and paper: {paper})",
    )
    parser.add_argument(
        "--width",
        type=float,
        help=f"factor of all channels and hidden neurons (default and paper: 1; with --quick "
        f"{experiment.quick_width:g})",
    )
    parser.add_argument(
        "--precision",
        choices=tuple(PRECISIONS),
        default="float32",
        help="number format of the convolutions behind the first one; bfloat16 is several times "
        "faster where the hardware has it (default and paper: float32)",
    )
    parser.add_argument(
        "--single-samples",
        type=int,
        default=10_000,
        help="first samples of the test set that are tested one by one; their number stands in the "
        "result (default: 10000)",
    )
    add_common_options(parser, experiment.session, experiment.epochs)
    return parser


def read(parser: argparse.ArgumentParser, experiment: Experiment) -> argparse.Namespace:
    """The options, checked, and with what --quick makes of them.

    Raises:
        UserError: a number is not above 0, or --plastic names a layer twice.
    """
    args = parser.parse_args()
    check_positive(epochs=args.epochs, width=args.width, single_samples=args.single_samples)
    if args.plastic is not None:
        if len({*args.plastic}) < len(args.plastic):
            raise UserError(
                f"--plastic {' '.join(map(str, args.plastic))} names a layer twice: name each once"
            )
        args.plastic.sort()
    if args.width is None:
        args.width = experiment.quick_width if args.quick else 1.0
    if args.quick:
        args.epochs = min(args.epochs, 2)
        args.single_samples = min(args.single_samples, QUICK_SINGLE_SAMPLES)
    return args


def run_name(args: argparse.Namespace, experiment: Experiment, dataset: str) -> str:
    """Name of a run: the session's, with what differs from the paper's hybrid network behind it."""
    words = [experiment.session.replace(experiment.dataset, dataset)]
    if args.rule != "hp":
        words.append(args.rule)
    if args.coding != experiment.codings[0]:
        words.append(args.coding)
    if args.plastic and tuple(args.plastic) != experiment.wiring.plastic:
        words.append("plastic-" + "-".join(map(str, args.plastic)))
    if args.width != 1:
        words.append(f"width-{args.width:g}")
    if args.precision != "float32":
        words.append(args.precision)
    if args.quick:
        words.append("quick")
    return "_".join(words)


def run_experiment(experiment: Experiment, description: str | None) -> None:
    """Read the options of a script, load its data and run it.

    Args:
        experiment: what the script is about.
        description: the script's docstring, for --help.
    """
    args = read(options(experiment, description), experiment)
    device = prepare(args.device, args.seed, args.threads, args.deterministic)
    data = datasets.load(
        experiment.dataset, args.data_root, validation=0, fallback=True
    )  # nothing is chosen by validation: the settings are the paper's, the epoch is the last
    if args.quick:
        data = data.first(QUICK_SAMPLES)
    name = run_name(args, experiment, data.name)
    do = partial(train, args, experiment, name, data=data, device=device)
    carry_out(args, name, device, do, data.fingerprint)
