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

from brp_snn._kernels import by_numba, pool_rows, scalars, spread_row, views
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
        row = padded[i * stride :]
        j = 0
        while j + 5 <= taps.shape[1]:  # five taps a pass: `out` is read and written once
            a, b, c = taps[i, j], taps[i, j + 1], taps[i, j + 2]
            d, e = taps[i, j + 3], taps[i, j + 4]
            shifted = row[j : j + size + 4]
            for p in range(size):
                total = out[p] + a * shifted[p]
                total += b * shifted[p + 1]
                total += c * shifted[p + 2]
                total += d * shifted[p + 3]
                out[p] = total + e * shifted[p + 4]
            j += 5
        while j < taps.shape[1]:
            tap, shifted = taps[i, j], row[j : j + size]
            for p in range(size):
                out[p] += tap * shifted[p]
            j += 1


# Only sums may be reordered, which lets several of them run side by side.
@njit(cache=True, fastmath={"reassoc", "contract", "nsz"})
def _add_dots(inner, padded, taps, stride):  # type: ignore[no-untyped-def]
    """taps[i, j] += sum over p of inner[p] * padded[p + i * stride + j]."""
    size = inner.shape[0]
    zero = inner.dtype.type(0)
    for i in range(taps.shape[0]):
        row = padded[i * stride :]
        j = 0
        while j + 5 <= taps.shape[1]:
            a = b = c = d = e = zero
            shifted = row[j : j + size + 4]
            for p in range(size):
                own = inner[p]
                a += own * shifted[p]
                b += own * shifted[p + 1]
                c += own * shifted[p + 2]
                d += own * shifted[p + 3]
                e += own * shifted[p + 4]
            taps[i, j] += a
            taps[i, j + 1] += b
            taps[i, j + 2] += c
            taps[i, j + 3] += d
            taps[i, j + 4] += e
            j += 5
        while j < taps.shape[1]:
            shifted, total = row[j : j + size], zero
            for p in range(size):
                total += inner[p] * shifted[p]
            taps[i, j] += total
            j += 1


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
    zero = current.dtype.type(0)
    for m in prange(n_rows):
        padded = _zeros(current, (height + 2 * reach) * stride + kernel)
        sideways = _zeros(current, height * stride)
        counts = np.empty(width, current.dtype)
        for t in range(n_steps):
            if t > 0:
                _spikes_into(current[t - 1, m], padded, stride, reach, threshold)
                _correlate(padded, lateral[m % channels], sideways, stride)
                for h in range(height):
                    row, last = current[t, m, h], current[t - 1, m, h]
                    for w in range(width):
                        left = zero if last[w] > threshold else last[w]
                        row[w] += decay * left + sideways[h * stride + w]
            pool_rows(current[t, m], threshold, pooled[t, m], ph, pw, counts)


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
    channels, kernel, _ = lateral.shape
    reach = kernel // 2
    stride = width + 2 * reach
    size = height * stride
    center = reach * stride + reach
    zero = potential.dtype.type(0)
    for m in prange(n_rows):
        spikes = _zeros(potential, (height + 2 * reach) * stride + kernel)
        later = _zeros(potential, (height + 2 * reach) * stride + kernel)
        sideways = _zeros(potential, size)
        to_spikes = np.empty(width, potential.dtype)
        back = lateral[m % channels, ::-1, ::-1]
        for t in range(n_steps - 1, -1, -1):
            if t < n_steps - 1:
                _correlate(later, back, sideways, stride)
            for h in range(height):
                spread_row(signal[t, m], h, ph, pw, to_spikes)
                v, beside = potential[t, m, h], sideways[h * stride : h * stride + width]
                own = later[center + h * stride : center + h * stride + width]
                for w in range(width):
                    g = to_spikes[w] + beside[w]
                    carried = decay * own[w]
                    kept = zero if v[w] > threshold else carried
                    near = abs(v[w] - threshold) < lens
                    own[w] = kept + (g - v[w] * carried if near else zero)
                    v[w] = own[w]
            if t > 0:
                _spikes_into(potential[t - 1, m], spikes, stride, reach, threshold)
                # The border of `later` is 0: what lies beside the map does not count.
                _add_dots(later[center : center + size], spikes, to_lateral[m], stride)


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
