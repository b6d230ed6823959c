"""The Hebbian trace: what it is made of, and what it does within a presentation.

    H[t+1] = clamp(w_decay H[t] + c mean_batch((k(t) x[t] beta)^T f(V[t] / theta - eta)))

with x the layer's input, k(t) its attenuation, beta the drive of each presynaptic neuron and eta
the sliding threshold of each postsynaptic one. H [n_in, n_out] is in units of a weight over alpha.
Source: the paper's Methods, hybrid plasticity model.

A trace of your own is a subclass of `Hebbian`: another `activity` f, another growth in `updated`,
or, from `begin`, an object of its own that is a `Trace`. Every network that takes a `Hebbian` uses
it; the fast forms, which know these equations only, step aside.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from shared.errors import check_word

Post = Literal["tanh", "identity"]


class Trace(Protocol):
    """The trace of one presentation, as a layer steps through it."""

    def recall(self, x: Float[Tensor, "batch n_in"], k: float) -> Float[Tensor, "batch n_out"]:
        """The current (k x) H before its factor alpha."""
        ...

    def learn(
        self, x: Float[Tensor, "batch n_in"], k: float, post: Float[Tensor, "batch n_out"]
    ) -> "Trace":
        """The trace after a step: its input was k x, its postsynaptic activity post."""
        ...

    def matrix(self) -> Float[Tensor, "n_in n_out"]:
        """The trace H, with its gradient."""
        ...


@dataclass(frozen=True)
class Hebbian:
    """What the trace is made of.

    Attributes:
        decay: w_decay, share of the trace that is left after a step.
        scale: c, factor of the mean of outer products: 1 Hebbian, -1 anti-Hebbian.
        post: f, the nonlinearity of the postsynaptic potential.
        limit: the trace is clamped to [-limit, limit]; None leaves it free.
        drive_at_least_zero: a beta below 0 acts as 0, and learns nothing there.

    Raises:
        ValueError: f is neither "tanh" nor "identity".
    """

    decay: float
    scale: float = 1.0
    post: Post = "tanh"
    limit: float | None = None
    drive_at_least_zero: bool = False

    def __post_init__(self) -> None:
        check_word("post", self.post, Post)

    def drive(self, beta: Float[Tensor, "1 n_in"]) -> Float[Tensor, "1 n_in"]:
        """Values of beta as the trace sees them."""
        return beta.clamp(min=0) if self.drive_at_least_zero else beta

    def activity(
        self, potential: Float[Tensor, "batch n_out"], theta: float, eta: Float[Tensor, "1 n_out"]
    ) -> Float[Tensor, "batch n_out"]:
        """The postsynaptic factor f(V / theta - eta)."""
        above = potential / theta - eta
        return torch.tanh(above) if self.post == "tanh" else above

    def updated(
        self,
        trace: Float[Tensor, "n_in n_out"],
        pre: Float[Tensor, "batch n_in"],
        post: Float[Tensor, "batch n_out"],
    ) -> Float[Tensor, "n_in n_out"]:
        """The trace after a step.

        Args:
            trace: the trace so far.
            pre: presynaptic activity times beta.
            post: postsynaptic activity f.
        """
        growth = self.scale / len(pre)
        new = torch.addmm(trace, pre.T, post, beta=self.decay, alpha=growth)
        return new if self.limit is None else new.clamp(-self.limit, self.limit)

    def begin(self, start: Float[Tensor, "n_in n_out"], beta: Float[Tensor, "1 n_in"]) -> Trace:
        """The trace at the beginning of a presentation.

        Args:
            start: what the presentation before left.
            beta: drive of each presynaptic neuron, as the trace sees it.
        """
        return MatrixTrace(self, start, beta)


class MatrixTrace:
    """A trace as a matrix: one product to read it, one to update it.

    Args:
        hebbian: what the trace is made of.
        start: the trace so far [n_in, n_out].
        beta: drive of each presynaptic neuron [1, n_in].
    """

    def __init__(
        self,
        hebbian: Hebbian,
        start: Float[Tensor, "n_in n_out"],
        beta: Float[Tensor, "1 n_in"],
    ) -> None:
        self._hebbian, self._trace, self._beta = hebbian, start, beta
        self._x: Tensor | None = None
        self._product: Tensor | None = None  # of x and the trace

    def recall(self, x: Float[Tensor, "batch n_in"], k: float) -> Float[Tensor, "batch n_out"]:
        """The current (k x) H before its factor alpha; of the same x the product is taken once."""
        if x is not self._x or self._product is None:
            self._x, self._product = x, x @ self._trace
        return k * self._product

    def learn(
        self, x: Float[Tensor, "batch n_in"], k: float, post: Float[Tensor, "batch n_out"]
    ) -> "MatrixTrace":
        """The trace after a step: its input was k x, its postsynaptic activity post."""
        new = self._hebbian.updated(self._trace, x * (k * self._beta), post)
        return MatrixTrace(self._hebbian, new, self._beta)

    def matrix(self) -> Float[Tensor, "n_in n_out"]:
        """The trace, with its gradient."""
        return self._trace


class FrozenTrace:
    """A trace that is read and no longer changes.

    Args:
        trace: what is read.
    """

    def __init__(self, trace: Trace) -> None:
        self._trace = trace

    def recall(self, x: Float[Tensor, "batch n_in"], k: float) -> Float[Tensor, "batch n_out"]:
        """The current (k x) H before its factor alpha."""
        return self._trace.recall(x, k)

    def learn(
        self, x: Float[Tensor, "batch n_in"], k: float, post: Float[Tensor, "batch n_out"]
    ) -> "FrozenTrace":
        """The same trace."""
        return self

    def matrix(self) -> Float[Tensor, "n_in n_out"]:
        """The trace."""
        return self._trace.matrix()
