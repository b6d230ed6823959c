"""What a program's own kernels can stand in for."""

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook


def is_heard(layer: nn.Module) -> bool:
    """Whether anything is called when the layer, or any layer, is.

    A kernel that computes what a layer would must not take its place then: pruning, weight
    normalization and recorders of activity are such hooks.
    """
    return bool(
        _has_any_global_hook()  # type: ignore[no-untyped-call]
        or layer._forward_hooks
        or layer._forward_pre_hooks
        or layer._backward_hooks
        or layer._backward_pre_hooks
    )


def by_numba(tensor: Tensor) -> bool:
    """Whether numba's kernels can take a tensor: of numbers on the CPU, of 32 or 64 bits each.

    `torch.export` looks at shapes in place of numbers, and follows torch's operations only.
    """
    return tensor.device.type == "cpu" and is_for_kernels(tensor)


def is_for_kernels(tensor: Tensor) -> bool:
    """Whether kernels of the tensor's device can take it, if there are any."""
    is_traced = torch.compiler.is_compiling() or torch.compiler.is_exporting()
    return tensor.dtype in (torch.float32, torch.float64) and not is_traced
