"""Golden vectors: what the published program computes on small inputs, in float64.

The environment variable GOLDEN names another folder of vectors with the same names and keys.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from shifting_learning.Dataset import published_test_codes
from shifting_learning.network import Network, decide_latest, reward_error
from shifting_learning.reference import PlainLayer, PlainMultiInputLayer
from shifting_learning.SL_Layer import SNNLayer
from shifting_learning.SL_MultiInputLy import SNN_MInLy

FOLDER = Path(os.environ.get("GOLDEN") or Path(__file__).parent / "golden")
STEPS = range(3)


def load(name: str) -> dict[str, torch.Tensor]:
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


def check(found: torch.Tensor, expected: torch.Tensor) -> None:
    tolerance = 1e-9 if found.dtype == torch.float64 else 1e-4
    scale = float(expected.abs().max())
    torch.testing.assert_close(
        found.to(expected.dtype), expected, rtol=tolerance, atol=tolerance * scale
    )


@pytest.mark.parametrize("ties", ["event", "published"])
@pytest.mark.parametrize("layer_class", [SNNLayer, PlainLayer])
@pytest.mark.parametrize("name", ["dense", "mixed_sign", "silent"])
def test_layer(name, layer_class, ties):
    golden = load(f"sl_layer_{name}")
    layer = layer_class(*golden["e_ts"].shape, golden["e_ts"], golden["e_tp"], ties=ties)
    for step in STEPS:
        z_in, delta = golden[f"z_in_{step}"], golden[f"delta_{step}"]
        bs = len(z_in)
        z_out = layer.forward(bs, z_in, dv=torch.device("cpu"))
        check(z_out, golden[f"z_out_{step}"])
        assert torch.equal(layer.cause_mask, golden[f"cause_mask_{step}"].bool())
        check(layer.pass_delta(bs, delta), golden[f"delta_in_{step}"])
        layer.backward(bs, delta, z_in, z_out, float(golden["lr_ets"]), float(golden["lr_etp"]))
        check(layer.e_ts.data, golden[f"e_ts_after_{step}"])
        check(layer.e_tp.data, golden[f"e_tp_after_{step}"])


@pytest.mark.parametrize("name", ["dense", "mixed_sign", "silent"])
def test_layer_in_float32(name):
    golden = {key: value.float() for key, value in load(f"sl_layer_{name}").items()}
    layer = SNNLayer(*golden["e_ts"].shape, golden["e_ts"], golden["e_tp"])
    z_out = layer(golden["z_in_0"])
    assert z_out.dtype == torch.float32
    check(z_out, golden["z_out_0"].double())
    check(layer.feedback(golden["delta_0"]), golden["delta_in_0"].double())


@pytest.mark.parametrize("ties", ["event", "published"])
@pytest.mark.parametrize("layer_class", [SNN_MInLy, PlainMultiInputLayer])
def test_multi_input_layer(layer_class, ties):
    golden = load("sl_multi_input_layer")
    layer = layer_class(*golden["e_ts"].shape, golden["e_ts"], ties=ties)
    for step in STEPS:
        times, delta = golden[f"spike_times_{step}"], golden[f"delta_{step}"][None]
        synapse = golden[f"synapse_{step}"]
        z_out = layer.forward(times, synapse, dv=torch.device("cpu"))
        check(z_out, golden[f"z_out_{step}"])
        assert torch.equal(layer.cause_mask, golden[f"cause_mask_{step}"].bool())
        layer.backward(
            delta, times, synapse, z_out, float(golden["lr_ets"]), float(golden["lr_etp"])
        )
        check(layer.e_ts.data, golden[f"e_ts_after_{step}"])
        check(layer.e_tp.data, golden[f"e_tp_after_{step}"])


def test_published_test_of_mnist():
    golden = load("sl_mnist_published_test")
    z_in = published_test_codes(golden["intensities"])
    check(z_in, golden["z_in"])
    network = Network(
        *(
            SNNLayer(*golden[key].shape, golden[key], ties="published")
            for key in ("e_ts_1", "e_ts_2")
        )
    )
    z_out = network(z_in)
    check(z_out, golden["z_out"])
    assert torch.equal(decide_latest(z_out), golden["decision"])


def test_step_of_temporal_credit_assignment():
    golden = load("sl_tca_step")
    options = {"rule": "published-tca", "ties": "published"}
    first = SNN_MInLy(*golden["e_ts_1"].shape, golden["e_ts_1"], golden["e_tp_1"], **options)
    last = SNNLayer(*golden["e_ts_2"].shape, golden["e_ts_2"], golden["e_tp_2"], **options)
    network = Network(first, last)
    z_out = network(golden["spike_times"], golden["synapse"])
    check(z_out, golden["z_2"])
    delta = reward_error(z_out, golden["target"][None], "published")
    check(delta / last.spikes.divisor, golden["delta_2"])
    check(last.feedback(delta) / first.spikes.divisor, golden["delta_1"])
    network.learn(delta, float(golden["lr_ets"]), float(golden["lr_etp"]))
    for number, layer in enumerate((first, last), start=1):
        check(layer.e_ts.data, golden[f"e_ts_{number}_after"])
        check(layer.e_tp.data, golden[f"e_tp_{number}_after"].flatten())


def test_xor_training():
    golden = load("sl_xor_training")
    network = Network(
        SNNLayer(2, 8, golden["e_ts1"], ties="published"),
        SNNLayer(8, 2, golden["e_ts2"], ties="published"),
    )
    for expected in golden["error"]:
        z_out = network(golden["z_in"])
        delta = reward_error(z_out, golden["labels"], "published")
        check(delta.square().sum(), expected)
        network.learn(delta, float(golden["lr_ets"]), float(golden["lr_etp"]))
    check(z_out, golden["z_out_last"])
    for number, layer in enumerate(network.layers, start=1):
        check(layer.e_ts.data, golden[f"e_ts{number}_after"])
        check(layer.e_tp.data, golden[f"e_tp{number}_after"])
