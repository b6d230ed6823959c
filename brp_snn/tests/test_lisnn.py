"""LISNN: the network against the plain per-step form, noise, frames, the program."""

import math
import shutil
import signal

import numpy as np
import pytest
import torch
from torch.nn import functional

from brp_snn.lisnn import _kernels, compare, nmnist, noise_data, train
from brp_snn.lisnn.LISNN import LISNN
from brp_snn.lisnn.train import Shown
from brp_snn.models import Neuron, mem_update
from shared import datasets
from shared.datasets import EventPart, Events, EventSet, Recordings
from shared.device import torch_device
from shared.errors import UserError
from shared.report import load_results


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    # Networks as small as these wait longer for a second thread than they work.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def plain_output(network, spikes, neuron):
    """The readout, all layers a step at a time, with autograd through everything."""
    convolutions, connected = list(network.convolutions), list(network.connected)
    states = [(0.0, None)] * (len(convolutions) + len(connected))
    outputs = []
    for x in spikes:
        for i, layer in enumerate(convolutions + connected):
            current = layer.conv(x) if i < 2 else layer.fc(x.flatten(1))
            potential, last = states[i]
            if last is None:
                potential = last = torch.zeros_like(current)
            if i < 2 and layer.lateral is not None:
                current = current + layer.lateral(last)
            states[i] = mem_update(torch.nn.Identity(), current, potential, last, neuron=neuron)
            x = functional.avg_pool2d(states[i][1], 2) if i < 2 else states[i][1]
        outputs.append(x)
    return torch.stack(outputs).mean(0)


def lively(shape, lateral, *, maps=4, kernel=5, seed=0, neuron=Neuron()):
    """A network in float64 with weights so large that all layers spike."""
    torch.manual_seed(seed)
    network = LISNN(shape, maps, lateral, kernel, neuron).double()
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
    [((1, 8, 8), 5, 7, 3), ((2, 9, 11), 3, 4, 2), ((1, 4, 6), 7, 1, 1)],
)
def test_outputs_and_gradients_equal_the_plain_formulation(
    shape, kernel, steps, batch, lateral, by_torch, monkeypatch
):
    if by_torch:  # what other devices than the CPU do
        monkeypatch.setattr(_kernels, "integrate", _kernels.integrate_by_torch)
        monkeypatch.setattr(_kernels, "chain", _kernels.chain_by_torch)
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
    network = LISNN((1, 28, 28))
    shapes = {name: tuple(value.shape) for name, value in network.named_parameters()}
    assert shapes == {
        "convolutions.0.conv.weight": (32, 1, 3, 3),
        "convolutions.0.conv.bias": (32,),
        "convolutions.0.lateral.weight": (32, 1, 5, 5),
        "convolutions.1.conv.weight": (32, 32, 3, 3),
        "convolutions.1.conv.bias": (32,),
        "convolutions.1.lateral.weight": (32, 1, 5, 5),
        "connected.0.fc.weight": (128, 32 * 7 * 7),
        "connected.0.fc.bias": (128,),
        "connected.1.fc.weight": (10, 128),
        "connected.1.fc.bias": (10,),
    }
    assert LISNN((2, 36, 36), maps=64).connected[0].fc.in_features == 64 * 9 * 9


def test_lateral_off_is_a_network_without_its_weights():
    spikes = random_spikes(6, 3, (1, 8, 8))
    on, off = lively((1, 8, 8), True), lively((1, 8, 8), False)
    assert set(on.state_dict()) - set(off.state_dict()) == {
        f"convolutions.{i}.lateral.weight" for i in (0, 1)
    }
    on.load_state_dict(off.state_dict(), strict=False)
    with torch.no_grad():
        assert not torch.equal(on(spikes), off(spikes))
        for layer in on.convolutions:
            layer.lateral.weight.zero_()
        assert torch.equal(on(spikes), off(spikes))


@pytest.mark.parametrize("lateral", [True, False])
def test_two_steps_lower_the_loss_with_finite_gradients(lateral):
    network = lively((1, 8, 8), lateral, maps=16)
    spikes = random_spikes(20, 10, (1, 8, 8))
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    target = torch.eye(10, dtype=torch.float64)
    losses = []
    for _ in range(3):
        loss = functional.mse_loss(network(spikes), target)
        optimiser.zero_grad()
        loss.backward()
        assert all(value.grad.isfinite().all() for value in network.parameters())
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] > losses[1] > losses[2]


def test_a_membranes_gradient_can_be_had_once():
    network = lively((1, 8, 8), True)
    total = network(random_spikes(4, 1, (1, 8, 8))).sum()
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="once only"):
        total.backward()


def test_samples_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="takes"):
        LISNN((1, 8, 8), 4)(torch.zeros(2, 1, 1, 8, 9))
    with pytest.raises(UserError, match="too small"):
        LISNN((1, 3, 8))
    with pytest.raises(ValueError, match="no middle"):
        LISNN((1, 8, 8), lateral_kernel=4)


# ----------------------------------------------------------------------------------------- noise


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_gaussian_noise_has_its_deviation_and_stays_in_range():
    grey = torch.full((400, 400), 0.5)
    noise = noise_data.gaussian(grey, 0.05, seeded()) - grey
    assert noise.mean().abs() < 5 * 0.05 / 400
    assert noise.std().item() == pytest.approx(0.05, rel=0.02)
    loud = noise_data.gaussian(grey, 2.0, seeded())
    assert loud.min() == 0
    assert loud.max() == 1
    assert (grey == 0.5).all()


def test_salt_and_pepper_replaces_its_share_half_and_half():
    grey = torch.full((400, 400), 0.5)
    found = noise_data.salt_and_pepper(grey, 0.3, seeded())
    for value, share in ((0, 0.15), (1, 0.15), (0.5, 0.7)):
        tolerance = 5 * math.sqrt(share * (1 - share)) / 400
        assert (found == value).float().mean().item() == pytest.approx(share, abs=tolerance)


def test_frames_flip_instead():
    frames = torch.zeros(400, 400)
    frames[:100] = 1
    changed = noise_data.noisy(frames, "salt_pepper", 0.3, seeded(), frames=True) != frames
    for part in (changed[:100], changed[100:]):
        assert part.float().mean().item() == pytest.approx(0.3, abs=0.015)
    assert torch.equal(noise_data.flipped(frames, 1.0, seeded()), 1 - frames)


@pytest.mark.parametrize("kind", noise_data.KINDS)
def test_noise_comes_from_its_generator_and_level_0_is_none(kind):
    images = torch.rand(3, 1, 8, 8, generator=seeded())
    one, same, other = (noise_data.noisy(images, kind, 0.2, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    generator = seeded(1)
    before = generator.get_state()
    assert torch.equal(noise_data.noisy(images, kind, 0, generator), images)
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize(
    ("kind", "level", "words"),
    [
        ("gaussian", -0.1, "--noise-level -0.1: a standard deviation .* must be 0 or above"),
        ("gaussian", math.inf, "--noise-level inf"),
        ("gaussian", math.nan, "--noise-level nan"),
        ("salt_pepper", 1.5, r"--noise-level 1.5: a share .* must lie in \[0, 1\]"),
        ("salt_pepper", -0.5, "--noise-level -0.5"),
        ("salt_pepper", math.nan, "--noise-level nan"),
        ("speckle", 0.1, "no noise is called 'speckle': choose from gaussian, salt_pepper"),
    ],
)
def test_noise_that_there_is_not_is_one_sentence(kind, level, words):
    with pytest.raises(UserError, match=words) as refusal:
        noise_data.noisy(torch.zeros(2, 2), kind, level, seeded())
    assert "\n" not in str(refusal.value)


# ---------------------------------------------------------------------------------------- frames


def test_recordings_become_frames_with_a_border(monkeypatch):
    times = np.array([0, 99_999, 199_999])
    events = Events(np.array([0, 33, 5]), np.array([0, 2, 6]), np.array([0, 1, 1]), times)
    part = EventPart(Recordings(range(5), lambda index: events), np.arange(5))
    found = EventSet("three", part, part, part, 34, 34, 10)
    monkeypatch.setattr(datasets, "load_nmnist", lambda root: found)
    data = nmnist.load(None, 4, first=2)
    assert (data.name, data.n_classes) == ("three", 10)
    assert data.train.inputs.shape == (2, 4, 2, 36, 36)
    assert data.test.labels.tolist() == [0, 1]
    pixels = [[0, 0, 1, 1], [1, 1, 3, 34], [3, 1, 7, 6]]
    assert np.argwhere(data.validation.inputs[1]).tolist() == pixels


def test_frames_are_shown_as_they_are_and_images_at_random():
    frames = (torch.rand(3, 5, 2, 8, 8, generator=seeded()) < 0.2).byte()
    assert torch.equal(Shown(5)(frames, seeded()), frames.transpose(0, 1).float())
    for kind in noise_data.KINDS:
        spikes = Shown(5, kind, 0.3)(frames, seeded())
        assert spikes.unique().tolist() == [0, 1]
        assert not torch.equal(spikes, frames.transpose(0, 1).float())
    grey = torch.full((2, 1, 40, 40), 51, dtype=torch.uint8)
    spikes = Shown(20)(grey, seeded())
    assert spikes.shape == (20, 2, 1, 40, 40)
    assert spikes.mean().item() == pytest.approx(0.2, abs=0.01)
    assert not torch.equal(spikes[0], spikes[1])


# ------------------------------------------------------------------------------------ the script

TRAIN = "lisnn/train.py"
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
    done = scripts.run(TRAIN, "--quick", *options, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    result = scripts.assert_finished(tmp_path, ["curves", "noise"])
    assert result["experiment"] == f"brp_lisnn_{result['dataset']}_{name}"
    assert result["published"] is None  # of a few samples
    metrics = result["metrics"]
    assert next(iter(metrics)) == "test_accuracy_last"
    best = max(row["test_accuracy"] for row in scripts.rows(tmp_path))
    assert metrics["test_accuracy_best_published_protocol"] == best
    for kind in noise_data.KINDS:  # no noise is what the test of the last epoch had
        assert metrics[f"test_accuracy_last_{kind}_0"] == metrics["test_accuracy_last"]
        assert f"test_accuracy_last_{kind}_0.4" in metrics
    assert all(math.isfinite(value) for row in scripts.rows(tmp_path) for value in row.values())


def test_quick_on_recordings(scripts, tmp_path):
    root = scripts.data_root()
    words = ("--dataset", "nmnist", "--quick", "--spike_window", 3, "--data-root", root)
    done = scripts.run_offline(TRAIN, *words, "--out", tmp_path)
    if not (root / "nmnist_small.zip").is_file():
        scripts.assert_refused(done, "N-MNIST was not found")
        return
    assert done.returncode == 0, done.stderr
    result = scripts.assert_finished(tmp_path, ["curves", "noise"])
    assert result["experiment"] == "brp_lisnn_nmnist_small_lateral_quick"


def test_networks_are_compared_under_noise(scripts, undisturbed, tmp_path):
    compare_ = ("lisnn/compare.py", "--results", tmp_path)
    for seed in (0, 1):
        folder = tmp_path / "brp_lisnn_toy" / f"seed{seed}"
        folder.mkdir(parents=True)
        shutil.copy(undisturbed / "result.json", folder)
    scripts.assert_refused(scripts.run(*compare_), "run lisnn/train.py first")
    done = scripts.run(*compare_, "--quick")
    assert done.returncode == 0, done.stderr
    result = scripts.result(undisturbed)
    figure = tmp_path / "figures" / f"brp_lisnn_{result['dataset']}_noise.png"
    assert figure.stat().st_size > 5000
    (name, curves), *others = compare.noise_curves(load_results(tmp_path)).items()
    assert not others
    assert name == f"{result['experiment']} (2)"
    assert curves["gaussian"][0] == pytest.approx(result["metrics"]["test_accuracy_last"])
    assert curves["salt_pepper"][-1] == pytest.approx(
        result["metrics"]["test_accuracy_last_salt_pepper_0.4"]
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_run_goes_on_bit_for_bit(number, scripts, undisturbed, tmp_path):
    # The last checkpoint may be there already when the signal comes: the noise curves follow it.
    scripts.assert_goes_on(undisturbed, tmp_path, number, *REPEATED, behind="checkpoint.pt")


def test_same_seed_gives_the_same_bytes_and_another_seed_does_not(scripts, undisturbed, tmp_path):
    weights = "convolutions.0.lateral.weight"
    scripts.assert_seed_decides(undisturbed, tmp_path, weights, *REPEATED)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--noise", "gaussian", "--noise-level", -1), "must be 0 or above"),
        (("--noise", "salt_pepper", "--noise-level", 1.1), "must lie in [0, 1]"),
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


def test_bad_input_ends_with_code_2(scripts, tmp_path):
    done = scripts.run(TRAIN, "--batch-size", 0, "--out", tmp_path / "run")
    scripts.assert_refused(done, "--batch-size 0 must be above 0")
    assert not (tmp_path / "run").exists()
