"""The neurons of a layer over all steps at once, on CUDA, in Triton; as `_kernels` on a CPU.

A block of neurons stays in registers while time runs. Backward, the potentials are found again and
lie for a moment where their gradient will be. Sums over the batch do not depend on the order in
which programs run (no atomics). **Not timed on a GPU yet.**
"""

import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK, WARPS = 256, 2
ENOUGH_PROGRAMS = 1024  # backward: the batch is cut until so many run, so that no processor idles
# Stated, since Triton's default changes with its version: products round as on the CPU.
_OPTIONS = {"enable_fp_fusion": False}


def _jit(kernel: Callable[..., Any]) -> Any:
    """`triton.jit`, which does not compile again for sizes that are 1 or multiples of 16."""
    arguments = [name for name in inspect.signature(kernel).parameters if name.islower()]
    return triton.jit(kernel, do_not_specialize=arguments)


@_jit
def _forward_kernel(  # type: ignore[no-untyped-def]
    current, theta, spikes, n_steps, n, n_blocks, TAU: tl.constexpr, BLOCK: tl.constexpr
):
    """One sample, a block of neurons."""
    program = tl.program_id(0).to(tl.int64)
    j = program % n_blocks * BLOCK + tl.arange(0, BLOCK)
    real = j < n
    threshold = tl.load(theta + j, mask=real, other=0.0)
    tau = tl.full([BLOCK], TAU, threshold.dtype)  # a bare constant could be rounded to float32
    v = tl.zeros([BLOCK], threshold.dtype)
    at = program // n_blocks * n_steps * n + j
    for _ in range(n_steps):
        v = tau * v + tl.load(current + at, mask=real, other=0.0)
        fires = v - threshold >= 0.0
        tl.store(spikes + at, fires.to(v.dtype), mask=real)
        v = tl.where(fires, 0.0, v)
        at += n


@_jit
def _backward_kernel(  # type: ignore[no-untyped-def]
    current,
    theta,
    signal,
    to_current,
    to_theta,
    n_batch,
    n_steps,
    n,
    n_blocks,
    per_program,
    TAU: tl.constexpr,
    HEIGHT: tl.constexpr,
    SLOPE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Some samples, one after the other, of a block of neurons."""
    program = tl.program_id(0).to(tl.int64)
    part = program // n_blocks
    j = program % n_blocks * BLOCK + tl.arange(0, BLOCK)
    real = j < n
    threshold = tl.load(theta + j, mask=real, other=0.0)
    tau = tl.full([BLOCK], TAU, threshold.dtype)
    height = tl.full([BLOCK], HEIGHT, threshold.dtype)
    slope = tl.full([BLOCK], SLOPE, threshold.dtype)
    total = tl.zeros([BLOCK], threshold.dtype)
    first = part * per_program
    for b in range(first, tl.minimum(first + per_program, n_batch)):
        at = b * n_steps * n + j
        v = tl.zeros([BLOCK], threshold.dtype)
        for _ in range(n_steps):
            v = tau * v + tl.load(current + at, mask=real, other=0.0)
            tl.store(to_current + at, v, mask=real)
            v = tl.where(v - threshold >= 0.0, 0.0, v)
            at += n
        tl.debug_barrier()  # what was stored is read again, if by another thread
        after = tl.zeros([BLOCK], threshold.dtype)
        for _ in range(n_steps):
            at -= n
            v = tl.load(to_current + at, mask=real, other=0.0)
            g = tl.load(signal + at, mask=real, other=0.0)
            after = tau * after
            x = v - threshold
            steep = slope * x
            through_spike = height / (1.0 + steep * steep) * (g - v * after)
            total -= through_spike
            after = through_spike + tl.where(x >= 0.0, 0.0, after)
            tl.store(to_current + at, after, mask=real)
    tl.store(to_theta + part * n + j, total, mask=real)


def forward(current: Tensor, theta: Tensor, tau: float) -> Tensor:
    """Spikes [batch, time, n] for currents [batch, time, n] and thresholds [n]; contiguous."""
    n_batch, n_steps, n = current.shape
    spikes = torch.empty_like(current)
    n_blocks = triton.cdiv(n, BLOCK)
    sizes = (n_steps, n, n_blocks)
    _launch(
        _forward_kernel, n_batch * n_blocks, current, theta, spikes, *sizes, TAU=tau, BLOCK=BLOCK
    )
    return spikes


def backward(
    current: Tensor, theta: Tensor, signal: Tensor, tau: float, alpha: float
) -> tuple[Tensor, Tensor]:
    """Gradients of the currents and thresholds from that of the spikes; shapes as in `forward`."""
    n_batch, n_steps, n = current.shape
    n_blocks = triton.cdiv(n, BLOCK)
    n_parts = max(1, min(n_batch, triton.cdiv(ENOUGH_PROGRAMS, max(1, n_blocks))))
    per_program = triton.cdiv(n_batch, n_parts)
    n_parts = triton.cdiv(n_batch, per_program)
    to_current, to_theta = torch.empty_like(current), theta.new_empty(n_parts, n)
    _launch(
        _backward_kernel,
        n_parts * n_blocks,
        *(current, theta, signal, to_current, to_theta),
        *(n_batch, n_steps, n, n_blocks, per_program),
        TAU=tau,
        HEIGHT=alpha / 2,
        SLOPE=math.pi * alpha / 2,
        BLOCK=BLOCK,
    )
    return to_current, to_theta.sum(0)


def _launch(
    kernel: Any, n_programs: int, first: Tensor, *arguments: Tensor | int, **constants: float
) -> None:
    """Start a kernel on the device that holds its first argument."""
    with torch.cuda.device(first.get_device()):
        kernel[(n_programs,)](first, *arguments, num_warps=WARPS, **_OPTIONS, **constants)
