"""Convolutions that visit spikes alone, forward and for the weights: numba, all cores.

Images lie channels last. A spike at a pixel adds the weights of its channel to the pixels around;
those of a row lie beside each other, for all output channels, so that what is added is long. Spikes
of a pixel (forward) or of a channel (weights) are taken four at a time. The gradient of the input
is dense, and torch's. Sums do not depend on the number of threads.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numba import njit, prange
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import conv2d

from shared.device import share_threads

GRADIENT_BYTES = 2**19  # of the weights' gradient, at most, that a thread works on at a time
LEAST_TASKS = 4  # that work on it


@njit(parallel=True, cache=True)
def _list_spikes(x, channels, counts, others):  # type: ignore[no-untyped-def]
    """The channels that spike at each pixel, and how many values are neither 0 nor 1."""
    n_images, height, width, n_channels = x.shape
    for n in prange(n_images):
        strange = 0
        for i in range(height):
            for j in range(width):
                values, to, count = x[n, i, j], channels[n, i, j], 0
                for c in range(n_channels):
                    value = values[c]
                    to[count] = c
                    count += 1 if value != 0 else 0
                    strange += 1 if value != 0 and value != 1 else 0
                counts[n, i, j] = count
        others[n] = strange


@njit(parallel=True, cache=True)
def _forward(channels, counts, weight, n_out, out):  # type: ignore[no-untyped-def]
    """Currents [n, height, width x n_out] for weights [in, kernel, kernel x n_out]."""
    n_images, height, width = counts.shape
    kernel = weight.shape[1]
    pad = kernel // 2
    for n in prange(n_images):
        out[n] = 0
        for ky in range(kernel):
            for i in range(max(0, ky - pad), min(height, height + ky - pad)):
                row = out[n, i + pad - ky]
                for j in range(width):
                    first, last = max(0, j - pad), min(width, j + pad + 1)
                    start = (first - (j - pad)) * n_out
                    stop = start + (last - first) * n_out
                    to, active = row[first * n_out : last * n_out], channels[n, i, j]
                    count, done = counts[n, i, j], 0
                    while done + 4 <= count:
                        w0 = weight[active[done], ky, start:stop]
                        w1 = weight[active[done + 1], ky, start:stop]
                        w2 = weight[active[done + 2], ky, start:stop]
                        w3 = weight[active[done + 3], ky, start:stop]
                        for k in range(stop - start):
                            to[k] += (w0[k] + w1[k]) + (w2[k] + w3[k])
                        done += 4
                    while done < count:
                        w0 = weight[active[done], ky, start:stop]
                        for k in range(stop - start):
                            to[k] += w0[k]
                        done += 1


@njit(parallel=True, cache=True)
def _list_places(channels, counts, n_out, pad, places, totals):  # type: ignore[no-untyped-def]
    """Where each channel of an image spikes: offsets in an image with zeros around it."""
    n_images, height, width = counts.shape
    length = (width + 2 * pad) * n_out
    for n in prange(n_images):
        totals[n] = 0
        for i in range(height):
            for j in range(width):
                offset = i * length + j * n_out
                for k in range(counts[n, i, j]):
                    c = channels[n, i, j, k]
                    places[n, c, totals[n, c]] = offset
                    totals[n, c] += 1


@njit(parallel=True, cache=True)
def _weights(places, totals, signal, pad, per_task, grad):  # type: ignore[no-untyped-def]
    """The weights' gradient [in, kernel, kernel x n_out] from that of the currents."""
    n_images, height, length = signal.shape
    n_channels, kernel, run = grad.shape
    margin = pad * (run // kernel)
    padded_length = length + 2 * margin
    for task in prange((n_channels + per_task - 1) // per_task):
        image = np.zeros((height + 2 * pad) * padded_length, signal.dtype)
        channels = range(task * per_task, min(n_channels, (task + 1) * per_task))
        for c in channels:
            grad[c] = 0
        for n in range(n_images):
            for i in range(height):
                at = (i + pad) * padded_length + margin
                image[at : at + length] = signal[n, i]
            for c in channels:
                spikes, count = places[n, c], totals[n, c]
                for ky in range(kernel):
                    down, total, done = (kernel - 1 - ky) * padded_length, grad[c, ky], 0
                    while done + 4 <= count:
                        a0, a1 = spikes[done] + down, spikes[done + 1] + down
                        a2, a3 = spikes[done + 2] + down, spikes[done + 3] + down
                        s0, s1 = image[a0 : a0 + run], image[a1 : a1 + run]
                        s2, s3 = image[a2 : a2 + run], image[a3 : a3 + run]
                        for k in range(run):
                            total[k] += (s0[k] + s1[k]) + (s2[k] + s3[k])
                        done += 4
                    while done < count:
                        a0 = spikes[done] + down
                        s0 = image[a0 : a0 + run]
                        for k in range(run):
                            total[k] += s0[k]
                        done += 1


class Spikes(NamedTuple):
    """Spikes of images by pixel.

    Attributes:
        channels: channels that spike, the first `counts` of them, uint16.
        counts: how many there are.
        share: of pixels' channels that spike.
    """

    channels: Int[Tensor, "n h w c"]
    counts: Int[Tensor, "n h w"]
    share: float


def listed(x: Float[Tensor, "n c h w"]) -> Spikes | None:
    """The spikes of images on a CPU; None where values are not all 0 or 1."""
    images = x.detach().permute(0, 2, 3, 1).contiguous()
    channels = torch.empty(images.shape, dtype=torch.uint16)
    counts = torch.empty(images.shape[:3], dtype=torch.int32)
    others = torch.empty(len(x), dtype=torch.int64)
    share_threads()
    _list_spikes(images.numpy(), channels.numpy(), counts.numpy(), others.numpy())
    if others.any():
        return None
    return Spikes(channels, counts, float(counts.sum()) / max(1, x.numel()))


def convolve(
    x: Float[Tensor, "n c h w"], weight: Float[Tensor, "o c k k"], spikes: Spikes
) -> Float[Tensor, "n o h w"]:
    """`conv2d(x, weight, padding=k // 2)` of spikes, k odd; its channels lie last in memory.

    Args:
        x: images of 0 and 1.
        weight: weights, in the dtype of x, float32 or float64.
        spikes: `listed(x)`.
    """
    currents: Tensor = _Convolution.apply(x, weight, spikes)
    return currents


class _Convolution(torch.autograd.Function):
    """`convolve`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, spikes: Spikes) -> Tensor:
        n, _, height, width = x.shape
        n_out = len(weight)
        out = x.new_empty(n, height, width * n_out)
        share_threads()
        _forward(
            *(of.numpy() for of in (spikes.channels, spikes.counts, _turned(weight.detach()))),
            n_out,
            out.numpy(),
        )  # type: ignore[call-arg]
        ctx.save_for_backward(weight)
        ctx.spikes = spikes
        return out.view(n, height, width, n_out).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, signal: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (weight,) = ctx.saved_tensors
        to_x, to_weight = None, None
        if ctx.needs_input_grad[0]:
            # The gradient of a convolution of stride 1 is one with the kernel turned round.
            turned = weight.detach().flip(2, 3).transpose(0, 1)
            to_x = conv2d(signal, turned, padding=weight.shape[-1] // 2)
        if ctx.needs_input_grad[1]:
            to_weight = _gradient(signal, weight, ctx.spikes)
        return to_x, to_weight, None


def _gradient(signal: Tensor, weight: Tensor, spikes: Spikes) -> Float[Tensor, "o c k k"]:
    """The weights' gradient."""
    n_out, n_in, kernel, _ = weight.shape
    n, height, width = spikes.counts.shape
    places = torch.empty(n, n_in, height * width, dtype=torch.int32)
    totals = torch.empty(n, n_in, dtype=torch.int32)
    grad = signal.new_empty(n_in, kernel, kernel * n_out)
    rows = signal.permute(0, 2, 3, 1).contiguous().flatten(2)
    n_tasks = max(LEAST_TASKS, 2 * math.ceil(grad.nbytes / (2 * GRADIENT_BYTES)))
    share_threads()
    lists = tuple(of.numpy() for of in (spikes.channels, spikes.counts))
    _list_places(*lists, n_out, kernel // 2, places.numpy(), totals.numpy())  # type: ignore[call-arg]
    given = tuple(of.numpy() for of in (places, totals, rows))
    _weights(*given, kernel // 2, math.ceil(n_in / n_tasks), grad.numpy())  # type: ignore[call-arg]
    return grad.view(n_in, kernel, kernel, n_out).flip(2).permute(3, 0, 1, 2).contiguous()


def _turned(weight: Float[Tensor, "o c k k"]) -> Float[Tensor, "c k ko"]:
    """Weights with what a spike adds to a row of pixels, left to right, side by side."""
    return weight.permute(1, 2, 3, 0).flip(2).contiguous().flatten(2)
