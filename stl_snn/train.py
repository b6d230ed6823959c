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
of the last epoch is the result; the best of all epochs on the test set is given apart. After
training the network is tested under noise, and its spikes and operations are counted.
"""

import shared.waiting

import dataclasses
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeVar

import torch

from shared import experiment, parallel
from shared.errors import UserError
from shared.experiment import (
    UNNAMED,
    Experiment,
    Named,
    NonNegative,
    Positive,
    Share,
    paper,
    spelled,
)
from shared.options import script
from shared.run import Run
from shared.tensors import global_generators
from stl_snn import func, synchronized
from stl_snn.data import LEVELS, LOADED, Data, load
from stl_snn.loaders import get_model_and_dataset
from stl_snn.param import (
    MNIST,
    SETTINGS,
    DataName,
    Learning,
    Precision,
    Sharing,
    deepened,
    scaled,
)
from stl_snn.report import Untrained, rates_of, report, thresholds_of
from stl_snn.spiking_model import SpikingNetwork
from stl_snn.training import Presentation, Trainer, threshold_summary

__all__ = ["get_model_and_dataset", "main"]

QUICK_SAMPLES, QUICK_LEVELS = 200, (0, 6, 14)
QUICK: dict[str, Any] = {"width": 0.0625, "epochs": 2}
"""What --quick takes where nothing else is asked for."""


@dataclass(frozen=True)
class Settings(experiment.Settings):
    """The options; defaults and the paper's values are MNIST's, `defaults` has other sets'."""

    data: Annotated[DataName, UNNAMED, spelled("data", "-data")] = "mnist"
    """Data set; where MNIST or N-MNIST cannot be had, a small stand-in, which is named."""
    learning: Annotated[Learning, Named("{}"), paper("stl")] = "stl"
    """What learns: synapses and thresholds, synapses only, thresholds only."""
    train_norm: Annotated[bool, Named("norm")] = True
    """Scale and shift of batch normalization learn; by default with stl and sl, not with tl."""
    sharing: Annotated[Sharing, Named("per-{}"), paper("neuron")] = "neuron"
    """Who has a threshold of its own."""
    floor: Annotated[Positive[float] | None, paper(None)] = None
    """Keep thresholds at it or above; without it they are free."""
    depth: Annotated[Positive[int], paper(2)] = 2
    """Convolutions; more of them stand in the last block."""
    width: Annotated[Positive[float], paper(1.0)] = 1.0
    """Factor of the hidden layers' sizes."""
    epochs: Annotated[Positive[int], paper(100)] = MNIST.epochs
    """Passes over the training set."""
    steps: Annotated[Positive[int], Named("T{}"), paper(4)] = MNIST.steps
    """Time steps T of a presentation."""
    batch_size: Annotated[Positive[int], Named("batch-size-{}"), paper(50)] = MNIST.batch_size
    """Samples per step of Adam."""
    lr: Annotated[Positive[float], paper(1e-3)] = MNIST.lr
    """Step size of Adam."""
    lr_decay: Annotated[Positive[float], Named("lr-decay-{}"), paper(0.93)] = MNIST.lr_decay
    """Factor of the step size after every epoch."""
    weight_decay: Annotated[NonNegative[float], Named("weight-decay-{}"), paper(1e-6)] = (
        MNIST.weight_decay
    )
    """Of Adam, on thresholds too."""
    theta_decay: Annotated[NonNegative[float] | None, Named("theta-decay-{}"), paper(None)] = None
    """Weight decay of the thresholds alone; without it they have that of the weights."""
    dropout: Annotated[Share, paper(0.5)] = MNIST.dropout
    """Share of a fully connected layer's inputs dropped, afresh at every step."""
    tau: Annotated[Share, paper(0.5)] = MNIST.tau
    """Share of the potential left after a step."""
    alpha: Annotated[Positive[float], paper(2.0)] = MNIST.alpha
    """Sharpness of the surrogate derivative."""
    theta: Annotated[Positive[float], paper(2.0)] = MNIST.theta
    """Mean initial threshold."""
    spread: Annotated[NonNegative[float], paper(1e-4)] = MNIST.spread
    """Standard deviation of the initial thresholds."""
    whole_decay: bool = False
    """The step size ends where the paper's 100 epochs leave it: after each of E epochs it is
    multiplied by --lr-decay to the power of 100 / E."""
    precision: Annotated[Precision, Named("{}"), paper("float32")] = "float32"
    """Of products and convolutions; bfloat16 is meant for a GPU."""
    decisions: Annotated[Positive[int], UNNAMED] = 1
    """Joint decision: votes of so many draws of the input's spikes are averaged."""
    noise_samples: Annotated[NonNegative[int], UNNAMED] = 1000
    """First test samples that are shown under every kind and level of noise; 0 for none."""

    def check(self) -> None:
        """Refuse what contradicts itself, and networks that cannot be."""
        if self.floor is not None and self.floor > self.theta:
            raise UserError(
                f"--floor {self.floor} must be at most --theta {self.theta}, where the thresholds "
                "start"
            )
        if self.theta_decay is not None and self.learning == "sl":
            raise UserError(
                "--theta-decay needs thresholds that learn: leave it out, or take --learning stl"
            )
        setting_of(self)


OF_A_SET = [f.name for f in dataclasses.fields(MNIST) if hasattr(Settings, f.name)]
"""Options whose default is a data set's own."""


S = TypeVar("S", bound=Settings)


def defaults(asked: S) -> S:
    """What options that are not given start from, by data set and by what learns."""
    setting = SETTINGS[asked.data]()
    of_the_set = {name: getattr(setting, name) for name in OF_A_SET}
    settings = type(asked)(
        depth=sum(setting.blocks), train_norm=asked.learning != "tl", **of_the_set
    )
    return replace(settings, **QUICK) if asked.quick else settings


def setting_of(settings: Settings) -> MNIST:
    """Sizes and constants of the network that the options ask for.

    Raises:
        UserError: the depth cannot be.
    """
    given = {name: getattr(settings, name) for name in OF_A_SET}
    setting = scaled(replace(SETTINGS[settings.data](), **given), settings.width)
    return deepened(setting, settings.depth)


def decay_of(settings: Settings) -> float:
    """Factor of the step size after every epoch."""
    if not settings.whole_decay:
        return settings.lr_decay
    decay: float = settings.lr_decay ** (SETTINGS[settings.data].epochs / settings.epochs)
    return decay


def groups(settings: Settings, network: SpikingNetwork) -> list[dict[str, Any]]:
    """The parameters that learn, as Adam takes them: those with a weight decay of their own apart.

    Args:
        settings: say what learns.
        network: the other parameters are frozen.
    """
    learning = network.learn(settings.learning, settings.train_norm)
    if settings.theta_decay is None:
        return [{"params": learning}]
    thresholds = {id(layer.thresh) for layer in network.neurons().values()}
    others = [parameter for parameter in learning if id(parameter) not in thresholds]
    own = [parameter for parameter in learning if id(parameter) in thresholds]
    made: list[dict[str, Any]] = [{"params": own, "weight_decay": settings.theta_decay}]
    return [{"params": others}, *made] if others else made


def train(settings: Settings, data: Data, device: torch.device, run: Run) -> None:
    """Train and test one network, write figures and result.

    Raises:
        UserError: the checkpoint is another network's, or the training ran away.
    """
    network = SpikingNetwork(
        setting_of(settings),
        data.shape,
        data.n_classes,
        sharing=settings.sharing,
        floor=settings.floor,
        layers=func if parallel.processes() == 1 else synchronized,
    ).to(device)
    optimizer = torch.optim.Adam(
        groups(settings, network), lr=settings.lr, weight_decay=settings.weight_decay, fused=True
    )
    trainer = Trainer(
        network, data, Presentation(settings.steps, settings.batch_size, settings.precision)
    )
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, decay_of(settings))
    parts = {"network": network, "optimizer": optimizer, "schedule": schedule}
    parts |= global_generators(device)
    untrained = Untrained(thresholds_of(network), rates_of(trainer))
    for epoch in range(restore(run, parts) + 1, settings.epochs + 1):
        row = trainer.train_epoch(optimizer)
        schedule.step()
        if parallel.is_first():
            row |= measured(trainer)
            row["non_positive_thresholds"] = warn_of_non_positive(network, epoch)
            show(epoch, row)
        run.log(epoch, row, show=False)
        run.checkpoint(epoch, **parts)
    if not parallel.is_first():
        return
    report(
        run,
        trainer,
        untrained,
        learning=settings.learning,
        decisions=settings.decisions,
        noise_samples=settings.noise_samples,
        levels=QUICK_LEVELS if settings.quick else LEVELS,
    )


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


def restore(run: Run, parts: dict[str, Any]) -> int:
    """Take up the run's checkpoint, if there is one.

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


def measured(trainer: Trainer) -> dict[str, float]:
    """Accuracies, firing rates on the validation part, and thresholds of the network as it is."""
    row, counter = trainer.evaluate_counted(trainer.data.validation, "validation")
    row |= trainer.evaluate(trainer.data.test, "test")
    row |= {f"rate_{name}": rate for name, rate in counter.rates().items()}
    return row | threshold_summary(trainer.network)


def show(epoch: int, row: dict[str, float]) -> None:
    """Print an epoch's main numbers."""
    names = ("train_loss", "train_accuracy", "validation_accuracy", "test_accuracy")
    numbers = "  ".join(f"{name} {row[name]:.4f}" for name in names)
    rates = " ".join(f"{100 * v:.1f}" for name, v in row.items() if name.startswith("rate_"))
    print(f"epoch {epoch:3d}  {numbers}  spikes per neuron and step {rates} %", flush=True)


def load_data(settings: Settings, device: torch.device) -> Data:
    """The data set that was asked for, on the device."""
    return load(
        settings.data,
        settings.data_root,
        settings.steps,
        device,
        augmented=SETTINGS[settings.data].augmented,
        limit=QUICK_SAMPLES if settings.quick else None,
    )


def session_of(settings: Settings, data: str) -> str:
    """How a run's name begins: stl_mnist, or stl_mnist5k of what stands in for the set."""
    is_itself = data == LOADED.get(settings.data, settings.data)
    return SETTINGS[settings.data].session if is_itself else f"stl_{data}"


def published(settings: Settings, data: str) -> Mapping[str, float] | None:
    """The published accuracies of a run in the paper's configuration and length, if any."""
    setting = SETTINGS[settings.data]
    return setting.published if EXPERIMENT.name(settings, data) == setting.session else None


EXPERIMENT = Experiment(
    paper="stl_snn",
    description=__doc__,
    settings=Settings,
    load=load_data,
    session=session_of,
    defaults=defaults,
    published=published,
    shares_batches=True,
    grows=lambda settings: not settings.whole_decay,
    shorthands={
        "-tl": ("--learning", "stl"),
        "--no-tl": ("--learning", "sl"),
        "-gpu": ("--device", "cuda"),
        "--no-gpu": ("--device", "cpu"),
    },
)


def main() -> None:
    """Train and test one network."""
    EXPERIMENT.main(train)


if __name__ == "__main__":
    script(main)
