"""MNIST, Fashion-MNIST or N-MNIST with LISNN, trained by backpropagation through time.

    python brp_snn/lisnn/train.py                             MNIST
    python brp_snn/lisnn/train.py --dataset FashionMNIST      Fashion-MNIST
    python brp_snn/lisnn/train.py --dataset nmnist            N-MNIST, recordings of an event camera
    python brp_snn/lisnn/train.py --no-lateral                without lateral interactions
    python brp_snn/lisnn/train.py --noise gaussian --noise-level 0.2 --noise-in both

An image is shown by random spikes: x[t] = 1 where pixel > U(0, 1), drawn anew at every step. A
recording is shown as frames, one a step. The last epoch's network is tested on images under both
kinds of noise at levels of our choice, see `noise_data`.

A tenth of the training set is held out: it picks the epoch of the "selected" accuracy. The paper
holds nothing out (`--validation 0`), tests after every second epoch and reports the best test; that
number is there under its own name, and nothing is chosen by it.
"""

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, get_args

import pandas as pd
import torch
from jaxtyping import Float, Int, UInt8
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional

from brp_snn.data import evaluation_stream
from brp_snn.lisnn import nmnist
from brp_snn.lisnn.LISNN import LateralNetwork
from brp_snn.lisnn.noise_data import KINDS, LEVELS, Noise, check_level, noisy
from shared import datasets
from shared.device import prepare
from shared.errors import UserError
from shared.figures import Curve, Panel, draw_panels, draw_run
from shared.options import add_common_options, check_positive, script
from shared.run import Run, carry_out, progress
from shared.tensors import Samples, drawn_generator, one_hot_like, random_order

EPOCHS = 100
PLAIN = {"batch_size": 100, "lr": 1e-3, "spike_window": 20, "validation": 0.1}
"""The paper's values, but for validation: it holds nothing out."""
NOISE = {"noise_level": 0.2, "noise_in": "both"}
"""What noise is like where the options do not say."""
TESTED_EVERY = 2  # epochs; the published program tests after every second one
STEP_EVERY, STEP_FACTOR = 50, 0.1  # epochs between falls of the step size, and their factor
EVALUATION_BATCH = 100
NOISE_IN_WORDS = {
    "gaussian": ("Gaussian noise, variance 0.01", "mean (white is 1)"),
    "salt_pepper": ("salt and pepper", "share of the pixels"),
}
"""What a figure calls each kind of noise and its level."""
TESTED = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4)  # means or amounts of noise
QUICK_SAMPLES, QUICK_BATCH = 200, 20

IMAGES = {"MNIST": "mnist", "mnist5k": "mnist5k", "FashionMNIST": "fashion_mnist"}
MAPS = {"MNIST": 32, "mnist5k": 32, "FashionMNIST": 32, "nmnist": 64}
PUBLISHED_NAMES = {"MNIST": "MNIST", "Fashion-MNIST": "FashionMNIST", "NMNIST": "nmnist"}

PUBLISHED = {"mnist": 0.995, "fashion_mnist": 0.9207, "nmnist": 0.9945}
"""Accuracy of the best test with lateral interactions, by the data set's name."""


def published(args: argparse.Namespace, loaded: str, epochs: int) -> float | None:
    """The published accuracy of a run's configuration and length, where there is one.

    Args:
        args: the options.
        loaded: the data set that was loaded, which can be a stand-in.
        epochs: length of the run.
    """
    as_published = {**PLAIN, "lateral": True, "noise": None, "quick": False, "validation": 0}
    if epochs != EPOCHS or any(getattr(args, k) != value for k, value in as_published.items()):
        return None
    return PUBLISHED.get(loaded)


def shown(
    inputs: UInt8[Tensor, "batch *inputs"], steps: int, generator: torch.Generator
) -> Float[Tensor, "time batch channels height width"]:
    """Spikes at every step.

    Args:
        inputs: images, or frames, which are shown as they are.
        steps: time steps of the presentation of an image.
        generator: of the random numbers that an image is compared with.
    """
    if inputs.dim() == 5:
        return inputs.transpose(0, 1).float()
    draws = torch.rand(steps, *inputs.shape, generator=generator, device=inputs.device)
    return torch.gt(inputs.float() / 255, draws, out=draws)


def train_epoch(
    network: LateralNetwork,
    part: Samples,
    steps: int,
    batch_size: int,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
) -> dict[str, float]:
    """One pass over the training set in random order; the last batch may be smaller.

    Returns:
        Loss and accuracy as seen before each step.

    Raises:
        UserError: a weight is no number any more.
    """
    batches = part.batches(batch_size, random_order(len(part), part.device, generator))
    totals = torch.zeros(2, device=part.device)
    for inputs, labels in progress(batches, len(batches), "train"):
        output = network(shown(inputs, steps, generator))
        loss = squared_error(output, labels)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        right = (output.argmax(1) == labels).sum()
        totals += torch.stack([loss.detach() * len(labels), right])
    mean, accuracy = (total / len(part) for total in totals.tolist())
    finite = all(bool(value.isfinite().all()) for value in network.parameters())
    if not (math.isfinite(mean) and finite):
        raise UserError(
            "the loss or a weight is no number any more: lower --lr; the last checkpoint is from "
            "before it"
        )
    return {"train_loss": mean, "train_accuracy": accuracy}


def squared_error(
    output: Float[Tensor, "batch classes"], labels: Int[Tensor, " batch"]
) -> Float[Tensor, ""]:
    """Mean squared difference of readout and one-hot labels."""
    return functional.mse_loss(output, one_hot_like(labels, output))


@torch.no_grad()
def evaluate(network: LateralNetwork, part: Samples, steps: int) -> dict[str, float]:
    """Loss and accuracy on a part, with the same random draws in every call."""
    generator = evaluation_stream(part.device)
    totals = torch.zeros(2, device=part.device)
    batches = part.batches(EVALUATION_BATCH)
    for inputs, labels in progress(batches, len(batches), "test"):
        output = network(shown(inputs, steps, generator))
        right = (output.argmax(1) == labels).sum()
        totals += torch.stack([squared_error(output, labels) * len(labels), right])
    loss, accuracy = (total / len(part) for total in totals.tolist())
    return {"loss": loss, "accuracy": accuracy}


def under_noise(data: datasets.Dataset, args: argparse.Namespace) -> datasets.Dataset:
    """The data set with the noise that was asked for; the validation part is as the test is."""
    if args.noise is None:
        return data
    parts = {
        "train": ("train",),
        "test": ("validation", "test"),
        "both": ("train", "validation", "test"),
    }[args.noise_in]
    changed = {
        name: replace(part, inputs=noisy(part.inputs, args.noise, args.noise_level))
        for name in parts
        if len(part := getattr(data, name))
    }
    return replace(data, **changed)


def train(
    args: argparse.Namespace, name: str, run: Run, data: datasets.Dataset, device: torch.device
) -> None:
    """Train and test the network, write figures and result."""
    disturbed = under_noise(data, args)
    parts = {
        part: Samples.of(split, device)
        for part in ("train", "validation", "test")
        if len(split := getattr(disturbed, part))
    }
    channels, height, width = parts["train"].inputs.shape[-3:]
    network = LateralNetwork((channels, height, width), MAPS[args.dataset], args.lateral)
    network = network.to(device)
    optimizer = torch.optim.Adam(network.parameters(), args.lr, fused=True)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, STEP_EVERY, STEP_FACTOR)
    generator = drawn_generator(device)
    state = {
        "network": network,
        "optimizer": optimizer,
        "scheduler": scheduler,
        "generator": generator,
    }
    for epoch in range(run.restore(**state), args.epochs):
        row = train_epoch(
            network, parts["train"], args.spike_window, args.batch_size, optimizer, generator
        )
        scheduler.step()
        for part in [part for part in parts if part != "train"]:
            found = evaluate(network, parts[part], args.spike_window)
            row |= {f"{part}_{score}": value for score, value in found.items()}
        run.log(epoch + 1, row)
        run.checkpoint(epoch + 1, **state)

    is_images = args.dataset in IMAGES
    curves = noise_curves(network, data.test, args.spike_window, device) if is_images else {}
    report(args, name, run, data, curves)


def noise_curves(
    network: LateralNetwork, test: datasets.Split, steps: int, device: torch.device
) -> dict[str, list[float]]:
    """Accuracy under each kind of noise at each of the levels `TESTED`, by kind."""
    return {
        kind: [
            evaluate(
                network,
                Samples.of(replace(test, inputs=noisy(test.inputs, kind, level)), device),
                steps,
            )["accuracy"]
            for level in TESTED
        ]
        for kind in KINDS
    }


def report(
    args: argparse.Namespace,
    name: str,
    run: Run,
    data: datasets.Dataset,
    curves: Mapping[str, Sequence[float]],
) -> None:
    """Draw the figures and write the result."""
    rows = run.metrics()
    last = rows[-1]
    if curves:
        run.save_figure(draw_noise({label_of(vars(args)): [curves]}, name), "noise")
    accuracy = published(args, data.name, int(last["epoch"]))
    metrics: dict[str, float | None] = {"test_accuracy_last": last["test_accuracy"]}
    if "validation_accuracy" in last:
        selected = max(rows, key=lambda row: row["validation_accuracy"])
        metrics |= {
            "test_accuracy_selected": selected["test_accuracy"],
            "selected_epoch": selected["epoch"],
            "validation_accuracy_last": last["validation_accuracy"],
        }
    metrics |= {
        "test_accuracy_best_published_protocol": best_of_published_tests(rows),
        "train_accuracy_last": last["train_accuracy"],
        "train_loss_last": last["train_loss"],
    }
    for kind, values in curves.items():
        metrics |= {
            metric_of(kind, level): value for level, value in zip(TESTED, values, strict=True)
        }
    run.finish(
        experiment=name,
        paper="brp_snn",
        dataset=data.name,
        epochs=int(last["epoch"]),
        metrics=metrics,
        published=None if accuracy is None else {"test_accuracy_best_published_protocol": accuracy},
        figure=run.save_figure(draw_run(rows, name), "curves"),
    )


def best_of_published_tests(rows: Sequence[Mapping[str, float]]) -> float | None:
    """The best test accuracy of the epochs that the published program tests after, if any."""
    tested = [row["test_accuracy"] for row in rows if row["epoch"] % TESTED_EVERY == 0]
    return max(tested, default=None)


def metric_of(kind: str, level: float) -> str:
    """Name in result.json of the accuracy under noise."""
    return f"test_accuracy_last_{kind}_{LEVELS[kind]}_{level:g}"


def draw_noise(
    networks: Mapping[str, Sequence[Mapping[str, Sequence[float]]]], title: str
) -> Figure:
    """Test accuracy over the level of each kind of noise.

    Args:
        networks: by name in words, the accuracies of each seed as `noise_curves` gives them.
        title: of the figure.
    """
    panels = []
    for kind, (heading, level) in NOISE_IN_WORDS.items():
        curves = [
            Curve(name, [100 * pd.Series(seed[kind], TESTED) for seed in seeds])
            for name, seeds in networks.items()
        ]
        panels.append(Panel(heading, level, curves))
    return draw_panels(panels, "test accuracy (%)", title)


def label_of(options: Mapping[str, Any]) -> str:
    """What a figure calls a network, by its run's options: "lateral" or "plain", and its noise."""
    words = ["lateral" if options["lateral"] else "plain"]
    if options["noise"] is not None:
        heading = NOISE_IN_WORDS[options["noise"]][0]
        words.append(f"{heading}, {options['noise_level']:g} in {options['noise_in']}")
    return ", ".join(words)


def experiment(args: argparse.Namespace, dataset: str) -> str:
    """Name of a run, such as brp_lisnn_mnist_lateral or brp_lisnn_mnist_plain_gaussian-0.2-both."""
    words = ["brp_lisnn", dataset, "lateral" if args.lateral else "plain"]
    if args.noise is not None:
        words.append(f"{args.noise}-{args.noise_level:g}-{args.noise_in}")
    for option, default in PLAIN.items():
        if getattr(args, option) != default and not args.quick:
            words.append(f"{option.replace('_', '-')}-{getattr(args, option)}")
    if args.quick:
        words.append("quick")
    return "_".join(words)


def load(args: argparse.Namespace) -> datasets.Dataset:
    """The data set that was asked for; the first samples only with --quick."""
    if args.dataset == "nmnist":
        first = QUICK_SAMPLES if args.quick else None
        return nmnist.load(args.data_root, args.spike_window, first, args.validation)
    data = datasets.load(
        IMAGES[args.dataset], args.data_root, validation=args.validation, fallback=True
    )
    return data.first(QUICK_SAMPLES) if args.quick else data


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this experiment."""
    add = parser.add_argument
    add(
        "--dataset",
        choices=tuple(MAPS),
        default="MNIST",
        help="data set (default: MNIST; where it cannot be had, the 5,000 digits of mnist5k)",
    )
    add(
        "--lateral",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="lateral interactions in the convolutional layers (default: with them)",
    )
    add(
        "--batch-size",
        type=int,
        default=PLAIN["batch_size"],
        help="samples a step (default and paper: 100)",
    )
    add(
        "--lr",
        type=float,
        default=PLAIN["lr"],
        help=f"step size of Adam, a tenth of it after {STEP_EVERY} epochs "
        "(default and paper: 0.001)",
    )
    add(
        "--spike_window",
        "--spike-window",
        type=int,
        default=PLAIN["spike_window"],
        help="time steps of a presentation (default and paper: 20)",
    )
    add(
        "--validation",
        type=float,
        default=0.1,
        help="share of the training set that picks the selected epoch (default: 0.1; paper: 0)",
    )
    group = parser.add_argument_group("noise, of images")
    group.add_argument(
        "--noise", choices=("none", *get_args(Noise)), default="none", help="kind (default: none)"
    )
    group.add_argument(
        "--noise-level",
        type=float,
        default=NOISE["noise_level"],
        help="mean of gaussian noise of variance 0.01, white being 1, or share of the pixels that "
        "salt and pepper hits (default: 0.2)",
    )
    group.add_argument(
        "--noise-in",
        choices=("train", "test", "both"),
        default=NOISE["noise_in"],
        help="what the noise is in; the validation part is as the test's (default, paper: both)",
    )


def add_published_options(parser: argparse.ArgumentParser) -> None:
    """The published spellings of options that are there already."""
    group = parser.add_argument_group("published spellings")

    def add(option: str, **settings: Any) -> None:
        group.add_argument(option, default=argparse.SUPPRESS, **settings)

    add("-gpu", dest="device", type=_gpu, metavar="N", help="--device cuda:N")
    add("-seed", dest="seed", type=int, help="--seed (paper: 3154)")
    add("-epoch", dest="epochs", type=int, help="--epochs")
    add("-batch_size", dest="batch_size", type=int, help="--batch-size")
    add("-learning_rate", dest="lr", type=float, help="--lr")
    add(
        "-dts",
        dest="dataset",
        type=_dataset,
        metavar=f"{{{','.join(PUBLISHED_NAMES)}}}",
        help="--dataset",
    )
    add(
        "-if_lateral",
        dest="lateral",
        type=_yes_or_no,
        metavar="{True,False}",
        help="--lateral or --no-lateral",
    )


def _gpu(word: str) -> str:
    if not word.isdigit():
        raise argparse.ArgumentTypeError(f"{word!r} is no number of a GPU")
    return f"cuda:{word}"


def _dataset(word: str) -> str:
    if word not in PUBLISHED_NAMES:
        raise argparse.ArgumentTypeError(f"{word!r} is not one of {', '.join(PUBLISHED_NAMES)}")
    return PUBLISHED_NAMES[word]


def _yes_or_no(word: str) -> bool:
    if word not in ("True", "False"):
        raise argparse.ArgumentTypeError(f"{word!r} is neither True nor False")
    return word == "True"


def check(args: argparse.Namespace) -> None:
    """Refuse options that cannot be.

    Raises:
        UserError: one of them is out of its range.
    """
    check_positive(
        epochs=args.epochs,
        batch_size=args.batch_size,
        lr=args.lr,
        spike_window=args.spike_window,
    )
    if not 0 <= args.validation < 1:
        raise UserError(f"--validation {args.validation} must be at least 0 and below 1")
    if args.noise is None:
        for name, default in NOISE.items():
            if getattr(args, name) != default:
                option = f"--{name.replace('_', '-')}"
                raise UserError(f"{option} is of noise: add --noise, or leave {option} out")
    else:
        check_level(args.noise, args.noise_level)
        if args.dataset not in IMAGES:
            raise UserError(f"--noise is of images, which {args.dataset} has not: leave it out")


def main() -> None:
    """Read the options, load the data and run."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_options(parser)
    add_common_options(parser, "brp_lisnn_<dataset>_<lateral or plain>", EPOCHS)
    add_published_options(parser)
    args = parser.parse_args()
    args.noise = None if args.noise == "none" else args.noise
    if args.quick:
        args.epochs = min(args.epochs, 2)
        args.batch_size = min(args.batch_size, QUICK_BATCH)
    check(args)
    device = prepare(args.device, args.seed, args.threads, args.deterministic)
    data = load(args)
    name = experiment(args, data.name)
    do = partial(train, args, name, data=data, device=device)
    carry_out(args, name, device, do, data.fingerprint)


if __name__ == "__main__":
    script(main)
