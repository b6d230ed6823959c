"""Golden vectors: what the published programs compute on small inputs, in float64.

The environment variable GOLDEN names another folder of vectors with the same names and keys.
"""

import dataclasses
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from hybrid_plasticity import reference
from hybrid_plasticity.classification.cifar10.cifar10_model import WIRING as CIFAR10
from hybrid_plasticity.classification.fashion_mnist.fmnist_model import (
    WIRING as FASHION_MNIST,
)
from hybrid_plasticity.classification.mnist.mnist_model import WIRING as MNIST
from hybrid_plasticity.classification.network import Classifier
from hybrid_plasticity.classification.reference import PlainClassifier
from hybrid_plasticity.few_shot_learning.episodes import shrunk, standardized
from hybrid_plasticity.few_shot_learning.meta import loss_of
from hybrid_plasticity.few_shot_learning.network import HybridNet
from hybrid_plasticity.layer import PlasticLayer
from hybrid_plasticity.multitask_learning.masks import Mask
from hybrid_plasticity.multitask_learning.reference import plain_forward
from hybrid_plasticity.multitask_learning.shared_parameters import SETTINGS as MULTITASK
from hybrid_plasticity.networks import FullyConnected
from hybrid_plasticity.neuron import Neuron
from hybrid_plasticity.trace import Hebbian
from hybrid_plasticity.training import squared_error

FOLDER = Path(os.environ.get("GOLDEN") or Path(__file__).parent / "golden")


def load(name: str) -> dict[str, torch.Tensor]:
    with np.load(FOLDER / f"hp_{name}.npz", allow_pickle=False) as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


def check(found: torch.Tensor, expected: torch.Tensor, what: str = "") -> None:
    scale = float(expected.abs().max())
    torch.testing.assert_close(
        found.to(expected.dtype), expected, rtol=1e-9, atol=1e-9 * scale, msg=what or None
    )


def neuron(golden, **other) -> Neuron:
    return Neuron(float(golden["thresh"]), float(golden["decay"]), float(golden["lens"]), **other)


def value_at(model: torch.nn.Module, layers: dict[str, str], published: str) -> torch.Tensor:
    """Our parameter for a published name such as fc1.weight or alpha2.

    Args:
        model: our network.
        layers: our name of each published layer: fc1, fc2, conv1, ...
        published: the name.
    """
    if match := re.fullmatch(r"(alpha|beta|eta)(\d)", published):
        return model.get_parameter(f"{layers['fc' + match[2]]}.{match[1]}")
    layer, kind = published.split(".")
    path = layers[layer]
    inner = ".fc" if isinstance(model.get_submodule(path), PlasticLayer) else ""
    return model.get_parameter(f"{path}{inner}.{kind}")


def fill(model, layers, golden) -> None:
    """Give a network the published parameters; gamma is read by no published program."""
    for key, value in golden.items():
        name = key.removeprefix("param/")
        if name == key or name.startswith("gamma"):
            continue
        try:
            own = value_at(model, layers, name)
        except AttributeError:  # the trace's parts of a layer that has none
            assert name[:-1] in ("alpha", "beta", "eta"), name
            continue
        with torch.no_grad():
            own.copy_(value)


def check_gradients(model, layers, golden) -> None:
    names = [key.removeprefix("grad/") for key in golden if key.startswith("grad/")]
    assert names
    for name in names:
        gradient = value_at(model, layers, name).grad
        assert gradient is not None, name
        check(gradient, golden[f"grad/{name}"], name)


# --------------------------------------------------------------- simple example, fault tolerance


def fully_connected(golden, rule) -> FullyConnected:
    model = FullyConnected(
        (784, 16, 10),
        neuron(golden),
        Hebbian(float(golden["w_decay"]), limit=4.0),
        float(golden["tau_w"]),
        int(golden["time_window"]),
        rule,
    ).double()
    fill(model, {"fc1": "layers.0", "fc2": "layers.1"}, golden)
    for number, layer in enumerate(model.layers, 1):
        if layer.rule != "gp":
            layer.hebb = golden[f"hebb{number}"]
    return model


CASES = ("simple_hp", "simple_gp", "simple_lp", "tolerance_hp", "tolerance_gp")


@pytest.mark.parametrize("form", ["presentation", "steps", "plain"])
@pytest.mark.parametrize("case", CASES)
def test_fully_connected(case, form, monkeypatch):
    golden, rule = load(case), case.rpartition("_")[2]
    model = fully_connected(golden, rule)
    if form == "plain":
        response, traces = reference.fully_connected(model, golden["images"])
    else:
        if form == "steps":
            monkeypatch.setattr(PlasticLayer, "present", PlasticLayer._present_by_steps)
        response = model(golden["images"])
        traces = [getattr(layer, "hebb", None) for layer in model.layers]
    check(response.output, golden["output"])
    if rule != "lp":  # whose published program does not count them
        check(response.spike_counts[0], golden["hidden_spike_count"])
    check(response.spike_counts[1], golden["output_spike_count"])
    for number, trace in enumerate(traces, 1):
        if trace is not None:
            check(trace.detach(), golden[f"hebb{number}_after"])
        else:
            assert torch.equal(golden[f"hebb{number}"], golden[f"hebb{number}_after"])
    loss = squared_error(response.output, golden["labels"])
    check(loss.detach(), golden["loss"])
    loss.backward()
    check_gradients(model, {"fc1": "layers.0", "fc2": "layers.1"}, golden)


def test_test_batches_start_from_the_trained_trace():
    golden = load("simple_hp_test")
    model = fully_connected(golden, "hp").eval()
    started, carried = [], []
    with model.traces() as start_again, torch.no_grad():
        for images in golden["images"]:
            carried.append(model(images).output)
        for images in golden["images"]:
            start_again()
            started.append(model(images).output)
    check(torch.stack(started), golden["output_published_test"])
    check(torch.stack(carried), golden["output_if_carried"])


# ---------------------------------------------------------------------------- few-shot learning


@pytest.mark.parametrize("rule", ["hp", "gp"])
def test_few_shot(rule):
    golden = load(f"fewshot_{rule}")
    model = HybridNet(rule, 5, (6, 6, 6, 8)).double()
    model.load_state_dict(
        {key[6:]: value for key, value in golden.items() if key.startswith("param/")}
    )
    features = model.features(golden["images"])
    answer = model.classify(features, golden["labels"])
    check(answer.output, golden["output"])
    check(model.trace(features, answer.post)[0].detach(), golden["hebb_after"])
    loss = loss_of(answer.output, golden["target"])
    check(loss.detach(), golden["loss"])
    loss.backward()
    names = [key[5:] for key in golden if key.startswith("grad/")]
    assert set(names) >= {"alpha", "fc1.weight", "conv1.weight", "conv4.bias"}
    for name in names:
        check(model.get_parameter(name).grad, golden[f"grad/{name}"], name)


def test_few_shot_images():
    golden = load("fewshot_image")
    for drawing, image in zip(golden["drawing"], golden["image"], strict=True):
        pixels = torch.tensor(shrunk(drawing.numpy(), image.shape[-1]))
        check(standardized(pixels, torch.float64)[None], image)


# -------------------------------------------------------------------------------- classification


CLASSIFICATION = {"mnist": MNIST, "fashion_mnist": FASHION_MNIST, "cifar10": CIFAR10}


@pytest.mark.parametrize("kind", [Classifier, PlainClassifier])
@pytest.mark.parametrize("dataset", CLASSIFICATION)
def test_classification(dataset, kind):
    """The programs' own wirings, with the channels and neurons of the vectors."""
    golden = load(f"classification_{dataset}")
    wiring = CLASSIFICATION[dataset]
    convs = [golden[f"param/conv{i}.weight"] for i in range(1, len(wiring.channels) + 1)]
    connected = [golden[f"param/fc{i}.weight"] for i in range(1, len(wiring.hidden) + 2)]
    wiring = dataclasses.replace(
        wiring,
        channels=tuple(len(weight) for weight in convs),
        hidden=tuple(len(weight) for weight in connected[:-1]),
    )
    assert wiring.neuron == neuron(golden, reset=wiring.neuron.reset)
    assert wiring.hebbian.decay == golden["w_decay"]
    assert (wiring.tau_w, wiring.steps) == (golden["tau_w"], golden["time_window"])
    model = kind(wiring).double().eval()
    layers = {f"conv{i}": f"convs.{i - 1}" for i in range(1, len(convs) + 1)}
    layers |= {f"fc{i}": f"layers.{i - 1}" for i in range(1, len(connected) + 1)}
    fill(model, layers, golden)
    (plastic,), (number,) = model.plastic_layers(), wiring.plastic
    plastic.hebb = golden[f"hebb{number}"]
    response = model(golden["images"])
    check(response.output, golden["output"])
    check(plastic.hebb, golden[f"hebb{number}_after"])
    if "last_step" in golden:
        assert response.steps - 1 == golden["last_step"]
    loss = squared_error(response.output, golden["labels"])
    check(loss.detach(), golden["loss"])
    loss.backward()
    check_gradients(model, layers, golden)


# ------------------------------------------------------------------------------------ multitask


@pytest.mark.parametrize("form", ["fast", "plain", "outer products"])
@pytest.mark.parametrize("rule", ["hp", "gp"])
def test_multitask(rule, form):
    golden = load(f"multitask_{rule}")
    settings = dataclasses.replace(MULTITASK, sizes=(784, 20, 18, 10))
    assert (settings.theta, settings.decay) == (golden["thresh"], golden["decay"])
    assert (settings.w_decay, settings.tau_w) == (golden["w_decay"], golden["t_tau"])
    assert settings.steps == golden["time_window"]
    model = settings.network(rule).double()
    names = {"fc1.weight": "first.weight", "fc2.weight": "second.weight", "fc3.weight": "readout"}
    if rule == "hp":
        for name in ("alpha", "beta", "eta"):
            names |= {f"{name}1": f"first.{name}", f"{name}2": f"second.{name}"}
    with torch.no_grad():
        for published, own in names.items():
            model.get_parameter(own).copy_(golden[f"param/{published}"])
    masks = [golden[f"mask{i}"] for i in (1, 2, 3)]
    if form == "fast":
        entries = [Mask(mask.T.bool().contiguous(), torch.device("cpu")) for mask in masks]
        output = model(golden["images"].T.contiguous(), model.connections(entries))
    else:
        plain = plain_forward(model, golden["images"], masks, form == "outer products")
        for trace, number in zip(plain.traces, (1, 2), strict=True):
            check(trace.detach(), golden[f"hebb{number}_after"])
        output = plain.output
    check(output, golden["output"])
    loss = squared_error(output, golden["labels"])
    check(loss.detach(), golden["loss"])
    loss.backward()
    compared = [key[5:] for key in golden if key.startswith("grad/")]
    assert set(compared) >= {"fc1.weight", "fc2.weight", "fc3.weight"}
    for published in compared:
        gradient = model.get_parameter(names[published]).grad
        check(gradient, golden[f"grad/{published}"], published)
