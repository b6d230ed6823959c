"""The layer-by-layer form against the plain one, and what it keeps."""

import gc

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from brp_snn import _kernels, _sparse, layerwise
from brp_snn.angles import angle, angles
from brp_snn.function import MODES
from brp_snn.models import NetworkBuilder, Neuron, RateNetwork, mem_update
from brp_snn.train import LOSSES, SPIKING_LOSSES
from shared.device import torch_device

MSE = SPIKING_LOSSES["MSE"]
SHAPES = {
    "FC_7_FC_3": (9,),
    "FC_8_FC_6_FC_3": (2, 3, 4),
    "FC_80_FC_6_FC_3": (11,),
    "CONV_3_3_1_1_FC_3": (1, 6, 7),
    "CONV_3_3_1_1_FC_6_FC_3": (2, 7, 6),
    "CONV_2_3_1_1_CONV_3_3_2_2_FC_5_FC_3": (1, 9, 8),
    "C_4_3_1_1_FC_6_FC_3": (2, 11),
    "C_3_2_2_0_C_4_2_1_1_FC_3": (1, 17),
}


def lively(kind, topology, mode, *, seed=0, **options):
    """A network in float64 whose weights and biases let all layers spike."""
    torch.manual_seed(seed)
    network = kind(topology, SHAPES[topology], mode, init="he", **options).double()
    with torch.no_grad():
        for block in network.blocks:
            block.weight.mul_(1.5)
            block.bias.add_(0.3)
    return network


def presentation(network, steps, batch, seed=0):
    """Spikes [time, batch, *shape] and one-hot targets."""
    generator = torch.Generator().manual_seed(seed)
    dtype = network.blocks[0].weight.dtype
    spikes = (torch.rand(steps, batch, *network.shape, generator=generator) < 0.4).to(dtype)
    labels = torch.randint(network.n_classes, (batch,), generator=generator)
    return spikes, torch.nn.functional.one_hot(labels, network.n_classes).to(dtype)


def by_layers(network, spikes, targets, loss):
    network.zero_grad()
    return layerwise.gradients(network, lambda a, b: spikes[a:b], len(spikes), targets, loss)


def plainly(network, spikes, targets, loss):
    network.zero_grad()
    output = network(spikes.movedim(0, 2), targets)
    value = loss(output, targets)
    value.backward()
    return layerwise.Outcome(value.detach(), output.detach())


@torch.no_grad()
def activity_step_by_step(network, spikes, masks):
    """Spikes of all layers by the plain membrane, [time, batch, *out] each."""
    states = [(spikes.new_zeros(spikes.shape[1], *block.unit_shape),) * 2
              for block in network.blocks]  # fmt: skip
    found = [[] for _ in network.blocks]
    for x in spikes:
        for i, block in enumerate(network.blocks):
            states[i] = mem_update(block.current, x, *states[i], neuron=network.neuron)
            x = network.pooled(block, states[i][1])
            x = x if masks[i] is None else x * masks[i]
            found[i].append(x)
    return [torch.stack(steps) for steps in found]


@pytest.mark.parametrize("most", [0.0, 2.0])
@pytest.mark.parametrize("topology", SHAPES)
def test_activity_of_layers_is_that_of_single_steps(topology, most, monkeypatch):
    monkeypatch.setattr(_sparse, "MOST", most)
    monkeypatch.setattr(_sparse, "LEAST_UNITS", 4)
    network = lively(NetworkBuilder, topology, "BRP", dropout=0.3).train()
    spikes, _ = presentation(network, 12, 3)
    torch.manual_seed(1)
    masks = [block.mask(3) for block in network.blocks]
    torch.manual_seed(1)
    found = layerwise.activity(network, spikes)
    for ours, plain in zip(found, activity_step_by_step(network, spikes, masks), strict=True):
        assert 0 < plain.mean() < 1
        torch.testing.assert_close(ours, plain)


@pytest.mark.parametrize("shape", [(2, 3, 8), (2, 3, 3, 3), (0, 3, 9)])
def test_activity_of_other_inputs_is_refused(shape):
    network = lively(NetworkBuilder, "FC_7_FC_3", "BRP")
    with pytest.raises(ValueError, match=r"at every step|at least one step"):
        layerwise.activity(network, torch.zeros(shape))


def gradients_of(network):
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in network.named_parameters()
    }


def assert_equal_forms(network, steps, batch, loss, rtol, atol, dropout_seed=0):
    spikes, targets = presentation(network, steps, batch)
    found = []
    for form in (plainly, by_layers):
        torch.manual_seed(dropout_seed)
        outcome = form(network, spikes, targets, loss)
        found.append({"loss": outcome.loss, "output": outcome.output, **gradients_of(network)})
    for name, plain in found[0].items():
        torch.testing.assert_close(found[1][name], plain, rtol=rtol, atol=atol, msg=name)
    return found[0]


@settings(max_examples=60, deadline=None)
@example("C_4_3_1_1_FC_6_FC_3", "FA", "MSE", 7, 2, Neuron(), 0.5, True, 0)
@example("CONV_3_3_1_1_FC_6_FC_3", "BRP", "MSE", 40, 2, Neuron(decay=0.99), 0.0, False, 0)
@given(
    topology=st.sampled_from(list(SHAPES)),
    mode=st.sampled_from(MODES),
    loss=st.sampled_from(list(SPIKING_LOSSES)),
    steps=st.integers(1, 24),
    batch=st.integers(1, 4),
    neuron=st.builds(
        Neuron,
        st.floats(0.1, 1.5),
        st.floats(0.05, 1.5),
        st.sampled_from([0.0, 0.2, 0.5, 0.9, 0.99]),
    ),
    dropout=st.sampled_from([0.0, 0.0, 0.4]),
    frozen=st.booleans(),
    seed=st.integers(0, 99),
)
def test_both_forms_are_equal(topology, mode, loss, steps, batch, neuron, dropout, frozen, seed):
    network = lively(
        NetworkBuilder, topology, mode,
        neuron=neuron, dropout=dropout, freeze_conv_layers=frozen, seed=seed,
    )  # fmt: skip
    assert_equal_forms(network, steps, batch, SPIKING_LOSSES[loss], 1e-9, 1e-10, seed)


@pytest.mark.parametrize("mode", ["BRP", "BP", "FA"])
@pytest.mark.parametrize("topology", ["CONV_2_3_1_1_CONV_3_3_2_2_FC_5_FC_3", "C_4_3_1_1_FC_6_FC_3"])
def test_steps_convolved_together_as_on_a_gpu_are_the_same(mode, topology, monkeypatch):
    monkeypatch.setattr(_sparse, "takes", lambda weight: False)
    monkeypatch.setattr(layerwise, "_steps_of_a_convolution", lambda device: layerwise.PIECE)
    network = lively(NetworkBuilder, topology, mode)
    assert_equal_forms(network, 13, 3, MSE, 1e-9, 1e-10)


@pytest.mark.parametrize("most", [2.0, 0.35, 0.0])
@pytest.mark.parametrize("mode", ["BRP", "BP", "FA", "DFA"])
@pytest.mark.parametrize("topology", ["FC_80_FC_6_FC_3", "CONV_3_3_1_1_FC_6_FC_3"])
def test_products_of_what_is_not_zero_are_whole_products(topology, mode, most, monkeypatch):
    """Of all pieces, of some and of none."""
    monkeypatch.setattr(layerwise, "PIECE", 3)
    monkeypatch.setattr(_sparse, "MOST", most)
    monkeypatch.setattr(_sparse, "LEAST_UNITS", 4)
    network = lively(NetworkBuilder, topology, mode)
    assert layerwise.window(32, network.neuron, torch.float64) < 32
    assert_equal_forms(network, 32, 3, MSE, 1e-9, 1e-10)


@pytest.mark.parametrize("mode", ["BRP", "shallow"])
@pytest.mark.parametrize("topology", ["FC_8_FC_6_FC_3", "CONV_3_3_1_1_FC_6_FC_3"])
def test_a_long_presentation_is_a_stream_of_pieces(topology, mode):
    network = lively(NetworkBuilder, topology, mode, dropout=0.3)
    assert layerwise.window(47, network.neuron, torch.float64) < 47
    assert_equal_forms(network, 47, 3, MSE, 1e-9, 1e-10)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("topology", ["FC_80", "FC_70_FC_80"])
def test_an_output_layer_may_be_wide(topology, mode, monkeypatch):
    monkeypatch.setattr(layerwise, "PIECE", 3)
    monkeypatch.setattr(_sparse, "MOST", 2.0)
    monkeypatch.setitem(SHAPES, topology, (11,))
    assert_equal_forms(lively(NetworkBuilder, topology, mode), 30, 3, MSE, 1e-9, 1e-10)


@pytest.mark.parametrize("mode", ["BRP", "BP", "FA"])
@pytest.mark.parametrize(
    ("topology", "shape"),
    [
        ("CONV_3_3_1_1_FC_3", (2, 7, 6)),
        ("CONV_3_5_2_3_FC_3", (1, 9, 12)),
        ("CONV_2_2_3_0_FC_3", (1, 8, 8)),
        ("CONV_2_3_1_5_FC_3", (1, 4, 4)),  # more padding than the kernel is wide
        ("C_4_3_2_1_FC_3", (2, 14)),
        ("C_2_1_2_0_FC_3", (1, 9)),
        ("CONV_3_3_1_1_CONV_2_5_2_3_FC_3", (2, 9, 12)),
        ("CONV_3_3_1_1_CONV_4_2_3_0_FC_3", (1, 16, 11)),
        ("C_4_3_1_1_C_2_3_2_1_FC_3", (2, 56)),
    ],
)
def test_convolutions_of_every_geometry(topology, shape, mode, monkeypatch):
    monkeypatch.setitem(SHAPES, topology, shape)
    network = lively(NetworkBuilder, topology, mode)
    assert_equal_forms(network, 7, 3, MSE, 1e-9, 1e-10)
    assert network.blocks[0].weight.grad.abs().max() > 0


@given(st.integers(1, 7), st.integers(1, 4), st.integers(1, 9), st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_changes_are_the_input(steps, batch, inputs, seed):
    draw = torch.Generator().manual_seed(seed)
    levels = torch.rand(batch, inputs, generator=draw, dtype=torch.float64).sub(0.5).mul(3)
    x = torch.bernoulli(levels.clamp(0, 1).expand(steps, batch, inputs), generator=draw) * 0.25
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_sparse, "MOST", 2.0)
        found = _sparse.changes(x, x.dtype)
        as_integers = _sparse.changes((4 * x).to(torch.int8), x.dtype)
    for entries, others in zip(found, as_integers, strict=True):
        assert torch.equal(entries.at, others.at)
        assert torch.equal(4 * entries.value, others.value)
    usual, others = (
        (matrix_of(entries, inputs), matrix_of(entries.turned(inputs), len(entries.starts) - 1))
        for entries in found
    )
    assert torch.equal(usual[0], usual[1].T)
    assert torch.equal(others[0], others[1].T)
    assert torch.equal(usual[0] + others[0].view_as(x), x)
    assert sum(len(entries.at) for entries in found) <= int((x != 0).sum())


@pytest.mark.parametrize("most", [0.0, 2.0])
@pytest.mark.parametrize("mode", ["BP", "BRP", "DFA"])
@pytest.mark.parametrize("topology", ["FC_7_FC_3", "FC_8_FC_6_FC_3", "CONV_3_3_1_1_FC_6_FC_3"])
def test_spikes_may_be_integers(topology, mode, most, monkeypatch):
    monkeypatch.setattr(_sparse, "MOST", most)
    monkeypatch.setattr(_sparse, "LEAST_UNITS", 4)
    network = lively(NetworkBuilder, topology, mode)
    spikes, targets = presentation(network, 25, 3)
    found = []
    for shown in (spikes, spikes.to(torch.int8)):
        output = by_layers(network, shown, targets, MSE).output
        found.append([output, *gradients_of(network).values()])
        found[-1] += layerwise.activity(network, shown)
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)
    assert found[0][0].max() > 0


def matrix_of(entries, columns):
    """The matrix that has these entries."""
    made = torch.zeros(len(entries.starts) - 1, columns, dtype=torch.float64)
    rows = torch.arange(len(made)).repeat_interleave(entries.starts.diff())
    made[rows, entries.at.long()] = entries.value
    return made


def test_angles_of_many_samples_are_those_of_all_at_once(monkeypatch):
    network = lively(NetworkBuilder, "CONV_3_3_1_1_FC_6_FC_3", "DFA")
    spikes, targets = presentation(network, 12, 30)
    whole = angles(network, spikes, targets, MSE)
    monkeypatch.setattr("brp_snn.angles.CHUNK", 7)
    assert angles(network, spikes, targets, MSE) == pytest.approx(whole, abs=1e-4)


@pytest.mark.parametrize("mode", ["BRP", "BP", "FA", "sDFA", "shallow"])
@pytest.mark.parametrize("topology", list(SHAPES))
def test_both_forms_are_equal_in_single_precision(mode, topology):
    network = lively(NetworkBuilder, topology, mode).float()
    found = assert_equal_forms(network, 20, 5, MSE, 1e-4, 1e-6)
    assert found["output"].max() > 0


def test_every_layer_learns_in_every_mode_but_shallow():
    for mode in MODES:
        network = lively(NetworkBuilder, "CONV_3_3_1_1_FC_6_FC_3", mode)
        by_layers(network, *presentation(network, 12, 6), MSE)
        largest = [float(block.weight.grad.abs().max()) for block in network.blocks]
        assert largest[-1] > 0
        assert all(value == 0 if mode == "shallow" else value > 0 for value in largest[:-1]), mode


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("topology", ["CONV_3_3_1_1_FC_6_FC_3", "C_4_3_1_1_FC_6_FC_3"])
def test_devices_without_these_kernels_compute_the_same(mode, topology, monkeypatch):
    network = lively(NetworkBuilder, topology, mode)
    monkeypatch.setattr(_sparse, "takes", lambda weight: False)
    for name in ("integrate", "teach", "chain"):
        monkeypatch.setattr(_kernels, name, getattr(_kernels, f"{name}_by_torch"))
    assert_equal_forms(network, 13, 3, MSE, 1e-9, 1e-12)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("mode", MODES)
def test_a_gpu_gives_what_the_cpu_gives(mode):
    network = lively(NetworkBuilder, "CONV_3_3_1_1_FC_6_FC_3", mode)
    spikes, targets = presentation(network, 12, 4)
    by_layers(network, spikes, targets, MSE)
    on_cpu = gradients_of(network)
    device = torch_device("cuda")
    network.to(device)
    by_layers(network, spikes.to(device), targets.to(device), MSE)
    for name, value in gradients_of(network).items():
        torch.testing.assert_close(value.cpu(), on_cpu[name], rtol=1e-9, atol=1e-12)


def test_rewards_alone_teach_the_hidden_layers():
    """BRP: hidden gradients do not depend on what comes behind, nor on the output's error."""
    network = lively(NetworkBuilder, "CONV_3_3_1_1_FC_6_FC_3", "BRP")
    spikes, targets = presentation(network, 12, 4)
    by_layers(network, spikes, targets, MSE)
    before = gradients_of(network)
    with torch.no_grad():
        network.blocks[-1].weight.mul_(-3)
    by_layers(network, spikes, targets, SPIKING_LOSSES["CE"])
    after = gradients_of(network)
    for name, value in after.items():
        assert torch.equal(value, before[name]) == name.startswith(("layers.0", "layers.1"))


@pytest.mark.parametrize(("mode", "grows"), [("BRP", False), ("shallow", False), ("BP", True)])
def test_memory_over_time(mode, grows, monkeypatch):
    """Potentials that a layer keeps: those of a window in BRP, of all steps in BP."""
    held = {}
    run = layerwise._Layer.run

    def watched(self, x, keep):
        out = run(self, x, keep)
        kept = sum(len(piece.potential) for piece in self.kept)
        held[id(self)] = max(held.get(id(self), 0), kept)
        return out

    monkeypatch.setattr(layerwise._Layer, "run", watched)
    network = lively(NetworkBuilder, "CONV_3_3_1_1_FC_6_FC_3", mode).float()
    most = []
    for steps in (40, 160):
        held.clear()
        by_layers(network, *presentation(network, steps, 2), MSE)
        most.append(max(held.values()))
    assert most == ([40, 160] if grows else [most[0]] * 2)
    assert most[0] <= 40
    if not grows:
        window = layerwise.horizon(network.neuron, torch.float32) + 2 * layerwise.PIECE
        assert most[0] <= window < 40


@pytest.mark.parametrize("mode", ["BRP", "BP", "FA", "DFA"])
def test_no_graph_and_no_memory_is_kept_between_steps(mode):
    network = lively(NetworkBuilder, "CONV_3_3_1_1_FC_6_FC_3", mode).float()
    spikes, targets = presentation(network, 10, 3)
    outcome = by_layers(network, spikes, targets, MSE)
    assert not outcome.output.requires_grad
    assert not outcome.loss.requires_grad
    assert all(not p.grad.requires_grad for p in network.parameters())
    del outcome
    alive = []
    for _ in range(3):
        by_layers(network, spikes, targets, MSE)
        gc.collect()
        alive.append(sum(type(thing) is torch.Tensor for thing in gc.get_objects()))
    assert alive[2] == alive[1] == alive[0]


def test_the_horizon_is_where_a_gradient_is_lost_in_rounding():
    neuron = Neuron()
    steps = layerwise.horizon(neuron, torch.float32)
    assert neuron.decay**steps <= torch.finfo(torch.float32).eps < neuron.decay ** (steps - 1)
    assert layerwise.horizon(neuron, torch.float64) > steps
    assert layerwise.horizon(Neuron(decay=0.0), torch.float32) == 1
    assert layerwise.horizon(Neuron(1.5, 1.5, 0.9), torch.float32) == float("inf")


def test_samples_of_another_shape_are_refused():
    network = lively(NetworkBuilder, "CONV_3_3_1_1_FC_3", "BRP")
    spikes = torch.zeros(4, 2, 1, 6, 8, dtype=torch.float64)
    targets = torch.zeros(2, 3, dtype=torch.float64)
    for form in (by_layers, plainly):
        with pytest.raises(ValueError, match=r"takes samples of shape \(1, 6, 7\)"):
            form(network, spikes, targets, MSE)
    with pytest.raises(ValueError, match=r"takes samples of shape \(1, 6, 7\)"):
        layerwise.readout(network, lambda a, b: spikes[a:b], 4, 2)


# ------------------------------------------------------------------- alignment with BP's gradient


def network_like(mode, weights_of, kind=NetworkBuilder):
    """A network of another mode with the same weights."""
    made = lively(kind, "CONV_3_3_1_1_FC_6_FC_3", mode, seed=5)
    own = {name.replace(".module", ""): p for name, p in made.named_parameters()}
    with torch.no_grad():
        for name, value in weights_of.named_parameters():
            own[name.replace(".module", "")].copy_(value)
    return made


def angles_to_bp(mode):
    true = lively(NetworkBuilder, "CONV_3_3_1_1_FC_6_FC_3", "BP")
    spikes, targets = presentation(true, 12, 30)
    network = network_like(mode, true)
    return network, angles(network, spikes, targets, MSE)


def test_back_propagation_is_at_no_angle_to_itself():
    _, found = angles_to_bp("BP")
    assert found == pytest.approx([0, 0, 0], abs=1e-4)


@pytest.mark.parametrize("mode", ["FA", "DFA", "sDFA", "BRP"])
def test_no_other_mode_is_back_propagation(mode):
    """The output layer's gradient is true; those of the hidden layers lie elsewhere."""
    _, found = angles_to_bp(mode)
    assert found[2] == pytest.approx(0, abs=1e-4)
    assert all(1 < value < 179 for value in found[:2])


def test_fa_with_the_transposed_weights_is_back_propagation():
    network, before = angles_to_bp("FA")
    for block in network.blocks:
        block.operator.fixed_fb_weights.copy_(block.weight.detach())
    spikes, targets = presentation(network, 12, 30)
    assert angles(network, spikes, targets, MSE) == pytest.approx([0, 0, 0], abs=1e-4)
    assert before[0] > 1


def test_dfa_with_the_output_weights_is_back_propagation_in_the_last_hidden_layer():
    network, _ = angles_to_bp("DFA")
    output = network.blocks[-1].weight.detach()
    network.blocks[1].hook.fixed_fb_weights.copy_(output)
    spikes, targets = presentation(network, 12, 30)
    assert angles(network, spikes, targets, MSE)[1] > 1  # steps of the output differ
    # Where the output's surrogate is 1 at every step and nothing is carried over, they agree.
    network.neuron = Neuron(threshold=0.5, lens=1e6, decay=0.0)
    assert angles(network, spikes, targets, MSE)[1] == pytest.approx(0, abs=1e-4)


def test_looking_at_angles_changes_nothing():
    network, _ = angles_to_bp("FA")
    spikes, targets = presentation(network, 12, 5)
    by_layers(network, spikes, targets, MSE)
    network.train()
    before, state = gradients_of(network), torch.get_rng_state()
    angles(network, spikes, targets, MSE)
    assert network.training
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in gradients_of(network).items():
        assert torch.equal(value, before[name])


def test_angle():
    one, other = torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1.0])
    assert angle(one, other) == pytest.approx(45)
    assert angle(one, -2 * one) == pytest.approx(180)
    assert angle(one, torch.zeros(2)) != angle(one, torch.zeros(2))  # nan


@pytest.mark.parametrize("loss", list(SPIKING_LOSSES))
def test_a_silent_output_that_should_spike_has_a_gradient(loss):
    readout = torch.zeros(1, 2, requires_grad=True)
    SPIKING_LOSSES[loss](readout, torch.tensor([[1.0, 0.0]])).backward()
    assert readout.grad[0, 0] < -0.1
    assert readout.grad.isfinite().all()


# ----------------------------------------------------------------------------------- rate networks


def test_a_wrong_and_certain_rate_output_has_a_gradient():
    logit = torch.tensor([[-12.0]], requires_grad=True)
    LOSSES["BCE"](torch.sigmoid(logit), torch.ones(1, 1)).backward()
    assert float(logit.grad) == pytest.approx(-1, rel=1e-3)


@pytest.mark.parametrize("mode", ["FA", "DFA", "sDFA", "DRTP"])
def test_modes_of_rate_networks_are_not_back_propagation(mode):
    true = lively(RateNetwork, "CONV_3_3_1_1_FC_6_FC_3", "BP")
    network = network_like(mode, true, RateNetwork)
    spikes, targets = presentation(true, 1, 30)
    for taught in (true, network):
        taught.zero_grad()
        LOSSES["MSE"](taught(spikes[0], targets), targets).backward()
    found = [
        angle(own.weight.grad, other.weight.grad)
        for own, other in zip(network.blocks, true.blocks, strict=True)
    ]
    assert found[2] == pytest.approx(0, abs=1e-4)
    assert all(1 < value < 179 for value in found[:2])


def test_back_propagation_in_rate_networks_is_the_true_gradient():
    network = lively(RateNetwork, "C_4_3_1_1_FC_6_FC_3", "BP")
    images, targets = presentation(network, 1, 2)
    images = images[0] * 0.7

    def value():
        return LOSSES["BCE"](network(images, targets), targets)

    value().backward()
    weight = network.blocks[0].weight
    for index in [(0, 0, 1), (2, 1, 0)]:
        with torch.no_grad():
            kept = float(weight[index])
            around = []
            for change in (1e-5, -1e-5):
                weight[index] = kept + change
                around.append(float(value()))
            weight[index] = kept
        assert float(weight.grad[index]) == pytest.approx(
            (around[0] - around[1]) / 2e-5, rel=1e-5, abs=1e-10
        )


def test_what_learns_in_part_is_refused():
    network = NetworkBuilder("FC_7_FC_3", (5,), "BRP")
    x, targets = torch.zeros(4, 2, 5), torch.eye(3)[:2]
    for number, name in ((0, "weight"), (1, "bias")):
        frozen = getattr(network.layers[number], name).requires_grad_(False)
        with pytest.raises(ValueError, match=f"weights and bias of layer {number} learn both or"):
            layerwise.gradients(network, lambda a, b: x[a:b], 4, targets, MSE)
        frozen.requires_grad_(True)
    layerwise.gradients(network, lambda a, b: x[a:b], 4, targets, MSE)


def test_units_without_spikes_are_refused():
    network, x = RateNetwork("FC_7_FC_3", (5,), "BP"), torch.zeros(4, 2, 5)
    with pytest.raises(ValueError, match="is for spiking units"):
        layerwise.gradients(network, lambda a, b: x[a:b], 4, torch.eye(3)[:2], MSE)


def test_steps_that_are_not_there_are_refused():
    network = NetworkBuilder("FC_7_FC_3", (5,), "BRP")
    x, targets = torch.zeros(4, 2, 5), torch.eye(3)[:2]
    for call in (
        lambda draw: layerwise.gradients(network, draw, 0, targets, MSE),
        lambda draw: layerwise.readout(network, draw, 0, 2),
    ):
        with pytest.raises(ValueError, match="at least one step"):
            call(lambda a, b: x[a:b])
    with pytest.raises(ValueError, match=r"gave 1 steps, not \d"):
        layerwise.readout(network, lambda a, b: x[:1], 6, 2)


@pytest.mark.parametrize("topology", ["FC_7_FC_3", "CONV_4_3_1_1_FC_3"])
def test_a_batch_without_samples_is_read_and_teaches_nothing(topology):
    network = NetworkBuilder(topology, (1, 6, 6), "BRP")
    x, targets = torch.zeros(4, 0, 1, 6, 6), torch.zeros(0, 3)
    assert network(x.movedim(0, 2), targets).shape == (0, 3)
    assert layerwise.readout(network, lambda a, b: x[a:b], 4, 0).shape == (0, 3)
    with pytest.raises(ValueError, match="without samples has no gradient"):
        layerwise.gradients(network, lambda a, b: x[a:b], 4, targets, MSE)
