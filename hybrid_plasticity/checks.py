"""Checks of numbers that a caller gives and of what a network has learned."""

import math

import torch
from torch import Tensor, nn

from shared.errors import UserError


class NotFiniteError(UserError, ValueError):
    """Inputs, parameters or traces hold NaN or an infinite number."""


def check_bound(bound: float) -> None:
    """Refuse what a plastic layer was given where a bound of its trace is no number.

    Raises:
        NotFiniteError: it is NaN or infinite.
    """
    if not math.isfinite(bound):
        raise NotFiniteError(
            "the input of a plastic layer, its beta or its trace holds a number that is not "
            "finite, which the trace would keep for good: mend the data, or go on from an earlier "
            "checkpoint"
        )


def check_inputs(inputs: Tensor) -> None:
    """Refuse inputs of which one is NaN or infinite; integers cannot be.

    Raises:
        NotFiniteError: the first sample that has one is named.
    """
    if not inputs.is_floating_point() or bool(inputs.isfinite().all()):
        return
    finite = inputs.isfinite().flatten(1).all(1)
    first = int((~finite).nonzero()[0])
    raise NotFiniteError(
        f"sample {first} of the inputs holds a number that is not finite, which traces and weights "
        "would keep for good: mend or leave out that sample"
    )


@torch.no_grad()
def check_network(network: nn.Module) -> None:
    """Refuse a network of whose parameters and traces one holds NaN or an infinite number.

    One look at the device for all of them: cheap beside an epoch.

    Raises:
        NotFiniteError: the first tensor that holds one is named.
    """
    named = [*network.named_parameters(), *network.named_buffers()]
    if not named:
        return
    # The largest magnitude is NaN where one entry is.
    finite = torch.stack([value.abs().amax().isfinite() for _, value in named]).tolist()
    for (name, _), is_finite in zip(named, finite, strict=True):
        if not is_finite:
            raise NotFiniteError(
                f"{name} holds a number that is not finite, so that the network has learned "
                "nothing that can be used: lower the step sizes, or go on from an earlier "
                "checkpoint"
            )
