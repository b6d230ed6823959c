"""The input layer for spike trains: a synapse may spike many times in a trial.

The prefix search runs over spikes instead of synapses; the changes of the spikes of one synapse add
up.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from shifting_learning import kernels
from shifting_learning.kernels import Events
from shifting_learning.SL_Layer import ShiftingLayer


class SNN_MInLy(ShiftingLayer):
    """Spike trains to one-spike neurons; arguments as in `ShiftingLayer`.

    Trials of different lengths make a batch as the rows of a CSR matrix do: their spikes lie one
    after another, and `offsets` says where each trial begins and ends. `forward` and `backward`
    take the published arguments; `learn` is the latter without those that the layer knows.
    """

    def forward(
        self,
        spk: Float[Tensor, " K"],
        idx: Int[Tensor, " K"],
        dv: torch.device | None = None,
        *,
        offsets: Int[Tensor, " trials_plus_1"] | None = None,
    ) -> Float[Tensor, "batch out"]:
        """Codes of the output spikes of a batch of trials.

        Args:
            spk: spike times, ascending within each trial, shape [K].
            idx: synapse of each spike, 0 to in - 1, shape [K].
            dv: the published argument for a device; not needed, the layer is where `to` put it.
            offsets: trial n owns spikes offsets[n] to offsets[n + 1] - 1, shape [batch + 1].
                Default: one trial. Where the layer holds several networks, the trials are split
                evenly among them, in order.

        Returns:
            Output codes z_j = p_j u_j, shape [batch, out].

        Raises:
            ValueError: lengths differ, times are NaN or not ascending, a synapse does not exist or
                is no integer, or a timing is not finite.
        """
        if isinstance(dv, Tensor):
            raise ValueError("offsets are given by name: layer(spk, idx, offsets=offsets)")
        if offsets is None:
            offsets = torch.tensor([0, len(spk)], device=spk.device)
        self._check(spk, idx, offsets)
        if self.apart:
            per_trial = spk.detach().double().exp().tensor_split(offsets[1:-1].cpu())
            codes = torch.cat([kernels.set_apart(codes) for codes in per_trial])
        else:
            codes = spk.detach().to(self.e_ts.dtype).exp()
        self._is_empty = offsets[1:] == offsets[:-1]
        self._events = Events(
            codes,
            idx.to(torch.int32),
            offsets[:-1].to(torch.int64),
            offsets[1:].to(torch.int64),
            codes.new_full((len(offsets) - 1,), torch.inf, dtype=torch.float64),
        )
        return self._fire()

    def backward(
        self,
        delta: Tensor,
        spk: Tensor,
        idx: Tensor,
        z_out: Tensor,
        lr_Ets: float,
        lr_Etp: float,
    ) -> None:
        """`learn` with the published arguments; the layer remembers `spk` and `idx` itself."""
        del spk, idx
        self.learn(delta, z_out, lr_Ets, lr_Etp)

    def _check(self, spike_times: Tensor, synapse: Tensor, offsets: Tensor) -> None:
        if spike_times.ndim != 1 or spike_times.shape != synapse.shape:
            raise ValueError(
                "spike_times and synapse must be two vectors of one length, "
                f"not {list(spike_times.shape)} and {list(synapse.shape)}"
            )
        if any(of.is_floating_point() for of in (synapse, offsets)):
            raise ValueError("synapse and offsets must be integers")
        self._check_numbers(spike_times, "spike_times")
        if len(offsets) < 2 or offsets[0] != 0 or offsets[-1] != len(spike_times):
            raise ValueError(f"offsets must run from 0 to the number of spikes, {len(spike_times)}")
        if (len(offsets) - 1) % self.n_nets:
            raise ValueError(
                f"{len(offsets) - 1} trials cannot be split evenly among {self.n_nets} networks"
            )
        n_in = self.e_ts.shape[-2]
        if len(synapse) and not 0 <= int(synapse.min()) <= int(synapse.max()) < n_in:
            raise ValueError(f"synapse must lie between 0 and {n_in - 1}")
        descends = spike_times.diff() < 0
        begins = offsets[1:-1]
        descends[begins[(begins > 0) & (begins < len(spike_times))] - 1] = False
        if descends.any():
            raise ValueError("spike_times must ascend within each trial: sort them first")

    @property
    def cause_mask(self) -> Bool[Tensor, "K out"]:
        """Causal masks over the spikes of the last forward pass, built when asked for, [K, out]."""
        per_trial = self._events.stop - self._events.start
        causes = self.spikes.cause.repeat_interleave(per_trial, dim=0)
        return self._events.codes.double()[:, None] <= causes

    def _earliest(self) -> Float[Tensor, " N"]:
        codes, _, start, _, _ = self._events
        # One more, since an empty trial at the end begins behind the last spike.
        first = torch.cat([codes.double(), codes.new_zeros(1, dtype=torch.float64)])[start]
        return first.masked_fill(self._is_empty, -torch.inf)

    def _first_sum(self) -> Float[Tensor, "N out"]:
        codes, synapse, start, stop, _ = self._events
        trial = torch.arange(len(start), device=codes.device).repeat_interleave(stop - start)
        first = codes.double() <= self._earliest()[trial]
        net = trial[first] // (len(start) // self.n_nets)
        sums = self.e_ts.new_zeros(len(start), self.e_ts.shape[-1])
        return sums.index_add_(0, trial[first], self._timings()[net, synapse[first].long()])
