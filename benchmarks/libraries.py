"""LIF neurons of snnTorch and SpikingJelly with our dynamics, for the sides that are theirs.

One of them that is not installed is left out by name; `nox -s bench` installs both.
"""

import importlib.metadata
import importlib.util
from collections.abc import Callable

import torch
from torch import Tensor, nn

PEERS = ("snntorch", "spikingjelly")
MISSING = tuple(name for name in PEERS if importlib.util.find_spec(name) is None)
if "snntorch" not in MISSING:
    import snntorch
if "spikingjelly" not in MISSING:
    from spikingjelly.activation_based import functional as sj
    from spikingjelly.activation_based import neuron as sj_neuron

Surrogate = Callable[[Tensor], Tensor]
"""Spikes from potential minus threshold, with a derivative of its own."""


def leaky(decay: float, theta: Tensor | float, surrogate: Surrogate, *, learns: bool) -> nn.Module:
    """A neuron of snnTorch, one step a call, whose gradient leaves the reset out.

    Args:
        decay: share of the potential that a step leaves.
        theta: threshold, one or one a neuron.
        surrogate: gives the spikes.
        learns: the threshold is a parameter.
    """
    return snntorch.Leaky(
        beta=decay,
        threshold=theta,
        learn_threshold=learns,
        reset_mechanism="zero",
        spike_grad=surrogate,
    )


def lif_node(decay: float, theta: float, surrogate: Surrogate) -> nn.Module:
    """A neuron of SpikingJelly, all steps at once; arguments as in `leaky`."""
    return sj_neuron.LIFNode(
        tau=1 / (1 - decay),
        decay_input=False,
        v_threshold=theta,
        v_reset=0.0,
        surrogate_function=surrogate,
        detach_reset=False,
        step_mode="m",
    )


def fastest_backend(device: torch.device, module: nn.Module) -> str:
    """Let SpikingJelly's neurons use the fastest backend that there is; its name."""
    if device.type != "cuda":
        return "torch"
    for backend in ("triton", "cupy"):
        try:
            sj.set_backend(module, backend)
        except (ImportError, NotImplementedError, ValueError, AssertionError, AttributeError):
            continue
        return backend
    return "torch"


def peers() -> dict[str, str]:
    """Versions of those that are there; says which were left out."""
    for name in MISSING:
        print(f"{name} is not installed and was left out; nox -s bench installs it")
    return {name: importlib.metadata.version(name) for name in PEERS if name not in MISSING}
