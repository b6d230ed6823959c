"""The neurons of a layer over all steps at once, forward and backward: numba, all cores.

Arrays are [batch, time, neurons]. A block of neurons stays in the first cache while time runs; the
potentials are not kept for the backward pass but found again, which takes less time than to read
them from memory. `lif` chooses between these kernels and their forms for other devices.
"""

import math
from typing import Any

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from shared.device import share_threads

LARGEST_BLOCK, LEAST_BLOCK = 1024, 32  # neurons


@njit(parallel=True, cache=True, error_model="numpy")
def _forward(current, theta, tau, block, spikes):  # type: ignore[no-untyped-def]
    n_batch, n_steps, n = current.shape
    one, zero = current.dtype.type(1), current.dtype.type(0)
    n_blocks = (n + block - 1) // block
    for task in prange(n_batch * n_blocks):
        b, start = task // n_blocks, task % n_blocks * block
        stop = min(start + block, n)
        threshold = theta[start:stop]
        left = np.zeros(stop - start, current.dtype)
        for t in range(n_steps):
            drive, out = current[b, t, start:stop], spikes[b, t, start:stop]
            for k in range(stop - start):
                v = tau * left[k] + drive[k]
                fires = v - threshold[k] >= zero
                out[k] = one if fires else zero
                left[k] = zero if fires else v


@njit(parallel=True, cache=True, error_model="numpy")
def _backward(current, theta, signal, tau, height, slope, block, to_current, to_theta):  # type: ignore[no-untyped-def]
    n_batch, n_steps, n = current.shape
    one, zero = current.dtype.type(1), current.dtype.type(0)
    for task in prange((n + block - 1) // block):
        start = task * block
        stop = min(start + block, n)
        threshold, total = theta[start:stop], to_theta[start:stop]
        state = np.zeros(stop - start, current.dtype)
        for b in range(n_batch):
            state[:] = zero
            for t in range(n_steps):  # the potentials, where their gradient will be
                drive, potential = current[b, t, start:stop], to_current[b, t, start:stop]
                for k in range(stop - start):
                    v = tau * state[k] + drive[k]
                    potential[k] = v
                    state[k] = zero if v - threshold[k] >= zero else v
            state[:] = zero
            for t in range(n_steps - 1, -1, -1):
                potential, teach = to_current[b, t, start:stop], signal[b, t, start:stop]
                for k in range(stop - start):
                    v, after = potential[k], tau * state[k]
                    x = v - threshold[k]
                    steep = slope * x
                    through_spike = height / (one + steep * steep) * (teach[k] - v * after)
                    total[k] -= through_spike
                    state[k] = through_spike + (zero if x >= zero else after)
                    potential[k] = state[k]


def _block(n: int, threads: int) -> int:
    """Neurons that a thread takes at a time: a cache's worth, or fewer where threads wait."""
    return max(LEAST_BLOCK, min(LARGEST_BLOCK, -(-n // (4 * threads))))


def forward(current: Tensor, theta: Tensor, tau: float) -> Tensor:
    """Spikes [batch, time, n] for currents [batch, time, n] and thresholds [n]; contiguous."""
    block = _block(current.shape[2], share_threads())
    kind: Any = current.numpy().dtype.type
    spikes = torch.empty_like(current)
    _forward(current.numpy(), theta.numpy(), kind(tau), block, spikes.numpy())
    return spikes


def backward(
    current: Tensor, theta: Tensor, signal: Tensor, tau: float, alpha: float
) -> tuple[Tensor, Tensor]:
    """Gradients of the currents and thresholds from that of the spikes; shapes as in `forward`."""
    block = _block(current.shape[2], share_threads())
    kind: Any = current.numpy().dtype.type
    to_current, to_theta = torch.empty_like(current), torch.zeros_like(theta)
    given = (tensor.numpy() for tensor in (current, theta, signal))
    constants = (kind(value) for value in (tau, alpha / 2, math.pi * alpha / 2))
    taken = (to_current.numpy(), to_theta.numpy())
    _backward(*given, *constants, block, *taken)  # type: ignore[call-arg]
    return to_current, to_theta
