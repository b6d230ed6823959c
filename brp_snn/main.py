"""Spiking networks by reward propagation (BRP), and by the modes it is compared with.

    python brp_snn/main.py                                      MNIST by BRP
    python brp_snn/main.py --train-mode DFA                     by direct feedback alignment
    python brp_snn/main.py --topology FC_1000_FC_10             without convolutions
    python brp_snn/main.py --dataset CIFAR10aug                 mirrored color images
    python brp_snn/main.py --dataset tidigits --split speaker   digits spoken by unheard speakers
    python brp_snn/main.py --rate --train-mode DRTP             a rate network, as in DRTP's paper

Modes: what the hidden layers' spikes are taught by, at every step, is

    BRP, DRTP   the label, through fixed random weights
    DFA, sDFA   the output's error, or its sign, through fixed random weights
    FA          what comes back layer by layer through fixed random weights
    BP          the chain rule
    shallow     nothing: only the output layer learns

The output layer always takes its true gradient. A tenth of the training set is held out: it picks
the epoch of the "selected" accuracy. The accuracy of the last epoch is the result. Published runs
hold nothing out: --validation 0.

Sources: Zhang, Jia, Cheng and Xu, arXiv:2010.04434 (BRP); Frenkel, Lefebvre and Bol, Frontiers in
Neuroscience 15:629892 (2021) (DRTP, and the published accuracies of rate networks).
"""

import argparse
import copy
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, get_args

import torch

from brp_snn.angles import angles
from brp_snn.data import LOADERS, SPLITS, Data, Input, Source, load
from brp_snn.figures import draw_angles
from brp_snn.function import MODES
from brp_snn.models import (
    GRAMMAR,
    Act,
    Init,
    Network,
    NetworkBuilder,
    Neuron,
    RateNetwork,
    parse_topology,
)
from brp_snn.tidigits import SCALINGS
from brp_snn.train import LOSSES, OPTIMIZERS, Presentation, Trainer
from shared.device import prepare
from shared.errors import UserError
from shared.figures import draw_run
from shared.options import add_common_options, check_positive, script
from shared.run import Run, carry_out
from shared.tensors import Samples, drawn_generator, global_generators

ACTS: dict[str, Act] = {"conv_act": "tanh", "hidden_act": "tanh", "output_act": "sigmoid"}
"""Activations of units without spikes, by option."""

# Options that stand in an experiment's name where they differ from the default; others do always.
NAMED = (
    "optimizer",
    "loss",
    "lr",
    "batch_size",
    "dropout",
    "fc_zero_init",
    "init",
    "validation",
    "thresh",
    "lens",
    "decay",
    "randKill",
    "scaling",
    *ACTS,
)
WINDOW = 20
SPIKING = {"thresh": 0.5, "lens": 0.5, "decay": 0.2, "randKill": 1.0}
"""Options of spiking units and of their input, with the paper's values."""

SPOKEN = ("tidigits", "fsdd")
FRAMED = (*SPOKEN, "dvsgesture", "nmnist")
NOT_CLASSES = ("nettalk", "regression_synth")
QUICK_SAMPLES, QUICK_EPOCHS = 300, 2
ANGLE_SAMPLES = 200
ANGLE_SEED = 0xA261_E000  # not 0 in the 32 bits of a seed that torch looks at on the CPU

IMAGES = "CONV_32_5_1_2_FC_1000_FC_10"
COLORS = "CONV_64_3_1_1_CONV_256_3_1_1_FC_1000_FC_10"
DEEP = "CONV_64_3_1_1_CONV_256_3_1_1_FC_1000_FC_1000_FC_10"
DIGITS = "C_100_3_1_1_FC_1000_FC_10"


class Setting(NamedTuple):
    """What a data set is trained with, where the options do not say.

    Attributes:
        topology: the network.
        lr: step size.
        epochs: passes over the training set.
    """

    topology: str
    lr: float = 1e-4
    epochs: int = 100


SETTINGS = {
    "MNIST": Setting(IMAGES),
    "FashionMNIST": Setting(IMAGES),
    "CIFAR10": Setting(COLORS),
    "CIFAR10aug": Setting(COLORS),
    "tidigits": Setting(DIGITS),
    "fsdd": Setting(DIGITS),
    "dvsgesture": Setting("CONV_32_5_1_2_FC_1000_FC_11"),
    "nmnist": Setting(IMAGES),
    "nettalk": Setting("FC_500_FC_26"),
    "regression_synth": Setting("FC_100_FC_10", 5e-4, 500),
    "classification_synth": Setting("FC_500_FC_10", 5e-4, 500),
}


def _accuracies(*errors: float) -> dict[str, float]:
    """Accuracies by mode from test errors in % of BP, FA, DFA and, where there is one, DRTP."""
    modes = ("BP", "FA", "DFA", "DRTP")
    return {mode: round(1 - error / 100, 4) for mode, error in zip(modes, errors, strict=False)}


# Test errors of rate networks that DRTP's paper gives (mean over its trials), as accuracies: by
# data set, topology, and whether convolutions are frozen.
PUBLISHED_RATE: dict[tuple[str, str, bool], dict[str, float]] = {
    ("MNIST", "FC_500_FC_10", False): _accuracies(1.72, 1.92, 2.59, 4.58),
    ("MNIST", "FC_1000_FC_10", False): _accuracies(1.76, 1.90, 2.12, 4.03),
    ("MNIST", "FC_500_FC_500_FC_10", False): _accuracies(1.62, 1.95, 4.35, 4.57),
    ("MNIST", "FC_1000_FC_1000_FC_10", False): _accuracies(1.67, 1.90, 3.46, 4.04),
    ("MNIST", IMAGES, True): _accuracies(1.31, 1.55, 1.66, 1.87),
    ("MNIST", IMAGES, False): _accuracies(0.99, 1.38, 2.38, 1.81),
    ("CIFAR10aug", "FC_1000_FC_10", False): _accuracies(47.58, 48.56, 48.45, 52.99),
    ("CIFAR10aug", DEEP, True): _accuracies(30.13, 30.28, 30.40, 32.69),
    ("CIFAR10aug", DEEP, False): _accuracies(27.45, 29.84, 32.06, 35.45),
    ("classification_synth", "FC_500_FC_10", False): {
        "shallow": 0.9043,
        "sDFA": 0.9593,
        **_accuracies(1.84, 1.81, 3.48),
    },
}

PUBLISHED_RUNS = {
    "MNIST": ("mnist", 100),
    "CIFAR10aug": ("cifar10", 200),
    "classification_synth": ("classification_synth", 500),
}
"""What must have been loaded for them, and their length, by data set. The lengths are the default
and the example command of DRTP's program, whose CIFAR-10 is the mirrored one, and the paper's of
the synthetic task. All were trained on the whole training set."""


def published(
    args: argparse.Namespace, plain: argparse.Namespace, loaded: str
) -> dict[str, float] | None:
    """The published accuracy of a run's configuration and length, where there is one.

    Args:
        args: the options.
        plain: the program's defaults for that data set.
        loaded: the data set that was loaded, which can be a stand-in.
    """
    if not args.rate or args.quick or args.validation:
        return None
    if (loaded, args.epochs) != PUBLISHED_RUNS.get(args.dataset):
        return None
    others = (name for name in NAMED if name != "validation")
    if any(getattr(args, name) != getattr(plain, name) for name in others):
        return None
    mode = "DRTP" if args.train_mode == "BRP" else args.train_mode
    table = PUBLISHED_RATE.get((args.dataset, args.topology, args.freeze_conv_layers), {})
    return {"test_accuracy_last": table[mode]} if mode in table else None


def _truth(word: str) -> bool:
    """A word of the command line that says yes or no."""
    if word.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{word!r} is neither True nor False")
    return word.lower() == "true"


def make_parser(description: str | None = __doc__, **defaults: object) -> argparse.ArgumentParser:
    """The command line.

    Args:
        description: what --help says above the options.
        defaults: options by name that a program sets otherwise than this one.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_common_options(parser, "brp_mnist_BRP", None)
    parser.add_argument(
        "--cpu", dest="device", action="store_const", const="cpu", help="the same as --device cpu"
    )
    parser.add_argument(
        "--cont",
        dest="resume",
        nargs="?",
        const=True,
        type=_truth,
        metavar="{True,False}",
        help="--cont, --cont True: another name of --resume; --cont False, of --no-resume",
    )
    parser.add_argument(
        "--no-cont", dest="resume", action="store_false", help="another name of --no-resume"
    )
    parser.add_argument("--dataset", choices=tuple(LOADERS), default="MNIST", help="(MNIST)")
    parser.add_argument(
        "--split",
        choices=SPLITS,
        default="random",
        help="of spoken digits: 70 to 30 at random, or speakers that training never hears (random)",
    )
    parser.add_argument(
        "--scaling", choices=SCALINGS, default="l1", help="of spoken digits, see tidigits.py (l1)"
    )
    parser.add_argument(
        "--nettalk", type=Path, help="NETtalk's .mat file (the one below the data root)"
    )
    parser.add_argument("--train-mode", choices=MODES, default="BRP", help="see above (BRP)")
    parser.add_argument("--topology", help=f"{GRAMMAR} (the data set's, of MNIST {IMAGES})")
    parser.add_argument(
        "--rate", action="store_true", help="continuous units instead of spiking ones"
    )
    training = parser.add_argument_group("training")
    training.add_argument(
        "--epochs", type=int, help="passes over the training set (100; 500 of the synthetic tasks)"
    )
    training.add_argument("--optimizer", choices=tuple(OPTIMIZERS), default="Adam", help="(Adam)")
    training.add_argument(
        "--loss",
        choices=tuple(LOSSES),
        help="of the readout (MSE; BCE for classes and codes with --rate)",
    )
    training.add_argument(
        "--lr", type=float, help="step size (paper: 1e-4; 5e-4 for the synthetic tasks)"
    )
    training.add_argument("--batch-size", type=int, default=50, help="(paper: 50)")
    training.add_argument("--test-batch-size", type=int, default=250, help="(250)")
    training.add_argument(
        "--trials", type=int, default=1, help="runs one after the other, of seed, seed + 1, ... (1)"
    )
    training.add_argument(
        "--dropout",
        type=float,
        default=0.0,
        help="share of hidden fully connected units silent in a presentation of training; with "
        "--rate, of the inputs of every fully connected layer (paper: 0)",
    )
    training.add_argument(
        "--freeze-conv-layers", action="store_true", help="convolutions keep their random weights"
    )
    training.add_argument(
        "--fc-zero-init", action="store_true", help="fully connected layers start from zero weights"
    )
    training.add_argument(
        "--init",
        choices=get_args(Init),
        default="torch",
        help="initial weights of a unit of n inputs: torch U(-1/sqrt n, 1/sqrt n), he "
        "U(-sqrt(6/n), sqrt(6/n)) (paper: torch)",
    )
    training.add_argument(
        "--validation",
        type=float,
        choices=(0.0, 0.1),
        default=0.1,
        help="share of the training set that is held out; 0 trains on all of it, and no epoch is "
        "selected (0.1; paper: 0)",
    )
    units = parser.add_argument_group(
        "units and input; with --rate the activations, and the window of frames"
    )
    units.add_argument(
        "--spike_window",
        "--spike-window",
        type=int,
        default=WINDOW,
        help="time steps: the first bands of spoken digits and frames of gestures, the frames that "
        "N-MNIST is cut into (paper: 20)",
    )
    for option, words in (
        ("thresh", "threshold (paper: 0.5)"),
        ("lens", "half width of the surrogate (paper: 0.5)"),
        ("decay", "potential left after a step (paper: 0.2)"),
        (
            "randKill",
            "x[t] = 1 where value > U(0, 1) * randKill; not used for N-MNIST (paper: 1, and 0.1 in "
            "a comment)",
        ),
    ):
        units.add_argument(f"--{option}", type=float, default=SPIKING[option], help=words)
    for option, default in ACTS.items():
        layers = option.partition("_")[0]
        units.add_argument(
            f"--{layers}-act",
            choices=get_args(Act),
            default=default,
            help=f"activation of {layers} units with --rate; a spiking unit's activation is its "
            f"spike ({default})",
        )
    parser.add_argument(
        "--codename",
        help="a word that ends the name of the run, of letters, digits, '-', '_', '.'",
    )
    parser.set_defaults(**defaults)
    return parser


def complete(args: argparse.Namespace, hidden: str | None = None) -> argparse.Namespace:
    """The options with what was not given filled in from the data set's setting.

    Activations of a spiking network are told to be idle and left out: DRTP's own example command
    gives one.

    Args:
        args: the options.
        hidden: topology of a program's own hidden layers, None for the data set's.
    """
    setting = SETTINGS[args.dataset]
    if args.topology is None:
        outputs = setting.topology.rpartition("_FC_")[2]
        args.topology = f"{hidden}_FC_{outputs}" if hidden else setting.topology
    args.lr = setting.lr if args.lr is None else args.lr
    args.epochs = setting.epochs if args.epochs is None else args.epochs
    in_unit_range = args.rate and args.dataset != "regression_synth"
    args.loss = args.loss or ("BCE" if in_unit_range else "MSE")
    given = [name for name, default in ACTS.items() if getattr(args, name) != default]
    if given and not args.rate:
        words = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        print(f"{words}: activations act with --rate only; a spiking unit's is its spike")
        vars(args).update(ACTS)
    return args


def defaults_of(
    parser: argparse.ArgumentParser, args: argparse.Namespace, hidden: str | None = None
) -> argparse.Namespace:
    """The program's defaults for the data set and the kind of units that were asked for."""
    words = ["--dataset", args.dataset, *(["--rate"] if args.rate else [])]
    return complete(parser.parse_args(words), hidden)


def check(args: argparse.Namespace) -> None:
    """Refuse options that cannot be.

    Raises:
        UserError: one of them is out of its range.
    """
    check_positive(
        epochs=args.epochs,
        trials=args.trials,
        batch_size=args.batch_size,
        test_batch_size=args.test_batch_size,
        lr=args.lr,
        spike_window=args.spike_window,
        randKill=args.randKill,
    )
    if not 0 <= args.dropout < 1:
        raise UserError(f"--dropout {args.dropout} must be at least 0 and below 1")
    if args.rate and args.loss == "BCE" and args.output_act != "sigmoid":
        raise UserError("--loss BCE with --rate is of sigmoids: add --output-act sigmoid")
    if args.split == "speaker" and args.dataset not in SPOKEN:
        raise UserError(f"--split speaker is of spoken digits: {args.dataset} has no speakers")
    if args.scaling != "l1" and args.dataset not in SPOKEN:
        raise UserError(f"--scaling {args.scaling} is of spoken digits, not of {args.dataset}")
    if args.loss == "CE" and args.dataset in NOT_CLASSES:
        raise UserError(f"--loss CE is of classes, which {args.dataset} has not: take MSE or BCE")
    if args.codename and not re.fullmatch(r"[A-Za-z0-9._-]+", args.codename):
        raise UserError(
            f"--codename {args.codename!r} may hold letters, digits, '-', '_', '.' only"
        )
    check_idle(args)


def check_idle(args: argparse.Namespace) -> None:
    """Refuse options that would change a run's name and nothing else.

    Raises:
        UserError: one of them is not at its default.
    """
    for name, default in SPIKING.items():
        if args.rate and getattr(args, name) != default:
            raise UserError(f"--{name} is of spiking units: leave out it or --rate")
    if args.spike_window != WINDOW and args.rate and args.dataset not in FRAMED:
        raise UserError(
            f"--spike_window is of spiking units and of frames, which {args.dataset} has not: "
            "leave out it or --rate"
        )
    if args.randKill != SPIKING["randKill"] and args.dataset == "nmnist":
        raise UserError("--randKill is not used for nmnist, whose frames are spikes: leave it out")
    if args.nettalk is not None and args.dataset != "nettalk":
        raise UserError(f"--nettalk is the file of --dataset nettalk, not of {args.dataset}")
    kinds = {layer.kind for layer in parse_topology(args.topology)}
    if args.freeze_conv_layers and kinds == {"FC"}:
        raise UserError(
            f"--freeze-conv-layers: {args.topology} has no convolution to freeze; leave it out"
        )


def make_network(args: argparse.Namespace, data: Data) -> Network:
    """The network that the options ask for.

    Raises:
        UserError: the topology does not parse, does not fit the data, or ends in another number of
            outputs than the data set has.
    """
    common = {
        "dropout": args.dropout,
        "freeze_conv_layers": args.freeze_conv_layers,
        "fc_zero_init": args.fc_zero_init,
        "init": args.init,
    }
    network: Network
    if args.rate:
        acts = {
            f"{name}_act": getattr(args, f"{name}_act") for name in ("conv", "hidden", "output")
        }
        network = RateNetwork(
            args.topology,
            data.rate_shape,
            args.train_mode,
            softmax_error=args.output_act == "none" and args.loss == "CE",
            **acts,
            **common,
        )
    else:
        neuron = Neuron(args.thresh, args.lens, args.decay)
        network = NetworkBuilder(args.topology, data.shape, args.train_mode, neuron, **common)
    n_outputs = data.train.targets.shape[1]
    if network.n_classes != n_outputs:
        raise UserError(
            f"--topology {args.topology} ends with {network.n_classes} outputs, but "
            f"{data.name} has {n_outputs}: end it with FC_{n_outputs}"
        )
    return network


def name_of(args: argparse.Namespace, plain: argparse.Namespace) -> str:
    """Name of the experiment: followed by what differs from the default.

    Args:
        args: the options.
        plain: the program's defaults for that data set.
    """
    words = ["brp", args.dataset.lower(), *(["rate"] if args.rate else []), args.train_mode]
    words += ["held-out-speakers"] if args.split == "speaker" else []
    if args.topology != SETTINGS[args.dataset].topology:
        words.append(args.topology.replace("_", "-"))
    if args.spike_window != WINDOW:
        words.append(f"T{args.spike_window}")
    words += ["frozen"] if args.freeze_conv_layers else []
    for name in NAMED:
        if getattr(args, name) != getattr(plain, name):
            words.append(f"{name.replace('_', '-')}-{getattr(args, name)}")
    words += [args.codename] if args.codename else []
    return "_".join([*words, "quick"] if args.quick else words)


def without_validation(data: Data) -> Data:
    """The same set, whose training part ends with the samples of the validation part."""
    parts = data.train, data.validation
    merged = Samples(torch.cat([p.inputs for p in parts]), torch.cat([p.targets for p in parts]))
    return replace(data, train=merged, validation=data.validation.first(0))


def angle_stream(seed: int, device: torch.device) -> torch.Generator:
    """The random thresholds of a run's angles: the weights come from the seed itself."""
    return torch.Generator(device).manual_seed(seed ^ ANGLE_SEED)


def gradient_angles(trainer: Trainer, args: argparse.Namespace) -> dict[str, float]:
    """Angle of each layer's gradient to BP's on the first training samples, in degrees."""
    part = trainer.data.train.first(ANGLE_SAMPLES)
    stream = angle_stream(args.seed, part.device)
    shown = Input(trainer.data, part.inputs, args.randKill, False, stream)
    spikes = shown(0, shown.steps(args.spike_window))
    found = angles(trainer.network, spikes, part.targets, trainer.loss)
    return {f"angle_{i}": value for i, value in enumerate(found[:-1], 1) if value == value}


def run_trial(
    args: argparse.Namespace,
    plain: argparse.Namespace,
    run: Run,
    device: torch.device,
) -> None:
    """Train and test one network.

    Args:
        args: the options.
        plain: the program's defaults for that data set.
        run: the run.
        device: the device.

    Raises:
        UserError: data or network cannot be had as asked.
    """
    source = Source(
        root=args.data_root,
        device=device,
        window=args.spike_window,
        split=args.split,
        nettalk=args.nettalk,
        scaling=args.scaling,
        limit=QUICK_SAMPLES if args.quick else None,
    )
    data = load(args.dataset, source)
    data = data if args.validation else without_validation(data)
    network = make_network(args, data).to(device)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = OPTIMIZERS[args.optimizer](trained, lr=args.lr)
    generator = drawn_generator(device)
    presentation = Presentation(args.spike_window, args.randKill, args.loss)
    trainer = Trainer(network, data, presentation, optimizer, generator)
    parts: dict[str, Any] = {
        "network": network,
        "optimizer": optimizer,
        "generator": generator,
        **global_generators(device, "order", "cuda"),  # order, dropout and mirroring draw from them
    }
    epochs = min(args.epochs, QUICK_EPOCHS) if args.quick else args.epochs
    for epoch in range(run.restore(**parts) + 1, epochs + 1):
        row = trainer.train_epoch(args.batch_size)
        if len(data.validation):
            row |= trainer.evaluate(data.validation, args.test_batch_size, "validation")
        row |= trainer.evaluate(data.test, args.test_batch_size, "test")
        if not args.rate and args.train_mode not in ("BP", "shallow"):
            row |= gradient_angles(trainer, args)
        run.log(epoch, row)
        run.checkpoint(epoch, **parts)
    rows = run.metrics()
    title = f"{data.name}, {args.train_mode}, {args.topology}"
    curves = run.save_figure(draw_run(rows, title), "curves")
    if any(name.startswith("angle_") for name in rows[-1]):
        run.save_figure(draw_angles(rows, title), "angles")
    run.finish(
        experiment=name_of(args, plain),
        paper="brp_snn",
        dataset=data.name,
        epochs=epochs,
        metrics=summary(rows),
        published=published(args, plain, data.name),
        figure=curves,
    )


def summary(rows: list[dict[str, float]]) -> dict[str, float | None]:
    """The last epoch's numbers, and those on the test set of the epoch that validation picks."""
    last = rows[-1]
    picked: dict[str, float] | None = None
    if "validation_accuracy" in last:
        picked = max(rows, key=lambda row: row["validation_accuracy"])
    elif "validation_loss" in last:
        picked = min(rows, key=lambda row: row["validation_loss"])
    found: dict[str, float | None] = {}
    for name in [name for name in last if name.startswith("test_") and name != "test_loss"]:
        found[f"{name}_last"] = last[name]
        if picked:
            found[f"{name}_selected"] = picked[name]
    names = ["test_loss", *(name for name in last if name.startswith(("train_", "angle_")))]
    return found | {f"{name}_last": last[name] for name in names}


def main(
    description: str | None = __doc__, *, hidden: str | None = None, **defaults: object
) -> None:
    """Do the trials.

    Args:
        description: as in `make_parser`.
        hidden: as in `complete`.
        **defaults: as in `make_parser`.
    """
    parser = make_parser(description, **defaults)
    args = complete(parser.parse_args(), hidden)
    check(args)
    plain = defaults_of(parser, args, hidden)
    name = name_of(args, plain)
    for trial in range(args.trials):
        own = copy.copy(args)
        own.trials, own.seed = 1, args.seed + trial
        own.out = args.out / f"seed{own.seed}" if args.out and args.trials > 1 else args.out
        device = prepare(own.device, own.seed, own.threads, own.deterministic)
        carry_out(own, name, device, lambda run: run_trial(own, plain, run, device))  # noqa: B023


if __name__ == "__main__":
    script(main)
