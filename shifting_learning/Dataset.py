"""Coding and preprocessing of shifting learning: from the arrays of `shared.datasets` to codes.

A brighter pixel or larger feature fires earlier: an intensity x in [0, 1] has the spike time 1 - x
and the code z = exp(1 - x).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, Shaped, UInt8
from numpy.typing import NDArray
from torch import Tensor

from shared.datasets import Spikes, SpikeSet, Table, Trial, data_root, load_table
from shared.errors import UserError

Preprocess = Literal["none", "canny", "binary", "cut"]
Scaling = Literal["global", "feature"]

TABLE_SHIFT = 0.01
"""What the published scaling of tables adds after min-max; intensities then end at 1.01."""

CUT_TIMES = (0.01, 2.3)
"""Spike times of pixels brighter than 0.5 and of all others, where images are cut."""

TARGET_TIMES = (0.01, 0.99)
"""Target spike times of the right class and of the others."""

WINE_QUALITY_COLUMNS = 12
"""Eleven measurements and the grade."""

REWARDS = (5, 0, 2, 0, 4, 0, 3, 6, 1)
"""Rewards of the Spike set's features, by id from 1."""

MAX_TARGET = 21
"""Largest class of the Spike set: the network has an output for each sum of rewards, 0 to 21."""

_FEATURE_COUNTS = (0.0109, 0.6949, 0.2871, 0.0071)  # P(N = 0, 1, 2, 3) spikes of a synapse
_FIRST_ONSET = (0.005, 0.009)  # s, both included
_PAUSE = (0.1, 3.1)  # s, between the end of a feature and the next
_ASKED_FEATURES = (
    10  # a trial is to hold 1 to 10 features, before those that do not fit are left out
)
_MAX_FEATURES = 5  # the most that the published trials hold
_BACKGROUND_RATE = 0.3716  # Hz, of a synapse outside features
_MODULATION = 0.03  # standard deviation of the background's common modulation
_MODULATION_PERIODS = (2.0, 10.0)  # s; the file's 50 trials fix no more than that it is slow
_DROPPED = 0.162  # share of the background's spikes that is missing inside features


class TrialBatch(NamedTuple):
    """Trials of different lengths as the rows of a CSR matrix, ready for `SNN_MInLy`.

    Attributes:
        spike_times: seconds, ascending within each trial, float64, shape [K].
        synapse: synapse of each spike, int32, shape [K].
        offsets: trial n owns spikes offsets[n] to offsets[n + 1] - 1, int64, shape [n + 1].
        targets: class of each trial, the sum of its rewards, int64, shape [n].
    """

    spike_times: Float[Tensor, " K"]
    synapse: Int[Tensor, " K"]
    offsets: Int[Tensor, " n_plus_1"]
    targets: Int[Tensor, " n"]


def code(x: Shaped[Tensor, "*shape"] | NDArray[Any]) -> Float[Tensor, "*shape"]:
    """Spike codes of intensities, z = exp(1 - x).

    Args:
        x: intensities in [0, 1], or up to 1.01 as the published scaling of tables leaves them.

    Returns:
        Codes in the shape of `x`, in its type where that is a float, else float32.

    Raises:
        ValueError: an intensity is NaN or out of range.
    """
    x = torch.as_tensor(x)
    if not x.is_floating_point():
        x = x.float()
    if x.isnan().any():
        raise ValueError("an intensity is NaN: check the data")
    # A hair more than 1.01: scaling in float32 rounds.
    if x.numel() and not (x.min() >= 0 and x.max() <= 1 + TABLE_SHIFT + 1e-6):
        raise ValueError(
            f"intensities must lie in [0, 1], not between {x.min():g} and {x.max():g}: "
            "scale the data first"
        )
    return torch.exp(1 - x)


def cut_codes(x: Shaped[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Codes of images cut at 0.5, as the authors' older program trains and tests with.

    Args:
        x: intensities in [0, 1].

    Returns:
        exp(0.01) where x is above 0.5, exp(2.3) elsewhere, in the type of `x`.
    """
    return _cut_times(x).exp()


def published_test_codes(x: Shaped[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Codes with which the published program tests on MNIST.

    It cuts pixels at 0.5 to the times 0.01 and 2.3 and then codes these times as if they were
    intensities. Bright pixels come late, at exp(0.99), dark ones early, at exp(-1.3): the
    contrary of what the network was trained on. Its decision is the argmax of the softmax of the
    output codes, the latest spike.

    Args:
        x: intensities in [0, 1].

    Returns:
        Codes in the type and shape of `x`.
    """
    return (1 - _cut_times(x)).exp()


def _cut_times(x: Tensor) -> Tensor:
    bright, dark = (torch.full_like(x, time) for time in CUT_TIMES)
    return torch.where(x > 0.5, bright, dark)


def with_reference(z: Float[Tensor, "*batch n_in"]) -> Float[Tensor, "*batch n_in_plus_1"]:
    """Codes with one input more, a reference spike at time 0 (code 1).

    A neuron's code u = sum s z / (S - 1) grows in proportion to its inputs' codes, so that a
    network without a constant input (a digit has one in its black pixels) can only compare codes by
    their ratios. The reference gives it an offset. It is ours, not the paper's.

    Args:
        z: codes, shape [..., n_in].

    Returns:
        Codes of the same type, shape [..., n_in + 1]; the reference is last.
    """
    return torch.cat([z, torch.ones_like(z[..., :1])], dim=-1)


def target_codes(
    labels: Int[Tensor, "*shape"] | NDArray[np.integer[Any]],
    n_classes: int,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "*shape n_classes"]:
    """Target codes: exp(0.01) for the right class, exp(0.99) for the others.

    Args:
        labels: classes from 0 to n_classes - 1, any shape.
        n_classes: number of output neurons.
        dtype: type of the codes.

    Returns:
        Codes, the shape of `labels` and one more dimension of n_classes.

    Raises:
        ValueError: a label is out of range.
    """
    labels = torch.as_tensor(labels).to(torch.int64)
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < n_classes:
        raise ValueError(f"labels must lie between 0 and {n_classes - 1}")
    right, others = TARGET_TIMES
    is_right = labels[..., None] == torch.arange(n_classes, device=labels.device)
    # Times made in the type asked for: 0.01 rounded to float32 is wrong in the ninth digit.
    times = torch.full(is_right.shape, others, dtype=dtype, device=labels.device)
    return times.masked_fill_(is_right, right).exp()


def image_intensities(
    images: UInt8[np.ndarray, "n 1 h w"], preprocess: Preprocess = "none"
) -> Float32[np.ndarray, "n pixels"]:
    """Intensities of grey images, a row an image.

    Args:
        images: uint8, shape [n, 1, height, width].
        preprocess: "none": pixel / 255. "canny": 1 on the edges that scikit-image's Canny detector
            finds with sigma 0.5, else 0 (about 0.2 ms an image). "binary": 1 where the pixel is
            brighter than 0.5, else 0. "cut": the same, to be coded by `cut_codes`.

    Returns:
        Intensities in [0, 1], float32, shape [n, height * width].

    Raises:
        ValueError: the images are no such array, or the preprocessing is unknown.
    """
    if preprocess not in get_args(Preprocess):
        raise ValueError(f"preprocess must be one of {get_args(Preprocess)}, not {preprocess!r}")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] != 1:
        raise ValueError(
            "images must be uint8 of shape [n, 1, height, width], "
            f"not {images.dtype} of shape {list(images.shape)}"
        )
    intensities: NDArray[np.float32] = np.divide(images[:, 0], 255, dtype=np.float32)
    if preprocess in ("binary", "cut"):
        intensities = (intensities > 0.5).astype(np.float32)
    elif preprocess == "canny":
        intensities = _edges(intensities)
    return intensities.reshape(len(images), images.shape[2] * images.shape[3])


def _edges(intensities: Float32[np.ndarray, "n h w"]) -> Float32[np.ndarray, "n h w"]:
    # Imported late: only this preprocessing needs scikit-image, and its import takes a second.
    from skimage import feature

    canny: Callable[..., NDArray[np.bool_]] = feature.canny
    edges = np.empty_like(intensities)
    for image, found in zip(intensities, edges, strict=True):
        found[:] = canny(image, sigma=0.5)
    return edges


def table_intensities(
    x: Shaped[np.ndarray, "n features"],
    scaling: Scaling = "global",
    scaled_by: NDArray[np.bool_] | None = None,
) -> Float[np.ndarray, "n features"]:
    """Intensities of a table: min-max scaling to [0, 1], plus 0.01.

    Args:
        x: samples, shape [n, features], in units of their own.
        scaling: "global": minimum and maximum are those of the whole array (published; for
            features of one unit, such as Iris's). "feature": those of each column (for features of
            different units, such as wine's). A column without any difference becomes 0.01.
        scaled_by: samples that minimum and maximum are taken of, bool [n]; what lies outside of
            them is clipped. Default: all, as published.

    Returns:
        Intensities in [0.01, 1.01], float64, shape [n, features].

    Raises:
        ValueError: the array is empty, not two-dimensional or not finite, or the scaling is
            unknown.
    """
    if scaling not in get_args(Scaling):
        raise ValueError(f"scaling must be one of {get_args(Scaling)}, not {scaling!r}")
    x = np.asarray(x, np.float64)
    if x.ndim != 2 or not x.size:
        raise ValueError(f"a table must have shape [n, features], not {list(x.shape)}")
    if not np.isfinite(x).all():
        raise ValueError("a table must hold finite numbers only: check the data")
    axis = None if scaling == "global" else 0
    known = x if scaled_by is None else x[scaled_by]
    low = known.min(axis=axis)
    extent = known.max(axis=axis) - low
    scaled: NDArray[np.float64] = (x - low) / np.where(extent > 0, extent, 1.0)
    return scaled.clip(0, 1) + TABLE_SHIFT


def iris_loader() -> tuple[Float[Tensor, "150 4"], Float[Tensor, "150 3"]]:
    """Iris as the published program loads it, in a random order from torch's random state.

    Returns:
        Intensities of the features, min-max over the whole table plus 0.01, float64 [150, 4]; and
        of the targets, 0.99 for the right class and 0.01 for the others, float32 [150, 3].
    """
    table = load_table("iris")
    order = torch.randperm(len(table.labels))
    x = torch.from_numpy(table_intensities(table.inputs))[order]
    y = torch.full((len(x), len(table.class_names)), 0.01)
    y[torch.arange(len(x)), torch.from_numpy(table.labels)[order]] = 0.99
    return x, y


def load_wine_quality(root: Path | None = None) -> Table:
    """Wine quality (Cortez et al. 2009): eleven measurements of a wine, its quality as the class.

    Args:
        root: the data root; the files lie in its folder wine_quality, as the UCI Machine Learning
            Repository gives them. Red wines, white ones, or both are read, whichever are there.

    Returns:
        The table; classes are the grades that occur, in ascending order.

    Raises:
        UserError: no file is there, or one is not as published.
    """
    folder = data_root(root) / "wine_quality"
    paths = [folder / f"winequality-{kind}.csv" for kind in ("red", "white")]
    there = [path for path in paths if path.exists()]
    if not there:
        raise UserError(
            f"wine quality was looked for in {paths[0]}: get winequality-red.csv from the UCI "
            "Machine Learning Repository (data set 186) and put it there"
        )
    rows = []
    for path in there:
        try:
            rows.append(np.loadtxt(path, delimiter=";", skiprows=1, ndmin=2))
        except ValueError as error:
            raise UserError(f"{path} is no table of numbers divided by semicolons") from error
        if rows[-1].shape[1] != WINE_QUALITY_COLUMNS:
            raise UserError(f"{path} has {rows[-1].shape[1]} columns, not {WINE_QUALITY_COLUMNS}")
    values = np.concatenate(rows)
    grades, labels = np.unique(values[:, -1].astype(np.int64), return_inverse=True)
    return Table(
        "wine_quality", values[:, :-1], labels.astype(np.int64), tuple(f"grade {g}" for g in grades)
    )


def generate_features(
    seed: int | np.random.Generator,
    *,
    rewards: Sequence[int] = REWARDS,
    n_synapses: int = 500,
    duration: float = 10.0,
    feature_length: float = 1.0,
    dt: float = 0.001,
) -> SpikeSet:
    """New features for where the published file of the Spike set is not there.

    Every synapse has 0 to 3 spikes in a feature, as often as in the published nine, at times
    uniform over the feature.

    Args:
        seed: a seed, or a generator that is drawn from.
        rewards: reward of each feature, by id from 1.
        n_synapses: number of input synapses.
        duration: length of a trial, seconds.
        feature_length: length of a feature, seconds.
        dt: the grid of onsets and background spikes, seconds.

    Returns:
        A Spike set with these features and no trials.
    """
    rng = np.random.default_rng(seed)
    return SpikeSet(
        trials=(),
        features=tuple(_generate_feature(rng, n_synapses, feature_length) for _ in rewards),
        rewards=np.array(rewards, np.int64),
        n_synapses=n_synapses,
        duration=duration,
        feature_length=feature_length,
        dt=dt,
    )


def _generate_feature(rng: np.random.Generator, n_synapses: int, length: float) -> Spikes:
    counts = rng.choice(len(_FEATURE_COUNTS), size=n_synapses, p=_FEATURE_COUNTS)
    synapses = np.repeat(np.arange(n_synapses), counts)
    return _in_order_of_time(rng.uniform(0, length, len(synapses)), synapses)


def generate_trials(
    n: int, seed: int | np.random.Generator, spike_set: SpikeSet, *, max_target: int = MAX_TARGET
) -> tuple[Trial, ...]:
    """New trials of the Spike set, by the statistics of the published ones.

    Features follow one another without overlap on a background of random spikes, at 0.3716 Hz a
    synapse with a slow modulation common to all; inside a feature 16.2 % of it are missing.

    Args:
        n: number of trials.
        seed: a seed, or a generator that is drawn from.
        spike_set: the features with their rewards, and the trials' format: that of
            `shared.datasets.load_spike_set` or of `generate_features`. Its own trials play no part.
        max_target: largest class. Features whose rewards sum up to more are drawn again (1 % of
            trials), since the network has an output for each of 0 to 21.

    Returns:
        The trials; `Trial.target` is the class.

    Raises:
        ValueError: n is negative, the set has no features, or five of the least
            reward exceed `max_target`.
    """
    if n < 0:
        raise ValueError(f"the number of trials must not be negative, as {n} is")
    if not spike_set.features:
        raise ValueError("the Spike set must have features to make trials of")
    if not 0 <= _MAX_FEATURES * int(spike_set.rewards.min()) <= max_target:
        raise ValueError(
            f"max_target {max_target} is too small for rewards from {spike_set.rewards.min()} up"
        )
    rng = np.random.default_rng(seed)
    return tuple(_generate_trial(rng, spike_set, max_target) for _ in range(n))


def _generate_trial(rng: np.random.Generator, spike_set: SpikeSet, max_target: int) -> Trial:
    onsets = _draw_onsets(rng, spike_set)
    chosen = rng.integers(len(spike_set.features), size=len(onsets))
    while spike_set.rewards[chosen].sum() > max_target:
        chosen = rng.integers(len(spike_set.features), size=len(onsets))
    features = [spike_set.features[i] for i in chosen]
    background = _draw_background(rng, onsets, spike_set)
    placed = [f.times + onset for f, onset in zip(features, onsets, strict=True)]
    times, synapses = _in_order_of_time(
        np.concatenate([background.times, *placed]),
        np.concatenate([background.synapses, *(f.synapses for f in features)]),
    )
    return Trial(times, synapses, onsets, spike_set.rewards[chosen], chosen + 1)


def _draw_onsets(rng: np.random.Generator, spike_set: SpikeSet) -> NDArray[np.float64]:
    """Onsets in s on the grid, for a number of features that is uniform over 1 to 10 at first.

    Features that would not end within the trial are left out, and a sixth (1 % of trials have room
    for one), which no published trial has.
    """
    n = int(rng.integers(1, _ASKED_FEATURES, endpoint=True))
    gaps = spike_set.feature_length + rng.uniform(*_PAUSE, size=n)
    gaps[0] = rng.uniform(*_FIRST_ONSET)
    dt = spike_set.dt
    onsets: NDArray[np.float64] = np.round(np.cumsum(gaps) / dt) * dt
    return onsets[onsets + spike_set.feature_length <= spike_set.duration][:_MAX_FEATURES]


def _draw_background(
    rng: np.random.Generator, onsets: NDArray[np.float64], spike_set: SpikeSet
) -> Spikes:
    """Background spikes on the grid, at most one a synapse and step."""
    n_steps = round(spike_set.duration / spike_set.dt)
    at: NDArray[np.floating[Any]] = np.arange(n_steps) * spike_set.dt
    inside = ((at >= onsets[:, None]) & (at < onsets[:, None] + spike_set.feature_length)).any(0)
    rate = _BACKGROUND_RATE * _modulation(rng, at) * np.where(inside, 1 - _DROPPED, 1.0)
    # Dropping each spike of a Poisson process with probability q leaves one of rate 1 - q; and a
    # sum over synapses is again one: its steps are drawn first, a synapse for each after.
    spikes_a_step = rng.poisson(rate * spike_set.dt * spike_set.n_synapses)
    steps = np.repeat(np.arange(n_steps), spikes_a_step)
    synapses = rng.integers(spike_set.n_synapses, size=len(steps))
    cells = np.unique(steps * spike_set.n_synapses + synapses)
    return Spikes(cells // spike_set.n_synapses * spike_set.dt, cells % spike_set.n_synapses)


def _modulation(rng: np.random.Generator, at: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Factor of the background's rate: one slow sine a trial, 3 % in standard deviation."""
    period = rng.uniform(*_MODULATION_PERIODS)
    phase = rng.uniform(0, 2 * np.pi)
    factor: NDArray[np.float64] = 1 + _MODULATION * np.sqrt(2) * np.sin(
        2 * np.pi * at / period + phase
    )
    return factor


def _in_order_of_time(times: NDArray[np.float64], synapses: NDArray[np.int64]) -> Spikes:
    order = np.lexsort((synapses, times))
    return Spikes(times[order], synapses[order])


def batch_trials(trials: Sequence[Trial]) -> TrialBatch:
    """Trials one after another, as `SNN_MInLy` takes them.

    Args:
        trials: at least one trial.

    Returns:
        The batch, on the CPU.

    Raises:
        ValueError: there is no trial.
    """
    if not trials:
        raise ValueError("a batch needs at least one trial")
    return TrialBatch(
        torch.from_numpy(np.concatenate([trial.times for trial in trials])),
        torch.from_numpy(np.concatenate([trial.synapses for trial in trials])).to(torch.int32),
        torch.from_numpy(np.cumsum([0, *(len(trial.times) for trial in trials)])),
        torch.tensor([trial.target for trial in trials]),
    )
