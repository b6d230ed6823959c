"""Networks on small tables: training many side by side, and nested cross-validation.

The settings of a fold's network are chosen by folds of its own training samples, so that no setting
has seen the samples that it is tested on.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from sklearn.model_selection import KFold, ParameterGrid
from torch import Tensor

from shared import datasets
from shared.errors import check_words
from shifting_learning.Dataset import Scaling, code, table_intensities, with_reference
from shifting_learning.network import Network, Reward, decide, reward_error, step_size
from shifting_learning.rules import Rule
from shifting_learning.SL_Layer import Silent, SNNLayer, Ties

FOLDS = 5
INNER_FOLDS = 3
INNER_EPOCHS = 0.25
"""Share of the epochs that the networks of the inner folds are trained for."""


@dataclass(frozen=True)
class Settings:
    """What a preset fixes; every field is an option of the same name.

    Attributes:
        choose: "inner": folds of the training samples choose among the candidates of
            `candidates_of`, whose fields replace those below; "none": nothing is chosen.
        scaling: min-max over the whole table ("global") or over each column ("feature").
        scaled_by: samples that the minimum and maximum are taken of, "all" (published) or those of
            the training part ("train").
        reference: "spike" gives every trial one input more that fires at time 0, "none" does not.
        hidden_spread, output_spread: initial timings are uniform in [0, spread / n_in).
        lr_ets: step size of the timings in the first epoch.
        lr_end: what it falls to after the last, as a share of that in the first.
        decay: how it falls in between, "exponential" or "cosine".
        lr_etp: step size of the passing times.
        reward, sharpness, smoothing: the reward signal, see `network.reward_error`.
        silent, wake, ties: silent neurons and inputs of one time, see `SL_Layer.ShiftingLayer`.
        shuffle: "every" epoch, or "once" before the first.

    Raises:
        ValueError: a word is none of those that its field takes.
    """

    choose: Literal["inner", "none"]
    scaling: Scaling
    scaled_by: Literal["all", "train"]
    reference: Literal["none", "spike"]
    hidden_spread: float
    output_spread: float
    lr_ets: float
    lr_end: float
    decay: Literal["exponential", "cosine"]
    lr_etp: float
    reward: Reward
    sharpness: float
    smoothing: float
    silent: Silent
    wake: float
    ties: Ties
    shuffle: Literal["every", "once"]

    def __post_init__(self) -> None:
        check_words(self)


@dataclass(frozen=True)
class Plan:
    """What does not depend on the settings.

    Attributes:
        hidden: neurons of each hidden layer.
        batch_size: samples per step.
        epochs: passes over the training samples.
        rule: learning rule.
        seed: of the initial timings and of the order of samples.
    """

    hidden: tuple[int, ...]
    batch_size: int
    epochs: int
    rule: Rule
    seed: int


CANDIDATES: list[dict[str, Any]] = list(
    ParameterGrid({"lr_ets": [3e-2, 1e-2, 3e-3], "reference": ["spike", "none"]})
)
"""What the inner folds choose among: six trials, the same for both rules."""


def candidates_of(settings: Settings) -> list[Settings]:
    """The settings with each of the `CANDIDATES`."""
    return [replace(settings, **changes) for changes in CANDIDATES]


class Trainer:
    """Networks of equal settings that train side by side, each on its own samples.

    Args:
        plan: sizes, epochs and rule.
        settings: settings of all of them.
        table: the samples.
        is_train: which samples each network learns from, bool [networks, n].
        device: where they train.
    """

    def __init__(
        self,
        plan: Plan,
        settings: Settings,
        table: datasets.Table,
        is_train: Bool[Tensor, "networks n"],
        device: torch.device,
    ) -> None:
        self.plan = plan
        self.settings = settings
        self._generator = torch.Generator().manual_seed(plan.seed)
        self._is_train = is_train
        self._z = self._codes(table).to(device)
        self._labels = torch.from_numpy(table.labels).to(device)
        self.network = self._build(len(table.class_names)).to(device)
        self._key = torch.rand(is_train.shape, generator=self._generator)

    def _codes(self, table: datasets.Table) -> Float[Tensor, "networks n inputs"]:
        scaling = self.settings.scaling
        if self.settings.scaled_by == "all":
            every = torch.from_numpy(table_intensities(table.inputs, scaling))
            x = every.expand(len(self._is_train), -1, -1)
        else:
            parts = [
                table_intensities(table.inputs, scaling, rows) for rows in self._is_train.numpy()
            ]
            x = torch.from_numpy(np.array(parts))
        z = code(x)
        return with_reference(z) if self.settings.reference == "spike" else z

    def _build(self, n_classes: int) -> Network:
        settings = self.settings

        def layer(n_in: int, n_out: int, spread: float) -> SNNLayer:
            shape = (len(self._is_train), n_in, n_out)
            e_ts = torch.rand(shape, generator=self._generator, dtype=torch.float64)
            return SNNLayer(
                n_in,
                n_out,
                e_ts * (spread / n_in),
                rule=self.plan.rule,
                silent=settings.silent,
                wake=settings.wake,
                ties=settings.ties,
            )

        sizes = [self._z.shape[-1], *self.plan.hidden]
        hidden = [layer(*pair, settings.hidden_spread) for pair in itertools.pairwise(sizes)]
        return Network(*hidden, layer(sizes[-1], n_classes, settings.output_spread))

    def train_epoch(self, epoch: int) -> Float[Tensor, " networks"]:
        """One pass of every network over its training samples, each in an order of its own.

        Networks may differ by a sample; then some of the larger training sets sit out.

        Args:
            epoch: from 0.

        Returns:
            The loss of each network, as seen before each step.
        """
        s = self.settings
        if s.shuffle == "every":
            self._key = torch.rand(self._key.shape, generator=self._generator)
        n_train = int(self._is_train.sum(dim=1).min())
        order = self._key.masked_fill(~self._is_train, 2.0).argsort(dim=1)[:, :n_train]
        lr_ets = step_size(epoch, self.plan.epochs, s.lr_ets, s.lr_ets * s.lr_end, s.decay)
        loss = torch.zeros(len(order), dtype=self._z.dtype, device=self._z.device)
        net = torch.arange(len(order), device=self._z.device)[:, None]
        for batch in torch.split(order.to(self._z.device), self.plan.batch_size, dim=1):
            z_out = self.network(self._z[net, batch])
            delta = reward_error(z_out, self._labels[batch], s.reward, s.sharpness, s.smoothing)
            self.network.learn(delta, lr_ets, s.lr_etp)
            loss += delta.square().sum(dim=(1, 2))
        return loss / n_train

    def state_dict(self) -> dict[str, Any]:
        """All that goes on: the networks, the order of samples, the random generator."""
        return {
            "network": self.network.state_dict(),
            "key": self._key,
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.network.load_state_dict(state["network"])
        self._key = state["key"]
        self._generator.set_state(state["generator"])

    def outputs(self) -> Float[Tensor, "networks n classes"]:
        """Output codes of all samples of the table."""
        z_out: Tensor = self.network(self._z)
        return z_out

    def right(self) -> Bool[Tensor, "networks n"]:
        """Whether each network decides rightly, on all samples of the table."""
        return decide(self.outputs()) == self._labels


class Groups:
    """The networks of all folds and seeds, those of equal settings side by side.

    Args:
        plan: sizes, epochs and rule.
        settings: what the settings of all have in common.
        chosen: number of each network's settings among `candidates_of`, or -1 where nothing was
            chosen, [networks].
        table: the samples.
        is_test: which samples each network is tested on, bool [networks, n].
        device: where they train.
    """

    def __init__(
        self,
        plan: Plan,
        settings: Settings,
        chosen: Tensor,
        table: datasets.Table,
        is_test: Bool[Tensor, "networks n"],
        device: torch.device,
    ) -> None:
        self.is_test = is_test
        numbers = sorted(set(chosen.tolist()))
        self._members = [(chosen == k).nonzero()[:, 0] for k in numbers]
        candidates = candidates_of(settings)
        self._trainers = [
            Trainer(plan, settings if k < 0 else candidates[k], table, ~is_test[members], device)
            for k, members in zip(numbers, self._members, strict=True)
        ]

    def train_epoch(self, epoch: int) -> float:
        """One pass of all networks; returns their mean loss."""
        losses = [trainer.train_epoch(epoch) for trainer in self._trainers]
        return torch.cat(losses).mean().item()

    def outputs(self) -> Float[Tensor, "networks n classes"]:
        """Output codes of all samples, in the order of the networks."""
        found = torch.cat([trainer.outputs().cpu() for trainer in self._trainers])
        return found[torch.cat(self._members).argsort()]

    def state_dict(self) -> dict[str, Any]:
        """States of the networks and of their random generators."""
        return {str(k): trainer.state_dict() for k, trainer in enumerate(self._trainers)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        for k, trainer in enumerate(self._trainers):
            trainer.load_state_dict(state[str(k)])


def shares(
    z_out: Float[Tensor, "networks n classes"], labels: Tensor, chosen: Bool[Tensor, "networks n"]
) -> Float[Tensor, " networks"]:
    """Share of right decisions of each network among chosen samples."""
    right = (z_out.argmin(dim=-1) == labels) & chosen
    return right.sum(dim=1).double() / chosen.sum(dim=1)


def outer_folds(n: int, repeat: int, fold: int | None, seed: int) -> Bool[Tensor, "networks n"]:
    """Which samples each network is tested on.

    Args:
        n: number of samples.
        repeat: how often the samples are dealt out anew to the folds, with seeds seed, seed + 1...
        fold: the one fold to test on, or None for all.
        seed: of the first deal.

    Returns:
        A row per network, in order of seed, then fold.
    """
    chosen = [
        test
        for k in range(repeat)
        for number, (_, test) in enumerate(datasets.folds(n, FOLDS, seed + k))
        if fold is None or number == fold
    ]
    return torch.from_numpy(np.array([_rows(n, test) for test in chosen]))


def choose(
    plan: Plan,
    settings: Settings,
    table: datasets.Table,
    is_train: Bool[Tensor, "networks n"],
    device: torch.device,
) -> tuple[Int[Tensor, " networks"], Float[Tensor, "candidates networks"]]:
    """Choose each network's settings by folds of its own training samples.

    Every candidate trains a network on all but one of `INNER_FOLDS` parts of the training samples,
    for a part of the epochs, and is scored on the one left out.

    Args:
        plan: sizes, epochs and rule.
        settings: what the candidates have in common.
        table: the samples.
        is_train: which samples each network may learn and choose from, bool [networks, n].
        device: where they train.

    Returns:
        Number of the best of `candidates_of` for each network, the first of equal ones, and all
        scores.
    """
    inner_train, inner_test = _inner_folds(is_train, plan.seed)
    short = replace(plan, epochs=max(1, round(INNER_EPOCHS * plan.epochs)))
    scores = []
    for candidate in candidates_of(settings):
        trainer = Trainer(short, candidate, table, inner_train, device)
        for epoch in range(short.epochs):
            trainer.train_epoch(epoch)
        right = trainer.right().cpu() & inner_test
        accuracy = right.sum(dim=1).double() / inner_test.sum(dim=1)
        scores.append(accuracy.reshape(len(is_train), INNER_FOLDS).mean(dim=1))
    table_of_scores = torch.stack(scores)
    return table_of_scores.argmax(dim=0), table_of_scores


def _inner_folds(
    is_train: Bool[Tensor, "networks n"], seed: int
) -> tuple[Bool[Tensor, "inner n"], Bool[Tensor, "inner n"]]:
    """Training and test samples of the inner folds, a row per fold, in order of network."""
    train, test = [], []
    for row in is_train.numpy():
        (rows,) = np.nonzero(row)
        splits = KFold(INNER_FOLDS, shuffle=True, random_state=seed).split(rows)
        for kept, left_out in splits:
            train.append(_rows(len(row), rows[kept]))
            test.append(_rows(len(row), rows[left_out]))
    return torch.from_numpy(np.array(train)), torch.from_numpy(np.array(test))


def _rows(n: int, chosen: Sequence[int] | NDArray[np.int64]) -> NDArray[np.bool_]:
    is_chosen = np.zeros(n, bool)
    is_chosen[chosen] = True
    return is_chosen
