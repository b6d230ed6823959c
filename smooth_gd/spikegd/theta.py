r"""Theta neuron: the oscillating quadratic integrate-and-fire neuron with pulses as synapses.

    tau V' = V (V - 1) + I0,  I0 > 1/4;   a pulse of weight w: V -> V + w;   V from -inf to inf

With q = sqrt(I0 - 1/4) and the angle theta = pi phi / Theta in (0, pi), V = 1/2 - q cot(theta).
"""

import math
from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float

from shared.errors import UserError
from smooth_gd.spikegd.models import AbstractPseudoPhaseOscNeuron
from smooth_gd.spikegd.utils.checks import check_known, check_positive


@dataclass(frozen=True)
class ThetaNeuron(AbstractPseudoPhaseOscNeuron):
    """Theta neuron; state phi.

    Attributes:
        tau: membrane time constant.
        I0: constant current, above 1/4: below it the neuron does not oscillate.
        eps: the potential of phases closer than that to a spike is taken for +-1/eps, and pulses
            do nothing there: it is infinite.

    Raises:
        UserError: tau or eps is not above 0, or I0 not above 1/4.
    """

    tau: float = 1.0
    I0: float = 5 / 4
    eps: float = 1e-6

    def __post_init__(self) -> None:
        check_known(I0=self.I0)
        check_positive(tau=self.tau, eps=self.eps)
        if not self.I0 > 1 / 4:
            raise UserError(
                f"I0 = {self.I0} must be above 1/4: a quadratic integrate-and-fire neuron with "
                "less constant current does not oscillate"
            )

    @property
    def q(self) -> float:
        """sqrt(I0 - 1/4), the speed of the angle in units of 1 / tau."""
        return math.sqrt(self.I0 - 1 / 4)

    def Theta(self) -> float:
        """Period tau pi / q."""
        return self.tau * math.pi / self.q

    def Phi(self, V: Float[ArrayLike, "*N"]) -> Float[Array, "*N"]:
        """See `AbstractPhaseOscNeuron.Phi`."""
        return self.tau / self.q * (jnp.arctan((jnp.asarray(V) - 1 / 2) / self.q) + jnp.pi / 2)

    def iPhi(self, phi: Float[ArrayLike, "*N"]) -> Float[Array, "*N"]:
        """See `AbstractPhaseOscNeuron.iPhi`."""
        phi, period = jnp.asarray(phi), self.Theta()
        inside = self._is_inside(phi)
        angle = self.q / self.tau * jnp.where(inside, phi, period / 2)
        V = 1 / 2 + self.q * jnp.tan(angle - jnp.pi / 2)
        return jnp.where(inside, V, jnp.sign(phi - period / 2) / self.eps)

    def H(self, phi: Float[ArrayLike, "*N"], w: Float[ArrayLike, "*N"]) -> Float[Array, "*N"]:
        """See `AbstractPhaseOscNeuron.H`; V is never formed, so that slopes are exact near a spike.

        cot(theta) -> cot(theta) - w / q, as a shear of (cos theta, sin theta).
        """
        phi = jnp.asarray(phi)
        theta = self.q / self.tau * phi
        sine = jnp.sin(theta)
        turned = jnp.arctan2(sine, jnp.cos(theta) - jnp.asarray(w) / self.q * sine)
        # Beyond a spike by a rounding error, the angle would turn over.
        return jnp.where(self._is_inside(phi), self.tau / self.q * turned, phi)

    def _is_inside(self, phi: Float[Array, "*N"]) -> Bool[Array, "*N"]:
        return (phi > self.eps) & (phi < self.Theta() - self.eps)
