"""The plastic layer: fast forms against the plain formulation, and what the rules may change."""

import gc
import importlib
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_plasticity import reference
from hybrid_plasticity.layer import PlasticLayer
from hybrid_plasticity.networks import FullyConnected
from hybrid_plasticity.neuron import Neuron, spike
from hybrid_plasticity.simple_example.shared_parameters import SETTINGS as SIMPLE
from hybrid_plasticity.tolerance_learning.shared_parameters import SETTINGS as TOLERANCE
from hybrid_plasticity.trace import Hebbian
from hybrid_plasticity.training import (
    LossWatch,
    Protocol,
    evaluate,
    optimizers,
    squared_error,
    train_epoch,
)
from shared.errors import UserError
from shared.tensors import Samples

RESETS = ("soft", "hard", "none")


def network(rule="hp", reset="soft", post="tanh", limit=4.0, scale=1.0, sizes=(12, 9, 4), **other):
    neuron = Neuron(theta=0.35, decay=0.4, reset=reset)
    hebbian = Hebbian(decay=0.9, scale=scale, post=post, limit=limit)
    made = FullyConnected(sizes, neuron, hebbian, 40.0, other.pop("steps", 5), rule, **other)
    made.draw_local(0.5)
    for layer in made.plastic_layers():
        layer.hebb = 0.2 * torch.randn_like(layer.hebb)
    return made.double()


def batch(seed, size=7, n_in=12, classes=4):
    draw = torch.Generator().manual_seed(seed)
    images = torch.rand(size, n_in, generator=draw, dtype=torch.float64)
    return images, torch.randint(classes, (size,), generator=draw)


def gradients(model):
    """Of every parameter that learns; what the loss does not depend on has a gradient of zero."""
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad
        for name, p in model.named_parameters()
        if p.requires_grad
    }


def assert_same_presentation(model, images, labels):
    """Output, spike counts, all gradients and the traces are those of the plain formulation."""
    plain, traces = reference.fully_connected(model, images)
    squared_error(plain.output, labels).backward()
    expected = gradients(model)
    model.zero_grad(set_to_none=True)
    found = model(images)
    squared_error(found.output, labels).backward()
    torch.testing.assert_close(found.output, plain.output, rtol=1e-10, atol=1e-12)
    for a, b in zip(found.spike_counts, plain.spike_counts, strict=True):
        assert torch.equal(a, b)
    got = gradients(model)
    assert got.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(got[name], gradient, rtol=1e-9, atol=1e-13, msg=name)
    for layer, trace in zip(model.layers, traces, strict=True):
        if trace is not None:
            torch.testing.assert_close(layer.hebb, trace.detach(), rtol=1e-10, atol=1e-13)


@settings(max_examples=60, deadline=None)
@given(
    rule=st.sampled_from(("hp", "gp", "lp")),
    reset=st.sampled_from(RESETS),
    post=st.sampled_from(("tanh", "identity")),
    limit=st.sampled_from((None, 4.0, 0.3)),
    scale=st.sampled_from((1.0, -1.0)),
    steps=st.integers(1, 6),
    size=st.integers(1, 9),
    hidden=st.integers(1, 12),
    seed=st.integers(0, 10**6),
)
def test_a_presentation_equals_the_plain_formulation(
    rule, reset, post, limit, scale, steps, size, hidden, seed
):
    torch.manual_seed(seed)
    model = network(rule, reset, post, limit, scale, (12, hidden, 4), steps=steps)
    assert_same_presentation(model, *batch(seed, size))


@pytest.mark.parametrize("reset", RESETS)
def test_step_by_step_equals_the_plain_formulation(reset, monkeypatch):
    """The way of a GPU, and of networks that may stop early."""
    monkeypatch.setattr(PlasticLayer, "present", PlasticLayer._present_by_steps)
    for seed in range(5):
        torch.manual_seed(seed)
        assert_same_presentation(network(reset=reset, post="identity"), *batch(seed))


def test_the_clamp_acts_where_the_trace_passes_its_limit():
    model = network(limit=0.05)
    for layer in model.plastic_layers():
        layer.hebb.clamp_(-0.05, 0.05)
    images, labels = batch(0)
    assert_same_presentation(model, images, labels)
    model(images)
    largest = [layer.hebb.abs().max().item() for layer in model.plastic_layers()]
    assert max(largest) == pytest.approx(0.05)


@pytest.mark.parametrize("limit", [None, 0.5])
def test_the_trace_goes_on_over_presentations(limit):
    model = network(limit=limit)
    for seed in range(8):
        model.zero_grad(set_to_none=True)
        assert_same_presentation(model, *batch(seed))


def test_a_trace_that_was_loaded_is_looked_at_again():
    """Its known bound must not outlive the trace, or the clamp would be missed."""
    model = network(limit=1.0)
    images, labels = batch(0)
    model(images)
    state = model.state_dict()
    for name in state:
        if name.endswith("hebb"):
            state[name] = torch.full_like(state[name], 0.999)
        if name.endswith("beta"):
            state[name] = torch.full_like(state[name], 3.0)
    model.load_state_dict(state)
    model.zero_grad(set_to_none=True)
    assert_same_presentation(model, images, labels)


def test_float32_agrees_to_its_precision():
    torch.manual_seed(0)
    model = network(sizes=(784, 64, 10), steps=10).float()
    images, labels = batch(0, 20, 784, 10)
    images = images.float()
    plain, _ = reference.fully_connected(model, images)
    squared_error(plain.output, labels).backward()
    expected = gradients(model)
    model.zero_grad(set_to_none=True)
    squared_error(model(images).output, labels).backward()
    for name, gradient in gradients(model).items():
        largest = expected[name].abs().max()
        assert ((gradient - expected[name]).abs().max() / largest) < 1e-4, name


@pytest.mark.parametrize("encoding", ["intensity", "bernoulli"])
def test_encodings(encoding):
    model = network(encoding=encoding)
    images, labels = batch(0)
    images[:, ::2] = 0
    images[:, 1::2] = 1
    # A pixel of probability 0 or 1 is the same under both, so the plain formulation holds.
    assert_same_presentation(model, images, labels)


def test_bernoulli_input_changes_from_draw_to_draw():
    model = network("gp", encoding="bernoulli")
    images = torch.full((7, 12), 0.5, dtype=torch.float64)
    torch.manual_seed(0)
    first = model(images).output
    assert not torch.equal(first, model(images).output)
    torch.manual_seed(0)
    assert torch.equal(first, model(images).output)


# --------------------------------------------------------------------------------- the surrogate


def test_spikes_and_their_surrogate_gradient():
    v = torch.tensor([-0.2, 0.3, 0.35, 0.36, 0.84, 0.86], requires_grad=True)
    s = spike(v, 0.35, 0.5)
    assert s.tolist() == [0, 0, 0, 1, 1, 1]
    s.sum().backward()
    assert v.grad.tolist() == [0, 1, 1, 1, 1, 0]


def test_a_small_step_in_alpha_changes_the_loss_as_its_gradient_says():
    """Through one step's potentials alone the loss is smooth, so finite differences hold."""
    torch.manual_seed(3)
    model = network(sizes=(12, 4), steps=3, limit=None)
    images, labels = batch(3, 5)
    layer = model.layers[0]
    # No neuron reaches the threshold, where the surrogate differs from the true derivative.
    with torch.no_grad():
        layer.fc.weight.mul_(0.01)
        layer.fc.bias.fill_(-2.0)
    trace = layer.hebb

    def loss():
        layer.hebb = trace
        return squared_error(model(images).output, labels)

    loss().backward()
    for parameter in (layer.alpha, layer.beta, layer.eta, layer.fc.weight):
        flat, gradient = parameter.data.view(-1), parameter.grad.view(-1)
        before, step = flat[0].item(), 1e-5
        flat[0] = before + step
        above = loss().item()
        flat[0] = before - step
        below = loss().item()
        flat[0] = before
        assert (above - below) / (2 * step) == pytest.approx(gradient[0].item(), rel=1e-4)


# ------------------------------------------------------------------------------------- the rules


def test_what_each_rule_learns():
    hp, gp, lp = (network(rule) for rule in ("hp", "gp", "lp"))
    assert len(hp.local_parameters()) == 6
    assert len(hp.global_parameters()) == 4
    assert gp.local_parameters() == []
    assert len(gp.global_parameters()) == 4
    # Of a network under local plasticity only the output layer learns.
    assert len(lp.local_parameters()) == 3
    assert len(lp.global_parameters()) == 2
    assert "optimizer" in optimizers(gp, 1e-3, 5e-4)
    assert set(optimizers(hp, 1e-3, 5e-4)) == {"optimizer", "local_optimizer"}


def test_rules_start_from_the_same_weights_and_draw_the_same_order_of_images_next():
    weights, orders = [], []
    for rule in ("hp", "gp", "lp"):
        torch.manual_seed(0)
        weights.append(SIMPLE.network(rule).layers[0].fc.weight.detach().clone())
        orders.append(torch.randperm(100))
    for drawn in (weights, orders):
        assert torch.equal(drawn[0], drawn[1])
        assert torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("rule", ["hp", "gp", "lp"])
def test_two_steps_lower_the_loss(rule):
    torch.manual_seed(0)
    model = network(rule).float()
    model.draw_local(0.01)
    for layer in model.plastic_layers():
        layer.hebb.zero_()
    images, labels = batch(0, 50)
    learners = optimizers(model, 1e-2, 1e-3).values()
    losses = []
    for _ in range(3):
        loss = squared_error(model(images.float()).output, labels)
        model.zero_grad(set_to_none=True)
        loss.backward()
        assert all(torch.isfinite(g).all() for g in gradients(model).values())
        for learner in learners:
            learner.step()
        losses.append(loss.item())
    assert losses[2] < losses[0]


def test_local_plasticity_leaves_the_hidden_layer_alone_but_for_its_trace():
    model = network("lp")
    images, labels = batch(0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    loss = squared_error(model(images).output, labels)
    loss.backward()
    for learner in optimizers(model, 1e-2, 1e-2).values():
        learner.step()
    changed = {name for name, value in model.state_dict().items() if (value != before[name]).any()}
    assert {name for name in changed if name.startswith("layers.0")} == {"layers.0.hebb"}
    assert {"layers.1.fc.weight", "layers.1.alpha", "layers.1.beta"} <= changed


# ---------------------------------------------------------------------------------- fresh weights


@pytest.mark.parametrize(
    ("settings", "rule"),
    [(SIMPLE, "hp"), (SIMPLE, "gp"), (SIMPLE, "lp"), (TOLERANCE, "hp"), (TOLERANCE, "gp")],
)
def test_a_fresh_network_has_the_published_distribution(settings, rule):
    torch.manual_seed(3)
    model = settings.network(rule)
    sizes = (784, 512, 10)
    for layer, n_in, n_out in zip(model.layers, sizes[:-1], sizes[1:], strict=True):
        # torch's own: uniform within 1 / sqrt(n_in), weights and biases.
        bound = n_in**-0.5
        for values in (layer.fc.weight, layer.fc.bias):
            assert values.abs().max() <= bound
        assert layer.fc.weight.shape == (n_out, n_in)
        assert layer.fc.weight.abs().max() > 0.99 * bound
        assert layer.fc.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.03)
        if layer.rule == "gp":
            continue
        for name in ("alpha", "beta", "eta"):
            values = layer.get_parameter(name)
            assert 0 < values.max() < 0.01
            assert values.min() >= 0
        assert layer.beta.mean().item() == pytest.approx(0.005, rel=0.1)
        assert not layer.hebb.any()


def published_draws(spread):
    """Weights, then alpha, eta, gamma and beta of both layers, as the published classes draw."""
    connected = [torch.nn.Linear(784, 512), torch.nn.Linear(512, 10)]
    alphas = [spread * torch.rand(1) for _ in range(2)]
    etas = [spread * torch.rand(1, n) for n in (512, 10)]
    gammas = [torch.rand(1) for _ in range(2)]  # no published program reads them
    betas = [spread * torch.rand(1, n) for n in (784, 512)]
    return connected, alphas, etas, gammas, betas


def test_a_seed_draws_the_published_initial_values_in_their_order():
    torch.manual_seed(111)
    model = SIMPLE.network("hp")
    torch.manual_seed(111)
    connected, alphas, etas, _, betas = published_draws(0.01)
    for layer, linear, alpha, eta, beta in zip(
        model.layers, connected, alphas, etas, betas, strict=True
    ):
        assert torch.equal(layer.fc.weight, linear.weight)
        assert torch.equal(layer.fc.bias, linear.bias)
        for name, value in (("alpha", alpha), ("eta", eta), ("beta", beta)):
            assert torch.equal(layer.get_parameter(name), value)


@pytest.mark.parametrize(
    ("module", "spread"),
    [
        ("simple_example.model_hp", 1e-2),
        ("simple_example.model_lp", 1e-2),
        ("simple_example.model_gp", 1e-3),
        ("tolerance_learning.model_hp", 1e-2),
        ("tolerance_learning.model_gp", 1e-3),
    ],
)
def test_a_seed_gives_the_published_classes_all_their_published_values(module, spread):
    torch.manual_seed(111)
    model = importlib.import_module(f"hybrid_plasticity.{module}").SNN_Model()
    torch.manual_seed(111)
    connected, alphas, etas, gammas, betas = published_draws(spread)
    for k in (1, 2):
        assert torch.equal(getattr(model, f"fc{k}").weight, connected[k - 1].weight)
        drawn = {"alpha": alphas, "beta": betas, "eta": etas, "gamma": gammas}
        for name, values in drawn.items():
            assert torch.equal(getattr(model, f"{name}{k}"), values[k - 1]), name
            assert torch.equal(model.state_dict()[f"{name}{k}"], values[k - 1]), name


def test_a_network_whose_constants_were_not_drawn_is_one_of_global_plasticity():
    images, labels = torch.rand(20, 28, 28), torch.arange(20) % 10
    outputs, gradients = [], []
    for rule in ("hp", "gp"):
        torch.manual_seed(0)
        model = SIMPLE.undrawn(rule)
        for _ in range(2):
            output = model(images).output
        outputs.append(output)
        squared_error(output, labels).backward()
        gradients.append(model.layers[0].fc.weight.grad)
        for layer in model.plastic_layers():
            assert not layer.hebb.any()
            assert not layer.alpha.grad.any()
            assert not layer.beta.grad.any()
    torch.testing.assert_close(*outputs)
    torch.testing.assert_close(*gradients)


# ------------------------------------------------------------------------------------ protocols


def test_evaluation_gives_the_traces_back():
    model = network()
    images, labels = batch(0, 30)
    before = [layer.hebb.clone() for layer in model.plastic_layers()]
    for protocol in get_args(Protocol):
        seen = evaluate(model, Samples(images, labels), 10, protocol)
        assert 0 <= seen["accuracy"] <= 1
        assert seen["steps"] == model.steps
        for layer, trace in zip(model.plastic_layers(), before, strict=True):
            assert torch.equal(layer.hebb, trace)
            assert not layer.frozen


@pytest.mark.parametrize("protocol", get_args(Protocol))
def test_what_the_trace_does_in_a_test(protocol):
    torch.manual_seed(1)
    model = network()
    images, _ = batch(1, 30)
    size = 1 if protocol == "single" else 10
    with torch.no_grad(), model.traces(frozen=protocol == "frozen") as start_again:
        expected = []
        for part in torch.split(images, size):
            expected.append(model(part).output)
            if protocol in ("published", "single"):
                start_again()
    answers = torch.cat(expected)
    labels = answers.argmax(1)
    seen = []
    model.register_forward_hook(lambda _module, _given, response: seen.append(response.output))
    assert evaluate(model, Samples(images, labels), 10, protocol)["accuracy"] == 1
    assert torch.equal(torch.cat(seen), answers)


def outputs(model, images, size, frozen):
    with model.traces(frozen=frozen), torch.no_grad():
        return torch.cat([model(part).output for part in torch.split(images, size)])


def test_only_a_frozen_trace_makes_results_independent_of_the_batch():
    torch.manual_seed(1)
    model = network()
    images, _ = batch(1, 30)
    whole, single = (outputs(model, images, size, frozen=True) for size in (30, 1))
    torch.testing.assert_close(whole, single)
    backwards = outputs(model, images.flip(0), 7, frozen=True).flip(0)
    torch.testing.assert_close(whole, backwards)
    going_on, alone = (outputs(model, images, size, frozen=False) for size in (30, 1))
    assert (going_on - alone).abs().max() > 1e-3


def test_what_a_caller_froze_stays_frozen():
    model = network()
    images, labels = batch(1, 20)
    before = [layer.hebb.clone() for layer in model.plastic_layers()]
    with model.traces(frozen=True):
        evaluate(model, Samples(images, labels), 10)
        model(images)
        for layer, trace in zip(model.plastic_layers(), before, strict=True):
            assert torch.equal(layer.hebb, trace)
    assert not any(layer.frozen for layer in model.plastic_layers())
    for layer in model.plastic_layers():
        layer.frozen = True
    evaluate(model, Samples(images, labels), 10)
    assert all(layer.frozen for layer in model.plastic_layers())


def test_a_network_made_in_inference_mode_answers():
    with torch.inference_mode():
        model = network()
        images, _ = batch(1)
        outputs = [model(images).output for _ in range(2)]
    assert all(output.isfinite().all() for output in outputs)


# --------------------------------------------------------------------------------------- errors


def test_no_batch_and_no_sample_are_refused():
    model, (images, labels) = network(), batch(1, 5)
    with pytest.raises(UserError, match="5 samples make no batch of 6"):
        train_epoch(model, Samples(images, labels), 6, lambda: None, "hp")
    with pytest.raises(UserError, match="one sample at least"):
        evaluate(model, Samples(images[:0], labels[:0]), 6)


def test_a_loss_that_is_no_number_stops_the_run_and_names_step_rule_and_cause():
    watch = LossWatch("hp")
    for value in (1.0, 0.5, float("nan"), 0.1):
        watch.add(torch.tensor(value))
    with pytest.raises(UserError, match=r"loss became nan at step 3 .* rule hp.*alpha"):
        watch.mean()
    watch = LossWatch("gp")
    for value in [1.0] * 49:
        watch.add(torch.tensor(value))
    with pytest.raises(UserError, match=r"inf at step 50 .* rule gp.*lower the step size"):
        watch.add(torch.tensor(float("inf")))


@pytest.mark.parametrize(
    ("folder", "rule"),
    [
        *((f"simple_example.model_{rule}", rule) for rule in ("hp", "gp", "lp")),
        *((f"tolerance_learning.model_{rule}", rule) for rule in ("hp", "gp")),
    ],
)
def test_the_papers_model_files_build_the_network_of_their_rule(folder, rule):
    model = importlib.import_module(f"hybrid_plasticity.{folder}").SNN_Model().network
    assert model.rule == rule
    assert [layer.fc.weight.shape for layer in model.layers] == [(512, 784), (10, 512)]
    assert len(model.plastic_layers()) == (0 if rule == "gp" else 2)


def test_no_memory_is_kept_from_step_to_step():
    model = network().float()
    images, labels = batch(0)
    learners = list(optimizers(model, 1e-3, 1e-3).values())

    def tensors():
        gc.collect()
        return sum(1 for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor))

    alive = []
    for step in range(6):
        loss = squared_error(model(images.float()).output, labels)
        model.zero_grad(set_to_none=True)
        loss.backward()
        for learner in learners:
            learner.step()
        del loss
        if step in (1, 5):
            alive.append(tensors())
    assert alive[0] == alive[1]
