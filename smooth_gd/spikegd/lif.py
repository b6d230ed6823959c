r"""Leaky integrate-and-fire neuron, the control whose spike times jump.

    tau_m V' = -V + I,  tau_s I' = -I + tau_s sum w delta,  tau_m = 2 tau_s = tau
    V = V_th: V -> 0

With e = exp(-D / tau) after a time D: V -> V e + I (e - e^2), I -> I e^2; so a spike is a root of a
quadratic in e.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from smooth_gd.spikegd.models import AbstractIFNeuron, at_least
from smooth_gd.spikegd.utils.checks import check_positive


@dataclass(frozen=True)
class LIFNeuron(AbstractIFNeuron):
    """Leaky integrate-and-fire neuron; state (V, I).

    Attributes:
        tau: membrane time constant, twice the synaptic one.
        V_th: threshold.

    Raises:
        UserError: a parameter is not above 0.
    """

    tau: float = 1.0
    V_th: float = 1.0
    v_reset = 0.0

    def __post_init__(self) -> None:
        check_positive(tau=self.tau, V_th=self.V_th)

    def min_I0_to_spike(self) -> float:
        """See `AbstractIFNeuron.min_I0_to_spike`: 4 V_th."""
        return 4 * self.V_th

    def flow_V(self, V: ArrayLike, I: ArrayLike, dt: ArrayLike) -> Array:  # noqa: E741
        """The voltage of `flow`, from voltage V and current I."""
        e = jnp.exp(-jnp.asarray(dt) / self.tau)
        return jnp.asarray(V) * e + jnp.asarray(I) * (e - e**2)

    def flow_I(self, I: ArrayLike, dt: ArrayLike) -> Array:  # noqa: E741
        """The current of `flow`."""
        return jnp.asarray(I) * jnp.exp(-2 * jnp.asarray(dt) / self.tau)

    def flow(self, x: Float[Array, "2 *N"], dt: ArrayLike) -> Float[Array, "2 *N"]:
        """See `AbstractNeuron.flow`."""
        return jnp.stack([self.flow_V(x[0], x[1], dt), self.flow_I(x[1], dt)])

    def dt_spike(self, x: Float[Array, "2 *N"]) -> Float[Array, "*N"]:
        """See `AbstractNeuron.dt_spike`: the largest root e below 1 of V(e) = V_th."""
        V, current = x
        discriminant = (V + current) ** 2 - 4 * current * self.V_th
        # V rises to its maximum at e = (V + I) / 2I only; beyond it there is no crossing.
        spikes = (current > 0) & (current > V) & (V + current > 0) & (discriminant > 0)
        V, current = jnp.where(spikes, V, 0), jnp.where(spikes, current, 8 * self.V_th)
        root = jnp.sqrt(jnp.where(spikes, discriminant, 1))
        dt = -self.tau * jnp.log((V + current + root) / (2 * current))
        # Two neurons at threshold: one spikes first, the other is past it by a rounding error. One
        # that starts a trial far above it spikes at once, by however little it is moved.
        dt = jnp.where(dt < -1e-3 * self.tau, 0.0, dt)
        return jnp.where(spikes, at_least(0.0, dt), jnp.inf)
