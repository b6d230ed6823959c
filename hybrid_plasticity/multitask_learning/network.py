"""The network 784-1024-1024-10 of the multitask experiment, a layer at a time.

At step t of a presentation, with x the layer's input, k(t) = exp(-t / tau_w) and m the task's mask,

    I[t] = k(t) x[t] (W m + alpha H[t] (1 - m))
    V[t] = decay (V[t-1] - theta s[t-1]) + I[t],    s[t] = 1 where V[t] > theta
    H[t+1] = w_decay H[t] + mean_batch((k(t) x[t] beta)^T tanh(V[t] / theta - eta)),    H[0] = 0

and the output is V[T-1] of the second hidden layer times W_3 m_3. Without a trace ("gp") H stays 0.
Source: the paper's Methods, multitask learning.

A layer needs no other layer's future: all steps of the first are taken before the second. H starts
at 0, so it is a sum of as many outer products as steps and samples have passed, and is not formed:
x H is two products of shape (batch, batch), and x (H m) needs H at the mask's entries only.
Inside, activity lies transposed, [neurons, batch].
"""

from collections.abc import Sequence
from typing import Literal, Protocol, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hybrid_plasticity.multitask_learning import few_spikes
from hybrid_plasticity.multitask_learning.fused import (
    Constants,
    fire,
    is_the_papers,
    plastic_layer,
)
from hybrid_plasticity.multitask_learning.masks import Mask
from hybrid_plasticity.networks import attenuation
from hybrid_plasticity.neuron import Neuron
from hybrid_plasticity.precision import without_autocast
from hybrid_plasticity.trace import Hebbian, Trace
from shared.errors import check_word

Rule = Literal["hp", "gp"]
TraceProtocol = Literal["published", "frozen", "single"]


class Connection(Protocol):
    """The weights of a layer as a task sees them."""

    def product(self, x: Float[Tensor, "n_in batch"]) -> Float[Tensor, "n_out batch"]:
        """W x."""
        ...


class Dense:
    """All weights.

    Args:
        weight: [n_out, n_in].
    """

    def __init__(self, weight: Float[Tensor, "n_out n_in"]) -> None:
        self.weight = weight

    def product(self, x: Float[Tensor, "n_in batch"]) -> Float[Tensor, "n_out batch"]:
        """W x."""
        return few_spikes.product(self.weight, x)


class Masked:
    """The weights that a mask leaves.

    Args:
        mask: where they are.
        values: what they are [entries].
    """

    def __init__(self, mask: Mask, values: Float[Tensor, " entries"]) -> None:
        self.mask, self.values = mask, values

    def product(self, x: Float[Tensor, "n_in batch"]) -> Float[Tensor, "n_out batch"]:
        """(W m) x."""
        return self.mask.product(x, self.values)


class BatchTrace:
    """The trace of one presentation, a mean over the batch, read outside of the mask.

    Args:
        hebbian: what the trace is made of; it has no limit.
        connection: the layer's masked weights.
        alpha: strength of the trace [1].
        beta: drive of each presynaptic neuron [n_in, 1].
    """

    def __init__(
        self,
        hebbian: Hebbian,
        connection: Masked,
        alpha: Float[Tensor, " 1"],
        beta: Float[Tensor, "n_in 1"],
    ) -> None:
        self._hebbian, self._connection, self._alpha, self._beta = hebbian, connection, alpha, beta
        self._inside: Tensor | None = None  # H at the mask's entries
        self._pre: list[Tensor] = []
        self._post: list[Tensor] = []

    def product(self, x: Float[Tensor, "n_in batch"]) -> Float[Tensor, "n_out batch"]:
        """X (W m + alpha H (1 - m)), transposed."""
        connection = self._connection
        if self._inside is None:
            return connection.product(x)
        kept = connection.values - self._alpha * self._inside
        gram = (torch.cat(self._pre, 1) * self._beta).T @ x
        return connection.mask.product(x, kept) + torch.cat(self._post, 1) @ (self._alpha * gram)

    def activity(
        self, potential: Float[Tensor, "n_out batch"], theta: float, eta: Float[Tensor, "n_out 1"]
    ) -> Float[Tensor, "n_out batch"]:
        """The postsynaptic factor, of one neuron as of another."""
        return self._hebbian.activity(potential, theta, eta)

    def learn(
        self, x: Float[Tensor, "n_in batch"], k: float, post: Float[Tensor, "n_out batch"]
    ) -> None:
        """A step of the trace: the input was k x, the postsynaptic activity post."""
        decay, mask = self._hebbian.decay, self._connection.mask
        post = (k * self._hebbian.scale / x.shape[1]) * post
        grown = mask.correlation(x, post) * self._beta[mask.source, 0]
        self._inside = grown if self._inside is None else grown + decay * self._inside
        self._post = [decay * value for value in self._post]
        if self._pre and x is self._pre[-1]:
            self._post[-1] = self._post[-1] + post
        else:
            self._pre.append(x)
            self._post.append(post)


class SampleTrace(BatchTrace):
    """One trace per sample, as a batch of it alone would leave it; for all samples at once."""

    def product(self, x: Float[Tensor, "n_in batch"]) -> Float[Tensor, "n_out batch"]:
        """X (W m + alpha H (1 - m)), transposed, each sample with its own H."""
        mask = self._connection.mask
        current = self._connection.product(x)
        for pre, post in zip(self._pre, self._post, strict=True):
            both = pre * x
            inside = mask.product(both, self._beta[mask.source, 0])
            current = current + self._alpha * (self._beta.T @ both - inside) * post
        return current

    def learn(
        self, x: Float[Tensor, "n_in batch"], k: float, post: Float[Tensor, "n_out batch"]
    ) -> None:
        """A step of the traces: the input was k x, the postsynaptic activity post."""
        self._post = [self._hebbian.decay * value for value in self._post]
        self._pre.append(x)
        self._post.append(k * self._hebbian.scale * post)


class WholeTrace:
    """A trace of any kind as a whole matrix, read outside of the mask.

    `BatchTrace` and the CPU kernels never form that matrix, and know the paper's trace only.

    Args:
        hebbian: what the trace is made of.
        connection: the layer's masked weights.
        alpha: strength of the trace [1].
        beta: drive of each presynaptic neuron [n_in, 1].
    """

    def __init__(
        self,
        hebbian: Hebbian,
        connection: Masked,
        alpha: Float[Tensor, " 1"],
        beta: Float[Tensor, "n_in 1"],
    ) -> None:
        self._connection, self._alpha = connection, alpha
        mask = connection.mask
        self._hebbian = hebbian
        self._inside = mask.filled(torch.ones_like(connection.values.detach())).T
        self._trace: Trace = hebbian.begin(torch.zeros_like(self._inside), hebbian.drive(beta.T))

    def product(self, x: Float[Tensor, "n_in batch"]) -> Float[Tensor, "n_out batch"]:
        """X (W m + alpha H (1 - m)), transposed."""
        recalled = self._trace.recall(x.T, 1.0) - x.T @ (self._trace.matrix() * self._inside)
        return self._connection.product(x) + self._alpha * recalled.T

    def activity(
        self, potential: Float[Tensor, "n_out batch"], theta: float, eta: Float[Tensor, "n_out 1"]
    ) -> Float[Tensor, "n_out batch"]:
        """The postsynaptic factor."""
        return self._hebbian.activity(potential.T, theta, eta.T).T

    def learn(
        self, x: Float[Tensor, "n_in batch"], k: float, post: Float[Tensor, "n_out batch"]
    ) -> None:
        """A step of the trace: the input was k x, the postsynaptic activity post."""
        self._trace = self._trace.learn(x.T, k, post.T)


class TaskLayer(nn.Module):
    """A spiking layer whose trace starts at 0 in every presentation.

    Args:
        n_in: presynaptic neurons.
        n_out: neurons of the layer.
        rule: "hp", or "gp" for no trace.

    Attributes:
        weight: Parameter [n_out, n_in], initialized as in `nn.Linear`.
        alpha: strength of the trace, Parameter [1]; absent under "gp", as the next two.
        beta: drive of each presynaptic neuron, Parameter [1, n_in].
        eta: sliding threshold of each postsynaptic neuron, Parameter [1, n_out].

    Raises:
        ValueError: the rule is neither.
    """

    def __init__(self, n_in: int, n_out: int, rule: Rule) -> None:
        super().__init__()
        check_word("rule", rule, Rule)
        self.rule = rule
        self.weight = nn.Linear(n_in, n_out, bias=False).weight
        if rule == "hp":
            self.alpha = nn.Parameter(torch.zeros(1))
            self.beta = nn.Parameter(torch.zeros(1, n_in))
            self.eta = nn.Parameter(torch.zeros(1, n_out))

    def forward(
        self,
        x: Float[Tensor, "n_in steps_or_1 batch"],
        connection: Connection,
        constants: Constants,
        protocol: TraceProtocol,
    ) -> tuple[Float[Tensor, "n_out steps batch"], Float[Tensor, "n_out batch"]]:
        """A whole presentation.

        Args:
            x: inputs; one step where they stay the same.
            connection: the weights as the task sees them, `Masked` where there is a trace.
            constants: of the layer.
            protocol: "published" traces are means over the batch, "frozen" ones stay 0, "single"
                ones belong to one sample each.

        Returns:
            Spikes, and the last potentials.

        Raises:
            ValueError: the protocol is none of these.
        """
        check_word("protocol", protocol, TraceProtocol)
        on_cpu = x.device.type == "cpu" and is_the_papers(constants.neuron)
        if self.rule != "hp" or protocol == "frozen":
            drive = connection.product(x.flatten(1)).view(-1, *x.shape[1:])
            return (fire if on_cpu else _steps)(drive, constants)
        assert isinstance(connection, Masked)
        if not is_the_papers(constants.hebbian):
            return self._with_whole_traces(x, connection, constants, protocol)
        if protocol == "published" and on_cpu:
            local = (self.alpha, self.beta, self.eta)
            return plastic_layer(x, connection.values, *local, connection.mask, constants)
        kind = SampleTrace if protocol == "single" else BatchTrace
        trace = kind(constants.hebbian, connection, self.alpha, self.beta.T)
        return _steps(x, constants, trace, self.eta.T)

    def _with_whole_traces(
        self, x: Tensor, connection: Masked, constants: Constants, protocol: TraceProtocol
    ) -> tuple[Tensor, Tensor]:
        """A presentation with a trace of any kind; "single" shows one sample after another."""
        shown = []
        for part in torch.split(x, 1, 2) if protocol == "single" else (x,):
            trace = WholeTrace(constants.hebbian, connection, self.alpha, self.beta.T)
            shown.append(_steps(part, constants, trace, self.eta.T))
        spikes, last = zip(*shown, strict=True)
        return torch.cat(spikes, 2), torch.cat(last, 1)


def _steps(
    x: Float[Tensor, "n steps_or_1 batch"],
    constants: Constants,
    trace: BatchTrace | WholeTrace | None = None,
    eta: Float[Tensor, "n_out 1"] | None = None,
) -> tuple[Float[Tensor, "n_out steps batch"], Float[Tensor, "n_out batch"]]:
    """A presentation step by step, for every device: x are drives where there is no trace."""
    neuron, _, ks = constants
    inputs = list(x.unbind(1)) if x.shape[1] > 1 else [x[:, 0]] * len(ks)
    spikes: list[Tensor] = []
    potential: Tensor | None = None
    for k, own in zip(ks, inputs, strict=True):
        current = k * (own if trace is None else trace.product(own))
        last = spikes[-1] if spikes else None
        potential, fired = neuron.integrate(current, potential, last)
        spikes.append(fired)
        if trace is not None and eta is not None:
            trace.learn(own, k, trace.activity(potential, neuron.theta, eta))
    assert potential is not None
    return torch.stack(spikes, 1), potential


class TaskNetwork(nn.Module):
    """Two spiking layers and a linear readout of the last potentials.

    Args:
        sizes: neurons of input, both hidden layers and output.
        neuron: constants of the neurons.
        hebbian: constants of the traces. The kernels know the paper's alone, decay and scale of a
            free trace under tanh; of any other the whole matrix is formed.
        tau_w: time constant of the input's attenuation, in steps.
        steps: time steps T.
        rule: "hp" or "gp".

    Raises:
        ValueError: the rule is neither.

    Attributes:
        first, second: the hidden layers.
        readout: weights of the output, Parameter [classes, n].
    """

    def __init__(
        self,
        sizes: tuple[int, int, int, int],
        neuron: Neuron,
        hebbian: Hebbian,
        tau_w: float,
        steps: int,
        rule: Rule,
    ) -> None:
        super().__init__()
        ks = tuple(attenuation(t, tau_w) for t in range(steps))
        self.rule, self.constants = rule, Constants(neuron, hebbian, ks)
        self.first = TaskLayer(sizes[0], sizes[1], rule)
        self.second = TaskLayer(sizes[1], sizes[2], rule)
        self.readout = nn.Linear(sizes[2], sizes[3], bias=False).weight

    def weights(self) -> list[nn.Parameter]:
        """The weights of both layers and of the readout."""
        weights = [self.first.weight, self.second.weight, self.readout]
        return cast(list[nn.Parameter], weights)

    def local_parameters(self) -> list[nn.Parameter]:
        """What meta training learns: alpha, beta and eta of both layers."""
        weights = {id(value) for value in self.weights()}
        return [value for value in self.parameters() if id(value) not in weights]

    @torch.no_grad()
    def draw_local(self, alpha: float, beta: float) -> None:
        """Initial alpha uniform in [0, alpha) and beta in [0, beta); eta stays 0."""
        if self.rule == "hp":
            for layer in (self.first, self.second):
                layer.alpha.copy_(alpha * torch.rand(layer.alpha.shape))
                layer.beta.copy_(beta * torch.rand(layer.beta.shape))

    def connections(self, masks: Sequence[Mask] | None) -> list[Connection]:
        """The weights as a task sees them, with their gradient; None for a task without masks."""
        if masks is None:
            return [Dense(weight) for weight in self.weights()]
        return [
            Masked(mask, weight.flatten()[mask.flat])
            for mask, weight in zip(masks, self.weights(), strict=True)
        ]

    @without_autocast
    def forward(
        self,
        x: Float[Tensor, "n_in batch"],
        connections: Sequence[Connection],
        protocol: TraceProtocol = "published",
    ) -> Float[Tensor, "batch classes"]:
        """Outputs for inputs in [0, 1], one sample per column.

        Args:
            x: the inputs, the same at every step.
            connections: the weights of both layers and of the readout, as the task sees them.
            protocol: what the traces do, see `TaskLayer.forward`.

        Raises:
            ValueError: the protocol is none of these, or there is no sample.
        """
        if not x.shape[1]:
            raise ValueError("a batch of a task has at least one sample: leave an empty one out")
        first, second, readout = connections
        spikes, _ = self.first(x[:, None], first, self.constants, protocol)
        _, potential = self.second(spikes, second, self.constants, protocol)
        return readout.product(potential).T
