"""Multitask learning: the fast network against the plain one, learners, EWC, scores, scripts."""

import gc
import math
import signal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from hybrid_plasticity.multitask_learning import (
    ewc,
    few_spikes,
    learners,
    network,
    program,
    scores,
)
from hybrid_plasticity.multitask_learning.gp_model import gp_model
from hybrid_plasticity.multitask_learning.hp_model import hp_model
from hybrid_plasticity.multitask_learning.learners import DenseLearner, MaskedLearner
from hybrid_plasticity.multitask_learning.masks import Mask
from hybrid_plasticity.multitask_learning.network import BatchTrace, TaskNetwork
from hybrid_plasticity.multitask_learning.program import Course, Options
from hybrid_plasticity.multitask_learning.reference import plain_forward
from hybrid_plasticity.multitask_learning.shared_parameters import (
    EWC,
    EWC_MASKS,
    FINETUNE,
    GP,
    HP,
    HP_NO_REPLAY,
    SETTINGS,
)
from hybrid_plasticity.multitask_learning.spiking_ewc import spiking_ewc_model
from hybrid_plasticity.multitask_learning.tasks import Task
from hybrid_plasticity.neuron import Neuron
from hybrid_plasticity.trace import Hebbian
from hybrid_plasticity.training import squared_error
from shared import datasets
from shared.errors import UserError
from shared.tensors import Samples

CPU = torch.device("cpu")
f32, f64 = torch.float32, torch.float64
TOLERANCE = {f64: 1e-9, f32: 1e-5}


def make_network(sizes, rule="hp", steps=3, dtype=torch.float64, seed=0):
    """A network that spikes, with traces that matter."""
    torch.manual_seed(seed)
    made = TaskNetwork(sizes, Neuron(0.5, 0.8), Hebbian(0.8), 50.0, steps, rule)
    with torch.no_grad():
        for weight in made.weights():
            weight.normal_(0.15, 1.5 / weight.shape[1] ** 0.5)
        for value in made.local_parameters():
            value.normal_(0, 0.5)
    return made.to(dtype)


def make_masks(model, share, device=CPU):
    return [Mask(torch.rand(weight.shape) < share, device) for weight in model.weights()]


def plain_masks(model, masks):
    """The masks as matrices [n_in, n_out] of 0 and 1."""
    return [mask.filled(torch.ones_like(mask.flat, dtype=torch.float64)).T.to(weight) for
            mask, weight in zip(masks, model.weights(), strict=True)]  # fmt: skip


def results(model, output, labels):
    """Output and gradients of all parameters."""
    model.zero_grad()
    squared_error(output, labels).backward()
    grads = {  # after a single step no trace has been read
        name: torch.zeros_like(value) if value.grad is None else value.grad.clone()
        for name, value in model.named_parameters()
    }
    return {"output": output.detach(), **grads}


def assert_close(one, other, tolerance):
    """Equal relative to an array's largest entry, or to a tenth of that of all arrays.

    A gradient that is 0 because the whole trace is masked is the difference of two sums.
    """
    assert one.keys() == other.keys()
    largest = {name: float(value.abs().max()) for name, value in one.items()}
    floor = max(0.1 * max(largest.values()), 1e-3)
    for name, expected in one.items():
        atol = tolerance * max(largest[name], floor)
        torch.testing.assert_close(
            other[name], expected, rtol=0, atol=atol, msg=lambda m, n=name: f"{n}: {m}"
        )


# ------------------------------------------------------------------ the network and its equations


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.tuples(*[st.integers(1, 40)] * 3),
    st.integers(1, 9),
    st.integers(1, 4),
    # All weights: the trace counts nowhere, and what is left of two large sums is rounding.
    st.sampled_from([(0.0, f32), (0.1, f32), (0.5, f32), (0.1, f64), (0.5, f64), (1.0, f64)]),
    st.sampled_from(["hp", "gp"]),
    st.integers(0, 1000),
)
def test_fast_network_is_the_plain_one(sizes, batch, steps, share_and_dtype, rule, seed):
    share, dtype = share_and_dtype
    model = make_network((*sizes, 10), rule, steps, dtype, seed)
    x, labels = torch.rand(batch, sizes[0], dtype=dtype), torch.randint(10, (batch,))
    masks = make_masks(model, share)
    plain = plain_forward(model, x, plain_masks(model, masks)).output
    expected = results(model, plain, labels)
    fast = model(x.T, model.connections(masks))
    assert_close(expected, results(model, fast, labels), TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", [f64, f32])
def test_fast_network_is_the_plain_one_at_full_size(dtype):
    torch.manual_seed(1)
    model = SETTINGS.network("hp").to(dtype)
    with torch.no_grad():
        for layer in (model.first, model.second):
            layer.weight *= 5
            layer.beta *= 100
    x = torch.rand(20, 784, dtype=dtype)
    labels, masks = torch.randint(10, (20,)), make_masks(model, SETTINGS.share)
    plain = plain_forward(model, x, plain_masks(model, masks))
    assert plain.traces[1].abs().max() > 1e-3
    expected = results(model, plain.output, labels)
    fast = results(model, model(x.T, model.connections(masks)), labels)
    assert_close(expected, fast, TOLERANCE[dtype])


def test_without_masks_all_weights_count():
    model = make_network((30, 20, 25, 10), "gp")
    x, labels = torch.rand(7, 30, dtype=torch.float64), torch.randint(10, (7,))
    ones = [torch.ones_like(weight.T) for weight in model.weights()]
    expected = results(model, plain_forward(model, x, ones).output, labels)
    fast = results(model, model(x.T, model.connections(None)), labels)
    assert_close(expected, fast, 1e-9)


def test_mean_of_outer_products_is_one_matrix_product():
    model = make_network((30, 20, 25, 10))
    x = torch.rand(7, 30, dtype=torch.float64)
    masks = plain_masks(model, make_masks(model, 0.3))
    one = plain_forward(model, x, masks)
    other = plain_forward(model, x, masks, outer_products=True)
    torch.testing.assert_close(one.output, other.output)
    torch.testing.assert_close(one.traces, other.traces)


def stepwise(model, x, masks):
    """The output by the path for other devices, whatever the device."""
    first, second, readout = model.connections(masks)
    activity = x[:, None]
    for layer, connection in ((model.first, first), (model.second, second)):
        trace = BatchTrace(model.constants.hebbian, connection, layer.alpha, layer.beta.T)
        activity, potential = network._steps(activity, model.constants, trace, layer.eta.T)
    return readout.product(potential).T


def test_path_of_other_devices_is_the_plain_network():
    model = make_network((30, 20, 25, 10))
    x, labels = torch.rand(7, 30, dtype=torch.float64), torch.randint(10, (7,))
    masks = make_masks(model, 0.3)
    expected = results(model, plain_forward(model, x, plain_masks(model, masks)).output, labels)
    assert_close(expected, results(model, stepwise(model, x.T, masks), labels), 1e-9)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("rule", ["hp", "gp"])
def test_network_on_a_gpu_is_the_plain_one(rule):
    model = make_network((30, 20, 25, 10), rule)
    x, labels = torch.rand(7, 30, dtype=torch.float64), torch.randint(10, (7,))
    used = [torch.rand(weight.shape) < 0.3 for weight in model.weights()]
    plain = plain_forward(model, x, [u.T.double() for u in used]).output
    expected = results(model, plain, labels)
    device = torch.device("cuda")
    masks = [Mask(u, device) for u in used]
    model.to(device)
    output = model(x.T.to(device), model.connections(masks))
    found = results(model, output, labels.to(device))
    found = {name: value.cpu() for name, value in found.items()}
    assert_close(expected, found, 1e-9)


def test_single_trace_is_a_batch_of_one():
    model, x = make_network((30, 20, 25, 10)), torch.rand(7, 30, dtype=torch.float64)
    masks = make_masks(model, 0.3)
    connections = model.connections(masks)
    together = model(x.T, connections, "single")
    alone = torch.cat([model(one[:, None], connections) for one in x])
    torch.testing.assert_close(together, alone)
    assert not torch.allclose(together, model(x.T, connections))


def test_frozen_trace_is_alpha_zero():
    model, x = make_network((30, 20, 25, 10)), torch.rand(7, 30, dtype=torch.float64)
    connections = model.connections(make_masks(model, 0.3))
    frozen = model(x.T, connections, "frozen")
    assert not torch.allclose(frozen, model(x.T, connections))
    with torch.no_grad():
        model.first.alpha.zero_()
        model.second.alpha.zero_()
    torch.testing.assert_close(frozen, model(x.T, connections))


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 9), st.floats(0, 1))
def test_masked_product_and_correlation(n_out, n_in, batch, share):
    torch.manual_seed(n_out)
    used = torch.rand(n_out, n_in) < share
    mask = Mask(used, CPU)
    values = torch.rand(len(mask.flat), dtype=torch.float64, requires_grad=True)
    x = torch.rand(n_in, batch, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(mask.product, (x, values))
    dense = torch.zeros(n_out, n_in, dtype=torch.float64)
    dense[used] = values.detach()
    torch.testing.assert_close(mask.product(x, values).detach(), dense @ x.detach())
    y = torch.rand(n_out, batch, dtype=torch.float64)
    torch.testing.assert_close(mask.correlation(x.detach(), y), (y @ x.detach().T)[used])


@pytest.mark.parametrize("dtype", [f64, f32])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.09, 0.5])
def test_product_with_few_spikes_is_the_whole_product(share, dtype, monkeypatch):
    torch.manual_seed(0)
    weight = torch.randn(40, 30, dtype=dtype, requires_grad=True)
    x = (torch.rand(30, 50) < share).to(dtype)
    x[3] *= 2  # any value counts as it is
    x.requires_grad_()
    went: list[torch.Tensor] = []
    entries = few_spikes._entries
    monkeypatch.setattr(few_spikes, "_entries", lambda x: went.append(x) or entries(x))
    found, whole = few_spikes.product(weight, x), weight @ x
    assert len(went) == (share <= few_spikes.MOST)
    given = torch.randn_like(whole)
    one, other = (
        {"product": y.detach(), "weight": to_weight, "x": to_x}
        for y in (found, whole)
        for to_weight, to_x in [torch.autograd.grad(y, [weight, x], given)]
    )
    assert_close(one, other, TOLERANCE[dtype])


def test_a_weight_that_is_no_number_is_seen_without_a_spike():
    weight = torch.ones(4, 3)
    weight[1, 2] = torch.nan
    product = few_spikes.product(weight, torch.zeros(3, 5))
    assert product.isnan().any(1).tolist() == [False, True, False, False]


def test_numbers_that_scipy_does_not_know_take_the_whole_product():
    model = make_network((20, 16, 16, 4), "gp", dtype=torch.bfloat16)
    model.constants = model.constants._replace(neuron=Neuron(0.5, 0.8, reset="hard"))
    x = torch.zeros(20, 3, dtype=torch.bfloat16)
    assert not model(x, model.connections(None)).any()
    with pytest.raises(RuntimeError, match="dtype"):
        few_spikes.product(torch.ones(2, 3), torch.zeros(3, 4, dtype=f64))


def test_constant_input_has_no_gradient():
    model = make_network((30, 20, 25, 10))
    x = torch.rand(30, 7, dtype=torch.float64, requires_grad=True)
    with pytest.raises(ValueError, match="an input of one step has no gradient"):
        model(x, model.connections(make_masks(model, 0.3)))


@pytest.mark.parametrize("rule", ["hp", "gp"])
def test_two_steps_lower_the_loss_and_nothing_is_kept(rule):
    model, x = make_network((60, 50, 40, 10), rule), torch.rand(60, 20, dtype=torch.float64)
    labels, masks = torch.randint(10, (20,)), make_masks(model, 0.5)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses, alive = [], []
    for _ in range(6):
        loss = squared_error(model(x, model.connections(masks)), labels)
        optimizer.zero_grad()
        loss.backward()
        assert all(value.grad.isfinite().all() for value in model.parameters())
        optimizer.step()
        losses.append(float(loss.detach()))
        del loss
        gc.collect()
        alive.append(sum(issubclass(type(value), torch.Tensor) for value in gc.get_objects()))
    assert losses[2] < losses[1] < losses[0]
    assert alive[-1] == alive[2]


# ------------------------------------------------------------------------------------- learners


def make_tasks(model, n, share=0.2):
    shapes = [tuple(weight.shape) for weight in model.weights()]
    return [Task(0, number, shapes, share, CPU) for number in range(n)]


class SeenThroughMasks(DenseLearner):
    """Adam on all weights, of which a task sees those that its masks leave."""

    def __init__(self, model, lr, penalty):
        super().__init__(model, lr, penalty)
        self.model = model

    def begin(self, task):
        self.task = task

    def connections(self):
        return self.model.connections(self.task.masks)


def learn_in_turn(model, learner, tasks, steps, penalty=None):
    generator = torch.Generator().manual_seed(3)
    for task in tasks:
        learner.begin(task)
        for _ in range(steps):
            x = torch.rand(30, 8, generator=generator, dtype=torch.float64)
            labels = torch.randint(10, (8,), generator=generator)
            learner.step(squared_error(model(x, learner.connections()), labels))
        learner.end()
        if penalty is not None:
            draws = [mask.filled(torch.rand(len(mask.flat)).double()) for mask in task.masks]
            penalty.add_task([1e-4 * draw for draw in draws], model.weights())


@pytest.mark.parametrize(("steps", "again"), [(5, False), (450, False), (30, True)])
@pytest.mark.parametrize("held", [False, True])
def test_adam_on_few_weights_is_adam_on_all(steps, again, held, monkeypatch):
    monkeypatch.setattr(learners, "_AT_ONCE", 100)
    found = []
    for kind in (MaskedLearner, SeenThroughMasks):
        torch.manual_seed(0)
        model = make_network((30, 20, 25, 10), "gp")
        penalty = ewc.Penalty(model.weights(), 5000.0) if held else None
        given = model.weights() if kind is MaskedLearner else model
        tasks, learner = make_tasks(model, 4), kind(given, 1e-3, penalty)
        learn_in_turn(model, learner, tasks[:2], steps, penalty)
        if again:  # without momentum: the penalty alone moves what a task does not see
            learner = kind(given, 1e-3, penalty)
        learn_in_turn(model, learner, tasks[2:], steps, penalty)
        found.append([weight.detach().clone() for weight in model.weights()])
    torch.testing.assert_close(*found, rtol=0, atol=1e-11)


def test_the_penalty_moves_weights_that_a_task_does_not_see():
    """What momentum carries away from a mask is pulled back: else the last test says little."""
    ends = []
    for strength in (0.0, 5000.0):
        torch.manual_seed(0)
        model = make_network((30, 20, 25, 10), "gp")
        penalty, tasks = ewc.Penalty(model.weights(), strength), make_tasks(model, 2)
        learn_in_turn(model, MaskedLearner(model.weights(), 1e-3, penalty), tasks, 50, penalty)
        unseen = torch.ones_like(model.first.weight, dtype=torch.bool).flatten()
        unseen[tasks[1].masks[0].flat] = False
        ends.append(model.first.weight.detach().flatten()[unseen])
    assert (ends[0] - ends[1]).abs().max() > 1e-4


def test_masked_learner_goes_on_from_its_state():
    whole, parts = make_network((30, 20, 25, 10), "gp"), make_network((30, 20, 25, 10), "gp")
    tasks = make_tasks(whole, 2)
    one, other = MaskedLearner(whole.weights(), 1e-3), MaskedLearner(parts.weights(), 1e-3)
    learn_in_turn(whole, one, tasks, 5)
    learn_in_turn(parts, other, tasks, 5)
    new = MaskedLearner(parts.weights(), 1e-3)
    new.load_state_dict(other.state_dict())
    learn_in_turn(whole, one, tasks, 5)
    learn_in_turn(parts, new, tasks, 5)
    for a, b in zip(whole.weights(), parts.weights(), strict=True):
        assert torch.equal(a, b)


# ------------------------------------------------------------------------------------------ EWC


def digits(n):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (n, 1, 5, 6), dtype=np.uint8)
    split = datasets.Split(pixels, rng.integers(0, 10, n))
    return Samples.of(split, CPU).map(lambda images: images.flatten(1))


def make_ewc_network():
    model = make_network((30, 20, 25, 10), "gp", dtype=torch.float32)
    return model, make_tasks(model, 1)[0], digits(12)


@pytest.mark.parametrize("masked", [True, False])
def test_fisher_is_the_mean_of_squared_gradients(masked):
    model, task, images = make_ewc_network()
    expected = [torch.zeros_like(weight) for weight in model.weights()]
    for pixels in images.inputs:
        connections = model.connections(task.masks if masked else None)
        output = model(task.inputs(pixels[None]), connections)
        loss = functional.nll_loss(functional.log_softmax(output, 1), output.argmax(1))
        for total, grad in zip(expected, torch.autograd.grad(loss, model.weights()), strict=True):
            total += grad.square() / len(images)
    found = ewc.fisher_diagonal(model, task, masked, images, 5, "sample")
    assert all(value.max() > 0 for value in found)
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


def test_fisher_of_batches_is_divided_by_their_number_less_one():
    model, task, images = make_ewc_network()
    expected = torch.zeros_like(model.first.weight)
    for pixels, _ in images.batches(4):
        output = model(task.inputs(pixels), model.connections(None))
        loss = functional.nll_loss(functional.log_softmax(output, 1), output.argmax(1))
        expected += torch.autograd.grad(loss, model.first.weight)[0].square() / 2
    found = ewc.fisher_diagonal(model, task, False, images, 4, "batch")
    torch.testing.assert_close(found[0], expected, rtol=1e-4, atol=1e-7)


def test_penalty_holds_each_task_where_it_was():
    weight = torch.nn.Parameter(torch.rand(3, 4, dtype=torch.float64))
    penalty = ewc.Penalty([weight], 10.0)
    earlier = []
    for _ in range(3):
        fisher = torch.rand_like(weight).detach()
        earlier.append((fisher, weight.detach().clone()))
        penalty.add_task([fisher], [weight])
        with torch.no_grad():
            weight += torch.rand_like(weight)
    value = 5.0 * sum((fisher * (weight - old) ** 2).sum() for fisher, old in earlier)
    (expected,) = torch.autograd.grad(value, weight)
    weight.grad = torch.zeros_like(weight)
    penalty.add_gradient([weight])
    torch.testing.assert_close(weight.grad, expected)


def test_a_weight_that_never_moved_is_not_pulled_by_rounding():
    still, moved = torch.nn.Parameter(torch.rand(30, 40)), torch.nn.Parameter(torch.rand(5, 6))
    weights = [still, moved]
    penalty = ewc.Penalty(weights, 5000.0)
    for _ in range(7):
        penalty.add_task([torch.rand_like(weight).detach() for weight in weights], weights)
        with torch.no_grad():
            moved += 0.1
        for weight in weights:
            weight.grad = torch.zeros_like(weight)
        penalty.add_gradient(weights)
        assert still.grad.count_nonzero() == 0
        assert moved.grad.count_nonzero() == moved.numel()


def test_the_fisher_of_batches_is_that_of_the_order():
    model, task, images = make_ewc_network()
    order = torch.tensor([7, 0, 11, 3, 9, 1, 5, 10, 2, 8, 4, 6])
    mixed = Samples(images.inputs[order], images.labels[order])
    expected = ewc.fisher_diagonal(model, task, False, mixed, 4, "batch")
    found = ewc.fisher_diagonal(model, task, False, images, 4, "batch", order)
    for one, other in zip(expected, found, strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(found[0], ewc.fisher_diagonal(model, task, False, images, 4, "batch")[0])


def test_the_fisher_is_taken_of_samples_in_random_order(monkeypatch):
    split = datasets.Split(np.zeros((300, 1, 28, 28), np.uint8), np.zeros(300, np.int64))
    data = datasets.Dataset("none", split, split, split, 10)
    course = Course(Options(tasks=2, epochs=1), EWC, data, CPU)
    orders = []

    def fisher(*arguments):
        orders.append(arguments[-1].tolist())
        return [torch.zeros_like(weight) for weight in course.network.weights()]

    monkeypatch.setattr(program, "fisher_diagonal", fisher)
    for number in range(2):
        course.learn(number)
    assert [sorted(order) for order in orders] == 2 * [list(range(300))]
    assert orders[0] != orders[1] != list(range(300)) != orders[0]


# -------------------------------------------------------------------------------- tasks, scores


def test_a_task_is_drawn_from_seed_and_number():
    shapes = [(200, 100), (10, 200)]
    task, same, other, next_one = (
        Task(seed, number, shapes, 0.03, CPU) for seed, number in ((0, 0), (0, 0), (1, 0), (0, 1))
    )
    assert torch.equal(task.permutation, same.permutation)
    assert sorted(task.permutation.tolist()) == list(range(100))
    for a, b in zip(task.masks, same.masks, strict=True):
        assert torch.equal(a.flat, b.flat)
    assert len(task.masks[0].flat) / 20000 == pytest.approx(0.03, abs=0.005)
    for different in (other, next_one):
        assert not torch.equal(task.masks[0].flat, different.masks[0].flat)
    # The order of the pixels is the task's, whatever the seed; the first task leaves them be.
    assert task.permutation.tolist() == other.permutation.tolist() == list(range(100))
    assert torch.equal(next_one.permutation, Task(1, 1, shapes, 0.03, CPU).permutation)
    assert not torch.equal(next_one.permutation, Task(0, 2, shapes, 0.03, CPU).permutation)
    pixels = torch.arange(100, dtype=torch.uint8)[None]
    assert torch.equal(next_one.inputs(pixels)[:, 0] * 255, next_one.permutation.float())


def test_orders_are_those_that_numpy_shuffles_from_the_task_s_number():
    for number in (1, 2, 49):
        expected = np.arange(784)
        np.random.seed(number)  # noqa: NPY002 - the published way
        np.random.shuffle(expected)  # noqa: NPY002
        task = Task(5, number, [(3, 784)], 0.03, CPU)
        assert task.permutation.tolist() == expected.tolist()


def course_of(method, tasks=3):
    split = datasets.Split(np.zeros((20_000, 1, 28, 28), np.uint8), np.zeros(20_000, np.int64))
    data = datasets.Dataset("none", split, split, split, 10)
    return Course(Options(tasks=tasks, epochs=1), method, data, CPU)


@pytest.mark.parametrize(
    ("method", "shown"),
    [(HP, {0: {0}, 1: {0}, 2: {0, 1}}), (HP_NO_REPLAY, {0: {0}, 1: {1}, 2: {2}})],
)
def test_replay_shows_the_tasks_before_the_one_just_learned(method, shown, monkeypatch):
    course = course_of(method)
    seen = []
    monkeypatch.setattr(course.network, "connections", lambda masks: seen.append(masks))
    monkeypatch.setattr(
        course.network, "forward",
        lambda x, _: torch.zeros(x.shape[1], 10, requires_grad=True),
    )  # fmt: skip
    for number, expected in shown.items():
        seen.clear()
        course._meta_train(number)
        tasks = [i for masks in seen for i, t in enumerate(course._tasks) if t.masks is masks]
        assert len(tasks) == 200
        assert set(tasks) == expected
        if number == 2 and method is HP:
            assert 60 < tasks.count(0) < 140


def test_only_ewc_has_no_attenuation():
    for method in (HP, HP_NO_REPLAY, GP, FINETUNE):
        first, second, third = course_of(method, 1).network.constants.ks
        assert (first, second, third) == pytest.approx((1, math.exp(-1 / 50), math.exp(-2 / 50)))
    for method in (EWC, EWC_MASKS):
        assert course_of(method, 1).network.constants.ks == (1, 1, 1)


def test_fresh_weights_are_torch_s_and_constants_uniform():
    torch.manual_seed(0)
    model = SETTINGS.network("hp")
    for weight in model.weights():
        bound = weight.shape[1] ** -0.5
        assert 0.99 * bound < weight.abs().max() <= bound
        assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
        assert abs(weight.mean().item()) < 4 * bound / 3**0.5 / weight.numel() ** 0.5
    alphas = []
    for _ in range(30):
        model = SETTINGS.network("hp")
        alphas += [model.first.alpha.item(), model.second.alpha.item()]
    assert 0 <= min(alphas) < 0.02 < 0.08 < max(alphas) < 0.1
    for layer in (model.first, model.second):
        assert 0 <= layer.beta.min() < 1e-5 < 0.99e-3 < layer.beta.max() < 1e-3
        assert not layer.eta.any()


# ------------------------------------------------------------- the published names and calls

MODELS = {"hp": hp_model, "gp": gp_model}


@pytest.mark.parametrize("rule", MODELS)
def test_the_published_loop_learns_by_the_published_names(rule):
    module = MODELS[rule]
    module.setup_seed(0)
    snn = module.SNN_Model()
    masks = module.mask_weight(p=0.5, task_number=2)
    assert [mask.shape for mask in masks[1]] == [(784, 1024), (1024, 1024), (1024, 10)]
    assert masks[0][1].mean().item() == pytest.approx(0.5, abs=0.01)
    base, local = snn.parameter_split()
    assert [p.shape for p in base] == [(1024, 784), (1024, 1024), (10, 1024)]
    assert {id(p) for p in base} == {id(snn.fc1.weight), id(snn.fc2.weight), id(snn.fc3.weight)}
    assert len(local) == 12
    optim_base, optim_local = torch.optim.Adam(base, 5e-4), torch.optim.Adam(local, 5e-5)
    hebb1, hebb2, hebb3 = snn.produce_hebb()
    images, labels = (torch.rand(20, 784) > 0.9).float(), torch.arange(20) % 10
    losses, alpha = [], snn.alpha1.item()
    for _ in range(4):
        found = snn(
            input=images, hebb1=hebb1, hebb2=hebb2, hebb3=hebb3, wins=module.time_window,
            label=labels, mask_dict=masks[0],
        )  # fmt: skip
        outputs, _, potentials, hebb1, hebb2, hebb3, *_ = found
        assert len(found) == 8
        assert potentials.shape == (20, 1024)
        assert hebb1.any() == hebb2.any() == (rule == "hp")
        assert not hebb1.requires_grad
        loss = squared_error(outputs, labels)
        optim_base.zero_grad()
        loss.backward()
        optim_base.step()
        losses.append(loss.item())
    optim_local.step()
    assert (snn.alpha1.item() != alpha) == (rule == "hp")
    assert losses[-1] < losses[0]
    with torch.no_grad():  # the network beneath has learned what the published names have
        masked = [Mask(mask.T.bool().contiguous(), CPU) for mask in masks[1]]
        fast = snn.network(images.T.contiguous(), snn.network.connections(masked))
        plain = snn(images, hebb1, hebb2, hebb3, mask_dict=masks[1])[0]
    torch.testing.assert_close(fast, plain, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("rule", MODELS)
def test_the_published_step_makes_the_published_presentation(rule):
    module = MODELS[rule]
    torch.manual_seed(0)
    snn = module.SNN_Model()
    masks = module.mask_weight(0.5, 1)[0]
    x = torch.rand(5, 784)
    hebb1, hebb2, hebb3 = snn.produce_hebb()
    found = snn(x, hebb1, hebb2, hebb3, wins=2, mask_dict=masks)
    mem1 = spike1 = mem2 = spike2 = torch.zeros(5, 1024)
    with torch.no_grad():
        for step in range(2):
            k = math.exp(-step / module.t_tau)
            mem1, spike1, hebb1 = module.mem_update(
                snn.fc1, masks[0], snn.alpha1, snn.beta1, snn.gamma1, snn.eta1, x * k, spike1, mem1,
                hebb1,
            )  # fmt: skip
            mem2, spike2, hebb2 = module.mem_update(
                snn.fc2, masks[1], snn.alpha2, snn.beta2, snn.gamma2, snn.eta2, spike1 * k, spike2,
                mem2, hebb2,
            )  # fmt: skip
    torch.testing.assert_close(found[0], mem2 @ (snn.fc3.weight.T * masks[2]))
    torch.testing.assert_close(found[2], mem1)
    torch.testing.assert_close(found[4], hebb2)


def test_a_published_model_without_masks_says_what_is_missing():
    snn = gp_model.SNN_Model()
    with pytest.raises(ValueError, match="mask_dict is missing: pass a task's three masks"):
        snn(torch.rand(2, 784), *snn.produce_hebb())


def test_the_published_ewc_holds_weights_as_the_penalty_does():
    torch.manual_seed(0)
    snn = spiking_ewc_model.SNN_Model()
    loader = [(torch.rand(6, 1, 28, 28), torch.zeros(6).long()) for _ in range(3)]
    order = np.random.default_rng(0).permutation(784)
    hebbs = snn.produce_hebb()
    assert snn.ewc_loss() == 0
    penalty, expected = ewc.Penalty(snn.network.weights(), snn.ewc_lambda), []
    for _ in range(2):
        snn.estimate_fisher(
            loader, input_parameter=hebbs, permutted_paramer=order, allowed_classes=None
        )
        fisher = [torch.zeros_like(w) for w in snn.network.weights()]
        for x, _ in loader:
            output = snn(x.flatten(1)[:, order], *hebbs)[0]
            loss = functional.nll_loss(functional.log_softmax(output, 1), output.argmax(1))
            for total, grad in zip(
                fisher, torch.autograd.grad(loss, snn.network.weights()), strict=True
            ):
                total += grad.square() / 2
        penalty.add_task(fisher, snn.network.weights())
        expected.append(([f.double() for f in fisher], [w.detach().double() for w in
                                                         snn.network.weights()]))  # fmt: skip
        expected[-1] = tuple([v.clone() for v in part] for part in expected[-1])
        with torch.no_grad():
            for weight in snn.network.weights():
                weight += 0.01 * torch.rand_like(weight)
    assert snn.EWC_task_count == 2
    assert "fc2__weight_EWC_prev_task1" in snn.state_dict()
    value = sum(
        (f * (w.detach() - old).square()).sum().item() / 2
        for fisher, before in expected
        for f, old, w in zip(fisher, before, snn.network.weights(), strict=True)
    )
    assert value > 0
    assert snn.ewc_loss().item() == pytest.approx(value, rel=1e-4)
    (snn.ewc_lambda * snn.ewc_loss()).backward()
    found = [w.grad.clone() for w in snn.network.weights()]
    for weight in snn.network.weights():
        weight.grad = torch.zeros_like(weight)
    penalty.add_gradient(snn.network.weights())
    for weight, grad in zip(snn.network.weights(), found, strict=True):
        scale = grad.abs().max().item()
        torch.testing.assert_close(weight.grad, grad, rtol=1e-3, atol=1e-4 * scale)


def test_scores():
    nan = np.nan
    matrix = np.array([[0.9, nan, nan], [0.95, 0.8, nan], [0.7, 0.85, 0.9]])
    np.testing.assert_allclose(scores.mean_accuracies(matrix), [0.9, 0.875, 2.45 / 3])
    assert scores.backward_transfer(matrix) == pytest.approx((-0.2 + 0.05) / 2)
    np.testing.assert_allclose(scores.forgetting(matrix), [0.25, -0.05])
    assert scores.backward_transfer(matrix[:1, :1]) is None


@pytest.mark.parametrize("method", [HP, EWC])
def test_a_loss_that_is_no_number_stops_the_run(method):
    split = datasets.Split(np.zeros((200, 1, 28, 28), np.uint8), np.zeros(200, np.int64))
    data = datasets.Dataset("none", split, split, split, 10)
    course = Course(Options(tasks=1, epochs=1), method, data, CPU)
    with torch.no_grad():
        course.network.readout.fill_(torch.nan)
    with pytest.raises(UserError, match=f"at step 1 of this epoch under the rule {method.rule}"):
        course.learn(0)


# ---------------------------------------------------------------------------------- the scripts

HP_MAIN = "multitask_learning/hp_model/main_hp_model.py"
GP_MAIN = "multitask_learning/gp_model/main_gp_model.py"
EWC_MAIN = "multitask_learning/spiking_ewc/main_spiking_ewc.py"


@pytest.mark.parametrize(
    ("script", "options", "name"),
    [
        (HP_MAIN, ("--meta-tasks", 1), "hp_multitask_hp_2tasks_meta-1_quick"),
        (HP_MAIN, ("--method", "hp_no_replay"), "hp_multitask_hp_no_replay_2tasks_quick"),
        (GP_MAIN, (), "hp_multitask_gp_2tasks_quick"),
        (GP_MAIN, ("--method", "finetune"), "hp_multitask_finetune_2tasks_quick"),
        (EWC_MAIN, ("--fisher", "batch"), "hp_multitask_ewc_2tasks_fisher-batch_quick"),
        (EWC_MAIN, ("--method", "ewc_masks", "--ewc-lambda", 10),
         "hp_multitask_ewc_masks_2tasks_lambda-10.0_quick"),
    ],
)  # fmt: skip
def test_quick(script, options, name, call, scripts, tmp_path):
    done = call(script, "--quick", "--tasks", 2, *options, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    is_hybrid = script == HP_MAIN
    figures = ["tasks", "matrix", "forgetting", *(["constants"] if is_hybrid else [])]
    result = scripts.assert_finished(tmp_path, figures)
    assert result["experiment"].replace("_mnist5k", "") == name
    metrics, rows = result["metrics"], scripts.rows(tmp_path)
    assert len(rows) == 2
    both = [rows[-1]["accuracy_1"], rows[-1]["accuracy_2"]]
    assert metrics["test_accuracy_last"] == pytest.approx(np.mean(both))
    transfer = rows[1]["accuracy_1"] - rows[0]["accuracy_1"]
    assert metrics["backward_transfer"] == pytest.approx(transfer)
    assert metrics["forgetting"] == pytest.approx(-transfer)
    assert ("test_accuracy_last_single" in metrics) == is_hybrid
    assert ["meta_loss" in row for row in rows] == [is_hybrid, name.startswith(
        "hp_multitask_hp_no")]  # fmt: skip


@pytest.mark.parametrize(
    ("script", "options", "words"),
    [
        (EWC_MAIN, ("--tasks", "0"), "--tasks 0 must be above 0"),
        (EWC_MAIN, ("--epochs", "-1"), "--epochs -1 must be above 0"),
        (EWC_MAIN, ("--ewc-lambda", "0"), "--ewc-lambda 0.0 must be above 0"),
        (EWC_MAIN, ("--method", "hp"), "invalid choice 'hp'"),
        (EWC_MAIN, ("--fisher", "exact"), "invalid choice 'exact'"),
        (EWC_MAIN, ("--seed", "-1"), "--seed -1: a seed lies between"),
        (EWC_MAIN, ("--device", "tpu"), "is not one of auto, cpu, cuda, cuda:N, mps"),
        (HP_MAIN, ("--meta-tasks", "-1"), "--meta-tasks -1 must be 0 or above"),
    ],
)
def test_bad_input_ends_with_code_2_and_one_sentence(
    script, options, words, call, scripts, tmp_path
):
    done = call(script, "--quick", *options, "--out", tmp_path / "run")
    scripts.assert_refused(done, words)
    assert not (tmp_path / "run" / "result.json").exists()


def test_a_folder_of_other_options_is_refused(call, tmp_path):
    options = ("--quick", "--tasks", 1, "--out", tmp_path)
    assert call(GP_MAIN, *options).returncode == 0
    done = call(GP_MAIN, "--method", "finetune", *options)
    assert done.returncode == 2
    assert "holds a run with --method gp, not finetune" in done.stderr


@pytest.mark.parametrize("script", [HP_MAIN, EWC_MAIN])
def test_a_killed_run_goes_on_bit_for_bit(script, call, scripts, tmp_path):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    options = ("--quick", "--tasks", 2)
    assert call(script, *options, "--out", undisturbed).returncode == 0
    # One checkpoint per task: it is killed in the second, the last.
    scripts.stopped_run(killed, signal.SIGKILL, script, *options, behind="checkpoint.pt")
    assert not (killed / "result.json").exists()
    done = call(script, *options, "--out", killed)
    assert done.returncode == 0, done.stderr
    assert "task   1" not in done.stdout
    scripts.assert_same_run(killed, undisturbed)


@pytest.mark.parametrize("rule", ["hp", "gp"])
def test_a_second_derivative_is_refused(rule):
    made = make_network((6, 5, 4, 3), rule)
    masks = [Mask(torch.rand(len(w), w.shape[1]) < 0.8, CPU) for w in made.weights()]
    shown = torch.rand(6, 4, dtype=torch.float64)
    loss = made(shown, made.connections(masks)).square().sum()
    grads = torch.autograd.grad(loss, made.weights(), create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        torch.stack([grad.square().sum() for grad in grads]).sum().backward()
