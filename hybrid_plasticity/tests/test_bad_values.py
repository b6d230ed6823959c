"""Words that an argument does not know, and numbers that are none: refused in one sentence."""

import dataclasses
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from hybrid_plasticity import reference
from hybrid_plasticity.checks import NotFiniteError, check_inputs
from hybrid_plasticity.classification.mnist.mnist_model import WIRING
from hybrid_plasticity.classification.network import Classifier
from hybrid_plasticity.few_shot_learning.episodes import Characters
from hybrid_plasticity.few_shot_learning.network import HybridNet
from hybrid_plasticity.few_shot_learning.published import PlasticUpdate, PublishedNet
from hybrid_plasticity.few_shot_learning.reference import plastic_step
from hybrid_plasticity.layer import PlasticLayer
from hybrid_plasticity.multitask_learning.ewc import fisher_diagonal
from hybrid_plasticity.multitask_learning.masks import Mask
from hybrid_plasticity.multitask_learning.network import TaskNetwork
from hybrid_plasticity.multitask_learning.published import MaskedUpdates
from hybrid_plasticity.multitask_learning.shared_parameters import Method
from hybrid_plasticity.networks import FullyConnected
from hybrid_plasticity.neuron import Neuron
from hybrid_plasticity.simple_example.shared_parameters import SETTINGS
from hybrid_plasticity.trace import Hebbian
from hybrid_plasticity.training import evaluate, optimizers, squared_error, step_of, train_epoch
from shared.errors import UserError
from shared.tensors import Samples

NEURON, HEBBIAN = Neuron(0.35, 0.4), Hebbian(0.95, limit=4.0)
PIXELS = torch.zeros(3, 2, 4, 4, dtype=torch.uint8)


def connected(rule="hp", encoding="intensity", sizes=(12, 9, 4)):
    made = FullyConnected(sizes, NEURON, HEBBIAN, 40.0, 3, rule, encoding)
    made.draw_local(0.1)
    return made


def tasks_network(rule="hp"):
    return TaskNetwork((6, 5, 4, 10), NEURON, Hebbian(0.8), 50.0, 3, rule)


def evaluated(protocol):
    return evaluate(connected(), Samples(torch.rand(4, 12), torch.zeros(4).long()), 2, protocol)


def task_protocol(protocol):
    model = tasks_network()
    masks = [Mask(torch.rand(w.shape) < 0.5, torch.device("cpu")) for w in model.weights()]
    return model(torch.rand(6, 2), model.connections(masks), protocol)


@pytest.mark.parametrize(
    ("make", "name", "allowed"),
    [
        (lambda word: Neuron(0.3, 0.4, reset=word), "reset", "soft, hard, none"),
        (lambda word: Hebbian(0.9, post=word), "post", "tanh, identity"),
        (lambda word: PlasticLayer(3, 2, NEURON, HEBBIAN, word), "rule", "hp, gp, lp"),
        (connected, "rule", "hp, gp, lp"),
        (lambda word: connected(encoding=word), "encoding", "intensity, bernoulli"),
        (SETTINGS.network, "rule", "hp, gp, lp"),
        (evaluated, "protocol", "published, frozen, single, carried"),
        (lambda word: dataclasses.replace(WIRING, coding=word), "coding", "rank, rate"),
        (lambda word: dataclasses.replace(WIRING, output_reset=word), "output_reset", "soft"),
        (lambda word: Classifier(WIRING, word), "rule", "hp, gp"),
        (HybridNet, "rule", "hp, gp"),
        (PublishedNet, "rule", "hp, gp"),
        (PlasticUpdate, "rule", "hp, gp"),
        (lambda word: plastic_step(word, {}, *[torch.zeros(1)] * 5), "rule", "hp, gp"),
        (lambda word: Characters(PIXELS, 2, 1, word), "draw", "independent, distinct"),
        (tasks_network, "rule", "hp, gp"),
        (task_protocol, "protocol", "published, frozen, single"),
        (MaskedUpdates, "rule", "hp, gp"),
        (lambda word: Method("mine", rule=word), "rule", "hp, gp"),
        (
            lambda word: fisher_diagonal(tasks_network("gp"), None, False, None, 1, word),
            "kind",
            "sample, batch",
        ),
    ],
)
@pytest.mark.parametrize("word", ["GP", "zero", ""])
def test_words_are_checked(make, name, allowed, word):
    with pytest.raises(ValueError, match=f"^{name} must be one of {allowed}.*, not '{word}'"):
        make(word)


@pytest.mark.parametrize("make", [tasks_network, HybridNet, lambda rule: Classifier(WIRING, rule)])
def test_local_plasticity_is_no_rule_of_networks_that_do_not_have_it(make):
    with pytest.raises(ValueError, match="rule must be one of hp, gp, not 'lp'"):
        make("lp")


# ------------------------------------------------------------------------------- no numbers


def data(n=40, bad=None, value=math.nan):
    images = torch.rand(n, 12, generator=torch.Generator().manual_seed(0))
    if bad is not None:
        images[bad, 5] = value
    return Samples(images, torch.arange(n) % 4)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("rule", ["hp", "gp", "lp"])
def test_a_sample_that_is_no_number_is_named_before_it_is_learned(rule, value):
    model = connected(rule)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    samples = data(bad=17, value=value)
    with pytest.raises(UserError, match=r"^sample 17 of the inputs .* mend or leave out"):
        train_epoch(model, samples, 10, step_of(optimizers(model, 1e-3, 1e-3)), rule)
    with pytest.raises(UserError, match=r"^sample 17 of the inputs"):
        evaluate(model, samples, 10)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_integers_are_numbers():
    check_inputs(torch.zeros(3, 4, dtype=torch.uint8))


def test_a_layer_refuses_an_input_that_its_trace_would_keep():
    """Where a program shows batches itself: the loss stays finite, the trace would not."""
    model = connected()
    trace = model.layers[0].hebb
    samples = data(10, bad=3)
    images, labels = samples.inputs, samples.labels
    with torch.no_grad():
        plain, _ = reference.fully_connected(model, images)
        loss = squared_error(plain.output.nan_to_num(), labels)
    assert loss.isfinite()
    with pytest.raises(NotFiniteError, match="input of a plastic layer, its beta or its trace"):
        model(images)
    assert model.layers[0].hebb is trace


@pytest.mark.parametrize("name", ["layers.0.fc.weight", "layers.1.alpha", "layers.0.hebb"])
def test_parameters_and_traces_are_looked_at_once_an_epoch(name):
    model = connected(encoding="bernoulli")
    model.check_finite()

    def break_it():
        with torch.no_grad():
            model.state_dict()[name].flatten()[0] = math.nan

    samples = data()
    if name.endswith("hebb"):
        # Nothing reads the trace where alpha is 0: the loss stays finite.
        with torch.no_grad():
            for layer in model.plastic_layers():
                layer.alpha.zero_()
        with pytest.raises(UserError, match=f"^{name} holds a number that is not finite"):
            train_epoch(model, samples, 40, break_it, "hp")
    break_it()
    with pytest.raises(NotFiniteError, match=f"^{name} holds .* lower the step sizes"):
        model.check_finite()
    with pytest.raises(NotFiniteError, match=name):
        evaluate(model, samples, 10)


def test_the_check_is_one_sentence_and_a_value_error():
    with pytest.raises(ValueError, match="sample 0") as refusal:
        check_inputs(torch.tensor([[np.nan]]))
    assert isinstance(refusal.value, UserError)
    assert "\n" not in str(refusal.value)


def test_shapes_are_annotated_on_plain_arrays():
    """`Float[NDArray[...], "..."]` fails at import with newer numpy: NDArray[...] is no class."""
    folder = Path(reference.__file__).parent
    annotated = re.compile(r"\b(?:Float|Int|UInt8|Bool|Shaped)\[NDArray")
    files = [path for path in folder.rglob("*.py") if path != Path(__file__)]
    assert len(files) > 50
    assert [path for path in files if annotated.search(path.read_text())] == []
