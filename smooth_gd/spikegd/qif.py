r"""Quadratic integrate-and-fire neuron with temporally extended synaptic currents.

    tau V' = V (V - 1) + I,  tau_s I' = -I + tau_s sum w delta,  tau = 2 tau_s;   V from -inf to inf

After a time D, with e = exp(-D / tau), s = 1 - e and z = I s^2, the flow is a Moebius map of V:

    V -> e (V C(z) + I s S(z)) / (C(z) - V s S(z)),   I -> I e^2
    C(z) = cos sqrt(z),  S(z) = sin(sqrt z) / sqrt z       (z < 0: cosh and sinh of sqrt(-z))

C and S are entire functions, so one formula holds for every sign of I and its gradient is exact
where the usual case distinctions (I > 0, I = 0, |V| above or below sqrt(-I)) meet. The neuron
spikes where the denominator vanishes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from smooth_gd.spikegd.models import AbstractPseudoIFNeuron, Config
from smooth_gd.spikegd.utils.checks import check_positive

_SMALL = 0.01  # arguments below it are summed as series
_TERMS = 5


def _series(y: Float[Array, "*N"], coefficients: list[float]) -> Float[Array, "*N"]:
    total = jnp.full_like(y, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total = total * y + coefficient
    return total


def _alternating(first: int) -> list[float]:
    """Taylor coefficients of cos sqrt(z) (first = 0) or sin(sqrt z) / sqrt z (first = 1)."""
    found = [1.0]
    for k in range(1, _TERMS):
        found.append(-found[-1] / ((2 * k - 1 + first) * (2 * k + first)))
    return found


_COSINE, _SINE = _alternating(0), _alternating(1)
# atan(sqrt y) / sqrt y converges as y^k: more terms.
_ARCTAN = [(-1) ** k / (2 * k + 1) for k in range(8)]


def _coefficients(
    current: Float[Array, "*N"], s: Float[Array, ""]
) -> tuple[Float[Array, "*N"], Float[Array, "*N"], Float[Array, "*N"]]:
    """C, s S and I s S of the module's formula; where I < 0, all divided by cosh(sqrt(-z)).

    A common factor cancels in the flow, and tanh cannot overflow.
    """
    z = current * s**2
    small = jnp.abs(z) < _SMALL
    root = jnp.sqrt(jnp.where(small, 1, jnp.abs(z)))  # sqrt|I| s
    speed = jnp.sqrt(jnp.where(small, 1, jnp.abs(current)))  # sqrt|I|
    z = jnp.where(small, z, 0)
    cosine, sine = _series(z, _COSINE), s * _series(z, _SINE)
    positive = current > 0
    big_cosine = jnp.where(positive, jnp.cos(root), 1)
    big_sine = jnp.where(positive, jnp.sin(root), jnp.tanh(root)) / speed
    c, d = jnp.where(small, cosine, big_cosine), jnp.where(small, sine, big_sine)
    return c, d, current * d


@dataclass(frozen=True)
class QIFNeuron(AbstractPseudoIFNeuron):
    """Quadratic integrate-and-fire neuron; state (V, I).

    Attributes:
        tau: membrane time constant, twice the synaptic one.
        eps: a spike leads from +1/eps to -1/eps.
        alpha: current above which the pseudodynamics' current is nearly the true one.

    Raises:
        UserError: a parameter is not above 0.
    """

    tau: float = 1.0
    eps: float = 1e-6
    alpha: float = 10.0

    def __post_init__(self) -> None:
        check_positive(tau=self.tau, eps=self.eps, alpha=self.alpha)

    @property
    def v_reset(self) -> float:  # type: ignore[override]
        """-1 / eps."""
        return -1 / self.eps

    def min_I0_to_spike(self) -> float:
        """See `AbstractIFNeuron.min_I0_to_spike`: pi^2 / 4."""
        return math.pi**2 / 4

    def flow_V(self, V: ArrayLike, I: ArrayLike, dt: ArrayLike) -> Array:  # noqa: E741
        """The voltage of `flow`, from voltage V and current I."""
        V, current, dt = jnp.asarray(V), jnp.asarray(I), jnp.asarray(dt)
        c, d, current_d = _coefficients(current, -jnp.expm1(-dt / self.tau))
        above, below = jnp.exp(-dt / self.tau) * (V * c + current_d), c - V * d
        spiking = (V > 0) & (below <= self.eps * above)
        return jnp.where(spiking, 1 / self.eps, above / jnp.where(spiking, 1, below))

    def flow_I(self, I: ArrayLike, dt: ArrayLike) -> Array:  # noqa: E741
        """The current of `flow`."""
        return jnp.asarray(I) * jnp.exp(-2 * jnp.asarray(dt) / self.tau)

    def flow(self, x: Float[Array, "2 *N"], dt: ArrayLike) -> Float[Array, "2 *N"]:
        """See `AbstractNeuron.flow`; V stays at 1 / eps where it would grow beyond."""
        return jnp.stack([self.flow_V(x[0], x[1], dt), self.flow_I(x[1], dt)])

    def is_settled(self, left: Float[Array, "*N"]) -> Bool[Array, "*N"]:
        """See `AbstractNeuron.is_settled`; V no longer tells when a neuron at 1 / eps spikes."""
        return left < self.eps

    def dt_spike(self, x: Float[Array, "2 *N"]) -> Float[Array, "*N"]:
        """See `AbstractNeuron.dt_spike`: the least s in (0, 1) with V s S(I s^2) = C(I s^2)."""
        V, current = x
        up = V > 0
        V_up = jnp.where(up, V, 1)
        y = current / V_up**2
        small = up & (jnp.abs(y) < _SMALL)
        near = _series(jnp.where(small, y, 0), _ARCTAN) / V_up

        positive = (current > 0) & ~small
        R = jnp.sqrt(jnp.where(positive, current, 1))
        turning = jnp.arctan2(R, V) / R

        falling = up & (y < 0) & (y > -1) & ~small  # I < 0 and V above sqrt(-I)
        ratio = jnp.sqrt(jnp.where(falling, -y, 0.5))
        escaping = jnp.arctanh(ratio) / (ratio * V_up)

        s = jnp.where(small, near, jnp.where(positive, turning, jnp.where(falling, escaping, 1)))
        spikes = (s > 0) & (s < 1)
        return jnp.where(spikes, -self.tau * jnp.log1p(-jnp.where(spikes, s, 0.5)), jnp.inf)

    def softplus(self, I_pseudo: ArrayLike) -> Array:
        """The current g = alpha log(1 + exp(I_pseudo / alpha)) of the pseudodynamics, above 0."""
        return self.alpha * jax.nn.softplus(jnp.asarray(I_pseudo) / self.alpha)

    def phi_pseudo(self, V: ArrayLike, I_pseudo: ArrayLike) -> Array:
        """Phase of the voltage V under tau V' = (V - 1/2)^2 + g, from -inf."""
        root = jnp.sqrt(self.softplus(I_pseudo))
        return self.tau * (jnp.arctan((jnp.asarray(V) - 1 / 2) / root) + jnp.pi / 2) / root

    def theta_pseudo(self, I_pseudo: ArrayLike) -> Array:
        """Period of the same dynamics: from -inf to inf."""
        return self.tau * jnp.pi / jnp.sqrt(self.softplus(I_pseudo))

    def construct_ratefn(
        self, x: Float[Array, "2 *N"]
    ) -> Callable[[Float[ArrayLike, "*N"]], Float[Array, "*N"]]:
        """See `AbstractPseudoNeuron.construct_ratefn`."""

        def rate(input: Float[ArrayLike, "*N"]) -> Float[Array, "*N"]:
            I_pseudo = x[1] + jnp.asarray(input)
            return self.phi_pseudo(x[0], I_pseudo) / self.theta_pseudo(I_pseudo)

        return rate

    def t_pseudo(
        self,
        x: Float[Array, "2 *N"],
        input: Float[ArrayLike, "*N"],
        k: Int[ArrayLike, "*N"],
        config: Config,
    ) -> Float[Array, "*N"]:
        """See `AbstractPseudoNeuron.t_pseudo`."""
        I_pseudo = x[1] + jnp.asarray(input)
        T: float = config["T"]
        return T + jnp.asarray(k) * self.theta_pseudo(I_pseudo) - self.phi_pseudo(x[0], I_pseudo)
