"""Meta-learning: training tasks teach the weights, validation tasks teach alpha, beta and eta.

An iteration takes a few training tasks, each with an Adam step of the weights W. Then comes one
validation task: the meta parameters m = (alpha, beta, eta) follow

    dL_val/dm - 0.1 (dL_train/dm at W + e v  -  dL_train/dm at W - e v) / (2 e),
    v = dL_val/dW,  e = 0.01 / |v|

The second term is a finite-difference product with the Hessian d2 L_train / dm dW: what a step of W
down the training loss would have done to the validation loss. L_train is that of the iteration's
last training task. Source: the paper's Methods; the difference is that of DARTS (arXiv 1806.09055).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from hybrid_plasticity.few_shot_learning.episodes import Episodes
from hybrid_plasticity.few_shot_learning.network import HybridNet, loss_of


@dataclass(frozen=True)
class Settings:
    """What the paper fixes.

    Attributes:
        tasks: training tasks an iteration.
        lr, lr_meta: step sizes of Adam on the weights, and on alpha, beta and eta.
        decay_every, decay: both step sizes are multiplied by decay every so many iterations.
        hessian: weight of the Hessian product.
        radius: length of the weights' displacement in the finite difference.
        limit: the meta gradient is clamped to [-limit, limit], then its norm is cut to limit.
    """

    tasks: int = 5
    lr: float = 8e-5
    lr_meta: float = 3e-5
    decay_every: int = 10_000
    decay: float = 0.5
    hessian: float = 0.1
    radius: float = 0.01
    limit: float = 1.0


def gradients(loss: Float[Tensor, ""], parameters: Sequence[Tensor]) -> list[Tensor]:
    """Gradients of a loss, in memory laid out as the parameters; 0 for what it does not depend on.

    torch's fused Adam walks through the memory of a parameter and of its gradient side by side, and
    autograd may hand out a transposed one.
    """
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    laid_out = []
    for grad, value in zip(found, parameters, strict=True):
        if grad is None:
            laid_out.append(torch.zeros_like(value))
        elif grad.stride() == value.stride():
            laid_out.append(grad)
        else:
            laid_out.append(torch.empty_like(value).copy_(grad))
    return laid_out


class Trainer:
    """The two optimisers and their schedules.

    Args:
        network: what is trained.
        settings: the constants of training.
    """

    def __init__(self, network: HybridNet, settings: Settings) -> None:
        self.network, self.settings = network, settings
        self.weights, self.local = network.global_parameters(), network.local_parameters()
        self.optimiser = torch.optim.Adam(self.weights, lr=settings.lr, fused=True)
        self.local_optimiser = torch.optim.Adam(self.local, lr=settings.lr_meta, fused=True)
        self.schedules = [
            torch.optim.lr_scheduler.StepLR(optimiser, settings.decay_every, settings.decay)
            for optimiser in (self.optimiser, self.local_optimiser)
        ]

    def parts(self) -> dict[str, object]:
        """What a checkpoint holds."""
        return {
            "network": self.network,
            "optimiser": self.optimiser,
            "local_optimiser": self.local_optimiser,
            "schedule": self.schedules[0],
            "local_schedule": self.schedules[1],
        }

    def iteration(self, episodes: Episodes) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """One iteration.

        Args:
            episodes: those of the training tasks, then those of the validation task, as many for
                each; where a task has several, its loss is their mean.

        Returns:
            Mean loss of the training tasks, each before its step, and loss of the validation task.
        """
        n = len(episodes.target) // (self.settings.tasks + 1)
        tasks = [episodes.part(start, start + n) for start in range(0, len(episodes.target), n)]
        losses = [self.train(task) for task in tasks[:-1]]
        validation_loss = self.learn_to_learn(tasks[-2], tasks[-1])
        for schedule in self.schedules:
            schedule.step()
        return torch.stack(losses).mean(), validation_loss

    def train(self, task: Episodes) -> Float[Tensor, ""]:
        """A step of the weights on a training task; its loss before."""
        loss = loss_of(self.network(task.images, task.labels).output, task.target)
        for value, grad in zip(self.weights, gradients(loss, self.weights), strict=True):
            value.grad = grad
        self.optimiser.step()
        return loss.detach()

    def learn_to_learn(self, train: Episodes, validation: Episodes) -> Float[Tensor, ""]:
        """A step of alpha, beta and eta on a validation task; its loss before."""
        answer = self.network(validation.images, validation.labels)
        loss = loss_of(answer.output, validation.target)
        found = gradients(loss, [*self.weights, *self.local])
        direction, meta = found[: len(self.weights)], found[len(self.weights) :]
        product = self.hessian_product(train, direction)
        for value, grad, change in zip(self.local, meta, product, strict=True):
            corrected = grad - self.settings.hessian * change
            value.grad = corrected.clamp_(-self.settings.limit, self.settings.limit)
        torch.nn.utils.clip_grad_norm_(self.local, self.settings.limit)
        self.local_optimiser.step()
        return loss.detach()

    def hessian_product(self, train: Episodes, direction: Sequence[Tensor]) -> list[Tensor]:
        """d2 L_train / dm dW times a direction of the weights, by a central difference.

        Args:
            train: a training task.
            direction: a tensor a weight.

        Returns:
            A tensor for each of alpha, beta and eta. The weights are given back bit for bit.
        """
        norm = torch.stack([value.norm() for value in direction]).norm()
        step = self.settings.radius / norm
        before = [value.detach().clone() for value in self.weights]
        sides = []
        for sign in (1, -1):
            with torch.no_grad():
                for value, start, toward in zip(self.weights, before, direction, strict=True):
                    torch.addcmul(start, toward, sign * step, out=value)
                # The meta parameters act behind the convolutions: no gradient goes through these.
                z = self.network.features(train.images)
            loss = loss_of(self.network.classify(z, train.labels).output, train.target)
            sides.append(gradients(loss, self.local))
        with torch.no_grad():
            for value, start in zip(self.weights, before, strict=True):
                value.copy_(start)
        return [(up - down) / (2 * step) for up, down in zip(*sides, strict=True)]
