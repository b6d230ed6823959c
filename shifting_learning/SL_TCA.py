"""Temporal credit assignment: count the rewards that lie hidden in ten seconds of spike trains.

    python shifting_learning/SL_TCA.py                            the paper's task
    python shifting_learning/SL_TCA.py --train-file FILE.mat      train on trials of your own

A trial holds one to five of nine one-second patterns on a noisy background of 500 synapses; its
class is the sum of the patterns' rewards, 0 to 21. A 500-3200-22 network trains on 200 generated
trials (the published training file cannot be had) and is tested on the 50 real ones; without the
file of these it is tested on generated ones, and every record says so.

Always to choose the commonest class is right in 14 % of the real trials. Two controls stand in
every record: ridge regression on the spike counts of the synapses, which knows no spike's time, and
the trained network on trials whose spike times were shuffled. Credit in time is assigned where the
network beats the first and loses by the second.
"""

import argparse
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from torch import Tensor

from shared import datasets
from shared.datasets import SpikeSet, Trial
from shared.device import prepare
from shared.errors import UserError, check_words
from shared.figures import (
    COLORS,
    RULES,
    integer_ticks,
    legend_of_all,
    parts_of,
    plot_columns,
)
from shared.options import (
    add_common_options,
    add_preset_options,
    check_positive,
    experiment_name,
    parse,
    script,
)
from shared.run import Run, carry_out, progress, read_checkpoint
from shifting_learning.network import (
    Network,
    Reward,
    decide,
    named_sizes,
    reward_error,
    step_size,
)
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

EPOCHS = 200
HIDDEN = 3200
TRAIN_TRIALS = 200
VALIDATION_TRIALS = 200
TEST_TRIALS = 50  # where the real ones are not there
CLASSES = MAX_TARGET + 1
EVALUATE_EVERY = 10  # epochs; a look at 250 trials takes as long as an epoch of training
EVALUATION_BATCH = 10


@dataclass(frozen=True)
class Settings:
    """What a preset fixes; every field is an option of the same name.

    Attributes:
        tau: time constant in s that spike times are divided by before they are coded, exp(t/tau).
        hidden_low, hidden_high, output_low, output_high: initial timings of a layer are uniform in
            [low / n_in, high / n_in).
        batch_size: trials per step.
        lr_ets, lr_ets_end: step size of the timings in the first epoch and after the last.
        output_rate: step size of the output layer relative to the hidden one's.
        lr_etp: step size of the passing times.
        reward, sharpness, neighbours: the reward signal, see `network.reward_error`.
        silent, wake, ties: silent neurons and inputs of one time, see `SL_Layer.ShiftingLayer`;
            the deadline is twice the code of the trial's end.
        shuffle: "every" epoch, or "never".

    Raises:
        ValueError: a word is none of those that its field takes.
    """

    tau: float
    hidden_low: float
    hidden_high: float
    output_low: float
    output_high: float
    batch_size: int
    lr_ets: float
    lr_ets_end: float
    output_rate: float
    lr_etp: float
    reward: Reward
    sharpness: float
    neighbours: float
    silent: Silent
    wake: float
    ties: Ties
    shuffle: Literal["every", "never"]

    def __post_init__(self) -> None:
        check_words(self)


PRESETS = {
    "published": Settings(
        tau=1.0,
        hidden_low=0.0,
        hidden_high=8.0,
        output_low=0.0,
        output_high=8.0,
        batch_size=1,
        lr_ets=1e-5,
        lr_ets_end=1e-6,
        output_rate=1.0,
        lr_etp=1e-6,
        reward="published",
        sharpness=1.0,
        neighbours=0.0,
        silent="published",
        wake=0.0,
        ties="published",
        shuffle="never",
    ),
    "tuned": Settings(
        tau=30.0,
        hidden_low=0.0,
        hidden_high=0.7,
        output_low=0.0,
        output_high=8.0,
        batch_size=5,
        lr_ets=1e-4,
        lr_ets_end=1e-6,
        output_rate=1.25,
        lr_etp=0.0,
        reward="first_spike",
        sharpness=30.0,
        neighbours=3.0,
        silent="deadline",
        wake=0.1,
        ties="event",
        shuffle="every",
    ),
}


def presets_for(rule: str) -> dict[str, Settings]:
    """The presets; the exact gradient, smaller by its divisor, is tuned to larger steps."""
    if rule == "exact":
        return PRESETS | {"tuned": replace(PRESETS["tuned"], lr_ets=3e-4, lr_ets_end=3e-6)}
    return PRESETS


def preset_of(args: argparse.Namespace) -> Settings:
    """Settings of the preset that was asked for, which also names the rule where none was."""
    if args.rule is None:
        args.rule = "published-tca" if args.preset == "published" else "shifting"
    return presets_for(args.rule)[args.preset]


def load_trials(
    args: argparse.Namespace,
) -> tuple[str, SpikeSet, dict[str, tuple[Trial, ...]]]:
    """Name of the test set, the features, and the trials to train on, choose by and test on."""
    try:
        spike_set = datasets.load_spike_set(root=args.data_root)
        name, test = "spike_set", spike_set.trials
    except datasets.DatasetMissingError as error:
        warnings.warn(
            f"{error} GOING ON WITH generated features and test trials: every record of this run "
            "names spike_set_generated.",
            datasets.DatasetFallbackWarning,
            stacklevel=2,
        )
        spike_set = generate_features(np.random.default_rng([args.seed, 0]))
        test = generate_trials(TEST_TRIALS, np.random.default_rng([args.seed, 3]), spike_set)
        name = "spike_set_generated"
    if args.train_file:
        own = datasets.load_spike_set(args.train_file)
        if own.n_synapses != spike_set.n_synapses:
            raise UserError(
                f"{args.train_file} has {own.n_synapses} synapses, the test trials have "
                f"{spike_set.n_synapses}: train on a file of the same features"
            )
        train = own.trials
    else:
        train = generate_trials(TRAIN_TRIALS, np.random.default_rng([args.seed, 1]), spike_set)
    validation = generate_trials(
        VALIDATION_TRIALS, np.random.default_rng([args.seed, 2]), spike_set
    )
    return name, spike_set, {"train": train, "validation": validation, "test": test}


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


def build(args: argparse.Namespace, n_in: int, duration: float) -> Network:
    """The network n_in - hidden - 22 with its initial timings, float32."""
    generator = torch.Generator().manual_seed(args.seed)

    def layer(kind: type[ShiftingLayer], n_in: int, n_out: int, which: str) -> ShiftingLayer:
        low, high = (getattr(args, f"{which}_{end}") / n_in for end in ("low", "high"))
        e_ts = low + (high - low) * torch.rand(n_in, n_out, generator=generator)
        return kind(
            n_in,
            n_out,
            e_ts,
            rule=args.rule,
            silent=args.silent,
            deadline=2 * math.exp(duration / args.tau),
            wake=args.wake,
            ties=args.ties,
        )

    return Network(
        layer(SNN_MInLy, n_in, args.hidden, "hidden"),
        layer(SNNLayer, args.hidden, CLASSES, "output"),
        output_rate=args.output_rate,
    )


def respond(network: Network, batch: TrialBatch) -> Float[Tensor, "batch classes"]:
    """Output codes of a batch of trials."""
    z_out: Tensor = network(batch.spike_times, batch.synapse, offsets=batch.offsets)
    return z_out


def train_epoch(
    args: argparse.Namespace,
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
    every = args.shuffle == "every"
    order = torch.randperm(n, generator=generator) if every else torch.arange(n)
    totals = torch.zeros(3, dtype=torch.float64)
    for which in progress(torch.split(order, args.batch_size), -(-n // args.batch_size), "train"):
        batch = trials.take(which)
        z_out = respond(network, batch)
        delta = reward_error(
            z_out, batch.targets, args.reward, args.sharpness, neighbours=args.neighbours
        )
        network.learn(delta, lr_ets, args.lr_etp)
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
    left.axhline(100 * majority, color="gray", linestyle=":", label="commonest class")
    plot_columns(right, rows, parts_of("count_error"), "mean absolute error of the count")
    for axes in (left, right):
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


def train(args: argparse.Namespace, name: str, run: Run, device: torch.device) -> None:
    """Train and test the network, write figures and result."""
    dataset, spike_set, trials = load_trials(args)
    if args.quick:
        trials = {part: some[:20] for part, some in trials.items()}
    parts = {part: Batches(some, args.tau, device) for part, some in trials.items()}
    network = build(args, spike_set.n_synapses, spike_set.duration).to(device)
    generator = torch.Generator().manual_seed(args.seed)
    first = run.restore(network=network, generator=generator)

    for epoch in range(first, args.epochs):
        lr_ets = step_size(epoch, args.epochs, args.lr_ets, args.lr_ets_end, "exponential")
        row = train_epoch(args, network, parts["train"], lr_ets, generator)
        if (epoch + 1) % EVALUATE_EVERY == 0 or epoch + 1 == args.epochs:
            row |= score(network, parts["validation"], "validation")
            row |= score(network, parts["test"], "test")
        run.log(epoch + 1, row)
        run.checkpoint(epoch + 1, network=network, generator=generator)

    controls = control(args, network, trials, spike_set.n_synapses, device)
    report(name, run, dataset, network, trials, parts["test"], spike_set.feature_length, controls)


def control(
    args: argparse.Namespace,
    network: Network,
    trials: dict[str, tuple[Trial, ...]],
    n_synapses: int,
    device: torch.device,
) -> dict[str, float]:
    """The scores of the controls, see `tca_controls`, on validation and test trials."""
    scores: dict[str, float] = {}
    rng = np.random.default_rng([args.seed, 4])
    for part in ("validation", "test"):
        tested = trials[part]
        right = np.array([trial.target for trial in tested])
        told = counts_from_spike_counts(trials["train"], tested, n_synapses, MAX_TARGET)
        scores |= compare(told, right, part, "_of_spike_counts")
        shuffled = Batches(shuffle_times(tested, rng), args.tau, device)
        decided = counts(network, shuffled)[0].cpu().numpy()
        scores |= compare(decided, right, part, "_last_times_shuffled")
    return scores


def report(
    name: str,
    run: Run,
    dataset: str,
    network: Network,
    trials: dict[str, tuple[Trial, ...]],
    test: Batches,
    feature_length: float,
    controls: dict[str, float],
) -> None:
    """Draw the figures and write the result."""
    decided, right = (x.cpu().numpy() for x in counts(network, test))
    majority = float(np.bincount(right).max() / len(right))
    rows = run.metrics()
    last = rows[-1]
    selected = max(rows, key=lambda row: row.get("validation_accuracy", -1.0))
    run.save_figure(draw_trial(trials["test"][0], feature_length), "trial")
    run.save_figure(draw_counts(decided, right, f"{name}, {len(right)} test trials"), "count")
    metrics = {f"{what}_last": last[what] for what in last if what != "epoch"}
    metrics["test_accuracy_selected"] = selected["test_accuracy"]
    metrics["selected_epoch"] = selected["epoch"]
    metrics["test_accuracy_of_commonest_class"] = majority
    metrics |= controls
    run.finish(
        experiment=name,
        paper="shifting_learning",
        dataset=dataset,
        epochs=int(last["epoch"]),
        metrics=metrics,
        figure=run.save_figure(draw_curves(rows, majority, name), "curves"),
    )


# ------------------------------------------------------------------------------ published calls


def preprocess() -> dict[str, tuple[Trial, ...]]:
    """The trials that the published program would read: "train" and "test".

    The training trials are generated (see the module's text), and nothing is written.
    """
    parts = load_trials(read_options(["--preset", "published"]))[2]
    return {part: parts[part] for part in ("train", "test")}


def Spike_train() -> None:
    """Train with the published settings, a run under runs/."""
    start(read_options(["--preset", "published"]))


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
    args = read_options(["--preset", "published"])
    path = Path("runs") / name_of(args) / f"seed{args.seed}" / "checkpoint.pt"
    if not path.exists():
        raise UserError(f"{path} is not there: call Spike_train first")
    saved = read_checkpoint(path)["state"]["network"]
    network = build(args, len(saved["layers.0.e_ts"]), 0.0)
    network.load_state_dict(saved)
    decided = torch.cat([decide(network(*trial)) for trial in zip(spk, idx, strict=True)])
    return int((decided == targets).sum()), len(targets)


# ------------------------------------------------------------------------------ the command line


def read_options(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options, of the command line where no others are given."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--train-file",
        type=Path,
        help="MATLAB file of training trials in the Spike set's format (default: 200 generated)",
    )
    parser.add_argument(
        "--hidden", type=int, default=HIDDEN, help=f"hidden neurons (default and paper: {HIDDEN})"
    )
    parser.add_argument(
        "--rule",
        choices=get_args(Rule),
        help="the paper's rule; the exact gradient; or the rule that the published program of this "
        "task computes, its errors divided by S - 1 (default: shifting; with --preset published: "
        "published-tca)",
    )
    choices = {
        "reward": get_args(Reward),
        "silent": get_args(Silent),
        "ties": get_args(Ties),
        "shuffle": ("every", "never"),
    }
    add_preset_options(parser, PRESETS, choices)
    add_common_options(parser, "sl_tca", EPOCHS)
    args = parse(parser, preset_of, argv)
    if args.quick:
        args.epochs = min(args.epochs, 2)
    positive = ("epochs", "hidden", "tau", "batch_size", "lr_ets", "lr_ets_end", "output_rate")
    check_positive(**{name: getattr(args, name) for name in positive})
    return args


def name_of(args: argparse.Namespace) -> str:
    """The experiment's name."""
    return experiment_name("sl_tca" + named_sizes([args.hidden], [HIDDEN]), args, preset_of(args))


def start(args: argparse.Namespace) -> None:
    """Run what the options ask for."""
    device = prepare(args.device, args.seed, args.threads, args.deterministic)
    name = name_of(args)
    carry_out(args, name, device, lambda run: train(args, name, run, device))


def main() -> None:
    """Read the options and run."""
    start(read_options())


if __name__ == "__main__":
    script(main)
