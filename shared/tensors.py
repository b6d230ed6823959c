"""Data on a device: samples with their targets, batches of them, and the random generators.

A whole part of a data set lies on the device, and batches are cut out of it there: loading sample
by sample is slower than these networks. This module imports torch; programs of JAX do without it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.nn import functional

from shared.errors import UserError


class HasSamples(Protocol):
    """Arrays of samples and of their classes or targets, such as `shared.datasets.Split`."""

    @property
    def inputs(self) -> Shaped[np.ndarray, "n *shape"]:
        """A sample a row."""

    @property
    def labels(self) -> Shaped[np.ndarray, "n *target"]:
        """Its class or target."""


def on_device(array: Shaped[np.ndarray, "*shape"], device: torch.device) -> Tensor:
    """An array on a device, in its own type.

    On the CPU the tensor shares the array's memory where that is contiguous and may be written.
    """
    return torch.from_numpy(np.require(array, requirements=["C", "W"])).to(device)


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples on a device.

    Attributes:
        inputs: [n, *shape], of any type.
        targets: what a network should answer: the class of each sample, int64 [n], or one-hot
            classes or values, float32 [n, outputs].
    """

    inputs: Shaped[Tensor, "n *shape"]
    targets: Shaped[Tensor, "n *target"]

    @classmethod
    def of(cls, split: HasSamples, device: torch.device) -> "Samples":
        """A part of a data set, brought to a device.

        Raises:
            UserError: inputs are NaN or infinite, or there are not as many targets as samples.
        """
        if len(split.inputs) != len(split.labels):
            raise UserError(
                f"{len(split.inputs)} samples have {len(split.labels)} targets: give one for each"
            )
        _check_finite(split.inputs)
        return cls(on_device(split.inputs, device), on_device(split.labels, device))

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def labels(self) -> Int[Tensor, " n"]:
        """The targets, where these are classes."""
        if self.targets.dim() != 1 or self.targets.dtype.is_floating_point:
            raise TypeError(f"targets {self.targets.dtype} {[*self.targets.shape]} are no classes")
        return self.targets

    @property
    def device(self) -> torch.device:
        """Where they lie."""
        return self.targets.device

    def first(self, n: int | None) -> "Samples":
        """The first n samples; None means all."""
        return Samples(self.inputs[:n], self.targets[:n])

    def map(self, function: Callable[[Tensor], Tensor]) -> "Samples":
        """The same targets, with what a function of [n, *shape] makes of the inputs.

        For example `samples.map(lambda pixels: pixels.float() / 255)`.
        """
        return replace(self, inputs=function(self.inputs))

    def one_hot(self, n_classes: int) -> "Samples":
        """The same inputs, with the classes as float32 [n, n_classes].

        Raises:
            UserError: a class is none of 0 to n_classes - 1.
        """
        wrong = self.labels[(self.labels < 0) | (self.labels >= n_classes)]
        if len(wrong):
            raise UserError(
                f"a sample has the label {int(wrong[0])}, but the classes are 0 to "
                f"{n_classes - 1}: put a good copy of the data set in its place"
            )
        return replace(self, targets=functional.one_hot(self.labels, n_classes).float())

    def batches(
        self, size: int, order: Int[Tensor, " m"] | None = None, *, drop_last: bool = False
    ) -> "Batches":
        """The samples in batches.

        Args:
            size: samples in a batch.
            order: indices on the samples' device, `random_order` for example; None takes the
                samples as they come, without a copy.
            drop_last: leave out the last batch where it would be smaller; else it is smaller.
        """
        return Batches(self, size, order, drop_last)


@dataclass(frozen=True, eq=False)
class Batches:
    """Batches of samples, which can be counted and gone through more than once.

    Attributes:
        samples, size, order, drop_last: see `Samples.batches`.
    """

    samples: Samples
    size: int
    order: Int[Tensor, " m"] | None = None
    drop_last: bool = False

    def __post_init__(self) -> None:
        if self.size < 1:
            raise UserError(f"--batch-size {self.size}: a batch has at least one sample")

    @property
    def n_samples(self) -> int:
        """Samples in all batches together."""
        n = len(self.samples if self.order is None else self.order)
        return n // self.size * self.size if self.drop_last else n

    def __len__(self) -> int:
        return -(-self.n_samples // self.size)

    def __iter__(self) -> Iterator[tuple[Shaped[Tensor, "b *shape"], Shaped[Tensor, "b *target"]]]:
        """Inputs and targets of each batch."""
        inputs, targets = self.samples.inputs, self.samples.targets
        for start in range(0, self.n_samples, self.size):
            chosen = slice(start, min(start + self.size, self.n_samples))
            if self.order is None:
                yield inputs[chosen], targets[chosen]
            else:
                yield inputs[self.order[chosen]], targets[self.order[chosen]]


def random_order(
    n: int, device: torch.device, generator: torch.Generator | None = None
) -> Int[Tensor, " n"]:
    """The numbers 0 to n - 1 in random order, int64, on a device.

    They are drawn where the generator is, and then moved: one on the CPU gives the same order
    whatever the device.

    Args:
        n: how many.
        device: where they are wanted.
        generator: of the draws; None for torch's own on the CPU.
    """
    where = "cpu" if generator is None else generator.device
    return torch.randperm(n, generator=generator, device=where).to(device)


def drawn_generator(device: torch.device) -> torch.Generator:
    """A random generator on a device, whose seed is drawn from torch's own on the CPU.

    For a stream beside that of the seed itself, which initial weights come from.
    """
    return torch.Generator(device).manual_seed(int(torch.randint(2**62, ())))


def moved_and_mirrored(
    images: Float[Tensor, "n c h w"], reach: int, generator: torch.Generator | None = None
) -> Float[Tensor, "n c h w"]:
    """Every image moved by up to `reach` pixels each way over 0, and mirrored half the time.

    Args:
        images: square or not.
        reach: in pixels.
        generator: of the images' device; None takes torch's own.
    """
    n, _, height, width = images.shape
    device = images.device
    padded = functional.pad(images, (reach,) * 4)
    top, left = torch.randint(2 * reach + 1, (2, n, 1), generator=generator, device=device)
    rows = top + torch.arange(height, device=device)
    columns = left + torch.arange(width, device=device)
    mirrored = torch.randint(2, (n, 1), generator=generator, device=device).bool()
    columns = torch.where(mirrored, columns.flip(1), columns)
    image = torch.arange(n, device=device)[:, None, None]
    moved: Tensor = padded[image, :, rows[:, :, None], columns[:, None, :]]
    return moved.movedim(3, 1).contiguous()


def global_generators(
    device: torch.device, cpu: str = "generator", cuda: str = "cuda_generator"
) -> dict[str, torch.Generator]:
    """Torch's own random generators that a run on a device draws from, for its checkpoints.

    Args:
        device: that the run is on.
        cpu: name of the CPU's in the checkpoint.
        cuda: name of the GPU's; a run on the CPU has none.
    """
    found = {cpu: torch.default_generator}
    if device.type == "cuda":
        found[cuda] = torch.cuda.default_generators[device.index or 0]
    return found


def one_hot_like(
    labels: Int[Tensor, " batch"], output: Float[Tensor, "batch classes"]
) -> Float[Tensor, "batch classes"]:
    """Classes as rows of 0 and 1, in the shape and type of a network's output and where it is."""
    return functional.one_hot(labels, output.shape[1]).to(output)


def _check_finite(inputs: Shaped[np.ndarray, "n *shape"]) -> None:
    """Refuse samples of floats that are no numbers, which every trace would keep.

    Raises:
        UserError: a value is NaN or infinite; the first such sample is named.
    """
    if not np.issubdtype(inputs.dtype, np.floating):
        return
    finite: Any = np.isfinite(inputs).all(tuple(range(1, inputs.ndim)))
    if not finite.all():
        raise UserError(
            f"sample {int(finite.argmin())} (counted from 0) has a value that is no finite number: "
            "mend or leave out such samples"
        )
