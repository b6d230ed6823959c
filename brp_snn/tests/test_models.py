"""Topologies, units and blocks of the plain form."""

import math

import pytest
import torch

from brp_snn.function import MODES, ActFun, trainingHook
from brp_snn.models import (
    Layer,
    NetworkBuilder,
    Neuron,
    RateNetwork,
    TopologyError,
    mem_update,
    parse_topology,
)
from brp_snn.module import FA_wrapper, TrainingHook
from shared.errors import UserError


def test_topologies_parse():
    assert parse_topology("CONV_32_5_1_2_FC_1000_FC_10") == [
        Layer("CONV", 32, 5, 1, 2),
        Layer("FC", 1000),
        Layer("FC", 10),
    ]
    assert parse_topology("C_100_3_1_1_FC_10")[0] == Layer("C", 100, 3, 1, 1)


@pytest.mark.parametrize(
    ("topology", "shape", "sizes"),
    [
        ("CONV_32_5_1_2_FC_1000_FC_10", (1, 28, 28), [(32, 14, 14), (1000,), (10,)]),
        ("CONV_4_3_2_1_CONV_6_3_1_0_FC_10", (3, 33, 32), [(4, 8, 8), (6, 3, 3), (10,)]),
        ("C_100_3_1_1_FC_1000_FC_10", (1, 30), [(100, 10), (1000,), (10,)]),
        ("FC_500_FC_26", (189,), [(500,), (26,)]),
    ],
)
def test_shapes_follow_from_the_input(topology, shape, sizes):
    network = NetworkBuilder(topology, shape)
    assert [block.out_shape for block in network.blocks] == sizes
    output = network(torch.ones(2, *shape[:1], 3, *shape[1:]), torch.zeros(2, sizes[-1][0]))
    assert output.shape == (2, sizes[-1][0])


@pytest.mark.parametrize(
    ("topology", "shape", "words"),
    [
        ("", (4,), "'' is no layer"),
        ("FC", (4,), "FC at its end lacks numbers"),
        ("FC_0", (4,), "FC_0 must have units"),
        ("CONV_4_3_0_1_FC_2", (1, 8, 8), "CONV_4_3_0_1 must have units, kernel and stride above"),
        ("FC_-3", (4,), "'-3' after FC is no number"),
        ("CONV_4_3_1_1_FC_2", (1, 8), "CONV needs input of shape"),
        ("C_4_5_1_0_FC_2", (1, 4), "too small for its kernel and the pooling"),
        ("CONV_2_1_1_0_CONV_2_1_1_0_CONV_2_1_1_0_FC_2", (1, 4, 4), "too small"),
    ],
)
def test_what_cannot_be_built_is_one_sentence(topology, shape, words):
    with pytest.raises(TopologyError, match="--topology") as refusal:
        NetworkBuilder(topology, shape)
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_unit_step_by_step():
    neuron = Neuron(threshold=0.5, lens=0.5, decay=0.2)
    potential = spikes = torch.zeros(1)
    seen = []
    for current in (0.4, 0.45, 0.3, 0.1):
        potential, spikes = mem_update(
            torch.nn.Identity(), torch.tensor([current]), potential, spikes, neuron=neuron
        )
        seen.append((round(float(potential), 6), float(spikes)))
    # 0.4; 0.2 * 0.4 + 0.45 spikes; nothing is left behind it; 0.2 * 0.3 + 0.1
    assert seen == [(0.4, 0), (0.53, 1), (0.3, 0), (0.16, 0)]


def test_the_surrogate_is_a_window_around_the_threshold():
    potential = torch.tensor([-0.1, 0.0, 0.1, 0.5, 0.9, 1.0, 1.1], requires_grad=True)
    spikes = ActFun.apply(potential, 0.5, 0.5)
    assert spikes.tolist() == [0, 0, 0, 0, 1, 1, 1]  # at the threshold a unit is silent
    spikes.sum().backward()
    assert potential.grad.tolist() == [0, 0, 1, 1, 1, 0, 0]


@pytest.mark.parametrize("values", [{"decay": 1.0}, {"decay": -0.1}, {"lens": 0.0}])
def test_constants_that_make_no_unit_are_refused(values):
    with pytest.raises(UserError, match=f"--{next(iter(values))}"):
        Neuron(**values)


def test_lateral_spikes_add_to_the_current():
    mem, spike = mem_update(
        torch.nn.Identity(), torch.tensor([0.1]), torch.zeros(1), torch.ones(1), lambda s: 0.7 * s
    )
    assert (float(mem), float(spike)) == (pytest.approx(0.8), 1)


@pytest.mark.parametrize("hooked", ["module", "function"])
@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("BP", [[3, 4], [3, 4]]),
        ("FA", [[3, 4], [3, 4]]),
        ("BRP", [[2, 0], [0, 1]]),
        ("DRTP", [[2, 0], [0, 1]]),
        ("DFA", [[-0.5 * 2, 0.25], [0.5 * 2, -0.75]]),
        ("sDFA", [[-2, 1], [2, -1]]),
        ("shallow", [[0, 0], [0, 0]]),
    ],
)
def test_teaching_signals(mode, expected, hooked):
    feedback, labels, y = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.eye(2), torch.zeros(2, 2)
    activity = torch.zeros(2, 2, requires_grad=True)
    if hooked == "module":
        hook = TrainingHook(2, (2, 2), mode)
        if mode not in ("BP", "FA", "shallow"):
            hook.fixed_fb_weights.copy_(feedback)
        passed = hook(activity, labels, y)
    else:
        passed = trainingHook(activity, labels, y, feedback, mode)
    y.copy_(torch.tensor([[0.5, 0.25], [0.5, 0.25]]))  # only the end of a presentation has it
    # The second term gives a shallow network's gradient, 0, something to be added to.
    ((passed * torch.tensor([3.0, 4.0])).sum() + 0 * activity.sum()).backward()
    torch.testing.assert_close(activity.grad, torch.tensor(expected).float())


@pytest.mark.parametrize(
    ("mode", "labels", "y", "words"),
    [
        ("BRP", None, torch.zeros(2, 2), "BRP needs the targets"),
        ("DFA", torch.eye(2), None, "DFA needs the readout"),
    ],
)
def test_a_signal_that_is_not_there_is_missed(mode, labels, y, words):
    activity = torch.zeros(2, 2, requires_grad=True)
    passed = trainingHook(activity, labels, y, torch.eye(2), mode)
    with pytest.raises(RuntimeError, match=words):
        passed.sum().backward()


def test_feedback_of_another_size_than_the_targets_is_refused():
    with pytest.raises(ValueError, match="must start with label_features 3"):
        TrainingHook(3, (2, 5), "DFA")


@pytest.mark.parametrize("mode", ["BP", "FA", "shallow"])
def test_the_shape_of_feedback_is_looked_at_where_there_is_any(mode):
    hook = TrainingHook(label_features=10, dim_hook=None, train_mode=mode)
    assert hook.fixed_fb_weights is None
    activity = torch.ones(2, 3, requires_grad=True)
    (2 * hook(activity, None, None) + 0 * activity).sum().backward()
    assert torch.equal(activity.grad, torch.full((2, 3), 0.0 if mode == "shallow" else 2.0))
    with pytest.raises(ValueError, match="dim_hook None must start with label_features 10"):
        TrainingHook(10, None, "DRTP")


def test_a_mode_that_there_is_not_is_refused_at_once():
    with pytest.raises(ValueError, match=r"mode must be one of BRP, BP, FA.*, not 'bp'"):
        TrainingHook(10, None, "bp")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("kind", "sizes", "options", "shape"),
    [
        (torch.nn.Linear, (6, 4), {}, (3, 6)),
        (torch.nn.Conv1d, (2, 4, 3), {"stride": 2, "padding": 1}, (3, 2, 9)),
        (torch.nn.Conv2d, (2, 4, 3), {"stride": (2, 1), "padding": (0, 1)}, (3, 2, 9, 8)),
    ],
)
def test_the_published_wrapper_is_bp_by_the_modules_own_weights(kind, sizes, options, shape, bias):
    torch.manual_seed(0)
    module = kind(*sizes, bias=bias, **options).double()
    layer_type = "fc" if kind is torch.nn.Linear else "conv"
    wrapped = FA_wrapper(module=module, layer_type=layer_type, dim=module.weight.shape, **options)
    assert not torch.equal(wrapped.fixed_fb_weights, module.weight)
    with torch.no_grad():
        wrapped.fixed_fb_weights.copy_(module.weight)
    x = torch.rand(shape, dtype=torch.float64, requires_grad=True)
    found, expected = wrapped(x), module(x)
    torch.testing.assert_close(found, expected)
    leaves = [x, *module.parameters()]
    gradients = (torch.autograd.grad(y.square().sum(), leaves) for y in (found, expected))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("module", "options", "words"),
    [
        (torch.nn.Linear(3, 2), {"layer_type": "conv"}, "layer_type conv is not the module's, fc"),
        (torch.nn.Linear(3, 2), {"dim": (3, 2)}, "dim .* is not the module's"),
        (torch.nn.Conv2d(1, 2, 3), {"stride": 2}, "stride .* is not the module's"),
        (torch.nn.Conv2d(1, 2, 3, padding=1), {"padding": 0}, "padding .* is not the module's"),
        (torch.nn.Conv2d(2, 2, 3, groups=2), {}, "no feedback alignment of groups"),
        (torch.nn.Conv2d(2, 2, 3, dilation=2), {}, "no feedback alignment of groups"),
        (torch.nn.Conv2d(2, 2, 3, padding="same"), {}, "no feedback alignment of groups"),
    ],
)
def test_a_wrapper_of_another_module_is_refused(module, options, words):
    with pytest.raises(ValueError, match=words):
        FA_wrapper(module, **options)


LAYERS = {  # topology, shape of a sample, inputs of a unit in every layer
    "2-D": ("CONV_24_5_1_2_CONV_32_5_1_2_FC_150_FC_80", (10, 16, 16), (250, 600, 512, 150)),
    "1-D": ("C_40_3_1_1_C_60_3_1_1_FC_150_FC_80", (30, 54), (90, 120, 360, 150)),
}


def assert_uniform(values: torch.Tensor, bound: float) -> None:
    """Draws from U(-bound, bound): bounds, mean and spread, each within 5 standard errors."""
    values = values.detach().flatten().double()
    n = len(values)
    assert float(values.abs().max()) <= bound * (1 + 1e-6)
    assert float(values.abs().max()) > bound * (1 - 20 / n)
    assert abs(float(values.mean())) < 5 * bound / math.sqrt(3 * n)
    assert float((values**2).mean()) == pytest.approx(
        bound**2 / 3, abs=5 * bound**2 * math.sqrt(4 / 45 / n)
    )


@pytest.mark.parametrize("mode", ["BP", "FA", "BRP"])
@pytest.mark.parametrize("kind", [NetworkBuilder, RateNetwork])
@pytest.mark.parametrize("dimensions", LAYERS)
def test_fresh_weights_are_those_of_torchs_layers(kind, mode, dimensions):
    topology, shape, inputs = LAYERS[dimensions]
    torch.manual_seed(1)
    network = kind(topology, shape, mode)
    for block, n in zip(network.blocks, inputs, strict=True):
        assert block.weight[0].numel() == n
        assert_uniform(block.weight, 1 / math.sqrt(n))
        assert float(block.bias.detach().abs().max()) <= 1 / math.sqrt(n)
    of_unit_width = [
        block.bias * math.sqrt(n) for block, n in zip(network.blocks, inputs, strict=True)
    ]
    assert_uniform(torch.cat(of_unit_width), 1.0)


@pytest.mark.parametrize("dimensions", LAYERS)
def test_weights_as_wide_as_he_asks_are_an_option(dimensions):
    topology, shape, inputs = LAYERS[dimensions]
    torch.manual_seed(1)
    for block, n in zip(NetworkBuilder(topology, shape, init="he").blocks, inputs, strict=True):
        assert_uniform(block.weight, math.sqrt(6 / n))
        assert float(block.bias.detach().abs().max()) <= 1 / math.sqrt(n)


@pytest.mark.parametrize("mode", ["FA", "BRP", "DRTP", "DFA", "sDFA"])
@pytest.mark.parametrize("dimensions", LAYERS)
def test_feedback_is_fixed_and_drawn_as_wide_as_he_asks(mode, dimensions):
    topology, shape, inputs = LAYERS[dimensions]
    torch.manual_seed(1)
    network = NetworkBuilder(topology, shape, mode)
    found = [v for name, v in network.named_buffers() if name.endswith("fixed_fb_weights")]
    assert not any(name.endswith("fixed_fb_weights") for name, _ in network.named_parameters())
    if mode == "FA":
        assert [v.shape for v in found] == [block.weight.shape for block in network.blocks]
        bounds = [math.sqrt(6 / n) for n in inputs]
    else:
        hidden = network.blocks[:-1]
        assert [v.shape for v in found] == [(80, *block.unit_shape) for block in hidden]
        bounds = [math.sqrt(6 / math.prod(block.unit_shape)) for block in hidden]
    for feedback, bound in zip(found, bounds, strict=True):
        assert_uniform(feedback, bound)


@pytest.mark.parametrize("kind", [NetworkBuilder, RateNetwork])
def test_a_seed_gives_all_modes_the_same_weights_and_the_same_draws_behind_them(kind):
    states, behind = {}, {}
    for mode in MODES:
        torch.manual_seed(7)
        network = kind("CONV_3_3_1_1_FC_20_FC_20", (1, 8, 8), mode)
        states[mode] = [block.weight.detach() for block in network.blocks]
        behind[mode] = float(torch.rand(()))
        feedback = dict(network.named_buffers())
        # Of one shape, and yet of another stream.
        if mode == "FA":
            for block, fixed in zip(network.blocks, feedback.values(), strict=True):
                together = torch.stack([block.weight.detach().flatten(), fixed.flatten()])
                assert abs(float(together.corrcoef()[0, 1])) < 5 / math.sqrt(fixed.numel())
    for mode in MODES:
        assert behind[mode] == behind["BP"]
        for weights, same in zip(states[mode], states["BP"], strict=True):
            assert torch.equal(weights, same)


@pytest.mark.parametrize("kind", [NetworkBuilder, RateNetwork])
def test_frozen_convolutions_and_zero_weights(kind):
    network = kind(
        "CONV_2_3_1_1_FC_5_FC_3", (1, 6, 6), "BP", freeze_conv_layers=True, fc_zero_init=True
    )
    assert [block.weight.requires_grad for block in network.blocks] == [False, True, True]
    assert network.blocks[0].weight.abs().max() > 0
    assert all(bool((block.weight == 0).all()) for block in network.blocks[1:])


def test_dropout_silences_hidden_units_for_a_whole_presentation():
    torch.manual_seed(0)
    network = NetworkBuilder("FC_200_FC_3", (5,), dropout=0.25)
    mask = network.blocks[0].mask(50)
    assert mask.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert float((mask == 0).float().mean()) == pytest.approx(0.25, abs=0.02)
    assert network.blocks[1].mask(50) is None
    assert network.eval().blocks[0].mask(50) is None


def test_a_rate_network_applies_its_activations():
    network = RateNetwork("FC_4_FC_2", (3,), "BP", hidden_act="relu", output_act="none").double()
    x = torch.randn(5, 3, dtype=torch.float64)
    hidden, output = network.blocks
    by_hand = torch.relu(x @ hidden.weight.T + hidden.bias) @ output.weight.T + output.bias
    torch.testing.assert_close(network(x), by_hand)
    with pytest.raises(ValueError, match="takes samples of shape"):
        network(torch.zeros(5, 4, dtype=torch.float64))


def test_a_rate_network_pools_by_the_maximum():
    network = RateNetwork("CONV_1_1_1_0_FC_4", (1, 5, 4), "BP", conv_act="none", output_act="none")
    convolution, output = network.blocks
    with torch.no_grad():
        convolution.weight.fill_(1)
        convolution.bias.zero_()
        output.weight.copy_(torch.eye(4))
        output.bias.zero_()
    image = torch.arange(20.0).view(1, 1, 5, 4)  # the fifth row fills no window
    assert network(image).tolist() == [[5, 7, 13, 15]]
    sound = RateNetwork("C_1_3_1_1_FC_2", (1, 6), "BP")
    assert sound.pooled(sound.blocks[0], torch.arange(6.0).view(1, 1, 6)).tolist() == [[[2, 5]]]


@pytest.mark.parametrize("mode", ["DFA", "sDFA"])
@pytest.mark.parametrize("softmax", [False, True])
def test_what_the_errors_of_a_linear_output_project(mode, softmax):
    torch.manual_seed(0)
    network = RateNetwork(
        "FC_5_FC_3", (4,), mode, hidden_act="none", output_act="none", softmax_error=softmax
    ).double()
    x, targets = (
        torch.randn(6, 4, dtype=torch.float64),
        torch.eye(3, dtype=torch.float64)[[0, 1, 2] * 2],
    )
    output = network(x, targets)
    torch.nn.functional.cross_entropy(output, targets).backward()
    error = (output.detach().softmax(1) if softmax else output.detach()) - targets
    taught = (error.sign() if mode == "sDFA" else error) @ network.blocks[0].hook.fixed_fb_weights
    torch.testing.assert_close(network.blocks[0].weight.grad, taught.T @ x)


@pytest.mark.parametrize(
    ("topology", "shape", "dropped"),
    [
        ("CONV_8_3_1_1_FC_300_FC_200", (1, 12, 12), [False, True, True]),
        ("FC_300_FC_200", (400,), [True, True]),
    ],
)
def test_dropout_of_a_rate_network_silences_inputs_of_fully_connected_layers(
    topology, shape, dropped
):
    torch.manual_seed(0)
    network = RateNetwork(topology, shape, "BP", dropout=0.25)
    seen: list[torch.Tensor] = []
    for block in network.blocks:
        block.operator.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    x = torch.rand(50, *shape) + 0.1
    network(x)
    shares = [float((inputs == 0).float().mean()) for inputs in seen]
    assert shares == pytest.approx([0.25 * yes for yes in dropped], abs=0.02)
    if dropped[0]:
        torch.testing.assert_close(seen[0], torch.where(seen[0] == 0, 0, x / 0.75))
    seen.clear()
    network.eval()(x)
    assert not any(bool((inputs == 0).any()) for inputs in seen)
