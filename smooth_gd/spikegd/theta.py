r"""Theta neuron: the oscillating quadratic integrate-and-fire neuron with pulses as synapses.

    tau V' = V (V - 1) + I0,  I0 > 1/4;   a pulse of weight w: V -> V + w;   V from -inf to inf

With q = sqrt(I0 - 1/4) and the angle theta = pi phi / Theta in (0, pi), V = 1/2 - q cot(theta).
"""

import math
from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from shared.errors import UserError
from smooth_gd.spikegd.models import AbstractPseudoPhaseOscNeuron
from smooth_gd.spikegd.utils.checks import check_positive


@dataclass(frozen=True)
class ThetaNeuron(AbstractPseudoPhaseOscNeuron):
    """Theta neuron; state phi.

    Attributes:
        tau: membrane time constant.
        I0: constant current, above 1/4: below it the neuron does not oscillate.

    Raises:
        UserError: tau is not above 0, or I0 not above 1/4.
    """

    tau: float = 6 / math.pi
    I0: float = 5 / 4

    def __post_init__(self) -> None:
        check_positive(tau=self.tau)
        if not self.I0 > 1 / 4:
            raise UserError(
                f"I0 = {self.I0} must be above 1/4: a quadratic integrate-and-fire neuron with "
                "less constant current does not oscillate"
            )

    @property
    def q(self) -> float:
        """sqrt(I0 - 1/4), the speed of the angle in units of 1 / tau."""
        return math.sqrt(self.I0 - 1 / 4)

    @property
    def Theta(self) -> float:
        """Period tau pi / q."""
        return self.tau * math.pi / self.q

    def Phi(self, V: Float[Array, " N"]) -> Float[Array, " N"]:
        """See `AbstractPhaseOscNeuron.Phi`."""
        return self.tau / self.q * (jnp.arctan((V - 1 / 2) / self.q) + jnp.pi / 2)

    def iPhi(self, phi: Float[Array, " N"]) -> Float[Array, " N"]:
        """See `AbstractPhaseOscNeuron.iPhi`."""
        return 1 / 2 + self.q * jnp.tan(self.q / self.tau * phi - jnp.pi / 2)

    def H(self, phi: Float[Array, " N"], w: Float[Array, " N"]) -> Float[Array, " N"]:
        """See `AbstractPhaseOscNeuron.H`; V is never formed, so that phases 0 and Theta are safe.

        cot(theta) -> cot(theta) - w / q, as a shear of (cos theta, sin theta).
        """
        theta = self.q / self.tau * phi
        sine = jnp.sin(theta)
        turned = jnp.arctan2(sine, jnp.cos(theta) - w / self.q * sine)
        return self.tau / self.q * turned
