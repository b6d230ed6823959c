"""The plain formulation of shifting learning, over (batch, in, out) arrays: the tests' oracle.

It states the equations of the paper one for one and is as slow and as large as they are: a
training step of 784-800-10 at batch 128 takes seconds and gigabytes. `kernels.py` computes the same
from running sums.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from shifting_learning.kernels import SILENT, Events, Spikes
from shifting_learning.SL_Layer import SNNLayer
from shifting_learning.SL_MultiInputLy import SNN_MInLy


def find_spikes(
    z: Float[Tensor, "batch in"],
    s: Float[Tensor, "in out"],
    *,
    events: bool,
) -> tuple[Float[Tensor, "batch out"], Bool[Tensor, "batch in out"], Float[Tensor, "batch out"]]:
    """Search every prefix of the sorted inputs for the smallest admissible code.

    Args:
        z: input codes, shape [batch, in].
        s: exponential shifting timings, shape [in, out].
        events: True lets a prefix end only after the last of several equal codes, as the fused
            kernels do; False lets it end anywhere, as the published program does.

    Returns:
        Spike codes u [batch, out]; causal masks [batch, in, out]; divisors S(C) - 1 [batch, out].
        A silent neuron has code `SILENT`, and its prefix search ends in a tie that the first prefix
        wins: its mask holds the earliest input alone (golden vectors `sl_layer_silent`).
    """
    z_sorted, order = z.sort(dim=1, stable=True)
    u, last, divisor = _first_admissible(z_sorted, s[order], events=events)
    rank = order.argsort(dim=1)
    return u, rank[:, :, None] <= last[:, None, :], divisor


def find_spikes_of_spike_train(
    z: Float[Tensor, " K"],
    synapse: Int[Tensor, " K"],
    s: Float[Tensor, "in out"],
    *,
    events: bool,
) -> tuple[Float[Tensor, " out"], Bool[Tensor, "K out"], Float[Tensor, " out"]]:
    """The same search over one trial's sorted spikes, several per synapse.

    Args:
        z: codes of the spikes in ascending order, shape [K].
        synapse: synapse of each spike, shape [K].
        s: exponential shifting timings, shape [in, out].
        events: as in `find_spikes`.

    Returns:
        Spike codes u [out]; causal masks over spikes [K, out]; divisors [out].
    """
    u, last, divisor = _first_admissible(z[None], s[synapse][None], events=events)
    return u[0], torch.arange(len(z))[:, None] <= last[0], divisor[0]


def _first_admissible(
    z: Float[Tensor, "batch K"], s: Float[Tensor, "batch K out"], *, events: bool
) -> tuple[Float[Tensor, "batch out"], Int[Tensor, "batch out"], Float[Tensor, "batch out"]]:
    total = s.cumsum(dim=1)
    divisor = (total - 1).clamp(1e-10, 1e10)
    code = (s * z[:, :, None]).cumsum(dim=1) / divisor
    admissible = (total >= 1) & (code >= z[:, :, None])
    if events:
        inside_event = torch.zeros_like(z, dtype=torch.bool)
        inside_event[:, :-1] = z[:, :-1] == z[:, 1:]
        admissible &= ~inside_event[:, :, None]
    code = code.masked_fill(~admissible, SILENT).clamp(max=SILENT)
    u, last = code.min(dim=1)
    # Of equal minima the first prefix counts; `min` promises no order.
    last = (code == u[:, None]).to(torch.int8).argmax(dim=1)
    return u, last, divisor.gather(1, last[:, None])[:, 0]


def timing_gradient(
    z: Float[Tensor, "batch in"],
    mask: Bool[Tensor, "batch in out"],
    a: Float[Tensor, "batch out"],
    z_out: Float[Tensor, "batch out"],
) -> Float[Tensor, "in out"]:
    """sum_batch a_j (z_i - z_j) m_ij, shape [in, out]."""
    return (a[:, None, :] * (z[:, :, None] - z_out[:, None, :]) * mask).sum(dim=0)


def feedback(
    mask: Bool[Tensor, "batch in out"],
    d: Float[Tensor, "batch out"],
    s: Float[Tensor, "in out"],
) -> Float[Tensor, "batch in"]:
    """d_i = sum_j d_j m_ij s_ij, shape [batch, in]."""
    return (d[:, None, :] * mask * s).sum(dim=2)


class PlainLayer(SNNLayer):
    """`SNNLayer` computed by the plain formulation: one network, `silent` as published."""

    def _sort(self) -> Events:
        return Events(*(self._z_in.new_zeros(0),) * 5)  # this formulation sorts in its search

    def _search(self) -> Spikes:
        u, self._mask, divisor = find_spikes(self._z_in, self.e_ts, events=not self.apart)
        return _as_spikes(u, divisor)

    def _timing_gradient(
        self, a: Float[Tensor, "batch out"], z_out: Float[Tensor, "batch out"]
    ) -> Float[Tensor, "1 in out"]:
        return timing_gradient(self._z_in, self._mask, a, z_out)[None]

    def _feedback(self, d: Float[Tensor, "batch out"]) -> Float[Tensor, "batch in"]:
        return feedback(self._mask, d, self.e_ts)

    @property
    def cause_mask(self) -> Bool[Tensor, "batch in out"]:
        """Causal masks of the last forward pass."""
        return self._mask


class PlainMultiInputLayer(SNN_MInLy):
    """`SNN_MInLy` computed by the plain formulation: one network, one trial per batch."""

    def _search(self) -> Spikes:
        z, synapse, *_ = self._events
        u, self._mask, divisor = find_spikes_of_spike_train(
            z, synapse, self.e_ts, events=not self.apart
        )
        return _as_spikes(u[None], divisor[None])

    def _timing_gradient(
        self, a: Float[Tensor, "1 out"], z_out: Float[Tensor, "1 out"]
    ) -> Float[Tensor, "1 in out"]:
        z, synapse, *_ = self._events
        of_spikes = a * (z[:, None] - z_out) * self._mask
        return torch.zeros_like(self.e_ts).index_add_(0, synapse, of_spikes)[None]

    @property
    def cause_mask(self) -> Bool[Tensor, "K out"]:
        """Causal masks over the spikes of the last forward pass."""
        return self._mask


def _as_spikes(u: Float[Tensor, "batch out"], divisor: Float[Tensor, "batch out"]) -> Spikes:
    """Codes and divisors as the layers keep them; causes stay in the mask here."""
    return Spikes(u, torch.full_like(u, -torch.inf), divisor.masked_fill(u >= SILENT, torch.inf))
