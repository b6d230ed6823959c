"""A network of theta neurons learns to classify by its first spike (figure 4).

    python smooth_gd/experiments/mnist/mnist.py                        MNIST, 784-100-100-10
    python smooth_gd/experiments/mnist/mnist.py --dataset yin_yang     points in the plane

Spike times follow exactly from event to event, and so do their gradients. At the start no hidden
neuron spikes within the trial: it learns by pseudospikes, which come after the trial's end and
join ordinary ones continuously. The class is the output neuron that spikes first. Accuracy is
given twice: with pseudospikes, as in the paper's headline, and by ordinary spikes only.

Training is on the whole training set, and the result is the last epoch's: nothing is chosen.
"""

import argparse
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from shared.errors import UserError
from shared.options import add_common_options, check_positive, script
from shared.run import Run, carry_out
from smooth_gd.experiments.jax_runtime import DEVICES, add_dtype_option, described, prepare
from smooth_gd.experiments.mnist.data import IMAGES, POINTS, QUICK_SAMPLES, load
from smooth_gd.experiments.mnist.figures import (
    draw_activity,
    draw_curves,
    draw_example,
    draw_raster,
    plot_error,
    plot_spikes,
    plot_traces,
)
from smooth_gd.experiments.mnist.model import (
    eventffwd,
    init_phi0,
    init_weights,
    lossfn,
    outfn,
    transform_image,
)
from smooth_gd.experiments.mnist.network import Network, Parameters, layers_of
from smooth_gd.experiments.mnist.runs import (
    example_of,
    load_data,
    p_of,
    probefn,
    run,
    run_example,
    simulatefn,
    transform_dataset,
)
from smooth_gd.experiments.mnist.training import Classification, State, Trainer
from smooth_gd.experiments.trials import numbered, restored
from smooth_gd.spikegd.layered import Bounds, Response
from smooth_gd.spikegd.utils import plotting
from smooth_gd.spikegd.utils.events import room_for

__all__ = [
    "eventffwd",
    "init_phi0",
    "init_weights",
    "load_data",
    "lossfn",
    "outfn",
    "plot_error",
    "plot_spikes",
    "plot_traces",
    "probefn",
    "run",
    "run_example",
    "simulatefn",
    "transform_dataset",
    "transform_image",
]

PAPER = Network()
SETTINGS = {"batch_size": 1000, "lr": 4e-3, "flip": 0.02}
POINTS_SETTINGS = {"batch_size": 100, "lr": 4e-3, "flip": 0.0}

# Mean and standard deviation of ten seeds, on MNIST's test set.
PUBLISHED = {
    "test_accuracy_last": 0.976,
    "test_accuracy_last_sd": 0.001,
    "test_accuracy_ordinary_last": 0.973,
    "test_accuracy_ordinary_last_sd": 0.001,
    "test_loss_last": 0.139,
    "test_loss_last_sd": 0.007,
    "test_loss_ordinary_last": 1.684,
    "test_loss_ordinary_last_sd": 0.008,
    "test_silent_in_trial_last": 0.0,
    "test_silent_until_first_last": 0.001,
    "test_silent_until_first_last_sd": 0.002,
    "test_activity_in_trial_last": 0.417,
    "test_activity_in_trial_last_sd": 0.012,
    "test_activity_until_first_last": 0.317,
    "test_activity_until_first_last_sd": 0.010,
    "initial_accuracy": 0.104,
    "initial_accuracy_sd": 0.007,
    "initial_accuracy_ordinary": 0.098,
    "initial_loss": 2.344,
    "initial_loss_ordinary": 2.320,
    "initial_silent_in_trial": 0.997,
    "initial_silent_until_first": 0.997,
    "initial_activity_in_trial": 0.0,
    "initial_activity_until_first": 0.0,
}


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_common_options(parser, "gd_mnist", 100, devices=DEVICES)
    add_dtype_option(parser, "float32")
    parser.add_argument(
        "--dataset", choices=(*IMAGES, *POINTS), default="mnist", help="(default: mnist)"
    )
    network = parser.add_argument_group("network")
    network.add_argument(
        "--hidden",
        type=int,
        nargs="+",
        default=list(PAPER.sizes[1:-1]),
        help="neurons of each hidden layer (paper: 100 100)",
    )
    network.add_argument(
        "--Nin-virtual",
        type=int,
        default=PAPER.Nin_virtual,
        help="times at which pixels can spike, one a level of brightness (paper: 1)",
    )
    network.add_argument(
        "--spread",
        type=float,
        default=PAPER.spread,
        help="weights start in +-spread / sqrt(presynaptic neurons) (paper: 0.5)",
    )
    network.add_argument("--T", type=float, default=PAPER.T, help="length of a trial (paper: 2)")
    training = parser.add_argument_group("training")
    training.add_argument(
        "--batch-size", type=int, help="trials per step (paper: 1000; yin_yang: 100)"
    )
    training.add_argument("--lr", type=float, help="step size of AdaBelief (paper: 4e-3)")
    training.add_argument(
        "--flip",
        type=float,
        help="probability that a pixel is turned over in training (paper: 0.02; yin_yang: 0)",
    )
    training.add_argument(
        "--gamma",
        type=float,
        default=PAPER.gamma,
        help="weight of the term that draws the label's spike forward (paper: 0.01)",
    )
    args = parser.parse_args()
    settings = POINTS_SETTINGS if args.dataset in POINTS else SETTINGS
    for name, value in settings.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    return args


def check(args: argparse.Namespace) -> None:
    """Refuse options that cannot be.

    Raises:
        UserError: one of them is out of its range.
    """
    names = ("epochs", "batch_size", "lr", "T", "spread", "Nin_virtual")
    check_positive(hidden=min(args.hidden), **{name: getattr(args, name) for name in names})
    if not 0 <= args.gamma < math.inf:
        raise UserError(f"--gamma {args.gamma} must be at least 0 and finite")
    if not 0 <= args.flip < 1:
        raise UserError(f"--flip {args.flip} must be at least 0 and below 1")
    if args.Nin_virtual > 99:
        raise UserError(
            f"--Nin-virtual {args.Nin_virtual}: the darkest of 100 levels or more never spikes"
        )


def name_of(args: argparse.Namespace) -> str:
    """Name of the experiment: followed by what differs from the default."""
    settings = POINTS_SETTINGS if args.dataset in POINTS else SETTINGS
    words = ["gd_mnist" if args.dataset == "mnist" else f"gd_{args.dataset}"]
    if args.hidden != list(PAPER.sizes[1:-1]):
        words.append(layers_of(args.hidden))
    differing = {name: getattr(PAPER, name) for name in ("Nin_virtual", "spread", "T", "gamma")}
    for name, value in {**differing, **settings, "dtype": "float32"}.items():
        if getattr(args, name) != value:
            words.append(f"{name}-{getattr(args, name)}")
    return "_".join([*words, "quick"] if args.quick else words)


def response_to(
    network: Network, data: Classification, parameters: Parameters, sample: int, bounds: Bounds
) -> Response:
    """The response to one sample of the test set."""
    inputs = jnp.asarray(data.test.inputs[sample : sample + 1])
    local = jax.tree.map(np.asarray, parameters)
    respond = jax.jit(lambda p, x: network.respond(p, data.shown(x), bounds))
    response: Response = respond(local, inputs)
    return response


def train(args: argparse.Namespace, folder: Run, device: Any) -> None:
    """Train and test one network.

    Raises:
        UserError: data, network or options cannot be had as asked.
    """
    network = Network(
        sizes=(1, *args.hidden, 1),
        T=args.T,
        Nin_virtual=args.Nin_virtual,
        gamma=args.gamma,
        spread=args.spread,
    )
    data, network = load(
        args.dataset, args.data_root, network, args.flip, QUICK_SAMPLES if args.quick else None
    )
    batch_size = min(args.batch_size, 200) if args.quick else args.batch_size
    trainer = Trainer(network, data, batch_size, args.lr, args.seed, device)
    untrained = trainer.initial(args.dtype)
    state, epoch = untrained, 0
    if saved := folder.load():
        epoch, content = saved
        state = trainer.placed(restored(untrained, content))
        trainer.bounds = Bounds(*map(tuple, content["bounds"]))
    epochs = min(args.epochs, 2) if args.quick else args.epochs
    for number in range(epoch + 1, epochs + 1):
        state, row = trainer.train_epoch(state, number)
        tested = trainer.evaluate(state.parameters, data.test)
        folder.log(number, row | {f"test_{name}": value for name, value in tested.items()})
        folder.save(number, saved_state(state, trainer.bounds))
    initial = trainer.evaluate(untrained.parameters, data.test)
    finish(args, folder, trainer, (untrained, state), initial, epochs)


def saved_state(state: State, bounds: Bounds) -> dict[str, Any]:
    """What a checkpoint holds: all numbers that the next epoch depends on."""
    return {"network": numbered(state), "bounds": list(map(list, bounds))}


def examples_of(
    trainer: Trainer, states: tuple[State, State], epochs: int
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The first test sample before and after learning, for panels a and b, and a configuration.

    Hidden layers have one size.
    """
    network, part = trainer.network, trainer.data.test
    config = {
        "T": network.T,
        "K": room_for(sum(trainer.bounds.events) + network.sizes[-1] + network.Nin_virtual + 1),
        "dt": 0.001,
        "Nin_virtual": network.Nin_virtual,
        "Nhidden": network.sizes[1],
        "Nlayer": len(network.sizes) - 1,
        "Nout": network.sizes[-1],
        "Nepochs": epochs,
    }
    examples = []
    for state in states:
        p = p_of(jax.tree.map(np.asarray, state.parameters))
        inputs, label = part.inputs[0], int(part.labels[0])
        examples.append(example_of(p, network.neuron, inputs, label, config))
    return examples, config


def errors_of(
    rows: Sequence[Mapping[str, float]], initial: Mapping[str, float]
) -> dict[str, np.ndarray[Any, Any]]:
    """The accuracies of one network as `plot_error` wants them."""
    names = {"acc": "accuracy", "acc_ord": "accuracy_ordinary"}
    return {
        name: np.array([[initial[own], *(row[f"test_{own}"] for row in rows)]])
        for name, own in names.items()
    }


def finish(
    args: argparse.Namespace,
    folder: Run,
    trainer: Trainer,
    states: tuple[State, State],
    initial: dict[str, float],
    epochs: int,
) -> None:
    """Draw the figures and write the result; states are the untrained one and the last."""
    rows, data = folder.metrics(), trainer.data
    curves = folder.save_figure(draw_curves(rows, initial), "curves")
    folder.save_figure(draw_activity(rows, initial), "activity")
    before, after = (
        response_to(trainer.network, data, state.parameters, 0, trainer.bounds) for state in states
    )
    label = int(data.test.labels[0])
    folder.save_figure(draw_raster(before, after, label, trainer.network.T), "raster")
    if args.dataset in IMAGES and len(set(args.hidden)) == 1:
        examples, config = examples_of(trainer, states, epochs)
        networks = errors_of(rows, initial)
        with plt.style.context(plotting.STYLE):
            folder.save_figure(draw_example(examples, networks, config), "example")
    metrics: dict[str, float | None] = {
        f"{name}_last": value for name, value in rows[-1].items() if name != "epoch"
    }
    metrics |= {f"initial_{name}": value for name, value in initial.items()}
    metrics["events_bound"] = max(trainer.bounds.events)
    print(f"compilation took {trainer.compile_seconds:.1f} s")
    is_paper = name_of(args) == "gd_mnist" and data.name == "mnist" and epochs == 100
    folder.finish(
        experiment=name_of(args),
        paper="smooth_gd",
        dataset=data.name,
        epochs=epochs,
        metrics=metrics,
        published=PUBLISHED if is_paper else None,
        figure=curves,
    )


def main() -> None:
    """Train a network, or show the result of the run that is there."""
    args = parse()
    check(args)
    device = prepare(args)
    carry_out(args, name_of(args), described(device), lambda folder: train(args, folder, device))


if __name__ == "__main__":
    script(main)
