"""MNIST, Fashion-MNIST or N-MNIST with LISNN, trained by backpropagation through time.

    python brp_snn/lisnn/train.py                             MNIST
    python brp_snn/lisnn/train.py --dataset FashionMNIST      Fashion-MNIST
    python brp_snn/lisnn/train.py --dataset nmnist            N-MNIST, recordings of an event camera
    python brp_snn/lisnn/train.py --no-lateral                without lateral interactions
    python brp_snn/lisnn/train.py --noise gaussian --noise-level 0.2 --noise-in both

An image is shown by random spikes: x[t] = 1 where pixel > U(0, 1), drawn anew at every step. A
recording is shown as frames, one per step. The last epoch's network is tested on images under both
kinds of noise at levels of our choice, see `noise_data`.

A tenth of the training set is held out: it picks the epoch of the "selected" accuracy. The paper
holds nothing out (`--validation 0`), tests after every second epoch and reports the best test; that
number is there under its own name, and nothing is chosen by it.
"""

import shared.waiting

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Annotated, Any, Literal

import pandas as pd
import torch
from jaxtyping import Float, Int, UInt8
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional

from brp_snn.data import evaluation_stream
from brp_snn.lisnn import nmnist
from brp_snn.lisnn.LISNN import LateralNetwork
from brp_snn.lisnn.noise_data import KINDS, LEVELS, check_level, noisy
from shared import datasets, experiment, parallel
from shared.errors import UserError
from shared.experiment import UNNAMED, Experiment, Named, Positive, Share, as_published, paper
from shared.figures import Curve, Panel, draw_panels, draw_run
from shared.options import script
from shared.run import Run, progress
from shared.tensors import Samples, drawn_generator, one_hot_like, random_order

TESTED_EVERY = 2  # epochs; the published program tests after every second one
STEP_EVERY, STEP_FACTOR = 50, 0.1  # epochs between falls of the step size, and their factor
EVALUATION_BATCH = 100
NOISE_IN_WORDS = {
    "gaussian": ("Gaussian noise, variance 0.01", "mean (white is 1)"),
    "salt_pepper": ("salt and pepper", "share of the pixels"),
}
"""What a figure calls each kind of noise and its level."""
TESTED = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4)  # means or amounts of noise
QUICK_SAMPLES, QUICK_EPOCHS, QUICK_BATCH = 60, 2, 20

IMAGES = {"MNIST": "mnist", "mnist5k": "mnist5k", "FashionMNIST": "fashion_mnist"}
MAPS = {"MNIST": 32, "mnist5k": 32, "FashionMNIST": 32, "nmnist": 64}

PUBLISHED = {"mnist": 0.995, "fashion_mnist": 0.9207, "nmnist": 0.9945}
"""Accuracy of the best test with lateral interactions, by the data set's name."""


@dataclass(frozen=True)
class Settings(experiment.Settings):
    """The options."""

    dataset: Annotated[Literal["MNIST", "mnist5k", "FashionMNIST", "nmnist"], UNNAMED] = "MNIST"
    """Data set; where MNIST cannot be had, the 5,000 digits of mnist5k stand in."""
    lateral: Annotated[bool, UNNAMED, paper(True)] = True
    """Lateral interactions in the convolutional layers."""
    epochs: Annotated[Positive[int], paper(100)] = 100
    """Passes over the training set."""
    batch_size: Annotated[Positive[int], Named("batch-size-{}"), paper(100)] = 100
    """Samples per step."""
    lr: Annotated[Positive[float], paper(1e-3)] = 1e-3
    """Step size of Adam, a tenth of it after 50 epochs."""
    spike_window: Annotated[Positive[int], Named("spike-window-{}"), paper(20)] = 20
    """Time steps of a presentation."""
    validation: Annotated[Share, paper(0.0)] = 0.1
    """Share of the training set that picks the selected epoch."""
    noise: Annotated[Literal["none", "gaussian", "salt_pepper"], UNNAMED] = "none"
    """Kind of noise on the images."""
    noise_level: Annotated[float, UNNAMED] = 0.2
    """Mean of gaussian noise of variance 0.01, white being 1, or share of the pixels that salt and
    pepper hits."""
    noise_in: Annotated[Literal["train", "test", "both"], UNNAMED, paper("both")] = "both"
    """What the noise is in; the validation part is as the test's."""

    def check(self) -> None:
        """Refuse noise that there is not, and settings of noise without any.

        Raises:
            UserError: there is such a setting.
        """
        if self.noise != "none":
            check_level(self.noise, self.noise_level)
            if self.dataset not in IMAGES:
                raise UserError(f"--noise is of images, which {self.dataset} has not: leave it out")
            return
        for name in ("noise_level", "noise_in"):
            if getattr(self, name) != getattr(Settings(), name):
                option = experiment.option(Settings, name)
                raise UserError(f"{option} is of noise: add --noise, or leave {option} out")


def defaults(asked: Settings) -> Settings:
    """What options that are not given are."""
    return Settings(epochs=QUICK_EPOCHS, batch_size=QUICK_BATCH) if asked.quick else Settings()


def session(settings: Settings, loaded: str) -> str:
    """How a run's name begins: brp_lisnn_mnist_lateral, brp_lisnn_mnist_plain_gaussian-0.2-both."""
    words = ["brp_lisnn", loaded, "lateral" if settings.lateral else "plain"]
    if settings.noise != "none":
        words.append(f"{settings.noise}-{settings.noise_level:g}-{settings.noise_in}")
    return "_".join(words)


FREE = (*(field.name for field in fields(experiment.Settings)), "dataset")
"""Settings that a run with a published number may have; all others are the paper's."""


def published(settings: Settings, loaded: str) -> Mapping[str, float] | None:
    """The published accuracy of a run's configuration and length, if there is one.

    Args:
        settings: of the run.
        loaded: the data set that was loaded, which can be a stand-in.
    """
    plain = replace(as_published(Settings()), **{name: getattr(settings, name) for name in FREE})
    if settings != plain or loaded not in PUBLISHED:
        return None
    return {"test_accuracy_best_published_protocol": PUBLISHED[loaded]}


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
    network: nn.Module,
    part: Samples,
    steps: int,
    batch_size: int,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
) -> dict[str, float]:
    """One pass over the training set in random order; the last batch may be smaller.

    Args:
        network: a `LateralNetwork`, of several processes `shared.parallel.replicated`.
        part: the training set.
        steps: time steps of the presentation of an image.
        batch_size: samples per step.
        optimizer: of the network's parameters.
        generator: of the order and of the input's draws.

    Returns:
        Loss and accuracy as seen before each step.

    Raises:
        UserError: a weight is no number any more.
    """
    batches = part.batches(batch_size, random_order(len(part), part.device, generator))
    totals = torch.zeros(2, device=part.device)
    for inputs, labels in progress(batches, len(batches), "train"):
        spikes = shown(inputs, steps, generator)
        with parallel.share(len(labels)) as share:
            output, own = network(share.of(spikes, 1)), share.of(labels)
            loss = squared_error(output, own)
            optimizer.zero_grad()
            torch.autograd.backward(share.loss(loss))
        optimizer.step()
        right = (output.argmax(1) == own).sum()
        totals += torch.stack([share.part(loss.detach()) * len(labels), share.counted(right)])
    mean, accuracy = (total / len(part) for total in parallel.added(totals).tolist())
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


def under_noise(data: datasets.Dataset, settings: Settings) -> datasets.Dataset:
    """The data set with the noise that was asked for; the validation part is as the test is."""
    if settings.noise == "none":
        return data
    parts = {
        "train": ("train",),
        "test": ("validation", "test"),
        "both": ("train", "validation", "test"),
    }[settings.noise_in]
    changed = {
        name: replace(part, inputs=noisy(part.inputs, settings.noise, settings.noise_level))
        for name in parts
        if len(part := getattr(data, name))
    }
    return replace(data, **changed)


def train(settings: Settings, data: datasets.Dataset, device: torch.device, run: Run) -> None:
    """Train and test the network, write figures and result."""
    disturbed = under_noise(data, settings)
    parts = {
        part: Samples.of(split, device)
        for part in ("train", "validation", "test")
        if len(split := getattr(disturbed, part))
    }
    channels, height, width = parts["train"].inputs.shape[-3:]
    shape = (channels, height, width)
    network = LateralNetwork(shape, MAPS[settings.dataset], settings.lateral).to(device)
    optimizer = torch.optim.Adam(network.parameters(), settings.lr, fused=True)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, STEP_EVERY, STEP_FACTOR)
    generator = drawn_generator(device)
    state = {
        "network": network,
        "optimizer": optimizer,
        "scheduler": scheduler,
        "generator": generator,
    }
    steps, learner = settings.spike_window, parallel.replicated(network)
    for epoch in range(run.restore(**state), settings.epochs):
        row = train_epoch(learner, parts["train"], steps, settings.batch_size, optimizer, generator)
        scheduler.step()
        if parallel.is_first():
            for part in [part for part in parts if part != "train"]:
                found = evaluate(network, parts[part], steps)
                row |= {f"{part}_{score}": value for score, value in found.items()}
        run.log(epoch + 1, row)
        run.checkpoint(epoch + 1, **state)

    if not parallel.is_first():
        return
    is_images = settings.dataset in IMAGES
    curves = noise_curves(network, data.test, steps, device) if is_images else {}
    report(settings, run, curves)


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


def report(settings: Settings, run: Run, curves: Mapping[str, Sequence[float]]) -> None:
    """Draw the figures and write the result."""
    rows = run.metrics()
    last = rows[-1]
    if curves:
        label = label_of(asdict(settings))
        run.save_figure(draw_noise({label: [curves]}, run.dataset), "noise")
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
        epochs=int(last["epoch"]),
        metrics=metrics,
        figure=run.save_figure(draw_run(rows, run.experiment), "curves"),
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
    network = "lateral" if options["lateral"] else "plain"
    if options["noise"] == "none":
        return network
    where = "" if options["noise_in"] == "both" else f" in {options['noise_in']}"
    kind = options["noise"].replace("_", " and ")
    return f"{network}, {kind} {options['noise_level']:g}{where}"


def load(settings: Settings, device: torch.device) -> datasets.Dataset:
    """The data set that was asked for; the first samples only with --quick."""
    first = QUICK_SAMPLES if settings.quick else None
    if settings.dataset == "nmnist":
        return nmnist.load(settings.data_root, settings.spike_window, first, settings.validation)
    data = datasets.load(
        IMAGES[settings.dataset],
        settings.data_root,
        validation=settings.validation,
        fallback=True,
    )
    return data if first is None else data.first(first)


SPELLINGS = {
    "-gpu N": ("--device", "cuda:N"),
    "-seed": ("--seed",),
    "-epoch": ("--epochs",),
    "-batch_size": ("--batch-size",),
    "-learning_rate": ("--lr",),
    "-dts Fashion-MNIST": ("--dataset", "FashionMNIST"),
    "-dts NMNIST": ("--dataset", "nmnist"),
    "-dts": ("--dataset",),
    "-if_lateral True": ("--lateral",),
    "-if_lateral False": ("--no-lateral",),
}
"""What the published options stand for."""

EXPERIMENT = Experiment(
    paper="brp_snn",
    description=__doc__,
    settings=Settings,
    load=load,
    session=session,
    defaults=defaults,
    published=published,
    shorthands=SPELLINGS,
    shares_batches=True,
)


def main() -> None:
    """Read the options and run."""
    EXPERIMENT.main(train)


if __name__ == "__main__":
    script(main)
