"""Weights of which a task uses few: their places, and products with them.

Inside the multitask network activity lies transposed, [neurons, batch].
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from hybrid_plasticity.multitask_learning import _kernels_cpu

kernels: Any = _kernels_cpu  # numba's types know nothing of their arguments


class Mask:
    """The entries of a weight matrix that a task may use.

    Args:
        used: which entries these are, [n_out, n_in] as in `nn.Linear`.
        device: where the entries are needed.

    Attributes:
        shape: (n_out, n_in).
        flat: place of each entry in the flattened weights [entries], int64, ascending.
        source: presynaptic neuron of each entry [entries], int64.
        by_output, by_input: for the CPU kernels, the entries of each output and of each input:
            where they start [n + 1], and the neurons at their other ends [entries].
        order: place of each entry of `by_input` among those of `by_output` [entries], int64.
    """

    def __init__(self, used: Bool[Tensor, "n_out n_in"], device: torch.device) -> None:
        n_out, n_in = used.shape
        self.shape = (n_out, n_in)
        flat = used.flatten().nonzero().flatten().cpu()
        target, source = flat // n_in, flat % n_in
        order = torch.argsort(source, stable=True)
        self.flat, self.source, self.order = flat.to(device), source.to(device), order.to(device)
        self.by_output = _starts(target, n_out), _index(source)
        self.by_input = _starts(source, n_in), _index(target[order])

    def product(
        self, x: Float[Tensor, "n_in batch"], values: Float[Tensor, " entries"]
    ) -> Float[Tensor, "n_out batch"]:
        """W x, where W holds the values at the entries and 0 elsewhere.

        On a CPU only the entries are visited; elsewhere the matrix is filled and multiplied.
        """
        if x.device.type == "cpu":
            product: Tensor = _Product.apply(x, values, self)
            return product
        return self.filled(values) @ x

    def correlation(
        self, x: Float[Tensor, "n_in batch"], y: Float[Tensor, "n_out batch"]
    ) -> Float[Tensor, " entries"]:
        """The entries of y x^T, a sum over the batch each."""
        return (y @ x.T).flatten()[self.flat]

    def filled(self, values: Float[Tensor, " entries"]) -> Float[Tensor, "n_out n_in"]:
        """The matrix with the values at the entries and 0 elsewhere."""
        n_out, n_in = self.shape
        zeros = values.new_zeros(n_out * n_in)
        return zeros.index_put((self.flat,), values).view(n_out, n_in)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, mask: Mask) -> Tensor:
        ctx.save_for_backward(x, values)
        ctx.mask = mask
        sums = kernels.weighted_sums(*arrays(x[:, None], values), *mask.by_output)
        return torch.from_numpy(sums)[:, 0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, values = ctx.saved_tensors
        mask, grad = ctx.mask, grads[0][:, None]
        to_x = to_values = None
        if ctx.needs_input_grad[0]:
            by_input = values[mask.order]
            sums = kernels.weighted_sums(*arrays(grad, by_input), *mask.by_input)
            to_x = torch.from_numpy(sums)[:, 0]
        if ctx.needs_input_grad[1]:
            found = kernels.dots(*arrays(x[:, None], grad), *mask.by_output)
            to_values = torch.from_numpy(found)
        return to_x, to_values, None


def arrays(*tensors: Tensor) -> tuple[NDArray[Any], ...]:
    """Tensors' memory for CPU kernels.

    A tensor that a kernel writes to must be contiguous: of others the kernel gets a copy.
    """
    return tuple(tensor.detach().contiguous().numpy() for tensor in tensors)


def _starts(rows: Tensor, n: int) -> NDArray[np.int64]:
    """Where the entries of each row start, and after the last one where they end [n + 1]."""
    counts = np.bincount(rows.numpy(), minlength=n)
    starts: NDArray[np.int64] = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return starts


def _index(columns: Tensor) -> NDArray[np.uint32]:
    # Unsigned: numba need not ask whether an index counts from the end.
    index: NDArray[np.uint32] = columns.numpy().astype(np.uint32)
    return index
