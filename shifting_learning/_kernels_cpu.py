"""CPU kernels of shifting learning: one pass over sorted spikes, numba, all cores.

Every function works on blocks of neurons. A block's running sums stay in the cache while the
spikes of a trial pass by, so nothing of shape (batch, in, out) is ever formed. Sums are float64
whatever the type of the timings: in float32, hundreds of inputs that share one time (the black
pixels of a digit) leave enough rounding in the sums to flip causal sets.

Results do not depend on the number of threads: each sum belongs to one thread and is taken in a
fixed order.
"""

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

SILENT = 1e5
"""Output code of a neuron that never reaches threshold (before e_tp)."""

_MIN_DIVISOR = 1e-10
_MAX_DIVISOR = 1e10
_FORWARD_BLOCK = 128  # neurons per block: three float64 rows of running sums fit the L1 cache
_GRADIENT_BLOCK = 64  # neurons per block: a (in, block) float64 gradient tile fits the L2 cache
_MIN_JOBS = 64  # enough pieces of work for many cores


def sort_codes(
    z: NDArray[np.floating],
) -> tuple[
    NDArray[np.floating],
    NDArray[np.int32],
    NDArray[np.int64],
    NDArray[np.int64],
    NDArray[np.float64],
]:
    """Sort each trial's codes; leave out the inputs of the latest time where they are many.

    Inputs that share the latest time are one event whose sums are known without visiting them: the
    sum of all weights less the sums so far. They are left out (`rest` holds their code) where at
    least half of the inputs belong to them, as the black pixels of a digit do.
    """
    n_trials, n_in = z.shape
    order = np.argsort(z, axis=1)
    codes = np.take_along_axis(z, order, axis=1)
    latest = codes[:, -1]
    n_latest = (codes == latest[:, None]).sum(axis=1)
    leave_out = (n_latest > 1) & (2 * n_latest >= n_in)
    start = np.arange(n_trials) * n_in
    stop = start + n_in - np.where(leave_out, n_latest, 0)
    rest = np.where(leave_out, latest, np.inf).astype(np.float64)
    return codes.ravel(), order.astype(np.int32).ravel(), start, stop, rest


@njit(parallel=True, cache=True)
def _find_spikes(codes, synapse, start, stop, rest, e_ts, total, block, n_chunks):  # type: ignore[no-untyped-def]
    n_nets, _, n_out = e_ts.shape
    n_trials = start.shape[0]
    per_net = n_trials // n_nets
    u = np.empty((n_trials, n_out), e_ts.dtype)
    cause = np.empty((n_trials, n_out), np.float64)
    divisor = np.empty((n_trials, n_out), e_ts.dtype)
    n_blocks = (n_out + block - 1) // block
    for job in prange(n_nets * n_chunks * n_blocks):
        net = job // (n_chunks * n_blocks)
        chunk = job // n_blocks % n_chunks
        j0 = job % n_blocks * block
        width = min(block, n_out - j0)
        s_sum = np.empty(width)
        sz_sum = np.empty(width)
        best = np.empty(width)
        best_cause = np.empty(width)
        best_divisor = np.empty(width)
        for b in range(chunk * per_net // n_chunks, (chunk + 1) * per_net // n_chunks):
            trial = net * per_net + b
            s_sum[:] = 0.0
            sz_sum[:] = 0.0
            best[:] = SILENT
            best_cause[:] = -np.inf
            best_divisor[:] = np.inf
            k = start[trial]
            end = stop[trial]
            has_rest = rest[trial] < np.inf
            n_events = 0
            settled = False
            while not settled and (k < end or has_rest):
                if k < end:
                    z = np.float64(codes[k])
                    in_event = True
                    while in_event:
                        row = e_ts[net, synapse[k], j0 : j0 + width]
                        for j in range(width):
                            s = np.float64(row[j])
                            s_sum[j] += s
                            sz_sum[j] += s * z
                        k += 1
                        in_event = k < end and codes[k] == codes[k - 1]
                else:
                    z = rest[trial]
                    has_rest = False
                    for j in range(width):
                        s_all = total[net, j0 + j]
                        sz_sum[j] += (s_all - s_sum[j]) * z
                        s_sum[j] = s_all
                for j in range(width):
                    d = s_sum[j] - 1.0
                    d = d if d > _MIN_DIVISOR else _MIN_DIVISOR
                    d = d if d < _MAX_DIVISOR else _MAX_DIVISOR
                    x = sz_sum[j] / d
                    first = (s_sum[j] >= 1.0) & (x >= z) & (x < best[j])
                    best[j] = x if first else best[j]
                    best_cause[j] = z if first else best_cause[j]
                    best_divisor[j] = d if first else best_divisor[j]
                # An admissible code is never below the code of its own last input: once the next
                # input comes no earlier than the best codes found, no later prefix can beat them,
                # whatever the signs of the timings. Looked at now and then, since it costs a pass.
                n_events += 1
                if n_events % 8 == 0:
                    z_next = np.float64(codes[k]) if k < end else rest[trial]
                    latest = best[0]
                    for j in range(width):
                        latest = best[j] if best[j] > latest else latest
                    settled = latest <= z_next
            for j in range(width):
                u[trial, j0 + j] = best[j]
                cause[trial, j0 + j] = best_cause[j]
                divisor[trial, j0 + j] = best_divisor[j]
    return u, cause, divisor


@njit(parallel=True, cache=True)
def _column_sums(e_ts):  # type: ignore[no-untyped-def]
    n_nets, n_in, n_out = e_ts.shape
    total = np.zeros((n_nets, n_out))
    n_blocks = (n_out + _FORWARD_BLOCK - 1) // _FORWARD_BLOCK
    for job in prange(n_nets * n_blocks):
        net = job // n_blocks
        j0 = job % n_blocks * _FORWARD_BLOCK
        for i in range(n_in):
            for j in range(j0, min(j0 + _FORWARD_BLOCK, n_out)):
                total[net, j] += e_ts[net, i, j]
    return total


@njit(parallel=True, cache=True)
def _timing_gradient(codes, synapse, start, stop, rest, a, z_out, cause, n_nets, n_in, block):  # type: ignore[no-untyped-def]
    n_trials, n_out = a.shape
    per_net = n_trials // n_nets
    gradient = np.empty((n_nets, n_in, n_out), a.dtype)
    n_blocks = (n_out + block - 1) // block
    for job in prange(n_nets * n_blocks):
        net = job // n_blocks
        j0 = job % n_blocks * block
        width = min(block, n_out - j0)
        tile = np.zeros((n_in, width))
        shared = np.zeros(width)  # what every synapse gets from the events at `rest`
        at_rest = np.empty(width)
        aj = np.empty(width)
        ajz = np.empty(width)
        last = np.empty(width)
        for trial in range(net * per_net, (net + 1) * per_net):
            latest = -np.inf
            z_rest = rest[trial]
            for j in range(width):
                aj[j] = a[trial, j0 + j]
                ajz[j] = aj[j] * np.float64(z_out[trial, j0 + j])
                last[j] = cause[trial, j0 + j]
                latest = max(latest, last[j])
                at_rest[j] = aj[j] * z_rest - ajz[j] if z_rest <= last[j] else 0.0
                shared[j] += at_rest[j]
            for k in range(start[trial], stop[trial]):
                z = np.float64(codes[k])
                if z > latest:
                    break  # no later input is causal, and `at_rest` is zero as well
                row = tile[synapse[k]]
                for j in range(width):
                    row[j] += (aj[j] * z - ajz[j] if z <= last[j] else 0.0) - at_rest[j]
        for i in range(n_in):
            for j in range(width):
                gradient[net, i, j0 + j] = tile[i, j] + shared[j]
    return gradient


@njit(parallel=True, cache=True)
def feedback(z_in, cause, d, e_ts):  # type: ignore[no-untyped-def]
    """d_i = sum_j d_j m_ij s_ij for trials [N, in], causes and errors [N, out]."""
    n_nets, n_in, n_out = e_ts.shape
    n_trials = z_in.shape[0]
    per_net = n_trials // n_nets
    d_in = np.empty((n_trials, n_in), e_ts.dtype)
    for trial in prange(n_trials):
        net = trial // per_net
        for i in range(n_in):
            z = np.float64(z_in[trial, i])
            acc = 0.0
            for j in range(n_out):
                s = np.float64(d[trial, j]) * np.float64(e_ts[net, i, j])
                acc += s if z <= cause[trial, j] else 0.0
            d_in[trial, i] = acc
    return d_in


def find_spikes(
    codes: NDArray[np.floating],
    synapse: NDArray[np.int32],
    start: NDArray[np.int64],
    stop: NDArray[np.int64],
    rest: NDArray[np.float64],
    e_ts: NDArray[np.floating],
) -> tuple[NDArray[np.floating], NDArray[np.float64], NDArray[np.floating]]:
    """Search every neuron's first admissible prefix; see `kernels.find_spikes`."""
    n_nets, _, n_out = e_ts.shape
    per_net = len(start) // n_nets
    n_blocks = -(-n_out // _FORWARD_BLOCK)
    n_chunks = max(1, min(per_net, _MIN_JOBS // (n_nets * n_blocks)))
    total = _column_sums(e_ts) if np.isfinite(rest).any() else np.zeros((n_nets, n_out))
    found: tuple[NDArray[np.floating], NDArray[np.float64], NDArray[np.floating]] = _find_spikes(
        codes, synapse, start, stop, rest, e_ts, total, _FORWARD_BLOCK, n_chunks
    )
    return found


def timing_gradient(
    codes: NDArray[np.floating],
    synapse: NDArray[np.int32],
    start: NDArray[np.int64],
    stop: NDArray[np.int64],
    rest: NDArray[np.float64],
    a: NDArray[np.floating],
    z_out: NDArray[np.floating],
    cause: NDArray[np.float64],
    n_nets: int,
    n_in: int,
) -> NDArray[np.floating]:
    """Sum the factors of every synapse over the batch; see `kernels.timing_gradient`."""
    gradient: NDArray[np.floating] = _timing_gradient(
        codes, synapse, start, stop, rest, a, z_out, cause, n_nets, n_in, _GRADIENT_BLOCK
    )
    return gradient
