"""A whole presentation of a plastic layer as one operation, with its gradient written out.

Autograd takes a step of `PlasticLayer` apart into some thirty small operations. Here the steps of
a presentation run in a row, buffers are reused, and the backward pass recomputes what is cheap:
only membrane potentials and the trace's part are kept. Equations as in `neuron` and `trace`, and no
others: `knows` says whether they are those of a neuron and a trace.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from hybrid_plasticity.neuron import Neuron
from hybrid_plasticity.precision import without_autocast
from hybrid_plasticity.trace import Hebbian


def knows(neuron: Neuron, hebbian: Hebbian) -> bool:
    """Whether these operations compute what a neuron and a trace do.

    A subclass may do anything.
    """
    return type(neuron) is Neuron and type(hebbian) is Hebbian


class ConstantInput(torch.autograd.Function):
    """Steps of a layer without a trace, or whose input is k(t) x with the same x at every step.

    With G = c / B (x beta) x^T over the presynaptic neurons whose part of the trace stays below the
    limit, their current is alpha k(t) (w^t x H[0] + G R[t]), with R[t+1] = w R[t] + k(t) f[t]. The
    neurons whose part may reach it have the rows of a matrix.

    Args of `forward`:
        drive: x W^T [steps, batch, n_out], [batch, n_out] where x is the same at every step.
        bias: [n_out].
        start: x H[0] of the neurons below the limit [batch, n_out]; None where there is no trace,
            as for gram, alpha and eta.
        gram: G [batch, batch].
        alpha: [1].
        eta: [1, n_out].
        x: input of the neurons whose part may reach the limit [batch, rows], None for none, as for
            rows and beta.
        rows: their part of H[0], without a gradient [rows, n_out].
        beta: their drive [1, rows].
        factors: k of every step.
        neuron: constants of the neurons.
        hebbian: constants of the trace.

    Returns:
        Spikes [steps, batch, n_out], potentials after the last step [batch, n_out], and, without a
        gradient, R and the rows after it (empty where there are none).
    """

    @staticmethod
    def forward(
        ctx: Any,
        drive: Tensor,
        bias: Tensor,
        start: Tensor | None,
        gram: Tensor | None,
        alpha: Tensor | None,
        eta: Tensor | None,
        x: Tensor | None,
        rows: Tensor | None,
        beta: Tensor | None,
        factors: Sequence[float],
        neuron: Neuron,
        hebbian: Hebbian,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """All steps; arguments as above."""
        steps, shape, same = len(factors), drive.shape[-2:], drive.ndim == 2
        potentials, spikes = drive.new_empty(2, steps, *shape)
        # sums[t] is R[t + 1]; R[0] is zero and not kept.
        sums = drive.new_empty((0 if start is None else steps, *shape))
        traces = _traces(rows, steps, drive)
        for t, k in enumerate(factors):
            v = torch.mul(drive if same else drive[t], k, out=potentials[t])
            v.add_(bias)
            if start is not None:
                assert gram is not None
                assert alpha is not None
                weight = float(alpha) * k
                v.add_(start, alpha=weight * hebbian.decay**t)
                if t:
                    v.addmm_(gram, sums[t - 1], alpha=weight)
                if x is not None:
                    v.addmm_(x, traces[t], alpha=weight)
            if t:
                _carry_potential(v, potentials[t - 1], spikes[t - 1], neuron)
            torch.gt(v, neuron.theta, out=spikes[t])
            if start is not None:
                assert eta is not None
                post = hebbian.activity(v, neuron.theta, eta)
                if x is not None and beta is not None:
                    _grow(traces, t, x, beta, post, k, hebbian)
                torch.mul(post, k, out=sums[t])
                if t:
                    sums[t].add_(sums[t - 1], alpha=hebbian.decay)
        ctx.constants = (factors, neuron, hebbian, same)
        ctx.save_for_backward(potentials, spikes, sums, traces, start, gram, alpha, eta, x, beta)
        last_sum = sums[-1] if start is not None else sums
        last_rows = traces[-1] if rows is not None else traces
        ctx.mark_non_differentiable(last_sum, last_rows)
        return spikes, potentials[-1].clone(), last_sum, last_rows

    @staticmethod
    @without_autocast
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients, step by step from the last to the first."""
        factors, neuron, hebbian, same = ctx.constants
        potentials, spikes, sums, traces, start, gram, alpha, eta, x, beta = ctx.saved_tensors
        d_spikes, d_last, _, _ = grads
        d_drive = torch.zeros_like(d_last if same else potentials)
        d_bias = torch.zeros_like(d_last)
        d_gram, d_eta, d_alpha, d_beta = (
            None if value is None else torch.zeros_like(value) for value in (gram, eta, alpha, beta)
        )
        weight = 0.0 if alpha is None else float(alpha)
        later: Tensor | None = None  # gradient of the potential one step later
        d_sum: Tensor | None = None  # gradient of R[t+1]
        d_trace: Tensor | None = None  # gradient of the rows of H[t+1]
        for t in reversed(range(len(factors))):
            k, v = factors[t], potentials[t]
            d_v = _potential_gradient(later, d_last, d_spikes[t], v, spikes[t], neuron)
            if d_sum is not None:
                assert d_eta is not None
                d_post = k * d_sum
                if d_trace is not None:
                    driven = _through_growth(d_trace, traces, t, x, beta, k, hebbian)
                    post = hebbian.activity(v, neuron.theta, eta)
                    assert d_beta is not None
                    d_beta += _drive_gradient(d_trace, x, post, k, hebbian)
                    d_post.addmm_(x, driven)
                    d_trace.mul_(hebbian.decay)
                d_v.add_(_post_gradient(d_post, v, eta, d_eta, neuron, hebbian))
                d_sum.mul_(hebbian.decay)
            (d_drive if same else d_drive[t]).add_(d_v, alpha=k)
            d_bias.add_(d_v)
            if d_alpha is not None:
                d_alpha += (k * hebbian.decay**t) * torch.dot(d_v.flatten(), start.flatten())
                if t:
                    assert d_gram is not None
                    back = gram.T @ d_v
                    d_alpha += k * torch.dot(back.flatten(), sums[t - 1].flatten())
                    d_gram.addmm_(d_v, sums[t - 1].T, alpha=weight * k)
                    back.mul_(weight * k)
                    d_sum = back if d_sum is None else d_sum.add_(back)
                if x is not None:
                    d_trace = _recall_gradient(d_trace, d_alpha, x, d_v, traces, t, weight, k)
            later = d_v
        found = (d_drive, d_bias.sum(0), None, d_gram, d_alpha, d_eta, None, None, d_beta)
        return (*found, None, None, None)


class ChangingInput(torch.autograd.Function):
    """Steps of a layer whose input k(t) x[t] changes, with the trace as a matrix.

    Args of `forward`:
        x: inputs [steps, batch, n_in].
        drive: x W^T [steps, batch, n_out].
        bias: [n_out].
        start: H[0] [n_in, n_out], without a gradient.
        alpha: [1].
        beta: [1, n_in].
        eta: [1, n_out].
        factors, neuron, hebbian: as for `ConstantInput`.

    Returns:
        Spikes [steps, batch, n_out], potentials after the last step [batch, n_out], and the trace
        before every step and after the last [steps + 1, n_in, n_out] (without a gradient).
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        drive: Tensor,
        bias: Tensor,
        start: Tensor,
        alpha: Tensor,
        beta: Tensor,
        eta: Tensor,
        factors: Sequence[float],
        neuron: Neuron,
        hebbian: Hebbian,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """All steps; arguments as above."""
        potentials, spikes = drive.new_empty(2, *drive.shape)
        traces = _traces(start, len(factors), drive)
        for t, k in enumerate(factors):
            v = torch.mul(drive[t], k, out=potentials[t])
            v.add_(bias)
            v.addmm_(x[t], traces[t], alpha=float(alpha) * k)
            if t:
                _carry_potential(v, potentials[t - 1], spikes[t - 1], neuron)
            torch.gt(v, neuron.theta, out=spikes[t])
            post = hebbian.activity(v, neuron.theta, eta)
            _grow(traces, t, x[t], beta, post, k, hebbian)
        ctx.constants = (factors, neuron, hebbian)
        ctx.save_for_backward(x, potentials, spikes, traces, alpha, beta, eta)
        ctx.mark_non_differentiable(traces)
        return spikes, potentials[-1].clone(), traces

    @staticmethod
    @without_autocast
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients, step by step from the last to the first."""
        factors, neuron, hebbian = ctx.constants
        x, potentials, spikes, traces, alpha, beta, eta = ctx.saved_tensors
        d_spikes, d_last, _ = grads
        weight = float(alpha)
        d_x, d_drive = torch.zeros_like(x), torch.empty_like(potentials)
        d_bias, d_eta = torch.zeros_like(d_last), torch.zeros_like(eta)
        d_alpha, d_beta = torch.zeros_like(alpha), torch.zeros_like(beta)
        later: Tensor | None = None
        d_trace: Tensor | None = None  # gradient of H[t+1]
        for t in reversed(range(len(factors))):
            k, v = factors[t], potentials[t]
            d_v = _potential_gradient(later, d_last, d_spikes[t], v, spikes[t], neuron)
            if d_trace is not None:
                driven = _through_growth(d_trace, traces, t, x[t], beta, k, hebbian)
                post = hebbian.activity(v, neuron.theta, eta)
                d_beta += _drive_gradient(d_trace, x[t], post, k, hebbian)
                d_x[t].addmm_(post, driven.T)
                d_v.add_(_post_gradient(x[t] @ driven, v, eta, d_eta, neuron, hebbian))
                d_trace.mul_(hebbian.decay)
            torch.mul(d_v, k, out=d_drive[t])
            d_bias.add_(d_v)
            d_x[t].addmm_(d_v, traces[t].T, alpha=weight * k)
            d_trace = _recall_gradient(d_trace, d_alpha, x[t], d_v, traces, t, weight, k)
            later = d_v
        return d_x, d_drive, d_bias.sum(0), None, d_alpha, d_beta, d_eta, None, None, None


def _traces(start: Tensor | None, steps: int, like: Tensor) -> Tensor:
    """Room for a trace before every step and after the last, the first filled in."""
    if start is None:
        return like.new_empty(0)
    traces = start.new_empty(steps + 1, *start.shape)
    traces[0] = start
    return traces


def _grow(
    traces: Float[Tensor, "steps_1 n_in n_out"],
    t: int,
    x: Float[Tensor, "batch n_in"],
    beta: Float[Tensor, "1 n_in"],
    post: Float[Tensor, "batch n_out"],
    k: float,
    hebbian: Hebbian,
) -> None:
    """Fill in the trace after step t, whose input was k x."""
    new = torch.mm(x.T, post, out=traces[t + 1])
    # beta is a factor of rows, so it can wait until the product is taken.
    new.mul_((k * hebbian.scale / len(x)) * beta.T).add_(traces[t], alpha=hebbian.decay)
    if hebbian.limit is not None:
        new.clamp_(-hebbian.limit, hebbian.limit)


def _through_growth(
    d_trace: Float[Tensor, "n_in n_out"],
    traces: Float[Tensor, "steps_1 n_in n_out"],
    t: int,
    x: Float[Tensor, "batch n_in"],
    beta: Float[Tensor, "1 n_in"],
    k: float,
    hebbian: Hebbian,
) -> Float[Tensor, "n_in n_out"]:
    """Gradient of x^T f of step t, from that of the trace after it.

    Where the clamp acted the trace's own gradient ends, in place.
    """
    if hebbian.limit is not None:
        d_trace.mul_(traces[t + 1].abs().lt_(hebbian.limit))
    return d_trace * ((k * hebbian.scale / len(x)) * beta.T)


def _drive_gradient(
    d_trace: Float[Tensor, "n_in n_out"],
    x: Float[Tensor, "batch n_in"],
    post: Float[Tensor, "batch n_out"],
    k: float,
    hebbian: Hebbian,
) -> Float[Tensor, " n_in"]:
    """Gradient of beta, from that of the trace after a step."""
    gradient: Tensor = (k * hebbian.scale / len(x)) * (x.T @ post).mul_(d_trace).sum(1)
    return gradient


def _recall_gradient(
    d_trace: Float[Tensor, "n_in n_out"] | None,
    d_alpha: Float[Tensor, " 1"],
    x: Float[Tensor, "batch n_in"],
    d_v: Float[Tensor, "batch n_out"],
    traces: Float[Tensor, "steps_1 n_in n_out"],
    t: int,
    weight: float,
    k: float,
) -> Float[Tensor, "n_in n_out"] | None:
    """Gradient of the trace before step t through the current it gave; adds to alpha's gradient."""
    back = x.T @ d_v
    d_alpha += k * torch.dot(back.flatten(), traces[t].flatten())
    if t == 0:  # what the presentation before left has no gradient
        return None
    gained = back.mul_(weight * k)
    return gained if d_trace is None else d_trace.add_(gained)


def _carry_potential(
    v: Float[Tensor, "batch n_out"],
    before: Float[Tensor, "batch n_out"],
    spikes: Float[Tensor, "batch n_out"],
    neuron: Neuron,
) -> None:
    """Add what is left of the potential of the step before to the current, in place."""
    v.add_(before, alpha=neuron.decay)
    if neuron.reset == "soft":
        v.add_(spikes, alpha=-neuron.decay * neuron.theta)
    elif neuron.reset == "hard":
        v.addcmul_(before, spikes, value=-neuron.decay)


def _potential_gradient(
    later: Float[Tensor, "batch n_out"] | None,
    last: Float[Tensor, "batch n_out"],
    of_spikes: Float[Tensor, "batch n_out"],
    v: Float[Tensor, "batch n_out"],
    spikes: Float[Tensor, "batch n_out"],
    neuron: Neuron,
) -> Float[Tensor, "batch n_out"]:
    """Gradient of a step's potential through its spikes and the step after it.

    Args:
        later: gradient of the potential one step later, None at the last step.
        last: gradient of the potential after the last step.
        of_spikes: gradient of this step's spikes.
        v: this step's potentials.
        spikes: this step's spikes.
        neuron: constants of the neurons.
    """
    inside = (v - neuron.theta).abs_().lt_(neuron.lens)
    if later is None:
        return torch.addcmul(last, of_spikes, inside)
    carried = later * neuron.decay
    if neuron.reset == "soft":
        of_spikes = torch.add(of_spikes, later, alpha=-neuron.decay * neuron.theta)
    elif neuron.reset == "hard":
        of_spikes = torch.addcmul(of_spikes, carried, v, value=-1)
        carried.mul_(1 - spikes)
    return carried.addcmul_(of_spikes, inside)


def _post_gradient(
    d_post: Float[Tensor, "batch n_out"],
    v: Float[Tensor, "batch n_out"],
    eta: Float[Tensor, "1 n_out"],
    d_eta: Float[Tensor, "1 n_out"],
    neuron: Neuron,
    hebbian: Hebbian,
) -> Float[Tensor, "batch n_out"]:
    """Gradient of the potential through the postsynaptic factor f; adds to eta's gradient.

    Args:
        d_post: gradient of f.
        v: potentials of the step.
        eta: sliding thresholds.
        d_eta: their gradient so far.
        neuron: constants of the neurons.
        hebbian: constants of the trace.
    """
    if hebbian.post == "tanh":
        post = hebbian.activity(v, neuron.theta, eta)
        d_post = torch.ops.aten.tanh_backward(d_post, post)
    d_eta -= d_post.sum(0)
    return d_post / neuron.theta
