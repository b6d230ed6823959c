"""The fused kernels against the plain formulation, on the CPU (for CUDA see test_kernels_cuda)."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shifting_learning import kernels, reference
from shifting_learning.kernels import SILENT, Events

DEADLINE = settings(deadline=None, max_examples=60)


@st.composite
def problems(draw):
    """Codes [batch, in] and timings [in, out], with and without ties, of one or both signs."""
    batch, n_in, n_out = draw(st.tuples(*(st.integers(1, n) for n in (6, 40, 150))))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    z = 1 + 2 * torch.rand(batch, n_in, generator=generator, dtype=torch.float64)
    if draw(st.booleans()):  # few levels
        z = (4 * z).round() / 4
    dark = draw(st.sampled_from([0.0, 0.5, 0.9, 1.0]))  # many inputs of one, the latest, time
    z[torch.rand(batch, n_in, generator=generator) < dark] = 3.0
    s = torch.rand(n_in, n_out, generator=generator, dtype=torch.float64)
    s = (s - draw(st.sampled_from([0.0, 0.3, 0.5]))) * draw(st.sampled_from([1, 4, 16])) / n_in
    return z, s


def mask_of(z: torch.Tensor, cause: torch.Tensor) -> torch.Tensor:
    return z.double()[:, :, None] <= cause[:, None, :]


@DEADLINE
@given(problems())
def test_fused_equals_plain(problem):
    z, s = problem
    u, mask, divisor = reference.find_spikes(z, s, events=True)
    silent = u >= SILENT
    mask &= ~silent[:, None, :]  # the kernels give silent neurons an empty causal set
    events = kernels.sort_codes(z)
    found = kernels.find_spikes(events, s[None])
    torch.testing.assert_close(found.u, u, rtol=1e-12, atol=0)
    assert torch.equal(mask_of(z, found.cause), mask)
    torch.testing.assert_close(found.divisor[~silent], divisor[~silent], rtol=1e-9, atol=1e-12)
    assert found.divisor[silent].isinf().all()
    assert found.cause[silent].isneginf().all()

    a = torch.linspace(-1, 1, u.numel(), dtype=torch.float64).reshape(u.shape)
    gradient = kernels.timing_gradient(events, a, u, found.cause, 1, len(s))
    expected = reference.timing_gradient(z, mask, a, u)
    scale = float((a.abs() * u.abs()).sum())
    torch.testing.assert_close(gradient[0], expected, rtol=1e-9, atol=1e-13 * scale)
    torch.testing.assert_close(
        kernels.feedback(z, found.cause, a, s[None]), reference.feedback(mask, a, s)
    )


@DEADLINE
@given(problems())
def test_float32_timings_are_summed_in_float64(problem):
    z, s = problem[0].float(), problem[1].float()
    u, mask, _ = reference.find_spikes(z.double(), s.double(), events=True)
    found = kernels.find_spikes(kernels.sort_codes(z), s[None])
    assert found.u.dtype == torch.float32
    torch.testing.assert_close(found.u, u.float(), rtol=1e-6, atol=0)
    assert torch.equal(mask_of(z, found.cause), mask & (u < SILENT)[:, None, :])


def test_float32_sums_would_flip_causal_sets_of_digits():
    # What the two tests above guard against; 630 black pixels share one time here.
    generator = torch.Generator().manual_seed(0)
    z = torch.rand(16, 784, generator=generator).mul(-1).exp() * np.e
    z[torch.rand(z.shape, generator=generator) < 0.8] = np.e
    s = torch.rand(784, 100, generator=generator) * (40 / 784)
    rounded = reference.find_spikes(z, s, events=False)[1]
    exact = reference.find_spikes(z.double(), s.double(), events=False)[1]
    found = kernels.find_spikes(kernels.sort_codes(z), s[None])
    assert not torch.equal(rounded, exact)
    assert torch.equal(mask_of(z, found.cause), exact)


@DEADLINE
@given(problems())
def test_published_prefixes_and_events_agree_where_timings_have_one_sign(problem):
    z, s = problem[0], problem[1].abs()
    by_prefix = reference.find_spikes(z, s, events=False)
    by_event = reference.find_spikes(z, s, events=True)
    torch.testing.assert_close(by_prefix[0], by_event[0], rtol=1e-9, atol=0)


@DEADLINE
@given(problems())
def test_inputs_set_apart_give_the_published_search(problem):
    z, s = problem
    u, mask, _ = reference.find_spikes(z, s, events=False)
    events, apart = kernels.sort_codes_apart(z)
    found = kernels.find_spikes(events, s[None])
    torch.testing.assert_close(found.u, u, rtol=1e-9, atol=0)
    assert torch.equal(mask_of(apart, found.cause), mask & (u < SILENT)[:, None, :])


@DEADLINE
@given(problems(), st.integers(0, 1000))
def test_result_does_not_depend_on_the_order_of_inputs(problem, seed):
    z, s = problem
    order = torch.randperm(len(s), generator=torch.Generator().manual_seed(seed))
    found = kernels.find_spikes(kernels.sort_codes(z), s[None])
    shuffled = kernels.find_spikes(kernels.sort_codes(z[:, order]), s[None, order])
    torch.testing.assert_close(found.u, shuffled.u, rtol=1e-9, atol=0)
    # Only a prefix sum that is 1 to the last bit could differ; random timings have none.
    assert torch.equal(found.cause, shuffled.cause)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_networks_side_by_side_equal_networks_alone(dtype):
    generator = torch.Generator().manual_seed(1)
    z = 1 + torch.rand(3, 5, 7, generator=generator, dtype=dtype)
    s = torch.rand(3, 7, 140, generator=generator, dtype=dtype) - 0.2
    together = kernels.sort_codes(z.reshape(15, 7))
    found = kernels.find_spikes(together, s)
    a = torch.rand(15, 140, generator=generator, dtype=dtype)
    gradient = kernels.timing_gradient(together, a, found.u, found.cause, 3, 7)
    d_in = kernels.feedback(z.reshape(15, 7), found.cause, a, s)
    for k in range(3):
        rows = slice(5 * k, 5 * k + 5)
        events = kernels.sort_codes(z[k])
        alone = kernels.find_spikes(events, s[k : k + 1])
        assert torch.equal(found.u[rows], alone.u)
        assert torch.equal(found.cause[rows], alone.cause)
        assert torch.equal(
            gradient[k],
            kernels.timing_gradient(events, a[rows], alone.u, alone.cause, 1, 7)[0],
        )
        assert torch.equal(d_in[rows], kernels.feedback(z[k], alone.cause, a[rows], s[k : k + 1]))


@DEADLINE
@given(st.lists(st.integers(0, 60), min_size=1, max_size=5), st.integers(0, 2**31))
def test_ragged_spike_trains_equal_the_plain_search(lengths, seed):
    generator = torch.Generator().manual_seed(seed)
    n_in, n_out = 9, 70
    s = (torch.rand(n_in, n_out, generator=generator, dtype=torch.float64) - 0.2) * 0.3
    trains = []
    for length in lengths:
        z = torch.rand(length, generator=generator, dtype=torch.float64).mul(20).round() / 10 + 1
        trains.append((z.sort().values, torch.randint(n_in, (length,), generator=generator)))
    offsets = torch.tensor([0, *np.cumsum(lengths)])
    events = Events(
        torch.cat([z for z, _ in trains]),
        torch.cat([synapse for _, synapse in trains]).int(),
        offsets[:-1],
        offsets[1:],
        torch.full((len(lengths),), torch.inf, dtype=torch.float64),
    )
    found = kernels.find_spikes(events, s[None])
    expected = torch.zeros_like(s)
    a = torch.rand(len(lengths), n_out, generator=generator, dtype=torch.float64)
    for n, (z, synapse) in enumerate(trains):
        if not len(z):
            assert (found.u[n] == SILENT).all()
            continue
        u, mask, _ = reference.find_spikes_of_spike_train(z, synapse, s, events=True)
        torch.testing.assert_close(found.u[n], u, rtol=1e-12, atol=0)
        mask &= u < SILENT
        assert torch.equal(z[:, None] <= found.cause[n], mask)
        expected.index_add_(0, synapse, a[n] * (z[:, None] - u) * mask)
    gradient = kernels.timing_gradient(events, a, found.u, found.cause, 1, n_in)[0]
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-9)


def test_results_do_not_depend_on_the_number_of_threads():
    generator = torch.Generator().manual_seed(2)
    z = 1 + torch.rand(20, 50, generator=generator)
    s = torch.rand(1, 50, 300, generator=generator) * 0.2
    before = torch.get_num_threads()
    results = []
    for threads in (1, before):
        torch.set_num_threads(threads)
        events = kernels.sort_codes(z)
        found = kernels.find_spikes(events, s)
        gradient = kernels.timing_gradient(events, found.u, found.u, found.cause, 1, 50)
        results.append((*found, gradient, kernels.feedback(z, found.cause, found.u, s)))
    torch.set_num_threads(before)
    for one, many in zip(*results, strict=True):
        assert torch.equal(one, many)


def test_a_neuron_that_crosses_exactly_at_an_input_counts_it():
    # Two inputs of 0.5 at code 1 bring S to 1 and no further: divisor 1e-10, code past 1e5.
    z = torch.tensor([[1.0, 1.0, 2.0]], dtype=torch.float64)
    found = kernels.find_spikes(
        kernels.sort_codes(z), torch.tensor([[[0.5], [0.5], [1.0]]], dtype=torch.float64)
    )
    assert found.u.item() == pytest.approx(3.0)  # (0.5 + 0.5 + 2) / (2 - 1)
    assert found.cause.item() == 2.0
    assert found.divisor.item() == pytest.approx(1.0)


def test_threads_asked_for_are_threads_used(assert_keeps_one_thread):
    assert_keeps_one_thread(
        "from shifting_learning import kernels\n"
        "kernels.find_spikes(kernels.sort_codes(torch.ones(2, 3)), torch.ones(1, 3, 4))"
    )
