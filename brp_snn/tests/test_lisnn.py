"""LISNN: the network against the plain per-step form, noise, frames, the program."""

import json
import math
import shutil
import signal
import struct
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.nn.utils import prune

from brp_snn import _kernels, _sparse
from brp_snn.lisnn import compare, nmnist, noise_data, train
from brp_snn.lisnn.LISNN import LISNN, LateralNetwork, act_fun, convolved, mem_update
from brp_snn.models import Neuron
from shared import datasets
from shared.datasets import EventPart, Events, EventSet, Recordings
from shared.device import torch_device
from shared.errors import UserError
from shared.report import load_results


def plain_output(network, spikes, neuron):
    """The readout, all layers a step at a time, with autograd through everything."""
    layers = [network.conv1, network.conv2, network.fc1, network.fc2]
    beside = [network.lateral1, network.lateral2, None, None]
    states = [(0.0, None)] * 4
    outputs = []
    for x in spikes:
        for i, (layer, lateral) in enumerate(zip(layers, beside, strict=True)):
            shown = x if i < 2 else x.flatten(1)
            potential, last = states[i]
            if last is None:
                potential = last = torch.zeros_like(layer(shown))
            states[i] = mem_update(layer, shown, potential, last, lateral, neuron)
            x = functional.avg_pool2d(states[i][1], 2) if i < 2 else states[i][1]
        outputs.append(x)
    return torch.stack(outputs).mean(0)


def lively(shape, lateral, *, maps=4, kernel=5, seed=0, neuron=Neuron()):
    """A network in float64 with weights so large that all layers spike."""
    torch.manual_seed(seed)
    network = LateralNetwork(shape, maps, lateral, kernel, neuron).double()
    with torch.no_grad():
        for value in network.parameters():
            value.mul_(2)
    return network


def random_spikes(steps, batch, shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(steps, batch, *shape, generator=generator) < 0.4).double()


def gradients_of(output, network):
    target = functional.one_hot(torch.arange(len(output)) % 10, 10).to(output)
    loss = functional.mse_loss(output, target)
    return torch.autograd.grad(loss, list(network.parameters()))


@pytest.mark.parametrize("by_torch", [False, True])
@pytest.mark.parametrize("lateral", [True, False])
@pytest.mark.parametrize(
    ("shape", "kernel", "steps", "batch"),
    [
        ((1, 8, 8), 5, 7, 3),
        ((2, 9, 11), 3, 4, 2),
        ((1, 8, 10), 7, 5, 2),
        ((1, 4, 6), 7, 1, 1),
        ((1, 4, 5), 11, 3, 2),
    ],
)
def test_outputs_and_gradients_equal_the_plain_formulation(
    shape, kernel, steps, batch, lateral, by_torch, monkeypatch
):
    if by_torch:  # what other devices than the CPU do
        monkeypatch.setattr(_sparse, "by_numba", lambda tensor: False)
        monkeypatch.setattr(_kernels, "by_numba", lambda tensor: False)
    neuron = Neuron(0.4, 0.6, 0.3)
    network = lively(shape, lateral, kernel=kernel, neuron=neuron)
    spikes = random_spikes(steps, batch, shape)
    output, plain = network(spikes), plain_output(network, spikes, neuron)
    torch.testing.assert_close(output, plain, rtol=1e-12, atol=1e-14)
    names = [name for name, _ in network.named_parameters()]
    found = zip(names, gradients_of(output, network), gradients_of(plain, network), strict=True)
    for name, one, other in found:
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-13, msg=name)
        if steps > 1:
            assert other.abs().max() > 1e-9, name


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("lateral", [True, False])
def test_a_gpu_gives_what_the_cpu_gives(lateral):
    network, spikes = lively((2, 10, 10), lateral), random_spikes(6, 3, (2, 10, 10))
    on_cpu = gradients_of(network(spikes), network)
    device = torch_device("cuda")
    network.to(device)
    for one, other in zip(on_cpu, gradients_of(network(spikes.to(device)), network), strict=True):
        torch.testing.assert_close(one, other.cpu(), rtol=1e-9, atol=1e-13)


def test_the_network_is_the_papers():
    network = LISNN(SimpleNamespace(batch_size=100, dts="MNIST", if_lateral=True))
    shapes = {name: tuple(value.shape) for name, value in network.named_parameters()}
    assert shapes == {
        "conv1.weight": (32, 1, 3, 3),
        "conv1.bias": (32,),
        "lateral1.weight": (32, 1, 5, 5),
        "conv2.weight": (32, 32, 3, 3),
        "conv2.bias": (32,),
        "lateral2.weight": (32, 1, 5, 5),
        "fc1.weight": (128, 32 * 7 * 7),
        "fc1.bias": (128,),
        "fc2.weight": (10, 128),
        "fc2.bias": (10,),
    }
    recordings = LISNN(SimpleNamespace(dts="NMNIST", if_lateral=False))
    assert recordings.fc1.in_features == 64 * 9 * 9
    assert recordings.lateral1 is None
    with pytest.raises(UserError, match="-dts CIFAR10 is not one of MNIST, Fashion-MNIST, NMNIST"):
        LISNN(SimpleNamespace(dts="CIFAR10", if_lateral=True))


def test_with_and_without_lateral_weights_a_seed_draws_the_same():
    drawn = []
    for lateral in (True, False):
        torch.manual_seed(3)
        network = LateralNetwork((1, 8, 8), lateral=lateral)
        layers = (network.conv1, network.conv2, network.fc1, network.fc2)
        drawn.append([*(layer.weight for layer in layers), torch.rand(5)])
    for one, other in zip(*drawn, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_fresh_weights_are_uniform_in_torchs_bounds():
    torch.manual_seed(0)
    network = LateralNetwork((1, 28, 28))
    for layer in network.children():
        fan_in = layer.weight[0].numel()
        values = torch.cat([value.detach().flatten() for value in layer.parameters()])
        scaled = values * math.sqrt(fan_in)  # uniform in [-1, 1]
        n = len(scaled)
        assert scaled.abs().max() <= 1
        assert scaled.abs().max() > 1 - 10 / n
        assert scaled.mean().abs() < 4 / math.sqrt(3 * n)
        assert scaled.var().item() == pytest.approx(1 / 3, abs=4 * math.sqrt(4 / 45 / n))


def test_the_published_call_shows_images_and_frames():
    torch.manual_seed(0)
    network = LISNN(SimpleNamespace(dts="MNIST", if_lateral=True)).double()
    with torch.no_grad():
        for value in network.parameters():
            value.mul_(3)
    images = torch.rand(3, 1, 28, 28, dtype=torch.float64)
    torch.manual_seed(1)
    output = network(images, time_window=5)
    torch.manual_seed(1)
    spikes = (images > torch.rand(5, *images.shape)).double()
    assert output.max() > 0
    torch.testing.assert_close(output, plain_output(network, spikes, Neuron()))

    recordings = LISNN(SimpleNamespace(dts="NMNIST", if_lateral=True))
    frames = (torch.rand(2, 2, 36, 36, 7) < 0.3).float()
    output = recordings(frames, time_window=4)
    shown = frames[..., :4].movedim(-1, 0)
    torch.testing.assert_close(output, plain_output(recordings, shown, Neuron()))


def test_the_published_units_step_by_step():
    torch.manual_seed(0)
    fc, beside = torch.nn.Linear(6, 4), torch.nn.Linear(4, 4, bias=False)
    mem = spike = torch.rand(3, 4).round()
    x = torch.rand(3, 6)
    found, spikes = mem_update(fc, x, mem, spike, beside)
    expected = 0.2 * mem * (1 - spike) + fc(x) + beside(spike)
    torch.testing.assert_close(found, expected)
    assert torch.equal(spikes, (expected > 0.5).float())
    potential = torch.tensor([-0.1, 0.1, 0.6, 0.9, 1.1], requires_grad=True)
    act_fun(potential).sum().backward()
    assert potential.grad.tolist() == [0, 1, 1, 1, 0]


def test_lateral_off_is_a_network_without_its_weights():
    spikes = random_spikes(6, 3, (1, 8, 8))
    on, off = lively((1, 8, 8), True), lively((1, 8, 8), False)
    assert set(on.state_dict()) - set(off.state_dict()) == {
        "lateral1.weight",
        "lateral2.weight",
    }
    on.load_state_dict(off.state_dict(), strict=False)
    with torch.no_grad():
        assert not torch.equal(on(spikes), off(spikes))
        for lateral in (on.lateral1, on.lateral2):
            lateral.weight.zero_()
        assert torch.equal(on(spikes), off(spikes))


@pytest.mark.parametrize("lateral", [True, False])
def test_two_steps_lower_the_loss_with_finite_gradients(lateral):
    network = lively((1, 8, 8), lateral, maps=16)
    spikes = random_spikes(20, 10, (1, 8, 8))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    target = torch.eye(10, dtype=torch.float64)
    losses = []
    for _ in range(3):
        loss = functional.mse_loss(network(spikes), target)
        optimizer.zero_grad()
        loss.backward()
        assert all(value.grad.isfinite().all() for value in network.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > losses[1] > losses[2]


def test_a_membranes_gradient_can_be_had_once():
    network = lively((1, 8, 8), True)
    total = network(random_spikes(4, 1, (1, 8, 8))).sum()
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="once only"):
        total.backward()


OTHERS = (
    {"stride": 2, "padding": 1},
    {"dilation": 2, "padding": 1},
    {"groups": 2},
    {"bias": False},
    {"padding": (1, 0)},
    {"padding": "same"},
    {"padding": 1, "padding_mode": "circular"},
)


@pytest.mark.parametrize("options", [{"padding": 2}, *OTHERS])
def test_any_convolution_gives_what_it_gives(options):
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(2, 4, 3, **options).double()
    spikes = random_spikes(3, 2, (2, 9, 8))
    current = conv(spikes.flatten(0, 1)).unflatten(0, (3, 2))
    potential, last, outputs = torch.zeros_like(current[0]), torch.zeros_like(current[0]), []
    for own in current:
        potential = own + 0.2 * potential * (1 - last)
        last = (potential > 0.5).double()
        outputs.append(functional.avg_pool2d(last, 2))
    expected = torch.stack(outputs)
    assert 0 < expected.mean() < 1
    torch.testing.assert_close(convolved(spikes, conv, None, Neuron()), expected)


@pytest.mark.parametrize("lateral", [True, False])
@pytest.mark.parametrize("read", [(slice(3), 1), (4, 0), ([], 0), (slice(None), slice(3))])
def test_what_no_loss_reads_has_no_gradient_and_changes_none(read, lateral, monkeypatch):
    network, spikes = lively((1, 9, 8), lateral), random_spikes(6, 3, (1, 9, 8))
    spikes.requires_grad_()
    beside = network.lateral1
    learns = [spikes, *network.conv1.parameters(), *(beside.parameters() if lateral else ())]

    def gradients():
        output = convolved(spikes, network.conv1, beside, network.neuron)
        given = torch.arange(output.numel()).view_as(output).sin()
        return torch.autograd.grad((output * given)[read].sum(), learns)

    found = gradients()
    monkeypatch.setattr(_sparse, "by_numba", lambda tensor: False)
    monkeypatch.setattr(_kernels, "by_numba", lambda tensor: False)
    for one, other in zip(found, gradients(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-13)


def test_weights_learn_from_every_step_that_has_a_gradient():
    torch.manual_seed(0)
    weight, space = torch.randn(4, 2, 3, 3).double(), (6, 7)
    geometry = _sparse.Geometry(1, 1, (2, 2), space)
    layer = _sparse.Convolution(weight, torch.zeros(4).double(), geometry, Neuron())
    x = random_spikes(5, 11, (2, *space))
    delta = -torch.rand(5, 11, *space, 4, dtype=torch.float64)  # a gradient may be negative alone
    delta[1] = delta[3, ::2] = delta[:, 4] = 0
    found = layer.learn(x, delta.view(5, 11, 1, -1))
    maps_first = delta.flatten(0, 1).movedim(3, 1)
    to_weight = torch.nn.grad.conv2d_weight(x.flatten(0, 1), weight.shape, maps_first, padding=1)
    torch.testing.assert_close(found, (to_weight, delta.sum((0, 1, 2, 3))))
    delta[2, 7, 0, 5] = torch.nan
    assert all(part.isnan().any() for part in layer.learn(x, delta.view(5, 11, 1, -1)))


@pytest.mark.parametrize("lateral", [True, False])
def test_a_pruned_convolution_keeps_its_zeros(lateral):
    network, spikes = lively((1, 8, 8), lateral), random_spikes(6, 3, (1, 8, 8))
    prune.l1_unstructured(network.conv2, "weight", 0.5)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    before = network.conv2.weight.detach().clone()
    for _ in range(2):
        output = network(spikes)
        optimizer.zero_grad()
        functional.mse_loss(output, torch.eye(10).double()[:3]).backward()
        optimizer.step()
    network(spikes)  # forms the weights anew
    assert not torch.equal(network.conv2.weight, before)
    assert torch.equal(network.conv2.weight == 0, before == 0)


def test_samples_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="takes"):
        LateralNetwork((1, 8, 8), 4)(torch.zeros(2, 1, 1, 8, 9))
    with pytest.raises(UserError, match="too small"):
        LateralNetwork((1, 3, 8))
    with pytest.raises(ValueError, match="no middle"):
        LateralNetwork((1, 8, 8), lateral_kernel=4)


# ----------------------------------------------------------------------------------------- noise


def test_gaussian_noise_has_its_mean_and_variance():
    gray = np.full((300, 300), 128, np.uint8)
    found = noise_data.noisy(gray, "gaussian", 0.05) / 255
    assert found.mean() == pytest.approx(128 / 255 + 0.05 - 0.5 / 255, abs=5 * 0.1 / 300)
    assert found.std() == pytest.approx(0.1, rel=0.01)
    loud = noise_data.noisy(gray, "gaussian", 0.5)
    assert loud.max() == 255
    assert (gray == 128).all()


def test_salt_and_pepper_replaces_its_amount_half_and_half():
    gray = np.full((400, 400), 128, np.uint8)
    found = noise_data.noisy(gray, "salt_pepper", 0.3)
    for value, share in ((0, 0.15), (255, 0.15), (128, 0.7)):
        tolerance = 5 * math.sqrt(share * (1 - share)) / 400
        assert (found == value).mean() == pytest.approx(share, abs=tolerance)


@pytest.mark.parametrize("kind", noise_data.KINDS)
def test_noise_is_the_published_draw_of_seed_3154(kind):
    images = np.random.default_rng(0).integers(0, 256, (20, 1, 28, 28), dtype=np.uint8)
    found = noise_data.noisy(images, kind, 0.2)
    rng = np.random.default_rng(3154)
    rows = images.reshape(20, 784) * (1 / 255)
    if kind == "gaussian":
        expected = (rows + rng.normal(0.2, 0.1, rows.shape)).clip(0, 1)
    else:
        hit, white = rng.random(rows.shape) <= 0.2, rng.random(rows.shape) <= 0.5
        expected = np.where(hit, white.astype(float), rows)
    assert np.array_equal(found.reshape(20, 784), (expected * 255).astype(int))
    assert np.array_equal(noise_data.noisy(images, kind, 0.2), found)


@pytest.mark.parametrize(
    ("where", "changed"),
    [
        ("train", ["train"]),
        ("test", ["validation", "test"]),
        ("both", ["train", "validation", "test"]),
    ],
)
def test_noise_is_where_it_was_asked_for(where, changed):
    part = datasets.Split(np.full((2, 1, 4, 4), 9, np.uint8), np.arange(2))
    data = datasets.Dataset("two", part, part, part, 10)
    settings = train.Settings(noise="salt_pepper", noise_level=1.0, noise_in=where)
    found = train.under_noise(data, settings)
    for name in ("train", "validation", "test"):
        assert (getattr(found, name) is not part) == (name in changed)
        assert set(np.unique(getattr(found, name).inputs)) <= ({0, 255} if name in changed else {9})
    assert train.under_noise(data, train.Settings()) is data


@pytest.mark.parametrize(
    ("kind", "level", "words"),
    [
        ("gaussian", math.inf, "--noise-level inf: the mean of gaussian noise must be finite"),
        ("gaussian", math.nan, "--noise-level nan"),
        ("salt_pepper", 1.5, r"--noise-level 1.5: an amount .* must lie in \[0, 1\]"),
        ("salt_pepper", -0.5, "--noise-level -0.5"),
        ("salt_pepper", math.nan, "--noise-level nan"),
        ("speckle", 0.1, "no noise is called 'speckle': choose from gaussian, salt_pepper"),
    ],
)
def test_noise_that_there_is_not_is_one_sentence(kind, level, words):
    with pytest.raises(UserError, match=words) as refusal:
        noise_data.noisy(np.zeros((2, 2), np.uint8), kind, level)
    assert "\n" not in str(refusal.value)


def test_noisy_sets_are_written(scripts, tmp_path):
    levels = ("--noise-level", 0, 0.5)
    done = scripts.run(NOISE, "--quick", *levels, "--out", tmp_path)  # as users start it
    assert done.returncode == 0, done.stderr
    folders = [tmp_path / f"gaussian_mean{level}" for level in ("0", "0.5")]
    said = [line for line in done.stdout.splitlines() if not line.startswith("STAND-IN")]
    assert said == [str(folder) for folder in folders]
    images = [np.loadtxt(folder / "train_images.csv", delimiter=",") for folder in folders]
    assert images[0].shape == (noise_data.QUICK_SAMPLES, 784)
    assert images[0].max() <= 255
    assert images[1].mean() > images[0].mean() + 80
    labels = np.loadtxt(folders[0] / "test_labels.csv")
    assert sorted(set(labels)) == list(range(10))
    assert (folders[0] / "test.png").stat().st_size > 5000
    options = ("--noise", "salt_pepper", "--noise-level", 2, "--out", tmp_path)
    refused = scripts.call(noise_data.main, *options)
    scripts.assert_refused(refused, "must lie in [0, 1]")
    (tmp_path / "file").write_text("")
    refused = scripts.call(noise_data.main, "--quick", "--out", tmp_path / "file")
    scripts.assert_refused(refused, "cannot be written")


def test_mnist_is_read_by_the_published_function(tmp_path):
    made = np.random.default_rng(0).integers(0, 256, (5, 28, 28), np.uint8)
    header = struct.pack(">IIII", 0x803, 5, 28, 28)
    (tmp_path / "test-images-idx3-ubyte").write_bytes(header + made.tobytes())
    labels_path = tmp_path / "test-labels-idx1-ubyte"
    labels_path.write_bytes(struct.pack(">II", 0x801, 5) + bytes(range(5)))
    images, labels = noise_data.load_mnist(str(tmp_path), kind="test")
    np.testing.assert_array_equal(images, made.reshape(5, 784))
    assert labels.tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(UserError, match="train-images-idx3-ubyte cannot be read"):
        noise_data.load_mnist(tmp_path)
    labels_path.write_bytes(struct.pack(">II", 0x801, 4) + bytes(4))
    with pytest.raises(UserError, match="5 images, but 4 labels, of 'test'"):
        noise_data.load_mnist(tmp_path, "test")
    labels_path.write_bytes(b"none")
    with pytest.raises(UserError, match="is not an IDX file"):
        noise_data.load_mnist(tmp_path, "test")


# ---------------------------------------------------------------------------------------- frames


def written(events):
    """Events as the bytes of a recording."""
    columns = np.stack([events.x, events.y, events.polarity.astype(int) << 7 | events.times >> 16,
                        events.times >> 8 & 255, events.times & 255], 1)  # fmt: skip
    return columns.astype(np.uint8).tobytes()


# Bins are centered at multiples of 15 ms: 7,500 us is half of one, and goes to the even one.
RECORDED = Events(
    np.array([0, 33, 5, 6, 7, 8]),
    np.array([0, 2, 6, 6, 6, 6]),
    np.array([0, 1, 1, 0, 0, 1], np.uint8),
    np.array([1_000, 7_500, 7_600, 45_000, 292_499, 299_000]),
)
PIXELS = [[0, 0, 1, 1], [0, 1, 3, 34], [1, 1, 7, 6], [3, 0, 7, 7], [19, 0, 7, 8]]


def test_recordings_become_frames_of_15_ms_with_a_border(monkeypatch):
    part = EventPart(Recordings(range(5), lambda index: RECORDED), np.arange(5))
    found = EventSet("three", part, part, part, 34, 34, 10)
    monkeypatch.setattr(datasets, "load_nmnist", lambda root, validation: found)
    data = nmnist.load(None, 20, first=2)
    assert (data.name, data.n_classes) == ("three", 10)
    assert data.train.inputs.shape == (2, 20, 2, 36, 36)
    assert data.test.labels.tolist() == [0, 1]
    assert np.argwhere(data.validation.inputs[1]).tolist() == PIXELS


def test_recordings_are_read_by_the_published_classes(tmp_path):
    (tmp_path / "00012.bin").write_bytes(written(RECORDED))
    (tmp_path / "Train.txt").write_text("12 7\n")
    found = nmnist.nmnist(tmp_path, tmp_path / "Train.txt", samplingTime=1.0, sampleLength=20)
    assert len(found) == 1
    frames, label = found[0]
    assert label == 7
    assert frames.shape == (2, 36, 36, 20)
    assert frames.movedim(-1, 0).nonzero().tolist() == PIXELS
    coarse = nmnist.read2Dspikes(tmp_path / "12.bin").toSpikeArray(samplingTime=2)
    assert coarse.shape == (2, 8, 35, 11)
    assert set(np.unique(coarse)) == {0, 0.5}
    with pytest.raises(UserError, match="cannot be read"):
        nmnist.read2Dspikes(tmp_path / "13.bin")
    with pytest.raises(UserError, match="no table"):
        nmnist.nmnist(tmp_path, tmp_path / "Test.txt", 1.0, 20)


def test_the_darkest_polarity_of_a_published_event_is_0():
    found = nmnist.event([1, 2, 1], [0, 3, 0], [1, -1, 1], [0.0, 0.4, 2.6])
    assert found.p.tolist() == [2, 0, 2]
    assert found.toSpikeArray().nonzero()[0].tolist() == [0, 2, 2]
    one = nmnist.event([1], [0], [1], [0.0]).toSpikeTensor(np.zeros((2, 1, 2, 1), np.uint8))
    assert one[:, 0, 1, 0].tolist() == [1, 0]


def test_frames_are_shown_as_they_are_and_images_at_random():
    generator = torch.Generator().manual_seed(0)
    frames = (torch.rand(3, 5, 2, 8, 8, generator=generator) < 0.2).byte()
    assert torch.equal(train.shown(frames, 20, generator), frames.transpose(0, 1).float())
    gray = torch.full((2, 1, 40, 40), 51, dtype=torch.uint8)
    spikes = train.shown(gray, 20, generator)
    assert spikes.shape == (20, 2, 1, 40, 40)
    assert spikes.mean().item() == pytest.approx(0.2, abs=0.01)
    assert not torch.equal(spikes[0], spikes[1])


# ------------------------------------------------------------------------------------ the script

TRAIN, NOISE = "lisnn/train.py", "lisnn/noise_data.py"
# Digits by a fallback that every machine has; few steps are enough to go on from.
REPEATED = (TRAIN, "--quick", "--spike_window", 4, "--deterministic", "--threads", 1)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ((), "lateral_quick"),
        (("--no-lateral", "--noise", "salt_pepper", "--noise-level", 0.1, "--noise-in", "train"),
         "plain_salt_pepper-0.1-train_quick"),
    ],
)  # fmt: skip
def test_quick(options, name, scripts, tmp_path):
    done = scripts.call(train.main, "--quick", *options, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    result = scripts.assert_finished(tmp_path, ["curves", "noise"])
    assert result["experiment"] == f"brp_lisnn_{result['dataset']}_{name}"
    assert result["published"] is None  # of a few samples
    metrics = result["metrics"]
    assert next(iter(metrics)) == "test_accuracy_last"
    second = scripts.rows(tmp_path)[1]["test_accuracy"]
    assert metrics["test_accuracy_best_published_protocol"] == second
    for kind, level in noise_data.LEVELS.items():
        assert f"test_accuracy_last_{kind}_{level}_0.4" in metrics
    assert all(math.isfinite(value) for row in scripts.rows(tmp_path) for value in row.values())


def test_quick_on_recordings(scripts, offline, tmp_path):
    root = scripts.data_root()
    words = ("--dataset", "nmnist", "--quick", "--spike_window", 3, "--data-root", root)
    done = scripts.call(train.main, *words, "--out", tmp_path)
    if not (root / "nmnist_small.zip").is_file():
        scripts.assert_refused(done, "N-MNIST was not found")
        return
    assert done.returncode == 0, done.stderr
    result = scripts.assert_finished(tmp_path, ["curves"])
    assert result["experiment"] == "brp_lisnn_nmnist_small_lateral_spike-window-3_quick"
    assert not [name for name in result["metrics"] if "gaussian" in name]


def test_networks_are_compared_under_noise(scripts, undisturbed, tmp_path):
    for seed in (0, 1):
        folder = tmp_path / "brp_lisnn_toy" / f"seed{seed}"
        folder.mkdir(parents=True)
        shutil.copy(undisturbed / "result.json", folder)
    refused = scripts.call(compare.main, "--results", tmp_path)
    scripts.assert_refused(refused, "run lisnn/train.py first")
    done = scripts.run("lisnn/compare.py", "--results", tmp_path, "--quick")  # as users start it
    assert done.returncode == 0, done.stderr
    result = scripts.result(undisturbed)
    figure = tmp_path / "figures" / f"brp_lisnn_{result['dataset']}_noise.png"
    assert figure.stat().st_size > 5000
    (name, curves), *others = compare.noise_curves(load_results(tmp_path)).items()
    assert not others
    assert name == "lateral"
    metrics = result["metrics"]
    assert len(curves) == 2
    for seed in curves:
        assert seed["salt_pepper"][0] == metrics["test_accuracy_last_salt_pepper_amount_0"]
        assert seed["gaussian"][-1] == metrics["test_accuracy_last_gaussian_mean_0.4"]


def test_networks_that_words_do_not_tell_apart_keep_their_names(scripts, undisturbed, tmp_path):
    result = scripts.result(undisturbed)
    for name in ("brp_lisnn_toy_lateral", "brp_lisnn_toy_lateral_lr-0.01"):
        folder = tmp_path / name / "seed0"
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(json.dumps(result | {"experiment": name}))
    found = compare.noise_curves(load_results(tmp_path))
    assert list(found) == ["brp_lisnn_toy_lateral", "brp_lisnn_toy_lateral_lr-0.01"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_run_goes_on_bit_for_bit(number, scripts, undisturbed, tmp_path):
    # The last checkpoint may be there already when the signal comes: the noise curves follow it.
    scripts.assert_goes_on(
        undisturbed, tmp_path, number, *REPEATED, behind="checkpoint.pt", main=train.main
    )


def test_same_seed_gives_the_same_bytes_and_another_seed_does_not(scripts, undisturbed, tmp_path):
    weights = "lateral1.weight"
    scripts.assert_seed_decides(undisturbed, tmp_path, weights, *REPEATED, main=train.main)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--noise", "gaussian", "--noise-level", "inf"), "must be finite"),
        (("--noise", "gaussian", "--dataset", "nmnist"), "--noise is of images, which nmnist has"),
        (("--validation", 1), "--validation 1.0 must be 0 or above and below 1"),
        (("--noise", "salt_pepper", "--noise-level", 1.1), "must lie in [0, 1]"),
        (
            ("--noise-level", 0.1),
            "--noise-level is of noise: add --noise, or leave --noise-level out",
        ),
        (("--noise-in", "test"), "--noise-in is of noise: add --noise"),
        (("--spike_window", 0), "--spike-window 0 must be above 0"),
        (("--lr", "nan"), "--lr nan must be above 0 and finite"),
    ],
)
def test_bad_input_ends_with_one_sentence(options, words, monkeypatch):
    monkeypatch.setattr("sys.argv", ["train.py", "--quick", *map(str, options)])
    with pytest.raises(UserError) as refusal:
        train.main()
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_published_spellings_are_options():
    words = "-gpu 1 -epoch 3 -batch_size 50 -learning_rate 0.01 -dts Fashion-MNIST -seed 3154"
    found = [
        train.EXPERIMENT.parse([*words.split(), *more.split()])
        for more in ("-if_lateral False", "-if_lateral True", "")
    ]
    assert [settings.lateral for settings in found] == [False, True, True]
    settings = found[0]
    assert (settings.device, settings.epochs, settings.batch_size) == ("cuda:1", 3, 50)
    assert (settings.lr, settings.dataset, settings.seed) == (0.01, "FashionMNIST", 3154)
    assert train.EXPERIMENT.parse(["-dts", "NMNIST"]).dataset == "nmnist"
    assert train.EXPERIMENT.parse(["-dts", "MNIST"]).dataset == "MNIST"


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, 0.995),
        ({"seed": 3154}, 0.995),
        ({"validation": 0.1}, None),
        ({"lr": 1e-4}, None),
        ({"batch_size": 50}, None),
        ({"spike_window": 10}, None),
        ({"lateral": False}, None),
        ({"noise": "gaussian"}, None),
        ({"epochs": 99}, None),
    ],
)
def test_published_numbers_stand_beside_runs_as_published(changed, expected):
    settings = train.Settings(**{"validation": 0.0} | changed)
    found = train.published(settings, "mnist")
    assert found == (expected and {"test_accuracy_best_published_protocol": expected})
    assert train.published(settings, "mnist5k") is None


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("", "lateral"),
        ("--no-lateral --epochs 5", "plain_5-epochs"),
        ("--noise gaussian --noise-level 0.1 --lr 0.01", "lateral_gaussian-0.1-both_lr-0.01"),
        ("--quick --batch-size 7", "lateral_batch-size-7_quick"),
        ("--spike_window 9 --validation 0", "lateral_spike-window-9_validation-0.0"),
    ],
)
def test_names_tell_runs_apart(words, name):
    settings = train.EXPERIMENT.parse(words.split())
    assert train.EXPERIMENT.name(settings, "mnist") == f"brp_lisnn_mnist_{name}"


def test_the_best_published_test_is_of_every_second_epoch():
    accuracies = [0.9, 0.5, 0.8, 0.6, 0.7]
    rows = [{"epoch": i, "test_accuracy": value} for i, value in enumerate(accuracies, 1)]
    assert train.best_of_published_tests(rows) == 0.6
    assert train.best_of_published_tests(rows[:1]) is None


@pytest.mark.parametrize("words", [("-dts", "CIFAR"), ("-if_lateral", "maybe"), ("-gpu", "one")])
def test_published_spellings_of_what_there_is_not_are_refused(words, scripts):
    scripts.assert_refused(scripts.call(train.main, *words), words[1])


def test_nothing_is_held_out_where_nothing_is_to_be(scripts, tmp_path):
    options = ("--quick", "--validation", 0, "--spike_window", 2, "--out", tmp_path)
    done = scripts.call(train.main, *options)
    assert done.returncode == 0, done.stderr
    metrics = scripts.assert_finished(tmp_path, ["curves", "noise"])["metrics"]
    assert "test_accuracy_selected" not in metrics
    assert "validation_accuracy" not in scripts.rows(tmp_path)[0]


def test_weights_and_thresholds_come_from_different_streams(scripts, undisturbed):
    generator = torch.Generator()
    generator.set_state(scripts.state(undisturbed)["generator"])
    assert generator.initial_seed() != scripts.result(undisturbed)["seed"]


def test_bad_input_ends_with_code_2(scripts, tmp_path):
    done = scripts.call(train.main, "--batch-size", 0, "--out", tmp_path / "run")
    scripts.assert_refused(done, "--batch-size 0 must be above 0")
    assert not (tmp_path / "run").exists()
