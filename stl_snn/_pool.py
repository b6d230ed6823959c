"""Max pooling by windows of equal size side by side: numba, all cores; other devices use torch's.

Where several inputs of a window are largest, as spikes often are, the first of them, row by row,
takes the gradient, as in torch.
"""

from typing import Any

import numba
import numpy as np
import torch
from jaxtyping import Float
from numba import config, njit, prange
from torch import Tensor


@njit(parallel=True, cache=True)
def _forward(x, high, wide, out, winner):  # type: ignore[no-untyped-def]
    for m in prange(x.shape[0]):
        for i in range(out.shape[1]):
            for j in range(out.shape[2]):
                best, at = x[m, i * high, j * wide], 0
                for k in range(1, high * wide):
                    value = x[m, i * high + k // wide, j * wide + k % wide]
                    if value > best or value != value:
                        best, at = value, k
                out[m, i, j] = best
                winner[m, i, j] = at


@njit(parallel=True, cache=True)
def _backward(signal, winner, high, wide, to_x):  # type: ignore[no-untyped-def]
    zero = signal.dtype.type(0)
    for m in prange(to_x.shape[0]):
        for i in range(signal.shape[1]):
            for j in range(signal.shape[2]):
                for k in range(high * wide):
                    here = signal[m, i, j] if winner[m, i, j] == k else zero
                    to_x[m, i * high + k // wide, j * wide + k % wide] = here


def windows(space: tuple[int, ...], size: int, device: str) -> tuple[int, int] | None:
    """Height and width of the windows, or None where torch's pooling has to do it.

    Args:
        space: height and width of the input.
        size: windows along each side.
        device: kind of device.
    """
    high, wide = space[0] // size, space[1] // size
    fits = space == (high * size, wide * size) and high * wide <= np.iinfo(np.uint8).max
    return (high, wide) if fits and device == "cpu" else None


def max_pool(
    x: Float[Tensor, "*n height width"], high: int, wide: int
) -> Float[Tensor, "*n height2 width2"]:
    """The largest value of each window of high x wide, which height and width are multiples of."""
    found: Tensor = _MaxPool.apply(x.flatten(0, -3), high, wide)
    return found.view(*x.shape[:-2], *found.shape[1:])


class _MaxPool(torch.autograd.Function):
    """`max_pool` on [n, height, width]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, high: int, wide: int) -> Tensor:
        n, height, width = x.shape
        out = x.new_empty(n, height // high, width // wide)
        winner = torch.empty_like(out, dtype=torch.uint8)
        _start_threads()
        arrays = (tensor.detach().numpy() for tensor in (x.contiguous(), out, winner))
        taken, *given = arrays
        _forward(taken, high, wide, *given)
        ctx.save_for_backward(winner)
        ctx.window = high, wide
        return out

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (winner,), (high, wide) = ctx.saved_tensors, ctx.window
        n, height, width = signal.shape
        to_x = signal.new_empty(n, height * high, width * wide)
        _start_threads()
        _backward(signal.contiguous().numpy(), winner.numpy(), high, wide, to_x.numpy())
        return to_x, None, None


def _start_threads() -> None:
    numba.set_num_threads(min(torch.get_num_threads(), config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
