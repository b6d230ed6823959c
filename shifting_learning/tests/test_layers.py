"""Layers and networks: the rules, silent neurons, homeostasis, state, errors."""

import contextlib
import copy
import functools
import gc
import pickle
from typing import get_args

import numpy as np
import pytest
import torch

from shared.errors import UserError
from shifting_learning.figures import membrane_potential
from shifting_learning.network import Network, decide, reward_error, step_size
from shifting_learning.reference import PlainLayer, find_spikes
from shifting_learning.rules import RULES, LearningRule, Rule
from shifting_learning.SL_Layer import Silent, SNNLayer
from shifting_learning.SL_MultiInputLy import SNN_MInLy


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def codes(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return 1 + torch.rand(*shape, generator=generator(seed), dtype=dtype)


def timings(*shape: int, scale: float, seed: int = 1) -> torch.Tensor:
    return torch.rand(*shape, generator=generator(seed), dtype=torch.float64) * scale


def test_exact_rule_is_the_gradient_of_the_plain_formulation():
    z = codes(5, 12).requires_grad_()
    s, p = timings(12, 7, scale=0.4).requires_grad_(), codes(7, seed=2).requires_grad_()
    u, _, _ = find_spikes(z, s, events=True)
    delta = torch.rand(5, 7, generator=generator(3), dtype=torch.float64) - 0.5
    wanted = torch.autograd.grad((delta * p * u).sum(), (s, p, z))
    layer = SNNLayer(12, 7, s, p, rule="exact")
    z_out = layer(z)
    torch.testing.assert_close(z_out, (p * u).detach())
    g_ts, g_tp = layer.gradients(delta, z_out)
    torch.testing.assert_close(g_ts, wanted[0])
    torch.testing.assert_close(g_tp, wanted[1])
    torch.testing.assert_close(layer.feedback(delta), wanted[2])


def test_shifting_rule_is_the_exact_one_without_its_divisor():
    z, delta = codes(1, 6), torch.ones(1, 3, dtype=torch.float64)
    s = timings(6, 3, scale=1.0)
    shifting, exact = (SNNLayer(6, 3, s, rule=rule) for rule in ("shifting", "exact"))
    g_shifting = shifting.gradients(delta, shifting(z))[0]
    g_exact = exact.gradients(delta, exact(z))[0]
    ratio = torch.e * exact.spikes.divisor  # p = 1: the published factor is exp(p)
    torch.testing.assert_close(g_shifting, g_exact * ratio)


@pytest.mark.parametrize("rule", ["shifting", "exact"])
def test_fused_layer_learns_as_the_plain_one(rule):
    s = timings(30, 20, scale=0.2)
    layers = [kind(30, 20, s, rule=rule) for kind in (SNNLayer, PlainLayer)]
    for step in range(5):
        z = codes(8, 30, seed=step)
        delta = torch.rand(8, 20, generator=generator(step), dtype=torch.float64) - 0.5
        for layer in layers:
            layer.learn(delta, layer(z), 1e-3, 1e-3)
    torch.testing.assert_close(layers[0].e_ts, layers[1].e_ts, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(layers[0].e_tp, layers[1].e_tp, rtol=1e-9, atol=1e-12)


class WithoutTime(LearningRule):
    """A rule of one's own: the error alone, whatever the spikes' times."""

    silent_learn = False

    def code(self, u, z):
        return torch.zeros_like(z)


def test_a_rule_of_one_s_own_is_one_object():
    layer = SNNLayer(4, 3, timings(4, 3, scale=2.0), rule=WithoutTime())
    z, delta = codes(2, 4), codes(2, 3, seed=5) - 1.5
    g_ts, g_tp = layer.gradients(delta, layer(z))
    wanted = torch.einsum("bj,bi,bij->ij", delta * torch.e, z, layer.cause_mask.double())
    torch.testing.assert_close(g_ts, wanted)
    assert not g_tp.any()
    again = pickle.loads(pickle.dumps(layer))
    torch.testing.assert_close(again.gradients(delta, again(z))[0], g_ts)


def test_every_word_of_the_rules_is_a_word_of_the_command_line_and_of_a_layer():
    assert get_args(Rule) == tuple(RULES) == ("shifting", "exact", "published-tca")
    for word, rule in RULES.items():
        assert SNNLayer(4, 3, rule=word).rule is rule


def silent_layer(**options) -> tuple[SNNLayer, torch.Tensor, torch.Tensor]:
    """A layer whose second neuron stays silent, its input and its output."""
    s = torch.tensor([[1.0, 0.1], [0.5, 0.1], [0.5, 0.1]], dtype=torch.float64)
    layer = SNNLayer(3, 2, s, **options)
    z = torch.tensor([[1.5, 1.2, 2.0]], dtype=torch.float64)
    return layer, z, layer(z)


def test_silent_as_published_is_caused_by_its_earliest_input():
    layer, _, z_out = silent_layer()
    assert layer.is_silent.tolist() == [[False, True]]
    assert z_out[0, 1] == 1e5
    assert layer.cause_mask[0, :, 1].tolist() == [False, True, False]
    g = layer.gradients(torch.ones(1, 2, dtype=torch.float64), z_out)[0]
    assert g[1, 1].item() == pytest.approx(torch.e * (1.2 - 1e5))
    assert not g[[0, 2], 1].any()


def test_silent_ignored_learns_nothing():
    layer, _, z_out = silent_layer(silent="ignore")
    ones = torch.ones(1, 2, dtype=torch.float64)
    g_ts, g_tp = layer.gradients(ones, z_out)
    assert not layer.cause_mask[0, :, 1].any()
    assert not g_ts[:, 1].any()
    assert g_tp[1] == 0
    assert g_ts[:, 0].any()
    torch.testing.assert_close(
        layer.feedback(ones), layer.feedback(ones * torch.tensor([1.0, 0.0]))
    )


def test_silent_until_the_deadline_is_caused_by_all_inputs():
    layer, z, z_out = silent_layer(silent="deadline", deadline=4.0)
    assert z_out[0, 1] == 4.0
    assert layer.cause_mask[0, :, 1].all()
    g = layer.gradients(torch.ones(1, 2, dtype=torch.float64), z_out)[0]
    torch.testing.assert_close(g[:, 1], torch.e * (z[0] - 4.0))


def test_an_error_wakes_a_neuron_that_learns_at_the_deadline():
    layer, z, _ = silent_layer(silent="deadline", deadline=4.0)
    delta = torch.tensor([[0.0, 1.0]], dtype=torch.float64)  # it should spike earlier
    for _ in range(100):
        layer.learn(delta, layer(z), 1e-2, 0.0)
    assert not layer.is_silent.any()


@pytest.mark.parametrize("rule", ["shifting", "exact"])
def test_homeostasis_wakes_silent_neurons_and_them_alone(rule):
    layer, z, z_out = silent_layer(silent="ignore", wake=0.5, rule=rule)
    before = layer.e_ts.clone()
    layer.learn(torch.zeros(1, 2, dtype=torch.float64), z_out, 0.1, 0.0)
    torch.testing.assert_close(layer.e_ts[:, 0], before[:, 0])
    torch.testing.assert_close(layer.e_ts[:, 1], before[:, 1] + 0.5 * 0.1 * 0.5)
    for _ in range(100):
        layer.learn(torch.zeros(1, 2, dtype=torch.float64), layer(z), 0.1, 0.0)
    assert not layer.is_silent.any()


def test_feedback_uses_the_timings_of_the_forward_pass():
    first, second = SNNLayer(4, 5, timings(4, 5, scale=2.0)), SNNLayer(5, 2, timings(5, 2, scale=1))
    network = Network(first, second)
    z = codes(3, 4)
    delta = torch.rand(3, 2, generator=generator(), dtype=torch.float64)
    network(z)
    expected = first.gradients(second.feedback(delta), first(z))[0]
    network.learn(delta, 0.1, 0.0)
    torch.testing.assert_close(first.e_ts.grad, expected)


@pytest.mark.parametrize("reward", ["published", "first_spike"])
def test_two_steps_lower_the_loss_and_keep_gradients_finite(reward):
    network = Network(
        SNNLayer(10, 20, timings(10, 20, scale=0.8)), SNNLayer(20, 3, timings(20, 3, scale=0.4))
    )
    z, labels = codes(30, 10), torch.arange(30) % 3
    losses = []
    for _ in range(3):
        delta = reward_error(network(z), labels, reward, 10.0, 0.1)
        losses.append(delta.square().mean().item())
        network.learn(delta, 1e-3, 0.0)
        assert all(layer.e_ts.grad.isfinite().all() for layer in network.layers)
    assert losses[0] > losses[1] > losses[2]


def test_an_error_that_is_not_finite_stops_before_it_is_learned():
    network = Network(SNNLayer(3, 2))
    before = network.layers[0].e_ts.clone()
    network(codes(1, 3, dtype=torch.float32))
    with pytest.raises(UserError, match="lower --lr-ets; the last checkpoint is intact"):
        network.learn(torch.tensor([[0.0, torch.nan]]), 0.1, 0.1)
    assert torch.equal(network.layers[0].e_ts, before)


def test_steps_keep_no_memory_alive():
    network = Network(SNNLayer(10, 20), SNNLayer(20, 3))
    z, labels = codes(5, 10, dtype=torch.float32), torch.arange(5) % 3

    def tensors_after_a_step() -> int:
        network.learn(reward_error(network(z), labels, "published"), 1e-3, 1e-3)
        gc.collect()
        return sum(type(x) is torch.Tensor for x in gc.get_objects())

    counts = [tensors_after_a_step() for _ in range(4)]
    assert counts[1] == counts[2] == counts[3]


def test_state_dict_holds_all_that_continues_a_run():
    def steps(layer: SNNLayer, first: int, last: int) -> None:
        for step in range(first, last):
            z = codes(4, 6, seed=step)
            delta = torch.rand(4, 5, generator=generator(step), dtype=torch.float64)
            layer.learn(delta, layer(z), 1e-2, 1e-2)

    whole, part = (SNNLayer(6, 5, timings(6, 5, scale=1.0)) for _ in range(2))
    steps(whole, 0, 4)
    steps(part, 0, 2)
    continued = SNNLayer(6, 5, timings(6, 5, scale=1.0))
    continued.load_state_dict(part.state_dict())
    steps(continued, 2, 4)
    assert torch.equal(continued.e_ts, whole.e_ts)
    assert torch.equal(continued.e_tp, whole.e_tp)


def test_a_state_in_memory_is_copied_and_stays_what_it_was():
    def learn(layer: SNNLayer) -> torch.Tensor:
        z, delta = codes(4, 6), codes(4, 5, seed=7) - 1.5
        for _ in range(3):
            layer.learn(delta, layer(z), 1e-2, 1e-2)
        return layer.e_ts.detach().clone()

    whole = SNNLayer(6, 5, timings(6, 5, scale=1.0))
    learn(whole)
    best = copy.deepcopy(whole.state_dict())
    continued = []
    for assign in (False, False, True):
        layer = SNNLayer(6, 5, timings(6, 5, scale=1.0))
        layer.load_state_dict(copy.deepcopy(best) if assign else best, assign=assign)
        continued.append(learn(layer))
    assert torch.equal(continued[0], continued[1])
    assert torch.equal(continued[0], continued[2])
    assert not torch.equal(continued[0], best["e_ts"])
    assert torch.equal(continued[0], learn(whole))


def test_errors_and_codes_of_another_shape_are_refused():
    layer = SNNLayer(6, 5, timings(6, 5, scale=1.0))
    z = layer(codes(4, 6))
    with pytest.raises(
        ValueError, match=r"errors have the shape \[5, 4\]: .* 4 trials of 5 neurons"
    ):
        layer.learn(z.T, z, 1e-2, 1e-2)
    with pytest.raises(ValueError, match=r"codes have the shape \[5, 4\]"):
        layer.learn(z, z.T, 1e-2, 1e-2)


def test_numbers_of_synapses_are_integers():
    layer = SNN_MInLy(6, 5, timings(6, 5, scale=1.0))
    with pytest.raises(ValueError, match="synapse and offsets must be integers"):
        layer(torch.tensor([0.1, 0.2]), torch.tensor([0.0, 1.7]))


def test_default_timings_are_the_published_ones():
    layer = SNNLayer(784, 100, generator=generator())
    assert 0 <= layer.e_ts.min() < layer.e_ts.max() <= 8 / 784
    assert layer.e_ts.mean().item() == pytest.approx(4 / 784, rel=0.02)
    assert layer.e_tp.tolist() == [1.0] * 100


# ------------------------------------------------------------------ in a program of one's own


def test_a_layer_goes_on_in_another_type_after_a_step():
    """Adam's moments go along: the next step is that of a layer which was in that type before."""
    s, z, delta = timings(4, 3, scale=2.0).float(), codes(2, 4), codes(2, 3, seed=5) - 1.5
    moved = SNNLayer(4, 3, s)
    moved.learn(delta.float(), moved(z.float()), 0.1, 0.1)
    again = SNNLayer(4, 3, moved.e_ts.double(), moved.e_tp.double())
    again.load_state_dict(
        {**again.state_dict(), "_extra_state": copy.deepcopy(moved.get_extra_state())}
    )
    moved.double()
    with pytest.raises(RuntimeError, match="call forward first"):
        moved.learn(delta, torch.ones(2, 3), 0.1, 0.1)
    for layer in (moved, again):
        layer.learn(delta, layer(z), 0.1, 0.1)
        state = layer.optimizer.state[layer.e_ts]
        assert state["exp_avg"].dtype == state["exp_avg_sq"].dtype == torch.float64
        assert state["step"] == 2
    assert torch.equal(moved.e_ts, again.e_ts)
    assert torch.equal(moved.e_tp, again.e_tp)


def test_a_layer_moves_to_another_device_after_a_step():
    layer = SNNLayer(4, 3, timings(4, 3, scale=2.0))
    layer.learn(torch.ones(2, 3, dtype=torch.float64), layer(codes(2, 4)), 0.1, 0.1)
    layer.to("meta")
    assert layer.optimizer.param_groups[0]["params"][0] is layer.e_ts
    state = layer.optimizer.state[layer.e_ts]
    assert {value.device.type for value in state.values()} == {"meta"}


def test_types_without_a_kernel_are_named():
    with pytest.raises(ValueError, match="e_ts must be float32 or float64, not float16"):
        SNNLayer(4, 3, torch.ones(4, 3, dtype=torch.float16))
    with pytest.raises(ValueError, match=r"timings are bfloat16: use layer\.float\(\)"):
        SNNLayer(4, 3).bfloat16()(codes(2, 4))


def learned(steps: int, *contexts: type) -> list[torch.Tensor]:
    """Timings of a small network after some steps, the first ones in these contexts."""
    network = Network(SNNLayer(4, 5, timings(4, 5, scale=2.0)), SNNLayer(5, 2))
    network.double()
    network.layers[1].e_ts.copy_(timings(5, 2, scale=1.0))
    for step in range(steps):
        with contexts[step]() if step < len(contexts) else contextlib.nullcontext():
            z, labels = codes(3, 4, seed=step), torch.tensor([0, 1, 0])
            network.learn(reward_error(network(z), labels, "published"), 1e-2, 1e-2)
    return [layer.e_ts for layer in network.layers]


@pytest.mark.parametrize(
    "context", [torch.inference_mode, torch.no_grad, functools.partial(torch.autocast, "cpu")]
)
def test_steps_in_other_modes_are_the_same_and_others_may_follow(context):
    for found, wanted in zip(learned(3, context), learned(3), strict=True):
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("options", [{}, {"silent": "deadline", "ties": "published"}])
def test_an_exported_network_gives_the_same_codes(options):
    network = Network(
        SNNLayer(4, 5, timings(4, 5, scale=0.6), **options),
        SNNLayer(5, 2, timings(5, 2, scale=1.0), **options),
    )
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(network, (codes(3, 4),), dynamic_shapes=(({0: batch},),))
    z = codes(7, 4, seed=4)
    assert torch.equal(program.module()(z), network(z))
    assert network.silent_share() > 0


def test_timings_that_are_not_finite_are_found_at_the_next_trial():
    with pytest.raises(ValueError, match="e_ts and e_tp must hold finite numbers only"):
        SNNLayer(2, 1, torch.tensor([[1.0], [torch.nan]]))
    for name in ("e_ts", "e_tp"):
        one, train = SNNLayer(2, 1), SNN_MInLy(2, 1)
        for layer in (one, train):
            getattr(layer, name)[0] = torch.inf
        with pytest.raises(ValueError, match="timings are no longer finite"):
            one(torch.ones(3, 2))
        with pytest.raises(ValueError, match="timings are no longer finite"):
            train(torch.tensor([0.1]), torch.tensor([0]))


def test_decision_is_the_first_spike():
    assert decide(torch.tensor([[3.0, 1.0, 2.0], [1.0, 1e5, 1e5]])).tolist() == [1, 0]


def test_rewards_have_their_stated_values():
    z, label = torch.tensor([[1.0, 2.0]], dtype=torch.float64), torch.tensor([0])
    target = torch.tensor([[0.01, 0.99]], dtype=torch.float64).exp().softmax(1)
    torch.testing.assert_close(reward_error(z, label, "published"), z.softmax(1) - target)
    first_spike = reward_error(z, label, "first_spike", 2.0, 0.1)
    torch.testing.assert_close(first_spike, torch.tensor([[0.95, 0.05]]) - (-2 * z).softmax(1))


def test_step_sizes_fall_as_stated():
    assert [step_size(e, 3, 1e-2, 1e-4, "exponential") for e in range(3)] == pytest.approx(
        [1e-2, 1e-2 * 0.01 ** (1 / 3), 1e-2 * 0.01 ** (2 / 3)]
    )
    assert [step_size(e, 2, 1.0, 0.0, "cosine") for e in range(3)] == pytest.approx([1, 0.5, 0])
    assert step_size(0, 1, 1e-2, 1e-4, "exponential") == 1e-2
    with pytest.raises(ValueError, match="decay must be"):
        step_size(0, 1, 1.0, 0.1, "linear")


# ---------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"e_ts": torch.ones(3, 5)}, r"e_ts must have shape \[4, 3\]"),
        ({"e_ts": torch.ones(4)}, r"e_ts must have shape \[4, 3\]"),
        ({"e_tp": torch.ones(4)}, r"e_tp must have shape \[3\]"),
        ({"rule": "stdp"}, "rule must be one of"),
        ({"silent": "loud"}, "silent must be one of"),
        ({"ties": "tight"}, "ties must be one of"),
    ],
)
def test_bad_arguments_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        SNNLayer(4, 3, **arguments)


def test_bad_inputs_are_named():
    layer = SNNLayer(4, 3)
    with pytest.raises(ValueError, match=r"z_in must have shape \['batch', 4\], not \[2, 5\]"):
        layer(torch.ones(2, 5))
    with pytest.raises(ValueError, match="z_in holds NaN"):
        layer(torch.full((2, 4), torch.nan))
    with pytest.raises(ValueError, match=r"z_in must have shape \[3, 'batch', 4\]"):
        SNNLayer(4, 2, torch.ones(3, 4, 2))(torch.ones(2, 5, 4))
    with pytest.raises(RuntimeError, match="call forward first"):
        layer.feedback(torch.ones(2, 3))
    with pytest.raises(ValueError, match="reward must be one of"):
        reward_error(torch.ones(2, 3), torch.zeros(2, dtype=torch.int64), "fame")


@pytest.mark.parametrize(
    ("times", "synapse", "offsets", "words"),
    [
        ([0.1, 0.2], [0], None, "two vectors of one length"),
        ([0.1, float("nan")], [0, 1], None, "spike_times holds NaN"),
        ([0.2, 0.1], [0, 1], None, "must ascend within each trial"),
        ([0.1, 0.2], [0, 4], None, "synapse must lie between 0 and 3"),
        ([0.1, 0.2], [0, -1], None, "synapse must lie between 0 and 3"),
        ([0.1, 0.2], [0, 1], [0, 1], "offsets must run from 0 to the number of spikes, 2"),
    ],
)
def test_bad_spike_trains_are_named(times, synapse, offsets, words):
    layer = SNN_MInLy(4, 3)
    offsets = None if offsets is None else torch.tensor(offsets)
    with pytest.raises(ValueError, match=words):
        layer(torch.tensor(times), torch.tensor(synapse), offsets=offsets)


def test_trains_may_start_again_with_each_trial():
    layer = SNN_MInLy(4, 3, timings(4, 3, scale=4.0))
    times, synapse = torch.tensor([0.5, 0.9, 0.1, 0.3]), torch.tensor([0, 1, 2, 3])
    both = layer(times, synapse, offsets=torch.tensor([0, 2, 4]))
    assert torch.equal(both[0], layer(times[:2], synapse[:2])[0])
    assert torch.equal(both[1], layer(times[2:], synapse[2:])[0])


def test_spikes_set_apart_do_not_depend_on_the_trials_before():
    """The first trial ends where the second begins, and the second ends later than the third."""
    layer = SNN_MInLy(4, 3, timings(4, 3, scale=4.0), ties="published")
    times = torch.tensor([0.2, 0.5, 0.5, 0.5, 0.5, 0.9, 0.1, 0.1, 0.3], dtype=torch.float64)
    synapse, offsets = torch.tensor([0, 1, 2, 0, 1, 2, 3, 0, 1]), torch.tensor([0, 3, 6, 9])
    together = layer(times, synapse, offsets=offsets)
    causes = layer.spikes.cause
    for trial in range(3):
        own = slice(3 * trial, 3 * trial + 3)
        assert torch.equal(layer(times[own], synapse[own])[0], together[trial])
        assert torch.equal(layer.spikes.cause[0], causes[trial])


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("silent", get_args(Silent))
def test_trials_without_spikes_leave_every_neuron_silent(rule, silent):
    layer = SNN_MInLy(4, 3, timings(4, 3, scale=4.0), rule=rule, silent=silent)
    before = layer.e_ts.clone()
    times, synapse = torch.zeros(0), torch.zeros(0, dtype=torch.int64)
    for offsets in (None, torch.tensor([0, 0, 0])):
        z_out = layer(times, synapse, offsets=offsets)
        assert layer.is_silent.all()
        layer.learn(torch.ones_like(z_out), z_out, 1e-2, 1e-2)
    assert torch.equal(layer.e_ts, before)
    assert layer.e_tp.isfinite().all()


def test_bad_published_calls_are_named():
    with pytest.raises(ValueError, match="z_in holds 2 trials, not bs = 3"):
        SNNLayer(4, 3).forward(3, torch.ones(2, 4))
    with pytest.raises(ValueError, match="forward needs input codes"):
        SNNLayer(4, 3).forward(3)
    with pytest.raises(RuntimeError, match="call forward first"):
        _ = SNNLayer(4, 3).cause_mask
    with pytest.raises(ValueError, match="offsets are given by name"):
        SNN_MInLy(4, 3)(torch.tensor([0.1]), torch.tensor([0]), torch.tensor([0, 1]))


def test_trials_must_divide_among_networks():
    layer = SNN_MInLy(4, 3, torch.ones(2, 4, 3))
    with pytest.raises(ValueError, match="1 trials cannot be split evenly among 2 networks"):
        layer(torch.tensor([0.1]), torch.tensor([0]))


def test_an_inhibitory_input_after_the_causal_set_does_not_delay_the_spike():
    """The published search; the potential is below the threshold then, which figures show."""
    times, s = np.array([0.0, 0.5]), np.array([2.0, -0.5])
    layer = SNNLayer(2, 1, torch.from_numpy(s)[:, None])
    spike = layer(torch.from_numpy(np.exp(times))[None]).log().numpy()[0]
    assert spike == pytest.approx(np.log(2))
    assert spike > times[1]
    assert membrane_potential(spike, times[:1], s[:1]) == pytest.approx(1)
    assert membrane_potential(spike, times, s) == pytest.approx(0.912, abs=1e-3)
