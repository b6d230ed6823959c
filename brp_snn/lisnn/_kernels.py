"""The membrane over all steps of a layer with lateral interactions, forward and backward.

    V[t] = decay * (1 - s[t-1]) * V[t-1] + current[t] + lateral(s[t-1]);    s[t] = V[t] > threshold

The lateral convolution is depth-wise: no map sees another, so that a map of a sample goes through
all steps on its own, in a core's cache. Arrays are [time, rows, height, width] with rows = batch
times channels. Each function has a form of torch operations for what numba cannot take.
"""

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor
from torch.nn import functional

from brp_snn._kernels import by_numba, scalars, views
from brp_snn.models import Neuron

# A map is laid out flat with a border as wide as half the kernel: a tap of the kernel is then one
# shift for the whole map, and its product one long loop. Columns of `out` that lie on the border
# come out as nonsense and are never read.


@njit(cache=True)
def _correlate(padded, taps, out, stride):  # type: ignore[no-untyped-def]
    """out[p] = sum over taps i, j of taps[i, j] * padded[p + i * stride + j]."""
    size = out.shape[0]
    out[:] = 0
    for i in range(taps.shape[0]):
        for j in range(taps.shape[1]):
            tap = taps[i, j]
            shifted = padded[i * stride + j : i * stride + j + size]
            for p in range(size):
                out[p] += tap * shifted[p]


# Only sums may be reordered, which lets several of them run side by side.
@njit(cache=True, fastmath={"reassoc", "contract", "nsz"})
def _dot(a, b):  # type: ignore[no-untyped-def]
    total = a.dtype.type(0)
    for p in range(a.shape[0]):
        total += a[p] * b[p]
    return total


@njit(cache=True)
def _spikes_into(potential, padded, stride, reach, threshold):  # type: ignore[no-untyped-def]
    for h in range(potential.shape[0]):
        start = (h + reach) * stride + reach
        for w in range(potential.shape[1]):
            padded[start + w] = 1 if potential[h, w] > threshold else 0


@njit(parallel=True, cache=True)
def _integrate(current, lateral, pooled, threshold, decay, ph, pw):  # type: ignore[no-untyped-def]
    n_steps, n_rows, height, width = current.shape
    channels, kernel, _ = lateral.shape
    reach = kernel // 2
    stride = width + 2 * reach
    scale = current.dtype.type(1.0 / (ph * pw))
    zero = current.dtype.type(0)
    for m in prange(n_rows):
        padded = _zeros(current, (height + 2 * reach) * stride + kernel)
        sideways = _zeros(current, height * stride)
        for t in range(n_steps):
            if t > 0:
                _spikes_into(current[t - 1, m], padded, stride, reach, threshold)
                _correlate(padded, lateral[m % channels], sideways, stride)
                for h in range(height):
                    row, last = current[t, m, h], current[t - 1, m, h]
                    for w in range(width):
                        left = zero if last[w] > threshold else last[w]
                        row[w] += decay * left + sideways[h * stride + w]
            for h in range(pooled.shape[2]):
                for w in range(pooled.shape[3]):
                    n_spikes = 0
                    for i in range(ph):
                        for j in range(pw):
                            if current[t, m, h * ph + i, w * pw + j] > threshold:
                                n_spikes += 1
                    pooled[t, m, h, w] = n_spikes * scale


@njit(cache=True)
def _zeros(like, size):  # type: ignore[no-untyped-def]
    made = np.empty(size, like.dtype)
    made[:] = 0
    return made


@njit(parallel=True, cache=True)
def _chain(  # type: ignore[no-untyped-def]
    potential, signal, lateral, to_lateral, threshold, lens, decay, ph, pw
):
    n_steps, n_rows, height, width = potential.shape
    _, _, high, wide = signal.shape
    channels, kernel, _ = lateral.shape
    reach = kernel // 2
    stride = width + 2 * reach
    size = height * stride
    center = reach * stride + reach
    zero = potential.dtype.type(0)
    scale = potential.dtype.type(1.0 / (ph * pw))
    for m in prange(n_rows):
        spikes = _zeros(potential, (height + 2 * reach) * stride + kernel)
        later = _zeros(potential, (height + 2 * reach) * stride + kernel)
        sideways = _zeros(potential, size)
        back = lateral[m % channels, ::-1, ::-1]
        for t in range(n_steps - 1, -1, -1):
            if t < n_steps - 1:
                _correlate(later, back, sideways, stride)
            for h in range(height):
                for w in range(width):
                    v = potential[t, m, h, w]
                    inside = h < high * ph and w < wide * pw
                    g = signal[t, m, h // ph, w // pw] * scale if inside else zero
                    g += sideways[h * stride + w]
                    carried = decay * later[center + h * stride + w]
                    kept = zero if v > threshold else carried
                    near = abs(v - threshold) < lens
                    found = kept + (g - v * carried if near else zero)
                    later[center + h * stride + w] = found
                    potential[t, m, h, w] = found
            if t > 0:
                _spikes_into(potential[t - 1, m], spikes, stride, reach, threshold)
                # The border of `later` is 0: what lies beside the map does not count.
                own = later[center : center + size]
                for i in range(kernel):
                    for j in range(kernel):
                        start = i * stride + j
                        to_lateral[m, i, j] += _dot(own, spikes[start : start + size])


def integrate(
    current: Tensor, lateral: Tensor, pooled: Tensor, neuron: Neuron, pool: tuple[int, int]
) -> None:
    """Turn currents into membrane potentials, in place, and give the spikes' averages.

    Args:
        current: [time, rows, height, width]; holds the potentials afterwards.
        lateral: [channels, kernel, kernel], weights of the spikes of the step before; the kernel is
            odd.
        pooled: [time, rows, height // pool[0], width // pool[1]], takes the pooled spikes.
        neuron: constants of the units.
        pool: size of the average pooling.
    """
    if by_numba(current):
        constants = scalars(current, neuron.threshold, neuron.decay)
        arrays = views(current, lateral, pooled)
        _integrate(*arrays, *constants, *pool)  # type: ignore[call-arg]
    else:
        integrate_by_torch(current, lateral, pooled, neuron, pool)


def chain(
    potential: Tensor, signal: Tensor, lateral: Tensor, neuron: Neuron, pool: tuple[int, int]
) -> Tensor:
    """Gradient of the potentials by the chain rule, in their place, and of the lateral weights.

    Args:
        potential: [time, rows, height, width], potentials, of which the gradient takes the place.
        signal: [time, rows, height // pool[0], width // pool[1]], gradient of the pooled spikes.
        lateral: [channels, kernel, kernel], as in `integrate`.
        neuron: constants of the units.
        pool: size of the average pooling.

    Returns:
        Gradient of the lateral weights, [channels, kernel, kernel].
    """
    if not by_numba(potential):
        return chain_by_torch(potential, signal, lateral, neuron, pool)
    # A sum for every row, added up afterwards: threads do not share one, and their number does not
    # change the result.
    to_lateral = lateral.new_zeros(potential.shape[1], *lateral.shape[1:])
    constants = scalars(potential, neuron.threshold, neuron.lens, neuron.decay)
    arrays = views(potential, signal, lateral, to_lateral)
    _chain(*arrays, *constants, *pool)  # type: ignore[call-arg]
    return to_lateral.view(-1, *lateral.shape).sum(0)


def integrate_by_torch(
    current: Tensor, lateral: Tensor, pooled: Tensor, neuron: Neuron, pool: tuple[int, int]
) -> None:
    """`integrate` in torch operations, a step at a time."""
    taps = lateral[:, None]
    for step in range(1, len(current)):  # by index, as in `brp_snn._kernels`
        before, potential = current[step - 1], current[step]
        silent = before <= neuron.threshold
        potential += neuron.decay * before * silent
        potential += _beside(~silent, taps).view_as(potential)
    spikes = (current > neuron.threshold).to(current.dtype)
    pooled.copy_(functional.avg_pool2d(spikes.flatten(0, 1), pool).view_as(pooled))


def _beside(spikes: Tensor, taps: Tensor) -> Tensor:
    """Lateral currents of the spikes [rows, height, width]."""
    maps = spikes.to(taps.dtype).view(-1, len(taps), *spikes.shape[1:])
    return functional.conv2d(maps, taps, padding=taps.shape[-1] // 2, groups=len(taps))


def chain_by_torch(
    potential: Tensor, signal: Tensor, lateral: Tensor, neuron: Neuron, pool: tuple[int, int]
) -> Tensor:
    """`chain` in torch operations, a step at a time."""
    channels, kernel, _ = lateral.shape
    # A transposed convolution is one with the kernel turned around, its size being odd.
    turned = lateral.flip(1, 2)[:, None]
    spikes = (potential > neuron.threshold).to(potential.dtype)
    (ph, pw), (height, width) = pool, potential.shape[2:]
    after = sideways = torch.zeros_like(potential[0])
    for v, g in zip(reversed(potential.unbind(0)), reversed(signal.unbind(0)), strict=True):
        spread = (g / (ph * pw)).repeat_interleave(ph, 1).repeat_interleave(pw, 2)
        rest = (0, width - spread.shape[2], 0, height - spread.shape[1])
        on_spikes = functional.pad(spread, rest) + sideways
        carried = neuron.decay * after
        near = (v - neuron.threshold).abs() < neuron.lens
        after = carried * (v <= neuron.threshold) + (on_spikes - v * carried) * near
        sideways = _beside(after, turned).view_as(after)
        v.copy_(after)
    # Every step's spikes meet the gradient of the next potential.
    shape = (-1, channels, height, width)
    _, to_taps, _ = torch.ops.aten.convolution_backward(
        potential[1:].reshape(shape), spikes[:-1].reshape(shape), lateral[:, None], None,
        [1, 1], [kernel // 2] * 2, [1, 1], False, [0, 0], channels, [False, True, False],
    )  # fmt: skip
    found: Tensor = to_taps[:, 0]
    return found
