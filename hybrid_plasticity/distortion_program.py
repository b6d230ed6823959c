"""Training of the 784-512-10 networks on clean images, and their tests on distorted ones.

The program of `simple_example/` and `tolerance_learning/`: each of their scripts names its
constants, its data set and its rule.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor

from hybrid_plasticity.distortions import LEVELS, distort
from hybrid_plasticity.figures import draw_constants, draw_levels, draw_training
from hybrid_plasticity.layer import Rule
from hybrid_plasticity.networks import Encoding, FullyConnected
from hybrid_plasticity.neuron import Neuron
from hybrid_plasticity.published import PublishedModel
from hybrid_plasticity.published import save as save_published
from hybrid_plasticity.trace import Hebbian
from hybrid_plasticity.training import (
    Protocol,
    evaluate,
    load_all,
    optimizers,
    step_of,
    train_epoch,
)
from shared import datasets, experiment
from shared.errors import UserError
from shared.experiment import UNNAMED, Experiment, Named, Positive, as_published, paper, spelled
from shared.run import Run
from shared.tensors import Samples, global_generators

QUICK_SAMPLES = 200
QUICK_EPOCHS = 2
QUICK_LEVELS = (0, 6)
UNSETTLED = 6  # first epochs that the published files are never of
FILES = "../Checkp-fashion"  # the published default of --f
OTHER_PROTOCOLS: tuple[Protocol, ...] = ("frozen", "single", "carried")


@dataclass(frozen=True)
class Settings:
    """What a program of the paper fixes.

    Attributes:
        epochs: passes over the training set.
        neuron, hebbian: constants of neurons and traces.
        tau_w: time constant of the input's attenuation, in steps.
        steps: time steps per presentation.
        hidden: hidden neurons.
        batch_size: samples per step; the trace is a mean over them.
        lr: step size of the weights (Adam).
        lr_local: step size of alpha, beta and eta (Adam).
        local_spread: these start uniform in [0, local_spread).
    """

    epochs: int
    neuron: Neuron
    hebbian: Hebbian
    tau_w: float
    steps: int
    hidden: int = 512
    batch_size: int = 100
    lr: float = 1e-3
    lr_local: float = 5e-4
    local_spread: float = 1e-2

    def network(self, rule: Rule, encoding: Encoding = "intensity") -> FullyConnected:
        """A network 784-hidden-10 under a rule, drawn from the global generator.

        A seed gives the same weights and order of images under every rule.
        """
        network = self.undrawn(rule, encoding)
        network.draw_local(self.local_spread)
        return network

    def undrawn(self, rule: Rule, encoding: Encoding = "intensity") -> FullyConnected:
        """The same with its weights drawn only: alpha, beta and eta are 0."""
        sizes = (784, self.hidden, 10)
        return FullyConnected(
            sizes, self.neuron, self.hebbian, self.tau_w, self.steps, rule, encoding
        )

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint says of these settings, beside its network's parameters."""
        return {
            "neuron": asdict(self.neuron),
            "hebbian": asdict(self.hebbian),
            "tau_w": self.tau_w,
            "steps": self.steps,
        }


@dataclass(frozen=True)
class Options(experiment.Settings):
    """The command line of a script; those of a folder state their epochs."""

    threads: Annotated[Positive[int] | None, UNNAMED] = 1
    """CPU threads; more would wait for each other longer than they work."""
    data_root: Annotated[Path | None, UNNAMED, spelled("data-root", "--p")] = None
    """Folder of the data sets; without it the environment variable SNN_DATA, else datasets/."""
    encoding: Annotated[Encoding, Named("{}"), paper("intensity")] = "intensity"
    """Input at every step: the pixel's intensity, or a spike with that probability."""
    f: Annotated[Path | None, UNNAMED] = None
    """Folder for <names>.pth, <names>HEBB.t7 and <names>spike.t7: weights, traces and spikes of the
    best test epoch from the 7th on, as the published programs write them; without it none."""
    names: Annotated[str | None, UNNAMED] = None
    """Beginning of these files' names; without it mlp_v1, under gp mlp_v0."""
    epochs: Positive[int] = 1
    """Passes over the training set."""

    def check(self) -> None:
        """Refuse --names without --f, and a folder that cannot be written."""
        check_names(self.names, self.f)
        if self.f is not None:
            check_can_be_written(self.f)


@dataclass(frozen=True)
class Program:
    """One script: what it trains, on what, and what it tests afterwards.

    Attributes:
        session: how its runs' names begin, "{}" for the data set.
        dataset: "mnist" or "fashion_mnist".
        rule: the learning rule.
        options: class of its command line.
        settings: the paper's constants, by the options.
        kinds: distortions that the trained network is tested under.
        published: the paper's numbers by metric.
        followed: kind and level of a distortion that every epoch is tested under.
    """

    session: str
    dataset: str
    rule: Rule
    options: type[Options]
    settings: Callable[[Options], Settings]
    kinds: Sequence[str]
    published: Mapping[str, float] | None = None
    followed: tuple[str, int] | None = None

    def defaults(self, asked: Options) -> Options:
        """What options that are not given take."""
        epochs = QUICK_EPOCHS if asked.quick else self.settings(asked).epochs
        return replace(self.options(), epochs=epochs)

    def load(self, options: Options, device: torch.device) -> datasets.Dataset:
        """The data set, see `training.load_all`."""
        return load_all(self.dataset, options, QUICK_SAMPLES)

    def numbers(self, options: Options, data: str) -> Mapping[str, float] | None:
        """The paper's numbers of a run in its configuration and length, else None."""
        is_the_papers = data == self.dataset and as_published(options) == options
        return self.published if is_the_papers else None

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
            session=lambda options, data: f"{self.session.format(data)}_{self.rule}",
            defaults=self.defaults,
            published=self.numbers,
        )

    def main(self, description: str | None) -> None:
        """Read the command line, train and test."""
        self.experiment(description).main(partial(train, self))


def level_metric(kind: str, level: int, protocol: Protocol = "published") -> str:
    """Name of the accuracy under a distortion in result.json."""
    ending = "" if protocol == "published" else f"_{protocol}"
    return f"test_accuracy_{kind}_{level}{ending}"


def levels_tested(
    network: FullyConnected,
    test: Samples,
    kinds: Sequence[str],
    levels: Sequence[int],
    batch_size: int,
) -> dict[str, float]:
    """Accuracy under each distortion and level, by the names of `level_metric`.

    A network with traces is tested as published, with its traces frozen, and with its traces
    carried through the test set.
    """
    protocols: tuple[Protocol, ...] = ("published",)
    if network.plastic_layers():
        protocols += ("frozen", "carried")

    def accuracy(pixels: Tensor, protocol: Protocol) -> float:
        return evaluate(network, Samples(pixels, test.labels), batch_size, protocol)["accuracy"]

    clean = {protocol: accuracy(test.inputs, protocol) for protocol in protocols}
    found = {}
    for kind in kinds:
        for level in levels:
            pixels = distort(test.inputs, kind, level)
            for protocol in protocols:  # level 0 of every kind is the clean image
                value = accuracy(pixels, protocol) if level else clean[protocol]
                found[level_metric(kind, level, protocol)] = value
    return found


def train(
    program: Program, options: Options, data: datasets.Dataset, device: torch.device, run: Run
) -> None:
    """Train and test the network, write figures and result."""
    settings, rule = program.settings(options), program.rule
    training, test = (Samples.of(x, device).map(intensities) for x in (data.train, data.test))
    network = settings.network(rule, options.encoding).to(device)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    learners = optimizers(network, settings.lr, settings.lr_local)
    drawing = global_generators(device)
    first = run.restore(network=network, **learners, **drawing)
    followed = None
    if program.followed:
        followed = Samples(distort(test.inputs, *program.followed), test.labels)
    tell_what_is_kept(options)

    for epoch in range(first, options.epochs):
        row = train_epoch(network, training, settings.batch_size, step_of(learners), rule)
        seen = evaluate(network, test, settings.batch_size)
        row |= {"test_accuracy": seen["accuracy"], "test_spikes": seen["spikes"]}
        if program.followed and followed is not None:
            noisy = evaluate(network, followed, settings.batch_size)
            row[level_metric(*program.followed)] = noisy["accuracy"]
        run.log(epoch + 1, row)
        keep_best(options, network, run.metrics())
        run.checkpoint(epoch + 1, network=network, settings=settings, **learners, **drawing)

    report(program, options, run, network, before, test)


def intensities(pixels: Tensor) -> Tensor:
    """Pixels [n, 1, height, width], uint8, as intensities [n, height, width] in [0, 1]."""
    return pixels[:, 0].float() / 255


def keep_best(
    options: Options, network: FullyConnected, rows: Sequence[Mapping[str, float]]
) -> None:
    """Write the published files that --f asks for where the last epoch is the best from the 7th on.

    Args:
        options: of the run.
        network: as the last epoch left it.
        rows: metrics of all epochs so far.
    """
    settled = [row["test_accuracy"] for row in rows[UNSETTLED:]]
    if options.f and settled and settled[-1] > max(settled[:-1], default=0):
        names = options.names or default_names(network.rule)
        save_published(PublishedModel(network), options.f, names, rows[-1]["test_spikes"])


def report(
    program: Program,
    options: Options,
    run: Run,
    network: FullyConnected,
    before: Mapping[str, Tensor],
    test: Samples,
) -> None:
    """Test under all protocols and distortions, draw the figures and write the result."""
    rows, title = run.metrics(), run.experiment
    last, size = rows[-1], program.settings(options).batch_size
    metrics: dict[str, float | None] = {
        "test_accuracy_last": last["test_accuracy"],
        "test_accuracy_best": max(row["test_accuracy"] for row in rows),
    }
    if network.plastic_layers():
        for protocol in OTHER_PROTOCOLS:
            seen = evaluate(network, test, size, protocol)
            metrics[f"test_accuracy_last_{protocol}"] = seen["accuracy"]
        run.save_figure(draw_constants(before, network.state_dict(), title), "constants")
    metrics |= {
        "train_accuracy_last": last["train_accuracy"],
        "train_loss_last": last["train_loss"],
        "test_spikes_last": last["test_spikes"],
    }
    levels = QUICK_LEVELS if options.quick else LEVELS
    metrics |= levels_tested(network, test, program.kinds, levels, size)
    figure = draw_levels(metrics, program.kinds, program.rule, title)
    run.save_figure(figure, "distortions")
    run.finish(
        epochs=int(last["epoch"]),
        metrics=metrics,
        figure=run.save_figure(draw_training(rows, program.rule, title), "curves"),
    )


def check_names(names: str | None, folder: Path | None) -> None:
    """Refuse --names, which begins the names of the files in --f, without a folder.

    Raises:
        UserError: it stands alone, or leads out of the folder.
    """
    if names is not None and Path(names).name != names:
        raise UserError(f"--names {names} begins names of files in --f: leave folders out of it")
    if names is not None and folder is None:
        raise UserError(
            f"--names {names} begins the names of files in a folder: pass --f FOLDER, too "
            f"(the published default is {FILES})"
        )


def check_can_be_written(folder: Path) -> None:
    """Ask for a folder for --f that is there or can be made, and that files can be put into.

    Raises:
        UserError: it cannot.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise UserError(f"--f {folder} is no folder, as {there} is a file: name another one")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"--f {folder} cannot be written, as {there} may not be: name another one")


def tell_what_is_kept(options: Options) -> None:
    """Say where --f asks for files and no epoch will be kept."""
    if options.f is not None and options.epochs <= UNSETTLED:
        print(
            f"--f {options.f} will get no files: the published best epoch is sought from epoch "
            f"{UNSETTLED + 1} on, and this run has {options.epochs}",
            flush=True,
        )


def default_names(rule: Rule) -> str:
    """How the names of a rule's published files begin."""
    return f"mlp_v{int(rule != 'gp')}"
