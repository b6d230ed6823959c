"""The convolutional classifiers: equal to the plain formulation, early exit, training, scripts."""

import dataclasses
import gc
import importlib
import itertools
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hybrid_plasticity.classification import firing
from hybrid_plasticity.classification import program as the_program
from hybrid_plasticity.classification.cifar10 import main_cifar10
from hybrid_plasticity.classification.fashion_mnist import main_fashion_mnist
from hybrid_plasticity.classification.mnist import main_mnist
from hybrid_plasticity.classification.network import Classifier
from hybrid_plasticity.classification.program import (
    Options,
    Program,
    build,
    learners,
    saved_steps,
)
from hybrid_plasticity.classification.reference import PlainClassifier
from hybrid_plasticity.classification.wiring import Initial, Wiring
from hybrid_plasticity.neuron import Neuron
from hybrid_plasticity.trace import Hebbian
from hybrid_plasticity.training import evaluate, squared_error, step_of, train_epoch
from shared import datasets
from shared.errors import UserError
from shared.run import Run
from shared.tensors import Samples, moved_and_mirrored

GOLDEN = Path(os.environ.get("GOLDEN") or Path(__file__).parent / "golden")
MNIST, FASHION_MNIST, CIFAR10 = (
    main.PROGRAM for main in (main_mnist, main_fashion_mnist, main_cifar10)
)
PROGRAMS = {"mnist": MNIST, "fashion_mnist": FASHION_MNIST, "cifar10": CIFAR10}
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def options(program: Program, **changes) -> Options:
    return dataclasses.replace(program.options(), width=1 / 32, **changes)


def randomize(network: Classifier, seed: int) -> None:
    """Weights that make neurons of every layer spike, and a trace and constants that count."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in network.parameters():
            fan_in = value[0].numel() if value.ndim > 1 else 4
            value.copy_(
                torch.randn(value.shape, generator=generator, dtype=value.dtype) * 2 / fan_in**0.5
            )
        for layer in network.plastic_layers():
            layer.alpha.fill_(0.2)
            layer.beta.mul_(0.2)
            layer.eta.mul_(0.2)
            layer.hebb.copy_(torch.randn(layer.hebb.shape, generator=generator) * 0.1)


def shown_to(network: Classifier, images: torch.Tensor, labels: torch.Tensor):
    """Response and gradients by name."""
    network.zero_grad()
    response = network(images)
    squared_error(response.output, labels).backward()
    return response, {name: p.grad for name, p in network.named_parameters()}


@st.composite
def wirings(draw) -> Wiring:
    n_convs, n_hidden = draw(st.integers(2, 4)), draw(st.integers(1, 2))
    sizes = st.integers(1, 5)
    return Wiring(
        image=(draw(st.integers(1, 3)), draw(st.integers(8, 13))),
        channels=tuple(draw(st.lists(sizes, min_size=n_convs, max_size=n_convs))),
        pooled=tuple(sorted(draw(st.sets(st.integers(1, n_convs), max_size=2)))),
        hidden=tuple(draw(st.lists(sizes, min_size=n_hidden, max_size=n_hidden))),
        plastic=tuple(draw(st.sets(st.integers(1, n_hidden + 1), min_size=1))),
        neuron=Neuron(
            theta=draw(st.floats(0.2, 0.6)),
            decay=draw(st.floats(0.1, 0.9)),
            reset=draw(st.sampled_from(["soft", "hard"])),
        ),
        hebbian=Hebbian(
            decay=0.9,
            scale=draw(st.sampled_from([1.0, -1.0])),
            post=draw(st.sampled_from(["identity", "tanh"])),
            limit=draw(st.sampled_from([None, 0.05, 2.0])),
            drive_at_least_zero=draw(st.booleans()),
        ),
        tau_w=draw(st.floats(2, 40)),
        steps=draw(st.integers(1, 6)),
        exit_share=draw(st.sampled_from([0.0, 0.4, 1.0])),
        attenuate_plastic=draw(st.booleans()),
        dropped=tuple(draw(st.sets(st.integers(1, n_hidden + 1)))),
        output_reset=draw(st.sampled_from(["soft", "hard", "none"])),
        ceiling=draw(st.sampled_from([None, 1.1])),
        coding=draw(st.sampled_from(["rank", "rate"])),
    )


# ------------------------------------------------------------------------ the plain formulation


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    wiring=wirings(),
    rule=st.sampled_from(["hp", "gp"]),
    batch=st.integers(1, 4),
    seed=st.integers(0, 9),
)
def test_equal_to_plain(device, wiring, rule, batch, seed):
    fast = Classifier(wiring, rule).double().to(device).eval()
    randomize(fast, seed)
    plain = PlainClassifier(wiring, rule).double().to(device).eval()
    plain.load_state_dict(fast.state_dict())
    generator = torch.Generator().manual_seed(seed)
    side = wiring.image[1]
    for _ in range(2):  # the second batch starts from the trace that the first one left
        shape = (batch, wiring.image[0], side, side)
        images = torch.rand(shape, generator=generator, dtype=torch.float64).to(device)
        labels = torch.randint(10, (batch,), generator=generator).to(device)
        found, gradients = shown_to(fast, images, labels)
        wanted, true_gradients = shown_to(plain, images, labels)
        assert found.steps == wanted.steps
        torch.testing.assert_close(found.output, wanted.output, rtol=1e-9, atol=1e-9)
        for counts, true_counts in zip(found.spike_counts, wanted.spike_counts, strict=True):
            torch.testing.assert_close(counts, true_counts, rtol=0, atol=1e-9)
        for name, gradient in true_gradients.items():
            torch.testing.assert_close(gradients[name], gradient, rtol=1e-9, atol=1e-9)
        for layer, other in zip(fast.plastic_layers(), plain.plastic_layers(), strict=True):
            torch.testing.assert_close(layer.hebb, other.hebb, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_is_equal_to_plain_and_all_its_layers_learn(name):
    wiring = dataclasses.replace(PROGRAMS[name].wiring.scaled(1 / 32), exit_share=1.0)
    fast = Classifier(wiring).double().eval()
    randomize(fast, 1)
    plain = PlainClassifier(wiring).double().eval()
    plain.load_state_dict(fast.state_dict())
    images = torch.rand(3, *wiring.image, wiring.image[1], dtype=torch.float64)
    found, gradients = shown_to(fast, images, torch.arange(3))
    wanted, true_gradients = shown_to(plain, images, torch.arange(3))
    assert found.steps == wanted.steps == wiring.steps
    torch.testing.assert_close(found.output, wanted.output, rtol=1e-9, atol=1e-9)
    for key, gradient in true_gradients.items():
        assert gradient.abs().max() > 0, key
        torch.testing.assert_close(gradients[key], gradient, rtol=1e-9, atol=1e-9)
    assert all(counts.any() for counts in found.spike_counts)


def fired(current, by, pooled, neuron, ends=None):
    """Spikes of five steps and the current's gradient, with kernels or torch's operations."""
    current = current.clone().requires_grad_()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(firing, "by_numba", lambda _: by == "kernels")
        if ends:
            spikes = list(firing.fire_steadily(current, ends, neuron, pooled))
        else:
            spikes, membrane = [], None
            for _ in range(5):
                step, membrane = firing.fire(current, membrane, neuron, pooled)
                spikes.append(step)
        loss = sum((t + 1) * (step * step.detach().cos()).sum() for t, step in enumerate(spikes))
        loss.backward()
    return torch.stack(spikes).detach(), current.grad


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("reset", ["soft", "hard"])
def test_kernels_and_torch_s_operations_fire_alike(reset, pooled):
    neuron = Neuron(theta=0.4, decay=0.7, reset=reset)
    current = torch.randn(3, 2, 7, 5, dtype=torch.float64)
    current[1, 1, 2, 2] = float("nan")
    spikes, gradient = fired(current, "torch", pooled, neuron)
    assert not gradient.isnan().any()
    assert spikes.any()
    assert gradient.any()
    found = [fired(current, "kernels", pooled, neuron)]
    for ends in ([5], [2, 4, 5], [1, 5]):
        found += [fired(current, by, pooled, neuron, ends) for by in ("kernels", "torch")]
    for own_spikes, own_gradient in found:
        assert torch.equal(own_spikes, spikes)
        torch.testing.assert_close(own_gradient, gradient, rtol=1e-12, atol=1e-13)


def test_the_first_convolution_is_computed_once():
    network = Classifier(MNIST.wiring.scaled(1 / 64)).eval()
    calls = [0] * len(network.convs)
    for i, conv in enumerate(network.convs):
        conv.register_forward_hook(lambda *_, i=i: calls.__setitem__(i, calls[i] + 1))
    with network.all_steps():
        network(torch.rand(2, 1, 28, 28))
    assert calls == [1, 10, 10]


def test_half_of_what_reaches_cifar10_s_first_connected_layer_is_dropped_in_training_only():
    wiring = dataclasses.replace(CIFAR10.wiring.scaled(1 / 32), exit_share=1.0)
    network = Classifier(wiring)
    seen: dict[bool, list[torch.Tensor]] = {}
    given = []
    network.layers[0].register_forward_hook(lambda _, inputs, __: given.append(inputs[0].detach()))
    with torch.no_grad():
        network.convs[-1].bias.fill_(10)  # every neuron spikes at every step
        for training in (True, False):
            given.clear()
            network.train(training)(torch.rand(4, 3, 32, 32))
            seen[training] = list(given)
    assert all((x == 1).all() for x in seen[False])
    for step, x in enumerate(seen[True]):
        assert set(x.unique().tolist()) == {0.0, 2.0}
        assert abs((x > 0).double().mean() - 0.5) < 0.05
        assert not torch.equal(x, seen[True][step - 1])


def test_spike_counts_are_read_after_all_steps():
    network = Classifier(dataclasses.replace(MNIST.wiring.scaled(1 / 64), coding="rate")).eval()
    with torch.no_grad():
        network.layers[-1].fc.bias.fill_(5.0)  # above threshold at once
    assert network(torch.rand(3, 1, 28, 28)).steps == MNIST.wiring.steps


def test_a_trace_on_both_hidden_layers():
    wiring = dataclasses.replace(CIFAR10.wiring.scaled(1 / 32), plastic=(1, 2))
    network = Classifier(wiring)
    with torch.no_grad():
        network.convs[-1].bias.fill_(1)
    given = []
    network.layers[0].register_forward_hook(lambda _, inputs, __: given.append(inputs[:2]))
    response, gradients = shown_to(network, torch.randn(4, 3, 32, 32), torch.arange(4))
    assert response.output.isfinite().all()
    # As in the published option: neither dropout nor attenuation in front of a trace.
    assert all(k == 1 and set(x.unique().tolist()) <= {0.0, 1.0} for x, k in given)
    assert {f"layers.{j}.{name}" for j in (0, 1) for name in ("alpha", "beta", "eta")} <= set(
        gradients
    )
    assert network.layers[0].hebb.any()


def test_half_of_the_inputs_are_dropped_in_training_only():
    network = Classifier(MNIST.wiring.scaled(1 / 32))
    x, k = torch.ones(4, 4, 14, 14), 0.8
    weight, bias = network.convs[1].weight, network.convs[1].bias
    with torch.no_grad():
        weight.zero_()
        weight[0, :, 1, 1] = torch.tensor([1.0, 10.0, 100.0, 1000.0])
        bias.zero_()
    network.eval()
    assert torch.allclose(network.convolved(1, x, k)[:, 0], torch.tensor(0.8 * 1111))
    network.train()
    seen = network.convolved(1, x, k)[:, 0] / (2 * k)  # digits 0 or 1: which channels were kept
    digits = seen.detach().round().long()
    kept = torch.stack([digits // 10**i % 10 for i in range(4)]).double()
    assert set(kept.unique().tolist()) == {0.0, 1.0}
    assert abs(kept.mean() - 0.5) < 0.05


def test_bfloat16_only_rounds_currents():
    network = Classifier(MNIST.wiring.scaled(1 / 16)).eval()
    x = torch.randint(5, (2, 8, 14, 14)) / 4
    exact = network.convolved(1, x, 0.9)
    network.precision = torch.bfloat16
    low = network.convolved(1, x, 0.9)
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, exact, rtol=0.02, atol=0.02)
    response, gradients = shown_to(network, torch.rand(2, 1, 28, 28), torch.arange(2))
    assert response.output.dtype == torch.float32
    for name, gradient in gradients.items():
        assert gradient.dtype == torch.float32, name
        assert gradient.isfinite().all(), name


def test_neurons_without_reset_are_refused():
    wiring = dataclasses.replace(MNIST.wiring, neuron=Neuron(0.3, 0.6, reset="none"))
    with pytest.raises(ValueError, match="soft or a hard reset"):
        Classifier(wiring)


# ----------------------------------------------------------------------------------- early exit


def steady(bias: float) -> Classifier:
    """A network of MNIST's constants whose outputs get the same current at every step."""
    network = Classifier(MNIST.wiring.scaled(1 / 64)).eval()
    with torch.no_grad():
        network.layers[-1].fc.weight.zero_()
        network.layers[-1].fc.bias.fill_(bias)
    return network


@pytest.mark.parametrize(
    ("bias", "steps"),
    [
        (5.0, 2),  # above threshold at once, but the first step never ends it
        (0.2, 2),  # potentials 0.2, 0.32
        (0.15, 4),  # potentials 0.15, 0.24, 0.294, 0.3264
        (0.1, 10),  # potentials stay below 0.25
    ],
)
def test_a_presentation_ends_when_outputs_pass_the_threshold(bias, steps):
    network, images = steady(bias), torch.rand(3, 1, 28, 28)
    assert network(images).steps == steps
    with network.all_steps():
        assert network(images).steps == 10
    assert network(images).steps == steps


def test_the_share_has_to_be_passed():
    network = steady(0.0)
    potential = torch.full((10, 10), 0.2)
    potential[:8, 3] = 0.4
    assert not network.decided(potential)  # 0.8 is not above 0.8
    potential[8, 0] = 0.4
    assert network.decided(potential)
    with network.all_steps():
        assert not network.decided(potential)


def test_saved_steps_are_reported():
    network = steady(0.15)
    pixels = torch.randint(256, (6, 1, 28, 28), dtype=torch.uint8)
    labels = torch.zeros(6, dtype=torch.int64)
    seen = evaluate(network, Samples(pixels, labels), 2, shown=MNIST.shown(pixels.device))
    assert seen["steps"] == 4
    assert saved_steps(seen["steps"], network) == pytest.approx(0.6)


# ------------------------------------------------------------------------------------- training


def test_initial_weights_are_the_published_ones():
    """The vectors hold twice the weights that the published programs draw with seed 0."""
    for name, program in PROGRAMS.items():
        golden = np.load(GOLDEN / f"hp_classification_{name}.npz")
        wiring = program.wiring
        wiring = dataclasses.replace(
            wiring,
            channels=tuple(
                len(golden[f"param/conv{i + 1}.weight"]) for i in range(len(wiring.channels))
            ),
            hidden=tuple(len(golden[f"param/fc{i + 1}.weight"]) for i in range(len(wiring.hidden))),
        )
        torch.set_default_dtype(torch.float64)
        try:
            torch.manual_seed(0)
            network = Classifier(dataclasses.replace(wiring, initial=Initial()))
            if name == "cifar10":  # its published program makes these layers twice
                for layer in network.layers:
                    layer.fc.reset_parameters()
            network._initialize(wiring.initial)
        finally:
            torch.set_default_dtype(torch.float32)
        for i, conv in enumerate(network.convs):
            weight = torch.from_numpy(golden[f"param/conv{i + 1}.weight"]) / 2
            torch.testing.assert_close(conv.weight.detach(), weight, rtol=1e-12, atol=1e-15)
        for j, layer in enumerate(network.layers):
            weight = torch.from_numpy(golden[f"param/fc{j + 1}.weight"]) / 2
            torch.testing.assert_close(layer.fc.weight.detach(), weight, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_fresh_network_has_the_published_distribution(name):
    torch.manual_seed(2)
    network = Classifier(PROGRAMS[name].wiring.scaled(1 / 8))
    modules = [*network.convs, *(layer.fc for layer in network.layers)]
    for k, module in enumerate(modules, start=1):
        # torch's own: uniform within 1 / sqrt(inputs of a neuron), weights and biases.
        weight, bound = module.weight.detach(), module.weight[0].numel() ** -0.5
        if name == "fashion_mnist" and k == len(modules):
            weight = 2 * weight
        elif name == "cifar10" and 1 < k < len(modules):
            shift = 1.1**k
            weight = weight - weight.mean() * shift / (1 + shift)
        assert 0.99 * bound < weight.abs().max() < 1.0001 * bound
        assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
        assert module.bias.abs().max() <= bound
        assert module.bias.std().item() == pytest.approx(bound / 3**0.5, rel=0.5)


def test_initial_constants():
    for program in (MNIST, FASHION_MNIST):
        (layer,) = build(options(program), program).plastic_layers()
        assert layer.alpha.item() == pytest.approx(0.1)
        assert torch.all(layer.beta == 1e-3)
        assert not layer.eta.any()
    (layer,) = build(options(CIFAR10), CIFAR10).plastic_layers()
    assert layer.beta.shape == (1, 32)
    for value in (layer.alpha, layer.beta):
        assert 0 <= value.min() <= value.max() < 1e-3
    assert layer.beta.unique().numel() > 20
    assert not layer.eta.any()


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_published_classes_have_the_published_constants_on_both_layers(name, monkeypatch):
    folder, file, cls = {
        "mnist": ("mnist", "mnist_model", "SNN_Model"),
        "fashion_mnist": ("fashion_mnist", "fmnist_model", "SNN_Model"),
        "cifar10": ("cifar10", "cifar10_model", "SCNN"),
    }[name]
    module = importlib.import_module(f"hybrid_plasticity.classification.{folder}.{file}")
    monkeypatch.setattr(module, "WIRING", module.WIRING.scaled(1 / 8))
    torch.manual_seed(0)
    model = getattr(module, cls)()
    for k in (1, 2):
        alpha, beta, gamma = (getattr(model, f"{n}{k}") for n in ("alpha", "beta", "gamma"))
        assert not getattr(model, f"eta{k}").any()
        if name == "cifar10":
            assert gamma.item() == pytest.approx(1e-3)
            assert 0 < alpha.item() < 1e-3
            assert 0 <= beta.min() < 1e-4 < 0.9e-3 < beta.max() < 1e-3
            assert beta.mean().item() == pytest.approx(0.5e-3, rel=0.15)
        else:
            assert gamma.item() == pytest.approx(1e-2)
            assert alpha.item() == pytest.approx(0.1)
            assert torch.all(beta == 1e-3)


def test_both_rules_start_from_the_same_weights():
    networks = []
    for rule in ("hp", "gp"):
        torch.manual_seed(3)
        networks.append(build(options(CIFAR10, rule=rule), CIFAR10).state_dict())
    hybrid, plain = networks
    assert set(hybrid) - set(plain) == {f"layers.1.{n}" for n in ("alpha", "beta", "eta", "hebb")}
    assert all(torch.equal(plain[name], hybrid[name]) for name in plain)


@pytest.mark.parametrize("rule", ["hp", "gp"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_optimizers_hold_each_parameter_once_by_role(name, rule):
    program = PROGRAMS[name]
    network = build(options(program, rule=rule), program)
    made, schedules = learners(network, program, epochs=8)
    held = [
        p for learner in made.values() for group in learner.param_groups for p in group["params"]
    ]
    assert len(held) == len({id(p) for p in held}) == len(list(network.parameters()))
    assert ("local_optimizer" in made) == (rule == "hp")
    local = {
        id(p) for layer in network.plastic_layers() for p in (layer.alpha, layer.beta, layer.eta)
    }
    for key, learner in made.items():
        for group in learner.param_groups:
            assert all((id(p) in local) == (key == "local_optimizer") for p in group["params"])
    assert isinstance(made["optimizer"], torch.optim.SGD) == (name == "cifar10")
    for learner in made.values():
        learner.step()
    sizes = []
    for _ in range(82):
        sizes.append({key: learner.param_groups[0]["lr"] for key, learner in made.items()})
        for schedule in schedules.values():
            schedule.step()
    if rule == "gp":
        return
    if name == "mnist":
        assert all(size == {"optimizer": 5e-4, "local_optimizer": 5e-4} for size in sizes)
    elif name == "fashion_mnist":
        assert [sizes[i]["local_optimizer"] for i in (39, 40, 41, 80, 81)] == pytest.approx(
            [5e-4, 5e-4, 5e-5, 5e-5, 5e-6]
        )
        assert all(size["optimizer"] == size["local_optimizer"] for size in sizes)
    else:
        assert [sizes[i]["optimizer"] for i in (0, 4, 8)] == pytest.approx([0.08, 0.04, 0.0])
        assert all(size["local_optimizer"] == 5e-4 for size in sizes)


@pytest.mark.parametrize("rule", ["hp", "gp"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_two_steps_lower_the_loss(name, rule):
    torch.manual_seed(0)
    program = PROGRAMS[name]
    network = build(options(program, rule=rule), program).eval()
    made, _ = learners(network, program, epochs=1)
    channels, side = program.wiring.image
    images, labels = torch.rand(10, channels, side, side), torch.arange(10)
    losses = []
    for _ in range(3):
        response, gradients = shown_to(network, images, labels)
        losses.append(float(squared_error(response.output.detach(), labels)))
        assert all(gradient.isfinite().all() for gradient in gradients.values())
        for learner in made.values():
            learner.step()
    assert losses[2] < losses[0]


def test_nothing_is_kept_alive_between_steps():
    torch.manual_seed(0)
    network = build(options(MNIST), MNIST)
    pixels = torch.randint(256, (8, 1, 28, 28), dtype=torch.uint8)
    made, _ = learners(network, MNIST, epochs=1)
    samples, shown = Samples(pixels, torch.arange(8)), MNIST.shown(pixels.device)

    def living() -> list[tuple[int, ...]]:
        gc.collect()
        kinds = (torch.Tensor, torch.nn.Parameter)  # not those that torch.export thinks with
        return sorted(tuple(x.shape) for x in gc.get_objects() if type(x) in kinds)

    seen = []
    for _ in range(3):
        train_epoch(network, samples, 4, step_of(made), "hp", shown)
        evaluate(network, samples, 4, shown=shown)
        seen.append(living())
    assert seen[0] == seen[1] == seen[2]
    (layer,) = network.plastic_layers()
    assert layer.hebb.grad_fn is None
    assert not layer.hebb.requires_grad


def test_networks_are_shown_intensities_those_of_cifar10_standardized():
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 3, 2, 2)
    expected = torch.tensor([0.0, 0.2, 1.0]).view(3, 1, 1, 1).expand(3, 3, 2, 2)
    torch.testing.assert_close(MNIST.shown(pixels.device)(pixels[:, :1]), expected[:, :1])
    shown = CIFAR10.shown(pixels.device)(pixels)
    assert shown.dtype == torch.float32
    torch.testing.assert_close(shown[1, 1], torch.full((2, 2), (0.2 - 0.4822) / 0.1994))


# -------------------------------------------------------------------------------------- scripts


def check_run(scripts, folder: Path, rule: str, steps: int) -> dict[str, object]:
    figures = ["curves", "steps", *(["constants"] if rule == "hp" else [])]
    result = scripts.assert_finished(folder, figures)
    assert result["experiment"].endswith("_quick")
    assert len(scripts.rows(folder)) == result["epochs"]
    metrics = result["metrics"]
    protocols = {f"test_accuracy_last_{p}" for p in ("frozen", "single", "carried")}
    assert protocols <= set(metrics) if rule == "hp" else not protocols & set(metrics)
    assert 2 <= metrics["steps_last"] <= steps
    assert metrics["steps_saved_last"] == pytest.approx(1 - metrics["steps_last"] / steps)
    return result


@pytest.mark.parametrize(
    ("name", "rule", "words", "experiment"),
    [
        ("mnist", "hp", (), "_quick"),
        ("mnist", "hp", ("--width", "0.05", "--coding", "rate"), "_rate_width-0.05_quick"),
        ("fashion_mnist", "gp", ("--width", "0.05"), "_gp_width-0.05_quick"),
        ("fashion_mnist", "hp", ("--width", "0.05", "--precision", "bfloat16"),
         "_width-0.05_bfloat16_quick"),
    ],
)  # fmt: skip
def test_quick(name, rule, words, experiment, call, scripts, tmp_path):
    options = ("--quick", "--threads", 1, "--rule", rule, *words, "--out", tmp_path)
    done = call(f"classification/{name}/main_{name}.py", *options)
    if name != "mnist" and "was not found" in done.stderr:
        assert done.returncode == 2  # without a network there is no stand-in for Fashion-MNIST
        return
    assert done.returncode == 0, done.stderr
    result = check_run(scripts, tmp_path, rule, steps=10)
    data = result["dataset"]
    assert result["experiment"] == f"hp_classification_{data}{experiment}"
    assert "measured  published" in done.stdout
    assert result["published"] is None


@pytest.mark.parametrize(
    ("words", "dataset", "expected"),
    [
        ((), "mnist", {"test_accuracy_best": 0.995}),
        ((), "mnist5k", None),
        (("--epochs", "1"), "mnist", None),
        (("--coding", "rate"), "mnist", None),
        (("--rule", "gp"), "mnist", None),
        (("--plastic", "1"), "mnist", {"test_accuracy_best": 0.995}),
        (("--plastic", "1", "2"), "mnist", None),
        (("--width", "0.5"), "mnist", None),
        (("--quick",), "mnist", None),
    ],
)
def test_only_the_paper_s_run_has_its_number(words, dataset, expected):
    assert MNIST.numbers(MNIST.experiment(None).parse(words), dataset) == expected


def test_layers_with_a_trace_have_one_name_in_any_order():
    experiment = MNIST.experiment(None)
    names = {
        experiment.name(experiment.parse(["--plastic", *layers]), "mnist")
        for layers in (("1", "2"), ("2", "1"))
    }
    assert names == {"hp_classification_mnist_plastic-1-2"}


def test_only_a_step_size_that_does_not_know_the_end_lets_a_run_grow():
    grows = {name: p.experiment(None).grows(p.options()) for name, p in PROGRAMS.items()}
    assert grows == {"mnist": True, "fashion_mnist": True, "cifar10": False}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--width", "0"), "--width 0.0 must be above 0"),
        (("--single-samples", "0"), "--single-samples 0 must be above 0"),
        (("--epochs", "-1"), "--epochs -1 must be above 0"),
        (("--coding", "rate"), "invalid choice 'rate'"),
        (("--rule", "lp"), "invalid choice 'lp'"),
        (("--plastic", "4"), "Expected one of ('1', '2', '3')"),
        (("--plastic", "2", "2", "1"), "names a layer twice: name each once"),
    ],
)
def test_bad_options(words, sentence, scripts, tmp_path):
    done = scripts.call(lambda: CIFAR10.main(None), *words, "--out", tmp_path / "run")
    scripts.assert_refused(done, sentence)
    assert not (tmp_path / "run").exists()


def test_a_missing_cifar10_is_one_sentence(scripts, tmp_path):
    options = ("--quick", "--data-root", tmp_path, "--out", tmp_path / "run")
    done = scripts.run_offline("classification/cifar10/main_cifar10.py", *options)
    scripts.assert_refused(done, "error: CIFAR-10 was not found")


def colored(n: int, seed: int) -> datasets.Split:
    rng = np.random.default_rng(seed)
    return datasets.Split(
        rng.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8), rng.integers(0, 10, n)
    )


@pytest.fixture
def cifar10(monkeypatch, torch_as_before):
    """A set of CIFAR-10's form in the place of CIFAR-10, and a way to run the script on it."""
    made = datasets.Dataset("cifar10", colored(30, 0), colored(0, 1), colored(20, 2), 10)
    monkeypatch.setattr(datasets, "load", lambda *_, **__: made)

    def start(folder: Path, *words: str, **changes: object) -> None:
        words = ("main.py", "--device", "cpu", "--threads", "1", *words, "--out", str(folder))
        monkeypatch.setattr(sys, "argv", list(words))
        dataclasses.replace(CIFAR10, batch_size=10, **changes).main(None)

    return start


def test_cifar10_quick(cifar10, scripts, tmp_path):
    cifar10(tmp_path, "--quick", "--width", "0.03")
    check_run(scripts, tmp_path, "hp", steps=8)


def test_both_rules_are_shown_the_same_images_whenever_presentations_end(
    cifar10, tmp_path, monkeypatch
):
    shown: dict[str, list[torch.Tensor]] = {"hp": [], "gp": []}
    for rule, own in shown.items():
        steps = itertools.cycle([True, False] if rule == "hp" else [False, False, True])
        monkeypatch.setattr(Classifier, "decided", lambda *_, steps=steps: next(steps))
        monkeypatch.setattr(
            the_program,
            "moved_and_mirrored",
            lambda *given, own=own: own.append(moved_and_mirrored(*given)) or own[-1],
        )
        cifar10(tmp_path / rule, *NARROW, "--rule", rule)
    assert len(shown["hp"]) == 12
    for one, other in zip(*shown.values(), strict=True):
        assert torch.equal(one, other)


NARROW = ("--width", "0.02", "--epochs", "4", "--single-samples", "3")


def test_a_stopped_run_goes_on_bit_for_bit(cifar10, scripts, tmp_path, monkeypatch):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    cifar10(whole, *NARROW)
    checkpoint = Run.checkpoint

    def stop_after_the_second(self, epoch, **state):
        checkpoint(self, epoch, **state)
        if epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Run, "checkpoint", stop_after_the_second)
    with pytest.raises(KeyboardInterrupt):
        cifar10(parts, *NARROW)
    monkeypatch.setattr(Run, "checkpoint", checkpoint)
    assert not (parts / "result.json").exists()
    cifar10(parts, *NARROW)
    scripts.assert_same_run(parts, whole)


def test_a_run_whose_step_size_knows_the_end_does_not_grow(cifar10, tmp_path):
    cifar10(tmp_path, *NARROW, "--epochs", "1")
    with pytest.raises(UserError, match="a run of 1 epochs, whose schedule depends on their"):
        cifar10(tmp_path, *NARROW, "--epochs", "2")


def test_a_beta_below_zero_drives_nothing_where_it_is_clamped():
    """Clamped where it is used: the parameter stays as it is, and has no gradient there."""
    network = Classifier(FASHION_MNIST.wiring.scaled(1 / 16)).eval()
    randomize(network, 1)
    (layer,) = network.plastic_layers()
    with torch.no_grad():
        layer.beta[:, ::2] = -1e-3
        layer.beta[:, 1::2] = 1e-3
    before = layer.hebb.clone()
    _, gradients = shown_to(network, torch.rand(3, 1, 28, 28), torch.arange(3))
    assert layer.beta.min() < 0
    gradient = gradients["layers.0.beta"][0]
    assert not gradient[::2].any()
    assert gradient[1::2].any()
    # Rows without a drive only decay, by a power of w_decay.
    ratio = (layer.hebb / before)[::2]
    torch.testing.assert_close(ratio, ratio[0, 0].expand_as(ratio))


def test_a_loss_that_is_no_number_stops_the_run(cifar10, tmp_path):
    with pytest.raises(UserError, match=r"the loss became (nan|inf) at step .* rule hp"):
        cifar10(tmp_path, *NARROW, lr=1e30)
