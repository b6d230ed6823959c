"""Few-shot learning: the fast formulation against the plain one, meta-learning, the programs."""

import gc
import math
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_plasticity.few_shot_learning import gp_model, hp_model, program, reference
from hybrid_plasticity.few_shot_learning import network as network_module
from hybrid_plasticity.few_shot_learning.episodes import (
    HELD_OUT,
    MIRRORED,
    Characters,
    Episodes,
    resized,
    split_characters,
    standardized,
)
from hybrid_plasticity.few_shot_learning.meta import Settings, Trainer, gradients
from hybrid_plasticity.few_shot_learning.network import HybridNet, loss_of
from shared.errors import UserError

SMALL = (4, 5, 3, 6)
LOCAL = ("alpha", "beta", "eta")


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    # Networks as small as these wait longer for a second thread than they work.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def random_episodes(n, ways=5, shots=1, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (30, 20, 31, 31), generator=generator, dtype=torch.uint8)
    drawn = Characters(pixels, ways, shots).draw(n, generator)
    return Episodes(*(value.to(dtype) for value in drawn))


def random_network(rule="hp", ways=5, seed=0, channels=SMALL, eta=0.05):
    """A network in float64 whose trace matters from the start."""
    torch.manual_seed(seed)
    network = HybridNet(rule, ways, channels).double()
    with torch.no_grad():
        network.eta.fill_(eta)
        for value in network.parameters():
            value.mul_(1.5)
    return network


def plain_outputs(network, episodes):
    """Outputs and traces of the plain formulation, an episode at a time."""
    found = [
        reference.episode(
            network.rule,
            dict(network.named_parameters()),
            episodes.images[:, k, None],
            episodes.labels[:, k, None],
        )
        for k in range(len(episodes.target))
    ]
    return torch.cat([output for output, _ in found]), torch.stack([trace for _, trace in found])


# ------------------------------------------------------------------------- the fast formulation


@settings(max_examples=25, deadline=None)
@given(
    rule=st.sampled_from(["hp", "gp"]),
    n=st.integers(1, 4),
    ways=st.integers(2, 6),
    shots=st.integers(1, 4),
    eta=st.sampled_from([0.03, 0.1, 0.3]),
    seed=st.integers(0, 2**16),
)
def test_outputs_traces_and_gradients_equal_the_plain_formulation(rule, n, ways, shots, eta, seed):
    network = random_network(rule, ways, seed, eta=eta / 1.5)
    episodes = random_episodes(n, ways, shots, seed)
    z = network.features(episodes.images)
    answer = network.classify(z, episodes.labels)
    output, traces = plain_outputs(network, episodes)
    torch.testing.assert_close(answer.output, output, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(network.trace(z, answer.post), traces, rtol=1e-12, atol=1e-13)
    parameters = list(network.parameters())
    fast = gradients(loss_of(answer.output, episodes.target), parameters)
    plain = gradients(loss_of(output, episodes.target), parameters)
    for one, other in zip(fast, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_float32_is_near_float64():
    network, episodes = random_network(), random_episodes(3, shots=2)
    exact = network(episodes.images, episodes.labels).output
    single = Episodes(*(value.float() for value in episodes))
    rough = network.float()(single.images, single.labels).output
    torch.testing.assert_close(rough.double(), exact, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rule", ["hp", "gp"])
def test_gradients_of_a_batch_are_the_mean_of_single_episodes(rule):
    network, episodes = random_network(rule), random_episodes(6)
    answer = network(episodes.images, episodes.labels)
    batched = gradients(loss_of(answer.output, episodes.target), network.global_parameters())
    single = []
    for k in range(6):
        one = episodes.part(k, k + 1)
        single.append(reference.episode_gradients(network, one.images, one.labels, one.target)[1])
    for grad, *alone in zip(batched, *single, strict=True):
        torch.testing.assert_close(grad, torch.stack(alone).mean(0), rtol=1e-9, atol=1e-12)
        assert grad.abs().max() > 1e-8


def test_episodes_of_a_batch_do_not_touch_each_other():
    network, episodes = random_network(), random_episodes(4)
    whole = network(episodes.images, episodes.labels).output
    changed = episodes.images.clone()
    changed[:, 2] = 0.5
    other = network(changed, episodes.labels).output
    kept = [0, 1, 3]
    torch.testing.assert_close(whole[kept], other[kept], rtol=1e-12, atol=1e-14)
    assert not torch.allclose(whole[2], other[2], rtol=1e-6)


def test_only_with_a_trace_earlier_drawings_matter():
    episodes = random_episodes(5)
    changed = episodes.images.clone()
    changed[0] = 1 - changed[0]
    for rule, matters in (("gp", False), ("hp", True)):
        network = random_network(rule)
        one = network(episodes.images, episodes.labels).output
        other = network(changed, episodes.labels).output
        assert ((one - other).abs().max() > 1e-3) == matters


def test_eta_has_its_full_gradient_up_to_its_largest_value_and_none_above():
    episodes = random_episodes(3)
    found = []
    for eta in (0.1, 0.1 + 1e-9, 0.5):
        network = random_network()
        with torch.no_grad():
            network.eta.fill_(eta)
        loss = loss_of(network(episodes.images, episodes.labels).output, episodes.target)
        found.append((loss.item(), gradients(loss, [network.eta])[0].item()))
    (at, slope), (above, none), (far, none_either) = found
    assert slope != 0
    assert none == none_either == 0
    assert at == pytest.approx(above, rel=1e-12)
    assert at == pytest.approx(far, rel=1e-12)


def test_the_model_files_give_the_network_of_the_paper():
    for module, rule in ((hp_model, "hp"), (gp_model, "gp")):
        network = module.hybridNet()
        assert network.rule == rule
        assert network.alpha.shape == (512, 5)
        assert network.beta.shape == (5,)
        assert network.eta.tolist() == [pytest.approx(0.1)]
        assert 0 <= network.alpha.min() < 0.001 < 0.099 < network.alpha.max() < 0.1
        assert network.fc1.weight.shape == (5, 512)
        assert network.fc1.bias is None
        assert {id(p) for p in network.global_parameters()} | {
            id(p) for p in network.local_parameters()
        } == {id(p) for p in network.parameters()}
    assert HybridNet("hp", 20).alpha.shape == (512, 20)


def test_fresh_weights_are_torch_s_and_alpha_and_beta_uniform():
    torch.manual_seed(0)
    network = HybridNet("hp")
    layers = {name: getattr(network, name) for name in ("conv1", "conv2", "conv3", "conv4", "fc1")}
    for name, layer in layers.items():
        fan_in = layer.weight[0].numel()
        for values in (layer.weight, *([] if layer.bias is None else [layer.bias])):
            bound = fan_in**-0.5
            assert values.abs().max() <= bound, name
            if values.numel() > 1000:
                assert values.abs().max() > 0.99 * bound, name
                assert values.std().item() == pytest.approx(bound / 3**0.5, rel=0.05), name
            assert abs(values.mean().item()) < 4 * bound / 3**0.5 / values.numel() ** 0.5, name
    for value in (network.alpha, network.beta):
        assert 0 <= value.min() <= value.max() < 0.1
    assert network.alpha.mean().item() == pytest.approx(0.05, rel=0.05)
    assert network.alpha.std().item() == pytest.approx(0.1 / 12**0.5, rel=0.05)
    assert network.eta.item() == pytest.approx(0.1)


# --------------------------------------------------------------------------------- meta-learning


def test_the_difference_is_the_product_with_the_hessian(monkeypatch):
    # Without the surrogate gradient: differentiating it twice is no derivative of anything.
    monkeypatch.setattr(network_module, "LENS", 0.0)
    network = random_network(seed=3)
    trainer = Trainer(network, Settings(radius=1e-4))
    train = random_episodes(2, seed=3)
    direction = [torch.randn_like(value) for value in trainer.weights]
    before = [value.detach().clone() for value in trainer.weights]
    found = trainer.hessian_product(train, direction)
    for value, start in zip(trainer.weights, before, strict=True):
        assert torch.equal(value, start)  # bit for bit
    loss = loss_of(network(train.images, train.labels).output, train.target)
    first = torch.autograd.grad(loss, trainer.weights, create_graph=True)
    along = sum((grad * to).sum() for grad, to in zip(first, direction, strict=True))
    exact = torch.autograd.grad(along, trainer.local)
    for one, other in zip(found, exact, strict=True):
        assert other.abs().max() > 1e-9
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * other.abs().max().item())


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_the_difference_is_that_of_the_plain_formulation(scale):
    network = random_network(seed=4)
    trainer, train = Trainer(network, Settings()), random_episodes(1, seed=4)
    direction = [scale * torch.randn_like(value) for value in trainer.weights]
    found = trainer.hessian_product(train, direction)
    norm = math.sqrt(sum(float(value.square().sum()) for value in direction))
    assert (norm > 1) == (scale > 1e-3)
    step = min(1e-3 / norm, 1e-3)
    names = [name for name, _ in network.named_parameters() if name not in LOCAL]
    sides = []
    for sign in (1, -1):
        parameters = dict(network.named_parameters())
        for name, toward in zip(names, direction, strict=True):
            parameters[name] = parameters[name] + sign * step * toward
        output, _ = reference.episode("hp", parameters, train.images, train.labels)
        sides.append(gradients(loss_of(output, train.target), trainer.local))
    for one, up, down in zip(found, *sides, strict=True):
        torch.testing.assert_close(one, (up - down) / (2 * step), rtol=1e-6, atol=1e-9)


def test_gradients_lie_in_memory_as_their_parameters():
    network = random_network().to(memory_format=torch.channels_last)
    task = random_episodes(2)
    loss = loss_of(network(task.images, task.labels).output, task.target)
    parameters = list(network.parameters())
    for grad, value in zip(gradients(loss, parameters), parameters, strict=True):
        assert grad.stride() == value.stride()


def meta_gradient(trainer, train, validation):
    """The meta gradient before its norm is cut, from the parts."""
    limit = trainer.settings.limit
    answer = trainer.network(validation.images, validation.labels)
    loss = loss_of(answer.output, validation.target)
    direction = gradients(loss, trainer.weights)
    answer = trainer.network(validation.images, validation.labels)
    meta = gradients(loss_of(answer.output, validation.target), trainer.local)
    product = trainer.hessian_product(train, direction)
    return [
        grad - 0.1 * change.clamp(-limit, limit) for grad, change in zip(meta, product, strict=True)
    ]


@pytest.mark.parametrize("limit", [1.0, 1e-4])
def test_a_meta_step_follows_the_gradient_with_the_quotient_clamped_and_its_norm_cut(limit):
    network = random_network(seed=1)
    trainer = Trainer(network, Settings(limit=limit))
    train, validation = random_episodes(1, seed=1), random_episodes(1, seed=2)
    expected = meta_gradient(trainer, train, validation)
    norm = math.sqrt(sum(float(grad.square().sum()) for grad in expected))
    scale = min(1.0, limit / (norm + 1e-6))
    assert (scale < 1) == (limit < 1)  # the smaller limit bites
    weights = [value.detach().clone() for value in trainer.weights]
    local = [value.detach().clone() for value in trainer.local]
    trainer.learn_to_learn(train, validation)
    for value, grad in zip(trainer.local, expected, strict=True):
        torch.testing.assert_close(value.grad, scale * grad, rtol=1e-9, atol=1e-15)
    for value, start in zip(trainer.weights, weights, strict=True):
        assert torch.equal(value, start)
    # Adam's first step is its step size against the sign of the gradient.
    for value, start in zip(trainer.local, local, strict=True):
        torch.testing.assert_close(
            value, start - 3e-5 * value.grad / (value.grad.abs() + 1e-6), rtol=1e-7, atol=1e-10
        )


def test_under_gp_only_the_weights_learn():
    trainer = Trainer(random_network("gp"), Settings())
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    losses = trainer.iteration(random_episodes(5), random_episodes(1, seed=1))
    assert set(losses) == {"train"} == set(trainer.kinds())
    for name, value in trainer.network.state_dict().items():
        assert torch.equal(value, before[name]) == (name in LOCAL), name


def test_an_iteration_is_five_steps_of_the_weights_then_one_of_the_others():
    episodes, validation = random_episodes(10), random_episodes(2, seed=1)
    together, apart = (Trainer(random_network(), Settings()) for _ in range(2))
    losses = together.iteration(episodes, validation)
    tasks = [episodes.part(start, start + 2) for start in range(0, 10, 2)]
    train = [apart.train(task) for task in tasks]
    validated = apart.learn_to_learn(tasks[0], validation)
    assert losses["train"].item() == torch.stack(train).mean().item()
    assert losses["validation"].item() == validated.item()
    for one, other in zip(together.network.parameters(), apart.network.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_validation_task_asks_what_the_first_training_task_asked_with_other_drawings(monkeypatch):
    seen = []

    def recorded(self, training, validation):
        seen.append((training, validation))
        return {kind: torch.zeros(()) for kind in self.kinds()}

    monkeypatch.setattr(Trainer, "iteration", recorded)
    trainer = Trainer(random_network().float(), Settings())
    program.train_epoch(trainer, Characters(numbered(), 5, 1), 3, 2)
    assert len(seen) == 3
    for training, validation in seen:
        first = training.part(0, 2)
        assert training.target.shape == (10, 5)
        assert torch.equal(first.labels, validation.labels)
        assert torch.equal(first.target, validation.target)
        characters, drawings = zip(*(shown_in(part) for part in (first, validation)), strict=True)
        assert torch.equal(*characters)
        assert not torch.equal(*drawings)


def test_step_sizes_halve_every_so_many_iterations():
    trainer = Trainer(random_network(), Settings(decay_every=2))
    seen = []
    for seed in range(5):
        optimizers = (trainer.optimizer, trainer.local_optimizer)
        seen.append([optimizer.param_groups[0]["lr"] for optimizer in optimizers])
        trainer.iteration(random_episodes(5, seed=seed), random_episodes(1, seed=seed + 9))
    rates = np.array(seen) / [8e-5, 3e-5]
    np.testing.assert_allclose(rates, np.array([[1, 1], [1, 1], [0.5] * 2, [0.5] * 2, [0.25] * 2]))


def test_two_steps_lower_the_loss_with_finite_gradients():
    network = random_network()
    trainer, task = Trainer(network, Settings(lr=1e-3)), random_episodes(2)
    losses = []
    for _ in range(3):
        losses.append(trainer.train(task).item())
        assert all(value.grad.isfinite().all() for value in trainer.weights)
    assert losses[0] > losses[1] > losses[2]


def test_nothing_stays_alive_between_iterations():
    trainer = Trainer(random_network(), Settings())

    def alive():
        gc.collect()
        return sum(issubclass(type(value), torch.Tensor) for value in gc.get_objects())

    counts = []
    for seed in range(4):
        trainer.iteration(random_episodes(5, seed=seed), random_episodes(1, seed=seed + 9))
        counts.append(alive())
    assert counts[1] == counts[2] == counts[3]


def test_a_loss_that_is_no_number_stops_the_run():
    network = random_network().float()
    with torch.no_grad():
        network.conv2.weight[0] = float("nan")
    pixels = torch.zeros(30, 20, 31, 31, dtype=torch.uint8)
    with pytest.raises(UserError, match=r"the loss became nan at step 1 of this epoch under .* hp"):
        program.train_epoch(Trainer(network, Settings()), Characters(pixels, 5, 1), 2, 1)


# --------------------------------------------------------------------------- a task to be learned


def patterns(n, seed):
    """Characters of 4 x 4 fields, slightly brighter or darker than gray, under strong noise."""
    generator = torch.Generator().manual_seed(seed)
    fields = (torch.rand(n, 1, 4, 4, generator=generator) < 0.5).float()
    prototypes = torch.nn.functional.interpolate(fields, size=(31, 31))
    noise = torch.randn(n, 20, 31, 31, generator=generator)
    return (255 * (0.375 + 0.25 * prototypes + 0.125 * noise).clamp(0, 1)).byte()


def test_with_a_trace_new_characters_are_learned_and_without_it_guessed():
    training, test = Characters(patterns(200, 0), 5, 1), Characters(patterns(100, 1), 5, 1)
    accuracy = {}
    for rule in ("hp", "gp"):
        torch.manual_seed(0)
        network = HybridNet(rule, 5, (8, 8, 8, 16))
        trainer = Trainer(network, Settings(lr=2e-3, lr_meta=1e-3))
        for moment, iterations in (("before", 0), ("after", 40)):
            for _ in range(iterations):
                plan = training.plan(20, torch.default_generator)
                shown = training.show(plan, torch.default_generator)
                again = training.show(plan.part(0, 4), torch.default_generator)
                trainer.iteration(shown, again)
            generator = torch.Generator().manual_seed(0)
            right = program.right_answers(network, test, 300, generator)
            accuracy[rule, moment] = right / 300
    assert accuracy["hp", "before"] < 0.5
    assert accuracy["hp", "after"] > 0.9
    assert accuracy["gp", "after"] < 0.3


# -------------------------------------------------------------------------------------- episodes


def numbered(characters=40, drawings=20):
    """Images that say which drawing of which character they are: pixel 0 and pixel 1."""
    pixels = torch.zeros(characters, drawings, 1, 2, dtype=torch.uint8)
    pixels[..., 0, 0] = torch.arange(characters, dtype=torch.uint8)[:, None]
    pixels[..., 0, 1] = torch.arange(drawings, dtype=torch.uint8)
    return pixels


def shown_in(episodes):
    """Characters and drawings [steps, n] of episodes drawn from `numbered`."""
    gray = 255 * (episodes.images[:, :, 0, 0].double() * 0.2721 + 0.9195)
    return gray.round().long().unbind(2)


@pytest.mark.parametrize(("ways", "shots"), [(5, 1), (2, 3), (20, 5), (40, 19)])
def test_an_episode_shows_every_character_and_asks_for_one(ways, shots):
    generator = torch.Generator().manual_seed(1)
    drawn = Characters(numbered(), ways, shots, "distinct").draw(50, generator)
    steps = ways * shots + 1
    assert drawn.images.shape == (steps, 50, 1, 1, 2)
    assert drawn.labels.shape == (steps, 50, ways)
    assert drawn.target.shape == (50, ways)
    assert drawn.images.dtype == drawn.labels.dtype == torch.float32
    assert drawn.labels[-1].abs().sum() == 0
    assert (drawn.labels[:-1].sum(2) == 1).all()
    assert (drawn.labels.sum(0) == shots).all()
    assert (drawn.target.sum(1) == 1).all()
    character, drawing = shown_in(drawn)
    for k in range(50):
        label = drawn.labels[:-1, k].argmax(1)
        pairs = {(int(c), int(way)) for c, way in zip(character[:-1, k], label, strict=True)}
        assert len(pairs) == ways  # a character has one label, and a label one character
        assert len({c for c, _ in pairs}) == ways
        assert (int(character[-1, k]), int(drawn.target[k].argmax())) in pairs
        shown = {*zip(character[:, k].tolist(), drawing[:, k].tolist(), strict=True)}
        assert len(shown) == steps  # the query is a drawing of its own
    first = drawn.labels[0].argmax(1)
    assert len(set(first.tolist())) > 1  # in random order


@pytest.mark.parametrize("draw", ["independent", "distinct"])
def test_labels_queries_and_drawings_are_uniform(draw):
    drawn = Characters(numbered(10), 5, 1, draw).draw(4000, torch.Generator().manual_seed(0))
    character, drawing = shown_in(drawn)
    for counts, n in (
        (torch.bincount(drawn.target.argmax(1), minlength=5), 5),
        (torch.bincount(character[-1], minlength=10), 10),
        (torch.bincount(drawing[-1], minlength=20), 20),
        (torch.bincount(drawing[0], minlength=20), 20),
        (torch.bincount((drawn.labels[:-1] * drawn.target).sum(2).argmax(0), minlength=5), 5),
    ):
        expected = 4000 / n
        assert (counts - expected).abs().max() < 5 * math.sqrt(expected)


@pytest.mark.parametrize(("draw", "share"), [("independent", 1 / 20), ("distinct", 0)])
def test_how_often_the_query_is_its_own_sample(draw, share):
    drawn = Characters(numbered(10), 5, 1, draw).draw(4000, torch.Generator().manual_seed(0))
    character, drawing = shown_in(drawn)
    same = (character[:-1] == character[-1]) & (drawing[:-1] == drawing[-1])
    spread = 5 * math.sqrt(share * (1 - share) / 4000)
    assert same.any(0).float().mean().item() == pytest.approx(share, abs=spread)


def test_a_fifth_of_the_training_images_is_mirrored_and_no_test_image():
    pixels = torch.zeros(120, 20, 1, 3, dtype=torch.uint8)
    pixels[..., 0] = 255
    for characters, share in zip(
        split_characters(pixels, 5, 1, torch.Generator().manual_seed(0)), (MIRRORED, 0), strict=True
    ):
        images = characters.draw(800, torch.Generator().manual_seed(1)).images
        left, right = (standardized(pixels[0, 0, 0, k]) for k in (0, 2))
        mirrored = images[..., 0, 0, 0] == right
        assert torch.equal(images[..., 0, 0, 2] == left, mirrored)
        spread = 5 * math.sqrt(share * (1 - share) / mirrored.numel())
        assert mirrored.float().mean().item() == pytest.approx(share, abs=spread)


def test_the_same_generator_gives_the_same_episodes():
    characters = Characters(numbered(), 5, 1)
    one, same, other = (
        characters.draw(8, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)
    )
    for a, b, c in zip(one, same, other, strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)


def test_tests_see_no_character_of_the_training():
    pixels = numbered(250)
    train, test = split_characters(pixels, 5, 1, torch.Generator().manual_seed(0))
    of_train, of_test = (set(part.pixels[:, 0, 0, 0].tolist()) for part in (train, test))
    assert len(of_test) == HELD_OUT == 100
    assert len(of_train) == 150
    assert not of_train & of_test
    again = split_characters(pixels, 5, 1, torch.Generator().manual_seed(0))[1]
    other = split_characters(pixels, 5, 1, torch.Generator().manual_seed(1))[1]
    assert torch.equal(again.pixels, test.pixels)
    assert not torch.equal(other.pixels, test.pixels)


@pytest.mark.parametrize(
    ("ways", "shots", "words"),
    [
        (101, 1, "--ways 101 must lie between 2 and 100, the characters held out"),
        (1, 1, "--ways 1 must lie between"),
        (5, 20, "--shots 20 must lie between 1 and 19: a character has 20 drawings"),
        (5, 0, "--shots 0 must lie between"),
    ],
)
def test_too_many_ways_or_shots_are_one_sentence(ways, shots, words):
    with pytest.raises(UserError, match=words) as refusal:
        split_characters(numbered(250), ways, shots, torch.Generator())
    assert "\n" not in str(refusal.value)


def triangle(n_in, n_out):
    """Bilinear weights [n_out, n_in] over the area that an output pixel covers."""
    center = (np.arange(n_out)[:, None] + 0.5) * n_in / n_out
    weights = np.maximum(1 - np.abs(np.arange(n_in) + 0.5 - center) * n_out / n_in, 0)
    return weights / weights.sum(1, keepdims=True)


def test_images_shrink_bilinearly_over_areas():
    rng = np.random.default_rng(0)
    ink = (rng.random((3, 2, 105, 105)) < 0.3).astype(np.uint8)
    small = resized(ink, 31)
    assert small.dtype == np.uint8
    assert small.shape == (3, 2, 31, 31)
    assert (resized(np.zeros((1, 1, 105, 105), np.uint8), 31) == 255).all()
    weights = triangle(105, 31)
    rows = np.rint(255.0 * (1 - ink) @ weights.T)
    # Each axis is rounded, and a gray value in the middle of two may become either.
    assert np.abs(weights @ rows - small).max() < 1


def test_accuracies_have_wilsons_interval():
    found = program.accuracy_metrics("accuracy", 8, 10)
    assert found["accuracy"] == 0.8
    # The textbook's value for 8 of 10.
    assert found["accuracy_low_95"] == pytest.approx(0.4902, abs=1e-4)
    assert found["accuracy_high_95"] == pytest.approx(0.9433, abs=1e-4)


# ------------------------------------------------------------------------------------ the scripts

MADE = Path(__file__).with_name("script_on_made_characters.py")
MAINS = {rule: f"few_shot_learning/main_run_{rule}.py" for rule in ("hp", "gp")}
ON_MADE = {rule: (MADE, MADE.parents[1] / script) for rule, script in MAINS.items()}


def assert_quick_run(scripts, folder, done, name):
    assert done.returncode == 0, done.stderr
    result = scripts.assert_finished(folder, ["curves", "local"])
    assert result["experiment"] == name
    assert result["dataset"] == result["data"]["name"] == "omniglot"
    assert result["data"]["samples"] % 20 == 0
    metrics = result["metrics"]
    for test in ("test_accuracy_last", "test_accuracy_last_other_drawing"):
        low, accuracy, high = (metrics[f"{test}{end}"] for end in ("_low_95", "", "_high_95"))
        assert 0 <= low <= accuracy <= high <= 1
    assert metrics["iterations"] == 30
    assert metrics["test_episodes"] == 100
    rows = scripts.rows(folder)
    assert [row["iterations"] for row in rows] == [10, 20, 30]
    assert all(math.isfinite(value) for row in rows for value in row.values())
    assert metrics["test_accuracy_best_of_tests"] == max(row["test_accuracy"] for row in rows)
    assert ("validation_loss_last" in metrics) == ("_hp_" in name)
    assert "measured  published" in done.stdout
    return result


@pytest.mark.parametrize(
    ("rule", "options", "name", "chance"),
    [
        ("gp", (), "hp_fewshot_gp_quick", 0.2),
        ("hp", ("--ways", 3, "--shots", 2), "hp_fewshot_hp_3way_2shot_quick", 1 / 3),
        ("hp", ("--episodes-per-batch", 3), "hp_fewshot_hp_batched3_quick", 0.2),
        ("gp", ("--draw", "distinct"), "hp_fewshot_gp_distinct_quick", 0.2),
    ],
)
def test_quick(rule, options, name, chance, call, scripts, tmp_path):
    done = call(*ON_MADE[rule], "--quick", *options, "--out", tmp_path)
    result = assert_quick_run(scripts, tmp_path, done, name)
    assert result["metrics"]["chance"] == chance
    assert result["published"] is None


@pytest.mark.parametrize(
    ("options", "as_published"),
    [
        ((), True),
        (("--iterations", 1_000_000), True),
        (("--epochs", 60), False),
        (("--draw", "distinct"), False),
        (("--iterations", 100), False),
        (("--ways", 20), False),
        (("--episodes-per-batch", 2), False),
        (("--quick",), False),
    ],
)
def test_only_the_paper_s_run_has_its_number(options, as_published):
    settings = program.experiment_of("hp", None).parse([str(option) for option in options])
    assert program.published("hp", settings, "omniglot") == (
        {"test_accuracy_best_of_tests": 0.988} if as_published else None
    )


def test_quick_on_the_real_characters(scripts, tmp_path):
    beside = scripts.folder.parents[1] / "shared" / "data"
    root = Path(os.environ.get("SNN_DATA") or beside)
    words = (MAINS["hp"], "--quick", "--data-root", root, "--out", tmp_path)
    if not any((root / name).is_dir() for name in ("omniglot", "omniglot-py")):
        scripts.assert_refused(scripts.run_offline(*words), "Omniglot was not found")
        return
    done = scripts.run(*words)
    assert_quick_run(scripts, tmp_path, done, "hp_fewshot_hp_quick")


# Episodes of two characters take half of five characters' time.
REPEATED = (*ON_MADE["hp"], "--quick", "--ways", 2, "--deterministic")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_run_goes_on_bit_for_bit(number, scripts, undisturbed, tmp_path):
    scripts.assert_goes_on(undisturbed, tmp_path, number, *REPEATED)


def test_same_seed_gives_the_same_bytes_and_another_seed_does_not(scripts, undisturbed, tmp_path):
    scripts.assert_seed_decides(undisturbed, tmp_path, "conv1.weight", *REPEATED)


def test_iterations_and_epochs_say_the_same():
    experiment = program.experiment_of("hp", None)
    for words, iterations, epochs, name in (
        ("", 1_000_000, 1000, "hp_fewshot_hp"),
        ("--epochs 2", 2000, 2, "hp_fewshot_hp_2-epochs"),
        ("--iterations 2000", 2000, 2, "hp_fewshot_hp_2-epochs"),
        ("--iterations 1500", 1500, 2, "hp_fewshot_hp_1500it_2-epochs"),
        ("--iterations 1500 --ways 20", 1500, 2, "hp_fewshot_hp_20way_1500it_2-epochs"),
        ("--quick", 30, 3, "hp_fewshot_hp_quick"),
        ("--quick --iterations 15", 15, 2, "hp_fewshot_hp_15it_2-epochs_quick"),
        ("--quick --epochs 5", 50, 5, "hp_fewshot_hp_5-epochs_quick"),
    ):
        options = experiment.parse(words.split())
        assert (options.all_iterations, options.epochs) == (iterations, epochs)
        assert experiment.name(options, "omniglot") == name


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--ways", 101), "--ways 101 must lie between 2 and 100"),
        (("--shots", 20), "--shots 20 must lie between 1 and 19"),
        (("--iterations", 0), "--iterations 0 must be above 0"),
        (("--epochs", -1), "--epochs -1 must be above 0"),
        (("--epochs", 7, "--iterations", 20), "--epochs 7 and --iterations 20 are two lengths"),
        (("--episodes-per-batch", 0), "--episodes-per-batch 0 must be above 0"),
        (("--test-episodes", 0), "--test-episodes 0 must be above 0"),
    ],
)
def test_bad_input_ends_with_code_2_and_one_sentence(options, words, call, scripts, tmp_path):
    done = call(*ON_MADE["hp"], "--quick", *options, "--out", tmp_path / "run")
    scripts.assert_refused(done, words)
    assert not (tmp_path / "run").exists()


def test_a_missing_omniglot_names_the_path_and_what_to_do(scripts, tmp_path):
    options = ("--quick", "--data-root", tmp_path, "--out", tmp_path / "run")
    done = scripts.run_offline(MAINS["hp"], *options)
    scripts.assert_refused(done, str(tmp_path / "omniglot"))
    assert "--data-root or SNN_DATA" in done.stderr


def test_another_runs_checkpoint_is_refused(scripts, undisturbed):
    done = scripts.run(*REPEATED, "--ways", 4, "--out", undisturbed)
    scripts.assert_refused(done, "holds a run with --ways 2, not 4")


# -------------------------------------------------------------- the published names and calls

PUBLISHED = {"hp": hp_model, "gp": gp_model}


def drawings(characters):
    """Drawings as the published program holds them, lists of images from 0 to 1."""
    rng = np.random.default_rng(0)
    return [[(rng.random((105, 105)) < 0.9) / 1.0 for _ in range(3)] for _ in range(characters)]


@pytest.mark.parametrize("rule", PUBLISHED)
def test_the_published_loop_learns_by_the_published_names(rule):
    module = PUBLISHED[rule]
    module.setup_seed(0)
    net = module.hybridNet()
    weights, meta = net.parameter_split()
    assert {id(p) for p in weights} | {id(p) for p in meta} == {id(p) for p in net.parameters()}
    assert [p.shape for p in meta] == [(512, 5), (5,), (1,)]
    optimizer_w = torch.optim.Adam(weights, lr=module.gp_lr, eps=1e-6)
    criterion, hebb = torch.nn.BCELoss(), net.init_hebb()
    batch = module.train_data_batch(drawings(106), 2)
    x_spts, y_spts, t_spts, x_qrys, y_qrys, t_qrys = batch
    assert len(x_spts) == 2
    losses = []
    for _ in range(3):
        y, hebb = net(x_spts[0], y_spts[0], hebb)
        loss = criterion(y, t_spts[0].expand_as(y))
        loss.backward()
        optimizer_w.step()
        optimizer_w.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert hebb.any() == (rule == "hp")
    if rule == "gp":
        return
    y, hebb = net(x_qrys[0], y_qrys[0], hebb)
    dw = gradients(criterion(y, t_qrys[0].expand_as(y)), net.weights)
    found = net.compute_hessian(dw, x_spts[0], y_spts[0], t_spts[0], criterion)
    train = Episodes(x_spts[0], y_spts[0], t_spts[0][None])
    own = HybridNet("hp")
    own.load_state_dict(net.state_dict())
    expected = Trainer(own, Settings()).hessian_product(train, dw)
    for one, other in zip(found, expected, strict=True):
        assert one.abs().max() <= 1
        torch.testing.assert_close(one, other.clamp(-1, 1), rtol=1e-4, atol=1e-5)


def test_published_episodes_ask_the_same_of_both_halves_and_train_on_no_test_character():
    task_set = [[np.full((31, 31), 2 * number + k, np.uint8) for k in (0, 1)]
                for number in range(106)]  # fmt: skip
    seen = set()
    for _ in range(20):
        x_spt, y_spt, t_spt, x_qry, y_qry, t_qry = hp_model.train_data_generation(task_set)
        assert x_spt.shape == (6, 1, 1, 31, 31)
        assert y_spt.shape == (6, 1, 5)
        assert torch.equal(y_spt, y_qry)
        assert torch.equal(t_spt, t_qry)
        assert t_spt.sum() == 1
        one, other = (
            (255 * (x[:, 0, 0, 0, 0].double() * 0.2721 + 0.9195)).round().long() // 2
            for x in (x_spt, x_qry)
        )
        assert torch.equal(one, other)
        assert torch.equal(y_spt[:-1, 0][one[:-1] == one[-1]][0], t_spt)
        seen |= set(one.tolist())
        images, labels, target = hp_model.test_data_generation(task_set)
        gray = (255 * (images[:, 0, 0, 0, 0].double() * 0.2721 + 0.9195)).round().long() // 2
        assert gray.min() >= 6
        assert torch.equal(labels[:-1, 0][gray[:-1] == gray[-1]][0], target)
    assert seen == set(range(6))


@pytest.mark.parametrize("rule", PUBLISHED)
def test_the_published_step_makes_the_published_episode(rule):
    module = PUBLISHED[rule]
    torch.manual_seed(0)
    net = module.hybridNet()
    episodes = random_episodes(1, dtype=torch.float32)
    expected, trace = net(episodes.images, episodes.labels)
    mem = spikes = torch.zeros(1, 5)
    hebb = net.init_hebb()
    with torch.no_grad():
        for z, label in zip(net.features(episodes.images), episodes.labels, strict=True):
            mem, spikes, hebb = module.mem_update_plastic(
                net.fc1, net.alpha, net.beta, net.eta, z, label, mem, spikes, hebb
            )
    torch.testing.assert_close(mem.softmax(1), expected.detach())
    torch.testing.assert_close(hebb, trace.detach())


def test_a_published_layer_without_a_trace_keeps_its_potential_within_the_threshold():
    fc = torch.nn.Linear(3, 4)
    mem, spikes = torch.zeros(2, 4), torch.ones(2, 4)
    x = 100 * torch.rand(2, 3)
    potential, fired = hp_model.mem_update_no_plastic(fc, x, mem, spikes)
    assert torch.equal(potential, fc(x).clamp(-0.5, 0.5))
    assert torch.equal(fired, (fc(x) > 0.5).float())
    assert fired.any()
