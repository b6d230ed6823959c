"""Training and testing."""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from shared import parallel
from shared.errors import UserError, check_word
from shared.run import progress
from shared.tensors import Samples, one_hot_like, random_order
from stl_snn.data import Data, augment, intensities, noisy, spikes
from stl_snn.operations import Counter
from stl_snn.param import Noise, Precision
from stl_snn.spiking_model import SpikingNetwork

RAN_AWAY = (
    "weights or thresholds became infinite or no numbers: lower --lr; the last checkpoint is from "
    "before it"
)

EVALUATION_SEED = 0x5EED
"""Of the input's draws in a test: every test shows the same spikes, whatever was trained."""


@dataclass(frozen=True)
class Presentation:
    """How samples are shown.

    Attributes:
        steps: time steps of an image; recordings have theirs.
        batch_size: samples at a time.
        precision: of convolutions and products; "bfloat16" by autocast.

    Raises:
        ValueError: the precision is another word.
    """

    steps: int
    batch_size: int
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        check_word("precision", self.precision, Precision)

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """The context of the network's products."""
        if self.precision == "bfloat16":
            return torch.autocast(device.type, torch.bfloat16)
        return nullcontext()


def squared_error(
    votes: Float[Tensor, "batch classes"], labels: Int[Tensor, " batch"]
) -> Float[Tensor, ""]:
    """Mean squared difference of votes and one-hot labels."""
    return functional.mse_loss(votes, one_hot_like(labels, votes))


def check_finite(network: nn.Module, loss: float = 0.0) -> None:
    """Stop a training that ran away; to be called once per epoch.

    The loss alone does not tell: neurons whose currents are NaN are silent.

    Args:
        network: any network.
        loss: the epoch's mean loss.

    Raises:
        UserError: the loss, a parameter or a running average is NaN or infinite.
    """
    whole = [torch.isfinite(tensor).all() for tensor in network.state_dict().values()]
    if not (math.isfinite(loss) and torch.stack(whole).all()):
        raise UserError(RAN_AWAY)


class Trainer:
    """Trains and tests a network on a data set.

    Args:
        network: the network; of several processes (`shared.parallel`) with the layers of
            `synchronized`, and what learns in it chosen before.
        data: the data set.
        presentation: how samples are shown.
    """

    def __init__(self, network: SpikingNetwork, data: Data, presentation: Presentation) -> None:
        self.network, self.data, self.presentation = network, data, presentation
        self.learner = parallel.replicated(network)
        self.device = data.train.device

    def train_epoch(self, optimizer: torch.optim.Optimizer) -> dict[str, float]:
        """One pass over the training part in random order; draws come from torch's own generator.

        Returns:
            train_loss and train_accuracy, as seen before each step.

        Raises:
            UserError: the loss or a parameter is no number any more.
        """
        self.network.train()
        part = self.data.train
        order = random_order(len(part), self.device)
        batches = part.batches(self.presentation.batch_size, order)
        seen = []  # looked at in the end, so that no step waits for the device
        try:
            for inputs, labels in progress(batches, len(batches), "train"):
                loss, right = self.step(inputs, labels, optimizer)
                seen.append(torch.stack([loss * len(labels), right.to(loss)]))
        except FloatingPointError as error:
            raise UserError(RAN_AWAY) from error
        total = parallel.added(torch.stack(seen)).cpu().double().sum(0)
        loss_, right_ = (total / len(part)).tolist()
        check_finite(self.network, loss_)
        return {"train_loss": loss_, "train_accuracy": right_}

    def step(
        self, inputs: Tensor, labels: Tensor, optimizer: torch.optim.Optimizer
    ) -> tuple[Tensor, Tensor]:
        """One step of the optimizer.

        Returns:
            Loss and number of right answers, both from before it; of several processes each one's
            part, and their sum is the batch's.
        """
        values = intensities(inputs, self.data.recorded)
        shown = spikes(
            augment(values) if self.data.augmented else values, self.presentation.steps, None
        )
        with parallel.share(len(labels)) as share:
            labels = share.of(labels)
            with self.presentation.autocast(self.device):
                votes = self.learner(share.of(shown))
            loss = squared_error(votes.float(), labels)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(share.loss(loss))
        optimizer.step()
        self.network.keep_above_floor()
        right = (votes.argmax(1) == labels).sum()
        return share.part(loss.detach()), share.counted(right)

    @torch.no_grad()
    def votes(
        self,
        part: Samples,
        *,
        draw: int = 0,
        noise: tuple[Noise, int] | None = None,
    ) -> Float[Tensor, "n classes"]:
        """The votes for all samples of a part; nothing of the network changes.

        Args:
            part: the samples.
            draw: another number draws other input spikes.
            noise: kind and level of noise on the samples.
        """
        self.network.eval()
        generator = torch.Generator(self.device).manual_seed(EVALUATION_SEED + draw)
        batches = part.batches(self.presentation.batch_size)
        found = []
        for inputs, _ in progress(batches, len(batches), "test"):
            values = intensities(inputs, self.data.recorded)
            if noise:
                values = noisy(values, *noise, generator)
            shown = spikes(values, self.presentation.steps, generator)
            with self.presentation.autocast(self.device):
                found.append(self.network(shown).float())
        return torch.cat(found)

    def evaluate(self, part: Samples, name: str) -> dict[str, float]:
        """Loss and accuracy on a part, named name_..."""
        votes = self.votes(part)
        return {
            f"{name}_loss": float(squared_error(votes, part.labels)),
            f"{name}_accuracy": accuracy(votes, part.labels),
        }

    def evaluate_counted(self, part: Samples, name: str) -> tuple[dict[str, float], Counter]:
        """`evaluate`, and what the network did meanwhile."""
        with Counter(self.network) as counter:
            return self.evaluate(part, name), counter


def accuracy(votes: Float[Tensor, "n classes"], labels: Int[Tensor, " n"]) -> float:
    """Share of samples whose own class has the most votes; of equals the first class counts."""
    return int((votes.argmax(1) == labels).sum()) / len(labels)


def joint_accuracy(votes: Sequence[Float[Tensor, "n classes"]], labels: Int[Tensor, " n"]) -> float:
    """Accuracy of the mean of several votes: of networks, or of input draws of one network.

    The paper's definition of its joint decision is not at hand; this is the simplest reading.
    """
    return accuracy(torch.stack(list(votes)).mean(0), labels)


def under_noise(
    trainer: Trainer, part: Samples, kinds: Sequence[Noise], levels: Sequence[int]
) -> dict[Noise, list[float]]:
    """Accuracy on a part by kind of noise, at every level."""

    def at(kind: Noise, level: int) -> float:
        return accuracy(trainer.votes(part, noise=(kind, level)), part.labels)

    return {kind: [at(kind, level) for level in levels] for kind in kinds}


def threshold_summary(network: SpikingNetwork) -> dict[str, float]:
    """Mean, spread and least threshold of each layer of neurons."""
    measures: dict[str, Callable[[Tensor], Tensor]] = {
        "mean": torch.mean,
        "sd": lambda theta: theta.std(correction=0),
        "least": torch.min,
    }
    return {
        f"theta_{measure}_{name}": float(of(layer.thresh.detach()))
        for name, layer in network.neurons().items()
        for measure, of in measures.items()
    }
