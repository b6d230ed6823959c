"""Layers whose input is mostly zero: work for what is not zero, alone.

Spikes are few: of a digit's pixels an eighth spikes at a step, and less of what a convolution
passes on. A fully connected layer lists them; its currents are then sums of rows of the
transposed weights, and its weights' gradient sums of rows of the potentials' gradient. A
convolution adds its kernel at the pixels that spike. Both hold the units as the fastest axis, so
that a spike acts on a stretch of memory. Most pixels of a digit spike at nearly all steps or at
nearly none: what a sample usually shows acts once, and the steps' differences from it on top.
Results are those of the whole product, summed in another order, which does not depend on the
number of threads.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Real
from numba import njit, prange
from torch import Tensor

from brp_snn._kernels import scalars, views
from brp_snn.models import Neuron
from shared.layers import by_numba

MOST = 0.15  # entries, in shares of all inputs, from which on the whole product is faster
LEAST_UNITS = 64  # units of a fully connected layer below which it is
TILE = 128  # units at once: their weights of all inputs stay in a core's second cache
BLOCK = 64  # rows a task
LINE = 16  # inputs whose weights are turned round at once: a cache line
ABSENT, WANTED, THERE = 0, 1, 2  # of a line's weights in a product's table
PARTS = 8  # sums of a convolution's gradient that threads share out


def takes(weight: Tensor) -> bool:
    """Whether a layer with these weights can be computed here: on the CPU, of finite weights.

    Nothing would come of a weight that is no number where the input is zero, and the readout has to
    tell of it.
    """
    return by_numba(weight) and bool(weight.sum().isfinite())


class Entries(NamedTuple):
    """What is not zero in a matrix, row after row.

    Attributes:
        starts: int64 [rows + 1], where a row's entries begin.
        at: int32 [entries], their columns.
        value: [entries], their values.
    """

    starts: Tensor
    at: Tensor
    value: Tensor

    def turned(self, n_columns: int) -> "Entries":
        """Those of the transposed matrix."""
        starts = self.starts.new_zeros(n_columns + 1)
        turned = Entries(starts, torch.empty_like(self.at), torch.empty_like(self.value))
        _turn(*views(*self), *views(*turned))
        return turned


class Changes(NamedTuple):
    """Input of some steps as what it usually is and how every step differs from that.

    Attributes:
        usual: entries of what a sample shows at most of the steps, [batch, inputs].
        others: entries of what is to be added to it, [time * batch, inputs].
    """

    usual: Entries
    others: Entries


class _Usual(NamedTuple):
    """What an input is at most of its steps where that saves entries, else 0; their number.

    Attributes:
        value: [batch, *inputs].
        counts: int64 [1 + batch], 0 and how many entries every sample has.
        of_others: int64 [1 + time * batch], 0 and in how many every step differs from it.
    """

    value: Tensor
    counts: Tensor
    of_others: Tensor


def _usually(x: Real[Tensor, "time batch *inputs"]) -> _Usual:
    steps, batch = x.shape[:2]
    counts = (torch.zeros(n + 1, dtype=torch.int64) for n in (batch, steps * batch))
    found = _Usual(x.new_empty(x.shape[1:]), *counts)
    _vote(*views(x.flatten(2), found.value.flatten(1), *found[1:]))
    return found


def changes(x: Real[Tensor, "time batch inputs"], dtype: torch.dtype) -> Changes | None:
    """Input as changes; None where they are so many that the whole product is faster.

    Args:
        x: the input, floats or int8.
        dtype: of the entries' values.
    """
    usual, *counts = _usually(x)
    first, second = (count.cumsum(0) for count in counts)
    if int(first[-1]) + int(second[-1]) > MOST * x.numel():
        return None
    of_usual = _entries(usual[None], torch.zeros_like(usual), first, dtype)
    return Changes(of_usual, _entries(x, usual, second, dtype))


def _entries(x: Tensor, base: Tensor, starts: Tensor, dtype: torch.dtype) -> Entries:
    """Entries of x [time, batch, inputs] less the base [batch, inputs], all steps' rows."""
    n = int(starts[-1])
    found = Entries(starts, torch.empty(n, dtype=torch.int32), torch.empty(n, dtype=dtype))
    _list(*views(x, base, *found))
    return found


class Product:
    """The product of activity with a layer's weights, and the gradient of these.

    Weights and gradient are held for `TILE` units after another, [tiles, inputs, TILE], so that
    those of a tile are near each other; of inputs that never come, they are left out.

    Args:
        weight: [units, inputs].
    """

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight.detach()
        units, inputs = weight.shape
        self.tiles = (-(-units // TILE), inputs, TILE)
        self.table = self.weight.new_empty(self.tiles)
        self.lines = torch.full((-(-inputs // LINE),), ABSENT, dtype=torch.int8)
        self.gradient: Tensor | None = None

    def _steps(self) -> tuple[int, int]:
        """How far it is to the next tile and to the next input."""
        return self.tiles[1] * TILE, TILE

    def currents(
        self, found: Changes, bias: Float[Tensor, "units"], steps: int
    ) -> Float[Tensor, "rows units"]:
        """The currents for inputs of some steps, row after row of every step."""
        for entries in found:
            _mark(*views(entries.at, self.lines))
        _to_tiles(*views(self.weight, self.table, self.lines))
        self.lines[self.lines == WANTED] = THERE
        rows = (TILE, len(self.weight))
        usually = bias.repeat(len(found.usual.starts) - 1, 1)
        self._add(found.usual, self.table, self._steps(), usually, rows)
        out = usually.repeat(steps, 1)
        self._add(found.others, self.table, self._steps(), out, rows)
        return out

    def learn(
        self,
        found: Changes,
        delta: Float[Tensor, "time batch units"],
        total: Float[Tensor, "batch units"],
    ) -> None:
        """Take inputs, and the potentials' gradient and its sum over time, into the gradient."""
        if self.gradient is None:
            self.gradient = self.weight.new_zeros(self.tiles)
        for entries, deltas in ((found.usual, total), (found.others, delta)):
            turned = entries.turned(self.weight.shape[1])
            self._add(turned, deltas, (TILE, len(self.weight)), self.gradient, self._steps())

    def _add(
        self,
        found: Entries,
        table: Tensor,
        table_steps: tuple[int, int],
        out: Tensor,
        out_steps: tuple[int, int],
    ) -> None:
        arrays = views(*found, table.view(-1), out.view(-1))
        to = arrays[4], out_steps, len(self.weight)
        _add(*arrays[:4], table_steps, *to)  # type: ignore[call-arg]

    def settle(self, out: Float[Tensor, "units inputs"]) -> None:
        """Add the gradient to where it belongs."""
        if self.gradient is not None:
            _from_tiles(*views(self.gradient, out, self.lines))
            self.gradient = None


class Geometry(NamedTuple):
    """How a convolution lies on its input.

    Attributes:
        stride, padding: along every dimension.
        pool: window of the average pooling of its spikes, along each dimension.
        space: size of its output, along each dimension.
    """

    stride: int
    padding: int
    pool: tuple[int, ...]
    space: tuple[int, ...]


class Convolution:
    """A convolution whose units lie [height, width, channel], and its gradients.

    With a stride s, an input column meets the taps p, p + s, p + 2 s, ... of the kernel in the
    output columns that end at its own, one after the other: turned round, with units fastest, they
    are a stretch of memory, as are the potentials that they are added to.

    Args:
        weight: [units, channels, *kernel], of one or two dimensions.
        bias: [units].
        geometry: of the convolution.
        neuron: constants of the units.
        lateral: weights [units, side, side] of the units' own spikes of the step before, a
            depth-wise convolution with an odd kernel, of two dimensions; None for none.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        geometry: Geometry,
        neuron: Neuron,
        lateral: Tensor | None = None,
    ) -> None:
        self.weight, self.bias, self.neuron = weight.detach(), bias.detach(), neuron
        stride, padding, pool, space = geometry
        units, channels, *kernel = weight.shape
        self.flat = len(kernel) == 1
        height, width = (1, *kernel) if self.flat else kernel
        self.taps = (units, channels, height, width)
        self.of_phase = -(-width // stride)
        self.padding = (0 if self.flat else padding, padding)
        self.strides = (1 if self.flat else stride, stride)
        self.pool = (1, *pool) if self.flat else pool
        self.space = (1, *space) if self.flat else space
        self.table = self._turned(self.weight)
        taps = weight.new_zeros(units, 0, 0) if lateral is None else lateral.detach()
        self.lateral = taps.permute(1, 2, 0).clone(memory_format=torch.contiguous_format)

    def _turned(self, weight: Tensor) -> Tensor:
        """Weights as [channels, rows, phases, taps of a phase from the last on, units]."""
        units, channels, height, width = self.taps
        stride, n = self.strides[1], self.of_phase
        padded = weight.new_zeros(units, channels, height, n * stride)
        padded[..., :width] = weight.view(self.taps)
        phases = padded.view(units, channels, height, n, stride)
        return phases.flip(3).permute(1, 2, 4, 3, 0).contiguous()

    def _back(self, table: Tensor) -> Tensor:
        """The weights' gradient from that of such a table."""
        phases = table.permute(4, 0, 1, 3, 2).flip(3)
        return phases.flatten(3)[..., : self.taps[3]].reshape(self.weight.shape)

    def _images(self, x: Tensor) -> Tensor:
        return x.unsqueeze(3) if self.flat else x

    def integrate(self, x: Tensor, before: Tensor, potential: Tensor, out: Tensor) -> None:
        """Potentials and pooled spikes.

        Args:
            x: [time, batch, channels, *space].
            before: [batch, 1, height * width * units], potentials of the step before the first;
                nothing comes sideways of their spikes.
            potential: [time, batch, 1, height * width * units], takes the potentials.
            out: [time, batch, units, *pooled space], takes the pooled spikes.
        """
        units, n = self.taps[0], x.shape[:2]
        images = self._images(x).contiguous()
        arrays = (
            images,
            _usually(images).value,
            self.table,
            self.bias,
            self.lateral,
            before.view(n[1], *self.space, units),
            potential.view(*n, *self.space, units),
            self._images(out),
        )
        constants = scalars(x, self.neuron.threshold, self.neuron.decay)
        sizes = self.strides, self.padding, self.pool
        _convolve(*views(*arrays), *constants, *sizes)  # type: ignore[call-arg]

    def chain(self, potential: Tensor, signal: Tensor) -> Tensor:
        """`_kernels.chain` for potentials as here, and the gradient of the lateral weights.

        Args:
            potential: [time, batch, 1, height * width * units]; the gradient takes their place.
            signal: [time, batch, units, *pooled space], gradient of the pooled spikes.
        """
        n = potential.shape[:2]
        constants = scalars(potential, self.neuron.threshold, self.neuron.lens, self.neuron.decay)
        own = potential.view(*n, *self.space, self.taps[0])
        last = self._images(signal).movedim(2, 4).contiguous()
        turned = self.lateral.flip(0, 1)
        found = turned.new_zeros(n[1], *turned.shape)
        _chain(*views(own, last, turned, found), *constants, *self.pool)
        return found.sum(0).permute(2, 0, 1)

    def learn(self, x: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of weights and bias.

        Args:
            x: [time, batch, channels, *space], inputs.
            delta: [time, batch, 1, height * width * units], the potentials' gradient.
        """
        sums, biases = self._sums()
        sizes = self.strides, self.padding
        _learn(*self._presented(x, delta), *views(sums, biases), *sizes)  # type: ignore[call-arg]
        return self._back(sums.sum(0)), biases.sum(0)

    def teach_and_learn(
        self, x: Tensor, potential: Tensor, signal: Tensor, after: Tensor
    ) -> tuple[Tensor, Tensor]:
        """`_kernels.teach` and `learn` in one, which leaves the potentials as they are.

        Args:
            x: as in `learn`.
            potential: [time, batch, 1, height * width * units].
            signal: [batch, 1, height * width * units], as in `_kernels.teach`.
            after: the same.
        """
        sums, biases = self._sums()
        neuron = self.neuron
        constants = scalars(x, neuron.threshold, neuron.lens, neuron.decay)
        arrays = self._presented(x, potential) + views(signal, after, sums, biases)
        sizes = self.strides, self.padding
        _teach_and_learn(*arrays, *constants, *sizes)  # type: ignore[call-arg]
        return self._back(sums.sum(0)), biases.sum(0)

    def input_gradient(self, delta: Tensor, weight: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Gradient of the inputs, channels fastest in memory.

        Args:
            delta: [time, batch, 1, height * width * units], the potentials' gradient.
            weight: [units, channels, *kernel], what it comes back by.
            shape: (channels, *space) of the input.
        """
        n, (channels, *space) = delta.shape[:2], shape
        last = (1, *space) if self.flat else tuple(space)
        to_x = delta.new_zeros(*n, *last, channels)
        table = weight.detach().view(self.taps).permute(0, 2, 3, 1).contiguous()
        own = delta.view(*n, *self.space, self.taps[0])
        sizes = self.strides, self.padding
        _send_back(*views(own, table, to_x), *sizes)  # type: ignore[call-arg]
        found = to_x.movedim(4, 2)
        return found.squeeze(3) if self.flat else found

    def _sums(self) -> tuple[Tensor, Tensor]:
        """Parts of the gradients of table and bias."""
        table = self.table.new_zeros(PARTS, *self.table.shape)
        return table, self.table.new_zeros(PARTS, self.taps[0])

    def _presented(self, x: Tensor, of_units: Tensor) -> list[Any]:
        """Inputs, what they usually are, and units as the kernels take them."""
        images = self._images(x).contiguous()
        units = of_units.view(*x.shape[:2], *self.space, self.taps[0])
        return views(images, _usually(images).value, units)

    def last_channels(self, signal: Tensor) -> Tensor:
        """Units' values [batch, units, *space] as [batch, 1, height * width * units]."""
        return signal.movedim(1, -1).reshape(len(signal), 1, -1)


@njit(parallel=True, cache=True)
def _vote(x, found, counts, of_others):  # type: ignore[no-untyped-def]
    """The value of most steps, which the others cannot outvote; 0 where that is as good."""
    n_steps, n_samples, n_inputs = x.shape
    zero = x.dtype.type(0)
    for m in prange(n_samples):
        votes, best = np.zeros(n_inputs, np.int32), found[m]
        best[:] = zero
        for t in range(n_steps):
            for k in range(n_inputs):
                same = x[t, m, k] == best[k]
                best[k] = x[t, m, k] if votes[k] == 0 else best[k]
                votes[k] += 1 if same or votes[k] == 0 else -1
        votes[:] = 0
        for t in range(n_steps):
            for k in range(n_inputs):
                votes[k] += np.int32(x[t, m, k] == best[k]) - np.int32(x[t, m, k] == zero)
        for k in range(n_inputs):
            best[k] = best[k] if votes[k] > 1 else zero  # it is an entry, too
            counts[m + 1] += best[k] != zero
        for t in range(n_steps):
            n = 0
            for k in range(n_inputs):
                n += x[t, m, k] != best[k]
            of_others[t * n_samples + m + 1] = n


@njit(parallel=True, cache=True)
def _list(x, base, starts, at, value):  # type: ignore[no-untyped-def]
    n_steps, n_samples, n_inputs = x.shape
    for m in prange(n_samples):
        less = base[m]
        differs = np.zeros(n_inputs, np.bool_)
        for t in range(n_steps):
            row = x[t, m]
            for k in range(n_inputs):
                differs[k] |= row[k] != less[k]
        columns = np.nonzero(differs)[0].astype(np.int32)  # few of a digit's pixels change at all
        found = np.empty(len(columns) + 1, np.int32)
        for t in range(n_steps):
            row = x[t, m]
            n = 0
            for column in columns:
                found[n] = column  # without a branch, which the processor could not foresee
                n += row[column] != less[column]
            first = starts[t * n_samples + m]
            for k in range(n):
                at[first + k] = found[k]
                value[first + k] = row[found[k]] - less[found[k]]


@njit(cache=True)
def _turn(starts, at, value, turned_starts, turned_at, turned_value):  # type: ignore[no-untyped-def]
    """The entries column after column, rows rising within each."""
    for k in at:
        turned_starts[k + 1] += 1
    for k in range(1, len(turned_starts)):
        turned_starts[k] += turned_starts[k - 1]
    place = turned_starts[:-1].copy()
    for i in range(len(starts) - 1):
        for n in range(starts[i], starts[i + 1]):
            to = place[at[n]]
            turned_at[to] = i
            turned_value[to] = value[n]
            place[at[n]] += 1


@njit(cache=True)
def _place(base, step, row):  # type: ignore[no-untyped-def]
    return base + step * np.uint64(row)  # unsigned: numba looks whether others are negative


@njit(parallel=True, cache=True, fastmath={"contract"})
def _add(starts, at, value, table, table_steps, out, out_steps, units):  # type: ignore[no-untyped-def]
    """Add to every row of `out` the rows of the table that its entries name, times their values.

    Both are flat; `..._steps` is how far it is to the next tile and to the next row.
    """
    n_rows = len(starts) - 1
    blocks = (n_rows + BLOCK - 1) // BLOCK
    for task in prange(blocks * ((units + TILE - 1) // TILE)):
        tile, first = task // blocks, task % blocks * BLOCK
        width = np.uint64(min(TILE, units - tile * TILE))
        base, step = np.uint64(tile * table_steps[0]), np.uint64(table_steps[1])
        for i in range(first, min(first + BLOCK, n_rows)):
            to = np.uint64(tile * out_steps[0] + i * out_steps[1])
            n, end = starts[i], starts[i + 1]
            while n + 8 <= end:
                p0, p1 = _place(base, step, at[n]), _place(base, step, at[n + 1])
                p2, p3 = _place(base, step, at[n + 2]), _place(base, step, at[n + 3])
                p4, p5 = _place(base, step, at[n + 4]), _place(base, step, at[n + 5])
                p6, p7 = _place(base, step, at[n + 6]), _place(base, step, at[n + 7])
                v0, v1, v2, v3 = value[n], value[n + 1], value[n + 2], value[n + 3]
                v4, v5, v6, v7 = value[n + 4], value[n + 5], value[n + 6], value[n + 7]
                for j in range(width):
                    low, high = v0 * table[p0 + j], v4 * table[p4 + j]
                    low += v1 * table[p1 + j]
                    high += v5 * table[p5 + j]
                    low += v2 * table[p2 + j]
                    high += v6 * table[p6 + j]
                    low += v3 * table[p3 + j]
                    high += v7 * table[p7 + j]
                    out[to + j] += low + high
                n += 8
            while n < end:
                p0, v0 = _place(base, step, at[n]), value[n]
                for j in range(width):
                    out[to + j] += v0 * table[p0 + j]
                n += 1


@njit(cache=True)
def _mark(at, lines):  # type: ignore[no-untyped-def]
    for k in at:
        if lines[k // LINE] == ABSENT:
            lines[k // LINE] = WANTED


@njit(parallel=True, cache=True)
def _to_tiles(matrix, tiles, lines):  # type: ignore[no-untyped-def]
    n_units, n_inputs = matrix.shape
    for tile in prange(len(tiles)):
        for line in range(len(lines)):
            if lines[line] == WANTED:
                for j in range(min(TILE, n_units - tile * TILE)):
                    for k in range(line * LINE, min((line + 1) * LINE, n_inputs)):
                        tiles[tile, k, j] = matrix[tile * TILE + j, k]


@njit(parallel=True, cache=True)
def _from_tiles(tiles, matrix, lines):  # type: ignore[no-untyped-def]
    n_units, n_inputs = matrix.shape
    for tile in prange(len(tiles)):
        for line in range(len(lines)):
            if lines[line] != ABSENT:
                for j in range(min(TILE, n_units - tile * TILE)):
                    for k in range(line * LINE, min((line + 1) * LINE, n_inputs)):
                        matrix[tile * TILE + j, k] += tiles[tile, k, j]


@njit(cache=True)
def _stretch(column, padding, stride, n_taps, n_out):  # type: ignore[no-untyped-def]
    """Phase of an input column, the output columns that it acts on, and the first one's tap."""
    at = column + padding
    first = at // stride - n_taps + 1
    start = min(max(first, 0), n_out)
    stop = max(min(first + n_taps, n_out), start)
    return at % stride, start, stop, start - first


# Whole arrays by one index, unsigned as in `_place`: to make a view costs more than a stretch.
@njit(cache=True)
def _add_stretch(value, table, at, out, to, n):  # type: ignore[no-untyped-def]
    """Add n entries of a table from one place on, times the value, to those of another array."""
    at, to = np.uint64(at), np.uint64(to)
    for k in range(np.uint64(n)):
        out[to + k] += value * table[at + k]


@njit(cache=True)
def _spread(image, base, table, out, strides, padding):  # type: ignore[no-untyped-def]
    """Add the convolution of what an image has beyond its base to `out`, [height, width, units]."""
    high, wide, units = out.shape
    _, n_rows, n_phases, n_taps, _ = table.shape
    weights, sums = table.reshape(-1), out.reshape(-1)
    for c in range(image.shape[0]):
        for h in range(image.shape[1]):
            for w in range(image.shape[2]):
                if image[c, h, w] == base[c, h, w]:
                    continue
                value = image[c, h, w] - base[c, h, w]
                phase, start, stop, tap = _stretch(w, padding[1], strides[1], n_taps, wide)
                n = (stop - start) * units
                for i in range((h + padding[0]) % strides[0], n_rows, strides[0]):
                    a = (h + padding[0] - i) // strides[0]
                    if 0 <= a < high:
                        at = (((c * n_rows + i) * n_phases + phase) * n_taps + tap) * units
                        _add_stretch(value, weights, at, sums, (a * wide + start) * units, n)


@njit(cache=True)
def _collect(image, base, delta, table, strides, padding):  # type: ignore[no-untyped-def]
    """Add to the table the gradient of its weights for a `delta` of what `_spread` adds to."""
    high, wide, units = delta.shape
    _, n_rows, n_phases, n_taps, _ = table.shape
    weights, deltas = table.reshape(-1), delta.reshape(-1)
    for c in range(image.shape[0]):
        for h in range(image.shape[1]):
            for w in range(image.shape[2]):
                if image[c, h, w] == base[c, h, w]:
                    continue
                value = image[c, h, w] - base[c, h, w]
                phase, start, stop, tap = _stretch(w, padding[1], strides[1], n_taps, wide)
                n = (stop - start) * units
                for i in range((h + padding[0]) % strides[0], n_rows, strides[0]):
                    a = (h + padding[0] - i) // strides[0]
                    if 0 <= a < high:
                        at = (((c * n_rows + i) * n_phases + phase) * n_taps + tap) * units
                        _add_stretch(value, deltas, (a * wide + start) * units, weights, at, n)


# A lateral convolution is depth-wise, and its units lie fastest: the taps of all places of a row,
# side by side, are as long as the row that they meet. Activity has a border of zeros.


@njit(cache=True)
def _border(activity, reach):  # type: ignore[no-untyped-def]
    """Room for [height, width, units] with a border, a row after the other."""
    height, width, units = activity.shape
    return np.zeros((height + 2 * reach, (width + 2 * reach) * units), activity.dtype)


@njit(cache=True)
def _spikes_inside(potential, threshold, bordered, reach):  # type: ignore[no-untyped-def]
    height, width, units = potential.shape
    zero, one = potential.dtype.type(0), potential.dtype.type(1)
    for h in range(height):
        row = potential[h].reshape(-1)
        to = bordered[h + reach, reach * units : (reach + width) * units]
        for k in range(len(to)):
            to[k] = one if row[k] > threshold else zero


@njit(cache=True)
def _inside(activity, bordered, reach):  # type: ignore[no-untyped-def]
    height, width, units = activity.shape
    for h in range(height):
        bordered[h + reach, reach * units : (reach + width) * units] = activity[h].reshape(-1)


@njit(cache=True)
def _widened(taps, width):  # type: ignore[no-untyped-def]
    """Taps [side, side, units] as they are at all places of a row, [side, side, width * units]."""
    side, _, units = taps.shape
    wide = np.empty((side, side, width * units), taps.dtype)
    for w in range(width):
        wide[:, :, w * units : (w + 1) * units] = taps
    return wide


@njit(cache=True)
def _narrowed(wide, taps):  # type: ignore[no-untyped-def]
    """Add what all places of a row have to the taps."""
    units = taps.shape[2]
    for w in range(wide.shape[2] // units):
        taps += wide[:, :, w * units : (w + 1) * units]


@njit(cache=True, fastmath={"contract"})
def _add_sideways(bordered, wide, out):  # type: ignore[no-untyped-def]
    """out[h, w] += sum over i, j of taps[i, j] * bordered[h + i, w + j], units by units.

    Args:
        bordered: [height + side - 1, (width + side - 1) * units].
        wide: taps as `_widened` gives them.
        out: [height, width, units].
    """
    side, units = len(wide), out.shape[2]
    for i in range(side):
        for h in range(len(out)):
            row, x = out[h].reshape(-1), bordered[h + i]
            j = 0
            while j + 5 <= side:  # five taps a pass: `out` is read and written once
                a, b, c = wide[i, j], wide[i, j + 1], wide[i, j + 2]
                d, e = wide[i, j + 3], wide[i, j + 4]
                xa, xb, xc = x[j * units :], x[(j + 1) * units :], x[(j + 2) * units :]
                xd, xe = x[(j + 3) * units :], x[(j + 4) * units :]
                for k in range(len(row)):
                    total = row[k] + a[k] * xa[k]
                    total += b[k] * xb[k]
                    total += c[k] * xc[k]
                    total += d[k] * xd[k]
                    row[k] = total + e[k] * xe[k]
                j += 5
            while j < side:
                a, xa = wide[i, j], x[j * units :]
                for k in range(len(row)):
                    row[k] += a[k] * xa[k]
                j += 1


@njit(cache=True, fastmath={"contract"})
def _collect_sideways(bordered, delta, wide):  # type: ignore[no-untyped-def]
    """Add to the taps their gradient for a `delta` of what `_add_sideways` adds to."""
    side, units, h = len(wide), delta.shape[2], 0
    while h + 4 <= len(delta):  # four rows a pass: taps are read and written once
        p, q = delta[h].reshape(-1), delta[h + 1].reshape(-1)
        r, s = delta[h + 2].reshape(-1), delta[h + 3].reshape(-1)
        for i in range(side):
            for j in range(side):
                taps = wide[i, j]
                xp, xq = bordered[h + i, j * units :], bordered[h + i + 1, j * units :]
                xr, xs = bordered[h + i + 2, j * units :], bordered[h + i + 3, j * units :]
                for k in range(len(p)):
                    total = taps[k] + p[k] * xp[k]
                    total += q[k] * xq[k]
                    total += r[k] * xr[k]
                    taps[k] = total + s[k] * xs[k]
        h += 4
    while h < len(delta):
        row = delta[h].reshape(-1)
        for i in range(side):
            for j in range(side):
                taps, x = wide[i, j], bordered[h + i, j * units :]
                for k in range(len(row)):
                    taps[k] += row[k] * x[k]
        h += 1


@njit(cache=True)
def _pool(potential, threshold, out, pool):  # type: ignore[no-untyped-def]
    """Average the spikes of [height, width, units] to [units, height, width]."""
    units, high, wide = out.shape
    zero, one = potential.dtype.type(0), potential.dtype.type(1)
    scale = potential.dtype.type(1.0 / (pool[0] * pool[1]))
    sums = np.empty(potential.shape[1] * units, potential.dtype)
    for a in range(high):
        sums[:] = zero
        for i in range(a * pool[0], (a + 1) * pool[0]):
            row = potential[i].reshape(-1)
            for k in range(len(sums)):
                sums[k] += one if row[k] > threshold else zero
        for u in range(units):
            for b in range(wide):
                n = zero
                for j in range(b * pool[1], (b + 1) * pool[1]):
                    n += sums[j * units + u]
                out[u, a, b] = n * scale


@njit(parallel=True, cache=True)
def _convolve(x, base, table, bias, lateral, before, potential, pooled, threshold, decay, strides, padding, pool):  # type: ignore[no-untyped-def]  # fmt: skip  # noqa: E501
    n_steps, n_samples, high, wide, units = potential.shape
    zero = potential.dtype.type(0)
    for m in prange(n_samples):
        reach, taps = len(lateral) // 2, _widened(lateral, wide)
        shown = _border(potential[0, m], reach)
        usual = np.empty((high, wide, units), potential.dtype)
        usual[:] = bias
        _spread(base[m], np.zeros_like(base[m]), table, usual, strides, padding)
        currents = usual.reshape(-1)
        last = before[m].reshape(-1)
        for t in range(n_steps):
            own = potential[t, m].reshape(-1)
            for k in range(len(own)):
                own[k] = decay * (zero if last[k] > threshold else last[k]) + currents[k]
            _spread(x[t, m], base[m], table, potential[t, m], strides, padding)
            if t > 0 and len(lateral):
                _spikes_inside(potential[t - 1, m], threshold, shown, reach)
                _add_sideways(shown, taps, potential[t, m])
            _pool(potential[t, m], threshold, pooled[t, m], pool)
            last = own


@njit(cache=True)
def _any(values):  # type: ignore[no-untyped-def]
    """Whether one is not zero. Once a sample is learned, all of its gradient often is."""
    for value in values.reshape(-1):  # noqa: SIM110
        if value != 0:
            return True
    return False


@njit(cache=True)
def _sum_over_space(total, bias):  # type: ignore[no-untyped-def]
    high, wide, units = total.shape
    for a in range(high):
        for b in range(wide):
            for u in range(units):
                bias[u] += total[a, b, u]


@njit(parallel=True, cache=True)
def _learn(x, base, delta, sums, biases, strides, padding):  # type: ignore[no-untyped-def]
    n_steps, n_samples, high, wide, units = delta.shape
    n_parts = len(sums)
    for part in prange(n_parts):
        for m in range(part * n_samples // n_parts, (part + 1) * n_samples // n_parts):
            total = np.zeros((high, wide, units), delta.dtype)
            totals, anything = total.reshape(-1), False
            for t in range(n_steps):
                own = delta[t, m].reshape(-1)
                if not _any(own):
                    continue
                anything = True
                for k in range(len(own)):
                    totals[k] += own[k]
                _collect(x[t, m], base[m], delta[t, m], sums[part], strides, padding)
            if anything:
                _collect(base[m], np.zeros_like(base[m]), total, sums[part], strides, padding)
                _sum_over_space(total, biases[part])


@njit(parallel=True, cache=True)
def _teach_and_learn(x, base, potential, signal, after, sums, biases, threshold, lens, decay, strides, padding):  # type: ignore[no-untyped-def]  # fmt: skip  # noqa: E501
    n_steps, n_samples, high, wide, units = potential.shape
    n_parts = len(sums)
    zero = potential.dtype.type(0)
    for part in prange(n_parts):
        for m in range(part * n_samples // n_parts, (part + 1) * n_samples // n_parts):
            total = np.zeros((high, wide, units), potential.dtype)
            totals, g, later = total.reshape(-1), signal[m].reshape(-1), after[m].reshape(-1)
            delta = after[m].reshape(high, wide, units)
            for t in range(n_steps - 1, -1, -1):
                v = potential[t, m].reshape(-1)
                for k in range(len(v)):
                    carried = decay * later[k]
                    kept = zero if v[k] > threshold else carried
                    near = abs(v[k] - threshold) < lens
                    later[k] = kept + (g[k] - v[k] * carried if near else zero)
                    totals[k] += later[k]
                _collect(x[t, m], base[m], delta, sums[part], strides, padding)
            _collect(base[m], np.zeros_like(base[m]), total, sums[part], strides, padding)
            _sum_over_space(total, biases[part])


@njit(parallel=True, cache=True)
def _chain(potential, signal, turned, to_lateral, threshold, lens, decay, ph, pw):  # type: ignore[no-untyped-def]
    n_steps, n_samples, height, width, units = potential.shape
    _, _, high, wide, _ = signal.shape
    zero = potential.dtype.type(0)
    scale = potential.dtype.type(1.0 / (ph * pw))
    for m in prange(n_samples):
        after = np.zeros((height, width, units), potential.dtype)
        beside = np.zeros((height, width, units), potential.dtype)
        reach, taps = len(turned) // 2, _widened(turned, width)
        shown, found = _border(after, reach), np.zeros_like(taps)
        anything = False
        for t in range(n_steps - 1, -1, -1):
            anything = anything or _any(signal[t, m])
            if not anything:
                potential[t, m] = zero
                continue
            for h in range(height):
                for w in range(width):
                    g = signal[t, m, min(h // ph, high - 1), min(w // pw, wide - 1)]
                    share = scale if h < high * ph and w < wide * pw else zero
                    v, later, sideways = potential[t, m, h, w], after[h, w], beside[h, w]
                    for u in range(units):
                        carried = decay * later[u]
                        kept = zero if v[u] > threshold else carried
                        near = abs(v[u] - threshold) < lens
                        spiked = g[u] * share + sideways[u]
                        later[u] = kept + (spiked - v[u] * carried if near else zero)
                        v[u] = later[u]
            if t > 0 and len(turned):
                beside[:] = 0
                _inside(after, shown, reach)
                _add_sideways(shown, taps, beside)
                _spikes_inside(potential[t - 1, m], threshold, shown, reach)
                _collect_sideways(shown, after, found)
        _narrowed(found, to_lateral[m])


@njit(parallel=True, cache=True)
def _send_back(delta, table, out, strides, padding):  # type: ignore[no-untyped-def]
    """Add the gradient of a convolution's input [.., height, width, channels] to `out`.

    The table is [units, rows, columns, channels]: what a unit sends back is a stretch a row.
    """
    n_steps, n_samples, high, wide, units = delta.shape
    _, n_rows, n_columns, channels = table.shape
    for m in prange(n_samples):
        weights = table.reshape(-1)
        for t in range(n_steps):
            deltas, sums = delta[t, m].reshape(-1), out[t, m].reshape(-1)
            tall, broad = out.shape[2:4]
            for place in range(high * wide):
                h, w = place // wide, place % wide
                first = w * strides[1] - padding[1]
                start, stop = max(first, 0), min(first + n_columns, broad)
                n = max(stop - start, 0) * channels
                for u in range(units):
                    value = deltas[place * units + u]
                    if value == 0:
                        continue
                    for i in range(n_rows):
                        a = h * strides[0] + i - padding[0]
                        if 0 <= a < tall:
                            at = ((u * n_rows + i) * n_columns + start - first) * channels
                            _add_stretch(
                                value, weights, at, sums, (a * broad + start) * channels, n
                            )
