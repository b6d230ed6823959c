"""Membranes, traces and their gradients in the number format of the weights, under autocast too.

A potential is a sum over steps that is compared with a threshold, and a trace one over batches:
rounded to 8 bits, as autocast rounds products, they drift. Convolutions may take that; these not.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def without_autocast(work: Callable[..., T]) -> Callable[..., T]:
    """A method or a Function's backward pass, with autocast off on the devices of its tensors."""

    @functools.wraps(work)
    def run(*args: Any, **options: Any) -> T:
        kind = next((value.device.type for value in args if isinstance(value, Tensor)), "cpu")
        if not torch.is_autocast_enabled(kind):
            return work(*args, **options)
        with torch.autocast(kind, enabled=False):
            return work(*args, **options)

    return run
