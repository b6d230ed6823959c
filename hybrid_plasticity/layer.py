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

`neuron` has V and s, `trace` has H. `fused` runs a whole presentation as one operation; it forms no
matrix of an input that stays the same.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hybrid_plasticity.checks import check_bound
from hybrid_plasticity.fused import ChangingInput, ConstantInput, knows
from hybrid_plasticity.neuron import Neuron
from hybrid_plasticity.precision import without_autocast
from hybrid_plasticity.trace import FrozenTrace, Hebbian, Trace
from shared.errors import check_word

Rule = Literal["hp", "gp", "lp"]


def _version_of(tensor: Tensor) -> int | None:
    """The number of changes in place; None for tensors of inference mode, which count none."""
    return None if tensor.is_inference() else tensor._version


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

    Raises:
        ValueError: the rule is none of these.

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
        check_word("rule", rule, Rule)
        self.neuron, self.hebbian, self.rule = neuron, hebbian, rule
        self.frozen = False
        self.fc = nn.Linear(n_in, n_out)
        if rule != "gp":
            self.alpha = nn.Parameter(torch.zeros(1))
            self.beta = nn.Parameter(torch.zeros(1, n_in))
            self.eta = nn.Parameter(torch.zeros(1, n_out))
            self.register_buffer("hebb", torch.zeros(n_in, n_out))
            self._known_bound = (self.hebb, _version_of(self.hebb), 0.0)
        if rule == "lp":
            self.requires_grad_(False)

    def local_parameters(self) -> list[nn.Parameter]:
        """What the second optimizer learns: alpha, beta, eta."""
        return [
            value
            for name, value in self.named_parameters(recurse=False)
            if name in ("alpha", "beta", "eta") and value.requires_grad
        ]

    def acting_beta(self) -> Float[Tensor, "1 n_in"]:
        """Values of beta as the trace sees them."""
        return self.hebbian.drive(self.beta)

    def start(self) -> State:
        """The state before a presentation."""
        if self.rule == "gp":
            return State(None, None, None, None, None)
        trace = self.hebbian.begin(self.hebb, self.acting_beta())
        return State(None, None, FrozenTrace(trace) if self.frozen else trace, None, None)

    @without_autocast
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

        Raises:
            ValueError: the batch has no sample, and the trace is to learn from it.
        """
        x = self._checked(x)
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

    @without_autocast
    def present(
        self,
        x: Float[Tensor, "batch n_in"] | Float[Tensor, "steps batch n_in"],
        factors: Sequence[float],
    ) -> Presented:
        """All steps of a presentation; the trace goes on from the last one and is kept.

        Gives what `forward` gives step by step. The fused form does it faster where it knows the
        neuron, the trace and the layer: a subclass of one of them runs step by step.

        Args:
            x: the input of every step [steps, batch, n_in], or of all steps [batch, n_in].
            factors: factor k of the input at every step.

        Raises:
            NotFiniteError: an input, beta or the trace holds NaN or an infinite number, where
                looking costs nothing; `PlasticNetwork.check_finite` looks everywhere.
            ValueError: the batch has no sample, and the trace is to learn from it.
        """
        x = self._checked(x)
        if not self._has_fused_form(x):
            return self._present_by_steps(x, factors)
        if self.rule == "gp":
            drive = nn.functional.linear(x, self.fc.weight)
            spikes, potential, _, _ = ConstantInput.apply(
                drive, self.fc.bias, *[None] * 7, factors, self.neuron, self.hebbian
            )
            return Presented(spikes, potential)
        return (self._present_constant if x.ndim == 2 else self._present_changing)(x, factors)

    def _checked(self, x: Tensor) -> Tensor:
        """An input in the weights' format, of which autocast may have made a shorter one."""
        if x.shape[-2] == 0 and self.rule != "gp" and not self.frozen:
            raise ValueError(
                "a batch without samples has no mean for a trace to learn from: leave it out, or "
                "freeze the traces"
            )
        shorter = x.is_floating_point() and x.element_size() < self.fc.weight.element_size()
        return x.to(self.fc.weight.dtype) if shorter else x

    def _has_fused_form(self, x: Tensor) -> bool:
        """Whether the operations of `fused` compute this layer's presentation of an input."""
        if not (type(self) is PlasticLayer and knows(self.neuron, self.hebbian)):
            return False
        if torch.compiler.is_exporting():  # a graph of torch's own operations is asked for
            return False
        if self.rule == "gp":
            return True
        bounded = self.hebbian.post == "tanh"
        return not self.frozen and x.device.type == "cpu" and (x.ndim == 3 or bounded)

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
            new = torch.addmm(trace, pre, total, beta=left, alpha=growth)
            if clamped is not None:
                new[clamped] = last_rows
        self._carry(new)
        self._known_bound = (self.hebb, _version_of(self.hebb), bound)
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
        check_bound(bound)
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
        self._carry(traces[-1].clone())  # not a view, which would keep all steps
        return Presented(spikes, potential)

    def _bound(self) -> float:
        """No entry of the trace is larger; the trace itself is looked at only where needed."""
        # A loaded checkpoint is copied into the tensor, a presentation replaces it.
        known, version, bound = self._known_bound
        limit = math.inf if self.hebbian.limit is None else self.hebbian.limit
        is_known = known is self.hebb and version is not None and version == _version_of(self.hebb)
        if not is_known or bound > limit / 2:
            low, high = torch.aminmax(self.hebb)
            bound = max(-float(low), float(high))
            self._known_bound = (self.hebb, _version_of(self.hebb), bound)
        return bound

    def keep(self, state: State) -> None:
        """Carry the trace of a presentation on to the next, without its gradient."""
        if state.trace is not None and not self.frozen:
            # A new tensor: the backward pass of this presentation may still need the old one.
            self._carry(state.trace.matrix().detach())

    def _carry(self, trace: Float[Tensor, "n_in n_out"]) -> None:
        if trace.is_inference():
            with torch.inference_mode(False):  # training may go on from it
                trace = trace.clone()
        self.hebb = trace
