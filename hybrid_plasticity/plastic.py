"""The plastic spiking layer: slow weights beside a Hebbian trace.

At step t of a presentation, with x the layer's input and k(t) = exp(-t / tau_w),

    I[t] = fc(k(t) x[t]) + alpha (k(t) x[t]) H[t]
    V[t] = decay (V[t-1] - theta s[t-1]) + I[t],    s[t] = 1 where V[t] > theta
    H[t+1] = clamp(w_decay H[t] + c mean_batch((k(t) x[t] beta)^T f(V[t] / theta - eta)))

The weights fc are learned globally, by surrogate gradients through time. The trace H [n_in, n_out]
is built from local activity; the gradient runs through it within a presentation, and what it may do
is learned so: alpha, how strongly it counts; beta, how strongly each presynaptic neuron drives it;
eta, the sliding threshold of each postsynaptic neuron. From batch to batch H goes on without a
gradient. Source: the paper's Methods, hybrid plasticity model.

The mean of outer products is one matrix product, and often not even that is needed:
of an input that stays the same, `PlasticLayer.present` forms no matrix.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hybrid_plasticity._presentation import ChangingInput, ConstantInput

Rule = Literal["hp", "gp", "lp"]
Reset = Literal["soft", "hard", "none"]
Post = Literal["tanh", "identity"]


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor, theta: float, lens: float) -> Tensor:
        ctx.save_for_backward(v)
        ctx.theta, ctx.lens = theta, lens
        return (v > theta).to(v.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (v,) = ctx.saved_tensors
        return grads[0] * ((v - ctx.theta).abs() < ctx.lens), None, None


def spike(v: Float[Tensor, "..."], theta: float, lens: float) -> Float[Tensor, "..."]:
    """Spikes: 1 where v > theta, else 0; the surrogate gradient is 1 where |v - theta| < lens."""
    spikes: Tensor = _Spike.apply(v, theta, lens)
    return spikes


class _Step(torch.autograd.Function):
    """A step of the neuron with one pass over the arrays where autograd would make many."""

    @staticmethod
    def forward(
        ctx: Any, current: Tensor, potential: Tensor, spikes: Tensor, neuron: "Neuron"
    ) -> tuple[Tensor, Tensor]:
        new = torch.add(current, potential, alpha=neuron.decay)
        if neuron.reset == "soft":
            new.add_(spikes, alpha=-neuron.decay * neuron.theta)
        elif neuron.reset == "hard":
            new.addcmul_(potential, spikes, value=-neuron.decay)
        ctx.neuron = neuron
        ctx.save_for_backward(new, potential, spikes)
        return new, (new > neuron.theta).to(new.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        neuron: Neuron = ctx.neuron
        new, potential, spikes = ctx.saved_tensors
        inside = (new - neuron.theta).abs_().lt_(neuron.lens)
        current = torch.addcmul(grads[0], grads[1], inside)
        if neuron.reset == "soft":
            return current, neuron.decay * current, -neuron.decay * neuron.theta * current, None
        if neuron.reset == "hard":
            carried = neuron.decay * current
            return current, carried * (1 - spikes), -carried * potential, None
        return current, neuron.decay * current, None, None


@dataclass(frozen=True)
class Neuron:
    """A leaky integrate-and-fire neuron of discrete time.

    Attributes:
        theta: threshold of the membrane potential.
        decay: share of the membrane potential that is left after a step.
        lens: half the width of the surrogate gradient.
        reset: "soft" takes theta off the potential of a neuron that spiked, "hard" sets it to 0,
            "none" lets it integrate on.
    """

    theta: float
    decay: float
    lens: float = 0.5
    reset: Reset = "soft"

    def integrate(
        self,
        current: Float[Tensor, "..."],
        potential: Float[Tensor, "..."] | None,
        spikes: Float[Tensor, "..."] | None,
    ) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
        """Potential and spikes after a step; None as the state before the first step."""
        if potential is None or spikes is None:
            return current, spike(current, self.theta, self.lens)
        new, fired = _Step.apply(current, potential, spikes, self)
        return new, fired


@dataclass(frozen=True)
class Hebbian:
    """What the trace is made of.

    Attributes:
        decay: w_decay, share of the trace that is left after a step.
        scale: c, factor of the mean of outer products: 1 Hebbian, -1 anti-Hebbian.
        post: f, the nonlinearity of the postsynaptic potential.
        limit: the trace is clamped to [-limit, limit]; None leaves it free.
        drive_at_least_zero: a beta below 0 acts as 0, and learns nothing there.
    """

    decay: float
    scale: float = 1.0
    post: Post = "tanh"
    limit: float | None = None
    drive_at_least_zero: bool = False

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


class MatrixTrace:
    """The trace of one presentation as a matrix: one product to read it, one to update it.

    Args:
        hebbian: what the trace is made of.
        start: the trace before the presentation [n_in, n_out].
        beta: drive of each presynaptic neuron [1, n_in].
    """

    def __init__(
        self,
        hebbian: Hebbian,
        start: Float[Tensor, "n_in n_out"],
        beta: Float[Tensor, "1 n_in"],
    ) -> None:
        self.hebbian, self.beta = hebbian, beta
        self._trace = start

    def recall(self, x: Float[Tensor, "batch n_in"], k: float) -> Float[Tensor, "batch n_out"]:
        """The current (k x) H before its factor alpha."""
        return k * (x @ self._trace)

    def learn(
        self, x: Float[Tensor, "batch n_in"], k: float, post: Float[Tensor, "batch n_out"]
    ) -> "MatrixTrace":
        """The trace after a step: its input was k x, its postsynaptic activity post."""
        self._trace = self.hebbian.updated(self._trace, x * (k * self.beta), post)
        return self

    def matrix(self) -> Float[Tensor, "n_in n_out"]:
        """The trace, with its gradient."""
        return self._trace


class FrozenTrace:
    """A trace that is read and no longer changes.

    Args:
        start: the trace [n_in, n_out].
    """

    def __init__(self, start: Float[Tensor, "n_in n_out"]) -> None:
        self._start = start
        self._x: Tensor | None = None
        self._x_start: Tensor | None = None

    def recall(self, x: Float[Tensor, "batch n_in"], k: float) -> Float[Tensor, "batch n_out"]:
        """The current (k x) H before its factor alpha."""
        if x is not self._x:
            self._x, self._x_start = x, x @ self._start
        assert self._x_start is not None
        return k * self._x_start

    def learn(
        self, x: Float[Tensor, "batch n_in"], k: float, post: Float[Tensor, "batch n_out"]
    ) -> "FrozenTrace":
        """The same trace."""
        return self

    def matrix(self) -> Float[Tensor, "n_in n_out"]:
        """The trace."""
        return self._start


Trace = MatrixTrace | FrozenTrace


class State(NamedTuple):
    """A layer's state within a presentation.

    Attributes:
        potential: membrane potentials [batch, n_out].
        spikes: spikes of the last step [batch, n_out].
        trace: the Hebbian trace, None under the rule "gp".
        x, drive: the last input and its product with the weights [batch, n_out].
    """

    potential: Tensor | None
    spikes: Tensor | None
    trace: Trace | None
    x: Tensor | None
    drive: Tensor | None


class Presented(NamedTuple):
    """What a layer did in a presentation.

    Attributes:
        spikes: spikes of every step [steps, batch, n_out].
        potential: membrane potentials after the last step [batch, n_out].
    """

    spikes: Tensor
    potential: Tensor


class PlasticLayer(nn.Module):
    """A fully connected spiking layer with a Hebbian trace.

    Args:
        n_in: presynaptic neurons.
        n_out: neurons of the layer.
        neuron: constants of the neurons.
        hebbian: constants of the trace.
        rule: "hp" learns weights and alpha, beta, eta by gradient; "gp" has no trace; "lp" has a
            trace and learns nothing else: weights and constants stay as they are.

    alpha, beta and eta start at 0, where the trace never grows and alpha and beta have no gradient:
    give them other values first.

    Attributes:
        fc: the weights, `nn.Linear`.
        alpha: strength of the trace, Parameter [1]; absent under "gp", as the next three.
        beta: drive of each presynaptic neuron, Parameter [1, n_in].
        eta: sliding threshold of each postsynaptic neuron, Parameter [1, n_out].
        hebb: the trace carried from batch to batch, buffer [n_in, n_out].
        frozen: the trace is read but no longer changes.
    """

    alpha: Tensor
    beta: Tensor
    eta: Tensor
    hebb: Tensor

    def __init__(
        self,
        n_in: int,
        n_out: int,
        neuron: Neuron,
        hebbian: Hebbian,
        rule: Rule = "hp",
    ) -> None:
        super().__init__()
        self.neuron, self.hebbian, self.rule = neuron, hebbian, rule
        self.frozen = False
        self.fc = nn.Linear(n_in, n_out)
        if rule != "gp":
            self.alpha = nn.Parameter(torch.zeros(1))
            self.beta = nn.Parameter(torch.zeros(1, n_in))
            self.eta = nn.Parameter(torch.zeros(1, n_out))
            self.register_buffer("hebb", torch.zeros(n_in, n_out))
            self._known_bound = (self._trace_version(), 0.0)
        if rule == "lp":
            self.requires_grad_(False)

    def local_parameters(self) -> list[nn.Parameter]:
        """What the second optimiser learns: alpha, beta, eta."""
        return [
            value
            for name, value in self.named_parameters(recurse=False)
            if name in ("alpha", "beta", "eta") and value.requires_grad
        ]

    def acting_beta(self) -> Float[Tensor, "1 n_in"]:
        """Values of beta as the trace sees them."""
        return self.beta.clamp(min=0) if self.hebbian.drive_at_least_zero else self.beta

    def start(self) -> State:
        """The state before a presentation."""
        trace: Trace | None = None
        if self.frozen:
            trace = FrozenTrace(self.hebb)
        elif self.rule != "gp":
            trace = MatrixTrace(self.hebbian, self.hebb, self.acting_beta())
        return State(None, None, trace, None, None)

    def forward(
        self, x: Float[Tensor, "batch n_in"], k: float, state: State
    ) -> tuple[Float[Tensor, "batch n_out"], State]:
        """A step.

        Args:
            x: the layer's input. Give the same tensor again where the input stays the same: its
                products are then taken once.
            k: factor of the input, exp(-t / tau_w).
            state: of the step before, or `start()`.

        Returns:
            Spikes and the new state.
        """
        drive = state.drive if x is state.x else nn.functional.linear(x, self.fc.weight)
        assert drive is not None
        current = torch.add(self.fc.bias, drive, alpha=k)
        trace = state.trace
        if trace is not None:
            current = current + self.alpha * trace.recall(x, k)
        potential, spikes = self.neuron.integrate(current, state.potential, state.spikes)
        if trace is not None:
            trace = trace.learn(x, k, self.hebbian.activity(potential, self.neuron.theta, self.eta))
        return spikes, State(potential, spikes, trace, x, drive)

    def present(
        self,
        x: Float[Tensor, "batch n_in"] | Float[Tensor, "steps batch n_in"],
        factors: Sequence[float],
    ) -> Presented:
        """All steps of a presentation; the trace goes on from the last one and is kept.

        Gives what `forward` gives step by step, faster on a CPU.

        Args:
            x: the input of every step [steps, batch, n_in], or of all steps [batch, n_in].
            factors: factor k of the input at every step.
        """
        if self.rule == "gp":
            drive = nn.functional.linear(x, self.fc.weight)
            spikes, potential, _, _ = ConstantInput.apply(
                drive, self.fc.bias, *[None] * 7, factors, self.neuron, self.hebbian
            )
            return Presented(spikes, potential)
        bounded = self.hebbian.post == "tanh"
        if not self.frozen and self.hebb.device.type == "cpu" and (x.ndim == 3 or bounded):
            fused = self._present_constant if x.ndim == 2 else self._present_changing
            return fused(x, factors)
        return self._present_by_steps(x, factors)

    def _present_by_steps(self, x: Tensor, factors: Sequence[float]) -> Presented:
        state = self.start()
        spikes = []
        for t, k in enumerate(factors):
            fired, state = self(x if x.ndim == 2 else x[t], k, state)
            spikes.append(fired)
        self.keep(state)
        assert state.potential is not None
        return Presented(torch.stack(spikes), state.potential)

    def _present_constant(self, x: Tensor, factors: Sequence[float]) -> Presented:
        """`present` with a matrix for those rows of the trace only whose clamp may act."""
        hebbian, growth, beta = self.hebbian, self.hebbian.scale / len(x), self.acting_beta()
        clamped, bound = self._near_limit(x, factors)
        trace, below = self.hebb, x
        rows: tuple[Tensor | None, ...] = (None, None, None)
        if clamped is not None:
            rows = (x[:, clamped], trace[clamped], beta[:, clamped])
            below = x.index_fill(1, clamped, 0)
        gram = growth * (below @ (below * beta).T)
        spikes, potential, total, last_rows = ConstantInput.apply(
            nn.functional.linear(x, self.fc.weight), self.fc.bias, below @ trace, gram,
            self.alpha, self.eta, *rows, factors, self.neuron, hebbian,
        )  # fmt: skip
        with torch.no_grad():
            left = hebbian.decay ** len(factors)
            pre = (below * beta).T
            self.hebb = torch.addmm(trace, pre, total, beta=left, alpha=growth)
            if clamped is not None:
                self.hebb[clamped] = last_rows
        self._known_bound = (self._trace_version(), bound)
        return Presented(spikes, potential)

    @torch.no_grad()
    def _near_limit(
        self, x: Float[Tensor, "batch n_in"], factors: Sequence[float]
    ) -> tuple[Int[Tensor, " rows"] | None, float]:
        """Presynaptic neurons whose part of the trace may reach the limit, with a bounded f.

        Returns:
            Their numbers, None for none, and what no entry of the trace will pass.
        """
        hebbian = self.hebbian
        grown = x.abs().mean(0) * self.beta[0].abs() * abs(hebbian.scale)

        def largest(before: Tensor, grown: Tensor) -> Tensor:
            most = now = before
            for k in factors:
                now = hebbian.decay * now + k * grown
                most = torch.maximum(most, now)
            return most

        bound = float(largest(torch.tensor(self._bound()), grown.max().cpu()))
        if hebbian.limit is None or bound <= hebbian.limit:
            return None, bound
        low, high = torch.aminmax(self.hebb, dim=1)
        each = largest(torch.maximum(-low, high), grown)
        return (~(each <= hebbian.limit)).nonzero()[:, 0], hebbian.limit

    def _present_changing(self, x: Tensor, factors: Sequence[float]) -> Presented:
        """`present` with the trace as a matrix."""
        spikes, potential, traces = ChangingInput.apply(
            x, nn.functional.linear(x, self.fc.weight), self.fc.bias, self.hebb, self.alpha,
            self.acting_beta(), self.eta, factors, self.neuron, self.hebbian,
        )  # fmt: skip
        self.hebb = traces[-1].clone()  # not a view, which would keep all steps
        return Presented(spikes, potential)

    def _trace_version(self) -> tuple[int, int]:
        # A loaded checkpoint is copied into the tensor, a presentation replaces it.
        return id(self.hebb), self.hebb._version

    def _bound(self) -> float:
        """No entry of the trace is larger; the trace itself is looked at only where needed."""
        version, bound = self._known_bound
        limit = math.inf if self.hebbian.limit is None else self.hebbian.limit
        if version != self._trace_version() or bound > limit / 2:
            low, high = torch.aminmax(self.hebb)
            bound = max(-float(low), float(high))
            self._known_bound = (self._trace_version(), bound)
        return bound

    @torch.no_grad()
    def keep(self, state: State) -> None:
        """Carry the trace of a presentation on to the next, without its gradient."""
        if state.trace is not None:
            # A new tensor: the backward pass of this presentation may still need the old one.
            self.hebb = state.trace.matrix().detach()
