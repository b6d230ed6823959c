"""Layers that a program's own kernels stand in for."""

from torch import nn
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
