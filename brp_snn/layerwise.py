"""Spiking networks layer by layer: many steps of a layer in one product, no graph across layers.

`gradients` gives what autograd gives through `models.NetworkBuilder`, faster and in less memory.

Where the hidden layers are taught by something that is known before the output is (BRP, DRTP,
shallow), a long presentation is a stream of short pieces. A layer's gradient at a step,

    dV[t] = surrogate(V[t]) * (signal - decay * V[t] * dV[t+1]) + decay * (1 - s[t]) * dV[t+1],

forgets later steps by a factor of at most decay * max(1, threshold + lens, 1 - threshold + lens) a
step, so that a piece's weight gradient is exact to rounding as soon as a few later steps are known:
10 for the paper's decay of 0.2 in float32. Older pieces are dropped, and memory does not grow with
the number of steps. The output layer, whose gradient waits for the readout, keeps for every sample
the eligibility of its weights, sum_t (dV[t] for a signal of 1) x[t].

The other modes keep all steps until the readout is there, and so do all modes in a presentation
that is no longer than what a stream would hold at once.

On the CPU layers leave out the work on inputs that are zero, see `_sparse`.
"""

import math
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Real
from torch import Tensor

from brp_snn import _kernels, _sparse
from brp_snn.function import LOCAL
from brp_snn.models import (
    Block,
    FC_block,
    Network,
    Neuron,
    RateNetwork,
    own_precision,
    told_by,
)

Draw = Callable[[int, int], Real[Tensor, "time batch *shape"]]
"""The input of steps `start` to `stop`, drawn once each and in order: floats, or spikes as int8,
which a layer that lists them reads in less time."""

Loss = Callable[[Tensor, Tensor], Tensor]
"""Mean loss of a readout [batch, classes] and targets [batch, classes]."""

PIECE = 10  # steps at once: enough for fast products, with few that later pieces share


class Outcome(NamedTuple):
    """Loss and readout [batch, classes] of a presentation, without a graph."""

    loss: Tensor
    output: Tensor


class _Piece(NamedTuple):
    """Some steps of a layer.

    Attributes:
        x: its input [time, batch, ...]; [time, batch, 0] where a hidden layer's changes tell it.
        potential: its potentials [time, rows, ...], later their gradient.
        changes: the input's, where the layer makes use of that.
    """

    x: Tensor
    potential: Tensor
    changes: _sparse.Changes | None


def horizon(neuron: Neuron, dtype: torch.dtype) -> float:
    """Steps after which a gradient is forgotten in a dtype's precision; infinite if it never is."""
    factor = neuron.decay * max(
        1.0, neuron.threshold + neuron.lens, 1 - neuron.threshold + neuron.lens
    )
    if factor == 0:
        return 1
    return (
        math.ceil(math.log(torch.finfo(dtype).eps) / math.log(factor)) if factor < 1 else math.inf
    )


def window(steps: int, neuron: Neuron, dtype: torch.dtype) -> int:
    """Steps that are held at once at most where the teaching signal is known from the start."""
    reach = min(horizon(neuron, dtype), steps)
    return min(steps, PIECE * (1 - int(-reach // PIECE)))


class _Layer:
    """A block and its state in one presentation; its kinds say how currents come about."""

    def __init__(self, block: Block, neuron: Neuron, batch: int) -> None:
        self.block, self.neuron, self.batch = block, neuron, batch
        self.pool = _two_numbers(block.pool)
        self.rows = self._rows()
        self.last = block.weight.new_zeros(self.rows)
        self.mask = block.mask(batch)
        self.learns = block.weight.requires_grad
        self.kept: deque[_Piece] = deque()

    def _rows(self) -> tuple[int, int, int]:
        """Shape of the units of all samples, as the kernels take them."""
        height, width = (1,) * (2 - len(self.block.unit_shape[1:])) + self.block.unit_shape[1:]
        return self.batch * self.block.layer.units, height, width

    def run(self, x: Tensor, keep: bool) -> Tensor:
        """Outputs [time, batch, *out] for inputs [time, batch, ...]."""
        x = self._taken(x)
        potential, out, changes = self._integrated(x)
        self.last = potential[-1].clone()
        if keep:
            # The output layer's eligibility takes the input itself.
            is_told = changes is not None and not self.block.is_output
            shown = x.new_empty(*x.shape[:2], 0) if is_told else x.to(self.last.dtype)
            self.kept.append(_Piece(shown, potential, changes))
        out = out.view(len(x), self.batch, *self.block.out_shape)
        return out if self.mask is None else out.mul_(self.mask)

    def _taken(self, x: Tensor) -> Tensor:
        """The input in a type that the layer takes."""
        return x.to(self.last.dtype)

    def _integrated(self, x: Tensor) -> tuple[Tensor, Tensor, _sparse.Changes | None]:
        """Potentials, pooled spikes and changes of the input."""
        potential, changes = self._currents(x)
        height, width = self.rows[1] // self.pool[0], self.rows[2] // self.pool[1]
        out = potential.new_empty(len(x), self.rows[0], height, width)
        _kernels.integrate(potential, self.last, out, self.neuron, self.pool)
        return potential, out, changes

    def _currents(self, x: Tensor) -> tuple[Tensor, _sparse.Changes | None]:
        """Currents [time, *rows] of all units, and changes of the input."""
        raise NotImplementedError

    def signal(self, targets: Tensor, output: Tensor | None) -> Tensor:
        """What the hidden layer's spikes are taught by, [rows, height, width]."""
        return self.block.hook.signal(targets, output).reshape(self.rows)

    def chain(self, potential: Tensor, to_output: Tensor) -> None:
        """Put the potentials' gradient in their place, for that of the outputs."""
        if self.mask is not None:
            to_output = to_output * self.mask
        rows = (len(potential), self.rows[0], -1, self.rows[2] // self.pool[1])
        _kernels.chain(potential, to_output.reshape(rows), self.neuron, self.pool)

    def learn(self, piece: _Piece, signal: Tensor, after: Tensor) -> None:
        """Add to the weights' gradients for a piece whose spikes have the signal for a gradient.

        Args:
            piece: its potentials are not used any more.
            signal: as in `_kernels.teach`.
            after: as there.
        """
        _kernels.teach(piece.potential, signal, after, self.neuron)
        self.add_weight_gradient(piece)

    def add_weight_gradient(self, piece: _Piece) -> None:
        """Add to the weights' gradients for a piece with the potentials' gradient."""
        raise NotImplementedError

    def settle(self) -> None:
        """Bring to the weights' gradients what is kept elsewhere until the end."""

    def input_gradient(self, delta: Tensor, x: Tensor) -> Tensor:
        """Gradient of the inputs [time, batch, ...] from that of the potentials."""
        raise NotImplementedError


def _gradients(block: Block) -> tuple[Tensor, Tensor]:
    """Those of weights and bias, which are there."""
    assert block.weight.grad is not None
    assert block.bias.grad is not None
    return block.weight.grad, block.bias.grad


class _Connected(_Layer):
    """Fully connected units."""

    def __init__(self, block: Block, neuron: Neuron, batch: int) -> None:
        super().__init__(block, neuron, batch)
        is_wide = block.layer.units >= _sparse.LEAST_UNITS
        self.product = (
            _sparse.Product(block.weight) if is_wide and _sparse.takes(block.weight) else None
        )

    def _rows(self) -> tuple[int, int, int]:
        return self.batch, 1, self.block.layer.units

    def _taken(self, x: Tensor) -> Tensor:
        return x if self.product and x.dtype == torch.int8 else super()._taken(x)

    def _currents(self, x: Tensor) -> tuple[Tensor, _sparse.Changes | None]:
        block, flat = self.block, x.flatten(2).contiguous()
        changes = _sparse.changes(flat, block.weight.dtype) if self.product else None
        if self.product is None or changes is None:
            rows = flat.flatten(0, 1).to(block.weight.dtype)
            found = torch.addmm(block.bias, rows, block.weight.T)
        else:
            found = self.product.currents(changes, block.bias, len(x))
        return found.view(len(x), *self.rows), changes

    def add_weight_gradient(self, piece: _Piece) -> None:
        to_weight, to_bias = _gradients(self.block)
        deltas = piece.potential.view(*piece.x.shape[:2], -1)
        if self.product is not None and piece.changes is not None:
            total = deltas.sum(0)
            self.product.learn(piece.changes, deltas, total)
            to_bias.add_(total.sum(0))
            return
        for start in range(0, len(deltas), PIECE):
            x, delta = (part[start : start + PIECE].flatten(0, 1) for part in (piece.x, deltas))
            to_weight.addmm_(delta.T, x.flatten(1))
            to_bias.add_(delta.sum(0))

    def settle(self) -> None:
        if self.product is not None and self.learns:
            self.product.settle(_gradients(self.block)[0])

    def input_gradient(self, delta: Tensor, x: Tensor) -> Tensor:
        deltas = delta.reshape(-1, *self.block.unit_shape)
        return (deltas @ self.block.backward_weight).view(*x.shape[:2], -1)


class _Convolved(_Layer):
    """A convolution by torch."""

    def _currents(self, x: Tensor) -> tuple[Tensor, _sparse.Changes | None]:
        block = self.block
        potential = x.new_empty(len(x), *self.rows)
        size = _steps_of_a_convolution(x.device)
        for start in range(0, len(x), size):
            currents, inputs = potential[start : start + size], x[start : start + size]
            found = _convolve(inputs.flatten(0, 1), block.weight, block.bias, block)
            currents.copy_(found.view_as(currents))
        return potential, None

    def add_weight_gradient(self, piece: _Piece) -> None:
        block, size = self.block, _steps_of_a_convolution(piece.x.device)
        to_weight, to_bias = _gradients(block)
        for start in range(0, len(piece.x), size):  # its work space is as large as these
            inputs = piece.x[start : start + size].flatten(0, 1)
            deltas = self._deltas(piece.potential[start : start + size])
            _, weight, bias = _convolution_backward(
                deltas, inputs, block.weight, block, (False, True, True)
            )
            to_weight.add_(weight)
            to_bias.add_(bias)

    def _deltas(self, delta: Tensor) -> Tensor:
        """The potentials' gradient [time, *rows] as [n, units, *space]."""
        return delta.reshape(-1, *self.block.unit_shape)

    def input_gradient(self, delta: Tensor, x: Tensor) -> Tensor:
        to_input, _, _ = _convolution_backward(
            self._deltas(delta),
            x.flatten(0, 1),
            self.block.backward_weight,
            self.block,
            (True, False, False),
        )
        return to_input.contiguous().view_as(x)


class _SparseConvolved(_Layer):
    """A convolution by the pixels that are not zero; its units lie [height, width, channel]."""

    def __init__(self, block: Block, neuron: Neuron, batch: int) -> None:
        super().__init__(block, neuron, batch)
        layer = block.layer
        geometry = _sparse.Geometry(
            layer.stride, layer.padding, block.pool, tuple(block.unit_shape[1:])
        )
        self.convolution = _sparse.Convolution(block.weight, block.bias, geometry, neuron)

    def _rows(self) -> tuple[int, int, int]:
        return self.batch, 1, math.prod(self.block.unit_shape)

    def _integrated(self, x: Tensor) -> tuple[Tensor, Tensor, _sparse.Changes | None]:
        potential = x.new_empty(len(x), *self.rows)
        out = x.new_empty(len(x), self.batch, *self.block.out_shape)
        self.convolution.integrate(x, self.last, potential, out)
        return potential, out, None

    def signal(self, targets: Tensor, output: Tensor | None) -> Tensor:
        return self.convolution.last_channels(self.block.hook.signal(targets, output))

    def chain(self, potential: Tensor, to_output: Tensor) -> None:
        self.convolution.chain(
            potential, to_output.view(*potential.shape[:2], *self.block.out_shape)
        )

    def learn(self, piece: _Piece, signal: Tensor, after: Tensor) -> None:
        self._add(self.convolution.teach_and_learn(piece.x, piece.potential, signal, after))

    def add_weight_gradient(self, piece: _Piece) -> None:
        self._add(self.convolution.learn(piece.x, piece.potential))

    def _add(self, found: tuple[Tensor, Tensor]) -> None:
        for total, own in zip(_gradients(self.block), found, strict=True):
            total.add_(own)

    def input_gradient(self, delta: Tensor, x: Tensor) -> Tensor:
        weight = self.block.backward_weight
        return self.convolution.input_gradient(delta, weight, tuple(x.shape[2:]))


def _layer(block: Block, neuron: Neuron, batch: int) -> _Layer:
    """The kind of layer that suits a block and its device."""
    if isinstance(block, FC_block):
        return _Connected(block, neuron, batch)
    kind = _SparseConvolved if _sparse.takes(block.weight) else _Convolved
    return kind(block, neuron, batch)


def _two_numbers(pool: tuple[int, ...]) -> tuple[int, int]:
    high, wide = (1,) * (2 - len(pool)) + pool
    return high, wide


def _geometry(block: Block) -> tuple[list[int], list[int]]:
    dimensions = len(block.pool)
    return [block.layer.stride] * dimensions, [block.layer.padding] * dimensions


def _steps_of_a_convolution(device: torch.device) -> int:
    """Steps convolved at once: in a core's cache one at a time, on a GPU few launches."""
    return 1 if device.type == "cpu" else PIECE


def _convolve(x: Tensor, weight: Tensor, bias: Tensor, block: Block) -> Tensor:
    stride, padding = _geometry(block)
    ones, zeros = [1] * len(stride), [0] * len(stride)
    return torch.convolution(x, weight, bias, stride, padding, ones, False, zeros, 1)


def _convolution_backward(
    delta: Tensor, x: Tensor, weight: Tensor, block: Block, wanted: tuple[bool, bool, bool]
) -> tuple[Tensor, Tensor, Tensor]:
    stride, padding = _geometry(block)
    ones, zeros = [1] * len(stride), [0] * len(stride)
    found: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
        delta, x, weight, [len(block.bias)], stride, padding, ones, False, zeros, 1, wanted
    )
    return found


class _Eligibility:
    """Gradient of the output layer's weights, for a readout that comes at the end."""

    def __init__(self, layer: _Layer) -> None:
        self.layer = layer
        batch, units = layer.batch, layer.block.layer.units
        self.of_weight = layer.last.new_zeros(batch, units, layer.block.weight.shape[1])
        self.of_bias = layer.last.new_zeros(batch, units)

    def learn(self, piece: _Piece, signal: Tensor, after: Tensor) -> None:
        """Add a piece; the signal is 1."""
        _kernels.teach(piece.potential, signal, after, self.layer.neuron)
        x = piece.x
        deltas = piece.potential.reshape(*x.shape[:2], -1).transpose(0, 1)
        self.of_weight.baddbmm_(deltas.transpose(1, 2), x.transpose(0, 1).flatten(2))
        self.of_bias.add_(deltas.sum(1))

    def settle(self, signal: Tensor) -> None:
        """Give the layer its gradient for the spikes' gradient [batch, units]."""
        block = self.layer.block
        block.weight.grad = torch.einsum("bi,bij->ij", signal, self.of_weight)
        block.bias.grad = (signal * self.of_bias).sum(0)


_Learn = Callable[[_Piece, Tensor, Tensor], None]
"""`_Layer.learn`, or what the output layer has in its place."""


def _release(layer: _Layer, signal: Tensor, learn: _Learn, reach: float) -> None:
    """Take the weight gradient of the oldest piece once `reach` later steps are known; 0 of all."""
    pieces = layer.kept
    if reach == 0:
        after = torch.zeros_like(layer.last)
        while pieces:
            learn(pieces.pop(), signal, after)
        return
    while pieces and sum(len(piece.x) for piece in pieces) - len(pieces[0].x) >= reach:
        piece = pieces.popleft()
        after = torch.zeros_like(layer.last)
        for later in reversed(pieces):
            _kernels.teach(later.potential, signal, after, layer.neuron, look=True)
        learn(piece, signal, after)


def _settled(loss: Loss, output: Tensor, targets: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Loss, and its gradient for the output spikes of any one step."""
    with torch.enable_grad():
        readout = output.detach().requires_grad_()
        value = loss(readout, targets)
        (gradient,) = torch.autograd.grad(value, readout)
    return value.detach(), gradient / steps


def _clear_gradients(network: Network) -> None:
    for parameter in network.parameters():
        if parameter.requires_grad:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            else:
                parameter.grad.zero_()


@torch.no_grad()
def readout(network: Network, draw: Draw, steps: int, batch: int) -> Float[Tensor, "batch classes"]:
    """The mean number of output spikes per step; see `models.told_by` for NaN.

    Args:
        network: its weights; hidden units are dropped where it is in training.
        draw: gives the input of some steps.
        steps: number of steps.
        batch: number of samples.

    Raises:
        ValueError: the samples have another shape than the network takes; there is no step, or
            `draw` gives another number of them.
    """
    _check_steps(steps)
    layers = [_layer(block, network.neuron, batch) for block in network.blocks]
    with own_precision(layers[0].last):
        return _stream(network, layers, draw, steps, lambda: None, keep=False)


@torch.no_grad()
def activity(
    network: Network, x: Real[Tensor, "time batch *shape"]
) -> list[Float[Tensor, "time batch *out"]]:
    """What every layer passes on at every step; all steps are held at once.

    Unlike the readout it does not tell of weights that are no numbers: their units are silent.

    Args:
        network: as in `readout`.
        x: its input, of one step or more: floats, or spikes as int8.

    Raises:
        ValueError: there is no step, or the samples have another shape than the network takes.
    """
    network.check(tuple(x.shape[2:]))
    _check_steps(len(x))
    layers = [_layer(block, network.neuron, x.shape[1]) for block in network.blocks]
    with own_precision(layers[0].last):
        return [x := layer.run(x, keep=False) for layer in layers]


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise ValueError("a presentation has at least one step")


def _drawn(draw: Draw, start: int, stop: int) -> Tensor:
    """The input of some steps, as many as are asked for."""
    x = draw(start, stop)
    if len(x) != stop - start:
        raise ValueError(f"draw({start}, {stop}) gave {len(x)} steps, not {stop - start}")
    return x


def _stream(
    network: Network,
    layers: list[_Layer],
    draw: Draw,
    steps: int,
    before_piece: Callable[[], None],
    keep: bool,
) -> Tensor:
    total = layers[0].last.new_zeros(layers[0].batch, network.n_classes)
    for start in range(0, steps, PIECE):
        before_piece()
        x = _drawn(draw, start, min(start + PIECE, steps))
        network.check(tuple(x.shape[2:]))
        for layer in layers:
            x = layer.run(x, keep and (layer.learns or layer.block.is_output))
        total += x.sum(0)
    return told_by(total / steps, [layer.last for layer in layers])


@torch.no_grad()
def gradients(
    network: Network,
    draw: Draw,
    steps: int,
    targets: Float[Tensor, "batch classes"],
    loss: Loss,
) -> Outcome:
    """A presentation, and the gradient of every trained parameter in its `grad`.

    Args:
        network: its weights and mode.
        draw: gives the input of some steps.
        steps: number of steps.
        targets: one-hot labels or values.
        loss: mean loss of readout and targets.

    Raises:
        ValueError: the samples have another shape than the network takes; there is no sample or
            no step, or `draw` gives another number of steps; of a layer the weights learn and the
            bias does not, or the other way round; or units are not spiking.
        RuntimeError: in `torch.inference_mode`, whose tensors no optimizer may use.
    """
    _check_steps(steps)
    if isinstance(network, RateNetwork):
        raise ValueError("layerwise.gradients is for spiking units: call backward() on the loss")
    if not len(targets):
        raise ValueError("a batch without samples has no gradient: leave it out")
    for number, block in enumerate(network.blocks):
        if block.weight.requires_grad != block.bias.requires_grad:
            raise ValueError(
                f"weights and bias of layer {number} learn both or not at all: set requires_grad "
                "of both, or use the network step by step, under autograd"
            )
    if torch.is_inference_mode_enabled():
        raise RuntimeError(
            "no gradients in torch.inference_mode: leave it, layerwise.gradients builds no graph"
        )
    layers = [_layer(block, network.neuron, len(targets)) for block in network.blocks]
    _clear_gradients(network)
    if network.mode == "shallow":
        for layer in layers[:-1]:
            layer.learns = False
    held = window(steps, network.neuron, layers[0].last.dtype)
    learn = _streamed if network.mode in LOCAL and steps > held else _stored
    with own_precision(layers[0].last):
        outcome = learn(network, layers, draw, steps, targets, loss)
    for layer in layers:
        layer.settle()
    return outcome


def _streamed(
    network: Network, layers: list[_Layer], draw: Draw, steps: int, targets: Tensor, loss: Loss
) -> Outcome:
    eligibility = _Eligibility(layers[-1])
    taught = [(layers[-1], torch.ones_like(layers[-1].last), eligibility.learn)]
    for layer in layers[:-1]:
        if layer.learns:
            taught.append((layer, layer.signal(targets, None), layer.learn))
    reach = horizon(network.neuron, layers[-1].last.dtype)

    def learn() -> None:
        for layer, signal, take in taught:
            _release(layer, signal, take, reach)

    output = _stream(network, layers, draw, steps, learn, keep=True)
    for layer, signal, take in taught:
        _release(layer, signal, take, 0)
    value, to_spikes = _settled(loss, output, targets, steps)
    eligibility.settle(to_spikes)
    return Outcome(value, output)


def _stored(
    network: Network, layers: list[_Layer], draw: Draw, steps: int, targets: Tensor, loss: Loss
) -> Outcome:
    x = _drawn(draw, 0, steps)
    network.check(tuple(x.shape[2:]))
    first = next((i for i, layer in enumerate(layers) if layer.learns), len(layers))
    for i, layer in enumerate(layers):
        x = layer.run(x, keep=i >= first)
    output = told_by(x.sum(0) / steps, [layer.last for layer in layers])
    value, to_spikes = _settled(loss, output, targets, steps)
    if network.mode in ("BP", "FA"):
        _learn_by_chain(layers[first:], to_spikes)
    else:
        for layer in layers:
            if layer.learns:
                is_output = layer.block.is_output
                signal = to_spikes.view(layer.rows) if is_output else layer.signal(targets, output)
                layer.learn(layer.kept.pop(), signal, torch.zeros_like(layer.last))
    return Outcome(value, output)


def _learn_by_chain(layers: list[_Layer], to_output: Tensor) -> None:
    """The gradients of layers from the first that learns on, from that of the output spikes."""
    for layer in reversed(layers):
        piece = layer.kept.pop()
        if layer.block.is_output:
            signal, after = to_output.view(layer.rows), torch.zeros_like(layer.last)
            _kernels.teach(piece.potential, signal, after, layer.neuron)
        else:
            layer.chain(piece.potential, to_output)
        if layer.learns:
            layer.add_weight_gradient(piece)
        if layer is not layers[0]:
            to_output = layer.input_gradient(piece.potential, piece.x)
