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

import shared.waiting

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import torch

from brp_snn import data as data_sets
from brp_snn.angles import angles
from brp_snn.data import Data, DatasetName, Input, Source, Split
from brp_snn.figures import draw_angles
from brp_snn.function import Mode
from brp_snn.models import (
    Act,
    Init,
    Network,
    NetworkBuilder,
    Neuron,
    RateNetwork,
    parse_topology,
)
from brp_snn.published import (
    ACCURACIES,
    BATCH_ON_MNIST,
    HIDDEN_ON_MNIST,
    IMAGES,
    RUNS,
    STEPS_ON_MNIST,
)
from brp_snn.tidigits import Scaling
from brp_snn.train import OPTIMIZERS, Loss, Optimizer, Presentation, Trainer
from shared import experiment, parallel
from shared.errors import UserError
from shared.experiment import UNNAMED, Experiment, Named, Positive, Share, paper, spelled
from shared.figures import draw_run
from shared.options import script
from shared.run import Run
from shared.tensors import Samples, drawn_generator, global_generators

SPOKEN = ("tidigits", "fsdd")
FRAMED = (*SPOKEN, "dvsgesture", "nmnist")
NOT_CLASSES = ("nettalk", "regression_synth")
QUICK_SAMPLES, QUICK_EPOCHS = 300, 2
ANGLE_SAMPLES = 200
ANGLE_SEED = 0xA261_E000  # not 0 in the 32 bits of a seed that torch looks at on the CPU

COLORS = "CONV_64_3_1_1_CONV_256_3_1_1_FC_1000_FC_10"
DIGITS = "C_100_3_1_1_FC_1000_FC_10"


class Start(NamedTuple):
    """What options that are not given are for a data set.

    Attributes:
        topology: the network.
        lr: step size.
        epochs: passes over the training set.
    """

    topology: str
    lr: float = 1e-4
    epochs: int = 100


STARTS: dict[DatasetName, Start] = {
    "MNIST": Start(IMAGES),
    "FashionMNIST": Start(IMAGES),
    "CIFAR10": Start(COLORS),
    "CIFAR10aug": Start(COLORS),
    "tidigits": Start(DIGITS),
    "fsdd": Start(DIGITS),
    "dvsgesture": Start("CONV_32_5_1_2_FC_1000_FC_11"),
    "nmnist": Start(IMAGES),
    "nettalk": Start("FC_500_FC_26"),
    "regression_synth": Start("FC_100_FC_10", 5e-4, 500),
    "classification_synth": Start("FC_500_FC_10", 5e-4, 500),
}


@dataclass(frozen=True)
class Settings(experiment.Settings):
    """The options; the defaults are those of MNIST, others stand in `STARTS`."""

    dataset: Annotated[DatasetName, UNNAMED] = "MNIST"
    """Data set; where MNIST cannot be had, the 5,000 digits of mnist5k stand in."""
    train_mode: Annotated[Mode, UNNAMED] = "BRP"
    """Learning mode, see above."""
    topology: Annotated[str, UNNAMED] = IMAGES
    """Layers joined by _: CONV_{channels}_{kernel}_{stride}_{padding} (2-D, then pooled by 2),
    C_... (1-D, pooled by its kernel size) and FC_{units}, the last of them FC."""
    rate: Annotated[bool, UNNAMED] = False
    """Continuous units instead of spiking ones."""
    split: Annotated[Split, UNNAMED] = "random"
    """Of spoken digits: 70 to 30 at random, or speakers that training never hears."""
    nettalk: Annotated[Path | None, UNNAMED] = None
    """NETtalk's .mat file; without it the one below the data root."""
    spike_window: Annotated[Positive[int], Named("T{}"), paper(20)] = 20
    """Time steps: the first bands of spoken digits and frames of gestures, the frames that N-MNIST
    is cut into."""
    freeze_conv_layers: Annotated[bool, Named("frozen")] = False
    """Convolutions keep their random weights."""
    epochs: Positive[int] = 100
    """Passes over the training set; 500 of the synthetic tasks."""
    optimizer: Optimizer = "Adam"
    """What takes the steps; SGD and NAG with a momentum of 0.9."""
    loss: Loss = "MSE"
    """Of the readout; with --rate BCE for classes and codes."""
    lr: Annotated[Positive[float], paper(1e-4)] = 1e-4
    """Step size; of the synthetic tasks the paper's is 5e-4."""
    batch_size: Annotated[Positive[int], Named("batch-size-{}"), paper(50)] = 50
    """Samples per step."""
    test_batch_size: Annotated[Positive[int], UNNAMED] = 250
    """Samples at once in tests."""
    trials: Annotated[Positive[int], UNNAMED] = 1
    """Runs one after the other, of seed, seed + 1 and so on."""
    dropout: Annotated[Share, paper(0.0)] = 0.0
    """Share of hidden fully connected units that are silent in a presentation of training; with
    --rate, of the inputs of every fully connected layer."""
    fc_zero_init: bool = False
    """Fully connected layers start from zero weights."""
    init: Annotated[Init, paper("torch")] = "torch"
    """Initial weights of a unit of n inputs: torch U(-1/sqrt n, 1/sqrt n), he
    U(-sqrt(6/n), sqrt(6/n))."""
    validation: Annotated[Share, paper(0.0)] = 0.1
    """Share of the training set that is held out, 0.1 or 0; 0 trains on all of it, and no epoch is
    selected."""
    thresh: Annotated[float, paper(0.5)] = 0.5
    """Threshold of spiking units."""
    lens: Annotated[Positive[float], paper(0.5)] = 0.5
    """Half the width of the surrogate derivative."""
    decay: Annotated[Share, paper(0.2)] = 0.2
    """Share of the potential that is left after a step."""
    rand_kill: Annotated[Positive[float], spelled("randKill")] = 1.0
    """x[t] = 1 where value > U(0, 1) * randKill; not used for N-MNIST. The paper's program has 1,
    and 0.1 in a comment."""
    scaling: Scaling = "l1"
    """Of spoken digits, see tidigits.py."""
    conv_act: Annotated[Act, Named("conv-act-{}")] = "tanh"
    """Activation of convolutions with --rate; a spiking unit's activation is its spike."""
    hidden_act: Annotated[Act, Named("hidden-act-{}")] = "tanh"
    """Activation of hidden fully connected units with --rate."""
    output_act: Annotated[Act, Named("output-act-{}")] = "sigmoid"
    """Activation of the output units with --rate."""
    codename: Annotated[str | None, Named("{}")] = None
    """A word that ends the name of the run, of letters, digits, '-', '_', '.'."""

    def check(self) -> None:
        """Refuse settings that cannot be, or that would change a run's name and nothing else.

        Raises:
            UserError: there is one.
        """
        self._check_pairs()
        self._check_idle()
        kinds = {layer.kind for layer in parse_topology(self.topology)}
        if self.freeze_conv_layers and kinds == {"FC"}:
            raise UserError(
                f"--freeze-conv-layers: {self.topology} has no convolution to freeze; leave it out"
            )

    def _check_pairs(self) -> None:
        if self.validation not in (0, data_sets.VALIDATION):
            raise UserError(f"--validation {self.validation}: hold 0.1 out, or 0")
        if self.rate and self.loss == "BCE" and self.output_act != "sigmoid":
            raise UserError("--loss BCE with --rate is of sigmoids: add --output-act sigmoid")
        if self.loss == "CE" and self.dataset in NOT_CLASSES:
            raise UserError(
                f"--loss CE is of classes, which {self.dataset} has not: take MSE or BCE"
            )
        if self.codename is not None and not re.fullmatch(r"[A-Za-z0-9._-]+", self.codename):
            raise UserError(
                f"--codename {self.codename!r} may hold letters, digits, '-', '_', '.' only"
            )

    def _check_idle(self) -> None:
        plain = Settings()
        if self.split == "speaker" and self.dataset not in SPOKEN:
            raise UserError(f"--split speaker is of spoken digits: {self.dataset} has no speakers")
        if self.scaling != plain.scaling and self.dataset not in SPOKEN:
            raise UserError(f"--scaling {self.scaling} is of spoken digits, not of {self.dataset}")
        for name in ("thresh", "lens", "decay", "rand_kill"):
            if self.rate and getattr(self, name) != getattr(plain, name):
                option = experiment.option(Settings, name)
                raise UserError(f"{option} is of spiking units: leave out it or --rate")
        if self.spike_window != plain.spike_window and self.rate and self.dataset not in FRAMED:
            raise UserError(
                "--spike_window is of spiking units and of frames, which "
                f"{self.dataset} has not: leave out it or --rate"
            )
        if self.rand_kill != plain.rand_kill and self.dataset == "nmnist":
            raise UserError(
                "--randKill is not used for nmnist, whose frames are spikes: leave it out"
            )
        if self.nettalk is not None and self.dataset != "nettalk":
            raise UserError(f"--nettalk is the file of --dataset nettalk, not of {self.dataset}")


S = TypeVar("S", bound=Settings)


def defaults(asked: S) -> S:
    """What options that are not given are, by data set and kind of units."""
    start = STARTS[asked.dataset]
    in_unit_range = asked.rate and asked.dataset != "regression_synth"
    return replace(
        type(asked)(),
        topology=start.topology,
        lr=start.lr,
        epochs=QUICK_EPOCHS if asked.quick else start.epochs,
        loss="BCE" if in_unit_range else "MSE",
    )


def without_idle(settings: S) -> S:
    """The settings without activations of units that have none, which are told to be idle.

    DRTP's own example command gives one.
    """
    plain = Settings()
    names = ("conv_act", "hidden_act", "output_act")
    given = [name for name in names if getattr(settings, name) != getattr(plain, name)]
    if settings.rate or not given:
        return settings
    words = ", ".join(experiment.option(Settings, name) for name in given)
    print(f"{words}: activations act with --rate only; a spiking unit's is its spike")
    return replace(settings, **{name: getattr(plain, name) for name in given})


def session(settings: Settings, loaded: str) -> str:
    """How a run's name begins, such as brp_mnist_BRP or brp_mnist_rate_FA_FC-1000-FC-10.

    Args:
        settings: of the run.
        loaded: the data set that was loaded, which can be a stand-in.
    """
    mirrored = "aug" if settings.dataset == "CIFAR10aug" else ""
    words = ["brp", loaded + mirrored, *(["rate"] if settings.rate else []), settings.train_mode]
    words += ["held-out-speakers"] if settings.split == "speaker" else []
    if settings.topology != STARTS[settings.dataset].topology:
        words.append(settings.topology.replace("_", "-"))
    return "_".join(words)


FREE = (
    *(field.name for field in fields(experiment.Settings)),
    *("dataset", "train_mode", "topology", "rate", "freeze_conv_layers"),
    *("epochs", "validation", "test_batch_size", "trials", "codename"),
)
"""Settings that a run with a published number may have; all others are at their defaults, or as
`published.STEPS_ON_MNIST` says."""


def published(settings: Settings, loaded: str) -> Mapping[str, float] | None:
    """The published accuracy of a run's configuration and length, if there is one.

    Args:
        settings: of the run.
        loaded: the data set that was loaded, which can be a stand-in.
    """
    if not settings.rate or settings.validation:
        return None
    if (loaded, settings.epochs) != RUNS.get(settings.dataset):
        return None
    mode = "DRTP" if settings.train_mode == "BRP" else settings.train_mode
    plain = defaults(settings)
    plain = replace(plain, **{name: getattr(settings, name) for name in FREE})
    table = plain
    if settings.dataset == "MNIST" and settings.topology in HIDDEN_ON_MNIST:
        step = STEPS_ON_MNIST.get(mode, plain.lr)
        table = replace(plain, lr=step, batch_size=BATCH_ON_MNIST)
    if settings not in (plain, table):
        return None
    key = (settings.dataset, settings.topology, settings.freeze_conv_layers)
    found = ACCURACIES.get(key, {})
    return {"test_accuracy_last": found[mode]} if mode in found else None


def load(settings: Settings, device: torch.device) -> Data:
    """The data set that the settings ask for, on the device.

    Raises:
        UserError: it cannot be had.
    """
    source = Source(
        root=settings.data_root,
        device=device,
        window=settings.spike_window,
        split=settings.split,
        nettalk=settings.nettalk,
        scaling=settings.scaling,
        limit=QUICK_SAMPLES if settings.quick else None,
        signed=settings.rate and settings.output_act in ("tanh", "none"),
    )
    found = data_sets.load(settings.dataset, source)
    return found if settings.validation else without_validation(found)


def without_validation(data: Data) -> Data:
    """The same set, whose training part ends with the samples of the validation part."""
    parts = data.train, data.validation
    merged = Samples(torch.cat([p.inputs for p in parts]), torch.cat([p.targets for p in parts]))
    return replace(data, train=merged, validation=data.validation.first(0))


def make_network(settings: Settings, data: Data) -> Network:
    """The network that the settings ask for.

    Raises:
        UserError: the topology does not fit the data, or ends in another number of outputs than
            the data set has.
    """
    common: dict[str, Any] = {
        "dropout": settings.dropout,
        "freeze_conv_layers": settings.freeze_conv_layers,
        "fc_zero_init": settings.fc_zero_init,
        "init": settings.init,
    }
    network: Network
    if settings.rate:
        network = RateNetwork(
            settings.topology,
            data.rate_shape,
            settings.train_mode,
            conv_act=settings.conv_act,
            hidden_act=settings.hidden_act,
            output_act=settings.output_act,
            softmax_error=settings.output_act == "none" and settings.loss == "CE",
            **common,
        )
    else:
        neuron = Neuron(settings.thresh, settings.lens, settings.decay)
        network = NetworkBuilder(
            settings.topology, data.shape, settings.train_mode, neuron, **common
        )
    n_outputs = data.train.targets.shape[1]
    if network.n_classes != n_outputs:
        raise UserError(
            f"--topology {settings.topology} ends with {network.n_classes} outputs, but "
            f"{data.name} has {n_outputs}: end it with FC_{n_outputs}"
        )
    return network


def angle_stream(seed: int, device: torch.device) -> torch.Generator:
    """The random thresholds of a run's angles: the weights come from the seed itself."""
    return torch.Generator(device).manual_seed(seed ^ ANGLE_SEED)


def gradient_angles(trainer: Trainer, settings: Settings) -> dict[str, float]:
    """Angle of each layer's gradient to BP's on the first training samples, in degrees."""
    part = trainer.data.train.first(ANGLE_SAMPLES)
    stream = angle_stream(settings.seed, part.device)
    shown = Input(trainer.data, part.inputs, settings.rand_kill, False, stream)
    spikes = shown(0, shown.steps(settings.spike_window))
    found = angles(trainer.network, spikes, part.targets, trainer.loss)
    return {f"angle_{i}": value for i, value in enumerate(found[:-1], 1) if value == value}


def train(settings: Settings, data: Data, device: torch.device, run: Run) -> None:
    """Train and test a network, write figures and result.

    Raises:
        UserError: the network cannot be had as asked, or its learning explodes.
    """
    network = make_network(settings, data).to(device)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = OPTIMIZERS[settings.optimizer](trained, lr=settings.lr)
    generator = drawn_generator(device)
    presentation = Presentation(settings.spike_window, settings.rand_kill, settings.loss)
    trainer = Trainer(network, data, presentation, optimizer, generator)
    state = {
        "network": network,
        "optimizer": optimizer,
        "generator": generator,
        **global_generators(device, "order", "cuda"),  # order, dropout and mirroring draw from them
    }
    has_angles = not settings.rate and settings.train_mode not in ("BP", "shallow")
    for epoch in range(run.restore(**state) + 1, settings.epochs + 1):
        row = trainer.train_epoch(settings.batch_size)
        if parallel.is_first():
            if len(data.validation):
                row |= trainer.evaluate(data.validation, settings.test_batch_size, "validation")
            row |= trainer.evaluate(data.test, settings.test_batch_size, "test")
            if has_angles:
                row |= gradient_angles(trainer, settings)
        run.log(epoch, row)
        run.checkpoint(epoch, **state)

    if not parallel.is_first():
        return
    rows = run.metrics()
    title = f"{data.name}, {settings.train_mode}, {settings.topology}"
    curves = run.save_figure(draw_run(rows, title), "curves")
    if has_angles:
        run.save_figure(draw_angles(rows, title), "angles")
    run.finish(epochs=settings.epochs, metrics=summary(rows), figure=curves)


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


CONTINUE = {
    **{f"--cont{equals}{word}": () for equals in " =" for word in ("True", "true")},
    **{f"--cont{equals}{word}": ("--no-resume",) for equals in " =" for word in ("False", "false")},
    "--cont": (),
    "--no-cont": ("--no-resume",),
}
"""What the published spelling of --resume stands for."""

EXPERIMENT: Experiment[Settings, Data] = Experiment(
    paper="brp_snn",
    description=__doc__,
    settings=Settings,
    load=load,
    session=session,
    defaults=defaults,
    published=published,
    shorthands={"--cpu": ("--device", "cpu"), **CONTINUE},
    shares_batches=True,
)


def main(program: Experiment[Settings, Data] = EXPERIMENT) -> None:
    """Read the command line and do the trials."""
    settings = without_idle(program.parse())
    for trial in range(settings.trials):
        seed = settings.seed + trial
        own = settings.out / f"seed{seed}" if settings.out and settings.trials > 1 else settings.out
        program.run(replace(settings, trials=1, seed=seed, out=own), train)


if __name__ == "__main__":
    script(main)
