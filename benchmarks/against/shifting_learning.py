"""Shifting learning: forward, feedback and Adam of both layers, 784-800-10."""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from against.common import Row, Side, Where, digits, imported, theirs
from shifting_learning.Dataset import code
from shifting_learning.network import Network, reward_error
from shifting_learning.SL_Layer import SNNLayer

SIZES = (784, 800, 10)
RATE = 1e-4  # of shifting timings and passing times


def make(where: Where) -> tuple[Side, Side]:
    """Both sides, with the published settings: initial timings, rates, reward, order of ties."""
    device, dtype = where.device, where.dtype
    draw = torch.Generator().manual_seed(0)
    starts = [torch.rand(pair, generator=draw) * (8 / pair[0]) for pair in pairwise(SIZES)]
    timings = [start.to(device, dtype) for start in starts]
    pixels, labels = (part.to(device) for part in digits(where.batch))
    codes = code(pixels.flatten(1).to(dtype))

    def error(z_out: Tensor) -> Tensor:
        return reward_error(z_out, labels, "published")

    return published(where, timings, codes, error), ours(timings, codes, error)


def published(where: Where, timings: list[Tensor], codes: Tensor, error: Any) -> Side:
    """The published layers; their program does the same around them."""
    kind = imported("SL_Layer", where.checkout).SNNLayer
    layers = [kind(*e_ts.shape, e_ts.clone(), e_ts.new_ones(e_ts.shape[1])) for e_ts in timings]
    hidden, output = layers

    def step() -> Tensor:
        with theirs(where.device, where.dtype):
            n = len(codes)
            z_hidden = hidden.forward(n, codes, dv=where.device)
            z_out: Tensor = output.forward(n, z_hidden, dv=where.device)
            delta = error(z_out)
            delta_hidden = output.pass_delta(n, delta)
            output.backward(n, delta, z_hidden, z_out, RATE, RATE)
            hidden.backward(n, delta_hidden, codes, z_hidden, RATE, RATE)
        return z_out

    def found() -> dict[str, Tensor]:
        seen = {"codes": step()}
        for i, layer in enumerate(layers):
            seen[f"moment of timings {i}"] = layer.adam_m_Ets
            seen[f"moment of passing times {i}"] = layer.adam_m_Etp
            seen |= {f"timings {i}": layer.e_ts, f"passing times {i}": layer.e_tp}
        return seen

    return Side(step, found)


def ours(timings: list[Tensor], codes: Tensor, error: Any) -> Side:
    """Our layers, told to take ties as the published ones do; by default they are faster."""
    layers = [SNNLayer(*e_ts.shape, e_ts, ties="published") for e_ts in timings]
    network = Network(*layers)

    def step() -> Tensor:
        z_out = network(codes)
        network.learn(error(z_out), RATE, RATE)
        return z_out

    def found() -> dict[str, Tensor]:
        seen = {"codes": step()}
        for i, layer in enumerate(layers):
            state = layer.optimizer.state
            seen[f"moment of timings {i}"] = state[layer.e_ts]["exp_avg"]
            seen[f"moment of passing times {i}"] = state[layer.e_tp]["exp_avg"]
            seen |= {f"timings {i}": layer.e_ts, f"passing times {i}": layer.e_tp}
        return seen

    return Side(step, found)


ROWS = {"shifting_learning": Row("784-800-10, 128 digits", make, 128, 16, 10)}
