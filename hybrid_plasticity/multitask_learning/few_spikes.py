"""Products of whole weight matrices with spikes, which are few, on a CPU.

Few hidden neurons spike at a step. The product with the spikes of a layer and the gradient of the
weights, which are two of the three products of a training step, visit these alone. Sums are those
of the whole products, in another order.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import csr_array
from torch import Tensor
from torch.autograd.function import once_differentiable

from hybrid_plasticity.multitask_learning.masks import arrays
from shared.layers import by_numba

MOST = 0.1  # entries, in shares of the whole, from which on one thread's whole product is faster


def product(
    weight: Float[Tensor, "n_out n_in"], x: Float[Tensor, "n_in batch"]
) -> Float[Tensor, "n_out batch"]:
    """W x: the whole product, or, on a CPU, that with the few entries of x that are not zero.

    Nothing would come of a weight that is no number where its input is zero, and the loss has to
    tell of it: then the whole product is taken.
    """
    known = by_numba(x) and x.dtype == weight.dtype  # SciPy would mix them
    few = known and int(torch.count_nonzero(x)) <= MOST * x.numel()
    if not (few and bool(weight.sum().isfinite())):
        return weight @ x
    found: Tensor = _Product.apply(weight, x)
    return found


def _entries(x: Tensor) -> csr_array:
    """What is not zero in a matrix."""
    (values,) = arrays(x)
    flat = np.flatnonzero(values)
    rows, columns = np.divmod(flat, x.shape[1])
    starts = np.searchsorted(rows, np.arange(len(x) + 1))
    return csr_array((values.reshape(-1)[flat], columns, starts), shape=values.shape)


def _turned(x: Tensor) -> Any:
    """A transposed matrix, row after row in memory: of numpy it would take thrice as long."""
    return arrays(x.T)[0]


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, x: Tensor) -> Tensor:
        ctx.entries = _entries(x)
        ctx.save_for_backward(weight)
        return torch.from_numpy(ctx.entries.T @ _turned(weight)).T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (weight,) = ctx.saved_tensors
        (grad,) = grads
        to_weight = to_x = None
        if ctx.needs_input_grad[0]:
            to_weight = torch.from_numpy(ctx.entries @ _turned(grad)).T
        if ctx.needs_input_grad[1]:
            to_x = weight.T @ grad
        return to_weight, to_x
