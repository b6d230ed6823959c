"""Max pooling by 2 x 2: numba, all cores; torch's on other devices and in other dtypes.

Where several inputs of a window are largest, as spikes often are, the first of them, row by row,
takes the gradient, as in torch.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numba import njit, prange
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import max_pool2d

from shared.device import share_threads


@njit(parallel=True, cache=True)
def _forward(x, out, winner):  # type: ignore[no-untyped-def]
    for m in prange(x.shape[0]):
        for i in range(out.shape[1]):
            for j in range(out.shape[2]):
                best, at = x[m, 2 * i, 2 * j], np.uint8(0)
                right, below = x[m, 2 * i, 2 * j + 1], x[m, 2 * i + 1, 2 * j]
                across = x[m, 2 * i + 1, 2 * j + 1]
                # What is no number is taken for the largest.
                if right > best or right != right:
                    best, at = right, np.uint8(1)
                if below > best or below != below:
                    best, at = below, np.uint8(2)
                if across > best or across != across:
                    best, at = across, np.uint8(3)
                out[m, i, j] = best
                winner[m, i, j] = at


@njit(parallel=True, cache=True)
def _backward(signal, winner, to_x):  # type: ignore[no-untyped-def]
    zero = signal.dtype.type(0)
    for m in prange(to_x.shape[0]):
        for i in range(signal.shape[1]):
            for j in range(signal.shape[2]):
                g, at = signal[m, i, j], winner[m, i, j]
                to_x[m, 2 * i, 2 * j] = g if at == 0 else zero
                to_x[m, 2 * i, 2 * j + 1] = g if at == 1 else zero
                to_x[m, 2 * i + 1, 2 * j] = g if at == 2 else zero
                to_x[m, 2 * i + 1, 2 * j + 1] = g if at == 3 else zero


def max_pool(x: Float[Tensor, "*n height width"]) -> Float[Tensor, "*n height2 width2"]:
    """The largest value of each window of 2 x 2; height and width are even."""
    maps = x.flatten(0, -3)
    fits = x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)
    if fits and not torch.compiler.is_exporting():
        found: Tensor = _MaxPool.apply(maps)
    else:
        found = max_pool2d(maps, 2)
    return found.view(*x.shape[:-2], *found.shape[1:])


class _MaxPool(torch.autograd.Function):
    """`max_pool` on [n, height, width]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        n, height, width = x.shape
        out = x.new_empty(n, height // 2, width // 2)
        winner = torch.empty_like(out, dtype=torch.uint8)
        share_threads()
        _forward(x.detach().contiguous().numpy(), out.numpy(), winner.numpy())
        ctx.save_for_backward(winner)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, signal: Tensor) -> Tensor:
        (winner,) = ctx.saved_tensors
        n, height, width = signal.shape
        to_x = signal.new_empty(n, 2 * height, 2 * width)
        share_threads()
        _backward(signal.contiguous().numpy(), winner.numpy(), to_x.numpy())
        return to_x
