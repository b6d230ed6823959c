"""The data sets of `main.py`, as the networks take them.

Images and analog features become spikes step by step: x[t] = 1 where value > U(0, 1) * randKill,
with fresh draws U at every step. Of spoken digits each step shows one band of such values, of
gestures one frame, from the first on. N-MNIST's frames are spikes already.

A rate network has no steps: it gets the values as they are, and frames as channels.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Float, Shaped
from numpy.typing import NDArray
from torch import Tensor

from brp_snn import gesture
from brp_snn.gesture import CAMERAS, GESTURE_FRAMES, frames, gesture_frames, stored_frames
from brp_snn.synth_dataset_gen import generate
from brp_snn.tidigits import BANDS, SCALINGS, Scaling, features, split_by_speaker, split_random
from shared import datasets
from shared.errors import UserError, check_word
from shared.tensors import Samples, on_device

Kind = Literal["values", "frames", "spikes"]
TargetKind = Literal["classes", "values", "codes"]
Span = tuple[float, float]

CIFAR10_MEAN = (125.3 / 255, 123.0 / 255, 113.9 / 255)
CIFAR10_SD = (63.0 / 255, 62.1 / 255, 66.7 / 255)

SPLIT_SEED, VALIDATION = 42, 0.1

Split = Literal["random", "speaker"]  # of spoken digits

EVALUATION_SEED = 0x7E57_D2A5


def evaluation_stream(device: torch.device) -> torch.Generator:
    """The random thresholds of evaluations, the same in every epoch and run.

    They may not be the numbers that the run's weights were made of. On the CPU torch looks at 32
    bits of a seed, so that every seed is also some --seed: that one run takes the next.
    """
    is_the_runs = torch.initial_seed() == EVALUATION_SEED
    return torch.Generator(device).manual_seed(EVALUATION_SEED + is_the_runs)


@dataclass(frozen=True, eq=False)
class Data:
    """A data set with what the program must know of it.

    Attributes:
        name: what was really loaded, for the records.
        train, validation, test: its parts.
        kind: "values" are compared with random thresholds at every step, "frames" too, one frame
            per step, and "spikes" are frames that are shown as they are.
        shape: shape of one sample at one step.
        shown: makes float inputs of a batch of stored ones; `training` tells whether the batch may
            be changed at random.
        span: values that never spike and that always do.
        target_kind: "classes", "values" for regression, or "codes" of independent bits.
        codes: float32 [n, outputs], the words of a code; None for other targets.

    Raises:
        ValueError: there is no such kind of inputs or targets.
    """

    name: str
    train: Samples
    validation: Samples
    test: Samples
    kind: Kind
    shape: tuple[int, ...]
    shown: Callable[[Tensor, bool], Tensor]
    span: Span = (0.0, 1.0)
    target_kind: TargetKind = "classes"
    codes: Tensor | None = None

    def __post_init__(self) -> None:
        check_word("kind of inputs", self.kind, get_args(Kind))
        check_word("kind of targets", self.target_kind, get_args(TargetKind))

    @property
    def parts(self) -> dict[str, Samples]:
        """The parts by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Name, number of samples and checksum, see `shared.datasets.fingerprint`."""
        parts = self.parts.values()
        arrays = (
            tensor.numpy(force=True) for part in parts for tensor in (part.inputs, part.targets)
        )
        return datasets.fingerprint(self.name, sum(map(len, parts)), *arrays)

    @property
    def rate_shape(self) -> tuple[int, ...]:
        """Shape of one sample for a network without steps: its frames are channels."""
        if self.kind == "values":
            return self.shape
        channels, frames = self.train.inputs.shape[1:3]
        return (channels * frames, *self.shape[1:])

    def first(self, n: int) -> "Data":
        """The same set with the first n samples of every part."""
        train, validation, test = (part.first(n) for part in self.parts.values())
        return replace(self, train=train, validation=validation, test=test)


def _floats(inputs: Tensor, training: bool) -> Tensor:
    return inputs.float()


def _intensities(pixels: Tensor, training: bool) -> Tensor:
    return pixels.float() / 255


class _Standardized:
    """CIFAR-10's pixels, standardized by channel; in training mirrored at random where asked."""

    def __init__(self, device: torch.device, mirrored: bool) -> None:
        self.mean, self.sd = (
            torch.tensor(values, device=device).view(3, 1, 1)
            for values in (CIFAR10_MEAN, CIFAR10_SD)
        )
        self.mirrored = mirrored

    def __call__(self, pixels: Tensor, training: bool) -> Tensor:
        images = (_intensities(pixels, training) - self.mean) / self.sd
        if not (training and self.mirrored):
            return images
        chosen = torch.rand(len(images), device=images.device) < 0.5
        return torch.where(chosen.view(-1, 1, 1, 1), images.flip(3), images)


def _labeled(split: datasets.Split, n_classes: int, device: torch.device) -> Samples:
    return Samples.of(split, device).one_hot(n_classes)


class Source(NamedTuple):
    """Where data come from and how they are wanted.

    Attributes:
        root: the data root, None for the default one.
        device: that holds the data.
        window: bands of spoken digits and frames of gestures that are shown, the first ones;
            number of frames that other recordings of events are cut into.
        split: of spoken digits, "random" or by "speaker".
        nettalk: file of NETtalk, None for the one below the data root.
        scaling: of the features of spoken digits, see `tidigits`.
        limit: samples of each part that are wanted, None for all.
        signed: whether the targets of the regression lie in [-1, 1], as published, or in [0, 1],
            where sigmoids and shares of spikes lie.
    """

    root: Path | None
    device: torch.device
    window: int = 20
    split: Split = "random"
    nettalk: Path | None = None
    scaling: Scaling = "l1"
    limit: int | None = None
    signed: bool = False


def _images(name: str, mirrored: bool = False) -> Callable[[Source], Data]:
    def load(source: Source) -> Data:
        found = datasets.load(name, source.root, fallback=True)
        train, validation, test = (
            _labeled(split, found.n_classes, source.device)
            for split in (found.train, found.validation, found.test)
        )
        shown = _Standardized(source.device, mirrored) if name == "cifar10" else _intensities
        shape = tuple(found.train.inputs.shape[1:])
        return Data(found.name, train, validation, test, "values", shape, shown)

    return load


def _synthetic(task: str) -> Callable[[Source], Data]:
    def load(source: Source) -> Data:
        made = generate(task)
        inputs, targets, *tested = (on_device(part, source.device) for part in made)
        if task == "regression" and not source.signed:
            targets, tested[1] = ((1 + values) / 2 for values in (targets, tested[1]))
        n_train = round(0.9 * len(inputs))
        return Data(
            name=f"{task}_synth",
            train=Samples(inputs[:n_train], targets[:n_train]),
            validation=Samples(inputs[n_train:], targets[n_train:]),
            test=Samples(*tested),
            kind="values",
            shape=tuple(inputs.shape[1:]),
            shown=_floats,
            span=_span(made.train_inputs[:n_train]),
            target_kind="values" if task == "regression" else "classes",
        )

    return load


def _recorded(source: Source) -> Data:
    read, factor = CAMERAS["nmnist"]
    found = read(source.root)
    train, validation, test = (
        _labeled(
            datasets.Split(
                frames(part.first(source.limit), source.window, found.height, factor=factor),
                part.labels[: source.limit],
            ),
            found.n_classes,
            source.device,
        )
        for part in (found.train, found.validation, found.test)
    )
    shape = train.inputs.shape[1:2] + train.inputs.shape[3:]
    return Data(found.name, train, validation, test, "spikes", tuple(shape), _floats)


def _gesture(source: Source) -> Data:
    _check_window(source.window, GESTURE_FRAMES, "gesture has {} frames, one")
    stored = stored_frames(source.root)
    name, splits = _stored(stored, source.window) if stored else _from_archives(source)
    train, validation, test = (_labeled(split, gesture.GESTURES, source.device) for split in splits)
    shape = train.inputs.shape[1:2] + train.inputs.shape[3:]
    return Data(name, train, validation, test, "frames", tuple(shape), _floats)


def _divided(n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of the samples to train on, and of a tenth that is held out."""
    # Here, since scikit-learn takes a second of every start.
    from sklearn.model_selection import train_test_split

    rest, held_out = train_test_split(np.arange(n), test_size=VALIDATION, random_state=SPLIT_SEED)
    return rest, held_out


def _stored(
    found: datasets.GestureFrames, window: int
) -> tuple[str, tuple[datasets.Split, datasets.Split, datasets.Split]]:
    whole, test = found.train_frames[:, None, :window], found.test_frames[:, None, :window]
    rest, held_out = _divided(len(whole))
    train, validation = (
        datasets.Split(whole[part], found.train_labels[part]) for part in (rest, held_out)
    )
    return "dvs_gesture_mat", (train, validation, datasets.Split(test, found.test_labels))


def _from_archives(
    source: Source,
) -> tuple[str, tuple[datasets.Split, datasets.Split, datasets.Split]]:
    read, factor = CAMERAS["dvsgesture"]
    found = read(source.root)
    train, validation, test = (
        datasets.Split(
            gesture_frames(part.first(source.limit), source.window, found.height, factor=factor),
            part.labels[: source.limit],
        )
        for part in (found.train, found.validation, found.test)
    )
    return found.name, (train, validation, test)


def _check_window(window: int, most: int, words: str) -> None:
    if window > most:
        raise UserError(f"--spike_window {window}: a {words.format(most)} per step; lower it")


def _nettalk(source: Source) -> Data:
    found = datasets.load_nettalk(source.nettalk, root=source.root)
    arrays = (found.train_inputs, found.train_targets, found.test_inputs, found.test_targets)
    inputs, targets, *tested = (on_device(part, source.device).float() for part in arrays)
    rest, held_out = _divided(len(inputs))
    return Data(
        name="nettalk",
        train=Samples(inputs[rest], targets[rest]),
        validation=Samples(inputs[held_out], targets[held_out]),
        test=Samples(*tested),
        kind="values",
        shape=tuple(inputs.shape[1:]),
        shown=_floats,
        target_kind="codes",
        codes=on_device(found.codes, source.device).float(),
    )


def _spoken(read: Callable[[Path | None], datasets.Speech]) -> Callable[[Source], Data]:
    def load(source: Source) -> Data:
        _check_window(source.window, BANDS, "recording has {} bands, one")
        speech = read(source.root)
        by_speaker = source.split == "speaker"
        indices = split_by_speaker(speech.speakers) if by_speaker else split_random(speech.labels)
        found = features(speech, source.scaling)[:, :, : source.window]
        train, validation, test = (
            _labeled(datasets.Split(found[part], speech.labels[part]), 10, source.device)
            for part in indices
        )
        shape = found.shape[1:2] + found.shape[3:]
        return Data(speech.name, train, validation, test, "frames", shape, _floats)

    return load


def _span(values: NDArray[np.float32]) -> Span:
    """The range between the 1 % and the 99 % quantile of the values."""
    bottom, top = np.quantile(values, [0.01, 0.99])
    return float(bottom), float(top)


DatasetName = Literal[
    "MNIST",
    "FashionMNIST",
    "CIFAR10",
    "CIFAR10aug",
    "tidigits",
    "fsdd",
    "dvsgesture",
    "nmnist",
    "nettalk",
    "regression_synth",
    "classification_synth",
]

LOADERS: dict[DatasetName, Callable[[Source], Data]] = {
    "MNIST": _images("mnist"),
    "FashionMNIST": _images("fashion_mnist"),
    "CIFAR10": _images("cifar10"),
    "CIFAR10aug": _images("cifar10", mirrored=True),
    "tidigits": _spoken(datasets.load_tidigits_or_fsdd),
    "fsdd": _spoken(datasets.load_fsdd),
    "dvsgesture": _gesture,
    "nmnist": _recorded,
    "nettalk": _nettalk,
    "regression_synth": _synthetic("regression"),
    "classification_synth": _synthetic("classification"),
}
"""What --dataset knows."""


def load(name: DatasetName, source: Source) -> Data:
    """A data set by its name on the command line.

    Raises:
        UserError: the set cannot be had.
        ValueError: the name, or a word of the source, is unknown.
    """
    check_word("data set", name, LOADERS)
    check_word("split", source.split, get_args(Split))
    check_word("scaling", source.scaling, SCALINGS)
    data = LOADERS[name](source)
    return data if source.limit is None else data.first(source.limit)


class Input:
    """The input of one presentation, a few steps at a time.

    Args:
        data: tells how inputs are shown.
        inputs: a batch of stored inputs.
        rand_kill: factor of the random thresholds.
        training: may be changed at random.
        generator: of the thresholds.
    """

    def __init__(
        self,
        data: Data,
        inputs: Shaped[Tensor, "batch *inputs"],
        rand_kill: float,
        training: bool,
        generator: torch.Generator,
    ) -> None:
        self.kind = data.kind
        self.values = data.shown(inputs, training)
        low, high = data.span
        self.levels = self.values if data.span == (0, 1) else (self.values - low) / (high - low)
        self.rand_kill, self.generator = rand_kill, generator

    def rates(self) -> Float[Tensor, "batch *shape"]:
        """The input of a network without steps."""
        return self.values if self.kind == "values" else self.values.flatten(1, 2)

    def steps(self, window: int) -> int:
        """Length of the presentation: the number of frames where there are any, else window."""
        return window if self.kind == "values" else self.values.shape[2]

    def __call__(self, start: int, stop: int) -> Float[Tensor, "time batch *shape"]:
        """The spikes of the steps from start to before stop; every step is drawn once."""
        if self.kind == "values":
            shown = self.levels.expand(stop - start, *self.levels.shape)
        else:
            shown = self.levels[:, :, start:stop].movedim(2, 0)
        if self.kind == "spikes":
            return shown
        draws = torch.rand(shown.shape, generator=self.generator, device=shown.device)
        return torch.gt(shown, draws.mul_(self.rand_kill), out=draws)
