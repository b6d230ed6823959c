"""Trials of the Spike set: features and trials by the statistics of the published ones."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from shared.datasets import Spikes, SpikeSet, Trial

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
