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
_BELOW_1 = 1 - 1e-9  # a sum of float64 that in exact numbers would be below 1 is below 1
_FORWARD_BLOCK = 128  # neurons per block: five float64 rows of running numbers fit the L1 cache
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


# Running numbers of a block of neurons lie in one array: numba then sees that they do not overlap,
# and makes vector code of every loop over them.
_S, _SZ, _BEST, _CAUSE, _DIVISOR = (k * _FORWARD_BLOCK for k in range(5))


@njit(cache=True, inline="always")
def _add(block, timings, row, width, z):  # type: ignore[no-untyped-def]
    """Add a spike of code z to the sums; its timings begin at `row`."""
    for j in range(width):
        s = np.float64(timings[np.uint64(row + j)])  # unsigned: not looked at for negative indices
        block[_S + j] += s
        block[_SZ + j] += s * z


@njit(cache=True, inline="always")
def _look(block, j, s_sum, sz_sum, z):  # type: ignore[no-untyped-def]
    """Keep the prefix that ends at code z where it is admissible and the best so far."""
    d = s_sum - 1.0
    d = d if d > _MIN_DIVISOR else _MIN_DIVISOR
    d = d if d < _MAX_DIVISOR else _MAX_DIVISOR
    x = sz_sum / d
    first = (s_sum >= 1.0) & (x >= z) & (x < block[_BEST + j])
    block[_BEST + j] = x if first else block[_BEST + j]
    block[_CAUSE + j] = z if first else block[_CAUSE + j]
    block[_DIVISOR + j] = d if first else block[_DIVISOR + j]


@njit(parallel=True, cache=True)
def _find_spikes(codes, synapse, start, stop, rest, e_ts, total, largest, n_chunks):  # type: ignore[no-untyped-def]
    n_nets, n_in, n_out = e_ts.shape
    n_trials = start.shape[0]
    per_net = n_trials // n_nets
    timings = e_ts.reshape(-1)
    u = np.empty((n_trials, n_out), e_ts.dtype)
    cause = np.empty((n_trials, n_out), np.float64)
    divisor = np.empty((n_trials, n_out), e_ts.dtype)
    n_blocks = (n_out + _FORWARD_BLOCK - 1) // _FORWARD_BLOCK
    for job in prange(n_nets * n_chunks * n_blocks):
        net = job // (n_chunks * n_blocks)
        chunk = job // n_blocks % n_chunks
        j0 = job % n_blocks * _FORWARD_BLOCK
        width = min(_FORWARD_BLOCK, n_out - j0)
        base = net * n_in * n_out + j0
        most_a_spike = largest[net]
        block = np.empty(5 * _FORWARD_BLOCK)
        for b in range(chunk * per_net // n_chunks, (chunk + 1) * per_net // n_chunks):
            trial = net * per_net + b
            block[:_BEST] = 0.0
            block[_BEST:_CAUSE] = SILENT
            block[_CAUSE:_DIVISOR] = -np.inf
            block[_DIVISOR:] = np.inf
            k = start[trial]
            end = stop[trial]
            # So many spikes cannot bring a sum to 1, whichever they are: they are only added up.
            below = min(np.int64(_BELOW_1 / most_a_spike), end - k)
            while below > 0:
                for _ in range(below):
                    z = np.float64(codes[k])
                    _add(block, timings, base + synapse[k] * n_out, width, z)
                    k += 1
                most = 0.0
                for j in range(width):
                    most = max(most, block[_S + j])
                below = min(np.int64((_BELOW_1 - most) / most_a_spike), end - k)
            n_events = 0
            settled = False
            while not settled and k < end:
                z = np.float64(codes[k])
                while k + 1 < end and codes[k + 1] == codes[k]:
                    _add(block, timings, base + synapse[k] * n_out, width, z)
                    k += 1
                row = base + synapse[k] * n_out
                k += 1
                for j in range(width):
                    s = np.float64(timings[np.uint64(row + j)])
                    s_sum = block[_S + j] + s
                    sz_sum = block[_SZ + j] + s * z
                    block[_S + j] = s_sum
                    block[_SZ + j] = sz_sum
                    _look(block, j, s_sum, sz_sum, z)
                # An admissible code is never below the code of its own last input: once the next
                # input comes no earlier than the best codes found, no later prefix can beat them,
                # whatever the signs of the timings. Looked at now and then, since it costs a pass.
                n_events += 1
                if n_events % 8 == 0:
                    z_next = np.float64(codes[k]) if k < end else rest[trial]
                    settled = True
                    for j in range(width):
                        if block[_BEST + j] > z_next:
                            settled = False
                            break
            if not settled and rest[trial] < np.inf:
                z = rest[trial]
                for j in range(width):
                    s_sum = total[net, j0 + j]
                    sz_sum = block[_SZ + j] + (s_sum - block[_S + j]) * z
                    _look(block, j, s_sum, sz_sum, z)
            for j in range(width):
                u[trial, j0 + j] = block[_BEST + j]
                cause[trial, j0 + j] = block[_CAUSE + j]
                divisor[trial, j0 + j] = block[_DIVISOR + j]
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
        z_sum = np.empty(n_in)
        n_spikes = np.empty(n_in, np.int64)
        for trial in range(net * per_net, (net + 1) * per_net):
            latest = -np.inf
            earliest = np.inf
            z_rest = rest[trial]
            for j in range(width):
                aj[j] = a[trial, j0 + j]
                ajz[j] = aj[j] * np.float64(z_out[trial, j0 + j])
                last[j] = cause[trial, j0 + j]
                latest = max(latest, last[j])
                earliest = min(earliest, last[j])
                at_rest[j] = aj[j] * z_rest - ajz[j] if z_rest <= last[j] else 0.0
                shared[j] += at_rest[j]
            alone = start[trial]  # from here on, spikes are taken one by one
            if stop[trial] - alone > n_in:
                # Synapses spike several times: what is causal for the whole block is added up for
                # each synapse first.
                z_sum[:] = 0.0
                n_spikes[:] = 0
                while alone < stop[trial] and codes[alone] <= earliest:
                    z_sum[synapse[alone]] += np.float64(codes[alone])
                    n_spikes[synapse[alone]] += 1
                    alone += 1
                for i in range(n_in):
                    if n_spikes[i] == 0:
                        continue
                    z = z_sum[i]
                    n = np.float64(n_spikes[i])
                    row = tile[i]
                    for j in range(width):
                        row[j] += aj[j] * z - n * (ajz[j] + at_rest[j])
            for k in range(alone, stop[trial]):
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
    """Search every neuron's admissible prefix with the smallest code; see `kernels.find_spikes`."""
    n_nets, _, n_out = e_ts.shape
    per_net = len(start) // n_nets
    n_blocks = -(-n_out // _FORWARD_BLOCK)
    n_chunks = max(1, min(per_net, _MIN_JOBS // (n_nets * n_blocks)))
    largest = e_ts.max(axis=(1, 2), initial=1e-12).astype(np.float64)
    total = _column_sums(e_ts) if np.isfinite(rest).any() else np.zeros((n_nets, n_out))
    found: tuple[NDArray[np.floating], NDArray[np.float64], NDArray[np.floating]] = _find_spikes(
        codes, synapse, start, stop, rest, e_ts, total, largest, n_chunks
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
