"""STL-SNN's layers as its fast form had them before: all steps at once, a layer after the other.

Convolutions are torch's and dense, with their outputs' channels first; normalization, neurons and
pooling are three operations. Benchmarks time the present form against it.
"""

import torch
from torch import Tensor

from stl_snn import func
from stl_snn.func import LIF, AdaptiveMaxPool2d, Dropout, Linear, Vote

__all__ = ["LIF", "AdaptiveMaxPool2d", "BatchNorm2d", "Conv2d", "Dropout", "Linear", "Vote"]


class Conv2d(func.Conv2d):
    """A dense convolution of batch x time."""

    def forward(self, input: Tensor) -> Tensor:
        """Currents with channels first."""
        images = input.flatten(0, 1)
        if images.device.type == "cpu" and self.in_channels < 8:
            images = images.contiguous(memory_format=torch.channels_last)
        found = self._conv_forward(images, self.weight, self.bias).contiguous()
        return found.view(*input.shape[:2], *found.shape[1:])


class BatchNorm2d(func.BatchNorm2d):
    """An operation of its own: only `func.BatchNorm2d` itself is joined with what follows."""
