"""Elastic weight consolidation: weights that mattered for earlier tasks are held near their values.

    penalty = lambda / 2  sum over earlier tasks k  sum over weights  F_k (w - w_k)^2

F_k is the diagonal of the Fisher information at the weights w_k that task k ended with: the mean
over samples of the squared gradient of log p(y | x), p the softmax of the outputs and y the class
that the network itself predicts. Sources: Kirkpatrick et al., Overcoming catastrophic forgetting in
neural networks (2017); the paper's Methods for the predicted labels.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from hybrid_plasticity.multitask_learning.masks import Mask
from hybrid_plasticity.multitask_learning.network import Connection, TaskNetwork
from hybrid_plasticity.multitask_learning.tasks import Task
from shared.errors import check_word
from shared.tensors import Samples

Kind = Literal["sample", "batch"]


class Hold(NamedTuple):
    """What holds some weights: tensors of one shape, see `Penalty`.

    Attributes:
        strength: lambda.
        fisher: F.
        pull: P.
        last: w_l.
    """

    strength: float
    fisher: Tensor
    pull: Tensor
    last: Tensor

    def gradient(self, weight: Tensor) -> Tensor:
        """The penalty's gradient at the weights."""
        return torch.addcmul(self.pull, self.fisher, weight - self.last).mul_(self.strength)

    def at(self, places: Int[Tensor, " entries"]) -> "Hold":
        """That of the weights at some places of the flattened matrix."""
        return Hold(self.strength, *(part.view(-1)[places] for part in self[1:]))


class Penalty:
    """The penalty of all earlier tasks, in three sums whatever their number.

    With F the sum of the F_k and w_l the weights that the last task ended with, its gradient is
    lambda (F (w - w_l) + P), where P = sum over k F_k (w_l - w_k) is the gradient at w_l. A weight
    that hasn't moved since it was first held has no gradient then, to the bit: the difference of
    F w and the sum of F_k w_k leaves rounding errors, which Adam makes whole steps of.

    Args:
        weights: the weight matrices.
        strength: lambda.
    """

    def __init__(self, weights: Sequence[nn.Parameter], strength: float) -> None:
        self._strength = strength
        self._fisher = [torch.zeros_like(w, requires_grad=False) for w in weights]
        self._pull = [torch.zeros_like(w, requires_grad=False) for w in weights]
        self._last = [w.detach().clone() for w in weights]

    @torch.no_grad()
    def add_task(self, fisher: Sequence[Tensor], weights: Sequence[Tensor]) -> None:
        """Hold the weights where they are now.

        Args:
            fisher: diagonal of the Fisher information, a tensor for each weight matrix.
            weights: the matrices.
        """
        self._follow(weights)
        sums = zip(self._fisher, self._pull, self._last, strict=True)
        for (total, pull, last), own, weight in zip(sums, fisher, weights, strict=True):
            pull += total * (weight - last)
            last.copy_(weight)
            total += own

    @torch.no_grad()
    def add_gradient(self, weights: Sequence[nn.Parameter]) -> None:
        """Add the penalty's gradient to the weights' gradients."""
        for weight, hold in zip(weights, self.holds(weights), strict=True):
            assert weight.grad is not None
            weight.grad += hold.gradient(weight)

    def holds(self, weights: Sequence[Tensor]) -> list[Hold]:
        """What holds each weight matrix, where it now is and in its number format."""
        self._follow(weights)
        sums = zip(self._fisher, self._pull, self._last, strict=True)
        return [Hold(self._strength, *parts) for parts in sums]

    def _follow(self, weights: Sequence[Tensor]) -> None:
        """Bring the sums to where the weights are, which may have been moved or converted."""
        for sums in (self._fisher, self._pull, self._last):
            sums[:] = [value.to(weight) for value, weight in zip(sums, weights, strict=True)]

    def state_dict(self) -> dict[str, Any]:
        """The sums and the weights that the last task ended with."""
        return {"fisher": self._fisher, "pull": self._pull, "last": self._last}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take what `state_dict` gave."""
        for name, own in self.state_dict().items():
            for to, value in zip(own, state[name], strict=True):
                to.copy_(value)


class _Recorded:
    """A connection that keeps its inputs and outputs."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def product(self, x: Float[Tensor, "n_in batch"]) -> Float[Tensor, "n_out batch"]:
        self.x = x.detach()
        self.y = self._connection.product(x)
        return self.y


def fisher_diagonal(
    network: TaskNetwork,
    task: Task,
    masked: bool,
    samples: Samples,
    batch_size: int,
    kind: Kind,
    order: Int[Tensor, " samples"] | None = None,
) -> list[Tensor]:
    """Diagonal of the Fisher information, a tensor for each weight matrix.

    Args:
        network: without traces.
        task: whose permutation and masks count.
        masked: the network sees its weights through the masks; elsewhere F is then 0.
        samples: pixels and classes; all of them are used.
        batch_size: samples at a time.
        kind: "sample" takes the mean of the samples' squared gradients; "batch" squares the
            gradient of each batch's mean and divides their sum by the number of batches less one,
            as the published program does.
        order: of the samples, which makes up the batches; as they lie, if None. It matters to
            "batch" alone: neighbours in a data set can be alike, and their mean gradient larger.

    Raises:
        ValueError: the kind is neither.
    """
    check_word("kind", kind, Kind)
    totals = [torch.zeros_like(w, requires_grad=False) for w in network.weights()]
    masks = task.masks if masked else None
    take = _sample_squares if kind == "sample" else _batch_squares
    batches = samples.batches(batch_size, order)
    for pixels, _ in batches:
        for total, squares in zip(totals, take(network, task.inputs(pixels), masks), strict=True):
            total += squares
    divisor = len(samples) if kind == "sample" else max(len(batches) - 1, 1)
    return [total / divisor for total in totals]


def _log_likelihood(output: Float[Tensor, "batch classes"]) -> Float[Tensor, " batch"]:
    """Log p of the class that the network predicts."""
    return functional.log_softmax(output, 1).max(1).values


def _batch_squares(
    network: TaskNetwork, x: Float[Tensor, "n_in batch"], masks: Sequence[Mask] | None
) -> list[Tensor]:
    mean = _log_likelihood(network(x, network.connections(masks))).mean()
    return [grad.square() for grad in torch.autograd.grad(mean, network.weights())]


def _sample_squares(
    network: TaskNetwork, x: Float[Tensor, "n_in batch"], masks: Sequence[Mask] | None
) -> list[Tensor]:
    """Sums of the samples' squared gradients."""
    records = [_Recorded(connection) for connection in network.connections(masks)]
    total = _log_likelihood(network(x, records)).sum()
    grads = torch.autograd.grad(total, [record.y for record in records])
    found = []
    for i, (record, grad) in enumerate(zip(records, grads, strict=True)):
        squares = squared_gradients(record.x, grad, x.shape[1])
        if masks is not None:
            squares = masks[i].filled(squares.flatten()[masks[i].flat])
        found.append(squares)
    return found


def squared_gradients(
    x: Float[Tensor, "n_in columns"], grad: Float[Tensor, "n_out columns"], batch: int
) -> Float[Tensor, "n_out n_in"]:
    """The sum over samples of their squared weight gradients.

    A sample's gradient is the sum over steps t of g[t] x[t]^T; its square is that over pairs of
    steps of (g[t] g[u]) (x[t] x[u])^T: one product of matrices for all samples.

    Args:
        x: inputs, a column for each sample of each step, step after step.
        grad: gradients of the products with the weights, in the same order.
        batch: samples.
    """
    x, grad = x.view(len(x), -1, batch), grad.view(len(grad), -1, batch)
    first, second = torch.triu_indices(x.shape[1], x.shape[1], device=x.device)
    factors = (2.0 - (first == second).to(x.dtype))[:, None]  # (t, u) stands for (u, t) too
    pre, post = x[:, first] * x[:, second], grad[:, first] * grad[:, second] * factors
    squares: Tensor = post.flatten(1) @ pre.flatten(1).T
    return squares
