"""The layers of `func` for several processes that train one network, see `shared.parallel`.

What acts over the batch takes the whole batch: the statistics of a normalization are added up over
the processes, with their gradients, and a mask of dropout is drawn for all samples. In a test each
process has all samples, and the layers are those of `func`.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from shared import parallel
from stl_snn import func
from stl_snn.func import LIF, AdaptiveMaxPool2d, Conv2d, Linear, Vote

__all__ = ["LIF", "AdaptiveMaxPool2d", "BatchNorm2d", "Conv2d", "Dropout", "Linear", "Vote"]


class BatchNorm2d(func.BatchNorm2d):
    """Batch normalization of each step apart, by the statistics of all processes' samples.

    torch's own synchronized form is for CUDA, and knows no steps. Mean and variance are two sums
    over the processes in the forward pass, and two in the backward pass.
    """

    def forward(self, input: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
        """All steps in one pass."""
        share = parallel.current()
        if share is None or not self.training:
            return super().forward(input)
        x = input.to(self.weight.dtype)  # autocast may have shortened it
        each = x.shape[3] * x.shape[4]  # values of a channel in a step of a sample
        mean = parallel.added(x.sum((0, 3, 4))) / (share.total * each)
        centered = x - mean[..., None, None]
        var = parallel.added(centered.square().sum((0, 3, 4))) / (share.total * each)
        self._take_in(mean.detach(), var.detach() * (share.n * each / (share.n * each - 1)))
        factor = self.weight * torch.rsqrt(var + self.eps)
        found = torch.addcmul(self.bias[:, None, None], centered, factor[..., None, None])
        return found.to(input.dtype)


class Dropout(func.Dropout):
    """Dropout with a fresh mask at every step, drawn for the whole batch."""

    def forward(self, input: Float[Tensor, "b t *shape"]) -> Float[Tensor, "b t *shape"]:
        """All steps in one pass."""
        return parallel.dropout(input, self.p) if self.training else input
