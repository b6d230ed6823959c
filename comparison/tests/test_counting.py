"""Operations against networks counted by hand, and by a plain loop."""

import numpy as np
import pytest
import torch

from comparison import registry
from comparison.counting import Operations, links_of
from comparison.interface import Choice, Learner, Traffic
from comparison.rules.brp import STEPS, Brp
from comparison.rules.hybrid import Hybrid
from comparison.tests.made import BATCH, N_CLASSES, N_INPUTS, small
from comparison.torch_parts import by_words

IMAGES = np.random.default_rng(0).integers(0, 256, (BATCH, N_INPUTS)).astype(np.uint8)


def test_a_network_counted_by_hand():
    """2-3-1 neurons, two images, four steps; one weight is 0.

    Input 1 has three synapses, input 2 two. In the first image input 1 spikes twice and input 2
    once: 2 * 3 + 1 * 2 = 8 additions; in the second input 2 spikes four times: 8. Of the hidden
    neurons, which have a synapse each, three spike once in the first image, none in the second; the
    second layer takes products.
    """
    weight = torch.tensor([[1.0, 2.0], [-1.0, 0.0], [0.5, 0.1]])
    assert links_of(weight).tolist() == [3, 2]
    counted = Operations()
    first = Traffic(np.array([[2.0, 1.0], [0.0, 4.0]]), links_of(weight), 3, 4, binary=True)
    second = Traffic(np.array([[1.0] * 3, [0.0] * 3]), np.ones(3), 1, 4, binary=False)
    counted.add([first, second])
    assert counted.metrics() == {
        "Dense": 4 * (2 * 3 + 3 * 1),
        "Effective_ACs": 8.0,
        "Effective_MACs": 1.5,
        "energy_uj": pytest.approx((8 * 0.9 + 1.5 * 4.6) / 1e6),
    }


def test_batches_add_up():
    whole, parts = Operations(), Operations()
    events = np.arange(12.0).reshape(4, 3)
    whole.add([Traffic(events, np.array([5.0, 4.0, 3.0]), 5, 1, True)])
    for part in (events[:1], events[1:]):
        parts.add([Traffic(part, np.array([5.0, 4.0, 3.0]), 5, 1, True)])
    assert whole.metrics() == parts.metrics()


def test_spikes_of_a_network_are_those_of_a_plain_loop():
    """BRP's network, neuron by neuron and step by step."""
    learner = small("brp", Choice(lr=1e-3, knob=0.5, scale=4.0))
    assert isinstance(learner, Brp)
    with torch.no_grad():
        learner.network.blocks[0].weight[:, :20] = 0
    counted = Operations()
    counted.add(learner.answer(IMAGES, draw=3).traffic)
    generator = torch.Generator().manual_seed(3)
    x = torch.from_numpy(IMAGES).float() / 255
    shown = by_words(x, STEPS, generator).float()
    blocks, additions = learner.network.blocks, 0
    states = [(torch.zeros(BATCH, block.layer.units),) * 2 for block in blocks]
    for step in shown:
        activity = step
        for i, block in enumerate(blocks):
            linked = (block.weight != 0).float()
            additions += int((activity @ linked.T).sum())
            potential, spiked = states[i]
            potential = 0.2 * potential * (1 - spiked) + activity @ block.weight.T + block.bias
            states[i] = (potential, (potential > 0.5).float())
            activity = states[i][1]
    assert states[0][1].any()
    metrics = counted.metrics()
    assert metrics["Effective_ACs"] * BATCH == additions
    assert metrics["Effective_MACs"] == 0
    assert metrics["Dense"] == STEPS * (N_INPUTS * 10 + 10 * N_CLASSES)


@pytest.mark.parametrize("name", registry.found()[0])
def test_nothing_passes_more_often_than_it_could(name):
    learner = small(name)
    for share in (0.5, 1.0):
        answer = learner.answer(IMAGES, 0, share)
        for part in answer.traffic:
            assert (part.events >= 0).all()
            assert (part.links <= part.n_post).all()
            assert part.events.shape == (BATCH, len(part.links))
        counted = Operations()
        counted.add(answer.traffic)
        found = counted.metrics()
        assert found["Effective_MACs"] + found["Effective_ACs"] > 0
        if name != "smooth":  # a neuron may spike more often than once in a trial
            assert found["Effective_MACs"] + found["Effective_ACs"] <= found["Dense"]


def three_bright_pixels() -> np.ndarray:
    image = np.zeros((1, N_INPUTS), np.uint8)
    image[0, [3, 8, 40]] = 200
    return image


def trained(name: str) -> Learner:
    """Whose trace, if it has one, is not 0."""
    learner = small(name)
    for _ in range(2):
        learner.step(IMAGES, np.arange(BATCH) % N_CLASSES)
    return learner


def test_a_trace_that_stays_the_same_is_part_of_the_weights():
    """HP takes what GP takes on three bright pixels: 3 * 10 products, and hidden spikes * 3."""
    for name in ("hp", "gp"):
        learner = trained(name)
        answer = learner.answer(three_bright_pixels(), 0)
        first, second = answer.traffic
        assert first.events.sum() == 3
        assert not first.binary
        assert second.binary
        assert first.links.tolist() == [10] * N_INPUTS
        assert second.links.tolist() == [N_CLASSES] * 10
        np.testing.assert_array_equal(second.events, answer.hidden)


def test_a_synapse_of_weight_or_trace_is_one_synapse():
    learner = trained("hp")
    assert isinstance(learner, Hybrid)
    layer = learner.layers[0]
    with torch.no_grad():
        layer.fc.weight[:4, 3] = 0
        trace = layer.hebb.clone()
        trace[3] = torch.tensor([0.0] * 2 + [0.1] * 8)
        layer.hebb = trace
    assert learner.answer(three_bright_pixels(), 0).traffic[0].links[3] == 8


def test_a_trace_that_moves_is_read_and_grows_beside_the_weights():
    """At each of ten steps by input that stays the same, and by every hidden spike."""
    learner = trained("hp")
    context = learner.adapting()
    assert context is not None
    with context:
        answer = learner.answer(three_bright_pixels(), 0)
    first, second = answer.traffic[:3], answer.traffic[3:]
    assert [part.events.sum() for part in first] == [3, 30, 30]
    assert [part.binary for part in first] == [False, False, False]
    assert [part.binary for part in second] == [True, True, False]
    for part in second:
        np.testing.assert_array_equal(part.events, answer.hidden)
    assert first[2].links.tolist() == [10] * N_INPUTS
    assert second[2].links.tolist() == [N_CLASSES] * 10
