"""CPU kernels of the neurons after a convolution: numba, all cores, one pass over the arrays.

Arrays are [batch, height, width, channels], those of spikes half as high and wide where pooling by
2 follows: `side` is then 2, else 1. Rows and columns that no window covers reach nothing. The
constants are theta, decay, decay theta, both ends of the surrogate's window, 1 / side^2 and 0, in
the arrays' number format.
"""

import numpy as np
from numba import njit, prange


@njit(inline="always")
def _left(v, constants, hard):  # type: ignore[no-untyped-def]
    """What reset and decay leave of a potential."""
    theta, decay = constants[0], constants[1]
    taken = v if hard else theta
    return decay * (v - taken) if v > theta else decay * v


@njit(inline="always")
def _inner(v, carried, spiked, constants, hard):  # type: ignore[no-untyped-def]
    """Gradient of a potential, from that of what is left of it and that of its spike."""
    theta, decay, drop, low, high, _, zero = constants
    inner = spiked - (decay * v * carried if hard else drop * carried)
    inner = inner if low < v and v < high else zero  # a potential that is no number lies outside
    return inner if hard and not v <= theta else inner + decay * carried


@njit(parallel=True, cache=True)
def step(current, carried, potential, spikes, side, constants, hard):  # type: ignore[no-untyped-def]
    """A step; `carried` is written over, `potential` and `spikes` are filled in."""
    batch, height, width, channels = current.shape
    theta, share, zero = constants[0], constants[5], constants[6]
    for row in prange(batch * height):
        b, h = row // height, row % height
        for w in range(width):
            i, c, v = current[b, h, w], carried[b, h, w], potential[b, h, w]
            for n in range(channels):
                now = i[n] + c[n]
                v[n] = now
                c[n] = _left(now, constants, hard)
    for row in prange(batch * spikes.shape[1]):
        b, h = row // spikes.shape[1], row % spikes.shape[1]
        for w in range(spikes.shape[2]):
            out = spikes[b, h, w]
            out[:] = zero
            for d in range(side * side):
                v = potential[b, side * h + d // side, side * w + d % side]
                for n in range(channels):
                    out[n] += share if v[n] > theta else zero


@njit(parallel=True, cache=True)
def step_back(potential, carried, spiked, gradient, side, constants, hard):  # type: ignore[no-untyped-def]
    """Gradient of the current of a step, from those of what it carried and of its spikes."""
    batch, height, width, channels = potential.shape
    share, zero = constants[5], constants[6]
    for row in prange(batch * height):
        b, h = row // height, row % height
        for w in range(width):
            v, c, out = potential[b, h, w], carried[b, h, w], gradient[b, h, w]
            if h // side < spiked.shape[1] and w // side < spiked.shape[2]:
                s = spiked[b, h // side, w // side]
                for n in range(channels):
                    out[n] = _inner(v[n], c[n], share * s[n], constants, hard)
            else:
                for n in range(channels):
                    out[n] = _inner(v[n], c[n], zero, constants, hard)


@njit(parallel=True, cache=True)
def scan(current, spikes, first, side, constants, hard):  # type: ignore[no-untyped-def]
    """Steps from `first` on under a current that stays: `spikes` [steps, ...] is filled in."""
    steps, batch, high, wide, channels = spikes.shape
    theta, share, zero = constants[0], constants[5], constants[6]
    for row in prange(batch * high):
        b, h = row // high, row % high
        carried = np.empty((side * side, channels), current.dtype)
        for w in range(wide):
            carried[:] = zero
            for t in range(first + steps):
                # A window's steps before `first` are found again: that costs no memory.
                out = spikes[max(t - first, 0), b, h, w]
                out[:] = zero
                for d in range(side * side):
                    i, c = current[b, side * h + d // side, side * w + d % side], carried[d]
                    for n in range(channels):
                        v = i[n] + c[n]
                        out[n] += share if v > theta else zero
                        c[n] = _left(v, constants, hard)


@njit(parallel=True, cache=True)
def scan_back(current, spiked, gradient, first, side, constants, hard):  # type: ignore[no-untyped-def]
    """Gradient of a current that stayed, from those of the spikes of the steps from `first` on."""
    steps, batch, high, wide, channels = spiked.shape
    share, zero = constants[5], constants[6]
    for row in prange(batch * high):
        b, h = row // high, row % high
        potential = np.empty((first + steps, channels), current.dtype)
        carried = np.empty(channels, current.dtype)
        for w in range(wide):
            for d in range(side * side):
                i = current[b, side * h + d // side, side * w + d % side]
                out = gradient[b, side * h + d // side, side * w + d % side]
                carried[:] = zero
                for t in range(first + steps):
                    v = potential[t]
                    for n in range(channels):
                        now = i[n] + carried[n]
                        v[n] = now
                        carried[n] = _left(now, constants, hard)
                carried[:] = zero
                out[:] = zero
                for t in range(first + steps - 1, -1, -1):
                    v = potential[t]
                    weight = share if t >= first else zero
                    s = spiked[max(t - first, 0), b, h, w]
                    for n in range(channels):
                        back = _inner(v[n], carried[n], weight * s[n], constants, hard)
                        carried[n] = back
                        out[n] += back
