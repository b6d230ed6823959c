"""Who learns the weights: Adam on all of them, or on the few that a task uses."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hybrid_plasticity.multitask_learning.ewc import Hold, Penalty
from hybrid_plasticity.multitask_learning.masks import Mask
from hybrid_plasticity.multitask_learning.network import Connection, Masked, TaskNetwork
from hybrid_plasticity.multitask_learning.tasks import Task
from hybrid_plasticity.training import adam

_BETAS, _EPS = (0.9, 0.999), 1e-8  # Adam's
# So many steps after its last gradient a weight has stopped: 0.9^400 of a step is below what
# changes it, in float64 too.
_SETTLED = 400
_AT_ONCE = 2**14  # weights whose steps are taken in a core's cache


class MaskedLearner:
    """Adam on the weights that a task's masks leave, exactly as on all weights.

    Outside of the masks the loss has no gradient, so that nothing but momentum and the penalty, of
    every weight on its own, move a weight there, and no task looks at it before the next one
    begins. What they do is therefore caught up with at the end of the task; a step then costs a
    share of the weights only.

    Args:
        weights: all weight matrices.
        lr: step size.
        penalty: what holds the weights near those of earlier tasks, or None.
    """

    def __init__(
        self, weights: Sequence[nn.Parameter], lr: float, penalty: Penalty | None = None
    ) -> None:
        self._weights, self._lr, self._penalty = list(weights), lr, penalty
        self._steps = 0
        self._first = [torch.zeros_like(w, requires_grad=False) for w in weights]
        self._second = [torch.zeros_like(w, requires_grad=False) for w in weights]
        self._masks: Sequence[Mask] = []
        self._values: list[Tensor] = []
        self._holds: list[Hold] = []

    def begin(self, task: Task) -> None:
        """Take up a task."""
        for moments in (self._first, self._second):  # the network may have been moved or converted
            moments[:] = [m.to(w) for m, w in zip(moments, self._weights, strict=True)]
        self._masks = task.masks
        self._values = [
            weight.detach().view(-1)[mask.flat].requires_grad_()
            for weight, mask in zip(self._weights, task.masks, strict=True)
        ]
        if self._penalty is not None:
            holds = zip(self._penalty.holds(self._weights), task.masks, strict=True)
            self._holds = [hold.at(mask.flat) for hold, mask in holds]
        device = self._weights[0].device
        self._adam = torch.optim.Adam(self._values, self._lr, _BETAS, _EPS, fused=True)
        for value, mask, *moments in zip(
            self._values, task.masks, self._first, self._second, strict=True
        ):
            self._adam.state[value] = {
                "step": torch.tensor(float(self._steps), device=device),
                "exp_avg": moments[0].view(-1)[mask.flat],
                "exp_avg_sq": moments[1].view(-1)[mask.flat],
            }
        self._done = 0

    def connections(self) -> list[Connection]:
        """The weights as the task sees them."""
        return [Masked(mask, value) for mask, value in zip(self._masks, self._values, strict=True)]

    def step(self, loss: Tensor) -> None:
        """Follow the gradient of the loss and of the penalty."""
        self._adam.zero_grad()
        torch.autograd.backward(loss, inputs=self._values)
        if self._penalty is not None:
            for value, hold in zip(self._values, self._holds, strict=True):
                assert value.grad is not None
                value.grad += hold.gradient(value.detach())
        self._adam.step()
        self._done += 1

    @torch.no_grad()
    def end(self) -> None:
        """Bring all weights and moments to where Adam on all of them would have brought them."""
        holds: Sequence[Hold | None] = [None] * len(self._weights)
        if self._penalty is not None:
            holds = self._penalty.holds(self._weights)
        for weight, first, second, mask, value, hold in zip(
            self._weights, self._first, self._second, self._masks, self._values, holds, strict=True
        ):
            state = self._adam.state[value]
            self._drift(weight.view(-1), first.view(-1), second.view(-1), mask, hold)
            weight.view(-1)[mask.flat] = value
            first.view(-1)[mask.flat] = state["exp_avg"]
            second.view(-1)[mask.flat] = state["exp_avg_sq"]
        self._steps += self._done

    def _drift(
        self, weight: Tensor, first: Tensor, second: Tensor, mask: Mask, hold: Hold | None
    ) -> None:
        """Adam's steps of the task for weights outside of the mask; the others are overwritten."""
        moves = first != 0
        if hold is not None:
            moves |= hold.gradient(weight.view_as(hold.last)).view(-1) != 0
        moves[mask.flat] = False
        moving = moves.nonzero().flatten()
        before = second[moving]
        second *= _BETAS[1] ** self._done
        size = _AT_ONCE if weight.device.type == "cpu" else max(len(moving), 1)
        parts = zip(torch.split(moving, size), torch.split(before, size), strict=True)
        for places, v in parts:
            own = None if hold is None else hold.at(places)
            found = self._drifted(weight[places], first[places], v, own)
            weight[places], first[places], second[places] = found

    def _drifted(
        self, w: Tensor, m: Tensor, v: Tensor, hold: Hold | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Some weights and their moments after the task, of which these are given up."""
        taken = self._done if hold is not None else min(self._done, _SETTLED)
        for step in range(self._steps + 1, self._steps + 1 + taken):
            m *= _BETAS[0]
            v *= _BETAS[1]
            if hold is not None:
                gradient = hold.gradient(w)
                m.add_(gradient, alpha=1 - _BETAS[0])
                v.addcmul_(gradient, gradient, value=1 - _BETAS[1])
            scale = (v / (1 - _BETAS[1] ** step)).sqrt_().add_(_EPS)
            w.addcdiv_(m, scale, value=-self._lr / (1 - _BETAS[0] ** step))
        rest = self._done - taken
        return w, m * _BETAS[0] ** rest, v * _BETAS[1] ** rest

    def state_dict(self) -> dict[str, Any]:
        """Steps and moments, between two tasks."""
        return {"steps": self._steps, "first": self._first, "second": self._second}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take what `state_dict` gave."""
        self._steps = state["steps"]
        for own, saved in ((self._first, state["first"]), (self._second, state["second"])):
            for to, value in zip(own, saved, strict=True):
                to.copy_(value)


class DenseLearner:
    """Adam on all weights.

    Args:
        network: whose weights learn.
        lr: step size.
        penalty: what holds the weights near those of earlier tasks, or None.
    """

    def __init__(self, network: TaskNetwork, lr: float, penalty: Penalty | None) -> None:
        self._network, self._penalty = network, penalty
        self._adam = adam(network.weights(), lr)

    def begin(self, task: Task) -> None:
        """Nothing is to be done before a task."""

    def connections(self) -> list[Connection]:
        """The weights, all of which every task sees."""
        return self._network.connections(None)

    def step(self, loss: Tensor) -> None:
        """Follow the gradient of the loss and of the penalty."""
        weights = self._network.weights()
        self._adam.zero_grad()
        torch.autograd.backward(loss, inputs=weights)
        if self._penalty is not None:
            self._penalty.add_gradient(weights)
        self._adam.step()

    def end(self) -> None:
        """Nothing is left to do after a task."""

    def state_dict(self) -> dict[str, Any]:
        """Adam's state."""
        return self._adam.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take what `state_dict` gave."""
        self._adam.load_state_dict(state)
