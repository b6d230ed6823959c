"""The membrane over many steps of a layer at once, forward and backward: numba, all cores.

Arrays are [time, rows, height, width] with rows = batch times channels; a layer without space has
height 1 and its units as width. On CUDA the functions are those of `_kernels_cuda` where Triton is
installed; on other devices, and in other precisions than 32 and 64 bits, they are made of torch
operations.
"""

import importlib
import importlib.util
from functools import cache
from typing import Any

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from brp_snn.models import Neuron
from shared.device import share_threads
from shared.layers import by_numba, is_for_kernels


@njit(cache=True)
def _pool_rows(potential, threshold, pooled, ph, pw, counts):  # type: ignore[no-untyped-def]
    """Average spikes of a map, in loops that become vector code.

    Args:
        potential: [height, width], membrane potentials.
        threshold: of a spike.
        pooled: [height // ph, width // pw], takes the averages.
        ph: height of the pooled windows.
        pw: their width.
        counts: [width], room for the spikes of the windows' columns.
    """
    zero, one = potential.dtype.type(0), potential.dtype.type(1)
    scale = potential.dtype.type(1.0 / (ph * pw))
    is_alone = ph == 1 and pw == 1  # windows of one unit: their spikes are the averages
    for h in range(pooled.shape[0]):
        out, row = pooled[h], potential[h * ph]
        columns = out if is_alone else counts
        for w in range(len(columns)):
            columns[w] = one if row[w] > threshold else zero
        if is_alone:
            continue
        for i in range(1, ph):
            row = potential[h * ph + i]
            for w in range(len(counts)):
                counts[w] += one if row[w] > threshold else zero
        for w in range(len(out)):
            n_spikes = zero
            for j in range(pw):
                n_spikes += counts[w * pw + j]
            out[w] = n_spikes * scale


@njit(parallel=True, cache=True)
def _integrate(current, before, pooled, threshold, decay, ph, pw):  # type: ignore[no-untyped-def]
    n_steps, n_rows, height, width = current.shape
    zero = current.dtype.type(0)
    for m in prange(n_rows):
        counts = np.empty(width, current.dtype)
        for t in range(n_steps):
            for h in range(height):
                row = current[t, m, h]
                last = current[t - 1, m, h] if t > 0 else before[m, h]
                for w in range(width):
                    left = zero if last[w] > threshold else last[w]
                    row[w] += decay * left
            _pool_rows(current[t, m], threshold, pooled[t, m], ph, pw, counts)


@njit(parallel=True, cache=True)
def _teach(potential, signal, after, gradient, threshold, lens, decay):  # type: ignore[no-untyped-def]
    n_steps, n_rows, height, width = potential.shape
    zero = potential.dtype.type(0)
    for m in prange(n_rows):
        for t in range(n_steps - 1, -1, -1):
            for h in range(height):
                v, g, later = potential[t, m, h], signal[m, h], after[m, h]
                for w in range(width):
                    carried = decay * later[w]
                    kept = zero if v[w] > threshold else carried
                    near = abs(v[w] - threshold) < lens
                    later[w] = kept + (g[w] - v[w] * carried if near else zero)
                if gradient.size:
                    for w in range(width):
                        gradient[t, m, h, w] = later[w]


@njit(cache=True)
def _spread_row(signal, h, ph, pw, out):  # type: ignore[no-untyped-def]
    """The spikes' gradient in a row of a map from that of its pooled averages.

    Args:
        signal: [height // ph, width // pw], gradient of the averages.
        h: the row.
        ph: height of the pooled windows.
        pw: their width.
        out: [width], takes the gradient; 0 beside the last whole window.
    """
    out[:] = 0
    if h < signal.shape[0] * ph:
        row, scale = signal[h // ph], signal.dtype.type(1.0 / (ph * pw))
        for j in range(pw):
            for w in range(len(row)):
                out[w * pw + j] = row[w] * scale


@njit(parallel=True, cache=True)
def _chain(potential, signal, threshold, lens, decay, ph, pw):  # type: ignore[no-untyped-def]
    n_steps, n_rows, height, width = potential.shape
    zero = potential.dtype.type(0)
    for m in prange(n_rows):
        g, none = np.empty(width, potential.dtype), np.zeros(width, potential.dtype)
        for t in range(n_steps - 1, -1, -1):
            for h in range(height):
                _spread_row(signal[t, m], h, ph, pw, g)
                v, later = potential[t, m, h], potential[t + 1, m, h] if t < n_steps - 1 else none
                for w in range(width):
                    carried = decay * later[w]
                    kept = zero if v[w] > threshold else carried
                    near = abs(v[w] - threshold) < lens
                    v[w] = kept + (g[w] - v[w] * carried if near else zero)


def _elsewhere(tensor: Tensor) -> Any:
    """What holds the functions for a tensor that numba's kernels cannot take, by their names."""
    has_kernels = tensor.device.type == "cuda" and is_for_kernels(tensor)
    return _for_cuda() if has_kernels else _ByTorch


@cache
def _for_cuda() -> Any:
    has_triton = importlib.util.find_spec("triton") is not None
    return importlib.import_module("brp_snn._kernels_cuda") if has_triton else _ByTorch


def views(*tensors: Tensor) -> list[Any]:
    """NumPy's views of the tensors for a kernel, which is to take as many threads as torch."""
    share_threads()
    return [tensor.numpy() for tensor in tensors]


def scalars(tensor: Tensor, *values: float) -> list[Any]:
    """The values in the tensor's precision, so that kernels do not compute in a wider one."""
    dtype = tensor.numpy().dtype.type
    return [dtype(value) for value in values]


def integrate(
    current: Tensor, before: Tensor, pooled: Tensor, neuron: Neuron, pool: tuple[int, int]
) -> None:
    """Turn currents into membrane potentials, in place, and give the spikes' averages.

    Args:
        current: [time, rows, height, width]; holds the potentials afterwards.
        before: [rows, height, width], potentials of the step before the first.
        pooled: [time, rows, height // pool[0], width // pool[1]], takes the pooled spikes.
        neuron: constants of the units.
        pool: size of the average pooling.
    """
    if by_numba(current):
        constants = scalars(current, neuron.threshold, neuron.decay)
        arrays = views(current, before, pooled)
        _integrate(*arrays, *constants, *pool)  # type: ignore[call-arg]
    else:
        _elsewhere(current).integrate(current, before, pooled, neuron, pool)


def teach(
    potential: Tensor, signal: Tensor, after: Tensor, neuron: Neuron, *, look: bool = False
) -> None:
    """Gradient of the potentials where every step's spikes have the same gradient, the signal.

    Args:
        potential: [time, rows, height, width], potentials, of which the gradient takes the place.
        signal: [rows, height, width], gradient of the spikes at every step.
        after: [rows, height, width], gradient of the potential at the step after the last; that
            at the first step takes its place.
        neuron: constants of the units.
        look: leave the potentials as they are and only bring `after` to the first step.
    """
    if by_numba(potential):
        constants = scalars(potential, neuron.threshold, neuron.lens, neuron.decay)
        gradient = potential.new_empty((0,) * 4) if look else potential
        _teach(*views(potential, signal, after, gradient), *constants)
    else:
        _elsewhere(potential).teach(potential, signal, after, neuron, look=look)


def chain(potential: Tensor, signal: Tensor, neuron: Neuron, pool: tuple[int, int]) -> None:
    """Gradient of the potentials by the chain rule, in their place.

    Args:
        potential: [time, rows, height, width], potentials, of which the gradient takes the place.
        signal: [time, rows, height // pool[0], width // pool[1]], gradient of the pooled spikes.
        neuron: constants of the units.
        pool: size of the average pooling.
    """
    if by_numba(potential):
        constants = scalars(potential, neuron.threshold, neuron.lens, neuron.decay)
        arrays = views(potential, signal)
        _chain(*arrays, *constants, *pool)  # type: ignore[call-arg]
    else:
        _elsewhere(potential).chain(potential, signal, neuron, pool)


def integrate_by_torch(
    current: Tensor, before: Tensor, pooled: Tensor, neuron: Neuron, pool: tuple[int, int]
) -> None:
    """`integrate` on any device."""
    last = before
    for step in range(len(current)):  # by index: autograd refuses to change what comes of unbind
        potential = current[step]
        potential += neuron.decay * last * (last <= neuron.threshold)
        last = potential
    spikes = (current > neuron.threshold).to(current.dtype)
    pooled.copy_(torch.nn.functional.avg_pool2d(spikes.flatten(0, 1), pool).view_as(pooled))


def teach_by_torch(
    potential: Tensor, signal: Tensor, after: Tensor, neuron: Neuron, *, look: bool = False
) -> None:
    """`teach` on any device."""
    for v in reversed(potential.unbind(0)):
        after.copy_(_gradient_before(v, signal, after, neuron))
        if not look:
            v.copy_(after)


def chain_by_torch(
    potential: Tensor, signal: Tensor, neuron: Neuron, pool: tuple[int, int]
) -> None:
    """`chain` on any device."""
    (ph, pw), (height, width) = pool, potential.shape[2:]
    after = torch.zeros_like(potential[0])
    for v, g in zip(reversed(potential.unbind(0)), reversed(signal.unbind(0)), strict=True):
        spread = (g / (ph * pw)).repeat_interleave(ph, 1).repeat_interleave(pw, 2)
        rest = (0, width - spread.shape[2], 0, height - spread.shape[1])
        after = _gradient_before(v, torch.nn.functional.pad(spread, rest), after, neuron)
        v.copy_(after)


def _gradient_before(v: Tensor, signal: Tensor, after: Tensor, neuron: Neuron) -> Tensor:
    """Gradient of a step's potential from the spikes' gradient and that of the next potential."""
    carried = neuron.decay * after
    near = (v - neuron.threshold).abs() < neuron.lens
    return carried * (v <= neuron.threshold) + (signal - v * carried) * near


class _ByTorch:
    """The functions in torch operations, by the names that `_kernels_cuda` has for them."""

    integrate = staticmethod(integrate_by_torch)
    teach = staticmethod(teach_by_torch)
    chain = staticmethod(chain_by_torch)
