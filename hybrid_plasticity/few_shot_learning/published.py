"""What the published few-shot models share: thin over this package.

`from hybrid_plasticity.few_shot_learning.hp_model import *` in the place of
`from hp_model import *` lets a program written for the published modules run on: the same names,
arguments and results, the same names of parameters in a state. This package's own programs take
many episodes at once: `HybridNet`.
"""

import os
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from skimage import io
from torch import Tensor, nn, optim
from torch.nn import functional as F
from torch.optim import lr_scheduler
from torchvision import transforms

from hybrid_plasticity.few_shot_learning.episodes import (
    HELD_OUT,
    MIRRORED,
    Characters,
    Plan,
    shrunk,
)
from hybrid_plasticity.few_shot_learning.meta import Trainer
from hybrid_plasticity.few_shot_learning.network import (
    CHANNELS,
    DECAY,
    LABEL_STRENGTH,
    LENS,
    SIZE,
    THETA,
    TRACE_DECAY,
    HybridNet,
    Rule,
)
from hybrid_plasticity.few_shot_learning.program import EPOCH, EPOCHS, SETTINGS
from hybrid_plasticity.few_shot_learning.reference import plastic_step
from hybrid_plasticity.published import ActFun, act_fun, device, setup_seed
from shared.errors import check_word

# Constants by the published names.
lr_second, num_train_task, num_val_task = SETTINGS.hessian, SETTINGS.tasks, 1
meta_lr, gp_lr, gamma, steplr = SETTINGS.lr_meta, SETTINGS.lr, SETTINGS.decay, SETTINGS.decay_every
nbclasses, num_shots, prestime, num_test_classes = 5, 1, 1, HELD_OUT
wins = num_shots * nbclasses + prestime
thr, lens, mem_decay, w_decay, w_binding = THETA, LENS, DECAY, TRACE_DECAY, LABEL_STRENGTH
imgsize, input_dim, ntest, nbiter = SIZE, 4 * CHANNELS[-1], EPOCH, EPOCH * EPOCHS
# What the models pass on: published programs take modules, too, from `from hp_model import *`.
__all__ = [
    "ActFun", "F", "Image", "device", "gamma", "gp_lr", "imgsize", "input_dim", "io", "lens",
    "lr_scheduler", "lr_second", "mem_decay", "mem_update_no_plastic", "meta_lr", "nbclasses",
    "nbiter", "nn", "np", "ntest", "num_shots", "num_test_classes", "num_train_task",
    "num_val_task", "optim", "os", "prestime", "random", "setup_seed", "steplr",
    "test_data_generation", "thr", "torch", "train_data_batch", "train_data_generation",
    "transforms", "w_binding", "w_decay", "wins",
]  # fmt: skip

Drawings = Sequence[Sequence[ArrayLike]]  # of each character, images of one size
Criterion = Callable[[Tensor, Tensor], Tensor]


class PublishedNet(HybridNet):
    """The network with the published methods: an episode at a time.

    Args:
        rule: "hp" or "gp".
        channels: of the four convolutions.

    Attributes:
        weights, meta: what `parameter_split` gave; empty before.
        nbclasses: characters per episode.
    """

    def __init__(self, rule: Rule, channels: Sequence[int] = CHANNELS) -> None:
        super().__init__(rule, nbclasses, channels)
        self.weights: list[nn.Parameter] = []
        self.meta: list[nn.Parameter] = []
        self.nbclasses = nbclasses

    def init_hebb(self) -> Float[Tensor, "features ways"]:
        """A trace of zeros."""
        return torch.zeros_like(self.alpha)

    def parameter_split(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """The weights; and alpha, beta and eta, which the second optimizer learns."""
        self.weights, self.meta = self.global_parameters(), self.local_parameters()
        return self.weights, self.meta

    def forward(  # type: ignore[override]
        self,
        inputs: Float[Tensor, "steps 1 1 height width"],
        labels: Float[Tensor, "steps 1 ways"],
        hebb: Tensor | None = None,
    ) -> tuple[Float[Tensor, "1 ways"], Float[Tensor, "features ways"]]:
        """Meet the samples of an episode one after another.

        Args:
            inputs: standardized images of the labeled samples, then of the query.
            labels: one-hot, 0 for the query.
            hebb: is not read: a trace starts at 0 in every episode.

        Returns:
            softmax(V) of the query, and the trace after it.
        """
        z = self.features(inputs)
        answer = self.classify(z, labels)
        return answer.output, self.trace(z, answer.post)[0]

    def compute_hessian(
        self,
        dw: Sequence[Tensor],
        train_x: Float[Tensor, "steps 1 1 height width"],
        train_labels: Float[Tensor, "steps 1 ways"],
        train_tagets: Float[Tensor, " ways"],
        criterion: Criterion,
    ) -> list[Tensor]:
        """The finite difference of the meta gradient, clamped to [-1, 1]; see `meta`.

        Args:
            dw: gradient of the validation loss, a tensor for each of `weights`.
            train_x: images of an episode of training.
            train_labels: its labels.
            train_tagets: its target.
            criterion: its loss, of output and target.

        Returns:
            A tensor for each of `meta`.
        """

        def loss() -> Tensor:
            output, _ = self(train_x, train_labels)
            return criterion(output, train_tagets.expand_as(output))

        trainer = Trainer(self, SETTINGS)
        limit = SETTINGS.limit
        return [value.clamp(-limit, limit) for value in trainer.difference(loss, dw)]


class PlasticUpdate:
    """A step of the plastic layer on its own, by the published function's arguments.

    Args:
        rule: "hp", or "gp": the trace stays as it is.

    Raises:
        ValueError: the rule is neither.
    """

    def __init__(self, rule: Rule) -> None:
        check_word("rule", rule, Rule)
        self.rule = rule

    def mem_update_plastic(
        self,
        w: nn.Linear,
        alpha: Float[Tensor, "features ways"],
        beta: Float[Tensor, " ways"],
        eta: Float[Tensor, "1"],
        x: Float[Tensor, "n features"],
        inputlabel: Float[Tensor, "n ways"],
        mem: Float[Tensor, "n ways"],
        spike: Float[Tensor, "n ways"],
        hebb: Float[Tensor, "features ways"],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Potentials, spikes and trace after a step.

        Args:
            w: the slow weights.
            alpha: share of the slow weights.
            beta: offset of the trace's growth.
            eta: its rate.
            x: the convolutions' output.
            inputlabel: one-hot, 0 for the query.
            mem: potentials before the step.
            spike: spikes before it.
            hebb: the trace before it.
        """
        parameters = {"fc1.weight": w.weight, "alpha": alpha, "beta": beta, "eta": eta}
        return plastic_step(self.rule, parameters, x, inputlabel, mem, spike, hebb)


def mem_update_no_plastic(
    fc: nn.Module, x: Tensor, mem: Tensor, spike: Tensor
) -> tuple[Tensor, Tensor]:
    """A step of a layer without a trace: potentials within [-thr, thr], and spikes."""
    potential = (1 - spike) * mem * mem_decay + fc(x)
    return potential.clamp(-thr, thr), act_fun(potential - thr)


def _plan(characters: int, first: int) -> Plan:
    """What a random episode asks, of the characters from a number on."""
    nothing = torch.zeros(characters - first, 2, 1, 1, dtype=torch.uint8)
    plan = Characters(nothing, nbclasses, num_shots).plan(1, torch.default_generator)
    return plan._replace(character=plan.character + first)


def _gray(drawing: ArrayLike) -> NDArray[np.uint8]:
    pixels = np.asarray(drawing)
    return pixels if pixels.dtype == np.uint8 else np.rint(255 * pixels).astype(np.uint8)


def _shown(task_set: Drawings, plan: Plan, mirrored: float) -> tuple[Tensor, Tensor, Tensor]:
    """An episode with drawings that are drawn from all of a character's."""
    shown = []
    for number in plan.character[:, 0].tolist():
        drawings = task_set[number]
        drawing = drawings[int(torch.randint(len(drawings), ()))]
        shown.append(shrunk(_gray(drawing), imgsize))
    steps = torch.arange(len(shown))[:, None]
    # Each step's image is the only drawing of a character of its own; it takes two to be some.
    pixels = torch.from_numpy(np.stack(shown))[:, None].expand(-1, 2, -1, -1)
    as_steps = Characters(pixels, nbclasses, num_shots, mirrored=mirrored)
    episode = as_steps.show(plan._replace(character=steps), torch.default_generator)
    images, labels, target = (part.to(device) for part in episode)
    return images, labels, target[0]


def test_data_generation(task_set: Drawings) -> tuple[Tensor, Tensor, Tensor]:
    """An episode of the last 100 characters.

    Args:
        task_set: drawings of each character, uint8 or from 0 to 1, where paper is 1.

    Returns:
        Images [steps, 1, 1, 31, 31], labels [steps, 1, ways] and target [ways]: see `Episodes`.
    """
    return _shown(task_set, _plan(len(task_set), len(task_set) - HELD_OUT), 0.0)


test_data_generation.__test__ = False  # type: ignore[attr-defined]  # no test, whatever its name


def train_data_generation(
    task_set: Drawings,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Two episodes of all but the last 100 characters that ask the same with other drawings.

    Args:
        task_set: as in `test_data_generation`.

    Returns:
        Images, labels and target of the one, then of the other.
    """
    plan = _plan(len(task_set) - HELD_OUT, 0)
    return *_shown(task_set, plan, MIRRORED), *_shown(task_set, plan, MIRRORED)


def train_data_batch(
    dataset: Drawings, num_epoch: int = max(num_val_task, num_train_task)
) -> tuple[list[Any], ...]:
    """So many results of `train_data_generation`: a list for each part."""
    drawn = [train_data_generation(dataset) for _ in range(num_epoch)]
    return tuple(list(part) for part in zip(*drawn, strict=True))
