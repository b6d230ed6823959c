"""Spiking networks whose thresholds learn beside their synapses (STL).

    python stl_snn/train.py -data mnist                     thresholds and synapses learn
    python stl_snn/train.py -data mnist --learning sl       synapses only
    python stl_snn/train.py -data mnist --learning tl       thresholds only
    python stl_snn/train.py -data fashion_mnist --steps 8
    python stl_snn/train.py -data nmnist                    recordings of an event camera; also
                                                            dvsgesture and cifar10dvs
    python stl_snn/train.py -data mnist --width 0.25        a quarter of the channels
    python stl_snn/train.py -data mnist --epochs 5 --whole-decay

A tenth of the training set is held out: it picks the epoch of the "selected" accuracy. The accuracy
of the last epoch is the result; the best of all epochs on the test set is given apart. Behind the
training the network is tested under noise, and its spikes and operations are counted.
"""

import argparse
import copy
import dataclasses
import math
import sys
from typing import Any, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from shared.device import prepare
from shared.errors import UserError
from shared.figures import counted, draw_run
from shared.options import add_common_options, check_positive, script
from shared.run import Run, carry_out
from stl_snn.data import LEVELS, intensities, kinds_of_noise, load, spikes
from stl_snn.figures import draw_energy, draw_noise, draw_rates, draw_thresholds
from stl_snn.loaders import get_model_and_dataset
from stl_snn.operations import Counter
from stl_snn.param import (
    MNIST,
    SETTINGS,
    Learning,
    Precision,
    Sharing,
    deepened,
    scaled,
    with_whole_decay,
)
from stl_snn.spiking_model import SpikingNetwork
from stl_snn.training import (
    EVALUATION_SEED,
    Presentation,
    Task,
    joint_accuracy,
    threshold_summary,
    under_noise,
)

__all__ = ["get_model_and_dataset", "main"]

QUICK_SAMPLES, QUICK_WIDTH, QUICK_EPOCHS, QUICK_LEVELS = 200, 0.0625, 2, (0, 6, 14)

FIELDS = {
    "steps": "time steps T of a presentation",
    "batch_size": "samples a step of Adam",
    "lr": "step size of Adam",
    "lr_decay": "factor of the step size behind every epoch",
    "weight_decay": "of Adam, on thresholds too",
    "dropout": "share of a fully connected layer's inputs dropped, afresh at every step",
    "tau": "share of the potential left after a step",
    "alpha": "sharpness of the surrogate derivative",
    "theta": "mean initial threshold",
    "spread": "standard deviation of the initial thresholds",
}
"""Options that stand for a field of the data set's settings."""


def parse() -> argparse.Namespace:
    """The command line, with the data set's settings where nothing else was asked for."""
    return completed(make_parser().parse_args())


def completed(args: argparse.Namespace) -> argparse.Namespace:
    """Options as read, with the data set's settings where nothing else was asked for.

    Raises:
        UserError: they cannot be.
    """
    fill(args)
    check(args)
    setting_of(args)
    return args


def make_parser(description: str | None = __doc__) -> argparse.ArgumentParser:
    """The parser.

    Args:
        description: for --help, of the script that takes these options.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_common_options(parser, MNIST.session, MNIST.epochs)
    parser.set_defaults(epochs=None)
    parser.add_argument(
        "-data", "--data", choices=tuple(SETTINGS), default="mnist", help="data set (mnist)"
    )
    parser.add_argument(
        "--learning",
        choices=get_args(Learning),
        help="what learns: synapses and thresholds, synapses only, thresholds only (stl)",
    )
    for switch, dest, value, long in (
        ("-tl", "thresholds", "stl", "--learning stl"),
        ("--no-tl", "thresholds", "sl", "--learning sl"),
        ("-gpu", "device", "cuda", "--device cuda"),
        ("--no-gpu", "device", "cpu", "--device cpu"),
    ):
        parser.add_argument(
            switch, dest=dest, action="store_const", const=value, help=f"the same as {long}"
        )
    parser.add_argument(
        "--train-norm",
        action=argparse.BooleanOptionalAction,
        help="scale and shift of batch normalisation learn (with stl and sl, not with tl)",
    )
    thresholds = parser.add_argument_group("thresholds")
    thresholds.add_argument(
        "--sharing",
        choices=get_args(Sharing),
        default="neuron",
        help="who has a threshold of its own (paper: neuron)",
    )
    thresholds.add_argument(
        "--floor", type=float, help="keep thresholds at it or above (paper: they are free)"
    )
    settings = parser.add_argument_group("settings of the data set")
    settings.add_argument(
        "--width", type=float, help="factor of the hidden layers' sizes (1; 0.0625 with --quick)"
    )
    settings.add_argument(
        "--depth", type=int, help="convolutions; more of them stand in the last block"
    )
    for name, words in FIELDS.items():
        default = getattr(MNIST(), name)
        settings.add_argument(
            f"--{name.replace('_', '-')}",
            type=type(default),
            help=f"{words} (of MNIST, paper: {default:g})",
        )
    settings.add_argument(
        "--whole-decay",
        action="store_true",
        help=f"the step size ends where the paper's {MNIST.epochs} epochs leave it: behind each of "
        f"E epochs it is multiplied by --lr-decay to the power of {MNIST.epochs} / E",
    )
    settings.add_argument(
        "--precision",
        choices=get_args(Precision),
        default="float32",
        help="of products and convolutions; bfloat16 is meant for a GPU (float32)",
    )
    tests = parser.add_argument_group("tests behind the training")
    tests.add_argument(
        "--decisions",
        type=int,
        default=1,
        help="joint decision: votes of so many draws of the input's spikes are averaged (1)",
    )
    tests.add_argument(
        "--noise-samples",
        type=int,
        default=1000,
        help="first test samples that are shown under every kind and level of noise; 0 for none "
        "(1000)",
    )
    return parser


def fill(args: argparse.Namespace) -> None:
    """Give options that were not given the data set's settings.

    Raises:
        UserError: two options contradict each other.
    """
    if args.thresholds and args.learning and args.thresholds != args.learning:
        switch = "-tl" if args.thresholds == "stl" else "--no-tl"
        raise UserError(f"--learning {args.learning} contradicts {switch}: give one of them")
    args.learning = args.learning or args.thresholds or "stl"
    del args.thresholds
    defaults = SETTINGS[args.data]()
    for name in (*FIELDS, "epochs"):
        if getattr(args, name) is None:
            setattr(args, name, getattr(defaults, name))
    if args.depth is None:
        args.depth = sum(defaults.blocks)
    if args.width is None:
        args.width = QUICK_WIDTH if args.quick else 1.0
    if args.train_norm is None:
        args.train_norm = args.learning != "tl"


def check(args: argparse.Namespace) -> None:
    """Refuse options that cannot be.

    Raises:
        UserError: one of them is out of its range.
    """
    for name, value in vars(args).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"--{name.replace('_', '-')} {value} must be a finite number")
    names = ("epochs", "steps", "batch_size", "lr", "lr_decay", "width", "alpha", "theta", "depth")
    check_positive(**{name: getattr(args, name) for name in (*names, "decisions")})
    if args.floor is not None and not 0 < args.floor <= args.theta:
        raise UserError(
            f"--floor {args.floor} must be above 0 and at most --theta {args.theta}, where the "
            "thresholds start"
        )
    for name, end in (("dropout", 1), ("tau", 1)):
        if not 0 <= getattr(args, name) < end:
            raise UserError(f"--{name} {getattr(args, name)} must be at least 0 and below {end}")
    for name in ("weight_decay", "spread", "noise_samples"):
        if getattr(args, name) < 0:
            raise UserError(f"--{name.replace('_', '-')} {getattr(args, name)} must not be below 0")


def setting_of(args: argparse.Namespace) -> MNIST:
    """The settings that the options ask for.

    Raises:
        UserError: the depth cannot be.
    """
    given = {name: getattr(args, name) for name in (*FIELDS, "epochs")}
    setting = dataclasses.replace(SETTINGS[args.data](), **given)
    if args.whole_decay:
        setting = with_whole_decay(setting)
    return deepened(scaled(setting, args.width), args.depth)


def name_of(args: argparse.Namespace) -> str:
    """Name of the experiment: what differs from the default stands behind it."""
    defaults = SETTINGS[args.data]()
    words = [defaults.session]
    if args.learning != "stl":
        words.append(args.learning)
    if args.train_norm != (args.learning != "tl"):
        words.append("norm" if args.train_norm else "no-norm")
    if args.sharing != "neuron":
        words.append(f"per-{args.sharing}")
    if args.floor is not None:
        words.append(f"floor-{args.floor:g}")
    if args.depth != sum(defaults.blocks):
        words.append(f"depth-{args.depth}")
    if args.width != 1:
        words.append(f"width-{args.width:g}")
    for name in FIELDS:
        if getattr(args, name) != getattr(defaults, name):
            word = "T" if name == "steps" else f"{name.replace('_', '-')}-"
            words.append(f"{word}{getattr(args, name):g}")
    if args.whole_decay:
        words.append("whole-decay")
    if args.precision != "float32":
        words.append(args.precision)
    return "_".join([*words, "quick"] if args.quick else words)


class Start(NamedTuple):
    """What an untrained network was like: thresholds, and firing rates, by layer of neurons."""

    thresholds: dict[str, NDArray[np.float32]]
    rates: dict[str, float]


@torch.no_grad()
def rates_of(task: Task) -> dict[str, float]:
    """Firing rates of the untrained network, on a training batch normalised by itself."""
    network = copy.deepcopy(task.network).train()  # its running averages stay as they are
    inputs = task.data.train.inputs[: task.presentation.batch_size]
    generator = torch.Generator(task.device).manual_seed(EVALUATION_SEED)
    values = intensities(inputs, task.data.recorded)
    with torch.random.fork_rng(), Counter(network) as counter:
        network(spikes(values, task.presentation.steps, generator))
    return counter.rates()


def thresholds_of(network: SpikingNetwork) -> dict[str, NDArray[np.float32]]:
    """A copy of every layer's thresholds."""
    return {
        name: layer.thresh.detach().cpu().numpy().copy()
        for name, layer in network.neurons().items()
    }


def warn_of_non_positive(network: SpikingNetwork, epoch: int) -> int:
    """Say how many thresholds of which layers are at 0 or below.

    Returns:
        Their number.
    """
    counts = {name: count for name, count in network.non_positive().items() if count}
    if counts:
        layers = ", ".join(f"{count} in {name}" for name, count in counts.items())
        print(
            f"epoch {epoch}: thresholds at 0 or below, whose neurons fire without input: {layers}; "
            "--floor 0.1 keeps them above",
            file=sys.stderr,
        )
    return sum(counts.values())


def run_experiment(args: argparse.Namespace, run: Run, device: torch.device) -> None:
    """Train and test one network.

    Raises:
        UserError: data or network cannot be had as asked, or the checkpoint is another network's.
    """
    setting = setting_of(args)
    data = load(
        args.data,
        args.data_root,
        setting.steps,
        device,
        augmented=setting.augmented,
        limit=QUICK_SAMPLES if args.quick else None,
    )
    network = SpikingNetwork(
        setting, data.shape, data.n_classes, sharing=args.sharing, floor=args.floor
    ).to(device)
    task = Task(network, data, Presentation(setting.steps, setting.batch_size, args.precision))
    optimizer = torch.optim.Adam(
        network.learn(args.learning, args.train_norm),
        lr=setting.lr,
        weight_decay=setting.weight_decay,
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, setting.lr_decay)
    parts = {"network": network, "optimizer": optimizer, "schedule": schedule}
    parts |= generators(device)
    epochs = QUICK_EPOCHS if args.quick else setting.epochs
    start = Start(thresholds_of(network), rates_of(task))
    done = restore(run, parts)
    for epoch in range(done + 1, epochs + 1):
        row = task.train_epoch(optimizer)
        schedule.step()
        row |= look(task)
        row["non_positive_thresholds"] = warn_of_non_positive(network, epoch)
        run.log(epoch, row, show=False)
        show(epoch, row)
        run.checkpoint(epoch, **parts)
    finish(args, run, task, start)


def generators(device: torch.device) -> dict[str, torch.Generator]:
    """The random generators that training draws from, for its checkpoints."""
    found = {"generator": torch.default_generator}
    if device.type == "cuda":
        found["cuda_generator"] = torch.cuda.default_generators[device.index or 0]
    return found


def restore(run: Run, parts: dict[str, Any]) -> int:
    """Take up the run's checkpoint where there is one.

    Returns:
        The number of epochs that are done.

    Raises:
        UserError: it is that of another network.
    """
    try:
        return run.restore(**parts)
    except (RuntimeError, KeyError, ValueError) as error:
        raise UserError(
            f"{run.checkpoint_path} is a checkpoint of another network "
            f"({str(error).splitlines()[0]}): choose another --out, or replace it with --no-resume"
        ) from error


def look(task: Task) -> dict[str, float]:
    """Accuracies, firing rates on the validation part, and thresholds of the network as it is."""
    row, counter = task.evaluate_counted(task.data.validation, "validation")
    row |= task.evaluate(task.data.test, "test")
    row |= {f"rate_{name}": rate for name, rate in counter.rates().items()}
    return row | threshold_summary(task.network)


def show(epoch: int, row: dict[str, float]) -> None:
    """Print an epoch's main numbers."""
    names = ("train_loss", "train_accuracy", "validation_accuracy", "test_accuracy")
    numbers = "  ".join(f"{name} {row[name]:.4f}" for name in names)
    rates = " ".join(f"{100 * v:.1f}" for name, v in row.items() if name.startswith("rate_"))
    print(f"epoch {epoch:3d}  {numbers}  spikes a neuron and step {rates} %", flush=True)


def finish(args: argparse.Namespace, run: Run, task: Task, start: Start) -> None:
    """Test the trained network, draw the figures and write the result."""
    data, network, rows = task.data, task.network, run.metrics()
    title = f"{data.name}, {args.learning.upper()}, {counted(len(rows), 'epoch')}"
    picked = max(rows, key=lambda row: row["validation_accuracy"])
    metrics: dict[str, float | None] = {
        "test_accuracy_last": rows[-1]["test_accuracy"],
        "test_accuracy_selected": picked["test_accuracy"],
        "selected_epoch": picked["epoch"],
        "test_accuracy_best_published_protocol": max(row["test_accuracy"] for row in rows),
        "validation_accuracy_last": rows[-1]["validation_accuracy"],
        "train_accuracy_last": rows[-1]["train_accuracy"],
    }
    if args.decisions > 1:
        votes = [task.votes(data.test, draw=draw) for draw in range(args.decisions)]
        metrics |= {
            "decisions": args.decisions,
            "test_accuracy_joint": joint_accuracy(votes, data.test.labels),
        }
    metrics |= results_under_noise(args, run, task, title)
    with Counter(network) as counter:
        task.votes(data.test)
    metrics |= {f"rate_{name}_before": rate for name, rate in start.rates.items()}
    metrics |= {f"rate_{name}": rate for name, rate in counter.rates().items()}
    metrics |= threshold_summary(network)
    metrics |= {"non_positive_thresholds": sum(network.non_positive().values())}
    metrics |= counter.metrics()
    curves = run.save_figure(draw_run(rows, title, "squared error of votes"), "curves")
    before = {"epoch": 0, **{f"rate_{name}": rate for name, rate in start.rates.items()}}
    run.save_figure(draw_rates([before, *rows], title), "rates")
    run.save_figure(draw_thresholds(start.thresholds, thresholds_of(network)), "thresholds")
    run.save_figure(draw_energy(counter.counts(), title), "energy")
    run.finish(
        experiment=name_of(args),
        paper="stl_snn",
        dataset=data.name,
        epochs=len(rows),
        metrics=metrics,
        published=published(args),
        figure=curves,
    )


def results_under_noise(
    args: argparse.Namespace, run: Run, task: Task, title: str
) -> dict[str, float]:
    """Accuracies under noise of every kind and level, by name, and their figure."""
    if not args.noise_samples:
        return {}
    part = task.data.test.first(args.noise_samples)
    levels = QUICK_LEVELS if args.quick else tuple(LEVELS)
    found = under_noise(task, part, kinds_of_noise(task.data.recorded), levels)
    accuracies = {
        f"test_accuracy_{kind}_{level}": value
        for kind, values in found.items()
        for level, value in zip(levels, values, strict=True)
    }
    words = f"{title}, {len(part.labels)} samples"
    run.save_figure(draw_noise({args.learning.upper(): [accuracies]}, words), "noise")
    return {"noise_samples": len(part.labels), **accuracies}


def published(args: argparse.Namespace) -> dict[str, float] | None:
    """The published accuracy of a run in the paper's configuration and length, if there is one."""
    paper = SETTINGS[args.data]()
    as_published = (name_of(args), args.epochs) == (paper.session, paper.epochs)
    return dict(paper.published) if as_published and paper.published else None


def main() -> None:
    """Train and test one network."""
    args = parse()
    device = prepare(args.device, args.seed, args.threads, args.deterministic)
    carry_out(args, name_of(args), device, lambda run: run_experiment(args, run, device))


if __name__ == "__main__":
    script(main)
