"""The spiking neuron of every network here: leaky integration in discrete time, and its surrogate.

    V[t] = decay (V[t-1] - theta s[t-1]) + I[t],    s[t] = 1 where V[t] > theta
    ds/dV = 1 where |V - theta| < lens, else 0      (the surrogate gradient)

with a soft reset; a hard one keeps decay V[t-1] (1 - s[t-1]), none keeps decay V[t-1]. Potentials,
thresholds and currents have one unit, that of the inputs times the weights. Source: the paper's
Methods, hybrid plasticity model.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from shared.errors import check_word

Reset = Literal["soft", "hard", "none"]


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor, theta: float, lens: float) -> Tensor:
        ctx.save_for_backward(v)
        ctx.theta, ctx.lens = theta, lens
        return (v > theta).to(v.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (v,) = ctx.saved_tensors
        return grads[0] * ((v - ctx.theta).abs() < ctx.lens), None, None


def spike(v: Float[Tensor, "..."], theta: float, lens: float) -> Float[Tensor, "..."]:
    """Spikes: 1 where v > theta, else 0; the surrogate gradient is 1 where |v - theta| < lens."""
    spikes: Tensor = _Spike.apply(v, theta, lens)
    return spikes


class _Step(torch.autograd.Function):
    """A step of the neuron with one pass over the arrays where autograd would make many."""

    @staticmethod
    def forward(
        ctx: Any, current: Tensor, potential: Tensor, spikes: Tensor, neuron: "Neuron"
    ) -> tuple[Tensor, Tensor]:
        new = torch.add(current, potential, alpha=neuron.decay)
        if neuron.reset == "soft":
            new.add_(spikes, alpha=-neuron.decay * neuron.theta)
        elif neuron.reset == "hard":
            new.addcmul_(potential, spikes, value=-neuron.decay)
        ctx.neuron = neuron
        ctx.save_for_backward(new, potential, spikes)
        return new, (new > neuron.theta).to(new.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        neuron: Neuron = ctx.neuron
        new, potential, spikes = ctx.saved_tensors
        inside = (new - neuron.theta).abs_().lt_(neuron.lens)
        current = torch.addcmul(grads[0], grads[1], inside)
        if neuron.reset == "soft":
            return current, neuron.decay * current, -neuron.decay * neuron.theta * current, None
        if neuron.reset == "hard":
            carried = neuron.decay * current
            return current, carried * (1 - spikes), -carried * potential, None
        return current, neuron.decay * current, None, None


@dataclass(frozen=True)
class Neuron:
    """A leaky integrate-and-fire neuron of discrete time.

    Attributes:
        theta: threshold of the membrane potential.
        decay: share of the membrane potential that is left after a step.
        lens: half the width of the surrogate gradient.
        reset: "soft" takes theta off the potential of a neuron that spiked, "hard" sets it to 0,
            "none" lets it integrate on.

    Raises:
        ValueError: the reset is none of these.
    """

    theta: float
    decay: float
    lens: float = 0.5
    reset: Reset = "soft"

    def __post_init__(self) -> None:
        check_word("reset", self.reset, Reset)

    def integrate(
        self,
        current: Float[Tensor, "..."],
        potential: Float[Tensor, "..."] | None,
        spikes: Float[Tensor, "..."] | None,
    ) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
        """Potential and spikes after a step; None as the state before the first step."""
        if potential is None or spikes is None:
            return current, spike(current, self.theta, self.lens)
        new, fired = _Step.apply(current, potential, spikes, self)
        return new, fired
