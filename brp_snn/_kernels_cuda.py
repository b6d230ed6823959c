"""The membrane over many steps of a layer at once on CUDA, in Triton: a unit a lane, time inside.

The functions answer to `_kernels`'; a potential stays in its register while time passes, so that
each array is read and written once, by one launch whatever the number of steps.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from brp_snn.models import Neuron

BLOCK = 256  # units a program
# Stated, since Triton's default changes with its version: products round as on the CPU.
_OPTIONS = {"enable_fp_fusion": False}


def _jit(kernel: Callable[..., Any]) -> Any:
    """`triton.jit`, not compiled again for sizes that are 1 or multiples of 16."""
    arguments = [name for name in inspect.signature(kernel).parameters if name.islower()]
    return triton.jit(kernel, do_not_specialize=arguments)


@_jit
def _gradient_before(v, signal, after, THRESHOLD: tl.constexpr, LENS: tl.constexpr, DECAY: tl.constexpr):  # type: ignore[no-untyped-def]  # fmt: skip  # noqa: E501
    """Gradient of a step's potential from the spikes' gradient and that of the next potential."""
    carried = tl.full(v.shape, DECAY, v.dtype) * after
    beyond = v - tl.full(v.shape, THRESHOLD, v.dtype)
    near = tl.abs(beyond) < tl.full(v.shape, LENS, v.dtype)
    return tl.where(beyond > 0, 0.0, carried) + tl.where(near, signal - v * carried, 0.0)


@_jit
def _integrate_kernel(  # type: ignore[no-untyped-def]
    current, before, n_steps, n, THRESHOLD: tl.constexpr, DECAY: tl.constexpr, BLOCK: tl.constexpr
):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    v = tl.load(before + at, mask=inside, other=0.0)
    threshold = tl.full([BLOCK], THRESHOLD, v.dtype)
    decay = tl.full([BLOCK], DECAY, v.dtype)
    here = current + at
    for _ in range(n_steps):
        v = tl.load(here, mask=inside, other=0.0) + decay * tl.where(v > threshold, 0.0, v)
        tl.store(here, v, mask=inside)
        here += n


@_jit
def _teach_kernel(  # type: ignore[no-untyped-def]
    potential,
    signal,
    after,
    n_steps,
    n,
    THRESHOLD: tl.constexpr,
    LENS: tl.constexpr,
    DECAY: tl.constexpr,
    LOOK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    g = tl.load(signal + at, mask=inside, other=0.0)
    later = tl.load(after + at, mask=inside, other=0.0)
    here = potential + at
    for t in range(n_steps):
        place = here + (n_steps - 1 - t).to(tl.int64) * n
        v = tl.load(place, mask=inside, other=0.0)
        later = _gradient_before(v, g, later, THRESHOLD, LENS, DECAY)
        if not LOOK:
            tl.store(place, later, mask=inside)
    tl.store(after + at, later, mask=inside)


@_jit
def _chain_kernel(  # type: ignore[no-untyped-def]
    potential,
    signal,
    n_steps,
    n,
    n_signals,
    height,
    width,
    high,
    wide,
    THRESHOLD: tl.constexpr,
    LENS: tl.constexpr,
    DECAY: tl.constexpr,
    PH: tl.constexpr,
    PW: tl.constexpr,
    BLOCK: tl.constexpr,
):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    row, pixel = at // (height * width), at % (height * width)
    h, w = pixel // width // PH, pixel % width // PW
    pooled = inside & (h < high) & (w < wide)
    of_pool = signal + (row * high + h) * wide + w
    here = potential + at
    later = tl.load(here, mask=at < 0, other=0.0)  # zeros of the potentials' type
    scale = tl.full([BLOCK], 1.0 / (PH * PW), later.dtype)
    for t in range(n_steps):
        back = (n_steps - 1 - t).to(tl.int64)
        v = tl.load(here + back * n, mask=inside, other=0.0)
        g = tl.load(of_pool + back * n_signals, mask=pooled, other=0.0) * scale
        later = _gradient_before(v, g, later, THRESHOLD, LENS, DECAY)
        tl.store(here + back * n, later, mask=inside)


def _launch(kernel: Any, n: int, *arguments: Any, **constants: Any) -> None:
    kernel[(triton.cdiv(n, BLOCK),)](*arguments, **constants, BLOCK=BLOCK, **_OPTIONS)


def integrate(
    current: Tensor, before: Tensor, pooled: Tensor, neuron: Neuron, pool: tuple[int, int]
) -> None:
    """As `_kernels.integrate`."""
    n = before.numel()
    constants = {"THRESHOLD": neuron.threshold, "DECAY": neuron.decay}
    _launch(_integrate_kernel, n, current, before, len(current), n, **constants)
    spikes = (current > neuron.threshold).to(current.dtype)
    pooled.copy_(torch.nn.functional.avg_pool2d(spikes.flatten(0, 1), pool).view_as(pooled))


def teach(
    potential: Tensor, signal: Tensor, after: Tensor, neuron: Neuron, *, look: bool = False
) -> None:
    """As `_kernels.teach`."""
    n = after.numel()
    constants = {**_constants(neuron), "LOOK": look}
    arguments = (potential, signal.contiguous(), after, len(potential), n)
    _launch(_teach_kernel, n, *arguments, **constants)


def chain(potential: Tensor, signal: Tensor, neuron: Neuron, pool: tuple[int, int]) -> None:
    """As `_kernels.chain`."""
    n, n_signals = potential[0].numel(), signal[0].numel()
    constants = {**_constants(neuron), "PH": pool[0], "PW": pool[1]}
    sizes = (len(potential), n, n_signals, *potential.shape[2:], *signal.shape[2:])
    _launch(_chain_kernel, n, potential, signal.contiguous(), *sizes, **constants)


def _constants(neuron: Neuron) -> dict[str, float]:
    return {"THRESHOLD": neuron.threshold, "LENS": neuron.lens, "DECAY": neuron.decay}
