"""A plain network of three layers without spikes on spoken digits: what the features are worth.

    python brp_snn/threenet.py                      TIDigits, or the stand-in fsdd
    python brp_snn/threenet.py --split speaker      tested on speakers that training never hears

Rectified linear hidden units and linear outputs, trained by back-propagation of the mean squared
error, the whole training set in every step. Inputs are 40 bands of 41 frames, divided by the root
of a recording's sum of squares. Nothing is chosen by a validation part, and none is held out.
"""

import shared.waiting

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from brp_snn.data import Split
from brp_snn.tidigits import SEED, SHARE, Scaling, drawn, features, split_by_speaker
from shared import datasets, experiment
from shared.errors import UserError
from shared.experiment import UNNAMED, Experiment, Named, Positive, paper
from shared.figures import draw_run
from shared.options import script
from shared.run import Run, progress
from shared.tensors import Samples, one_hot_like

CLASSES = 10
SAVED_EVERY = 10  # steps: writing a checkpoint takes longer than a step
QUICK_SAMPLES, QUICK_STEPS = 300, 3
READERS = {"tidigits": datasets.load_tidigits_or_fsdd, "fsdd": datasets.load_fsdd}


@dataclass(frozen=True)
class Settings(experiment.Settings):
    """The options."""

    dataset: Annotated[Literal["tidigits", "fsdd"], UNNAMED] = "tidigits"
    """Spoken digits; where TIDigits is not there, fsdd stands in."""
    split: Annotated[Split, Named("held-out-speakers")] = "random"
    """70 to 30 at random, or by speaker."""
    epochs: Annotated[Positive[int], paper(100)] = 100
    """Steps, each on the whole training set."""
    threads: Annotated[Positive[int] | None, UNNAMED] = 1
    """CPU threads."""
    hidden: Annotated[Positive[int], paper(500)] = 500
    """Hidden units."""
    lr: Annotated[Positive[float], paper(0.01)] = 0.01
    """Step size of Adam."""
    bands: Annotated[Positive[int], paper(40)] = 40
    """Mel bands."""
    frames: Annotated[Positive[int], paper(41)] = 41
    """Frames of a recording."""
    scaling: Annotated[Scaling, paper("l2")] = "l2"
    """Of the features, see tidigits.py."""


def defaults(asked: Settings) -> Settings:
    """What options that are not given are."""
    return Settings(epochs=QUICK_STEPS) if asked.quick else Settings()


class Net(nn.Sequential):
    """The network, by the published name.

    Args:
        n_feature: inputs.
        n_hidden: hidden units.
        n_output: outputs.
    """

    def __init__(self, n_feature: int, n_hidden: int, n_output: int) -> None:
        layers: list[tuple[str, nn.Module]] = [
            ("hidden", nn.Linear(n_feature, n_hidden)),
            ("relu", nn.ReLU()),
            ("predict", nn.Linear(n_hidden, n_output)),
        ]
        super().__init__(OrderedDict(layers))


def load(settings: Settings, device: torch.device) -> datasets.Dataset:
    """Features and labels of the recordings to train and to test on; none are held out.

    Raises:
        UserError: the recordings cannot be had, or too few of them.
    """
    speech = READERS[settings.dataset](settings.data_root)
    if settings.split == "speaker":
        train, validation, test = split_by_speaker(speech.speakers)
        rest = np.concatenate([train, validation])
    else:
        rest, test = drawn(speech.labels, SHARE, SEED)

    def part(chosen: NDArray[np.int64]) -> datasets.Split:
        few = replace(
            speech,
            waveforms=tuple(speech.waveforms[i] for i in chosen),
            labels=speech.labels[chosen],
            speakers=tuple(speech.speakers[i] for i in chosen),
        )
        found = features(few, settings.scaling, settings.bands, settings.frames)
        return datasets.Split(found.reshape(len(few), -1), few.labels)

    n = QUICK_SAMPLES if settings.quick else None
    known, unknown = part(rest[:n]), part(test[:n])
    nothing = datasets.Split(known.inputs[:0], known.labels[:0])
    return datasets.Dataset(speech.name, known, nothing, unknown, CLASSES)


def scores(network: Net, part: Samples, prefix: str) -> tuple[Float[Tensor, ""], dict[str, float]]:
    """The loss on a part, and loss and accuracy by name."""
    output = network(part.inputs)
    loss = functional.mse_loss(output, one_hot_like(part.labels, output))
    accuracy = int((output.argmax(1) == part.labels).sum()) / len(part)
    return loss, {f"{prefix}_loss": loss.item(), f"{prefix}_accuracy": accuracy}


def train(settings: Settings, data: datasets.Dataset, device: torch.device, run: Run) -> None:
    """Train and test the network, write the figure and the result.

    Raises:
        UserError: the loss is no number any more.
    """
    known, unknown = (Samples.of(part, device) for part in (data.train, data.test))
    network = Net(known.inputs.shape[1], settings.hidden, CLASSES).to(device)
    optimizer = torch.optim.Adam(network.parameters(), settings.lr, fused=True)
    state = {"network": network, "optimizer": optimizer}
    first = run.restore(**state)
    for step in progress(range(first, settings.epochs), settings.epochs - first, "train"):
        loss, row = scores(network, known, "train")
        if not loss.isfinite():
            raise UserError(f"the loss is no number in step {step + 1}: lower --lr {settings.lr}")
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        with torch.no_grad():
            row |= scores(network, unknown, "test")[1]
        run.log(step + 1, row)
        if (step + 1) % SAVED_EVERY == 0 or step + 1 == settings.epochs:
            run.checkpoint(step + 1, **state)

    rows = run.metrics()
    names = ("test_accuracy", "test_loss", "train_accuracy", "train_loss")
    run.finish(
        epochs=settings.epochs,
        metrics={f"{name}_last": rows[-1][name] for name in names},
        figure=run.save_figure(draw_run(rows, run.experiment), "curves"),
    )


EXPERIMENT = Experiment(
    paper="brp_snn",
    description=__doc__,
    settings=Settings,
    load=load,
    session=lambda settings, data: f"brp_threenet_{data}",
    defaults=defaults,
)


def main() -> None:
    """Read the options and run."""
    EXPERIMENT.main(train)


if __name__ == "__main__":
    script(main)
