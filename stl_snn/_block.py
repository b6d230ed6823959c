"""Batch normalization, neurons and pooling of a layer in one pass forward: numba, all cores.

Images lie channels last: [batch, time, height, width x channels]. A few windows of a pair of rows
stay in the first cache while time runs. Neither normalized currents nor spikes before the pooling
nor their gradients are ever written; the backward pass finds them again from the convolution's
outputs. Sums are cut by sizes alone, so that they do not depend on the number of threads.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numba import njit, prange
from torch import Tensor
from torch.autograd.function import once_differentiable

from shared.device import share_threads
from stl_snn.lif import check_currents

LANES = 256  # of a row that are worked on at a time, about
PARTS = 8  # of the batch, whose sums over samples are taken apart


@njit(parallel=True, cache=True, error_model="numpy")
def _moments(x, near, sums):  # type: ignore[no-untyped-def]
    """Sums of x - near and of its square, by sample, time and lane, in float64."""
    n_batch, n_steps, height, length = x.shape
    lanes = near.shape[1]
    for task in prange(n_batch * n_steps):
        b, t = task // n_steps, task % n_steps
        first, second = np.zeros(lanes, x.dtype), np.zeros(lanes, x.dtype)
        for i in range(height):
            for start in range(0, length, lanes):
                m = min(lanes, length - start)
                drive, center = x[b, t, i, start : start + m], near[t, :m]
                for k in range(m):
                    d = drive[k] - center[k]
                    first[k] += d
                    second[k] += d * d
        for k in range(lanes):
            sums[b, 0, t, k] = first[k]
            sums[b, 1, t, k] = second[k]


@njit(parallel=True, cache=True, error_model="numpy")
def _forward(x, scale, shift, theta, tau, channels, n_rows, out, winner):  # type: ignore[no-untyped-def]
    """Spikes; of windows of 2 x 2 where n_rows is 2, of neurons where it is 1."""
    n_batch, n_steps, height, length = x.shape
    one, zero = x.dtype.type(1), x.dtype.type(0)
    lanes = scale.shape[1]
    n_tasks = height // n_rows
    for task in prange(n_batch * n_tasks):
        b, i = task // n_tasks, task % n_tasks
        left = np.empty((n_rows, lanes), x.dtype)
        fired = np.empty((n_rows, lanes), np.uint8)
        for start in range(0, length, lanes):
            m = min(lanes, length - start)
            left[:] = zero
            for t in range(n_steps):
                factor, offset = scale[t, :m], shift[t, :m]
                for r in range(n_rows):
                    drive = x[b, t, n_rows * i + r, start : start + m]
                    threshold = theta[n_rows * i + r, start : start + m]
                    state, fires = left[r, :m], fired[r, :m]
                    for k in range(m):
                        v = tau * state[k] + (factor[k] * drive[k] + offset[k])
                        fire = v - threshold[k] >= zero
                        state[k] = zero if fire else v
                        fires[k] = fire
                if n_rows == 1:
                    to, fires = out[b, t, i, start : start + m], fired[0, :m]
                    for k in range(m):
                        to[k] = one if fires[k] != 0 else zero
                    continue
                for at in range(0, m // 2, channels):
                    stop = at + channels
                    here, right = fired[0, 2 * at : at + stop], fired[0, at + stop : 2 * stop]
                    below, across = fired[1, 2 * at : at + stop], fired[1, at + stop : 2 * stop]
                    to = out[b, t, i, start // 2 + at : start // 2 + stop]
                    first = winner[b, t, i, start // 2 + at : start // 2 + stop]
                    for k in range(channels):
                        f0, f1, f2, f3 = here[k], right[k], below[k], across[k]
                        to[k] = one if (f0 | f1 | f2 | f3) != 0 else zero
                    for k in range(channels):
                        f0, f1, f2, f3 = here[k], right[k], below[k], across[k]
                        last = np.uint8(2) if f2 != 0 else np.uint8(3 * f3)
                        later = np.uint8(1) if f1 != 0 else last
                        first[k] = np.uint8(0) if f0 != 0 else later


@njit(parallel=True, cache=True, error_model="numpy")
def _backward(  # type: ignore[no-untyped-def]
    x, affine, center, theta, signal, winner, constants, channels, n_rows, to_z, to_theta, sums
):
    """Gradients of normalized currents and thresholds, and sums for that of the normalization."""
    scale, shift = affine
    n_batch, n_steps, height, length = x.shape
    one, zero = x.dtype.type(1), x.dtype.type(0)
    tau, peak, slope = constants[0], constants[1], constants[2]
    lanes = scale.shape[1]
    n_tasks = height // n_rows
    per_part = (n_batch + to_theta.shape[0] - 1) // to_theta.shape[0]
    for task in prange(to_theta.shape[0] * n_tasks):
        part, i = task // n_tasks, task % n_tasks
        left, teach = np.empty((n_rows, lanes), x.dtype), np.empty((n_rows, lanes), x.dtype)
        potentials = np.empty((n_steps, n_rows, lanes), x.dtype)
        sums_z, sums_zx = (np.zeros((n_steps, lanes), x.dtype), np.zeros((n_steps, lanes), x.dtype))
        for b in range(part * per_part, min(n_batch, (part + 1) * per_part)):
            for start in range(0, length, lanes):
                m = min(lanes, length - start)
                left[:] = zero
                for t in range(n_steps):
                    factor, offset = scale[t, :m], shift[t, :m]
                    for r in range(n_rows):
                        drive = x[b, t, n_rows * i + r, start : start + m]
                        threshold = theta[n_rows * i + r, start : start + m]
                        state, potential = left[r, :m], potentials[t, r, :m]
                        for k in range(m):
                            v = tau * state[k] + (factor[k] * drive[k] + offset[k])
                            potential[k] = v
                            state[k] = zero if v - threshold[k] >= zero else v
                left[:] = zero
                for t in range(n_steps - 1, -1, -1):
                    if n_rows == 1:
                        teach[0, :m] = signal[b, t, i, start : start + m]
                    else:
                        for at in range(0, m // 2, channels):
                            stop = start // 2 + at + channels
                            given = signal[b, t, i, start // 2 + at : stop]
                            first = winner[b, t, i, start // 2 + at : stop]
                            for q in range(4):
                                own = 2 * at + q % 2 * channels
                                to, place = teach[q // 2, own : own + channels], np.uint8(q)
                                for k in range(channels):
                                    g, w = given[k], first[k]
                                    to[k] = g if w == place else zero
                    middle, sum_z, sum_zx = center[t, :m], sums_z[t, :m], sums_zx[t, :m]
                    for r in range(n_rows):
                        threshold = theta[n_rows * i + r, start : start + m]
                        state, potential, given = left[r, :m], potentials[t, r, :m], teach[r, :m]
                        for k in range(m):
                            v, after = potential[k], tau * state[k]
                            above = v - threshold[k]
                            steep = slope * above
                            through_spike = peak / (one + steep * steep) * (given[k] - v * after)
                            given[k] = through_spike
                            state[k] = through_spike + (zero if above >= zero else after)
                        total = to_theta[part, n_rows * i + r, start : start + m]
                        for k in range(m):
                            total[k] -= given[k]
                        to = to_z[b, t, n_rows * i + r, start : start + m]
                        for k in range(m):
                            to[k] = state[k]
                            sum_z[k] += state[k]
                        drive = x[b, t, n_rows * i + r, start : start + m]
                        for k in range(m):
                            sum_zx[k] += state[k] * (drive[k] - middle[k])
        for t in range(n_steps):
            for k in range(lanes):
                sums[task, 0, t, k] = sums_z[t, k]
                sums[task, 1, t, k] = sums_zx[t, k]


@njit(parallel=True, cache=True, error_model="numpy")
def _through_norm(x, center, factors, to_z):  # type: ignore[no-untyped-def]
    """Gradients of the normalized currents to gradients of those before, in place."""
    n_batch, n_steps, height, length = x.shape
    lanes = center.shape[1]
    for task in prange(n_batch * n_steps):
        b, t = task // n_steps, task % n_steps
        for i in range(height):
            for start in range(0, length, lanes):
                m = min(lanes, length - start)
                drive, to = x[b, t, i, start : start + m], to_z[b, t, i, start : start + m]
                middle = center[t, :m]
                own, by_x, fixed = factors[0, t, :m], factors[1, t, :m], factors[2, t, :m]
                for k in range(m):
                    to[k] = own[k] * to[k] + (by_x[k] * (drive[k] - middle[k]) + fixed[k])


class Statistics(NamedTuple):
    """Mean and biased variance of each step's channels, float64 [time, channels]."""

    mean: Float[Tensor, "t c"]
    variance: Float[Tensor, "t c"]


class Constants(NamedTuple):
    """What does not learn.

    Attributes:
        tau: share of the potential that is left after a step.
        alpha: sharpness of the surrogate derivative.
        eps: added to the variance.
        pooled: spikes are pooled by 2 x 2.
        of_batch: the statistics are the batch's own, so that the gradient runs through them.
    """

    tau: float
    alpha: float
    eps: float
    pooled: bool
    of_batch: bool


def statistics(x: Float[Tensor, "b t c h w"]) -> Statistics:
    """Statistics of each step's channels over batch and image, one pass over x."""
    images = _rows(x.detach())
    n_channels = x.shape[2]
    near = x[0, :, :, 0, 0].detach()  # a value of each channel: no digits are lost to a large mean
    sums = torch.empty(len(x), 2, x.shape[1], _lanes(x), dtype=torch.float64)
    share_threads()
    _moments(images.numpy(), _spread(near, _lanes(x)).numpy(), sums.numpy())
    first, second = _by_channel(sums.sum(0), n_channels) / (x[:, 0, 0].numel())
    return Statistics(near.double() + first, (second - first.square()).clamp_(min=0))


def block(
    x: Float[Tensor, "b t c h w"],
    weight: Float[Tensor, " c"],
    bias: Float[Tensor, " c"],
    theta: Float[Tensor, "c h w"],
    found: Statistics,
    constants: Constants,
) -> Float[Tensor, "b t c h2 w2"]:
    """Spikes of normalized currents, pooled or not; all float32 or all float64, on a CPU.

    Args:
        x: currents before the normalization; fastest where channels lie last.
        weight: scale of the normalization.
        bias: shift of the normalization.
        theta: threshold of each neuron.
        found: statistics to normalize by.
        constants: what does not learn. Height and width are even where spikes are pooled.

    Raises:
        FloatingPointError: by the backward pass, as in `lif.lif`.
    """
    spikes: Tensor = _Block.apply(x, weight, bias, theta, found, constants)
    return spikes


class _Block(torch.autograd.Function):
    """`block`."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        theta: Tensor,
        found: Statistics,
        constants: Constants,
    ) -> Tensor:
        n_batch, n_steps, n_channels, height, width = x.shape
        n_rows = 2 if constants.pooled else 1
        scale, shift = _affine(weight, bias, found, constants.eps)
        out = x.new_empty(n_batch, n_steps, height // n_rows, width // n_rows * n_channels)
        winner = torch.empty_like(out, dtype=torch.uint8) if constants.pooled else _nothing()
        share_threads()
        _forward(
            _rows(x).numpy(),
            *(_spread(of.to(x.dtype), _lanes(x)).numpy() for of in (scale, shift)),
            _rows(theta).numpy(),
            x.numpy().dtype.type(constants.tau),
            n_channels,
            n_rows,
            out.numpy(),
            winner.numpy(),
        )  # type: ignore[call-arg]
        ctx.save_for_backward(x, weight, bias, theta, winner)
        ctx.found, ctx.constants = found, constants
        return _images(out, n_channels)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, signal: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, theta, winner = (tensor.detach() for tensor in ctx.saved_tensors)
        found, constants = ctx.found, ctx.constants
        n_batch, n_steps, n_channels, height, _ = x.shape
        n_rows, lanes = 2 if constants.pooled else 1, _lanes(x)
        scale, shift = _affine(weight, bias, found, constants.eps)
        images = _rows(x)
        center = _spread(found.mean.to(x.dtype), lanes).numpy()
        n_parts = min(PARTS, n_batch)
        to_z = torch.empty_like(images)
        to_theta = x.new_zeros(n_parts, *images.shape[2:])
        sums = torch.empty(n_parts * height // n_rows, 2, n_steps, lanes, dtype=torch.float64)
        kind: Any = images.numpy().dtype.type
        numbers = (constants.tau, constants.alpha / 2, math.pi * constants.alpha / 2)
        share_threads()
        _backward(
            images.numpy(),
            tuple(_spread(of.to(x.dtype), lanes).numpy() for of in (scale, shift)),
            center,
            _rows(theta).numpy(),
            _rows(signal).numpy(),
            winner.numpy(),
            tuple(kind(number) for number in numbers),
            n_channels,
            n_rows,
            to_z.numpy(),
            to_theta.numpy(),
            sums.numpy(),
        )
        of_theta = _images(to_theta.sum(0), n_channels)
        if not of_theta.isfinite().all():
            check_currents((scale[:, :, None, None] * x + shift[:, :, None, None]).flatten(2))
        sum_z, sum_zx = _by_channel(sums.sum(0), n_channels)
        inverse = (found.variance + constants.eps).rsqrt()
        to_x = None
        if ctx.needs_input_grad[0]:
            count = x[:, 0, 0].numel() if constants.of_batch else math.inf
            by_x = -scale * inverse.square() * sum_zx / count
            factors = torch.stack([scale, by_x, -scale * sum_z / count]).to(x.dtype)
            _through_norm(images.numpy(), center, _spread(factors, lanes).numpy(), to_z.numpy())
            to_x = _images(to_z, n_channels)
        to_weight = (inverse * sum_zx).sum(0).to(x.dtype)
        return to_x, to_weight, sum_z.sum(0).to(x.dtype), of_theta, None, None


def _affine(
    weight: Tensor, bias: Tensor, found: Statistics, eps: float
) -> tuple[Float[Tensor, "t c"], Float[Tensor, "t c"]]:
    """Factor and offset by which currents are normalized, in float64."""
    scale = weight.double() * (found.variance + eps).rsqrt()
    return scale, bias.double() - found.mean * scale


def _lanes(x: Float[Tensor, "b t c h w"]) -> int:
    """Length of the pieces of a row: whole pairs of pixels."""
    pair = 2 * x.shape[2]
    return pair * max(1, LANES // pair)


def _spread(values: Float[Tensor, "*n c"], lanes: int) -> Float[Tensor, "*n lanes"]:
    """A channel's value in each of its lanes."""
    return values.repeat(*(1,) * (values.dim() - 1), lanes // values.shape[-1]).contiguous()


def _by_channel(sums: Float[Tensor, "*n lanes"], n_channels: int) -> Float[Tensor, "*n c"]:
    """Sums over a channel's lanes."""
    return sums.view(*sums.shape[:-1], -1, n_channels).sum(-2)


def _rows(x: Float[Tensor, "*n c h w"]) -> Float[Tensor, "*n h wc"]:
    """Images as rows of pixels with their channels; a copy only where channels do not lie last."""
    return x.detach().movedim(-3, -1).contiguous().flatten(-2)


def _images(rows: Float[Tensor, "*n h wc"], n_channels: int) -> Float[Tensor, "*n c h w"]:
    """What `_rows` took, as a view."""
    return rows.view(*rows.shape[:-1], -1, n_channels).movedim(-1, -3)


def _nothing() -> Tensor:
    """Stands for the places of the largest where nothing is pooled."""
    return torch.empty(0, 0, 0, 0, dtype=torch.uint8)
