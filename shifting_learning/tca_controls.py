"""Controls of temporal credit assignment: what can be told without any spike's time.

A network that assigns credit in time beats a regression on spike counts, and loses where the times
are shuffled within each trial.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int
from sklearn.linear_model import RidgeCV

from shared.datasets import Trial

PENALTIES = np.logspace(-1, 5, 13)
"""Ridge penalties; leave-one-out cross-validation on the training trials chooses one."""


def spike_counts(
    trials: Sequence[Trial], n_synapses: int
) -> Float[np.ndarray, "trials n_synapses"]:
    """How often each synapse spikes in each trial."""
    return np.array([np.bincount(t.synapses, minlength=n_synapses) for t in trials], np.float64)


def counts_from_spike_counts(
    train: Sequence[Trial], tested: Sequence[Trial], n_synapses: int, largest: int
) -> Int[np.ndarray, " tested"]:
    """The sum of rewards told from the spike counts by ridge regression; timing is thrown away.

    Args:
        train: trials to fit on.
        tested: trials to tell the sum of.
        n_synapses: number of input synapses.
        largest: largest sum; what is told is rounded to a whole number from 0 to this.

    Returns:
        A sum for each tested trial, int64.
    """
    targets = [trial.target for trial in train]
    ridge = RidgeCV(alphas=PENALTIES).fit(spike_counts(train, n_synapses), targets)
    told = np.asarray(ridge.predict(spike_counts(tested, n_synapses)), np.float64)
    return told.round().clip(0, largest).astype(np.int64)


def shuffle_times(trials: Sequence[Trial], rng: np.random.Generator) -> tuple[Trial, ...]:
    """The trials with their spikes' times dealt out anew among all spikes of the trial.

    Every synapse keeps its number of spikes and the trial its times: what is lost is which synapse
    spikes when.
    """
    return tuple(replace(trial, synapses=rng.permutation(trial.synapses)) for trial in trials)
