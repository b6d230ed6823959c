"""CPU kernels of the multitask network: masked products and whole time steps, numba, one core.

Activity lies as [neurons, steps, batch]: what an entry of a mask needs is a row of its input and a
row of its output, both contiguous, and the inner loops run over the batch. A mask's entries are
given row by row: those of row r are entries start[r] to start[r + 1], and column[e] is the other
neuron of entry e.
"""

import numpy as np
from numba import njit

# Four entries at a time: a running sum is loaded and stored once for four of them.


@njit(cache=True, fastmath=True)
def _add_rows(total, x, t, values, column, first, last):  # type: ignore[no-untyped-def]
    """Add values[e] x[column[e], t] for the entries e of a row to total [batch]."""
    e = first
    while e + 4 <= last:
        x0, x1 = x[column[e], t], x[column[e + 1], t]
        x2, x3 = x[column[e + 2], t], x[column[e + 3], t]
        v0, v1, v2, v3 = values[e], values[e + 1], values[e + 2], values[e + 3]
        for b in range(total.shape[0]):
            total[b] += v0 * x0[b] + v1 * x1[b] + v2 * x2[b] + v3 * x3[b]
        e += 4
    while e < last:
        x0, v0 = x[column[e], t], values[e]
        for b in range(total.shape[0]):
            total[b] += v0 * x0[b]
        e += 1


@njit(cache=True, fastmath=True)
def _dot_rows(out, x, t, own, column, first, last):  # type: ignore[no-untyped-def]
    """Set out[e] to the product of x[column[e], t] and own [batch] for the entries e of a row."""
    e = first
    zero = x.dtype.type(0)
    while e + 4 <= last:
        x0, x1 = x[column[e], t], x[column[e + 1], t]
        x2, x3 = x[column[e + 2], t], x[column[e + 3], t]
        s0, s1, s2, s3 = zero, zero, zero, zero
        for b in range(own.shape[0]):
            s0 += x0[b] * own[b]
            s1 += x1[b] * own[b]
            s2 += x2[b] * own[b]
            s3 += x3[b] * own[b]
        out[e], out[e + 1], out[e + 2], out[e + 3] = s0, s1, s2, s3
        e += 4
    while e < last:
        x0, s0 = x[column[e], t], zero
        for b in range(own.shape[0]):
            s0 += x0[b] * own[b]
        out[e] = s0
        e += 1


@njit(cache=True, fastmath=True)
def weighted_sums(x, values, start, column):  # type: ignore[no-untyped-def]
    """Sums of values[e] x[column[e]] over the entries of each row: [n, 1, batch] of x's type."""
    out = np.zeros((start.shape[0] - 1, 1, x.shape[2]), x.dtype)
    for row in range(out.shape[0]):
        _add_rows(out[row, 0], x, 0, values, column, start[row], start[row + 1])
    return out


@njit(cache=True, fastmath=True)
def dots(x, y, start, column):  # type: ignore[no-untyped-def]
    """Products of x[column[e], 0] and y[row, 0] for the entries e of each row: [entries]."""
    out = np.empty(column.shape[0], x.dtype)
    for row in range(start.shape[0] - 1):
        _dot_rows(out, x, 0, y[row, 0], column, start[row], start[row + 1])
    return out


@njit(cache=True, fastmath=True)
def fire(drive, ks, theta, decay):  # type: ignore[no-untyped-def]
    """Potentials and spikes [n, steps, batch] of neurons without a trace.

    drive: products with the weights [n, steps or 1, batch]; ks: factors of the steps [steps].
    """
    n, width, steps = drive.shape[0], drive.shape[2], ks.shape[0]
    zero, one = drive.dtype.type(0), drive.dtype.type(1)
    potential = np.empty((n, steps, width), drive.dtype)
    spikes = np.empty((n, steps, width), drive.dtype)
    for j in range(n):
        for t in range(steps):
            v, s, own = potential[j, t], spikes[j, t], drive[j, min(t, drive.shape[1] - 1)]
            if t == 0:
                for b in range(width):
                    v[b] = ks[t] * own[b]
            else:
                v0, s0 = potential[j, t - 1], spikes[j, t - 1]
                for b in range(width):
                    v[b] = decay * (v0[b] - theta * s0[b]) + ks[t] * own[b]
            for b in range(width):
                s[b] = one if v[b] > theta else zero
    return potential, spikes


@njit(cache=True, fastmath=True)
def fire_gradient(to_spikes, to_last, potential, ks, theta, decay, lens, n_drive):  # type: ignore[no-untyped-def]
    """Gradient of `fire`'s drive from those of the spikes and of the last potentials."""
    n, steps, width = potential.shape
    zero = potential.dtype.type(0)
    to_drive = np.zeros((n, n_drive, width), potential.dtype)
    for j in range(n):
        carried = to_last[j].copy()
        for t in range(steps - 1, -1, -1):
            v, up, out = potential[j, t], to_spikes[j, t], to_drive[j, min(t, n_drive - 1)]
            if t == steps - 1:
                for b in range(width):
                    carried[b] += up[b] if abs(v[b] - theta) < lens else zero
            else:
                for b in range(width):
                    through = up[b] - decay * theta * carried[b]
                    carried[b] *= decay
                    carried[b] += through if abs(v[b] - theta) < lens else zero
            for b in range(width):
                out[b] += ks[t] * carried[b]
    return to_drive


@njit(cache=True, fastmath=True)
def plastic_step(  # type: ignore[no-untyped-def]
    t, k, x, values, recalled, post, potential, spikes, correlation, inside, kept,
    start, column, alpha, beta, trace_decay, theta, decay,
):  # fmt: skip
    """A step of a layer with a trace; arrays as in `fused._PlasticLayer`, beta one per entry.

    recalled [n, batch]: product of the input with alpha times the whole trace, after the first
    step. Writes potential[:, t], spikes[:, t], kept[t], and after the first step
    correlation[t - 1] and inside[t - 1].
    """
    now, before = min(t, x.shape[1] - 1), min(max(t - 1, 0), x.shape[1] - 1)
    zero, one = x.dtype.type(0), x.dtype.type(1)
    for j in range(potential.shape[0]):
        first, last = start[j], start[j + 1]
        v, s = potential[j, t], spikes[j, t]
        if t == 0:
            v[:] = zero
            kept[t, first:last] = values[first:last]
        else:
            v[:] = recalled[j]
            products, held = correlation[t - 1], inside[t - 1]
            _dot_rows(products, x, before, post[j, t - 1], column, first, last)
            for e in range(first, last):
                held[e] = beta[e] * products[e]
            if t > 1:
                older = inside[t - 2]
                for e in range(first, last):
                    held[e] += trace_decay * older[e]
            own_kept = kept[t]
            for e in range(first, last):
                own_kept[e] = values[e] - alpha * held[e]
        _add_rows(v, x, now, kept[t], column, first, last)
        if t == 0:
            for b in range(v.shape[0]):
                v[b] *= k
        else:
            v0, s0 = potential[j, t - 1], spikes[j, t - 1]
            for b in range(v.shape[0]):
                v[b] = k * v[b] + decay * (v0[b] - theta * s0[b])
        for b in range(v.shape[0]):
            s[b] = one if v[b] > theta else zero


@njit(cache=True, fastmath=True)
def plastic_step_gradient(  # type: ignore[no-untyped-def]
    t, k, growth, x, potential, post, correlation, inside, to_spikes, to_post, carried,
    to_product, to_kept, to_inside, to_dots, to_values, to_alpha, to_beta, to_eta,
    start, column, alpha, beta, trace_decay, theta, decay, lens,
):  # fmt: skip
    """The gradient of `plastic_step`, taken from the last step to the first.

    carried [n, batch]: gradient of the potentials of step t + 1, becomes that of step t.
    Writes to_product[:, t]; adds to to_values, to_alpha (one sum per neuron), to_beta (one per
    entry), to_eta and, after the first step, to to_post[:, t - 1]; sets to_dots[t - 1].
    """
    steps = potential.shape[1]
    now, before = min(t, x.shape[1] - 1), min(max(t - 1, 0), x.shape[1] - 1)
    zero, one = x.dtype.type(0), x.dtype.type(1)
    per_growth, per_theta = one / growth, one / theta
    for j in range(potential.shape[0]):
        first, last = start[j], start[j + 1]
        v, up, own, out = potential[j, t], to_spikes[j, t], carried[j], to_product[j, t]
        if t == steps - 1:
            for b in range(v.shape[0]):
                own[b] += up[b] if abs(v[b] - theta) < lens else zero
        else:
            f, to_f, sliding = post[j, t], to_post[j, t], zero
            for b in range(v.shape[0]):
                slope = to_f[b] * (growth - f[b] * f[b] * per_growth)  # f = growth tanh(..)
                through = up[b] - decay * theta * own[b]
                own[b] *= decay
                own[b] += slope * per_theta + (through if abs(v[b] - theta) < lens else zero)
                sliding += slope
            to_eta[j] -= sliding
        for b in range(v.shape[0]):
            out[b] = k * own[b]
        _dot_rows(to_kept, x, now, out, column, first, last)
        for e in range(first, last):
            to_values[e] += to_kept[e]
        if t > 0:
            held, products, back, pulled = inside[t - 1], correlation[t - 1], to_dots[t - 1], zero
            for e in range(first, last):
                pulled += to_kept[e] * held[e]
            to_alpha[j] -= pulled
            for e in range(first, last):
                to_inside[e] = trace_decay * to_inside[e] - alpha * to_kept[e]
            for e in range(first, last):
                to_beta[e] += to_inside[e] * products[e]
            for e in range(first, last):
                back[e] = to_inside[e] * beta[e]
            _add_rows(to_post[j, t - 1], x, before, to_dots[t - 1], column, first, last)


@njit(cache=True, fastmath=True)
def plastic_input_gradient(to_x, to_product, post, kept, to_dots, start, column, order):  # type: ignore[no-untyped-def]
    """Add what the mask's entries send back to the inputs to to_x [n_in, steps, batch].

    start, column, order: the entries by input; order is their place in kept and to_dots.
    """
    steps = to_x.shape[1]
    for i in range(to_x.shape[0]):
        first, last = start[i], start[i + 1]
        own = np.empty(last - first, to_x.dtype)
        targets = column[first:last]
        for t in range(steps):
            for e in range(first, last):
                own[e - first] = kept[t, order[e]]
            _add_rows(to_x[i, t], to_product, t, own, targets, 0, last - first)
            if t < steps - 1:
                for e in range(first, last):
                    own[e - first] = to_dots[t, order[e]]
                _add_rows(to_x[i, t], post, t, own, targets, 0, last - first)
