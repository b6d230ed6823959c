"""What the papers' modules share: sides, comparison, and the way to call a published program."""

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from shared import datasets
from shared.errors import UserError

SIDES = ("published", "ours")
TOLERANCE = 1e-9  # in float64
CLASSES = 10


class Where(NamedTuple):
    """What a step is made for.

    Attributes:
        checkout: folder of the published program.
        device: where both sides run.
        dtype: of weights and activity, float32 or float64.
        batch: samples.
    """

    checkout: Path
    device: torch.device
    dtype: torch.dtype
    batch: int


@dataclass(frozen=True)
class Side:
    """One way to do a training step.

    Attributes:
        step: does it; weights move.
        found: what a first step gave, by name: outputs, gradients and the like, to compare the
            sides by. To be asked of a side that has done no step.
    """

    step: Callable[[], object]
    found: Callable[[], Mapping[str, Any]]


@dataclass(frozen=True)
class Row:
    """A step of a paper that is measured.

    Attributes:
        what: it is, in words.
        make: the published side and ours, in this order, with the same weights and inputs.
        batch: samples of the timed step.
        compared: samples of the step that the sides are compared on; the published programs want a
            lot of memory in float64.
        repeats: steps of ours in a turn; of the published program it is one.
    """

    what: str
    make: Callable[[Where], tuple[Side, Side]]
    batch: int
    compared: int
    repeats: int


@contextmanager
def theirs(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Within it, `cuda()` leads to the device, and `float()` gives the dtype.

    The published programs call both without asking what machine they are on, or what precision they
    are to compute in.
    """
    with ExitStack() as stack:
        for kind in (Tensor, nn.Module):
            stack.enter_context(patch.object(kind, "cuda", lambda self, *_: self.to(device)))
        stack.enter_context(patch.object(Tensor, "float", lambda self: self.to(dtype)))
        yield


def imported(name: str, folder: Path) -> ModuleType:
    """A module of a published program.

    Its names are common words, such as `models`: one process can take one program.

    Args:
        name: of the module.
        folder: that it is found in, of the checkout.

    Raises:
        UserError: another program's module of this name has been imported before.
    """
    sys.path.insert(0, str(folder))
    try:
        module = importlib.import_module(name)
    finally:
        sys.path.remove(str(folder))
    if not Path(module.__file__ or "").is_relative_to(folder):
        raise UserError(f"{name} is {module.__file__}, not that of {folder}: run one program alone")
    return module


def digits(n: int) -> tuple[Tensor, Tensor]:
    """MNIST's first test images (those of mnist5k where MNIST is not there), with their classes.

    Returns:
        Pixels in [0, 1], float32 [n, 1, 28, 28], and classes, int64 [n].
    """
    test = datasets.load("mnist", fallback=True, download=False).test
    return torch.from_numpy(test.inputs[:n]).float() / 255, torch.from_numpy(test.labels[:n])


def one_hot(labels: Tensor, dtype: torch.dtype) -> Tensor:
    """Targets [n, classes] of classes [n]."""
    return functional.one_hot(labels, CLASSES).to(dtype)


def gradients(network: nn.Module) -> dict[str, Tensor]:
    """Those that there are, by parameter."""
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


def differences(published: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, float]:
    """Largest differences of two sides by name, relative to the largest entry of each array.

    Raises:
        ValueError: one side has found what the other has not.
    """
    if published.keys() != ours.keys():
        raise ValueError(f"the sides found {sorted(published)} and {sorted(ours)}")
    found = {}
    for name, expected in published.items():
        one, other = map(_array, (expected, ours[name]))
        found[name] = float(np.abs(other - one).max() / (np.abs(one).max() or 1.0))
    return found


def _array(value: Any) -> np.ndarray[Any, Any]:
    """A tensor of any device, or what numpy takes, in float64."""
    on_host = value.numpy(force=True) if isinstance(value, Tensor) else value
    return np.asarray(on_host, np.float64)


def too_far(found: Mapping[str, float]) -> Sequence[str]:
    """Names of differences above the tolerance, or that are no number."""
    return [name for name, difference in found.items() if not difference < TOLERANCE]
