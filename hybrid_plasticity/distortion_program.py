"""Training of the 784-512-10 networks, and their tests under distortion.

The program behind `simple_example/` and `tolerance_learning/`: each of their scripts names its
settings, its data set and its rule.
"""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hybrid_plasticity.distortions import LEVELS, distort
from hybrid_plasticity.figures import draw_constants, draw_curves, draw_levels
from hybrid_plasticity.layer import Rule
from hybrid_plasticity.networks import Encoding, FullyConnected
from hybrid_plasticity.neuron import Neuron
from hybrid_plasticity.published import PublishedModel
from hybrid_plasticity.published import save as save_published
from hybrid_plasticity.trace import Hebbian
from hybrid_plasticity.training import Protocol, evaluate, generators, optimizers, train_epoch
from shared import datasets
from shared.device import prepare
from shared.errors import UserError
from shared.options import add_common_options, check_positive
from shared.run import Run, carry_out

QUICK_SAMPLES = 500
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
        steps: time steps a presentation.
        hidden: hidden neurons.
        batch_size: samples a step; the trace is a mean over them.
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

        A seed gives the same weights under every rule.
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
class Experiment:
    """One script: what it trains, on what, and what it tests afterwards.

    Attributes:
        session: name of the runs, before the rule.
        dataset: "mnist" or "fashion_mnist".
        rule: the learning rule.
        settings: of the program.
        kinds: distortions that the trained network is tested under.
        published: the paper's numbers by metric.
        variants: other settings that --constants offers, by name.
        followed: kind and level of a distortion that every epoch is tested under.
    """

    session: str
    dataset: str
    rule: Rule
    settings: Settings
    kinds: Sequence[str]
    published: Mapping[str, float] | None = None
    variants: Mapping[str, Settings] = field(default_factory=dict)
    followed: tuple[str, int] | None = None


class Images:
    """A split on the device.

    Attributes:
        pixels: intensities [n, 28, 28] in [0, 1], float32.
        labels: classes [n], int64.
    """

    pixels: Float[Tensor, "n height width"]
    labels: Int[Tensor, " n"]

    def __init__(self, split: datasets.Split, device: torch.device) -> None:
        self.pixels = torch.from_numpy(split.inputs[:, 0]).to(device).float() / 255
        self.labels = torch.from_numpy(split.labels).to(device)


def level_metric(kind: str, level: int, protocol: Protocol = "published") -> str:
    """Name of the accuracy under a distortion in result.json."""
    ending = "" if protocol == "published" else f"_{protocol}"
    return f"test_accuracy_{kind}_{level}{ending}"


def levels_tested(
    network: FullyConnected,
    test: Images,
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
        return evaluate(network, pixels, test.labels, batch_size, protocol)["accuracy"]

    clean = {protocol: accuracy(test.pixels, protocol) for protocol in protocols}
    found = {}
    for kind in kinds:
        for level in levels:
            pixels = distort(test.pixels, kind, level)
            for protocol in protocols:  # level 0 of every kind is the clean image
                value = accuracy(pixels, protocol) if level else clean[protocol]
                found[level_metric(kind, level, protocol)] = value
    return found


def train(
    args: argparse.Namespace,
    experiment: Experiment,
    name: str,
    run: Run,
    data: datasets.Dataset,
    device: torch.device,
) -> None:
    """Train and test the network, write figures and result."""
    settings = experiment.settings
    training, test = Images(data.train, device), Images(data.test, device)
    network = settings.network(experiment.rule, args.encoding).to(device)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    learners = optimizers(network, settings.lr, settings.lr_local)
    drawing = generators(device)
    first = run.restore(network=network, **learners, **drawing)
    followed = distort(test.pixels, *experiment.followed) if experiment.followed else None

    def step() -> None:
        for learner in learners.values():
            learner.step()

    for epoch in range(first, args.epochs):
        row = train_epoch(
            network, training.pixels, training.labels, settings.batch_size, step, experiment.rule
        )
        seen = evaluate(network, test.pixels, test.labels, settings.batch_size)
        row |= {"test_accuracy": seen["accuracy"], "test_spikes": seen["spikes"]}
        if experiment.followed and followed is not None:
            noisy = evaluate(network, followed, test.labels, settings.batch_size)
            row[level_metric(*experiment.followed)] = noisy["accuracy"]
        run.log(epoch + 1, row)
        keep_best(args, network, run.metrics())
        parts = {"network": network, "settings": settings, **learners, **drawing}
        run.checkpoint(epoch + 1, **parts)

    report(args, experiment, name, run, data, network, before, test)


def keep_best(
    args: argparse.Namespace, network: FullyConnected, rows: Sequence[Mapping[str, float]]
) -> None:
    """Write the published files that --f asks for where the last epoch is the best from the 7th on.

    Args:
        args: the options f, a folder or None, and names.
        network: as the last epoch left it.
        rows: metrics of all epochs so far.
    """
    settled = [row["test_accuracy"] for row in rows[UNSETTLED:]]
    if args.f and settled and settled[-1] > max(settled[:-1], default=0):
        save_published(PublishedModel(network), args.f, args.names, rows[-1]["test_spikes"])


def report(
    args: argparse.Namespace,
    experiment: Experiment,
    name: str,
    run: Run,
    data: datasets.Dataset,
    network: FullyConnected,
    before: Mapping[str, Tensor],
    test: Images,
) -> None:
    """Test under all protocols and distortions, draw the figures and write the result."""
    rows = run.metrics()
    last, size = rows[-1], experiment.settings.batch_size
    metrics: dict[str, float | None] = {
        "test_accuracy_last": last["test_accuracy"],
        "test_accuracy_best": max(row["test_accuracy"] for row in rows),
    }
    if network.plastic_layers():
        for protocol in OTHER_PROTOCOLS:
            seen = evaluate(network, test.pixels, test.labels, size, protocol)
            metrics[f"test_accuracy_last_{protocol}"] = seen["accuracy"]
        run.save_figure(draw_constants(before, network.state_dict(), name), "constants")
    metrics |= {
        "train_accuracy_last": last["train_accuracy"],
        "train_loss_last": last["train_loss"],
        "test_spikes_last": last["test_spikes"],
    }
    levels = QUICK_LEVELS if args.quick else LEVELS
    metrics |= levels_tested(network, test, experiment.kinds, levels, size)
    run.save_figure(draw_levels(metrics, experiment.kinds, name), "distortions")
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
) -> Mapping[str, float] | None:
    """The published numbers of a run in the paper's configuration and length, else None.

    Args:
        args: the options.
        experiment: what the script is about.
        name: of the run, which tells where it differs from the paper, but for its length.
    """
    paper = (f"{experiment.session}_{experiment.rule}", experiment.settings.epochs)
    return experiment.published if (name, args.epochs) == paper else None


def add_published_options(parser: argparse.ArgumentParser) -> None:
    """Add the published names of options."""
    parser.add_argument("--p", type=Path, dest="data_root", help="the same as --data-root")


def settle_names(args: argparse.Namespace, default: str) -> None:
    """Fill in --names, which begins the names of the files in --f.

    Args:
        args: the options f and names; None where they were not given.
        default: for --names.

    Raises:
        UserError: --names stands without --f.
    """
    if args.names is not None and args.f is None:
        raise UserError(
            f"--names {args.names} begins the names of files in a folder: pass --f FOLDER, too "
            f"(the published default is {FILES})"
        )
    args.names = default if args.names is None else args.names


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


def settle_files(args: argparse.Namespace, rule: Rule) -> None:
    """Check --f and --names of a training, and say where no epoch will be kept.

    Raises:
        UserError: --names stands alone, or the folder of --f cannot be written.
    """
    settle_names(args, default_names(rule))
    if args.f is None:
        return
    check_can_be_written(args.f)
    if args.epochs <= UNSETTLED:
        print(
            f"--f {args.f} will get no files: the published best epoch is sought from epoch "
            f"{UNSETTLED + 1} on, and this run has {args.epochs}",
            flush=True,
        )


def default_names(rule: Rule) -> str:
    """How the names of a rule's published files begin."""
    return f"mlp_v{int(rule != 'gp')}"


def run_experiment(experiment: Experiment, description: str | None) -> None:
    """Read the options of a script, load its data and run it.

    Args:
        experiment: what the script is about.
        description: the script's docstring, for --help.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--encoding",
        choices=("intensity", "bernoulli"),
        default="intensity",
        help="input at every step: the pixel's intensity, or a spike with that probability "
        "(default and paper: intensity)",
    )
    if experiment.variants:
        parser.add_argument(
            "--constants",
            choices=("source", *experiment.variants),
            default="source",
            help="whose constants: the published source's, or those of the compiled file that is "
            "shipped with it (default: source)",
        )
    add_published_options(parser)
    parser.add_argument(
        "--f",
        type=Path,
        help="folder for <names>.pth, <names>HEBB.t7 and <names>spike.t7: weights, traces and "
        "spikes of the best test epoch from the 7th on, as the published programs write them "
        "(default: they are not written)",
    )
    parser.add_argument(
        "--names", help=f"only with --f (default: {default_names(experiment.rule)})"
    )
    name = f"{experiment.session}_{experiment.rule}"
    add_common_options(parser, name, experiment.settings.epochs, threads=1)
    parser.set_defaults(epochs=None)
    args = parser.parse_args()
    constants = getattr(args, "constants", "source")
    if constants != "source":
        experiment = replace(experiment, settings=experiment.variants[constants])
    args.epochs = experiment.settings.epochs if args.epochs is None else args.epochs
    check_positive(epochs=args.epochs)
    if args.quick:
        args.epochs = min(args.epochs, 2)
    settle_files(args, experiment.rule)
    device = prepare(args.device, args.seed, args.threads, args.deterministic)
    data = datasets.load(
        experiment.dataset, args.data_root, validation=0, fallback=True
    )  # nothing is chosen by validation: the settings are the paper's, the epoch is the last
    if args.quick:
        data = data.first(QUICK_SAMPLES)
    if data.name != experiment.dataset:
        name = name.replace(experiment.dataset, data.name)
    words = [name, *(["bernoulli"] if args.encoding == "bernoulli" else [])]
    words += [constants] if constants != "source" else []
    name = "_".join([*words, *(["quick"] if args.quick else [])])
    do = partial(train, args, experiment, name, data=data, device=device)
    carry_out(args, name, device, do, data.fingerprint)
