"""Networks on small tables: training many side by side, and nested cross-validation.

The settings of a fold's network are chosen by folds of its own training samples, so that no setting
has seen the samples that it is tested on.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import annotated_types
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from sklearn.model_selection import KFold, ParameterGrid
from torch import Tensor

from shared import datasets, experiment
from shared.errors import check_words
from shared.experiment import (
    UNNAMED,
    Named,
    NonNegative,
    Positive,
    Share,
    as_published,
    paper,
)
from shared.tensors import on_device
from shifting_learning.Dataset import Scaling, code, table_intensities, with_reference
from shifting_learning.network import Network, Reward, decide, reward_error, step_size
from shifting_learning.rules import Rule
from shifting_learning.SL_Layer import Silent, SNNLayer, Ties

FOLDS = 5
INNER_FOLDS = 3
INNER_EPOCHS = 0.25
"""Share of the epochs that the networks of the inner folds are trained for."""


@dataclass(frozen=True)
class Settings(experiment.Settings):
    """The options; the defaults are the tuned preset, the paper's values the published one.

    Raises:
        ValueError: a word is none of those that its field takes.
    """

    dataset: Annotated[Literal["iris", "wine", "breast_cancer", "wine_quality"], UNNAMED] = "iris"
    """Table."""
    fold: Annotated[int, annotated_types.Ge(0), annotated_types.Lt(FOLDS)] | None = None
    """Test on this fold only; without it on all five."""
    repeat: Annotated[Positive[int], UNNAMED] = 10
    """How often the samples are dealt out anew to the folds, with seeds from --seed on."""
    hidden: Annotated[tuple[Positive[int], ...], paper((10,))] = (10,)
    """Neurons of each hidden layer; the older program has 5 5; for breast cancer 40 or 40 40."""
    epochs: Annotated[Positive[int], paper(400)] = 400
    """Passes over the training samples; the older program has 600 for breast cancer."""
    batch_size: Annotated[Positive[int], paper(30)] = 30
    """Samples per step; the older program has 112 for breast cancer."""
    threads: Annotated[Positive[int] | None, UNNAMED] = 1
    """CPU threads; more would wait for each other longer than they work."""
    test: Annotated[Path | None, UNNAMED] = None
    """Only test the networks that are saved in a run's folder."""
    preset: Annotated[Literal["published", "tuned"], Named("{}")] = "tuned"
    """Values of the following options where they are not given."""
    choose: Annotated[Literal["inner", "none"], paper("none")] = "inner"
    """inner: folds of the training samples choose among `CANDIDATES`, which replace what is given
    here; none: nothing is chosen."""
    scaling: Annotated[Scaling, paper("global")] = "global"
    """Minimum and maximum of the whole table (global) or of each column (feature)."""
    scaled_by: Annotated[Literal["all", "train"], paper("all")] = "train"
    """Samples that minimum and maximum are taken of: all, or those of the training part."""
    reference: Annotated[Literal["none", "spike"], paper("none")] = "spike"
    """spike gives every trial one more input, which fires at time 0."""
    hidden_spread: Annotated[Positive[float], paper(8.0)] = 8.0
    """Initial timings of hidden layers are uniform in [0, spread / inputs)."""
    output_spread: Annotated[Positive[float], paper(8.0)] = 8.0
    """The same of the output layer."""
    lr_ets: Annotated[Positive[float], paper(1e-2)] = 1e-2
    """Step size of the timings in the first epoch."""
    lr_end: Annotated[Positive[float], paper(1.0)] = 0.03
    """What it falls to after the last, as a share of that in the first."""
    decay: Annotated[Literal["exponential", "cosine"], paper("exponential")] = "cosine"
    """How the step size falls in between, per epoch."""
    lr_etp: Annotated[NonNegative[float], paper(1e-6)] = 0.0
    """Step size of the passing times."""
    reward: Annotated[Reward, paper("published")] = "first_spike"
    """The reward signal, see `network.reward_error`."""
    sharpness: Annotated[Positive[float], paper(1.0)] = 20.0
    """Of the reward signal."""
    smoothing: Annotated[Share, paper(0.0)] = 0.1
    """Of the reward signal."""
    silent: Annotated[Silent, paper("published")] = "ignore"
    """What neurons without a spike learn, see `SL_Layer.ShiftingLayer`."""
    wake: Annotated[NonNegative[float], paper(0.0)] = 0.1
    """How strongly silent neurons are woken, see there."""
    ties: Annotated[Ties, paper("published")] = "event"
    """How inputs of one time are taken, see there."""
    shuffle: Annotated[Literal["every", "once"], paper("once")] = "every"
    """Every epoch, or once before the first."""
    rule: Annotated[Rule, Named("{}"), paper("shifting")] = "shifting"
    """The paper's rule, or the exact gradient on the same network."""

    def __post_init__(self) -> None:
        check_words(self)


# Reward, silence and decay are those that validation images of MNIST chose (SL_mnist.py); what a
# table decides is chosen by inner folds. Tables whose columns have units of their own are scaled
# column by column.
_BY_FEATURE: dict[str, Any] = {"scaling": "feature"}
CHANGES: dict[str, dict[str, Any]] = {
    "breast_cancer": _BY_FEATURE | {"hidden": (40,), "batch_size": 112, "epochs": 600},
    "breast_cancer published": {"lr_end": 0.1, "lr_etp": 1e-2},
    "wine": _BY_FEATURE,
    "wine_quality": _BY_FEATURE,
}
"""What a table, or a table and a preset, change."""


def defaults(asked: Settings) -> Settings:
    """What options that are not given start from: by preset and table."""
    settings = as_published(Settings()) if asked.preset == "published" else Settings()
    changes = CHANGES.get(asked.dataset, {}) | CHANGES.get(f"{asked.dataset} {asked.preset}", {})
    quick = {"epochs": 20, "repeat": 1} if asked.quick else {}
    return replace(settings, **changes | quick)


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
        settings: settings of all of them.
        table: the samples.
        is_train: which samples each network learns from, bool [networks, n].
        device: where they train.
    """

    def __init__(
        self,
        settings: Settings,
        table: datasets.Table,
        is_train: Bool[Tensor, "networks n"],
        device: torch.device,
    ) -> None:
        self.settings = settings
        self._generator = torch.Generator().manual_seed(settings.seed)
        self._is_train = is_train
        self._z = self._codes(table).to(device)
        self._labels = on_device(table.labels, device)
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
                rule=settings.rule,
                silent=settings.silent,
                wake=settings.wake,
                ties=settings.ties,
            )

        sizes = [self._z.shape[-1], *settings.hidden]
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
        lr_ets = step_size(epoch, s.epochs, s.lr_ets, s.lr_ets * s.lr_end, s.decay)
        loss = torch.zeros(len(order), dtype=self._z.dtype, device=self._z.device)
        net = torch.arange(len(order), device=self._z.device)[:, None]
        for batch in torch.split(order.to(self._z.device), s.batch_size, dim=1):
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
        settings: what the settings of all have in common.
        chosen: number of each network's settings among `candidates_of`, or -1 where nothing was
            chosen, [networks].
        table: the samples.
        is_test: which samples each network is tested on, bool [networks, n].
        device: where they train.
    """

    def __init__(
        self,
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
            Trainer(settings if k < 0 else candidates[k], table, ~is_test[members], device)
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
    settings: Settings,
    table: datasets.Table,
    is_train: Bool[Tensor, "networks n"],
    device: torch.device,
) -> tuple[Int[Tensor, " networks"], Float[Tensor, "candidates networks"]]:
    """Choose each network's settings by folds of its own training samples.

    Every candidate trains a network on all but one of `INNER_FOLDS` parts of the training samples,
    for a part of the epochs, and is scored on the one left out.

    Args:
        settings: what the candidates have in common.
        table: the samples.
        is_train: which samples each network may learn and choose from, bool [networks, n].
        device: where they train.

    Returns:
        Number of the best of `candidates_of` for each network, the first of equal ones, and all
        scores.
    """
    inner_train, inner_test = _inner_folds(is_train, settings.seed)
    epochs = max(1, round(INNER_EPOCHS * settings.epochs))
    scores = []
    for candidate in candidates_of(replace(settings, epochs=epochs)):
        trainer = Trainer(candidate, table, inner_train, device)
        for epoch in range(epochs):
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
