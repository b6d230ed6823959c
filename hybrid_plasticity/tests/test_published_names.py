"""The published programs' files, classes, functions and options, over this package."""

import dataclasses
import importlib
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from hybrid_plasticity.distortion_program import Options, keep_best
from hybrid_plasticity.few_shot_learning.published import PublishedNet
from hybrid_plasticity.multitask_learning.published import PublishedTaskModel
from hybrid_plasticity.multitask_learning.shared_parameters import SETTINGS as MULTITASK
from hybrid_plasticity.networks import FullyConnected
from hybrid_plasticity.neuron import Neuron
from hybrid_plasticity.published import (
    PublishedFullyConnected,
    PublishedModel,
    Updates,
    load,
    lr_scheduler,
    paths,
    save,
    setup_seed,
)
from hybrid_plasticity.simple_example import model_gp, model_hp, model_lp
from hybrid_plasticity.tolerance_learning import model_gp as tolerance_gp
from hybrid_plasticity.tolerance_learning import model_hp as tolerance_hp
from hybrid_plasticity.trace import Hebbian
from hybrid_plasticity.training import squared_error
from shared.errors import UserError

MODELS = {
    "simple_hp": model_hp,
    "simple_gp": model_gp,
    "simple_lp": model_lp,
    "tolerance_hp": tolerance_hp,
    "tolerance_gp": tolerance_gp,
}


FOLDER = Path(os.environ.get("GOLDEN") or Path(__file__).parent / "golden")


def golden_of(case: str) -> dict[str, torch.Tensor]:
    with np.load(FOLDER / f"hp_{case}.npz", allow_pickle=False) as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


def check(found: torch.Tensor, expected: torch.Tensor, what: str = "") -> None:
    scale = float(expected.abs().max())
    torch.testing.assert_close(
        found.detach().to(expected.dtype), expected, rtol=1e-9, atol=1e-9 * scale, msg=what or None
    )


def fully_connected(golden, rule) -> FullyConnected:
    """A network of the vectors' size and constants, its weights and traces its own."""
    neuron = Neuron(float(golden["thresh"]), float(golden["decay"]))
    hebbian = Hebbian(float(golden["w_decay"]), limit=4.0)
    steps = int(golden["time_window"])
    return FullyConnected((784, 16, 10), neuron, hebbian, float(golden["tau_w"]), steps, rule)


def test_published_names(scripts):
    scripts.assert_published_names()


def parameters(golden) -> dict[str, torch.Tensor]:
    return {key[6:]: value for key, value in golden.items() if key.startswith("param/")}


# ------------------------------------------------------------------------------ fully connected


@pytest.mark.parametrize("case", MODELS)
def test_a_published_state_and_call_give_the_golden_numbers(case):
    golden = golden_of(case)
    model = PublishedFullyConnected(fully_connected(golden, case.rpartition("_")[2])).double()
    state = parameters(golden)
    model.load_state_dict(state)
    assert model.state_dict().keys() == state.keys()
    for name, value in state.items():
        assert torch.equal(model.state_dict()[name], value), name
    answer = model(
        input=golden["images"],
        hebb1=golden["hebb1"],
        hebb2=golden["hebb2"],
        wins=int(golden["time_window"]),
    )
    outputs, hidden, spikes, hebb1, hebb2, eta1, eta2 = answer
    check(outputs, golden["output"])
    check(hidden, golden["hidden_spike_count"])
    check(spikes, golden["output_spike_count"])
    check(hebb1, golden["hebb1_after"])
    check(hebb2, golden["hebb2_after"])
    assert not hebb1.requires_grad
    assert eta1 is model.eta1
    assert torch.norm(eta1, p=2) + torch.norm(eta2, p=2) > 0
    squared_error(outputs, golden["labels"]).backward()
    for key, value in golden.items():
        if key.startswith("grad/"):
            name, *kind = key[5:].split(".")
            own = getattr(model, name)
            check(getattr(own, kind[0]).grad if kind else own.grad, value, key)


@pytest.mark.parametrize("case", ["simple_hp", "simple_gp"])
def test_the_published_loop_over_steps_gives_the_golden_output(case):
    golden = golden_of(case)
    module = MODELS[case]
    update = getattr(module, "mem_update_plastic", None) or module.mem_update_nonplastic
    model = PublishedFullyConnected(fully_connected(golden, case[-2:])).double()
    model.load_state_dict(parameters(golden))
    x, hebb1, hebb2 = golden["images"].flatten(1), golden["hebb1"], golden["hebb2"]
    mem1 = spike1 = torch.zeros(6, 16, dtype=torch.float64)
    mem2 = spike2 = torch.zeros(6, 10, dtype=torch.float64)
    with torch.no_grad():
        for step in range(module.time_window):
            k = math.exp(-step / module.tau_w)
            mem1, spike1, hebb1 = update(
                model.fc1, model.alpha1, model.beta1, model.gamma1, model.eta1,
                x * k, spike1, mem1, hebb1,
            )  # fmt: skip
            mem2, spike2, hebb2 = update(
                model.fc2, model.alpha2, model.beta2, model.gamma2, model.eta2,
                spike1 * k, spike2, mem2, hebb2,
            )  # fmt: skip
    check((mem2 / module.thresh).clamp(max=1.1), golden["output"])
    check(hebb1, golden["hebb1_after"])


@pytest.mark.parametrize("case", MODELS)
def test_a_new_model_has_its_constants_drawn_and_learns_in_the_published_loop(case):
    setup_seed(111)
    model = MODELS[case].SNN_Model()
    if not case.endswith("gp"):
        for name in ("alpha1", "alpha2", "beta1", "eta2"):
            assert 0 < getattr(model, name).max() < 0.01
    base, local = model.parameter_split()
    weights = [*model.fc1.parameters(), *model.fc2.parameters()]
    assert {id(p) for p in base} == {id(p) for p in weights}
    assert len(local) == 8  # alpha, beta, eta and gamma of both layers
    optim_base, optim_local = torch.optim.Adam(base, lr=1e-3), torch.optim.Adam(local, lr=5e-4)
    hebb1, hebb2 = model.produce_hebb()
    assert (hebb1.shape, hebb2.shape) == ((784, 512), (512, 10))
    images, labels = (torch.rand(20, 1, 28, 28) > 0.9).float(), torch.arange(20) % 10
    losses = []
    for _ in range(12):
        optim_base.zero_grad()
        optim_local.zero_grad()
        outputs, _, _, hebb1, hebb2, _, _ = model(input=images, hebb1=hebb1, hebb2=hebb2)
        loss = squared_error(outputs, labels)
        loss.backward()
        optim_base.step()
        optim_local.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert hebb2.any() == (not case.endswith("gp"))


PROGRAM = """
{first_lines}
batch_size, num_epochs = 20, 2
criterion = nn.MSELoss()
setup_seed(111)
snn = SNN_Model().to(device)
param_base, param_local = snn.parameter_split()
optim_base = torch.optim.Adam(param_base, lr=gp_learning_rate)
optim_local = torch.optim.Adam(param_local, lr=lp_learning_rate)
images = torch.from_numpy((np.random.rand(batch_size, 1, 28, 28) > 0.9).astype("float32"))
labels = torch.arange(batch_size) % num_classes
hebb1, hebb2 = snn.produce_hebb()
losses, start = [], time.time()
for epoch in range(num_epochs):
    snn.train()
    for i in range(6):
        for i_update in range(num_updates):
            optim_base.zero_grad()
            outputs, spikes, _, hebb1, hebb2, eta1, eta2 = snn(
                input=images.to(device), hebb1=hebb1, hebb2=hebb2, wins=time_window
            )
            wanted = F.one_hot(labels, num_classes).float()
            loss = criterion(outputs.cpu(), wanted)
            loss.backward()
            optim_base.step()
        optim_local.step()
        optim_local.zero_grad()
        losses.append(loss.item())
    optim_base = lr_scheduler(optim_base, epoch, gp_learning_rate, 40)
assert math.isfinite(time.time() - start)
"""


@pytest.mark.parametrize(
    "first_lines",
    [
        "from hybrid_plasticity.simple_example.model_hp import *\n"
        "from hybrid_plasticity.simple_example.shared_parameters import *",
        "from hybrid_plasticity.tolerance_learning.model_gp import *",
    ],
)
def test_a_program_that_takes_all_its_names_from_the_model_trains(first_lines):
    names: dict[str, object] = {}
    exec(PROGRAM.format(first_lines=first_lines), names)
    losses = names["losses"]
    assert len(losses) == 12
    assert losses[-1] < losses[0]


def test_the_modules_have_the_published_constants():
    assert (tolerance_gp.w_decay, tolerance_hp.w_decay) == (0.8, 0.99)


# ---------------------------------------------------------------------------------- classifiers

CLASSIFIERS = {
    "mnist": ("hybrid_plasticity.classification.mnist.mnist_model", "SNN_Model"),
    "fashion_mnist": ("hybrid_plasticity.classification.fashion_mnist.fmnist_model", "SNN_Model"),
    "cifar10": ("hybrid_plasticity.classification.cifar10.cifar10_model", "SCNN"),
}


@pytest.mark.parametrize("case", CLASSIFIERS)
def test_a_published_classifier_gives_the_golden_numbers(case, monkeypatch):
    path, name = CLASSIFIERS[case]
    module, golden = importlib.import_module(path), golden_of(f"classification_{case}")
    state = parameters(golden)
    convs = [key for key in state if key.startswith("conv") and key.endswith("weight")]
    connected = [key for key in state if key.startswith("fc") and key.endswith("weight")]
    small = dataclasses.replace(
        module.WIRING,
        channels=tuple(len(state[key]) for key in sorted(convs)),
        hidden=tuple(len(state[key]) for key in sorted(connected)[:-1]),
    )
    monkeypatch.setattr(module, "WIRING", small)
    model = getattr(module, name)().double().eval()
    model.load_state_dict(state)
    plastic = small.plastic[0]
    zeros = model.produce_hebb()
    given = {f"hebb{k}": golden.get(f"hebb{k}", zeros[k - 1]) for k in (1, 2)}
    answer = model(golden["images"], **given)
    check(answer[0], golden["output"])
    traces = answer[2:4]
    check(traces[plastic - 1], golden[f"hebb{plastic}_after"])
    assert traces[2 - plastic] is given[f"hebb{3 - plastic}"]
    if case != "fashion_mnist":
        step = answer[4] if case == "mnist" else answer[1]
        assert step == golden["last_step"]


def test_mnist_s_forward_takes_steps_and_coding(monkeypatch):
    module = importlib.import_module(CLASSIFIERS["mnist"][0])
    monkeypatch.setattr(module, "WIRING", module.WIRING.scaled(1 / 32))
    model = module.SNN_Model().eval()
    hebb1, hebb2 = model.produce_hebb()
    images = torch.rand(2, 1, 28, 28)
    outputs, _, _, _, step = model(images, hebb1, hebb2, wins=4, coding="rate")
    assert step == 3
    assert set(outputs.unique().tolist()) <= {0.0, 0.25, 0.5, 0.75, 1.0}
    assert model.network.wiring == module.WIRING


# ---------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("case", ["tolerance_hp", "tolerance_gp"])
def test_files_that_a_published_program_saved_are_read_with_their_traces(case, tmp_path):
    golden = golden_of(case)
    weights, traces, _ = paths(tmp_path, "mlp_v1")
    torch.save(parameters(golden), weights)
    torch.save({f"hebb{k}": golden[f"hebb{k}"] for k in (1, 2)}, traces)
    network = fully_connected(golden, case[-2:]).double()
    load(PublishedModel(network), tmp_path, "mlp_v1")
    # And back: what `save` writes is what was read.
    save(PublishedModel(network), tmp_path / "again", "mlp_v1", 0.5)
    again, traces_again, spikes = paths(tmp_path / "again", "mlp_v1")
    written = torch.load(again, weights_only=True)
    assert written.keys() == parameters(golden).keys()
    for name in ("fc1.weight", "fc2.bias", *(["alpha1", "eta2"] if case[-2:] == "hp" else [])):
        assert torch.equal(written[name], golden[f"param/{name}"])
    if case[-2:] == "hp":
        assert torch.equal(torch.load(traces_again, weights_only=True)["hebb1"], golden["hebb1"])
    assert torch.load(spikes, weights_only=True) == 0.5
    check(network(golden["images"]).output, golden["output"])


def test_files_that_cannot_be_used(tmp_path):
    model = PublishedModel(fully_connected(golden_of("tolerance_hp"), "hp"))
    with pytest.raises(UserError, match=r"there is no .*mlp_v1.pth: name folder and beginning"):
        load(model, tmp_path, "mlp_v1")
    save(tolerance_hp.SNN_Model(), tmp_path, "mlp_v1", 0.1)
    with pytest.raises(UserError, match="hold another network"):
        load(model, tmp_path, "mlp_v1")
    paths(tmp_path, "mlp_v1")[1].write_bytes(b"traces")
    with pytest.raises(UserError, match="is damaged"):
        load(model, tmp_path, "mlp_v1")


def test_the_best_epoch_from_the_seventh_on_is_kept(tmp_path):
    network = fully_connected(golden_of("tolerance_hp"), "hp")
    options = Options(f=tmp_path / "kept", names="mlp_v1")
    accuracies = (0.9, 0.1, 0.1, 0.1, 0.1, 0.1, 0.5, 0.4, 0.6)
    rows = [{"test_accuracy": value, "test_spikes": float(i)} for i, value in enumerate(accuracies)]
    kept = []
    for n in range(1, len(rows) + 1):
        keep_best(options, network, rows[:n])
        spikes = paths(options.f, "mlp_v1")[2]
        kept.append(float(torch.load(spikes, weights_only=True)) if spikes.exists() else None)
    assert kept == [None] * 6 + [6.0, 6.0, 8.0]
    keep_best(Options(), network, rows)


# ------------------------------------------------------------------------------------ functions


def test_the_step_size_falls_behind_epochs_40_and_80():
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    sizes = []
    for epoch in range(83):
        sizes.append(optimizer.param_groups[0]["lr"])
        lr_scheduler(optimizer, epoch, 1.0, 40)
    assert [sizes[i] for i in (0, 1, 40, 41, 80, 81)] == pytest.approx([1, 1, 1, 0.1, 0.1, 0.01])


def test_the_surrogate_gradient_is_a_window_of_half_a_unit():
    x = torch.tensor([-0.6, -0.4, 0.0, 0.4, 0.6], requires_grad=True)
    spikes = model_hp.ActFun.apply(x)
    spikes.sum().backward()
    assert spikes.tolist() == [0, 0, 0, 1, 1]
    assert x.grad.tolist() == [0, 1, 1, 1, 0]


def test_a_step_without_a_trace_takes_convolutions():
    updates = Updates(model_hp.SETTINGS.neuron, model_hp.SETTINGS.hebbian)
    conv = torch.nn.Conv2d(1, 2, 3, padding=1)
    mem, spike = torch.rand(2, 2, 4, 4), torch.randint(2, (2, 2, 4, 4)).float()
    new, fired = updates.mem_update_nonplastic(conv, torch.rand(2, 1, 4, 4), spike, mem)
    assert torch.equal(fired, (new > 0.35).float())


# ------------------------------------------------------------------------ few-shot, multitask


@pytest.mark.parametrize("rule", ["hp", "gp"])
def test_a_published_few_shot_episode_gives_the_golden_numbers(rule):
    golden = golden_of(f"fewshot_{rule}")
    net = PublishedNet(rule, (6, 6, 6, 8)).double()
    net.load_state_dict(parameters(golden))
    output, hebb = net(golden["images"], golden["labels"], net.init_hebb())
    check(output, golden["output"])
    check(hebb, golden["hebb_after"])


@pytest.mark.parametrize("rule", ["hp", "gp"])
def test_a_published_multitask_model_gives_the_golden_numbers(rule):
    golden = golden_of(f"multitask_{rule}")
    settings = dataclasses.replace(MULTITASK, sizes=(784, 20, 18, 10))
    model = PublishedTaskModel(settings.network(rule)).double()
    state = parameters(golden)
    model.load_state_dict(state)
    assert model.state_dict().keys() == state.keys()
    masks = [golden[f"mask{k}"] for k in (1, 2, 3)]
    answer = model(golden["images"], *model.produce_hebb(), mask_dict=masks)
    check(answer[0], golden["output"])
    for k in (1, 2):
        check(answer[2 + k], golden[f"hebb{k}_after"])
    squared_error(answer[0], golden["labels"]).backward()
    for key, value in golden.items():
        if key.startswith("grad/"):
            name, *kind = key[5:].split(".")
            own = getattr(model, name)
            check(getattr(own, kind[0]).grad if kind else own.grad, value, key)
