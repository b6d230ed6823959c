r"""Oscillating leaky integrate-and-fire neuron with pulses as synapses.

    tau V' = -V + I0,  I0 > V_th;   a pulse of weight w: V -> min(V + w, V_th);   V = V_th: V -> 0

A pulse can make it spike at once: spikes appear in the middle of a trial, spike times jump.
"""

import math
from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from shared.errors import UserError
from smooth_gd.spikegd.models import AbstractPseudoPhaseOscNeuron
from smooth_gd.spikegd.utils.checks import check_known, check_positive


@dataclass(frozen=True)
class OscLIFNeuron(AbstractPseudoPhaseOscNeuron):
    """Oscillating leaky integrate-and-fire neuron; state phi.

    Attributes:
        tau: membrane time constant.
        I0: constant current, above V_th: below it the neuron does not oscillate.
        V_th: threshold.

    Raises:
        UserError: tau or V_th is not above 0, or I0 not above V_th.
    """

    tau: float = 1.0
    I0: float = 5 / 4
    V_th: float = 1.0

    def __post_init__(self) -> None:
        check_known(I0=self.I0)
        check_positive(tau=self.tau, V_th=self.V_th)
        if not self.V_th < self.I0:
            raise UserError(
                f"I0 = {self.I0} must be above V_th = {self.V_th}: a leaky integrate-and-fire "
                "neuron with less constant current does not oscillate"
            )

    @property
    def theta(self) -> float:
        """The same as `Theta()`."""
        return self.Theta()

    def Theta(self) -> float:
        """Period tau log(I0 / (I0 - V_th))."""
        return self.tau * math.log(self.I0 / (self.I0 - self.V_th))

    def Phi(self, V: Float[ArrayLike, "*N"]) -> Float[Array, "*N"]:
        """See `AbstractPhaseOscNeuron.Phi`."""
        return -self.tau * jnp.log1p(-jnp.asarray(V) / self.I0)

    def iPhi(self, phi: Float[ArrayLike, "*N"]) -> Float[Array, "*N"]:
        """See `AbstractPhaseOscNeuron.iPhi`."""
        return -self.I0 * jnp.expm1(-jnp.asarray(phi) / self.tau)

    def H(self, phi: Float[ArrayLike, "*N"], w: Float[ArrayLike, "*N"]) -> Float[Array, "*N"]:
        """See `AbstractPhaseOscNeuron.H`; the potential is cut at the threshold."""
        V = self.iPhi(phi) + w
        reached = self.V_th <= V
        return jnp.where(reached, self.Theta(), self.Phi(jnp.where(reached, 0, V)))
