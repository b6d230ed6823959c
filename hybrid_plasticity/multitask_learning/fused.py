"""Whole presentations of a layer on a CPU: a pass over the arrays where autograd makes many.

Activity lies as [neurons, steps, batch].
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from hybrid_plasticity.multitask_learning.masks import Mask, arrays, kernels
from hybrid_plasticity.neuron import Neuron
from hybrid_plasticity.trace import Hebbian


def is_the_papers(part: Neuron | Hebbian) -> bool:
    """Whether the kernels compute what a neuron or a trace does.

    They know a soft reset, and a free trace under tanh; a subclass may do anything.
    """
    if isinstance(part, Neuron):
        return type(part) is Neuron and part.reset == "soft"
    return type(part) is Hebbian and part == Hebbian(part.decay, part.scale)


class Constants(NamedTuple):
    """What a layer does not learn: its neurons, its trace, the factors k(t) of the steps."""

    neuron: Neuron
    hebbian: Hebbian
    ks: tuple[float, ...]


def fire(
    drive: Float[Tensor, "n steps_or_1 batch"], constants: Constants
) -> tuple[Float[Tensor, "n steps batch"], Float[Tensor, "n batch"]]:
    """Spikes and last potentials of neurons without a trace.

    Args:
        drive: products of inputs and weights; one step where they stay the same.
        constants: of the layer.
    """
    spikes, last = _Fire.apply(drive, constants)
    return spikes, last


class _Fire(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, drive: Tensor, constants: Constants) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        neuron = constants.neuron
        (drives,) = arrays(drive)
        ctx.ks = np.array(constants.ks, drives.dtype)
        numbers = _typed(drive, neuron.theta, neuron.decay)
        potential, spikes = map(torch.from_numpy, kernels.fire(drives, ctx.ks, *numbers))
        ctx.neuron, ctx.n_drive = neuron, drive.shape[1]
        ctx.save_for_backward(potential)
        return spikes, potential[:, -1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor, None]:
        (potential,) = ctx.saved_tensors
        neuron: Neuron = ctx.neuron
        given = arrays(*_filled(grads, potential), potential)
        numbers = _typed(potential, neuron.theta, neuron.decay, neuron.lens)
        to_drive = kernels.fire_gradient(*given, ctx.ks, *numbers, ctx.n_drive)
        return torch.from_numpy(to_drive), None


def _filled(grads: tuple[Tensor | None, ...], potential: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of spikes and last potentials; zeros for what nothing reads."""
    to_spikes, to_last = grads
    return (
        torch.zeros_like(potential) if to_spikes is None else to_spikes,
        torch.zeros_like(potential[:, -1]) if to_last is None else to_last,
    )


def _typed(like: Tensor, *numbers: float) -> list[Any]:
    """Numbers in the arrays' type, so that kernels do not compute in float64."""
    kind = like.detach().numpy().dtype.type
    return [kind(number) for number in numbers]


def plastic_layer(
    x: Float[Tensor, "n_in steps_or_1 batch"],
    values: Float[Tensor, " entries"],
    alpha: Float[Tensor, " 1"],
    beta: Float[Tensor, "1 n_in"],
    eta: Float[Tensor, "1 n_out"],
    mask: Mask,
    constants: Constants,
) -> tuple[Float[Tensor, "n_out steps batch"], Float[Tensor, "n_out batch"]]:
    """Spikes and last potentials of a layer whose trace starts at 0.

    Args:
        x: inputs; one step where they stay the same, and then without a gradient.
        values: weights at the mask's entries.
        alpha: strength of the trace.
        beta: drive of each presynaptic neuron.
        eta: sliding threshold of each postsynaptic neuron.
        mask: of the weights; the trace counts outside of it.
        constants: of the layer.

    Raises:
        ValueError: a gradient is asked for of an input that stays the same.
    """
    if x.requires_grad and x.shape[1] != len(constants.ks):
        raise ValueError("an input of one step has no gradient: give it for every step")
    spikes, last = _PlasticLayer.apply(x, values, alpha, beta, eta, mask, constants)
    return spikes, last


class _PlasticLayer(torch.autograd.Function):
    """The layer with its trace.

    H[t] = sum over s < t of w_decay^(t-1-s) beta x[s] f[s]^T, with f[s] = c k(s) / B tanh(..). Its
    product with x[t] is f gram[t]: gram[t] [steps before, batch, batch] holds the products of x[t]
    with beta x[s]. From it goes what H holds at the mask's entries: `correlation` are the products
    of x[s] and f[s] there, `inside` is H there, `kept` the weights less alpha times it.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        values: Tensor,
        alpha: Tensor,
        beta: Tensor,
        eta: Tensor,
        mask: Mask,
        constants: Constants,
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        neuron, hebbian, ks = constants
        (_, _, width), steps, n_out = x.shape, len(ks), mask.shape[0]
        potential, spikes = x.new_empty(2, n_out, steps, width)
        post = x.new_empty(n_out, steps - 1, width)
        correlation, inside = x.new_empty(2, steps - 1, len(values))
        kept = x.new_empty(steps, len(values))
        scaled = (x[:, : max(steps - 1, 1)] * beta.T[:, :, None]).flatten(1)
        numbers = (
            *_typed(x, float(alpha)),
            *arrays(beta[0, mask.source]),
            *_typed(x, hebbian.decay, neuron.theta, neuron.decay),
        )
        given = arrays(x, values)
        made = arrays(post, potential, spikes, correlation, inside, kept)
        grams: list[Tensor] = []
        recalled = x.new_empty(n_out, width)
        for t, k in enumerate(ks):
            if t:
                grams.append(_gram(scaled, x, t, hebbian.decay, grams))
                recalled = post.flatten(1)[:, : t * width] @ (alpha * grams[-1])
            kernels.plastic_step(
                t, *_typed(x, k), *given, *arrays(recalled), *made, *mask.by_output, *numbers
            )
            if t < steps - 1:
                above = torch.sub(potential[:, t], eta.T, alpha=neuron.theta).div_(neuron.theta)
                torch.mul(above.tanh_(), _growth(constants, t, width), out=post[:, t])
        ctx.mask, ctx.constants, ctx.grams, ctx.numbers = mask, constants, grams, numbers
        ctx.save_for_backward(x, alpha, beta, potential, post, correlation, inside, kept, scaled)
        return spikes, potential[:, -1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        x, alpha, beta, potential, post, correlation, inside, kept, scaled = ctx.saved_tensors
        mask, constants = ctx.mask, ctx.constants
        neuron, hebbian, ks = constants
        n_out, steps, width = potential.shape
        needs_x, _, needs_alpha, needs_beta, _ = ctx.needs_input_grad[:5]
        to_spikes, to_last = _filled(grads, potential)
        carried = to_last.clone(memory_format=torch.contiguous_format)
        to_product, to_post = torch.empty_like(potential), torch.zeros_like(post)
        to_kept, to_inside, to_values, to_entry_beta = x.new_zeros(4, kept.shape[1])
        to_dots = torch.empty_like(inside)
        to_neuron_alpha, to_eta = x.new_zeros(2, n_out)
        given = arrays(x, potential, post, correlation, inside, to_spikes, to_post, carried)
        made = arrays(to_product, to_kept, to_inside, to_dots, to_values)
        sums = arrays(to_neuron_alpha, to_entry_beta, to_eta)
        numbers = (*ctx.numbers, *_typed(x, neuron.lens))
        to_grams: list[Tensor] = []
        for t in reversed(range(steps)):
            factors = _typed(x, ks[t], _growth(constants, t, width))
            kernels.plastic_step_gradient(
                t, *factors, *given, *made, *sums, *mask.by_output, *numbers
            )
            if t:
                past = slice(0, t * width)
                to_post.flatten(1)[:, past].addmm_(to_product[:, t], (alpha * ctx.grams[t - 1]).T)
                if needs_x or needs_alpha or needs_beta:
                    to_grams.insert(0, post.flatten(1)[:, past].T @ to_product[:, t])
        to_x = to_alpha = to_beta = None
        if needs_alpha:
            through = [(a * b).sum() for a, b in zip(to_grams, ctx.grams, strict=True)]
            to_alpha = torch.stack([to_neuron_alpha.sum(), *through]).sum(0, keepdim=True)
        if needs_x or needs_beta:
            to_x, to_scale = _through_grams(x, scaled, beta, alpha, to_grams, hebbian.decay)
            to_beta = to_scale.index_add_(0, mask.source, to_entry_beta)[None]
            if needs_x:
                used = arrays(to_x, to_product, post, kept, to_dots)
                kernels.plastic_input_gradient(*used, *mask.by_input, *arrays(mask.order))
        return to_x, to_values, to_alpha, to_beta, to_eta[None], None, None


def _growth(constants: Constants, t: int, width: int) -> float:
    """The factor of tanh in what step t adds to the trace."""
    return constants.hebbian.scale * constants.ks[t] / width


def _gram(scaled: Tensor, x: Tensor, t: int, decay: float, before: list[Tensor]) -> Tensor:
    """Products of the inputs of steps 0 to t - 1 and of step t, decayed [t batch, batch]."""
    width = x.shape[2]
    if x.shape[1] > 1:
        gram = scaled[:, : t * width].T @ x[:, t]
        for s in range(t - 1):
            gram[s * width : (s + 1) * width] *= decay ** (t - 1 - s)
        return gram
    if not before:
        return scaled.T @ x[:, 0]
    return torch.cat([decay * before[-1], before[0]])


def _through_grams(
    x: Tensor, scaled: Tensor, beta: Tensor, alpha: Tensor, to_grams: list[Tensor], decay: float
) -> tuple[Tensor, Tensor]:
    """Gradients of x, as large as x, and of beta [n_in], from those of alpha times the grams."""
    width = x.shape[2]
    to_x = torch.zeros_like(x, memory_format=torch.contiguous_format)
    to_scaled = torch.zeros_like(scaled)
    for t, to_gram in enumerate(to_grams, 1):
        decays = x.new_tensor([decay ** (t - 1 - s) for s in range(t)])
        own = to_gram.view(t, width, width) * (alpha * decays)[:, None, None]
        if x.shape[1] == 1:
            to_scaled.addmm_(x[:, 0], own.sum(0).T)
        else:
            past = slice(0, t * width)
            to_scaled[:, past].addmm_(x[:, t], own.flatten(0, 1).T)
            to_x[:, t].addmm_(scaled[:, past], own.flatten(0, 1))
    by_step = to_scaled.view(len(x), -1, width)
    before = slice(0, by_step.shape[1])
    to_x[:, before].addcmul_(by_step, beta.T[:, :, None])
    return to_x, (by_step * x[:, before]).sum((1, 2))
