"""The published programs' classes and functions, thin over this package.

`from hybrid_plasticity.simple_example.model_hp import *` in the place of `from model_hp import *`
lets a program written for the published modules run on: the same names, arguments and results, the
same names of parameters in a state. Programs of this package use what lies beneath:
`SNN_Model().network`.
"""

import dataclasses
import math
import os
import random
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from hybrid_plasticity.classification.network import Classifier
from hybrid_plasticity.layer import PlasticLayer, State
from hybrid_plasticity.networks import FullyConnected, Response
from hybrid_plasticity.neuron import Neuron, spike
from hybrid_plasticity.trace import Hebbian
from shared.errors import UserError

# What the models pass on: published programs take modules, too, from `from model_hp import *`.
__all__ = [
    "ActFun", "F", "act_fun", "device", "lr_scheduler", "math", "nn", "np", "os", "plt", "random",
    "setup_seed", "time", "torch",
]  # fmt: skip

LENS = 0.5  # half the width of every published surrogate gradient
TRACED = (1, 2)  # numbers of the layers that have alpha, beta, eta, gamma and a trace there
CONSTANTS = ("alpha", "beta", "eta")
UNREAD_SPREAD = 1e-3  # alpha, beta and eta of the published GP networks start uniform below this

device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


def setup_seed(seed: int) -> None:
    """Seed torch, numpy and python, and ask cuDNN for deterministic algorithms."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - what programs written for this function draw from
    random.seed(seed)
    torch.backends.cudnn.deterministic = True


def lr_scheduler(
    optimizer: torch.optim.Optimizer, epoch: int, init_lr: float = 0.1, lr_decay_epoch: int = 100
) -> torch.optim.Optimizer:
    """Take the step sizes times 0.1 where an epoch above 1 is a multiple of `lr_decay_epoch`.

    Args:
        optimizer: whose groups change.
        epoch: counted from 0.
        init_lr: is not read.
        lr_decay_epoch: epochs between changes.

    Returns:
        The optimizer.
    """
    if epoch > 1 and epoch % lr_decay_epoch == 0:
        for group in optimizer.param_groups:
            group["lr"] *= 0.1
    return optimizer


def act_fun(input: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Spikes: 1 where the potential less the threshold is above 0; see `neuron.spike`."""
    return spike(input, 0.0, LENS)


class ActFun:
    """The surrogate gradient as a class, of which programs take `ActFun.apply`."""

    apply = staticmethod(act_fun)


class Updates:
    """A step of a layer on its own, by the published functions' arguments.

    Args:
        neuron: constants of the neurons.
        hebbian: constants of the trace.
    """

    def __init__(self, neuron: Neuron, hebbian: Hebbian) -> None:
        self.neuron, self.hebbian = neuron, hebbian

    def mem_update_nonplastic(
        self, fc: nn.Module, inputs: Tensor, spike: Tensor, mem: Tensor
    ) -> tuple[Tensor, Tensor]:
        """A step without a trace.

        Args:
            fc: `nn.Linear` or `nn.Conv2d`.
            inputs: of the step, attenuated.
            spike: spikes of the step before.
            mem: potentials after it.

        Returns:
            Potentials and spikes.
        """
        return self.neuron.integrate(fc(inputs), mem, spike)

    def mem_update_beside_trace(
        self,
        fc: nn.Module,
        alpha: Tensor,
        beta: Tensor,
        gamma: Tensor,
        eta: Tensor,
        inputs: Float[Tensor, "batch n_in"],
        spike: Float[Tensor, "batch n_out"],
        mem: Float[Tensor, "batch n_out"],
        hebb: Float[Tensor, "n_in n_out"],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`mem_update_nonplastic` for programs that hand a trace on; it stays as it is."""
        return *self.mem_update_nonplastic(fc, inputs, spike, mem), hebb

    def mem_update_plastic(
        self,
        fc: nn.Module,
        alpha: Tensor,
        beta: Tensor,
        gamma: Tensor,
        eta: Tensor,
        inputs: Float[Tensor, "batch n_in"],
        spike: Float[Tensor, "batch n_out"],
        mem: Float[Tensor, "batch n_out"],
        hebb: Float[Tensor, "n_in n_out"],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A step of a layer with a trace.

        Args:
            fc: the weights, `nn.Linear`.
            alpha: strength of the trace.
            beta: drive of each presynaptic neuron.
            gamma: is not read.
            eta: sliding threshold of each postsynaptic neuron.
            inputs: of the step, attenuated.
            spike: spikes of the step before.
            mem: potentials after it.
            hebb: the trace.

        Returns:
            Potentials, spikes and the trace after the step.
        """
        trace = self.hebbian.begin(hebb, self.hebbian.drive(beta))
        current = fc(inputs) + alpha * trace.recall(inputs, 1.0)
        mem, spike = self.neuron.integrate(current, mem, spike)
        post = self.hebbian.activity(mem, self.neuron.theta, eta)
        return mem, spike, trace.learn(inputs, 1.0, post).matrix()


def published_name(own: str) -> str | None:
    """The published name of an entry of a network's state; None for a trace.

    `layers.0.fc.weight` is fc1.weight there, `layers.1.alpha` alpha2, `convs.2.bias` conv3.bias.
    """
    kind, number, *rest = own.split(".")
    k = int(number) + 1
    if kind == "convs":
        return f"conv{k}.{rest[0]}"
    if rest[0] == "fc":
        return f"fc{k}.{rest[1]}"
    return None if rest == ["hebb"] else f"{rest[0]}{k}"


def own_name(published: str) -> str | None:
    """The opposite of `published_name`; also of fc1 or conv2; None for any other word."""
    found = re.fullmatch(r"(fc|conv|alpha|beta|eta)(\d)(\.\w+)?", published)
    if found is None:
        return None
    kind, place, rest = found[1], int(found[2]) - 1, found[3] or ""
    if kind == "conv":
        return f"convs.{place}{rest}"
    return f"layers.{place}.{kind}{rest}"


class PublishedModel(nn.Module):
    """A network with the published methods, attributes and names of its state.

    Args:
        network: what lies beneath, its parameters drawn.

    Attributes:
        network: the same.
        fc1, fc2, conv1, ...: its layers' weights, `nn.Linear` and `nn.Conv2d`.
        alpha1, alpha2, beta1, beta2, eta1, eta2: constants of the traces. Where a layer has no
            trace they are there and nothing reads them, as in the published programs.
        gamma1, gamma2: parameters that no published program reads.

    What the network does not have starts at 0 here; the programs' classes draw or set it.
    """

    network: FullyConnected | Classifier

    def __init__(self, network: FullyConnected | Classifier) -> None:
        super().__init__()
        self.network = network
        for k in TRACED:
            layer = self._layer(k)
            if layer.rule == "gp":
                shapes = ((1,), (1, layer.fc.in_features), (1, layer.fc.out_features))
                for name, shape in zip(CONSTANTS, shapes, strict=True):
                    self.register_parameter(f"{name}{k}", nn.Parameter(torch.zeros(shape)))
            self.register_parameter(f"gamma{k}", nn.Parameter(torch.zeros(1)))

    def _layer(self, k: int) -> PlasticLayer:
        layer = self.network.layers[k - 1]
        assert isinstance(layer, PlasticLayer)
        return layer

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            found: Any = self.__dict__["_modules"].get("network")
            own = own_name(name)
            if own is None or found is None:
                raise
            for part in own.split("."):
                found = getattr(found, part)
            return found

    def produce_hebb(self) -> tuple[Tensor, Tensor]:
        """Traces of zeros for the first two fully connected layers, [n_in, n_out] each."""
        first, second = (self._layer(k).fc.weight for k in TRACED)
        return torch.zeros_like(first.T), torch.zeros_like(second.T)

    def parameter_split(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Weights and biases; and all else, which the second optimizer learns."""
        weights = {id(p) for p in self.network.parameters()}
        weights -= {id(p) for layer in self.network.plastic_layers() for p in constants(layer)}
        base = [p for p in self.parameters() if id(p) in weights]
        return base, [p for p in self.parameters() if id(p) not in weights]

    def state_dict(self, *args: Any, **options: Any) -> dict[str, Any]:  # type: ignore[override]
        """The published names and values; traces are no part of it."""
        state = super().state_dict(*args, **options)
        return {name: value for key, value in state.items() if (name := _renamed(key)) is not None}

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Take over a state by its published names; traces stay as they are."""
        names = {}
        for key, value in state_dict.items():
            own = own_name(key)
            held = own is not None and not isinstance(self._parameters.get(key), nn.Parameter)
            names[f"network.{own}" if held else key] = value
        traces = {
            key: value for key, value in super().state_dict().items() if key.endswith(".hebb")
        }
        return super().load_state_dict({**traces, **names}, strict, assign)

    def shown(
        self, images: Tensor, hebb1: Tensor, hebb2: Tensor
    ) -> tuple[Response, list[State], Tensor, Tensor]:
        """A presentation that starts from these traces.

        Returns:
            The response, the states of a classifier's fully connected layers, and both traces.
        """
        given = (hebb1, hebb2)
        for k, trace in zip(TRACED, given, strict=True):
            if self._layer(k).rule != "gp":
                self._layer(k).hebb = trace
        states: list[State] = []
        images = images.to(self._layer(1).fc.weight.dtype)
        if isinstance(self.network, Classifier):
            response, states = self.network.present(images)
        else:
            response = self.network(images)
        left = [
            trace if self._layer(k).rule == "gp" else self._layer(k).hebb
            for k, trace in zip(TRACED, given, strict=True)
        ]
        return response, states, left[0], left[1]


def constants(layer: PlasticLayer) -> list[Tensor]:
    """The parameters alpha, beta and eta of a layer with a trace."""
    return [layer.get_parameter(name) for name in CONSTANTS]


def _renamed(key: str) -> str | None:
    head, _, own = key.partition(".")
    return published_name(own) if head == "network" else key


class PublishedFullyConnected(PublishedModel):
    """`SNN_Model` of the simple example and of fault tolerance.

    Args:
        network: what lies beneath.
    """

    network: FullyConnected

    @torch.no_grad()
    def draw_constants(self, spread: float) -> None:
        """Initial alpha, beta and eta uniform in [0, spread), gamma in [0, 1), of both layers.

        In the published order from torch's global generator: after the weights' draws, a seed
        gives the published initial values.
        """
        for name in ("alpha", "eta", "gamma", "beta"):
            for k in TRACED:
                value = getattr(self, f"{name}{k}")
                value.copy_((1.0 if name == "gamma" else spread) * torch.rand(value.shape))

    def forward(
        self,
        input: Float[Tensor, "batch *pixels"],
        hebb1: Float[Tensor, "n_in n_hidden"],
        hebb2: Float[Tensor, "n_hidden classes"],
        wins: int | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Show a batch.

        Args:
            input: intensities in [0, 1].
            hebb1: the hidden layer's trace to start from.
            hebb2: the output layer's.
            wins: time steps; None takes the program's.

        Returns:
            Outputs, spike counts of both layers, both traces without a gradient, eta1 and eta2. The
            first count is 0 under "lp", as published.
        """
        network = self.network
        steps, network.steps = network.steps, network.steps if wins is None else wins
        try:
            response, _, left1, left2 = self.shown(input, hebb1, hebb2)
        finally:
            network.steps = steps
        hidden, output = response.spike_counts
        if network.rule == "lp":
            hidden = torch.zeros_like(hidden)
        return response.output, hidden, output, left1, left2, self.eta1, self.eta2


class PublishedClassifier(PublishedModel):
    """What `SNN_Model` and `SCNN` of the classifiers share.

    Args:
        network: what lies beneath, its parameters drawn.
        gamma: what gamma1 and gamma2 start at.
    """

    network: Classifier

    def __init__(self, network: Classifier, gamma: float) -> None:
        super().__init__(network)
        initial = network.wiring.initial
        for k in TRACED:
            nn.init.constant_(self.get_parameter(f"gamma{k}"), gamma)
            if self._layer(k).rule == "gp":
                initial.start(self.get_parameter(f"alpha{k}"), self.get_parameter(f"beta{k}"))

    @contextmanager
    def wired(self, **changes: object) -> Iterator[None]:
        """Inside the context the wiring has other steps or another coding; None leaves a value."""
        before = self.network.wiring
        wanted: Any = {name: value for name, value in changes.items() if value is not None}
        self.network.wiring = dataclasses.replace(before, **wanted)
        try:
            yield
        finally:
            self.network.wiring = before


# ------------------------------------------------------------------------------------------ files


def paths(folder: Path, names: str) -> tuple[Path, Path, Path]:
    """Where the published programs keep weights, traces and the number of spikes."""
    return folder / f"{names}.pth", folder / f"{names}HEBB.t7", folder / f"{names}spike.t7"


def save(model: PublishedModel, folder: Path, names: str, spikes: float) -> None:
    """Write a network as the published programs do.

    Args:
        model: the network, whose layers hold the traces.
        folder: is made where there is none.
        names: beginning of the files' names.
        spikes: mean number of spikes of a hidden neuron in a presentation.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights, traces, counts = paths(folder, names)
    zeros = model.produce_hebb()
    held = [getattr(model._layer(k), "hebb", zero) for k, zero in zip(TRACED, zeros, strict=True)]
    torch.save(model.state_dict(), weights)
    torch.save({"hebb1": held[0], "hebb2": held[1]}, traces)
    torch.save(torch.tensor(spikes), counts)


def load(model: PublishedModel, folder: Path, names: str) -> None:
    """Read weights and traces that a published program or `save` wrote.

    Args:
        model: takes them over.
        folder: the programs' --f.
        names: the programs' --names.

    Raises:
        UserError: a file is missing or damaged, or holds another network.
    """
    weights, traces, _ = paths(folder, names)
    for path in (weights, traces):
        if not path.exists():
            raise UserError(f"there is no {path}: name folder and beginning with --f and --names")
    try:
        state, hebb = (
            torch.load(path, map_location="cpu", weights_only=True) for path in (weights, traces)
        )
        expected = {name: value.shape for name, value in model.state_dict().items()}
        found = {name: value.shape for name, value in state.items()}
        shapes = [hebb[f"hebb{k}"].shape for k in TRACED]
    except Exception as error:
        raise UserError(f"{weights} or {traces} is damaged or no file of these programs") from error
    if found != expected or shapes != [zero.shape for zero in model.produce_hebb()]:
        raise UserError(f"{weights} and {traces} hold another network than this program's")
    model.load_state_dict(state)
    for k in TRACED:
        if model._layer(k).rule != "gp":
            model._layer(k).hebb = hebb[f"hebb{k}"]
