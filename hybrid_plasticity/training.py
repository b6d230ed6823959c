"""Training and testing, the same for every program of the paper."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from hybrid_plasticity.checks import check_inputs, check_network
from hybrid_plasticity.layer import Rule
from hybrid_plasticity.networks import PlasticNetwork, Response
from shared import datasets, parallel
from shared.errors import UserError, check_word
from shared.experiment import Settings
from shared.run import progress
from shared.tensors import Samples, one_hot_like, random_order

Protocol = Literal["published", "frozen", "single", "carried"]

L = TypeVar("L", bound=torch.optim.Optimizer)

CHECK_EVERY = 50  # steps between looks at the losses; each look makes a GPU wait


def load_all(name: str, options: Settings, quick_samples: int) -> datasets.Dataset:
    """A set of images, with MNIST's stand-in where it cannot be had; with --quick the first ones.

    Nothing is chosen by validation, so that none is held out: the settings are the paper's, the
    epoch is the last.
    """
    data = datasets.load(name, options.data_root, validation=0, fallback=True)
    return data.first(quick_samples) if options.quick else data


def check_loss(loss: float, step: int, rule: Rule) -> None:
    """Stop a run whose loss is no longer a number.

    Args:
        loss: the loss of a training step.
        step: the step's number in the epoch, from 1.
        rule: the learning rule, for the message.

    Raises:
        UserError: the loss is NaN or infinite.
    """
    if not math.isfinite(loss):
        cause = (
            "the weights ran away: lower the step size"
            if rule == "gp"
            else "trace and alpha drive each other up: lower the step size of alpha, beta and eta, "
            "or that of the weights"
        )
        raise UserError(
            f"the loss became {loss} at step {step} of this epoch under the rule {rule}; most "
            f"likely {cause}; the last checkpoint is from before it"
        )


class LossWatch:
    """Adds losses up on their device, and looks at them every now and then.

    Args:
        rule: the learning rule, for the message of `check_loss`.
    """

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._recent: list[Tensor] = []
        self._total, self._steps = 0.0, 0

    def add(self, loss: Tensor) -> None:
        """Note the loss of a step.

        Raises:
            UserError: one of the last steps' losses is no number.
        """
        self._recent.append(loss.detach())
        if len(self._recent) == CHECK_EVERY:
            self._look()

    def _look(self) -> None:
        for value in torch.stack(self._recent).tolist() if self._recent else []:
            self._steps += 1
            check_loss(value, self._steps, self._rule)
            self._total += value
        self._recent.clear()

    def mean(self) -> float:
        """Mean of all losses; of several processes, each given its part of a loss, their sum.

        Raises:
            UserError: one of the last steps' losses is no number.
        """
        self._look()
        total = parallel.added(torch.tensor(self._total, dtype=torch.float64))
        return float(total) / max(self._steps, 1)


def squared_error(
    output: Float[Tensor, "batch classes"], labels: Int[Tensor, " batch"]
) -> Float[Tensor, ""]:
    """Mean squared difference of outputs and one-hot labels."""
    return functional.mse_loss(output, one_hot_like(labels, output))


def following(optimizer: L) -> L:
    """An optimizer whose moments go where its parameters go.

    torch leaves them behind where a network is moved or converted after a step (`.to(device)`,
    `.double()`), and the next step fails.
    """
    optimizer.register_step_pre_hook(_follow)
    return optimizer


def adam(parameters: Iterable[Tensor], lr: float, eps: float = 1e-8) -> torch.optim.Adam:
    """Adam, `following` its parameters.

    Args:
        parameters: what it learns.
        lr: step size.
        eps: added to the root of the second moment.
    """
    return following(torch.optim.Adam(parameters, lr=lr, eps=eps, fused=True))


def _follow(optimizer: torch.optim.Optimizer, *_: object) -> None:
    """Bring an optimizer's state to the devices and number formats of its parameters."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor):  # "step" counts, in a format of its own
                kind = value.dtype if name == "step" else parameter.dtype
                state[name] = value.to(parameter.device, kind)


def optimizers(
    model: PlasticNetwork, lr: float, lr_local: float
) -> dict[str, torch.optim.Optimizer]:
    """Adam on the weights, and Adam on alpha, beta and eta, if any; by role."""
    made: dict[str, torch.optim.Optimizer] = {"optimizer": adam(model.global_parameters(), lr)}
    if local := model.local_parameters():
        made["local_optimizer"] = adam(local, lr_local)
    return made


def step_of(learners: Mapping[str, torch.optim.Optimizer]) -> Callable[[], None]:
    """A step of all optimizers, one after the other."""

    def step() -> None:
        for learner in learners.values():
            learner.step()

    return step


def _unchanged(images: Tensor) -> Tensor:
    return images


def train_epoch(
    model: nn.Module,
    samples: Samples,
    batch_size: int,
    step: Callable[[], None],
    rule: Rule,
    shown: Callable[[Tensor], Tensor] = _unchanged,
    orders: torch.Generator | None = None,
) -> dict[str, float]:
    """One pass over a training set in random order.

    Args:
        model: a `PlasticNetwork`, of several processes `shared.parallel.replicated`.
        samples: inputs, in [0, 1] once `shown` has seen them, and classes.
        batch_size: samples per step; an incomplete last batch is left out, since the trace is a
            mean over the batch.
        step: what the optimizers do once the gradients are there; the gradients are new each time.
        rule: for messages.
        shown: makes of a batch of images what the network is given; by default nothing.
        orders: what the order is drawn from; None for torch's own on the CPU.

    Returns:
        train_loss, train_accuracy as seen before each step, train_spikes: mean number of spikes of
        a hidden neuron in a presentation.

    Raises:
        UserError: the loss is no longer a number; a sample, a parameter or a trace holds NaN or an
            infinite number; there are fewer samples than a batch has, and so no batch.
    """
    if len(samples) < batch_size:
        raise UserError(f"{len(samples)} samples make no batch of {batch_size}: take a smaller one")
    check_inputs(samples.inputs)
    model.train()
    order = random_order(len(samples), samples.device, orders)
    batches = samples.batches(batch_size, order, drop_last=True)
    watch = LossWatch(rule)
    seen = torch.zeros(2, dtype=torch.float64, device=samples.device)
    for x, labels in progress(batches, len(batches), "train"):
        with parallel.share(len(labels)) as share:
            response: Response = model(share.of(shown(x)))
            own = share.of(labels)
            loss = squared_error(response.output, own)
            model.zero_grad(set_to_none=True)
            torch.autograd.backward(share.loss(loss))
        step()
        watch.add(share.part(loss))
        right = (response.output.argmax(1) == own).double().mean()
        seen += share.part(torch.stack([right, response.spike_counts[-2].mean().double()]))
    right, spikes = (parallel.added(seen) / len(batches)).tolist()
    loss_mean = watch.mean()  # a loss that is no number says more of the cause
    check_network(model)
    return {"train_loss": loss_mean, "train_accuracy": right, "train_spikes": spikes}


@torch.no_grad()
def evaluate(
    model: PlasticNetwork,
    samples: Samples,
    batch_size: int,
    protocol: Protocol = "published",
    shown: Callable[[Tensor], Tensor] = _unchanged,
) -> dict[str, float]:
    """Accuracy on a test set, its samples in order; the traces are given back unchanged.

    Args:
        model: the network.
        samples: inputs and classes.
        batch_size: samples per batch, which the trace is a mean over; "single" takes one.
        protocol: what the trace does. "published": every batch, as large as in training, starts
            from the trace that training left, which then moves in its presentation; "single": the
            same with batches of one sample; "carried": a batch starts from the trace that the
            batch before left; "frozen": the trace stays as training left it.
        shown: makes of a batch of images what the network is given; by default nothing.

    Returns:
        accuracy: share of right decisions; spikes: mean number of spikes of a hidden neuron in a
        presentation; steps: mean number of time steps of a presentation.

    Raises:
        ValueError: the protocol is none of these.
        UserError: there are no samples.
        NotFiniteError: a sample, a parameter or a trace holds NaN or an infinite number.
    """
    check_word("protocol", protocol, Protocol)
    if not len(samples):
        raise UserError("a test needs one sample at least")
    check_inputs(samples.inputs)
    check_network(model)
    model.eval()
    batches = samples.batches(1 if protocol == "single" else batch_size)
    seen = torch.zeros(3, dtype=torch.float64, device=samples.device)
    with model.traces(frozen=protocol == "frozen") as start_again:
        for x, y in progress(batches, len(batches), protocol):
            if protocol != "carried":
                start_again()
            response: Response = model(shown(x))
            right = (response.output.argmax(1) == y).sum()
            spikes = response.spike_counts[-2].mean() * len(y)
            steps = torch.full_like(spikes, response.steps * len(y))
            seen += torch.stack([right.double(), spikes.double(), steps.double()])
    accuracy, spikes_, steps_ = (seen / len(samples)).tolist()
    return {"accuracy": accuracy, "spikes": spikes_, "steps": steps_}
