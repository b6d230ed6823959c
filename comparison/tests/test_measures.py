"""Distortions, weights of few bits, and what is computed of accuracies."""

import numpy as np
import pytest

from comparison.data import Part, labeled, pixel_orders
from comparison.measures import (
    forgetting,
    gaussian,
    holding,
    in_batch,
    noisy_weights,
    occluded,
    quantized,
    robustness,
    salt_and_pepper,
    seen,
)
from comparison.tests.made import BATCH, N_CLASSES, N_INPUTS, small

GRAY = np.full((50, 100), 100, np.uint8)


def test_gaussian_noise_has_the_stated_deviation():
    noisy = gaussian(GRAY, 0.1).astype(float)
    assert noisy.std() == pytest.approx(25.5, rel=0.05)
    np.testing.assert_array_equal(gaussian(GRAY, 0.1), gaussian(GRAY, 0.1))


def test_salt_and_pepper_take_half_each():
    noisy = salt_and_pepper(GRAY, 0.3)
    assert np.mean(noisy == 0) == pytest.approx(0.15, abs=0.02)
    assert np.mean(noisy == 255) == pytest.approx(0.15, abs=0.02)


def test_an_occlusion_is_a_square_of_the_stated_side():
    covered = occluded(GRAY, 0.4).reshape(50, 10, 10) == 0
    assert (covered.sum((1, 2)) == 16).all()
    assert set(covered.any(1).sum(1)) == set(covered.any(2).sum(1)) == {4}


def test_few_bits_leave_few_values():
    w = {"a": np.random.default_rng(0).standard_normal((30, 30)).astype(np.float32)}
    for bits in (8, 4):
        found = quantized(w, bits)["a"]
        assert len(np.unique(found)) <= 2**bits - 1
        step = np.abs(w["a"]).max() / (2 ** (bits - 1) - 1)
        assert np.abs(found - w["a"]).max() <= step / 2 + 1e-6
    assert quantized({"a": np.zeros((2, 2))}, 4)["a"].tolist() == [[0, 0], [0, 0]]


def test_noise_on_weights_is_relative_to_each_layer():
    w = {"a": np.full((200, 50), 2.0, np.float32), "b": np.full((200, 50), 0.1, np.float32)}
    found = noisy_weights(w, 0.2)
    for name, value in w.items():
        spread = float((found[name] - value).std())
        assert spread == pytest.approx(0.2 * value.mean(), rel=0.05)


def test_other_weights_are_held_for_a_while_only():
    learner = small("relu")
    before = learner.weights()
    with holding(learner, quantized(before, 4)):
        assert not np.array_equal(learner.weights()["hidden"], before["hidden"])
    np.testing.assert_array_equal(learner.weights()["hidden"], before["hidden"])


def test_forgetting_by_hand():
    """Task 1 falls from 0.9 to 0.5, task 2 from 0.8 to 0.7; what was before does not count."""
    table = np.array([[0.9, 0.95, 0.1], [0.7, 0.8, 0.2], [0.5, 0.7, 0.6]])
    assert forgetting(table) == pytest.approx((0.4 + 0.1) / 2)


def test_a_pass_counts_the_last_batch_too():
    learner = small("relu")
    random = np.random.default_rng(0)
    part = Part(
        random.integers(0, 256, (BATCH + 5, N_INPUTS)).astype(np.uint8),
        random.integers(0, N_CLASSES, BATCH + 5),
    )
    answers = learner.answer(part.images, 0)
    found = seen(learner, part, BATCH)
    assert found.accuracy == np.mean(answers.scores.argmax(1) == part.labels)
    np.testing.assert_allclose(found.spikes, answers.hidden.mean(0))
    assert all(0 <= value <= 1 for value in robustness(learner, part, BATCH).values())


@pytest.mark.parametrize(("name", "adapts"), [("hp", True), ("lp", True), ("gp", False)])
def test_an_answer_depends_on_its_image_only_but_where_a_network_adapts(name, adapts):
    learner = small(name)
    images = np.random.default_rng(0).integers(0, 256, (BATCH, N_INPUTS)).astype(np.uint8)
    part = Part(images, np.arange(BATCH) % N_CLASSES)
    for _ in range(2):
        learner.step(part.images, part.labels)

    def scores(shown):
        return learner.answer(shown, 0).scores

    before = scores(images)
    np.testing.assert_allclose(before[:3], scores(images[:3]), rtol=1e-5, atol=1e-6)
    context = learner.adapting()
    assert (context is not None) == adapts
    if context is not None:
        with context:
            assert not np.allclose(scores(images)[:3], scores(images[:3]), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(scores(images), before)
    found = in_batch(learner, part, part, BATCH)
    assert ("test_accuracy_gaussian_0.3_in_batch" in found) == adapts
    short = in_batch(learner, part, None, BATCH)
    assert short == {name: value for name, value in found.items() if name in short}
    assert bool(short) == adapts
    if adapts:  # a trace that grows costs more
        whole = seen(learner, part, BATCH).operations.metrics()
        assert short["energy_uj_in_batch"] > whole["energy_uj"]


def test_few_labels_are_of_all_classes_alike():
    part = Part(np.zeros((1000, 1), np.uint8), np.repeat(np.arange(10), 100))
    few = labeled(part, 10, seed=0)
    assert np.bincount(few.labels).tolist() == [10] * 10
    assert len(labeled(part, 1, seed=0).labels) == 10
    assert labeled(part, 100, seed=0) is part


def test_tasks_shuffle_pixels_but_the_first():
    orders = pixel_orders(100, 3, seed=0)
    assert orders[0].tolist() == list(range(100))
    assert all(sorted(order) == list(range(100)) for order in orders)
    assert not np.array_equal(orders[1], orders[2])
