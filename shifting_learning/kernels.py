"""The four operations of shifting learning, on the CPU (numba) and on CUDA (Triton).

A spike at time t has the code z = exp(t). For a neuron with exponential shifting timings s_i
(they act as weights) and threshold 1, every prefix C of the inputs in the order of their codes has

    S(C) = sum_{i in C} s_i,     u(C) = sum_{i in C} s_i z_i / (S(C) - 1)

and is admissible where S(C) >= 1 and u(C) >= the code of C's last input. The neuron's spike code is
the smallest admissible u(C), or `SILENT` where there is none; that C is its causal set.

Inputs of one time are one event: a prefix holds all of them or none. The result then does not
depend on how a sort orders equal codes, and all running sums are float64, since float32 sums flip
causal sets where many inputs share one time. The published program looks at every single prefix and
sums in the type of the timings; `reference.py` holds that formulation. Both find the same causal
sets where no two codes are equal, and where equal codes meet timings of one sign.
`sort_codes_apart` and `set_apart` make every input an event of its own: the published search.

A causal set is stored as the code of its last event (`cause`): input i belongs to it where
z_i <= cause.

Leading dimension: N trials, N = networks x batch; trial n belongs to network n // batch, so that
many small networks train at once.
"""

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from shared.device import share_threads
from shifting_learning import _kernels_cpu

SILENT: float = _kernels_cpu.SILENT


class Events(NamedTuple):
    """Input spikes of N trials, sorted by code within each trial.

    Attributes:
        codes: codes z = exp(t) of all spikes, float, shape [K].
        synapse: synapse of each spike, int32, shape [K].
        start, stop: trial n owns spikes start[n] to stop[n] - 1, int64, shape [N].
        rest: code at which every synapse without a listed spike fires, once; inf where none does.
            float64, shape [N].
    """

    codes: Float[Tensor, " K"]
    synapse: Int[Tensor, " K"]
    start: Int[Tensor, " N"]
    stop: Int[Tensor, " N"]
    rest: Float[Tensor, " N"]


class Spikes(NamedTuple):
    """Output spikes of N trials.

    Attributes:
        u: spike codes, `SILENT` for silent neurons, shape [N, out].
        cause: code of the causal set's last event, -inf for silent neurons, float64, [N, out].
        divisor: S(C) - 1 of the causal set, clamped to [1e-10, 1e10]; inf for silent neurons,
            [N, out].
    """

    u: Float[Tensor, "N out"]
    cause: Float[Tensor, "N out"]
    divisor: Float[Tensor, "N out"]


def sort_codes(z: Float[Tensor, "N in"]) -> Events:
    """Sort the input codes of one-spike trials into events.

    Args:
        z: input codes, float32 or float64, shape [N, in].

    Returns:
        The sorted spikes. Inputs of the latest time are left out into `rest` where they are at
        least half of a trial's inputs.
    """
    if z.is_cuda:
        return Events(*_cuda().sort_codes(z))
    return Events(*_on_cpu(_kernels_cpu.sort_codes, z))


def sort_codes_apart(z: Float[Tensor, "N in"]) -> tuple[Events, Float[Tensor, "N in"]]:
    """Sort the input codes of one-spike trials; inputs of one time are events of their own.

    Equal codes are set apart by one unit in the last place of a float64 each, in the order of the
    inputs, so that a prefix may end at every one of them.

    Args:
        z: input codes, float32 or float64, shape [N, in].

    Returns:
        The sorted spikes, and the codes set apart in the order of the inputs, float64.
    """
    n_trials, n_in = z.shape
    codes, order = z.double().sort(dim=1, stable=True)
    codes = set_apart(codes)
    start = torch.arange(n_trials, device=z.device) * n_in
    rest = codes.new_full((n_trials,), torch.inf)
    events = Events(codes.flatten(), order.int().flatten(), start, start + n_in, rest)
    return events, torch.empty_like(codes).scatter_(1, order, codes)


def set_apart(codes: Float[Tensor, "*trials K"]) -> Float[Tensor, "*trials K"]:
    """Sorted float64 codes, the k-th of several equal ones moved by k units in the last place.

    Distinct codes come from distinct floats of the data, which hundreds of such units do not bridge
    in float32; in float64 codes as close as that have no meaning.
    """
    at = torch.arange(codes.shape[-1], device=codes.device).expand(codes.shape)
    is_first = torch.ones_like(at, dtype=torch.bool)
    is_first[..., 1:] = codes[..., 1:] > codes[..., :-1]
    place = at - torch.where(is_first, at, 0).cummax(dim=-1).values
    return codes * (1 + place.double() * torch.finfo(torch.float64).eps)


def find_spikes(events: Events, e_ts: Float[Tensor, "networks in out"]) -> Spikes:
    """Find every neuron's spike code and causal set.

    Args:
        events: N trials, N a multiple of the number of networks.
        e_ts: exponential shifting timings, shape [networks, in, out].

    Returns:
        Codes and divisors in the type of `e_ts`, causes in float64.
    """
    if e_ts.is_cuda:
        return Spikes(*_cuda().find_spikes(*events, e_ts))
    return Spikes(*_on_cpu(_kernels_cpu.find_spikes, *events, e_ts))


@torch.library.custom_op("shifting_learning::codes_of_spikes", mutates_args=())
def codes_of_spikes(z: Tensor, e_ts: Tensor, apart: bool) -> tuple[Tensor, Tensor]:
    """`find_spikes` of one-spike trials as one operation, for `torch.export`.

    Args:
        z: input codes, shape [N, in].
        e_ts: exponential shifting timings, shape [networks, in, out].
        apart: whether inputs of one time are events of their own.

    Returns:
        Spike codes and divisors, shape [N, out]; see `Spikes`.
    """
    events = sort_codes_apart(z)[0] if apart else sort_codes(z)
    found = find_spikes(events, e_ts)
    return found.u, found.divisor


@codes_of_spikes.register_fake
def _(z: Tensor, e_ts: Tensor, apart: bool) -> tuple[Tensor, Tensor]:
    u = e_ts.new_empty(z.shape[0], e_ts.shape[-1])
    return u, torch.empty_like(u)


def timing_gradient(
    events: Events,
    a: Float[Tensor, "N out"],
    z_out: Float[Tensor, "N out"],
    cause: Float[Tensor, "N out"],
    n_nets: int,
    n_in: int,
) -> Float[Tensor, "networks in out"]:
    """Sum a_j (z_i - z_j) over the batch and, where a synapse spikes often, over its causal spikes.

    Args:
        events: N trials.
        a: factor of each output, shape [N, out].
        z_out: output codes, shape [N, out].
        cause: causal codes of `find_spikes`, float64, shape [N, out].
        n_nets: number of networks; trials are split evenly among them, in order.
        n_in: number of synapses of each neuron.

    Returns:
        The sums, in the type of `a`, shape [networks, in, out].
    """
    if a.is_cuda:
        gradient: Tensor = _cuda().timing_gradient(*events, a, z_out, cause, n_nets, n_in)
        return gradient
    return _on_cpu(_kernels_cpu.timing_gradient, *events, a, z_out, cause, n_nets, n_in)[0]


def feedback(
    z_in: Float[Tensor, "N in"],
    cause: Float[Tensor, "N out"],
    d: Float[Tensor, "N out"],
    e_ts: Float[Tensor, "networks in out"],
) -> Float[Tensor, "N in"]:
    """Send errors back along the causal synapses: d_i = sum_j d_j m_ij s_ij.

    Args:
        z_in: input codes, shape [N, in].
        cause: causal codes of `find_spikes`, float64, shape [N, out].
        d: errors of the outputs, shape [N, out].
        e_ts: exponential shifting timings, shape [networks, in, out].

    Returns:
        Errors of the inputs in the type of `e_ts`, shape [N, in].
    """
    if e_ts.is_cuda:
        d_in: Tensor = _cuda().feedback(z_in, cause, d, e_ts)
        return d_in
    return _on_cpu(_kernels_cpu.feedback, z_in, cause, d, e_ts)[0]


def _on_cpu(kernel: Callable[..., Any], *arguments: Tensor | int) -> tuple[Tensor, ...]:
    """Run a numba kernel on tensors' memory, on as many threads as torch uses."""
    share_threads()
    found = kernel(
        *(x.detach().contiguous().numpy() if isinstance(x, Tensor) else x for x in arguments)
    )
    return tuple(torch.from_numpy(x) for x in (found if isinstance(found, tuple) else (found,)))


def _cuda() -> ModuleType:
    # Imported late: Triton is there on Linux only, and only GPU users need it.
    return importlib.import_module("shifting_learning._kernels_cuda")
