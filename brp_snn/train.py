"""Training and testing of spiking and rate networks, by every mode."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from brp_snn import layerwise
from brp_snn.data import Data, Input, evaluation_stream
from brp_snn.models import Network, RateNetwork
from brp_snn.nettalk import code_scores
from shared import parallel
from shared.errors import UserError, check_word
from shared.run import progress
from shared.tensors import Samples, random_order

Optimizer = Literal["SGD", "NAG", "Adam", "RMSprop"]

OPTIMIZERS: dict[Optimizer, Callable[..., torch.optim.Optimizer]] = {
    "SGD": lambda parameters, lr: torch.optim.SGD(parameters, lr, momentum=0.9),
    "NAG": lambda parameters, lr: torch.optim.SGD(parameters, lr, momentum=0.9, nesterov=True),
    "Adam": lambda parameters, lr: torch.optim.Adam(parameters, lr, fused=True),
    "RMSprop": torch.optim.RMSprop,
}

MARGIN = 0.025  # half a spike in 20 steps


def _cross_entropy_of_spikes(y: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy of a share of steps with a spike, which can be 0 or 1.

    There its gradient would be infinite: shares are squeezed to lie `MARGIN` from both.
    """
    return functional.binary_cross_entropy(MARGIN + (1 - 2 * MARGIN) * y, targets)


Loss = Literal["MSE", "BCE", "CE"]

LOSSES: dict[Loss, layerwise.Loss] = {
    "MSE": functional.mse_loss,
    "BCE": functional.binary_cross_entropy,
    "CE": functional.cross_entropy,
}
"""Of rate networks; BCE is of sigmoids."""

SPIKING_LOSSES: dict[Loss, layerwise.Loss] = LOSSES | {"BCE": _cross_entropy_of_spikes}


@dataclass(frozen=True)
class Presentation:
    """How samples are shown to a network.

    Attributes:
        window: time steps; recordings have their own length.
        rand_kill: factor of the random thresholds of the input.
        loss: name in `LOSSES`.
    """

    window: int
    rand_kill: float
    loss: Loss


class Trainer:
    """A network on a data set.

    Args:
        network: spiking or rate.
        data: the data set.
        presentation: how samples are shown.
        optimizer: steps along the gradients; None where the network is only tested.
        generator: of the input's random thresholds in training.

    Raises:
        UserError: an input is no finite number.
        ValueError: there is no such loss.
    """

    def __init__(
        self,
        network: Network,
        data: Data,
        presentation: Presentation,
        optimizer: torch.optim.Optimizer | None,
        generator: torch.Generator,
    ) -> None:
        self.network, self.data, self.presentation = network, data, presentation
        self.optimizer, self.generator = optimizer, generator
        check_word("loss", presentation.loss, LOSSES)
        _check_finite(data)
        losses = LOSSES if isinstance(network, RateNetwork) else SPIKING_LOSSES
        self.loss = losses[presentation.loss]

    def _input(self, inputs: Tensor, training: bool, generator: torch.Generator) -> Input:
        return Input(self.data, inputs, self.presentation.rand_kill, training, generator)

    def learn(self, inputs: Tensor, targets: Tensor) -> layerwise.Outcome:
        """Fill the gradients for a batch; the outcome is that before the step.

        Of several processes each fills them for its share and adds them up: some modes sum what
        the samples teach, so that not all gradients are those of a mean loss. The sum of their
        outcomes is the whole batch's.
        """
        shown = self._input(inputs, True, self.generator)
        with parallel.share(len(inputs)) as share:
            outcome = self._learn(shown, targets, share)
            parallel.add_gradients(self.network.parameters(), share)
        return layerwise.Outcome(share.counted(outcome.loss), share.placed(outcome.output))

    def _learn(self, shown: Input, targets: Tensor, share: parallel.Share) -> layerwise.Outcome:
        """Fill the gradients for a share of a batch, whose loss is that times its weight."""
        own = share.of(targets)

        def loss(output: Tensor, targets: Tensor) -> Tensor:
            mean = self.loss(output, targets)
            return mean if share.size == 1 else mean * share.weight

        if not isinstance(self.network, RateNetwork):
            steps = shown.steps(self.presentation.window)

            def draw(start: int, stop: int) -> Tensor:
                return share.of(shown(start, stop), 1)

            return layerwise.gradients(self.network, draw, steps, own, loss)
        output = self.network(share.of(shown.rates()), own)
        value = loss(output, own)
        self.network.zero_grad()
        torch.autograd.backward(value)
        return layerwise.Outcome(value.detach(), output.detach())

    def answer(self, inputs: Tensor, generator: torch.Generator) -> Float[Tensor, "batch outputs"]:
        """The readout for a batch."""
        shown = self._input(inputs, False, generator)
        if isinstance(self.network, RateNetwork):
            output: Tensor = self.network(shown.rates())
            return output
        steps = shown.steps(self.presentation.window)
        return layerwise.readout(self.network, shown, steps, len(inputs))

    def train_epoch(self, batch_size: int) -> dict[str, float]:
        """One pass over the training part in random order.

        Returns:
            train_loss and the scores of the readouts before each step, named train_...

        Raises:
            UserError: the loss or a weight is no number any more.
        """
        assert self.optimizer is not None
        self.network.train()
        part = self.data.train
        order = random_order(len(part), part.device)
        batches = part.batches(batch_size, order)
        total, outputs = torch.zeros((), device=part.device), []
        for inputs, targets in progress(batches, len(batches), "train"):
            outcome = self.learn(inputs, targets)
            self.optimizer.step()
            total += outcome.loss * len(inputs)
            outputs.append(outcome.output)
        mean = float(parallel.added(total)) / len(part)
        # Spikes stay finite where weights do not.
        finite = all(bool(weights.isfinite().all()) for weights in self.network.parameters())
        if not (math.isfinite(mean) and finite):
            raise UserError(
                "the loss or a weight is no number any more: lower --lr; the last checkpoint is "
                "from before it"
            )
        found = scores(self.data, parallel.added(torch.cat(outputs)), part.targets[order])
        return {"train_loss": mean, **_named("train", found)}

    @torch.no_grad()
    def outputs(self, part: Samples, batch_size: int) -> Float[Tensor, "n outputs"]:
        """The readouts for all samples of a part, with the same random draws in every call."""
        self.network.eval()
        generator = evaluation_stream(part.device)
        batches = part.batches(batch_size)
        shown = progress(batches, len(batches), "test")
        return torch.cat([self.answer(inputs, generator) for inputs, _ in shown])

    def evaluate(self, part: Samples, batch_size: int, name: str) -> dict[str, float]:
        """Loss and scores on a part, named name_..."""
        outputs = self.outputs(part, batch_size)
        found = scores(self.data, outputs, part.targets)
        return _named(name, {"loss": float(self.loss(outputs, part.targets)), **found})


def _check_finite(data: Data) -> None:
    """Refuse inputs that are no numbers: compared with a threshold they are as dark as can be.

    Raises:
        UserError: one is; its sample and part are named.
    """
    for name, part in data.parts.items():
        if part.inputs.is_floating_point() and len(part):
            finite = part.inputs.isfinite().flatten(1).all(1)
            if not finite.all():
                raise UserError(
                    f"sample {int((~finite).nonzero()[0])} (counted from 0) of the {name} part has "
                    "a value that is no finite number: mend or leave out such samples"
                )


def scores(
    data: Data, outputs: Float[Tensor, "n outputs"], targets: Float[Tensor, "n outputs"]
) -> dict[str, float]:
    """What counts beyond the loss.

    For classes "accuracy", the share of right decisions. For values "squared_error", the mean over
    samples and outputs. For codes "accuracy", the share of right bits, "accuracy_exact", that of
    samples whose bits are all right, "accuracy_nearest", that of samples whose readout is nearer to
    its own word of the code than to all others, and "cosine", see `code_scores`.
    """
    if data.target_kind == "classes":
        right = outputs.argmax(1) == targets.argmax(1)
        return {"accuracy": int(right.sum()) / len(right)}
    if data.codes is not None:
        return code_scores(outputs, targets, data.codes)
    return {"squared_error": float(functional.mse_loss(outputs, targets))}


def _named(prefix: str, values: dict[str, float]) -> dict[str, float]:
    return {f"{prefix}_{name}": value for name, value in values.items()}
