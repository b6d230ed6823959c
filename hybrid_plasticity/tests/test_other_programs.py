"""Layers and networks in a program of one's own: inference mode, autocast, moves, export."""

import copy
import dataclasses

import pytest
import torch

from hybrid_plasticity.classification.mnist.mnist_model import WIRING
from hybrid_plasticity.classification.network import Classifier
from hybrid_plasticity.few_shot_learning.episodes import Characters
from hybrid_plasticity.few_shot_learning.meta import Settings, Trainer
from hybrid_plasticity.few_shot_learning.network import HybridNet, loss_of
from hybrid_plasticity.multitask_learning.ewc import Penalty
from hybrid_plasticity.multitask_learning.learners import DenseLearner, MaskedLearner
from hybrid_plasticity.multitask_learning.network import TaskNetwork
from hybrid_plasticity.multitask_learning.tasks import Task
from hybrid_plasticity.networks import FullyConnected
from hybrid_plasticity.neuron import Neuron
from hybrid_plasticity.trace import Hebbian
from hybrid_plasticity.training import following, optimizers, squared_error
from shared.device import torch_device
from shared.errors import UserError

CPU = torch.device("cpu")
LABELS = torch.arange(6) % 4
KINDS = ("connected hp", "connected gp", "connected lp", "spiking input", "classifier")


def made(kind):
    """A network and a batch for it."""
    torch.manual_seed(0)
    if kind == "classifier":
        wiring = dataclasses.replace(WIRING.scaled(1 / 32), exit_share=1.0, steps=4)
        return Classifier(wiring).eval(), torch.rand(6, 1, 28, 28)
    rule = kind.split()[1] if kind.startswith("connected") else "hp"
    encoding = "bernoulli" if kind == "spiking input" else "intensity"
    hebbian = Hebbian(0.9, limit=1.0)
    network = FullyConnected((12, 9, 4), Neuron(0.35, 0.4), hebbian, 40.0, 4, rule, encoding)
    network.draw_local(0.5)
    return network, torch.rand(6, 12).round()


def learn(network, x, learners):
    loss = squared_error(network(x).output, LABELS)
    network.zero_grad()
    loss.backward()
    for learner in learners:
        learner.step()
    return loss.item()


@pytest.mark.parametrize("kind", KINDS)
def test_training_goes_on_from_the_trace_that_inference_mode_left(kind):
    network, x = made(kind)
    other = copy.deepcopy(network)
    with torch.inference_mode():
        torch.manual_seed(1)
        inferred = network(x).output
    with torch.no_grad():
        torch.manual_seed(1)
        assert torch.equal(inferred, other(x).output)
    for one in (network, other):
        torch.manual_seed(2)
        learn(one, x, optimizers(one, 1e-3, 1e-3).values())
    for name, value in other.state_dict().items():
        assert torch.equal(network.state_dict()[name], value), name


@pytest.mark.parametrize("kind", KINDS[:4])
@pytest.mark.parametrize("backward_inside", [False, True])
def test_autocast_does_not_touch_membranes_and_traces(kind, backward_inside):
    network, x = made(kind)
    other = copy.deepcopy(network)
    torch.manual_seed(1)
    loss = squared_error(other(x).output, LABELS)
    loss.backward()
    torch.manual_seed(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        response = network(x.bfloat16() if kind == "connected gp" else x)
        assert response.output.dtype == torch.float32
        found = squared_error(response.output, LABELS)
        if backward_inside:
            found.backward()
    if not backward_inside:
        found.backward()
    assert found.item() == loss.item()
    for (name, one), two in zip(network.named_parameters(), other.parameters(), strict=True):
        if one.grad is None:
            assert two.grad is None, name
        elif backward_inside:  # torch's own backward passes round there
            torch.testing.assert_close(one.grad, two.grad, rtol=0.05, atol=0.01)
        else:
            assert torch.equal(one.grad, two.grad), name
    for one, two in zip(network.plastic_layers(), other.plastic_layers(), strict=True):
        assert torch.equal(one.hebb, two.hebb)


def test_autocast_shortens_convolutions_only():
    network, x = made("classifier")
    exact = copy.deepcopy(network)(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        response = network(x)
        squared_error(response.output, LABELS).backward()
    assert response.output.dtype == torch.float32
    assert not torch.equal(response.output, exact.output)
    for found, expected in zip(response.spike_counts, exact.spike_counts, strict=True):
        assert found.dtype == torch.float32
        assert found.mean().item() == pytest.approx(expected.mean().item(), rel=0.1, abs=0.02)
    assert network.plastic_layers()[0].hebb.dtype == torch.float32
    assert all(p.grad.isfinite().all() for p in network.parameters())


def characters():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (10, 5, 31, 31), generator=generator, dtype=torch.uint8)
    return Characters(pixels, 5, 1).draw(4, generator)


def test_autocast_shortens_few_shot_s_convolutions_only():
    network, task = HybridNet("hp", 5, (4, 5, 3, 6)), characters()
    exact = network(task.images, task.labels).output
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = network(task.images, task.labels).output
        loss = loss_of(output, task.target)
    loss.backward()
    assert output.dtype == torch.float32
    torch.testing.assert_close(output, exact, rtol=0.05, atol=0.05)
    assert all(p.grad.isfinite().all() for p in network.parameters())


def multitask(rule="hp"):
    torch.manual_seed(0)
    network = TaskNetwork((12, 9, 8, 4), Neuron(0.5, 0.8), Hebbian(0.8), 50.0, 3, rule)
    network.draw_local(0.1, 0.1)
    shapes = [tuple(weight.shape) for weight in network.weights()]
    return network, [Task(0, number, shapes, 0.5, CPU) for number in range(2)]


def test_autocast_does_not_touch_multitask_networks():
    network, (task, _) = multitask()
    x = torch.rand(12, 6)
    exact = network(x, network.connections(task.masks))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = network(x, network.connections(task.masks))
    assert torch.equal(found, exact)
    squared_error(found, LABELS).backward()


# ------------------------------------------------------------------- moved and converted


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_learns_on_after_it_was_converted(kind):
    """Adam's moments go along: the next steps are those of float64 from there on."""
    network, x = made(kind)
    learners = list(optimizers(network, 1e-3, 1e-3).values())
    torch.manual_seed(1)
    for _ in range(2):
        learn(network, x, learners)
    network.double()
    other = copy.deepcopy(network)
    others = list(optimizers(other, 1e-3, 1e-3).values())
    for own, given in zip(others, learners, strict=True):
        own.load_state_dict(copy.deepcopy(given.state_dict()))
    for one, of_one in ((network, learners), (other, others)):
        torch.manual_seed(2)
        for _ in range(2):
            learn(one, x.double(), of_one)
    for learner in learners:
        for parameter, state in learner.state.items():
            assert state["exp_avg"].dtype == parameter.dtype == torch.float64
            assert state["exp_avg"].any()
    for name, value in other.state_dict().items():
        assert torch.equal(network.state_dict()[name], value), name


def test_momentum_goes_along_too():
    network, x = made("connected gp")
    learner = following(torch.optim.SGD(network.parameters(), 0.1, 0.9))
    learn(network, x, [learner])
    network.double()
    learn(network, x.double(), [learner])
    assert all(s["momentum_buffer"].dtype == torch.float64 for s in learner.state.values())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", KINDS)
def test_a_network_learns_on_after_it_was_moved(kind):
    network, x = made(kind)
    learners = list(optimizers(network, 1e-3, 1e-3).values())
    learn(network, x, learners)
    device = torch_device("cuda")
    network.to(device)
    loss = squared_error(network(x.to(device)).output, LABELS.to(device))
    loss.backward()
    for learner in learners:
        learner.step()
        assert all(s["exp_avg"].is_cuda for s in learner.state.values())
    network.check_finite()


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("kind", ["masked", "dense"])
def test_learners_of_tasks_go_on_after_a_conversion(kind, held):
    network, tasks = multitask("hp" if kind == "masked" else "gp")  # a trace needs masks
    weights = network.weights()
    penalty = Penalty(weights, 1.0) if held else None
    if penalty is not None:
        penalty.add_task([torch.ones_like(weight) for weight in weights], weights)
    learner = (
        MaskedLearner(weights, 1e-3, penalty)
        if kind == "masked"
        else DenseLearner(network, 1e-3, penalty)
    )
    for task in tasks:
        learner.begin(task)
        dtype = network.readout.dtype
        for _ in range(2):
            output = network(torch.rand(12, 6, dtype=dtype), learner.connections())
            learner.step(squared_error(output, LABELS))
        learner.end()
        network.double()
    assert all(w.dtype == torch.float64 and w.isfinite().all() for w in network.weights())


def test_meta_learning_goes_on_after_a_conversion():
    network, task = HybridNet("hp", 5, (4, 5, 3, 6)), characters()
    trainer = Trainer(network, Settings(tasks=1))
    trainer.iteration(task, task)
    network.double()
    task = type(task)(*(part.double() for part in task))
    losses = trainer.iteration(task, task)
    assert all(loss.dtype == torch.float64 and loss.isfinite() for loss in losses.values())
    assert trainer.local_optimizer.state[network.alpha]["exp_avg"].dtype == torch.float64


def test_traces_come_back_in_the_format_that_the_network_then_has():
    network, x = made("connected hp")
    network(x)
    before = [layer.hebb.double() for layer in network.plastic_layers()]
    assert all(trace.any() for trace in before)
    with network.traces():
        network.double()(x.double())
    for layer, trace in zip(network.plastic_layers(), before, strict=True):
        assert torch.equal(layer.hebb, trace)
    network(x.double())


@pytest.mark.parametrize("kind", KINDS)
def test_traces_do_not_learn_from_a_batch_without_samples(kind):
    network, x = made(kind)
    if kind == "connected gp":
        assert network(x[:0]).output.shape == (0, 4)
        return
    network(x)
    before = [layer.hebb.clone() for layer in network.plastic_layers()]
    with pytest.raises(ValueError, match="no mean for a trace to learn from"):
        network(x[:0])
    with network.traces(frozen=True):
        assert len(network(x[:0]).output) == 0
    for layer, trace in zip(network.plastic_layers(), before, strict=True):
        assert torch.equal(layer.hebb, trace)


@pytest.mark.parametrize("protocol", ["published", "frozen", "single"])
def test_a_task_s_batch_without_samples_is_refused(protocol):
    network, (task, _) = multitask()
    with pytest.raises(ValueError, match="has at least one sample"):
        network(torch.rand(12, 0), network.connections(task.masks), protocol)


# -------------------------------------------------------------------------------- export


@pytest.mark.parametrize("kind", ["connected hp", "connected gp", "connected lp", "classifier"])
def test_a_network_with_frozen_traces_is_exported(kind):
    network, x = made(kind)
    with torch.no_grad():
        network(x)
        if kind == "classifier":
            with network.traces(frozen=True), network.all_steps():
                exported = torch.export.export(network, (x,)).module()
                for batch in (x, torch.rand_like(x)):
                    expected = network(batch)
                    assert torch.equal(exported(batch).output, expected.output)
            return
        with network.traces(frozen=True):
            exported = torch.export.export(network, (x,)).module()
            for batch in (x, torch.rand_like(x)):
                expected = network(batch)
                torch.testing.assert_close(exported(batch).output, expected.output)


def test_a_graph_with_early_exit_is_refused():
    network, x = made("classifier")
    told = pytest.raises(UserError, match=r"export it inside of `with network\.all_steps")
    with torch.no_grad(), network.traces(frozen=True), told:
        torch.export.export(network, (x,))


def test_the_few_shot_network_is_exported():
    network, task = HybridNet("hp", 5, (4, 5, 3, 6)), characters()
    with torch.no_grad():
        exported = torch.export.export(network, (task.images, task.labels)).module()
        expected = network(task.images, task.labels).output
        torch.testing.assert_close(exported(task.images, task.labels).output, expected)
