"""CUDA kernels of shifting learning, in Triton: tiles of (spikes, neurons) with sums in registers.

The functions answer to `_kernels_cpu`'s, on torch tensors: nothing of shape (batch, in, out) is
formed, sums are float64, results do not depend on the order in which programs run (no atomics).
Nothing here waits for the device, so that a step can be queued ahead or captured in a CUDA graph;
what only the device knows (how long a trial is, whether a synapse spikes again) is handled inside
the kernels.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from shifting_learning import _kernels_cpu

_SILENT = tl.constexpr(_kernels_cpu.SILENT)
_MIN_DIVISOR = tl.constexpr(_kernels_cpu._MIN_DIVISOR)
_MAX_DIVISOR = tl.constexpr(_kernels_cpu._MAX_DIVISOR)

# Stated, since Triton's default changes with its version: products round as on the CPU.
_OPTIONS = {"enable_fp_fusion": False}
# float64 elements of a tile per warp; several such tiles have to fit the registers at once.
_FORWARD_PER_WARP = 256
_BACKWARD_PER_WARP = 512
_BACKWARD_TILE = 4 * _BACKWARD_PER_WARP
_SORT_BLOCK = 1024  # codes in a pass of the kernel after the sort
_LINK_CHUNK = 64  # spikes that look for the previous spike of their synapse together


def _jit(kernel: Callable[..., Any]) -> Any:
    """`triton.jit`, compiling once per tile and not again for sizes that are 1 or multiples of 16.

    Nor would alignment help: 16-byte loads spread a neuron's spikes over several threads, which
    then have to exchange their sums.
    """
    arguments = [name for name in inspect.signature(kernel).parameters if name.islower()]
    return triton.jit(kernel, do_not_specialize=arguments)


@_jit
def _trim_kernel(codes, order, synapse, start, stop, rest, n_in, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Narrow a sorted trial's indices; leave out the inputs of its latest time where many."""
    trial = tl.program_id(0).to(tl.int64)
    begin = trial * n_in
    latest = tl.load(codes + begin + n_in - 1)
    n_latest = tl.zeros([BLOCK], tl.int32)
    for i0 in range(0, n_in, BLOCK):
        i = i0 + tl.arange(0, BLOCK)
        z = tl.load(codes + begin + i, mask=i < n_in, other=0.0)
        tl.store(synapse + begin + i, tl.load(order + begin + i, mask=i < n_in), mask=i < n_in)
        n_latest += ((z == latest) & (i < n_in)).to(tl.int32)
    n_left_out = tl.sum(n_latest, 0)
    leave_out = (n_left_out > 1) & (2 * n_left_out >= n_in)
    tl.store(start + trial, begin)
    tl.store(stop + trial, begin + n_in - tl.where(leave_out, n_left_out, 0))
    tl.store(rest + trial, tl.where(leave_out, latest.to(tl.float64), float("inf")))


@_jit
def _prefix_code(s_sum, sz_sum):  # type: ignore[no-untyped-def]
    """Code and clamped divisor of prefixes with the sums S and SZ."""
    divisor = s_sum - 1.0
    # tl.maximum and its like would round the bounds to float32 first.
    smallest = tl.full(divisor.shape, _MIN_DIVISOR, tl.float64)
    largest = tl.full(divisor.shape, _MAX_DIVISOR, tl.float64)
    divisor = tl.where(divisor > smallest, divisor, smallest)
    divisor = tl.where(divisor < largest, divisor, largest)
    return sz_sum / divisor, divisor


@_jit
def _find_spikes_kernel(  # type: ignore[no-untyped-def]
    codes,
    synapse,
    start,
    stop,
    rest,
    e_ts,
    total,
    u,
    cause,
    divisor,
    n_trials,
    per_net,
    n_in,
    n_out,
    CHUNK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Scan one trial's spikes for a block of neurons, a chunk of spikes at a time."""
    program = tl.program_id(0).to(tl.int64)
    # Trials run fastest: programs that share a multiprocessor then share its cached weights.
    trial = program % n_trials
    net = trial // per_net
    j = program // n_trials * BLOCK + tl.arange(0, BLOCK)
    real = j < n_out
    weights = e_ts + net * n_in * n_out
    k = tl.load(start + trial)
    end = tl.load(stop + trial)
    z_rest = tl.load(rest + trial)
    s_sum = tl.zeros([BLOCK], tl.float64)
    sz_sum = tl.zeros([BLOCK], tl.float64)
    # Columns beyond the last neuron never improve on -inf and never hold back the early stop.
    best = tl.full([BLOCK], _SILENT, tl.float64)
    best = tl.where(real, best, float("-inf"))
    best_cause = tl.full([BLOCK], float("-inf"), tl.float64)
    best_divisor = tl.full([BLOCK], float("inf"), tl.float64)
    while k < end:
        here = k + tl.arange(0, CHUNK)
        inside = here < end
        z = tl.load(codes + here, mask=inside, other=0.0).to(tl.float64)
        z_after = tl.load(codes + here + 1, mask=here + 1 < end, other=0.0).to(tl.float64)
        event_ends = inside & ((here + 1 == end) | (z != z_after))
        i = tl.load(synapse + here, mask=inside, other=0).to(tl.int64)
        at = i[:, None] * n_out + j[None, :]
        s = tl.load(weights + at, mask=inside[:, None] & real[None, :], other=0.0).to(tl.float64)
        sz = s * z[:, None]
        s_prefix = s_sum[None, :] + tl.cumsum(s, 0)
        s_sum += tl.sum(s, 0)
        if tl.max(tl.max(s_prefix, 0), 0) >= 1.0:
            x, d = _prefix_code(s_prefix, sz_sum[None, :] + tl.cumsum(sz, 0))
            admissible = event_ends[:, None] & (s_prefix >= 1.0) & (x >= z[:, None])
            x = tl.where(admissible, x, float("inf"))
            smallest = tl.min(x, 0)
            # Of equal codes the first counts; at most one prefix ends with an event.
            z_last = tl.min(tl.where(x == smallest[None, :], z[:, None], float("inf")), 0)
            wins = (x == smallest[None, :]) & (z[:, None] == z_last[None, :])
            better = smallest < best
            best = tl.where(better, smallest, best)
            best_cause = tl.where(better, z_last, best_cause)
            best_divisor = tl.where(better, tl.max(tl.where(wins, d, 0.0), 0), best_divisor)
        sz_sum += tl.sum(sz, 0)
        # An admissible code is never below the code of its own last input: once the next input
        # comes no earlier than the best codes found, no later prefix can beat them.
        k += CHUNK
        z_next = tl.load(codes + k, mask=k < end, other=0.0).to(tl.float64)
        k = tl.where((k < end) & (tl.max(best, 0) <= z_next), end, k)
    # After an early stop the sums are incomplete, but then nothing from `rest` on beats the best.
    if z_rest < float("inf"):
        s_all = tl.load(total + net * n_out + j, mask=real, other=0.0)
        x, d = _prefix_code(s_all, sz_sum + (s_all - s_sum) * z_rest)
        better = (s_all >= 1.0) & (x >= z_rest) & (x < best)
        best = tl.where(better, x, best)
        best_cause = tl.where(better, z_rest, best_cause)
        best_divisor = tl.where(better, d, best_divisor)
    at_out = trial * n_out + j
    tl.store(u + at_out, best, mask=real)
    tl.store(cause + at_out, best_cause, mask=real)
    tl.store(divisor + at_out, best_divisor, mask=real)


@_jit
def _link_kernel(synapse, start, stop, first, gap, n_in, n_groups, CHUNK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Link every spike to the next one of its synapse, and every synapse to its first spike.

    `first` counts from the trial's first spike, `gap` from the spike itself; both hold -1 before.
    Each entry is written by the one spike that finds it, so no atomics are needed; trials that
    share spikes write equal gaps.
    """
    program = tl.program_id(0).to(tl.int64)
    trial = program // n_groups
    begin = tl.load(start + trial)
    length = (tl.load(stop + trial) - begin).to(tl.int32)
    chunk = (program % n_groups).to(tl.int32) * CHUNK
    while chunk < length:
        k = chunk + tl.arange(0, CHUNK)
        i = tl.load(synapse + begin + k, mask=k < length, other=-1)
        previous = tl.full([CHUNK], -1, tl.int32)
        behind = chunk
        while behind >= 0:
            m = behind + tl.arange(0, CHUNK)
            i_m = tl.load(synapse + begin + m, mask=m < length, other=-2)
            same = (i[:, None] == i_m[None, :]) & (m[None, :] < k[:, None])
            previous = tl.maximum(previous, tl.max(tl.where(same, m[None, :], -1), 1))
            n_open = tl.sum(((k < length) & (previous < 0)).to(tl.int32), 0)
            behind = tl.where(n_open > 0, behind - CHUNK, -1)
        tl.store(gap + begin + previous, k - previous, mask=(k < length) & (previous >= 0))
        tl.store(first + trial * n_in + i, k, mask=(k < length) & (previous < 0))
        chunk += n_groups * CHUNK


@_jit
def _gradient_kernel(  # type: ignore[no-untyped-def]
    codes,
    start,
    stop,
    rest,
    first,
    gap,
    a,
    z_out,
    cause,
    gradient,
    per_net,
    n_in,
    n_out,
    n_blocks_in,
    n_blocks_out,
    TRIALS: tl.constexpr,
    INPUTS: tl.constexpr,
    NEURONS: tl.constexpr,
):
    """Sum a tile of synapses' factors over the batch, `TRIALS` trials at a time."""
    program = tl.program_id(0).to(tl.int64)
    j = program % n_blocks_out * NEURONS + tl.arange(0, NEURONS)
    i = program // n_blocks_out % n_blocks_in * INPUTS + tl.arange(0, INPUTS)
    net = program // n_blocks_out // n_blocks_in
    real_in = i < n_in
    real_out = j < n_out
    sums = tl.zeros([INPUTS, NEURONS], tl.float64)
    for b0 in range(0, per_net, TRIALS):
        b = b0 + tl.arange(0, TRIALS)
        live = b < per_net
        trial = net * per_net + b
        begin = tl.load(start + trial, mask=live, other=0)
        length = tl.load(stop + trial, mask=live, other=0) - begin
        z_rest = tl.load(rest + trial, mask=live, other=float("inf"))
        at_out = trial[:, None] * n_out + j[None, :]
        seen = live[:, None] & real_out[None, :]
        aj = tl.load(a + at_out, mask=seen, other=0.0).to(tl.float64)[:, None, :]
        zj = tl.load(z_out + at_out, mask=seen, other=0.0).to(tl.float64)[:, None, :]
        last = tl.load(cause + at_out, mask=seen, other=float("-inf"))[:, None, :]
        at_in = trial[:, None] * n_in + i[None, :]
        k = tl.load(first + at_in, mask=live[:, None] & real_in[None, :], other=-1)
        # A synapse without a listed spike fires once at `rest`; then follow the spikes' links,
        # which a trial that shares spikes with a longer one has to cut at its own end.
        absent = z_rest[:, None] + tl.zeros([TRIALS, INPUTS], tl.float64)
        more = 1
        while more > 0:
            listed = k >= 0
            at = begin[:, None] + k
            z = tl.where(listed, tl.load(codes + at, mask=listed, other=0.0).to(tl.float64), absent)
            z = z[:, :, None]
            sums += tl.sum(tl.where(z <= last, aj * (z - zj), 0.0), 0)
            step = tl.load(gap + at, mask=listed, other=-1)
            k = tl.where((step > 0) & (k + step < length[:, None]), k + step, -1)
            absent = tl.full([TRIALS, INPUTS], float("inf"), tl.float64)
            more = tl.max(tl.max(k, 0), 0) + 1
    at = (net * n_in + i)[:, None] * n_out + j[None, :]
    tl.store(gradient + at, sums, mask=real_in[:, None] & real_out[None, :])


@_jit
def _feedback_kernel(  # type: ignore[no-untyped-def]
    z_in,
    cause,
    d,
    e_ts,
    d_in,
    per_net,
    n_in,
    n_out,
    n_blocks_trials,
    n_blocks_in,
    TRIALS: tl.constexpr,
    INPUTS: tl.constexpr,
    NEURONS: tl.constexpr,
):
    """Errors of a tile of trials and inputs, `NEURONS` outputs at a time."""
    program = tl.program_id(0).to(tl.int64)
    i = program % n_blocks_in * INPUTS + tl.arange(0, INPUTS)
    b = program // n_blocks_in % n_blocks_trials * TRIALS + tl.arange(0, TRIALS)
    net = program // n_blocks_in // n_blocks_trials
    trial = net * per_net + b
    live = b < per_net
    real = live[:, None] & (i < n_in)[None, :]
    at_in = trial[:, None] * n_in + i[None, :]
    z = tl.load(z_in + at_in, mask=real, other=0.0).to(tl.float64)[:, :, None]
    # Summed over outputs at the end only: threads then need not exchange sums in the loop.
    sums = tl.zeros([TRIALS, INPUTS, NEURONS], tl.float64)
    for j0 in range(0, n_out, NEURONS):
        j = j0 + tl.arange(0, NEURONS)
        at_out = trial[:, None] * n_out + j[None, :]
        seen = live[:, None] & (j < n_out)[None, :]
        last = tl.load(cause + at_out, mask=seen, other=float("-inf"))[:, None, :]
        dj = tl.load(d + at_out, mask=seen, other=0.0).to(tl.float64)[:, None, :]
        at = (net * n_in + i)[:, None] * n_out + j[None, :]
        s = tl.load(e_ts + at, mask=(i < n_in)[:, None] & (j < n_out)[None, :], other=0.0)
        sums += tl.where(z <= last, dj * s.to(tl.float64)[None, :, :], 0.0)
    tl.store(d_in + at_in, tl.sum(sums, 2), mask=real)


def sort_codes(z: Tensor) -> tuple[Tensor, ...]:
    """Sort each trial's codes; the fields of `kernels.Events`.

    As on the CPU, the inputs of a trial's latest time are left out into `rest` where they are many.
    """
    n_trials, n_in = z.shape
    codes, order = z.detach().sort(dim=1, stable=True)
    codes, order = codes.contiguous(), order.contiguous()
    synapse = torch.empty(z.numel(), dtype=torch.int32, device=z.device)
    start = torch.empty(n_trials, dtype=torch.int64, device=z.device)
    stop = torch.empty_like(start)
    rest = torch.empty(n_trials, dtype=torch.float64, device=z.device)
    block = min(_SORT_BLOCK, triton.next_power_of_2(n_in))
    outputs = (synapse, start, stop, rest)
    _launch(_trim_kernel, n_trials, codes, order, *outputs, n_in, warps=4, BLOCK=block)
    return codes.view(-1), synapse, start, stop, rest


def find_spikes(
    codes: Tensor, synapse: Tensor, start: Tensor, stop: Tensor, rest: Tensor, e_ts: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Search every neuron's admissible prefix with the smallest code; see `kernels.find_spikes`."""
    n_nets, n_in, n_out = e_ts.shape
    n_trials = len(start)
    # Always summed: whether some trial needs it (a finite `rest`) is known on the device only.
    total = e_ts.detach().sum(dim=1, dtype=torch.float64)
    u = torch.empty(n_trials, n_out, dtype=e_ts.dtype, device=e_ts.device)
    cause = torch.empty(n_trials, n_out, dtype=torch.float64, device=e_ts.device)
    divisor = torch.empty_like(u)
    chunk, block = _forward_tile(len(codes), n_trials, n_out)
    _launch(
        _find_spikes_kernel,
        n_trials * triton.cdiv(n_out, block),
        *_ready(codes, synapse, start, stop, rest, e_ts, total),
        u,
        cause,
        divisor,
        n_trials,
        n_trials // n_nets,
        n_in,
        n_out,
        warps=_warps(chunk * block, _FORWARD_PER_WARP),
        CHUNK=chunk,
        BLOCK=block,
    )
    return u, cause, divisor


def timing_gradient(
    codes: Tensor,
    synapse: Tensor,
    start: Tensor,
    stop: Tensor,
    rest: Tensor,
    a: Tensor,
    z_out: Tensor,
    cause: Tensor,
    n_nets: int,
    n_in: int,
) -> Tensor:
    """Sum the factors of every synapse over the batch; see `kernels.timing_gradient`."""
    n_trials, n_out = a.shape
    per_net = n_trials // n_nets
    codes, synapse, start, stop, rest = _ready(codes, synapse, start, stop, rest)
    links = torch.full((n_trials * n_in + len(codes),), -1, dtype=torch.int32, device=a.device)
    first, gap = links[: n_trials * n_in], links[n_trials * n_in :]
    n_groups = max(1, triton.cdiv(len(codes), max(1, n_trials) * _LINK_CHUNK))
    _launch(
        _link_kernel,
        n_trials * n_groups,
        *(synapse, start, stop, first, gap, n_in, n_groups),
        warps=4,
        CHUNK=_LINK_CHUNK,
    )
    gradient = torch.empty(n_nets, n_in, n_out, dtype=a.dtype, device=a.device)
    trials, inputs, neurons = _backward_tile(per_net, n_in, n_out)
    n_blocks_in, n_blocks_out = triton.cdiv(n_in, inputs), triton.cdiv(n_out, neurons)
    _launch(
        _gradient_kernel,
        n_nets * n_blocks_in * n_blocks_out,
        *(codes, start, stop, rest, first, gap, *_ready(a, z_out, cause), gradient),
        *(per_net, n_in, n_out, n_blocks_in, n_blocks_out),
        warps=_warps(trials * inputs * neurons, _BACKWARD_PER_WARP),
        TRIALS=trials,
        INPUTS=inputs,
        NEURONS=neurons,
    )
    return gradient


def feedback(z_in: Tensor, cause: Tensor, d: Tensor, e_ts: Tensor) -> Tensor:
    """Send errors back along the causal synapses; see `kernels.feedback`."""
    n_nets, n_in, n_out = e_ts.shape
    n_trials = len(z_in)
    per_net = n_trials // n_nets
    d_in = torch.empty(n_trials, n_in, dtype=e_ts.dtype, device=e_ts.device)
    trials, inputs, neurons = _backward_tile(per_net, n_in, n_out)
    n_blocks_trials, n_blocks_in = triton.cdiv(per_net, trials), triton.cdiv(n_in, inputs)
    _launch(
        _feedback_kernel,
        n_nets * n_blocks_trials * n_blocks_in,
        *(*_ready(z_in, cause, d, e_ts), d_in),
        *(per_net, n_in, n_out, n_blocks_trials, n_blocks_in),
        warps=_warps(trials * inputs * neurons, _BACKWARD_PER_WARP),
        TRIALS=trials,
        INPUTS=inputs,
        NEURONS=neurons,
    )
    return d_in


def _forward_tile(n_spikes: int, n_trials: int, n_out: int) -> tuple[int, int]:
    """Spikes and neurons of a tile: long and narrow ones where few programs have to fill the GPU.

    A tile of one warp and 32 neurons keeps each neuron's sums inside a thread. With few (trial,
    block) pairs that leaves the GPU idle: narrow tiles of more warps then shorten the way along
    the spikes.
    """
    block = min(32, triton.next_power_of_2(n_out))
    while block > 4 and n_trials * triton.cdiv(n_out, block) < 256:
        block //= 2
    n_programs = n_trials * triton.cdiv(n_out, block)
    n_warps = 1 if n_programs >= 1024 else 4 if n_programs >= 256 else 8
    usual_length = triton.next_power_of_2(max(1, triton.cdiv(n_spikes, max(1, n_trials))))
    return max(8, min(n_warps * _FORWARD_PER_WARP // block, usual_length)), block


def _backward_tile(per_net: int, n_in: int, n_out: int) -> tuple[int, int, int]:
    """Trials, inputs and neurons of a tile: many inputs where there are tiles enough anyway.

    What a tile loads for its trials serves all its inputs; but each program waits for memory once
    for every `trials` of the batch, so small layers take more trials at a time instead.
    """
    neurons = min(32, triton.next_power_of_2(n_out))
    inputs = min(16 if n_in * n_out >= 1 << 17 else 4, triton.next_power_of_2(n_in))
    trials = min(_BACKWARD_TILE // (inputs * neurons), triton.next_power_of_2(max(1, per_net)))
    return trials, inputs, neurons


def _warps(n_elements: int, per_warp: int) -> int:
    return max(1, min(8, n_elements // per_warp))


def _ready(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(x.detach().contiguous() for x in tensors)


def _launch(
    kernel: Any,
    n_programs: int,
    first: Tensor,
    *arguments: Tensor | int,
    warps: int,
    **sizes: int,
) -> None:
    """Start a kernel on the device that holds its first argument."""
    with torch.cuda.device(first.get_device()):
        kernel[(n_programs,)](first, *arguments, num_warps=warps, **_OPTIONS, **sizes)
