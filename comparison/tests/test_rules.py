"""What every rule promises."""

import copy
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch

from comparison import registry
from comparison.interface import Choice, Rule
from comparison.tests.made import BATCH, N_CLASSES, N_INPUTS, small
from comparison.torch_parts import Dropout, by_floats, by_words
from shared.errors import UserError

RULES = registry.found()[0]
IMAGES = np.random.default_rng(1).integers(0, 256, (BATCH, N_INPUTS)).astype(np.uint8)
LABELS = np.arange(BATCH) % N_CLASSES


def test_all_rules_are_there():
    assert registry.found()[1] == {}
    assert len(RULES) >= 18


@pytest.mark.parametrize("name", RULES)
def test_a_rule_learns_goes_on_and_answers(name):
    learner = small(name)
    learner.begin(0, 2)
    losses = [learner.step(IMAGES, LABELS) for _ in range(3)]
    assert np.isfinite(losses).all()
    state = copy.deepcopy(learner.state())
    # What is measured changes nothing.
    before = learner.weights()
    angle = learner.angle(IMAGES, LABELS)
    assert angle is None or 0 <= angle <= 180
    answers = [learner.answer(IMAGES, draw) for draw in (0, 0)]
    np.testing.assert_array_equal(answers[0].scores, answers[1].scores)
    assert answers[0].scores.shape == (BATCH, N_CLASSES)
    assert answers[0].hidden.shape == (BATCH, 10)
    if RULES[name].timed:
        assert learner.answer(IMAGES, 0, 0.25).scores.shape == (BATCH, N_CLASSES)
    learner.set_weights(before)
    for key, value in learner.weights().items():
        np.testing.assert_array_equal(value, before[key])
    # Another network takes the state and goes on alike.
    other = small(name)
    after = []
    for network in (other, learner):
        network.load(copy.deepcopy(state))  # torch's own stream, which some draw from, is in it
        network.begin(1, 2)
        after.append((network.step(IMAGES, LABELS), copy.deepcopy(network.state())))
    assert_same(*after)


@pytest.mark.parametrize(("name", "own"), [("relu", 0.0), ("stl", 0.5), ("sl", 0.5), ("tl", 0.5)])
def test_another_dropout_than_a_rules_own(name, own):
    # At the paper's thresholds so small a network is silent.
    choice = RULES[name].choice if name == "relu" else replace(RULES[name].choice, knob=0.1)
    losses = {
        share: small(name, choice, dropout=share).step(IMAGES, LABELS)
        for share in (None, 0.0, 0.5, 0.9)
    }
    assert losses[None] == losses[own]
    assert len(set(losses.values())) == 3


def test_the_plain_network_drops_input_and_hidden_units(monkeypatch):
    shares, drop = [], torch.nn.functional.dropout
    monkeypatch.setattr(
        torch.nn.functional, "dropout", lambda x, share: shares.append(share) or drop(x, share)
    )
    small("relu", dropout=0.5).step(IMAGES, LABELS)
    small("relu").step(IMAGES, LABELS)
    assert shares == [0.5, 0.5, 0.0, 0.0]
    with pytest.raises(UserError, match=r"relu's knob, which is 0.2 here: leave out"):
        small("relu", replace(RULES["relu"].choice, knob=0.2), dropout=0.5)


@pytest.mark.parametrize("name", ["stl", "sl", "tl"])
def test_stls_network_drops_in_front_of_both_layers(name):
    network = small(name, dropout=0.25).network
    assert (network.drop1.p, network.drop2.p) == (0.25, 0.25)


def test_only_rules_that_drop_something_take_another_dropout():
    assert {name for name, rule in RULES.items() if rule.drops} == {"relu", "stl", "sl", "tl"}


def assert_same(one, other):
    """Equal numbers in nested mappings and sequences."""
    if isinstance(one, Mapping):
        assert one.keys() == other.keys()
        assert_same(list(one.values()), [other[key] for key in one])
    elif isinstance(one, list | tuple):
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    else:
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", RULES)
def test_a_seed_decides(name):
    weights = [small(name, seed=seed).weights() for seed in (0, 0, 1)]
    for key in weights[0]:
        np.testing.assert_array_equal(weights[0][key], weights[1][key])
        assert not np.array_equal(weights[0][key], weights[2][key])


@pytest.mark.parametrize("name", RULES)
def test_the_scale_of_initial_weights_is_a_factor(name):
    paper = RULES[name].choice
    small_, large = (
        small(name, Choice(paper.lr, paper.decay, scale, paper.knob)).weights()
        for scale in (1.0, 3.0)
    )
    for key, value in small_.items():
        np.testing.assert_allclose(3 * value, large[key], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["shifting", "brp", "fa", "dfa", "sdfa"])
def test_rules_that_stand_in_for_a_gradient_have_an_angle_to_it(name):
    learner = small(name)
    learner.begin(0, 1)
    for _ in range(5):
        learner.step(IMAGES, LABELS)
    angle = learner.angle(IMAGES, LABELS)
    assert angle is not None
    assert 0 < angle < 120


@pytest.mark.parametrize("name", sorted(RULES))
def test_what_a_rule_says_is_complete(name):
    rule: Rule = RULES[name]
    assert all(rule.protocol)
    assert all(rule.locality)
    assert 0 < rule.knob.low < rule.knob.high


def test_step_sizes_fall_to_the_stated_share():
    choice = Choice(lr=0.4, decay=0.01)
    assert choice.rate(0, 20) == 0.4
    assert choice.rate(20, 20) == pytest.approx(0.004)


@pytest.mark.parametrize("compared", [by_floats, by_words])
def test_a_pixel_spikes_as_often_as_it_is_bright(compared):
    steps, n = 400, 250
    x = torch.linspace(0, 1, 11).repeat(n, 1)
    spikes = compared(x, steps, torch.Generator().manual_seed(0)).float()
    assert set(spikes.unique().tolist()) == {0.0, 1.0}
    assert spikes[..., 0].sum() == 0
    rate, spread = spikes.mean((0, 1)), (x[0] * (1 - x[0]) / (n * steps)).sqrt()
    assert ((rate - x[0]).abs() <= 4 * spread + 2**-15).all()
    # Steps and neighbours are drawn apart: covariances are within their chance.
    grey = spikes[..., 5].flatten() - 0.5
    for lag in (1, 2, 3, 4, n):
        assert (grey[:-lag] * grey[lag:]).mean().abs() < 4 * 0.25 / len(grey) ** 0.5
    beside = ((spikes[..., 5] - 0.5) * (spikes[..., 4] - 0.4)).mean()
    assert beside.abs() < 4 * 0.25 / (n * steps) ** 0.5


@pytest.mark.parametrize("compared", [by_floats, by_words])
@pytest.mark.parametrize("shape", [(1, 3), (3, 5), (0, 784)])
def test_thresholds_are_new_for_each_call_pixel_and_step(compared, shape):
    x, generator = torch.full(shape, 0.5), torch.Generator().manual_seed(3)
    first, second = (compared(x, 30, generator) for _ in range(2))
    assert first.shape == (30, *shape)
    assert torch.equal(first, compared(x, 30, torch.Generator().manual_seed(3)))
    if x.numel():
        others = [second, compared(x, 30, torch.Generator().manual_seed(4)), first.roll(15, 0)]
        assert not any(torch.equal(first, other) for other in others)
        # 30 throws of a coin or more are not all alike in any pixel.
        assert ((first.sum(0) > 2) & (first.sum(0) < 28)).all()


@pytest.mark.parametrize("p", [0.5, 0.2, 0.95])
def test_dropout_is_that_of_torch(p):
    torch.manual_seed(0)
    layer, x = Dropout(p), torch.ones(300, 401, requires_grad=True)
    first, second = layer(x), layer(x)
    assert not torch.equal(first, second)
    for out in (first, second):
        kept = out != 0
        assert (kept.float().mean() - (1 - p)).abs() < 4 * (p * (1 - p) / x.numel()) ** 0.5
        assert out[kept].detach().numpy() == pytest.approx(1 / (1 - p), rel=1e-3)
        beside = (kept.float()[:, 1:] + p - 1) * (kept.float()[:, :-1] + p - 1)
        assert beside.mean().abs() < 4 * p * (1 - p) / x.numel() ** 0.5
    first.sum().backward()
    assert torch.equal(x.grad, first.detach())
    assert layer.eval()(x) is x


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_dropout_of_nothing_and_of_all(p):
    x = torch.rand(3, 5)
    assert torch.equal(Dropout(p)(x), (1 - p) * x)
