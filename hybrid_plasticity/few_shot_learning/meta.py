"""Meta-learning: training tasks teach the weights, validation tasks teach alpha, beta and eta.

An iteration takes a few training tasks, each with an Adam step of the weights W. Then comes one
validation task: the meta parameters m = (alpha, beta, eta) follow

    dL_val/dm - 0.1 clamp((dL_train/dm at W + e v  -  dL_train/dm at W - e v) / (2 e)),
    v = dL_val/dW,  e = min(0.001 / |v|, 0.001)

with its norm cut to 1. The second term is a finite-difference product with the Hessian
d2 L_train / dm dW: what a step of W down the training loss would have done to the validation loss.
L_train is that of the iteration's first training task, and the validation task asks the same with
other drawings: the same characters, labels, order and answer. Under "gp" nothing but the weights
learns. Source: the paper's Methods; the difference is that of DARTS (arXiv 1806.09055).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from hybrid_plasticity.few_shot_learning.episodes import Episodes
from hybrid_plasticity.few_shot_learning.network import HybridNet, loss_of
from hybrid_plasticity.training import adam


@dataclass(frozen=True)
class Settings:
    """What the paper fixes.

    Attributes:
        tasks: training tasks per iteration.
        lr, lr_meta: step sizes of Adam on the weights, and on alpha, beta and eta.
        eps: Adam's, of both.
        decay_every, decay: both step sizes are multiplied by decay every so many iterations.
        hessian: weight of the Hessian product.
        radius: largest length of the weights' displacement in the finite difference, and largest
            step e along v.
        limit: the Hessian product is clamped to [-limit, limit]; the norm of the meta gradient is
            cut to limit.
    """

    tasks: int = 5
    lr: float = 8e-5
    lr_meta: float = 3e-5
    eps: float = 1e-6
    decay_every: int = 10_000
    decay: float = 0.5
    hessian: float = 0.1
    radius: float = 1e-3
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
    """The two optimizers and their schedules.

    Args:
        network: what is trained.
        settings: the constants of training.
    """

    def __init__(self, network: HybridNet, settings: Settings) -> None:
        self.network, self.settings = network, settings
        self.weights, self.local = network.global_parameters(), network.local_parameters()
        self.optimizer, self.local_optimizer = (
            adam(values, lr, settings.eps)
            for values, lr in ((self.weights, settings.lr), (self.local, settings.lr_meta))
        )
        self.schedules = [
            torch.optim.lr_scheduler.StepLR(optimizer, settings.decay_every, settings.decay)
            for optimizer in (self.optimizer, self.local_optimizer)
        ]

    def parts(self) -> dict[str, object]:
        """What a checkpoint holds."""
        return {
            "network": self.network,
            "optimizer": self.optimizer,
            "local_optimizer": self.local_optimizer,
            "schedule": self.schedules[0],
            "local_schedule": self.schedules[1],
        }

    def kinds(self) -> tuple[str, ...]:
        """Tasks that teach something: "train" and, except under "gp", "validation"."""
        return ("train", "validation") if self.network.rule == "hp" else ("train",)

    def iteration(self, training: Episodes, validation: Episodes) -> dict[str, Float[Tensor, ""]]:
        """One iteration.

        Args:
            training: episodes of the training tasks, as many for each; where a task has several,
                its loss is their mean.
            validation: those of the validation task; not looked at under "gp".

        Returns:
            "train", the mean loss of the training tasks, each before its step; except under "gp",
            "validation", the loss of the validation task.
        """
        n = len(training.target) // self.settings.tasks
        tasks = [training.part(start, start + n) for start in range(0, len(training.target), n)]
        losses = {"train": torch.stack([self.train(task) for task in tasks]).mean()}
        if self.network.rule == "hp":
            losses["validation"] = self.learn_to_learn(tasks[0], validation)
        for schedule in self.schedules[: len(losses)]:  # of what has learned
            schedule.step()
        return losses

    def train(self, task: Episodes) -> Float[Tensor, ""]:
        """A step of the weights on a training task; its loss before."""
        loss = loss_of(self.network(task.images, task.labels).output, task.target)
        for value, grad in zip(self.weights, gradients(loss, self.weights), strict=True):
            value.grad = grad
        self.optimizer.step()
        return loss.detach()

    def learn_to_learn(self, train: Episodes, validation: Episodes) -> Float[Tensor, ""]:
        """A step of alpha, beta and eta on a validation task; its loss before."""
        answer = self.network(validation.images, validation.labels)
        loss = loss_of(answer.output, validation.target)
        found = gradients(loss, [*self.weights, *self.local])
        direction, meta = found[: len(self.weights)], found[len(self.weights) :]
        product = self.hessian_product(train, direction)
        for value, grad, change in zip(self.local, meta, product, strict=True):
            bounded = change.clamp(-self.settings.limit, self.settings.limit)
            value.grad = grad - self.settings.hessian * bounded
        torch.nn.utils.clip_grad_norm_(self.local, self.settings.limit)
        self.local_optimizer.step()
        return loss.detach()

    def hessian_product(self, train: Episodes, direction: Sequence[Tensor]) -> list[Tensor]:
        """d2 L_train / dm dW times a direction of the weights, by a central difference.

        Args:
            train: a training task.
            direction: one tensor per weight.

        Returns:
            A tensor for each of alpha, beta and eta. The weights are given back bit for bit.
        """

        def loss() -> Tensor:
            with torch.no_grad():
                # The meta parameters act after the convolutions: no gradient goes through these.
                z = self.network.features(train.images)
            return loss_of(self.network.classify(z, train.labels).output, train.target)

        return self.difference(loss, direction)

    def difference(
        self, loss: Callable[[], Float[Tensor, ""]], direction: Sequence[Tensor]
    ) -> list[Tensor]:
        """`hessian_product` of any loss of the network."""
        norm = torch.stack([value.norm() for value in direction]).norm()
        step = (self.settings.radius / norm).clamp(max=self.settings.radius)
        before = [value.detach().clone() for value in self.weights]
        sides = []
        for sign in (1, -1):
            with torch.no_grad():
                for value, start, toward in zip(self.weights, before, direction, strict=True):
                    torch.addcmul(start, toward, sign * step, out=value)
            sides.append(gradients(loss(), self.local))
        with torch.no_grad():
            for value, start in zip(self.weights, before, strict=True):
                value.copy_(start)
        return [(up - down) / (2 * step) for up, down in zip(*sides, strict=True)]
