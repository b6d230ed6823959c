"""Temporal credit assignment: count the rewards that lie hidden in ten seconds of spike trains.

    python shifting_learning/SL_TCA.py                            the paper's task
    python shifting_learning/SL_TCA.py --train-file FILE.mat      train on trials of your own

A trial holds one to five of nine one-second patterns on a noisy background of 500 synapses; its
class is the sum of the patterns' rewards, 0 to 21. A 500-3200-22 network trains on 200 generated
trials (the published file is not at hand) and is tested on the 50 real ones; without the
file of these it is tested on generated ones, and every record says so.

Always to choose the commonest class is right in 14 % of the real trials. Two controls stand in
every record: ridge regression on the spike counts of the synapses, which knows no spike's time, and
the trained network on trials whose spike times were shuffled. Credit in time is assigned where the
network beats the first and loses by the second.
"""

import shared.waiting

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from torch import Tensor

from shared import datasets, experiment
from shared.datasets import SpikeSet, Trial
from shared.errors import UserError, check_words
from shared.experiment import (
    UNNAMED,
    Experiment,
    Named,
    NonNegative,
    Positive,
    as_published,
    paper,
)
from shared.figures import (
    COLORS,
    RULES,
    integer_ticks,
    legend_of_all,
    parts_of,
    plot_columns,
)
from shared.options import script
from shared.run import RUNS, Run, progress, read_checkpoint
from shifting_learning.kernels import SILENT
from shifting_learning.network import Network, Reward, decide, reward_error, step_size
from shifting_learning.rules import Rule
from shifting_learning.SL_Layer import ShiftingLayer, Silent, SNNLayer, Ties
from shifting_learning.SL_MultiInputLy import SNN_MInLy
from shifting_learning.spike_trials import (
    MAX_TARGET,
    TrialBatch,
    batch_trials,
    generate_features,
    generate_trials,
)
from shifting_learning.tca_controls import counts_from_spike_counts, shuffle_times

TRAIN_TRIALS = 200
VALIDATION_TRIALS = 200
TEST_TRIALS = 50  # where the real ones are not there
QUICK_TRIALS = 20  # of each part
CLASSES = MAX_TARGET + 1
EVALUATE_EVERY = 10  # epochs; a look at 250 trials takes as long as an epoch of training
EVALUATION_BATCH = 10


@dataclass(frozen=True)
class Settings(experiment.Settings):
    """The options; the defaults are the tuned preset, the paper's values the published one.

    Raises:
        ValueError: a word is none of those that its field takes.
    """

    train_file: Annotated[Path | None, UNNAMED] = None
    """MATLAB file of training trials in the Spike set's format; without it 200 are generated."""
    hidden: Annotated[Positive[int], paper(3200)] = 3200
    """Hidden neurons."""
    epochs: Annotated[Positive[int], paper(200)] = 200
    """Passes over the training trials."""
    preset: Annotated[Literal["published", "tuned"], Named("{}")] = "tuned"
    """Values of the following options where they are not given."""
    tau: Annotated[Positive[float], paper(1.0)] = 30.0
    """Time constant in s that spike times are divided by before they are coded, exp(t / tau)."""
    hidden_low: Annotated[float, paper(0.0)] = 0.0
    """Initial timings of the hidden layer are uniform in [low / inputs, high / inputs)."""
    hidden_high: Annotated[float, paper(8.0)] = 0.7
    """See --hidden-low."""
    output_low: Annotated[float, paper(0.0)] = 0.0
    """The same of the output layer."""
    output_high: Annotated[float, paper(8.0)] = 8.0
    """See --output-low."""
    batch_size: Annotated[Positive[int], paper(1)] = 5
    """Trials per step."""
    lr_ets: Annotated[Positive[float], paper(1e-5)] = 1e-4
    """Step size of the timings in the first epoch."""
    lr_ets_end: Annotated[Positive[float], paper(1e-6)] = 1e-6
    """Step size that they would have after the last."""
    output_rate: Annotated[Positive[float], paper(1.0)] = 1.25
    """Step size of the output layer relative to the hidden one's."""
    lr_etp: Annotated[NonNegative[float], paper(1e-6)] = 0.0
    """Step size of the passing times."""
    reward: Annotated[Reward, paper("published")] = "first_spike"
    """The reward signal, see `network.reward_error`."""
    sharpness: Annotated[Positive[float], paper(1.0)] = 30.0
    """Of the reward signal."""
    neighbors: Annotated[NonNegative[float], paper(0.0)] = 3.0
    """Of the reward signal, in counts."""
    silent: Annotated[Silent, paper("published")] = "deadline"
    """What neurons without a spike learn, see `SL_Layer.ShiftingLayer`; the deadline is twice the
    code of the trial's end."""
    wake: Annotated[NonNegative[float], paper(0.0)] = 0.1
    """How strongly silent neurons are woken, see there."""
    ties: Annotated[Ties, paper("published")] = "event"
    """How inputs of one time are taken, see there."""
    shuffle: Annotated[Literal["every", "never"], paper("never")] = "every"
    """Every epoch, or never."""
    rule: Annotated[Rule, Named("{}"), paper("published-tca")] = "shifting"
    """The paper's rule; the exact gradient; or what the published program of this task computes."""

    def __post_init__(self) -> None:
        check_words(self)


def defaults(asked: Settings) -> Settings:
    """What options that are not given start from: by preset and rule.

    The exact gradient, smaller by its divisor, is tuned to larger steps.
    """
    changes: dict[str, Any] = {"epochs": 2} if asked.quick else {}
    if asked.preset == "published":
        return replace(as_published(Settings()), **changes)
    if asked.rule == "exact":
        changes |= {"lr_ets": 3e-4, "lr_ets_end": 3e-6}
    return Settings(**changes)


@dataclass(frozen=True)
class Trials:
    """What is trained and tested on.

    Attributes:
        name: of the test set.
        spike_set: the features.
        parts: trials to train on, choose by and test on: "train", "validation", "test".
    """

    name: str
    spike_set: SpikeSet
    parts: Mapping[str, tuple[Trial, ...]]

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Name, number of trials and checksum of all parts."""
        every = [trial for some in self.parts.values() for trial in some]
        return datasets.fingerprint(
            self.name,
            len(every),
            np.concatenate([trial.times for trial in every]),
            np.concatenate([trial.synapses for trial in every]),
            np.array([(len(trial.times), trial.target) for trial in every]),
        )


def load(settings: Settings, device: torch.device | None = None) -> Trials:
    """The trials that were asked for.

    Raises:
        UserError: the file of training trials cannot be had, or has other synapses.
    """
    seed = settings.seed
    try:
        spike_set = datasets.load_spike_set(root=settings.data_root)
        name, test = "spike_set", spike_set.trials
    except datasets.DatasetMissingError as error:
        name = "spike_set_generated"
        datasets.say_stand_in("the Spike set", name, "generated features and test trials", error)
        spike_set = generate_features(np.random.default_rng([seed, 0]))
        test = generate_trials(TEST_TRIALS, np.random.default_rng([seed, 3]), spike_set)
    if settings.train_file:
        own = datasets.load_spike_set(settings.train_file)
        if own.n_synapses != spike_set.n_synapses:
            raise UserError(
                f"{settings.train_file} has {own.n_synapses} synapses, the test trials have "
                f"{spike_set.n_synapses}: train on a file of the same features"
            )
        for number, trial in enumerate(own.trials, 1):
            if trial.target > MAX_TARGET:
                raise UserError(
                    f"{settings.train_file}: the rewards of trial {number} are {trial.target}, and "
                    f"the network counts to {MAX_TARGET}: leave such trials out"
                )
        train = own.trials
    else:
        train = generate_trials(TRAIN_TRIALS, np.random.default_rng([seed, 1]), spike_set)
    validation = generate_trials(VALIDATION_TRIALS, np.random.default_rng([seed, 2]), spike_set)
    n = QUICK_TRIALS if settings.quick else None
    parts = {"train": train[:n], "validation": validation[:n], "test": test[:n]}
    return Trials(name, spike_set, parts)


def session(settings: Settings, data: str) -> str:
    """How the experiment's name begins: by the trials that were trained and tested on."""
    words = ["sl_tca"]
    if settings.train_file:
        words.append(f"train-{settings.train_file.stem}")
    if data != "spike_set":
        words.append("generated")
    return "_".join(words)


EXPERIMENT = Experiment(
    paper="shifting_learning",
    description=__doc__,
    settings=Settings,
    load=load,
    session=session,
    defaults=defaults,
    grows=lambda settings: False,  # the step size falls over all epochs
)


class Batches:
    """Trials on the device, to be taken in batches.

    Args:
        trials: the trials.
        tau: time constant in s.
        device: where they go.
    """

    def __init__(self, trials: tuple[Trial, ...], tau: float, device: torch.device) -> None:
        self._trials = trials
        self._tau = tau
        self._device = device

    def __len__(self) -> int:
        return len(self._trials)

    def take(self, which: Int[Tensor, " batch"]) -> TrialBatch:
        """The trials of these numbers, their times in units of tau."""
        batch = batch_trials([self._trials[i] for i in which.tolist()])
        batch = batch._replace(spike_times=batch.spike_times / self._tau)
        return TrialBatch(*(x.to(self._device) for x in batch))


def build(settings: Settings, n_in: int, duration: float) -> Network:
    """The network n_in - hidden - 22 with its initial timings, float32; the duration is in s.

    Raises:
        UserError: tau is so small that codes of a trial pass that of a silent neuron.
    """
    if duration / settings.tau >= math.log(SILENT / 2):
        raise UserError(
            f"--tau {settings.tau:g}: codes exp(t / tau) of a trial of {duration:g} s would pass "
            f"that of a silent neuron; give more than {duration / math.log(SILENT / 2):.3g}"
        )
    generator = torch.Generator().manual_seed(settings.seed)

    def layer(
        kind: type[ShiftingLayer], n_in: int, n_out: int, low: float, high: float
    ) -> ShiftingLayer:
        low, high = low / n_in, high / n_in
        e_ts = low + (high - low) * torch.rand(n_in, n_out, generator=generator)
        return kind(
            n_in,
            n_out,
            e_ts,
            rule=settings.rule,
            silent=settings.silent,
            deadline=2 * math.exp(duration / settings.tau),
            wake=settings.wake,
            ties=settings.ties,
        )

    hidden = settings.hidden
    return Network(
        layer(SNN_MInLy, n_in, hidden, settings.hidden_low, settings.hidden_high),
        layer(SNNLayer, hidden, CLASSES, settings.output_low, settings.output_high),
        output_rate=settings.output_rate,
    )


def respond(network: Network, batch: TrialBatch) -> Float[Tensor, "batch classes"]:
    """Output codes of a batch of trials."""
    z_out: Tensor = network(batch.spike_times, batch.synapse, offsets=batch.offsets)
    return z_out


def train_epoch(
    settings: Settings,
    network: Network,
    trials: Batches,
    lr_ets: float,
    generator: torch.Generator,
) -> dict[str, float]:
    """One pass over the trials.

    Returns:
        Accuracy and mean absolute error of the count as seen before each step, and the share of
        silent hidden neurons.
    """
    n = len(trials)
    every = settings.shuffle == "every"
    order = torch.randperm(n, generator=generator) if every else torch.arange(n)
    totals = torch.zeros(3, dtype=torch.float64)
    chosen = torch.split(order, settings.batch_size)
    for which in progress(chosen, len(chosen), "train"):
        batch = trials.take(which)
        z_out = respond(network, batch)
        delta = reward_error(
            z_out,
            batch.targets,
            settings.reward,
            settings.sharpness,
            neighbors=settings.neighbors,
        )
        network.learn(delta, lr_ets, settings.lr_etp)
        miss = (decide(z_out) - batch.targets).abs()
        silent = network.silent_share() * len(which)
        totals = totals.to(z_out.device) + torch.stack([(miss == 0).sum(), miss.sum(), silent])
    names = ("train_accuracy", "train_count_error", "silent_hidden")
    return dict(zip(names, (totals / n).tolist(), strict=True))


def counts(network: Network, trials: Batches) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"]]:
    """Decided and right counts of all trials."""
    decided, right = [], []
    for which in torch.split(torch.arange(len(trials)), EVALUATION_BATCH):
        batch = trials.take(which)
        decided.append(decide(respond(network, batch)))
        right.append(batch.targets)
    return torch.cat(decided), torch.cat(right)


def score(network: Network, trials: Batches, name: str) -> dict[str, float]:
    """Accuracy and mean absolute error of the count."""
    decided, right = (x.cpu().numpy() for x in counts(network, trials))
    return compare(decided, right, name)


def compare(decided: np.ndarray, right: np.ndarray, name: str, of: str = "") -> dict[str, float]:
    """Accuracy and mean absolute error of the count; `of` ends the numbers' names."""
    return {
        f"{name}_accuracy{of}": float(np.mean(decided == right)),
        f"{name}_count_error{of}": float(np.mean(abs(decided - right))),
    }


def draw_curves(rows: list[dict[str, float]], majority: float, title: str) -> Figure:
    """Accuracy and error of the count over epochs; only some are tested."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 3.2), layout="constrained")
    plot_columns(left, rows, parts_of("accuracy"), "accuracy (%)", factor=100)
    line = left.axhline if len(rows) > 1 else left.axvline  # one epoch is points, not curves
    line(100 * majority, color="gray", linestyle=":", label="commonest class")
    plot_columns(right, rows, parts_of("count_error"), "mean absolute error of the count")
    for axes in (left, right) if len(rows) > 1 else ():
        axes.set_ylim(bottom=0)
    legend_of_all(figure)
    figure.suptitle(title, fontsize=10)
    return figure


def draw_trial(trial: Trial, feature_length: float) -> Figure:
    """Raster of a trial; its features are shaded, with their rewards."""
    figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
    axes.scatter(trial.times, trial.synapses, s=1, color="k", linewidths=0)
    for onset, reward, number in zip(trial.onsets, trial.rewards, trial.feature_ids, strict=True):
        color = COLORS[number % len(COLORS)]
        axes.axvspan(onset, onset + feature_length, color=color, alpha=0.25)
        axes.text(onset + feature_length / 2, 505, f"+{reward}", ha="center", va="bottom")
    axes.set(xlabel="time (s)", ylabel="synapse", ylim=(0, 500))
    axes.set_title(f"features and their rewards; the count is {trial.target}", pad=18)
    return figure


def draw_counts(decided: np.ndarray, right: np.ndarray, title: str) -> Figure:
    """Decided against right counts; the area of a dot is the number of trials."""
    figure, axes = plt.subplots(figsize=(4.4, 4), layout="constrained")
    pairs, number = np.unique(np.stack([right, decided]), axis=1, return_counts=True)
    axes.plot([0, CLASSES - 1], [0, CLASSES - 1], color="gray", linestyle=":")
    axes.scatter(pairs[0], pairs[1], s=25 * number, alpha=0.7, color=RULES["test"].color)
    axes.set(xlabel="sum of the rewards", ylabel="count learned", title=title)
    axes.title.set_fontsize(10)
    for axis in (axes.xaxis, axes.yaxis):
        integer_ticks(axis)
    axes.grid(alpha=0.3)
    return figure


def train(settings: Settings, data: Trials, device: torch.device, run: Run) -> None:
    """Train and test the network, write figures and result."""
    parts = {part: Batches(some, settings.tau, device) for part, some in data.parts.items()}
    network = build(settings, data.spike_set.n_synapses, data.spike_set.duration).to(device)
    generator = torch.Generator().manual_seed(settings.seed)
    first = run.restore(network=network, generator=generator)

    for epoch in range(first, settings.epochs):
        lr_ets = step_size(
            epoch, settings.epochs, settings.lr_ets, settings.lr_ets_end, "exponential"
        )
        row = train_epoch(settings, network, parts["train"], lr_ets, generator)
        if (epoch + 1) % EVALUATE_EVERY == 0 or epoch + 1 == settings.epochs:
            row |= score(network, parts["validation"], "validation")
            row |= score(network, parts["test"], "test")
        run.log(epoch + 1, row)
        run.checkpoint(epoch + 1, network=network, generator=generator)

    controls = control(settings, network, data, device)
    report(run, network, data, parts["test"], controls)


def control(
    settings: Settings, network: Network, data: Trials, device: torch.device
) -> dict[str, float]:
    """The scores of the controls, see `tca_controls`, on validation and test trials."""
    scores: dict[str, float] = {}
    rng = np.random.default_rng([settings.seed, 4])
    n_synapses = data.spike_set.n_synapses
    for part in ("validation", "test"):
        tested = data.parts[part]
        right = np.array([trial.target for trial in tested])
        told = counts_from_spike_counts(data.parts["train"], tested, n_synapses, MAX_TARGET)
        scores |= compare(told, right, part, "_of_spike_counts")
        shuffled = Batches(shuffle_times(tested, rng), settings.tau, device)
        decided = counts(network, shuffled)[0].cpu().numpy()
        scores |= compare(decided, right, part, "_last_times_shuffled")
    return scores


def report(
    run: Run, network: Network, data: Trials, test: Batches, controls: dict[str, float]
) -> None:
    """Draw the figures and write the result."""
    decided, right = (x.cpu().numpy() for x in counts(network, test))
    majority = float(np.bincount(right).max() / len(right))
    rows, name = run.metrics(), run.experiment
    last = rows[-1]
    selected = max(rows, key=lambda row: row.get("validation_accuracy", -1.0))
    trial = draw_trial(data.parts["test"][0], data.spike_set.feature_length)
    run.save_figure(trial, "trial")
    run.save_figure(draw_counts(decided, right, f"{name}, {len(right)} test trials"), "count")
    metrics = {f"{what}_last": last[what] for what in last if what != "epoch"}
    metrics["test_accuracy_selected"] = selected["test_accuracy"]
    metrics["selected_epoch"] = selected["epoch"]
    metrics["test_accuracy_of_commonest_class"] = majority
    metrics |= controls
    run.finish(
        epochs=int(last["epoch"]),
        metrics=metrics,
        figure=run.save_figure(draw_curves(rows, majority, name), "curves"),
    )


# ------------------------------------------------------------------------------ published calls


def _published() -> Settings:
    folder = RUNS / "shifting_learning" / "sl_tca_published" / "seed0"
    return EXPERIMENT.parse(["--preset", "published", "--out", str(folder)])


def preprocess() -> dict[str, tuple[Trial, ...]]:
    """The trials that the published program would read: "train" and "test".

    The training trials are generated (see the module's text), and nothing is written.
    """
    parts = load(_published()).parts
    return {part: parts[part] for part in ("train", "test")}


def Spike_train() -> None:
    """Train with the published settings, in runs/shifting_learning/sl_tca_published/seed0."""
    EXPERIMENT.run(_published(), train)


def Spike_test(
    spk: Sequence[Float[Tensor, " K"]], idx: Sequence[Int[Tensor, " K"]], targets: Tensor
) -> tuple[int, int]:
    """Test the network that `Spike_train` saved.

    Args:
        spk: spike times of each trial, seconds, ascending.
        idx: synapse of each spike.
        targets: class of each trial.

    Returns:
        Number of right decisions, and of trials.

    Raises:
        UserError: `Spike_train` has saved nothing.
    """
    settings = _published()
    assert settings.out is not None
    path = settings.out / "checkpoint.pt"
    if not path.exists():
        raise UserError(f"{path} is not there: call Spike_train first")
    saved = read_checkpoint(path)["state"]["network"]
    network = build(settings, len(saved["layers.0.e_ts"]), 0.0)
    network.load_state_dict(saved)
    decided = torch.cat([decide(network(*trial)) for trial in zip(spk, idx, strict=True)])
    return int((decided == targets).sum()), len(targets)


def main() -> None:
    """Train and test a network."""
    EXPERIMENT.main(train)


if __name__ == "__main__":
    script(main)
