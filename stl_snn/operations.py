"""Spikes and operations that a network really took, counted layer by layer, and their energy.

Named as NeuroBench names them, per sample, over all steps of a presentation:

    Dense               multiply-accumulates if every input and every weight took part
    Effective_MACs      pairs of a nonzero input and a nonzero weight, where inputs are not 0 or 1
    Effective_ACs       the same where all inputs are 0 or 1: an addition is enough
    activation_sparsity share of neurons and steps without a spike
    connection_sparsity share of weights that are 0
    footprint           bytes of parameters and buffers

A layer counts as a whole as MACs or ACs, by the inputs it met. Zeros that pad an image are no
inputs. Batch normalization, which can be folded into the weights before it, and the neurons
themselves are not counted.

The energy is that of 45 nm, 32-bit floating point: 4.6 pJ a multiply-accumulate, 0.9 pJ an
addition (Horowitz, ISSCC 2014); memory traffic, which costs more, is not in it. It compares
networks; it does not say what a chip will draw.
"""

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stl_snn.spiking_model import SpikingNetwork

PJ_MAC, PJ_AC = 4.6, 0.9


@dataclass(frozen=True)
class Count:
    """Operations of a layer of synapses, per sample.

    Attributes:
        dense: multiply-accumulates if everything took part.
        effective: pairs of a nonzero input and a nonzero weight.
        binary: all inputs were 0 or 1.
    """

    dense: float
    effective: float
    binary: bool

    @property
    def energy_uj(self) -> float:
        """Energy of the effective operations, microjoule."""
        return self.effective * (PJ_AC if self.binary else PJ_MAC) / 1e6


class Counter:
    """Counts what a network does while it is entered as a context.

    Args:
        network: the network; it should be in evaluation, since dropout scales spikes.
    """

    def __init__(self, network: SpikingNetwork) -> None:
        self._network = network
        self._active: dict[str, Tensor] = {}
        self._binary: dict[str, Tensor] = {}
        self._spikes: dict[str, Tensor] = {}
        self._sizes: dict[str, int] = {}
        self._samples, self._steps = 0, 0
        self._hooks: list[Any] = []

    def __enter__(self) -> Self:
        for name, layer in self._network.synapses().items():
            self._hooks.append(layer.register_forward_hook(self._note_inputs(name)))
        for name, neurons in self._network.neurons().items():
            self._hooks.append(neurons.register_forward_hook(self._note_spikes(name)))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for hook in self._hooks:
            hook.remove()

    def _note_inputs(self, name: str) -> Any:
        def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            x = inputs[0].detach()
            if not self._active:
                self._steps = x.shape[1]
            if name == next(iter(self._network.synapses())):
                self._samples += len(x)
            x = x.flatten(2) if isinstance(layer, nn.Linear) else x
            nonzero = x != 0
            active = nonzero.sum((0, 1))
            binary = (nonzero.to(x.dtype) == x).all()
            if name in self._active:
                active += self._active[name]
                binary &= self._binary[name]
            self._active[name], self._binary[name] = active, binary

        return note

    def _note_spikes(self, name: str) -> Any:
        def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            self._spikes[name] = self._spikes.get(name, 0) + output.detach().count_nonzero()
            self._sizes[name] = output[0, 0].numel()

        return note

    def rates(self) -> dict[str, float]:
        """Spikes per neuron and step, by layer of neurons."""
        presentations = self._samples * self._steps
        return {
            name: float(spikes) / (self._sizes[name] * presentations)
            for name, spikes in self._spikes.items()
        }

    def counts(self) -> dict[str, Count]:
        """Operations by layer of synapses."""
        found = {}
        for name, layer in self._network.synapses().items():
            shape = tuple(self._active[name].shape)
            dense = fan_out(layer, torch.ones_like(layer.weight), shape).sum() * self._steps
            links = fan_out(layer, (layer.weight != 0).to(layer.weight.dtype), shape)
            effective = (self._active[name].cpu() * links).sum() / self._samples
            found[name] = Count(float(dense), float(effective), bool(self._binary[name]))
        return found

    def metrics(self) -> dict[str, float]:
        """The totals under NeuroBench's names, the layers' operations, and energies."""
        counts = self.counts()
        spikes = sum(float(total) for total in self._spikes.values())
        places = sum(self._sizes.values()) * self._samples * self._steps
        weights = [layer.weight for layer in self._network.synapses().values()]
        zeros = sum(int((weight == 0).sum()) for weight in weights)
        stored = (*self._network.parameters(), *self._network.buffers())
        dense = sum(count.dense for count in counts.values())
        return {
            "Dense": dense,
            "Effective_MACs": sum(c.effective for c in counts.values() if not c.binary),
            "Effective_ACs": sum(c.effective for c in counts.values() if c.binary),
            "activation_sparsity": 1 - spikes / places,
            "connection_sparsity": zeros / sum(weight.numel() for weight in weights),
            "footprint": sum(tensor.numel() * tensor.element_size() for tensor in stored),
            "energy_uj": sum(count.energy_uj for count in counts.values()),
            "energy_uj_dense_one_step": dense / self._steps * PJ_MAC / 1e6,
            **{f"operations_{name}": count.effective for name, count in counts.items()},
        }


def fan_out(
    layer: nn.Conv2d | nn.Linear, links: Float[Tensor, "*weight"], shape: tuple[int, ...]
) -> Float[Tensor, "*shape"]:
    """Number of links that each input of a layer has, in float64, on the CPU.

    Args:
        layer: a convolution or a fully connected layer.
        links: 1 where a weight counts and 0 where not, of the weight's shape.
        shape: of a step's input.
    """
    links = links.detach().cpu().double()  # not all devices have float64
    if isinstance(layer, nn.Linear):
        return links.sum(0)
    with torch.enable_grad():  # the gradient of the sum of all outputs is the number of links
        image = links.new_zeros(1, *shape, requires_grad=True)
        out = nn.functional.conv2d(image, links, stride=layer.stride, padding=layer.padding)
        (found,) = torch.autograd.grad(out.sum(), image)
    return found[0].round()
