"""What a training step costs by count: products of numbers, and bytes that must be kept.

With n = batch * steps presentations of one step, m(l) = units * inputs of one unit the
multiply-accumulates of layer l, and u(l) and x(l) the number of its units and of its inputs:

    forward    n m(l) for every layer
    weights    n m(l) for every layer that learns
    through    n m(l) for every layer after the first that learns, where a gradient of its input is
               formed: BP and FA; the plain form also in BRP, DRTP, DFA and sDFA, whose signal then
               replaces it
    signals    batch classes u(l) for every hidden layer that learns, in modes that project a
               signal; in the plain form at every step

Layer by layer, a step keeps x(l) + u(l) numbers per sample and layer that learns (its input and its
potentials), for all steps or, in modes whose signal is known from the start, for no more than the
window of steps that a gradient can still reach, with the eligibility of the output's weights where
there are more.
The plain form keeps what autograd saves:

    x(l) for the product, u(l) potentials for the surrogate,
    2 u(l) for decay V (1 - s) from the second step on, and u(l) spikes in front of a pooling,

in shallow too, whose hidden graphs are built and dropped, but for the spikes.

Zeros count like all numbers, though on the CPU `layerwise` multiplies few of them. Not counted:
parameters and their gradients, which all modes have, work space, and the operations on single
units, of which there are some 10 u(l) per step in every mode.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch

from brp_snn.function import LOCAL, MODES, PROJECTED, Mode
from brp_snn.layerwise import window
from brp_snn.models import Layer, Neuron, parse_topology
from shared.errors import check_word

Form = Literal["plain", "layerwise"]
"""`models.NetworkBuilder` under autograd, or `layerwise.gradients`."""

FORMS: tuple[Form, ...] = get_args(Form)

PAPERS = Neuron()


@dataclass(frozen=True)
class Cost:
    """Costs of one training step.

    Attributes:
        forward: multiply-accumulates of the layers' currents.
        weights: of the weights' gradients.
        through: of the gradients' way back through layers.
        signals: of the projected teaching signals.
        kept: bytes that wait for their gradient at the worst moment.
    """

    forward: int
    weights: int
    through: int
    signals: int
    kept: int

    @property
    def operations(self) -> int:
        """All multiply-accumulates."""
        return self.forward + self.weights + self.through + self.signals


class Sizes(NamedTuple):
    """A layer in numbers, for one sample.

    Attributes:
        products: multiply-accumulates of one step.
        inputs: numbers that come in at one step.
        units: number of units.
        pooled: whether a pooling follows.
        learns: whether its weights do.
    """

    products: int
    inputs: int
    units: int
    pooled: bool
    learns: bool


def sizes(
    topology: str, shape: tuple[int, ...], *, freeze_conv_layers: bool = False
) -> list[Sizes]:
    """The layers of a topology in numbers, from the input on.

    Args:
        topology: as in `models`.
        shape: of one sample at one step.
        freeze_conv_layers: convolutions do not learn.

    Raises:
        TopologyError: the topology does not parse.
    """
    found = []
    for layer in parse_topology(topology):
        inputs = _product(shape)
        if layer.kind == "FC":
            shape = (layer.units,)
            found.append(Sizes(inputs * layer.units, inputs, layer.units, False, True))
            continue
        space = tuple((n + 2 * layer.padding - layer.kernel) // layer.stride + 1 for n in shape[1:])
        units = layer.units * _product(space)
        products = units * shape[0] * layer.kernel ** len(space)
        found.append(Sizes(products, inputs, units, True, not freeze_conv_layers))
        shape = (layer.units, *(n // _pool(layer) for n in space))
    return found


def _product(numbers: tuple[int, ...]) -> int:
    result = 1
    for number in numbers:
        result *= number
    return result


def _pool(layer: Layer) -> int:
    return 2 if layer.kind == "CONV" else layer.kernel


def step_cost(
    topology: str,
    shape: tuple[int, ...],
    mode: Mode,
    form: Form,
    *,
    batch: int,
    steps: int,
    neuron: Neuron = PAPERS,
    dtype: torch.dtype = torch.float32,
    freeze_conv_layers: bool = False,
) -> Cost:
    """Costs of a training step, by the formulas at the top of this file; no dropout.

    Args:
        topology: as in `models`.
        shape: of one sample at one step.
        mode: the learning mode.
        form: how the gradients are found.
        batch: samples.
        steps: steps of a presentation.
        neuron: constants of the units, which say how far a gradient reaches.
        dtype: of weights and activity.
        freeze_conv_layers: convolutions do not learn.

    Raises:
        TopologyError: the topology does not parse.
        ValueError: there is no such mode or form.
    """
    check_word("mode", mode, MODES)
    check_word("form", form, FORMS)
    layers = sizes(topology, shape, freeze_conv_layers=freeze_conv_layers)
    plain = form == "plain"
    kept = _kept_by_autograd(layers, mode, steps) if plain else 0
    if mode == "shallow":
        layers = [layer._replace(learns=layer is layers[-1]) for layer in layers]
    if not plain:
        kept = _kept_layerwise(layers, mode, steps, neuron, dtype)
    first = _first(layers)
    n, n_classes = batch * steps, layers[-1].units
    goes_through = mode in ("BP", "FA") or (plain and mode in PROJECTED)
    projections = batch * n_classes * sum(layer.units for layer in layers[first:-1])
    return Cost(
        forward=n * sum(layer.products for layer in layers),
        weights=n * sum(layer.products for layer in layers if layer.learns),
        through=n * sum(layer.products for layer in layers[first + 1 :]) * goes_through,
        signals=projections * (steps if plain else 1) * (mode in PROJECTED),
        kept=batch * dtype.itemsize * kept,
    )


def _first(layers: list[Sizes]) -> int:
    """The first layer that learns; the last always does."""
    return next(i for i, layer in enumerate(layers) if layer.learns)


def _kept_layerwise(
    layers: list[Sizes], mode: Mode, steps: int, neuron: Neuron, dtype: torch.dtype
) -> int:
    """Numbers per sample: inputs and potentials, and the eligibility where a mode streams."""
    a_step = sum(layer.inputs + layer.units for layer in layers if layer.learns)
    held = window(steps, neuron, dtype) if mode in LOCAL else steps
    eligibility = layers[-1].units * (layers[-1].inputs + 1) if held < steps else 0
    return held * a_step + eligibility


def _kept_by_autograd(layers: list[Sizes], mode: Mode, steps: int) -> int:
    """Numbers per sample that autograd saves in the step-by-step form."""
    kept = 0
    for layer in layers[_first(layers) :]:
        kept += steps * (layer.inputs + layer.units) + 2 * (steps - 1) * layer.units
        if layer.pooled and mode != "shallow":
            kept += steps * layer.units
    return kept
