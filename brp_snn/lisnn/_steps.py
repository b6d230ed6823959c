"""The membrane of a layer with lateral interactions a step at a time, forward and backward.

    V[t] = decay * (1 - s[t-1]) * V[t-1] + current[t] + lateral(s[t-1]);    s[t] = V[t] > threshold

The lateral convolution is depth-wise: no map sees another. Arrays are [time, rows, height, width]
with rows = batch times channels. In torch operations, for every device and precision; on the CPU
`brp_snn._sparse` has its own form.
"""

import torch
from torch import Tensor
from torch.nn import functional

from brp_snn.models import Neuron


def integrate(
    current: Tensor, lateral: Tensor, pooled: Tensor, neuron: Neuron, pool: tuple[int, int]
) -> None:
    """Turn currents into membrane potentials, in place, and give the spikes' averages.

    Args:
        current: [time, rows, height, width]; holds the potentials afterwards.
        lateral: [channels, kernel, kernel], weights of the spikes of the step before; the kernel is
            odd.
        pooled: [time, rows, height // pool[0], width // pool[1]], takes the pooled spikes.
        neuron: constants of the units.
        pool: size of the average pooling.
    """
    taps = lateral[:, None]
    for step in range(1, len(current)):  # by index, as in `brp_snn._kernels`
        before, potential = current[step - 1], current[step]
        silent = before <= neuron.threshold
        potential += neuron.decay * before * silent
        potential += _beside(~silent, taps).view_as(potential)
    spikes = (current > neuron.threshold).to(current.dtype)
    pooled.copy_(functional.avg_pool2d(spikes.flatten(0, 1), pool).view_as(pooled))


def _beside(spikes: Tensor, taps: Tensor) -> Tensor:
    """Lateral currents of the spikes [rows, height, width]."""
    maps = spikes.to(taps.dtype).view(-1, len(taps), *spikes.shape[1:])
    return functional.conv2d(maps, taps, padding=taps.shape[-1] // 2, groups=len(taps))


def chain(
    potential: Tensor, signal: Tensor, lateral: Tensor, neuron: Neuron, pool: tuple[int, int]
) -> Tensor:
    """Gradient of the potentials by the chain rule, in their place, and of the lateral weights.

    Args:
        potential: [time, rows, height, width], potentials, of which the gradient takes the place.
        signal: [time, rows, height // pool[0], width // pool[1]], gradient of the pooled spikes.
        lateral: [channels, kernel, kernel], as in `integrate`.
        neuron: constants of the units.
        pool: size of the average pooling.

    Returns:
        Gradient of the lateral weights, [channels, kernel, kernel].
    """
    channels, kernel, _ = lateral.shape
    # A transposed convolution is one with the kernel turned around, its size being odd.
    turned = lateral.flip(1, 2)[:, None]
    spikes = (potential > neuron.threshold).to(potential.dtype)
    (ph, pw), (height, width) = pool, potential.shape[2:]
    after = sideways = torch.zeros_like(potential[0])
    for v, g in zip(reversed(potential.unbind(0)), reversed(signal.unbind(0)), strict=True):
        spread = (g / (ph * pw)).repeat_interleave(ph, 1).repeat_interleave(pw, 2)
        rest = (0, width - spread.shape[2], 0, height - spread.shape[1])
        on_spikes = functional.pad(spread, rest) + sideways
        carried = neuron.decay * after
        near = (v - neuron.threshold).abs() < neuron.lens
        after = carried * (v <= neuron.threshold) + (on_spikes - v * carried) * near
        sideways = _beside(after, turned).view_as(after)
        v.copy_(after)
    # Every step's spikes meet the gradient of the next potential.
    shape = (-1, channels, height, width)
    _, to_taps, _ = torch.ops.aten.convolution_backward(
        potential[1:].reshape(shape), spikes[:-1].reshape(shape), lateral[:, None], None,
        [1, 1], [kernel // 2] * 2, [1, 1], False, [0, 0], channels, [False, True, False],
    )  # fmt: skip
    found: Tensor = to_taps[:, 0]
    return found
