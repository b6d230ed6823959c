"""A whole presentation of a plastic layer as one operation, with its gradient written out.

Autograd takes a step of `PlasticLayer` apart into some thirty small operations. Here the steps of
a presentation run in a row, buffers are reused, and the backward pass recomputes what is cheap:
only membrane potentials and the trace's part are kept. Both operations hold while no entry of the
trace passes its limit; `PlasticLayer.present` sees to that. Equations as in `plastic`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from hybrid_plasticity.plastic import Hebbian, Neuron


class WithoutMatrix(torch.autograd.Function):
    """Steps of a layer without a trace, or whose input is k(t) x with the same x at every step.

    With G = c / B (x beta) x^T the trace's current is alpha k(t) (w^t x H[0] + G R[t]), and
    R[t+1] = w R[t] + k(t) f[t].

    Args of `forward`:
        drive: x W^T [steps, batch, n_out], [batch, n_out] where x is the same at every step.
        bias: [n_out] or None.
        start: x H[0] [batch, n_out]; None where there is no trace, as the next three.
        gram: G [batch, batch].
        alpha: [1].
        eta: [1, n_out].
        factors: k of every step.
        neuron: constants of the neurons.
        hebbian: constants of the trace.

    Returns:
        Spikes [steps, batch, n_out], potentials after the last step [batch, n_out], and R after it
        (without a gradient; empty where there is no trace).
    """

    @staticmethod
    def forward(
        ctx: Any,
        drive: Tensor,
        bias: Tensor | None,
        start: Tensor | None,
        gram: Tensor | None,
        alpha: Tensor | None,
        eta: Tensor | None,
        factors: Sequence[float],
        neuron: "Neuron",
        hebbian: "Hebbian",
    ) -> tuple[Tensor, Tensor, Tensor]:
        steps, shape, same = len(factors), drive.shape[-2:], drive.ndim == 2
        potentials, spikes = drive.new_empty(2, steps, *shape)
        # sums[t] is R[t + 1]; R[0] is zero and not kept.
        sums = drive.new_empty((0 if start is None else steps, *shape))
        for t, k in enumerate(factors):
            v = torch.mul(drive if same else drive[t], k, out=potentials[t])
            if bias is not None:
                v.add_(bias)
            if start is not None:
                assert gram is not None
                assert alpha is not None
                weight = float(alpha) * k
                v.add_(start, alpha=weight * hebbian.decay**t)
                if t:
                    v.addmm_(gram, sums[t - 1], alpha=weight)
            if t:
                _carry_potential(v, potentials[t - 1], spikes[t - 1], neuron)
            torch.gt(v, neuron.theta, out=spikes[t])
            if start is not None:
                assert eta is not None
                post = hebbian.activity(v, neuron.theta, eta)
                torch.mul(post, k, out=sums[t])
                if t:
                    sums[t].add_(sums[t - 1], alpha=hebbian.decay)
        ctx.constants = (factors, neuron, hebbian, bias is not None, same)
        ctx.save_for_backward(potentials, spikes, sums, start, gram, alpha, eta)
        last_sum = sums[-1] if start is not None else sums
        ctx.mark_non_differentiable(last_sum)
        return spikes, potentials[-1].clone(), last_sum

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        factors, neuron, hebbian, has_bias, same = ctx.constants
        potentials, spikes, sums, start, gram, alpha, eta = ctx.saved_tensors
        d_spikes, d_last, _ = grads
        d_drive = torch.zeros_like(d_last if same else potentials)
        d_bias = torch.zeros_like(d_last)
        d_gram = None if gram is None else torch.zeros_like(gram)
        d_eta = None if eta is None else torch.zeros_like(eta)
        d_alpha = None if alpha is None else torch.zeros_like(alpha)
        weight = 0.0 if alpha is None else float(alpha)
        later: Tensor | None = None  # gradient of the potential one step later
        d_sum: Tensor | None = None  # gradient of R[t+1]
        for t in reversed(range(len(factors))):
            k, v = factors[t], potentials[t]
            d_v = _potential_gradient(later, d_last, d_spikes[t], v, spikes[t], neuron)
            if d_sum is not None:
                assert d_eta is not None
                d_v.add_(_post_gradient(d_sum, v, eta, d_eta, neuron, hebbian, scale=k))
                d_sum.mul_(hebbian.decay)
            (d_drive if same else d_drive[t]).add_(d_v, alpha=k)
            if has_bias:
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
            later = d_v
        d_bias_ = d_bias.sum(0) if has_bias else None
        return d_drive, d_bias_, None, d_gram, d_alpha, d_eta, None, None, None


class ChangingInput(torch.autograd.Function):
    """Steps of a layer whose input k(t) x[t] changes, with the trace as a matrix.

    Args of `forward`:
        x: inputs [steps, batch, n_in].
        drive: x W^T [steps, batch, n_out].
        bias: [n_out] or None.
        start: H[0] [n_in, n_out], without a gradient.
        alpha: [1].
        beta: [1, n_in].
        eta: [1, n_out].
        factors, neuron, hebbian: as for `WithoutMatrix`.

    Returns:
        Spikes [steps, batch, n_out], potentials after the last step [batch, n_out], and the trace
        before every step and after the last [steps + 1, n_in, n_out] (without a gradient).
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        drive: Tensor,
        bias: Tensor | None,
        start: Tensor,
        alpha: Tensor,
        beta: Tensor,
        eta: Tensor,
        factors: Sequence[float],
        neuron: "Neuron",
        hebbian: "Hebbian",
    ) -> tuple[Tensor, Tensor, Tensor]:
        steps, batch, _ = drive.shape
        potentials, spikes = drive.new_empty(2, *drive.shape)
        traces = start.new_empty(steps + 1, *start.shape)
        traces[0] = start
        for t, k in enumerate(factors):
            v = torch.mul(drive[t], k, out=potentials[t])
            if bias is not None:
                v.add_(bias)
            v.addmm_(x[t], traces[t], alpha=float(alpha) * k)
            if t:
                _carry_potential(v, potentials[t - 1], spikes[t - 1], neuron)
            torch.gt(v, neuron.theta, out=spikes[t])
            post = hebbian.activity(v, neuron.theta, eta)
            growth = k * hebbian.scale / batch
            # beta is a factor of rows, so it can wait until the product is taken.
            torch.mm(x[t].T, post, out=traces[t + 1])
            traces[t + 1].mul_(growth * beta.T).add_(traces[t], alpha=hebbian.decay)
        ctx.constants = (factors, neuron, hebbian, bias is not None)
        ctx.save_for_backward(x, potentials, spikes, traces, alpha, beta, eta)
        ctx.mark_non_differentiable(traces)
        return spikes, potentials[-1].clone(), traces

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        factors, neuron, hebbian, has_bias = ctx.constants
        x, potentials, spikes, traces, alpha, beta, eta = ctx.saved_tensors
        d_spikes, d_last, _ = grads
        batch, weight = x.shape[1], float(alpha)
        d_x, d_drive = torch.zeros_like(x), torch.empty_like(potentials)
        d_bias, d_eta = torch.zeros_like(d_last), torch.zeros_like(eta)
        d_alpha, d_beta = torch.zeros_like(alpha), torch.zeros_like(beta)
        later: Tensor | None = None
        d_trace: Tensor | None = None  # gradient of H[t+1]
        for t in reversed(range(len(factors))):
            k, v = factors[t], potentials[t]
            growth = k * hebbian.scale / batch
            d_v = _potential_gradient(later, d_last, d_spikes[t], v, spikes[t], neuron)
            if d_trace is not None:
                driven = (growth * beta.T) * d_trace  # of x^T f
                d_post = x[t] @ driven
                d_v.add_(_post_gradient(d_post, v, eta, d_eta, neuron, hebbian, scale=1.0))
                post = hebbian.activity(v, neuron.theta, eta)
                d_x[t].addmm_(post, driven.T)
                d_beta += growth * ((x[t].T @ post) * d_trace).sum(1)
                d_trace.mul_(hebbian.decay)
            torch.mul(d_v, k, out=d_drive[t])
            d_bias.add_(d_v)
            d_x[t].addmm_(d_v, traces[t].T, alpha=weight * k)
            back = x[t].T @ d_v
            if t:
                gained = back * (weight * k)
                d_trace = gained if d_trace is None else d_trace.add_(gained)
            d_alpha += k * torch.dot(back.flatten(), traces[t].flatten())
            later = d_v
        d_bias_ = d_bias.sum(0) if has_bias else None
        return d_x, d_drive, d_bias_, None, d_alpha, d_beta, d_eta, None, None, None


def _carry_potential(
    v: Float[Tensor, "batch n_out"],
    before: Float[Tensor, "batch n_out"],
    spikes: Float[Tensor, "batch n_out"],
    neuron: "Neuron",
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
    neuron: "Neuron",
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
    neuron: "Neuron",
    hebbian: "Hebbian",
    scale: float,
) -> Float[Tensor, "batch n_out"]:
    """Gradient of the potential through the postsynaptic factor f; adds to eta's gradient.

    Args:
        d_post: gradient of scale * f.
        v: potentials of the step.
        eta: sliding thresholds.
        d_eta: their gradient so far.
        neuron: constants of the neurons.
        hebbian: constants of the trace.
        scale: see `d_post`.
    """
    if hebbian.post == "tanh":
        post = hebbian.activity(v, neuron.theta, eta)
        above = torch.ops.aten.tanh_backward(d_post, post).mul_(scale)
    else:
        above = scale * d_post
    d_eta -= above.sum(0)
    through: Tensor = above.div_(neuron.theta)
    return through
