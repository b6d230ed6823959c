"""A trace or a neuron of one's own: used by every network, or refused in one sentence."""

import dataclasses
from dataclasses import dataclass

import pytest
import torch
from torch.nn import functional

from hybrid_plasticity.classification.mnist.mnist_model import WIRING
from hybrid_plasticity.classification.network import Classifier
from hybrid_plasticity.few_shot_learning.network import HybridNet
from hybrid_plasticity.multitask_learning.masks import Mask
from hybrid_plasticity.multitask_learning.network import TaskNetwork
from hybrid_plasticity.networks import FullyConnected, attenuation
from hybrid_plasticity.neuron import Neuron
from hybrid_plasticity.published import Updates
from hybrid_plasticity.trace import Hebbian, MatrixTrace
from hybrid_plasticity.training import squared_error

NEURON = Neuron(theta=0.35, decay=0.4)
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Oja(Hebbian):
    """Growth by post (pre - post H), Oja's rule: another `updated`."""

    def updated(self, trace, pre, post):
        return self.decay * trace + (pre.T @ post - trace * post.square().sum(0)) / len(pre)


@dataclass(frozen=True)
class Rectified(Hebbian):
    """Growth by what lies above the sliding threshold alone: another `activity`."""

    def activity(self, potential, theta, eta):
        return torch.relu(potential / theta - eta)


class Late:
    """A trace that counts after two steps only: an object of its own."""

    def __init__(self, inner, age=0):
        self.inner, self.age = inner, age

    def recall(self, x, k):
        return self.inner.recall(x, k) * (self.age > 1)

    def learn(self, x, k, post):
        return Late(self.inner.learn(x, k, post), self.age + 1)

    def matrix(self):
        return self.inner.matrix() * (self.age > 1)


@dataclass(frozen=True)
class Delayed(Hebbian):
    """Another `begin`."""

    def begin(self, start, beta):
        return Late(MatrixTrace(self, start, beta))


OWN = [Oja(0.9), Rectified(0.9), Delayed(0.9)]


def drawn(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def fully_connected(hebbian, sizes=(12, 9, 4)):
    torch.manual_seed(0)
    made = FullyConnected(sizes, NEURON, hebbian, 40.0, 4, "hp").double()
    with torch.no_grad():
        for layer in made.plastic_layers():
            layer.alpha.fill_(0.3)
            layer.beta.copy_(0.5 * drawn(*layer.beta.shape))
            layer.eta.copy_(0.1 * drawn(*layer.eta.shape, seed=1))
            layer.hebb = 0.2 * drawn(*layer.hebb.shape, seed=2)
    return made


@pytest.mark.parametrize("encoding", ["intensity", "bernoulli"])
@pytest.mark.parametrize("hebbian", OWN, ids=lambda own: type(own).__name__)
def test_fully_connected_networks_use_it(hebbian, encoding):
    model, usual = fully_connected(hebbian), fully_connected(Hebbian(0.9))
    model.encoding = usual.encoding = encoding
    images = drawn(7, 12, seed=3).round() if encoding == "bernoulli" else drawn(7, 12, seed=3)
    states, output = [], None
    for layer in model.layers:
        zeros = torch.zeros(7, layer.fc.out_features, dtype=torch.float64)
        states.append((zeros, zeros, hebbian.begin(layer.hebb, layer.beta)))
    with torch.no_grad():
        for t in range(4):
            x, k = images, attenuation(t, 40.0)
            for i, layer in enumerate(model.layers):
                current = x @ layer.fc.weight.T * k + layer.fc.bias
                current = current + layer.alpha * states[i][2].recall(x, k)
                potential = 0.4 * (states[i][0] - 0.35 * states[i][1]) + current
                x_next = (potential > 0.35).double()
                post = hebbian.activity(potential, 0.35, layer.eta)
                states[i] = (potential, x_next, states[i][2].learn(x, k, post))
                x = x_next
            output = (states[-1][0] / 0.35).clamp(max=1.1)
        found = model(images).output
        torch.testing.assert_close(found, output)
        for layer, (_, _, trace) in zip(model.layers, states, strict=True):
            torch.testing.assert_close(layer.hebb, trace.matrix())
        assert not torch.allclose(found, usual(images).output)
    # Its gradient, too: alpha learns through it.
    squared_error(model(images).output, torch.arange(7) % 4).backward()
    assert all(layer.alpha.grad.abs() > 0 for layer in model.plastic_layers())


@pytest.mark.parametrize("hebbian", OWN, ids=lambda own: type(own).__name__)
def test_classifiers_use_it(hebbian):
    answers = []
    for own in (hebbian, Hebbian(0.9)):
        torch.manual_seed(0)
        wiring = dataclasses.replace(WIRING.scaled(1 / 32), hebbian=own, exit_share=1.0)
        model = Classifier(wiring).double().eval()
        with torch.no_grad():
            for value in model.parameters():
                value.mul_(3)
            for layer in model.plastic_layers():
                layer.alpha.fill_(1)
                layer.beta.fill_(1)
        given = []
        (layer,) = model.plastic_layers()
        layer.register_forward_hook(lambda _, args, __, given=given: given.append(args))
        with torch.no_grad():
            response = model(drawn(3, 1, 28, 28))
            potential = spikes = torch.zeros(3, layer.fc.out_features, dtype=torch.float64)
            trace = own.begin(torch.zeros_like(layer.hebb), layer.beta)
            for x, k, _ in given:
                current = functional.linear(k * x, layer.fc.weight, layer.fc.bias)
                current = current + layer.alpha * trace.recall(x, k)
                potential = 0.6 * (potential - 0.3 * spikes) + current
                spikes = (potential > 0.3).double()
                trace = trace.learn(x, k, own.activity(potential, 0.3, layer.eta))
        assert layer.hebb.any()
        torch.testing.assert_close(layer.hebb, trace.matrix())
        answers.append((response.output, layer.hebb))
    assert not torch.allclose(answers[0][1], answers[1][1])


def tasks_network(hebbian, neuron=NEURON):
    torch.manual_seed(0)
    model = TaskNetwork((12, 9, 8, 10), neuron, hebbian, 50.0, 4, "hp").double()
    with torch.no_grad():
        for layer in (model.first, model.second):
            layer.weight.mul_(2).add_(0.2)
            layer.alpha.fill_(0.4)
            layer.beta.copy_(0.5 + drawn(*layer.beta.shape))
    return model, [Mask(drawn(*w.shape, seed=4) < 0.4, CPU) for w in model.weights()]


def by_equations(model, masks, x, neuron=NEURON):
    """Outputs [batch, classes] for inputs [batch, n_in], with H read outside of the masks."""
    layers, hebbian = (model.first, model.second), model.constants.hebbian
    inside = [m.filled(torch.ones(len(m.flat), dtype=torch.float64)).T for m in masks]
    states = []
    for layer in layers:
        zeros = torch.zeros(len(x), len(layer.weight), dtype=torch.float64)
        start = torch.zeros_like(layer.weight.T)
        states.append((zeros, zeros, hebbian.begin(start, hebbian.drive(layer.beta))))
    for k in model.constants.ks:
        z = x
        for i, layer in enumerate(layers):
            potential, spikes, trace = states[i]
            matrix = layer.weight.T * inside[i] + layer.alpha * trace.matrix() * (1 - inside[i])
            potential, spikes = neuron.integrate(k * (z @ matrix), potential, spikes)
            post = hebbian.activity(potential, neuron.theta, layer.eta)
            states[i] = (potential, spikes, trace.learn(z, k, post))
            z = spikes
    return states[1][0] @ (model.readout.T * inside[2])


OTHER_CONSTANTS = [
    Hebbian(0.8, post="identity"),
    Hebbian(0.8, limit=0.05),
    Hebbian(0.8, drive_at_least_zero=True),
]


@pytest.mark.parametrize("hebbian", [*OWN, *OTHER_CONSTANTS], ids=repr)
def test_multitask_networks_use_it(hebbian):
    (model, masks), (usual, _) = tasks_network(hebbian), tasks_network(Hebbian(0.8))
    x = drawn(6, 12, seed=5)
    with torch.no_grad():
        if hebbian.drive_at_least_zero:
            for layer in (model.first, model.second, usual.first, usual.second):
                layer.beta[:, ::2] *= -1
        connections = model.connections(masks)
        found = model(x.T, connections)
        torch.testing.assert_close(found, by_equations(model, masks, x))
        assert not torch.allclose(found, usual(x.T, usual.connections(masks)))
        alone = torch.cat([by_equations(model, masks, one) for one in x.split(1)])
        torch.testing.assert_close(model(x.T, connections, "single"), alone)
    squared_error(model(x.T, model.connections(masks)), torch.arange(6)).backward()
    assert model.first.alpha.grad.abs() > 0


@pytest.mark.parametrize("reset", ["hard", "none"])
@pytest.mark.parametrize("protocol", ["published", "frozen"])
def test_multitask_networks_use_every_reset(reset, protocol):
    neuron = Neuron(0.35, 0.4, reset=reset)
    model, masks = tasks_network(Hebbian(0.8), neuron)
    x = drawn(6, 12, seed=5)
    with torch.no_grad():
        found = model(x.T, model.connections(masks), protocol)
        if protocol == "frozen":
            model.first.alpha.zero_()
            model.second.alpha.zero_()
        torch.testing.assert_close(found, by_equations(model, masks, x, neuron))


@pytest.mark.parametrize("hebbian", OWN[:2], ids=lambda own: type(own).__name__)
def test_the_published_step_uses_it(hebbian):
    fc = torch.nn.Linear(5, 3).double()
    alpha, beta, eta = drawn(1), drawn(1, 5), drawn(1, 3)
    x, trace = drawn(4, 5, seed=1), drawn(5, 3, seed=2)
    zeros = torch.zeros(4, 3, dtype=torch.float64)
    with torch.no_grad():
        update = Updates(NEURON, hebbian).mem_update_plastic
        mem, _, after = update(fc, alpha, beta, torch.zeros(1), eta, x, zeros, zeros, trace)
        post = hebbian.activity(mem, NEURON.theta, eta)
        torch.testing.assert_close(after, hebbian.updated(trace, x * beta, post))


def test_few_shot_s_closed_form_takes_no_other_trace():
    with pytest.raises(TypeError, match="hebbian"):
        HybridNet("hp", hebbian=Oja(0.9))


@dataclass(frozen=True)
class Refractory(Neuron):
    """A neuron of one's own: it never spikes twice in a row."""

    def integrate(self, current, potential, spikes):
        new, fired = super().integrate(current, potential, spikes)
        return new, fired if spikes is None else fired * (1 - spikes)


@pytest.mark.parametrize("rule", ["hp", "gp"])
def test_fully_connected_networks_use_a_neuron_of_one_s_own(rule):
    torch.manual_seed(0)
    model = FullyConnected((12, 9, 4), Refractory(0.35, 0.9), Hebbian(0.9), 40.0, 6, rule)
    counts = []
    with torch.no_grad():
        model.layers[0].fc.bias.fill_(5.0)  # a usual neuron spikes at every step
        response = model(torch.rand(5, 12))
        counts = response.spike_counts[0].unique().tolist()
    assert counts == [3.0]


def test_classifiers_refuse_a_neuron_of_one_s_own():
    wiring = dataclasses.replace(WIRING, neuron=Refractory(0.3, 0.6))
    with pytest.raises(ValueError, match=r"whose equations alone .* not Refractory"):
        Classifier(wiring)
