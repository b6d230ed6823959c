"""A layer of one-spike neurons that learns by shifting its synapses' timings.

Forward, as in the paper: a neuron j with exponential shifting timings s_ij and
exponential passing time p_j gives z_j = p_j u_j, where u_j is the smallest admissible code of its
sorted inputs (see `kernels`).

Learning multiplies three factors: the local time difference z_i - z_j of a causal synapse, the
error d_j that comes back along the causal synapses, and the reward signal at the output, from which
all d stem:

    g_ij = sum_batch d_j exp(p_j) (z_i - z_j) m_ij        g_j = sum_batch d_j z_j
    d_i  = sum_j d_j m_ij s_ij

Both gradients go through Adam with beta1 = beta2 = 0.9 and eps 1e-8. Other rules, among them the
exact gradient on the same network, stand beside the paper's in `rules`.
"""

import copy
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Self, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from shared.errors import check_word
from shifting_learning import kernels
from shifting_learning.kernels import Events, Spikes
from shifting_learning.rules import RULES, LearningRule, Rule

Silent = Literal["published", "ignore", "deadline"]
Ties = Literal["event", "published"]

_APART: dict[Ties, bool] = {"event": False, "published": True}
"""Whether inputs of one time are events of their own."""

_TYPES = (torch.float32, torch.float64)


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


class ShiftingLayer(nn.Module):
    """Parameters, optimizer and learning rule that the one-spike and multi-spike layers share.

    Args:
        inCh: number of input synapses of each neuron.
        outCh: number of neurons.
        e_ts: initial exponential shifting timings, shape [inCh, outCh], or
            [networks, inCh, outCh] for independent networks that are trained together.
            Default: uniform in [0, 8/inCh).
        e_tp: initial exponential passing times, shape [outCh] or [networks, outCh]. Default: ones.
        rule: a word of `rules.RULES`, such as "shifting" or "exact", or a rule of one's own.
        silent: what a neuron without a spike learns. "published": its causal set is its earliest
            input and its code 1e5, so its time difference is about -1e5, as the published program
            computes it; rules without `silent_learn`, such as the exact one, teach it nothing.
            "ignore": nothing. "deadline": the trial ends at the code `deadline`, and the neuron is
            taken to spike then, caused by all inputs until then, with divisor 1; so it can wake.
        deadline: code of the trial's end, for silent="deadline".
        wake: strength of the homeostatic term, 0 for none: after each update the timings of a
            neuron that was silent in a share f > 1/2 of the batch grow by
            wake * lr_ets * (f - 1/2), all of them alike.
        ties: what inputs of one time are. "event": one event, which a causal set holds whole or not
            at all, so that their order plays no part. "published": a causal set may end at each of
            them, in the order of the inputs, as in the published program. The two differ where
            timings of both signs meet at one time.
        generator: random generator of the default timings.

    Raises:
        ValueError: a shape, type or word is not one of those above, or a timing is not finite.
    """

    def __init__(
        self,
        inCh: int,
        outCh: int,
        e_ts: Float[Tensor, "*networks in out"] | None = None,
        e_tp: Float[Tensor, "*networks out"] | None = None,
        *,
        rule: Rule | LearningRule = "shifting",
        silent: Silent = "published",
        deadline: float = 2 * math.e,
        wake: float = 0.0,
        ties: Ties = "event",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(rule, LearningRule):
            check_word("rule", rule, RULES)
            rule = RULES[rule]
        check_word("silent", silent, get_args(Silent))
        check_word("ties", ties, get_args(Ties))
        if e_ts is None:
            e_ts = torch.rand(inCh, outCh, generator=generator) * (8 / inCh)
        if e_ts.ndim not in (2, 3) or e_ts.shape[-2:] != (inCh, outCh):
            raise ValueError(
                f"e_ts must have shape [{inCh}, {outCh}] or [networks, {inCh}, {outCh}], "
                f"not {list(e_ts.shape)}"
            )
        if e_tp is None:
            e_tp = e_ts.new_ones((*e_ts.shape[:-2], outCh))
        if e_tp.shape != (*e_ts.shape[:-2], outCh):
            raise ValueError(
                f"e_tp must have shape {[*e_ts.shape[:-2], outCh]} to go with e_ts, "
                f"not {list(e_tp.shape)}"
            )
        if e_ts.dtype not in _TYPES:
            raise ValueError(f"e_ts must be float32 or float64, not {_short(e_ts.dtype)}")
        if not (e_ts.isfinite().all() and e_tp.isfinite().all()):
            raise ValueError("e_ts and e_tp must hold finite numbers only")
        self.inCh, self.outCh = inCh, outCh
        self.rule = rule
        self.silent = silent
        self.deadline = deadline
        self.wake = wake
        self.apart = _APART[ties]
        learn, self._with_silent, waits = _SILENT[silent]
        self._silent_learn = rule.silent_learn if learn is None else learn
        self._silent_code = deadline if waits else kernels.SILENT
        with torch.inference_mode(mode=False):  # else they could not be changed outside of it
            self.e_ts = nn.Parameter(e_ts.detach().clone(), requires_grad=False)
            self.e_tp = nn.Parameter(e_tp.detach().clone(), requires_grad=False)
        self.optimizer = torch.optim.Adam(
            [{"params": [self.e_ts]}, {"params": [self.e_tp]}], betas=(0.9, 0.9), fused=True
        )
        self._spikes: Spikes | None = None
        self.is_silent = torch.zeros(0, outCh, dtype=torch.bool)

    _events: Events  # of the last forward pass, which subclasses define

    @property
    def n_nets(self) -> int:
        """Number of networks that the layer holds."""
        return len(self.e_ts) if self.e_ts.ndim == 3 else 1

    @property
    def spikes(self) -> Spikes:
        """Output spikes of the last forward pass, over networks x batch trials.

        Silent neurons (`is_silent`) have the code and causal set that the argument `silent` gives.

        Raises:
            RuntimeError: there was no forward pass yet.
        """
        if self._spikes is None:
            raise RuntimeError("call forward first: there is no trial to learn from yet")
        return self._spikes

    def _timings(self) -> Float[Tensor, "networks in out"]:
        return self.e_ts if self.e_ts.ndim == 3 else self.e_ts[None]

    def _passing_times(self, n_trials: int) -> Float[Tensor, "N out"]:
        per_net = n_trials // self.n_nets
        return self.e_tp.reshape(self.n_nets, -1).repeat_interleave(per_net, dim=0)

    def _earliest(self) -> Float[Tensor, " N"]:
        raise NotImplementedError

    def _first_sum(self) -> Float[Tensor, "N out"]:
        """Summed timings of each trial's earliest input event."""
        raise NotImplementedError

    def _errors(self, delta: Tensor) -> Float[Tensor, "N out"]:
        """What the rule leaves of the outputs' errors, as trials x neurons.

        Silent neurons that are to learn nothing have none.
        """
        delta = self._by_trial(delta, "errors")
        if not self._silent_learn:
            delta = delta.masked_fill(self.is_silent, 0.0)
        return self.rule.error(delta, self.spikes.divisor)

    def _by_trial(self, values: Tensor, name: str) -> Float[Tensor, "N out"]:
        """Values of the last pass's outputs as trials x neurons."""
        shape = self.spikes.u.shape
        if values.shape not in (shape, (self.n_nets, shape[0] // self.n_nets, shape[1])):
            raise ValueError(
                f"{name} have the shape {list(values.shape)}: the last pass's outputs have "
                f"{shape[0]} trials of {shape[1]} neurons"
            )
        return values.reshape(shape)

    def _search(self) -> Spikes:
        """Find the output spikes of the trials that forward has taken in."""
        return kernels.find_spikes(self._events, self._timings())

    def _check_numbers(self, inputs: Tensor, name: str) -> None:
        """Refuse what would only be seen as silent neurons; looks at the device once.

        Raises:
            ValueError: an input is NaN, a timing not finite, or the timings' type not float32 or
                float64.
        """
        if self.e_ts.dtype not in _TYPES:
            raise ValueError(
                f"the layer's timings are {_short(self.e_ts.dtype)}: use layer.float() or "
                "layer.double()"
            )
        # A sum is finite only where every timing is.
        total = self.e_ts.sum() + self.e_tp.sum()
        is_bad = torch.stack([inputs.isnan().any(), ~total.isfinite()])
        if not is_bad.any():
            return
        if is_bad[0]:
            raise ValueError(f"{name} holds NaN: check the data and the coding that made it")
        raise ValueError(
            "the layer's timings are no longer finite: an error was NaN, or the steps are too "
            "large; start again from a checkpoint with smaller ones"
        )

    def _fire(self) -> Float[Tensor, "N out"]:
        found = self._search()
        self.is_silent = found.divisor.isinf()
        self._spikes = self._with_silent(self, found)
        return self._passing_times(len(found.u)) * self._spikes.u

    def _timing_gradient(
        self, a: Float[Tensor, "N out"], z_out: Float[Tensor, "N out"]
    ) -> Float[Tensor, "networks in out"]:
        n_in = self.e_ts.shape[-2]
        return kernels.timing_gradient(self._events, a, z_out, self.spikes.cause, self.n_nets, n_in)

    def gradients(
        self, delta: Tensor, z_out: Tensor
    ) -> tuple[Float[Tensor, "*networks in out"], Float[Tensor, "*networks out"]]:
        """Changes of the timings and passing times that the rule asks for, before Adam.

        Args:
            delta: errors d_j of the last forward pass's outputs, in their shape.
            z_out: output codes of that pass.

        Returns:
            The gradients of `e_ts` and of `e_tp`, in their shapes.

        Raises:
            ValueError: errors or codes have another shape than that pass's outputs.
        """
        u, _, divisor = self.spikes
        d, p = self._errors(delta), self._passing_times(len(u))
        code = self.rule.code(u, self._by_trial(z_out, "codes"))
        g_ts = self._timing_gradient(self.rule.factor(d, p, divisor), code)
        g_tp = (d * code).reshape(self.n_nets, -1, self.e_tp.shape[-1]).sum(dim=1)
        return g_ts.reshape(self.e_ts.shape), g_tp.reshape(self.e_tp.shape)

    @torch.inference_mode(mode=False)
    @torch.no_grad()
    def learn(self, delta: Tensor, z_out: Tensor, lr_ets: float, lr_etp: float) -> None:
        """Learn from the last forward pass: one Adam step on the timings and passing times.

        It may be called in inference mode.

        Args:
            delta: errors d_j of the outputs, in the shape of `z_out`.
            z_out: the pass's output codes.
            lr_ets: step size eta_s of the exponential shifting timings.
            lr_etp: step size eta_p of the exponential passing times.
        """
        self.e_ts.grad, self.e_tp.grad = self.gradients(delta, z_out)
        for group, lr in zip(self.optimizer.param_groups, (lr_ets, lr_etp), strict=True):
            group["lr"] = lr
        self.optimizer.step()
        if self.wake > 0:
            self._wake_silent(lr_ets)

    def _wake_silent(self, lr_ets: float) -> None:
        silent = self.is_silent.reshape(self.n_nets, -1, self.e_ts.shape[-1])
        share = silent.to(self.e_ts.dtype).mean(dim=1, keepdim=True)
        growth = self.wake * lr_ets * (share - 0.5).clamp(min=0)
        self.e_ts.add_(growth.reshape(*self.e_ts.shape[:-2], 1, -1))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move or convert Adam's moments along with the timings; the last trials are forgotten."""
        before = self.e_ts, self.e_tp
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for group, old, new in zip(
            self.optimizer.param_groups, before, (self.e_ts, self.e_tp), strict=True
        ):
            group["params"] = [new]
            state = self.optimizer.state.pop(old, {})
            if state:
                moments = {name: fn(state[name]) for name in ("exp_avg", "exp_avg_sq")}
                # The count of steps stays float32, where the timings are.
                self.optimizer.state[new] = {"step": state["step"].to(new.device), **moments}
        self._spikes = None
        return self

    def get_extra_state(self) -> dict[str, Any]:
        """Adam's moments: a checkpoint without them would not continue the same run."""
        return self.optimizer.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore Adam's moments: a copy, as of the timings, which may be other tensors by now."""
        for group, own in zip(self.optimizer.param_groups, (self.e_ts, self.e_tp), strict=True):
            group["params"] = [own]
        self.optimizer.state.clear()
        self.optimizer.load_state_dict(copy.deepcopy(state))


# ------------------------------------------------------------------------------ silent neurons


def _as_published(layer: ShiftingLayer, found: Spikes) -> Spikes:
    """The earliest input is the cause of a silent neuron, where the rule lets it learn."""
    u, cause, divisor = found
    if layer.rule.silent_learn:
        cause = torch.where(layer.is_silent, layer._earliest()[:, None], cause)
        if layer.rule.silent_divisor and layer.is_silent.any():
            divisor = torch.where(layer.is_silent, layer._first_sum() - 1, divisor)
    return Spikes(u, cause, divisor)


def _as_found(layer: ShiftingLayer, found: Spikes) -> Spikes:
    return found


def _at_deadline(layer: ShiftingLayer, found: Spikes) -> Spikes:
    """A silent neuron spikes at the deadline, caused by all inputs until then."""
    u, cause, divisor = found
    return Spikes(
        u.masked_fill(layer.is_silent, layer.deadline),
        cause.masked_fill(layer.is_silent, layer.deadline),
        divisor.masked_fill(layer.is_silent, 1.0),
    )


class _Silence(NamedTuple):
    """What silent neurons are taken to have done.

    Attributes:
        learn: whether they learn; None where the rule says so.
        spikes: their spikes, from the layer and what the search has found.
        waits: whether their code is the deadline.
    """

    learn: bool | None
    spikes: Callable[[ShiftingLayer, Spikes], Spikes]
    waits: bool


_SILENT: dict[Silent, _Silence] = {
    "published": _Silence(None, _as_published, waits=False),
    "ignore": _Silence(False, _as_found, waits=False),
    "deadline": _Silence(True, _at_deadline, waits=True),
}


# ----------------------------------------------------------------------------- one-spike inputs


class SNNLayer(ShiftingLayer):
    """One-spike inputs to one-spike neurons; arguments as in `ShiftingLayer`.

    `forward`, `pass_delta` and `backward` take the published arguments; `layer(z_in)`, `feedback`
    and `learn` are the same without those that a layer knows.

    Example:
        >>> layer = SNNLayer(784, 800)
        >>> z_out = layer(z_in)                        # [batch, 784] -> [batch, 800]
        >>> delta_in = layer.feedback(delta)           # [batch, 800] -> [batch, 784]
        >>> layer.learn(delta, z_out, lr_ets=1e-4, lr_etp=1e-4)
    """

    def forward(
        self,
        bs: int | Float[Tensor, "*networks batch in"],
        z_in: Float[Tensor, "*networks batch in"] | None = None,
        dv: torch.device | None = None,
    ) -> Float[Tensor, "*networks batch out"]:
        """Codes of the output spikes: `layer(z_in)`, or as published `forward(bs, z_in, dv)`.

        Args:
            bs: number of trials, or the input codes alone.
            z_in: input codes z = exp(t), shape [batch, in], or [networks, batch, in] where the
                layer holds several networks.
            dv: the published argument for a device; not needed, the layer is where `to` put it.

        Returns:
            Output codes z_j = p_j u_j, shape [batch, out] or [networks, batch, out]; for neurons
            that stay silent 1e5 p_j, with silent="deadline" the deadline times p_j.

        Raises:
            ValueError: the shape does not fit the timings, a code is NaN, or a timing not finite.
        """
        del dv
        if isinstance(bs, Tensor):
            z_in, bs = bs, bs.shape[-2] if bs.ndim > 1 else 0
        if z_in is None:
            raise ValueError("forward needs input codes: call layer(z_in) or forward(bs, z_in)")
        n_in, n_out = self.e_ts.shape[-2:]
        if (
            z_in.ndim != self.e_ts.ndim
            or z_in.shape[-1] != n_in
            or (z_in.ndim == 3 and len(z_in) != self.n_nets)
        ):
            expected = ["batch", n_in] if self.e_ts.ndim == 2 else [self.n_nets, "batch", n_in]
            raise ValueError(f"z_in must have shape {expected}, not {list(z_in.shape)}")
        if z_in.shape[-2] != bs:
            raise ValueError(f"z_in holds {z_in.shape[-2]} trials, not bs = {bs}")
        rows = z_in.detach().reshape(-1, n_in).to(self.e_ts.dtype)
        if torch.compiler.is_exporting():
            return self._exported(rows).reshape(*z_in.shape[:-1], n_out)
        self._check_numbers(z_in, "z_in")
        self._z_in = rows
        self._events = self._sort()
        z_out = self._fire()
        return z_out.reshape(*z_in.shape[:-1], n_out)

    def _exported(self, z_in: Float[Tensor, "N in"]) -> Float[Tensor, "N out"]:
        """The output codes alone, as `torch.export` can write them down: nothing is kept."""
        u: Tensor
        u, divisor = kernels.codes_of_spikes(z_in, self._timings(), self.apart)
        u = u.masked_fill(divisor.isinf(), self._silent_code)
        return self._passing_times(z_in.shape[0]) * u

    def pass_delta(
        self, bs: int, delta: Float[Tensor, "*networks batch out"]
    ) -> Float[Tensor, "*networks batch in"]:
        """`feedback` with the published arguments; `bs` is the number of trials."""
        del bs
        return self.feedback(delta)

    def backward(
        self, bs: int, delta: Tensor, z_in: Tensor, z_out: Tensor, lr_Ets: float, lr_Etp: float
    ) -> None:
        """`learn` with the published arguments; the layer remembers `bs` and `z_in` itself."""
        del bs, z_in
        self.learn(delta, z_out, lr_Ets, lr_Etp)

    def feedback(
        self, delta: Float[Tensor, "*networks batch out"]
    ) -> Float[Tensor, "*networks batch in"]:
        """Errors of the inputs, sent back along the causal synapses of the last forward pass.

        Args:
            delta: errors of the outputs, shape of the output codes.

        Returns:
            Errors of the inputs, shape of the input codes.
        """
        u, _, divisor = self.spikes
        sent = self.rule.feedback(self._errors(delta), self._passing_times(len(u)), divisor)
        d_in = self._feedback(sent)
        return d_in.reshape(*delta.shape[:-1], d_in.shape[-1])

    @property
    def cause_mask(self) -> Bool[Tensor, "*networks batch in out"]:
        """Causal masks m_ij of the last forward pass, built when asked for.

        Shape [batch, in, out] or [networks, batch, in, out].
        """
        causes = self.spikes.cause
        mask = self._z_in.double()[:, :, None] <= causes[:, None, :]
        return mask.reshape(*self.e_ts.shape[:-2], -1, *mask.shape[1:])

    def _sort(self) -> Events:
        if self.apart:
            events, self._z_in = kernels.sort_codes_apart(self._z_in)
            return events
        return kernels.sort_codes(self._z_in)

    def _feedback(self, d: Float[Tensor, "N out"]) -> Float[Tensor, "N in"]:
        return kernels.feedback(self._z_in, self.spikes.cause, d, self._timings())

    def _earliest(self) -> Float[Tensor, " N"]:
        return self._z_in.double().amin(dim=1)

    def _first_sum(self) -> Float[Tensor, "N out"]:
        first = (self._z_in.double() <= self._earliest()[:, None]).to(self.e_ts.dtype)
        return (first.reshape(self.n_nets, -1, first.shape[-1]) @ self._timings()).flatten(0, 1)
