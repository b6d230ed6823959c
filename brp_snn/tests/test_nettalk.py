"""Scores of codes against their definitions, one sample after the other."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from brp_snn import layerwise
from brp_snn.models import NetworkBuilder
from brp_snn.nettalk import code_scores

CODES = torch.tensor([[1.0, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 1]])


def angle(a, b):
    norms = math.hypot(*a) * math.hypot(*b)
    return math.acos(min(1.0, sum(x * y for x, y in zip(a, b, strict=True)) / norms))


def plain_scores(outputs, targets, codes):
    bits = exact = nearest = 0
    cosines = []
    for output, target in zip(outputs.tolist(), targets.tolist(), strict=True):
        right = [round(x) == y for x, y in zip(output, target, strict=True)]
        bits += sum(right)
        exact += all(right)
        cosines.append(math.cos(angle(output, target)) if max(output) >= 0.05 else 0.0)
        if any(output):
            others = [angle(output, code) for code in codes.tolist() if code != target]
            nearest += angle(output, target) < min(others) - 1e-4
    return {
        "accuracy": bits / outputs.numel(),
        "accuracy_exact": exact / len(outputs),
        "accuracy_nearest": nearest / len(outputs),
        "cosine": pytest.approx(math.fsum(cosines) / len(cosines), abs=1e-6),
    }


def random_code(n_words, n_bits, generator):
    numbers = torch.randperm(2**n_bits - 1, generator=generator)[:n_words] + 1  # never all zero
    return (numbers[:, None] >> torch.arange(n_bits) & 1).float()


@settings(max_examples=50, deadline=None)
@given(
    n=st.integers(1, 30),
    n_words=st.integers(2, 60),
    seed=st.integers(0, 2**31),
    steps=st.integers(1, 30),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_scores_are_those_of_the_definitions(n, n_words, seed, steps, dtype):
    generator = torch.Generator().manual_seed(seed)
    codes = random_code(n_words, 6, generator)
    targets = codes[torch.randint(n_words, (n,), generator=generator)]
    # Rates of a window of few steps, near the targets: ties between words are frequent.
    rates = 0.6 * targets + 0.4 * torch.rand(n, 6, generator=generator)
    outputs = (rates * steps).round() / steps
    found = code_scores(outputs.to(dtype), targets.to(dtype), codes.to(dtype))
    assert found == plain_scores(outputs.double(), targets, codes)


def test_a_perfect_readout_scores_one_and_a_silent_one_its_zeros():
    targets = CODES[[0, 1, 2, 2]]
    for share in code_scores(targets, targets, CODES).values():
        assert share == pytest.approx(1, abs=1e-6)
    found = code_scores(torch.zeros(4, 4), targets, CODES)
    assert found == {"accuracy": 7 / 16, "accuracy_exact": 0, "accuracy_nearest": 0, "cosine": 0}


def test_a_faint_readout_has_a_direction_but_no_cosine():
    faint, plain = torch.tensor([[0.049, 0, 0, 0]]), torch.tensor([[0.051, 0, 0, 0]])
    target = CODES[[0]]
    assert code_scores(faint, target, CODES)["accuracy_nearest"] == 1
    assert code_scores(faint, target, CODES)["cosine"] == 0
    assert code_scores(plain, target, CODES)["cosine"] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("output", "word", "exact", "nearest"),
    [
        ([0.9, 0.2, 0.0, 0.0], 0, 1, 1),
        ([0.3, 0.1, 0.0, 0.0], 0, 0, 1),  # too weak to be read bit by bit, but in its direction
        ([0.9, 0.5, 0.1, 0.0], 1, 0, 1),
        ([0.9, 0.5, 0.1, 0.0], 0, 1, 0),  # half is read as 0
        ([0.0, 0.0, 0.0, 0.7], 2, 0, 1),
        # As far from 1000 as from 1100: on the line that halves their angle of 45 degrees.
        ([math.cos(math.pi / 8), math.sin(math.pi / 8), 0.0, 0.0], 0, 1, 0),
        ([math.cos(math.pi / 8), math.sin(math.pi / 8), 0.0, 0.0], 1, 0, 0),
    ],
)
def test_what_counts_as_right(output, word, exact, nearest):
    found = code_scores(torch.tensor([output]), CODES[[word]], CODES)
    assert (found["accuracy_exact"], found["accuracy_nearest"]) == (exact, nearest)


def test_a_word_that_is_not_in_the_code_is_never_right():
    target = torch.tensor([[0.0, 0, 0, 1]])
    assert code_scores(target, target, CODES)["accuracy_nearest"] == 0


def test_random_units_hardly_spike_on_letters():
    """One input of 27 is on for each of seven letters: too little for weights as torch draws them.

    A network whose hidden layer does not learn has next to nothing to read out, therefore.
    """
    torch.manual_seed(0)
    network = NetworkBuilder("FC_500_FC_26", (189,), "shallow")
    letters = torch.randint(27, (500, 7), generator=torch.Generator().manual_seed(1))
    shown = functional.one_hot(letters, 27).flatten(1).float().expand(20, -1, -1)
    hidden, _ = layerwise.activity(network, shown)
    assert 0 < (hidden.amax((0, 1)) > 0).float().mean() < 0.1
