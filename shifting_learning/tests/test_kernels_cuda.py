"""The CUDA kernels: in Triton's interpreter, on a GPU where there is one, and through the compiler.

The interpreter has to be chosen before Triton is imported, so `test_interpreter` runs this file
again in a process of its own. There, and on a GPU, `TestKernels` holds the checks of `Checks`.
"""

import importlib.util
import os

import pytest
import torch
from torch import Tensor

from shifting_learning import kernels, reference
from shifting_learning.kernels import SILENT, Events

if importlib.util.find_spec("triton") is None:
    pytest.skip("the CUDA kernels need Triton", allow_module_level=True)

from shifting_learning import _kernels_cuda

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda" if torch.cuda.is_available() else None

DTYPES = [torch.float32, torch.float64]
# networks, trials a network, inputs, outputs: odd sizes, sizes beyond one block, single ones
SHAPES = [(1, 1, 1, 1), (2, 3, 9, 5), (1, 5, 150, 37), (3, 1, 20, 64), (1, 2, 300, 3)]


def _to(events: Events, device: str) -> Events:
    return Events(*(x.to(device) for x in events))


def _layer(
    shape: tuple[int, int, int, int], dtype: torch.dtype, *, levels: int = 0
) -> tuple[Tensor, Tensor]:
    """Input codes (of few levels: with ties) and timings of both signs, some columns silent."""
    n_nets, per_net, n_in, n_out = shape
    draw = torch.Generator().manual_seed(n_in + levels)
    t = torch.rand(n_nets * per_net, n_in, generator=draw, dtype=torch.float64)
    if levels:
        t = (t * levels).floor() / levels
    s = torch.rand(n_nets, n_in, n_out, generator=draw, dtype=torch.float64) * 1.3 - 0.3
    strength = torch.linspace(0.5, 12.0, n_out, dtype=torch.float64) / n_in
    return t.exp().to(dtype), (s * strength).to(dtype)


def _spike_trains(lengths: list[int], n_in: int, dtype: torch.dtype, *, levels: int = 0) -> Events:
    """Trials of several spikes a synapse, of different lengths, with unused spikes between them."""
    draw = torch.Generator().manual_seed(sum(lengths) + n_in + levels)
    codes, start, stop = [], [], []
    for length in lengths:
        start.append(3 + (stop[-1] if stop else 0))
        stop.append(start[-1] + length)
        t = torch.rand(length, generator=draw, dtype=torch.float64)
        t = (t * levels).floor() / levels if levels else t
        codes += [torch.full((3,), float("nan"), dtype=torch.float64), t.exp().sort().values]
    n_spikes = stop[-1] + 3
    codes.append(torch.zeros(3, dtype=torch.float64))
    return Events(
        torch.cat(codes).to(dtype),
        torch.randint(n_in, (n_spikes,), generator=draw, dtype=torch.int32),
        torch.tensor(start),
        torch.tensor(stop),
        torch.full((len(lengths),), float("inf"), dtype=torch.float64),
    )


def _factors(events: Events, e_ts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Factors a_j of both signs, output codes and causes that `find_spikes` gives on the CPU."""
    found = kernels.find_spikes(events, e_ts)
    draw = torch.Generator().manual_seed(e_ts.numel())
    a = torch.randn(found.u.shape, generator=draw, dtype=torch.float64).to(e_ts.dtype)
    return a, found.u, found.cause


def _tolerance(dtype: torch.dtype) -> dict[str, float]:
    # Sums are float64 everywhere; what differs is their order, and the last rounding.
    return (
        {"rtol": 3e-7, "atol": 1e-7} if dtype == torch.float32 else {"rtol": 1e-11, "atol": 1e-13}
    )


def _assert_same_spikes(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    u, cause, divisor = (x.cpu() for x in found)
    torch.testing.assert_close(u, expected[0], **_tolerance(u.dtype))
    torch.testing.assert_close(cause, expected[1], rtol=0, atol=0)
    # S - 1 loses digits to cancellation where the sum is close to 1.
    torch.testing.assert_close(divisor, expected[2], rtol=1e-6, atol=1e-12)


# The interpreter's numpy warns about 0 * inf in lanes that the kernels mask afterwards.
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
class Checks:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize(("n_in", "levels"), [(1, 0), (7, 0), (7, 3), (300, 2), (1500, 1)])
    def test_sort_codes(self, n_in: int, levels: int, dtype: torch.dtype) -> None:
        z, _ = _layer((1, 6, n_in, 1), dtype, levels=levels)
        z[0] = z[0, 0]  # all inputs at once
        expected = kernels.sort_codes(z)
        found = Events(*(x.cpu() for x in _kernels_cuda.sort_codes(z.to(DEVICE))))
        for name in ("start", "stop", "rest"):
            assert torch.equal(getattr(found, name), getattr(expected, name)), name
        assert found.synapse.dtype == torch.int32
        for row, begin, end in zip(z, expected.start, expected.stop, strict=True):
            synapse = found.synapse[begin:end]
            assert torch.equal(found.codes[begin:end], expected.codes[begin:end])
            # Equal codes are one event: their order among themselves is free.
            assert torch.equal(row[synapse.long()], found.codes[begin:end])
            assert torch.equal(synapse.sort().values, expected.synapse[begin:end].sort().values)

    @pytest.mark.parametrize(("levels", "dtype"), [(0, torch.float32), (4, torch.float64)])
    @pytest.mark.parametrize("shape", SHAPES)
    def test_one_spike_layer(
        self, shape: tuple[int, int, int, int], levels: int, dtype: torch.dtype
    ) -> None:
        z, e_ts = _layer(shape, dtype, levels=levels)
        n_nets, per_net, _, n_out = shape
        events = _kernels_cuda.sort_codes(z.to(DEVICE))
        u, cause, divisor = _kernels_cuda.find_spikes(*events, e_ts.to(DEVICE))
        draw = torch.Generator().manual_seed(1)
        a = torch.randn(len(z), n_out, generator=draw, dtype=torch.float64).to(dtype)
        gradient = _kernels_cuda.timing_gradient(
            *events, a.to(DEVICE), u, cause, n_nets, e_ts.shape[1]
        ).cpu()
        d_in = _kernels_cuda.feedback(z.to(DEVICE), cause, a.to(DEVICE), e_ts.to(DEVICE)).cpu()
        u, cause, divisor = u.cpu(), cause.cpu(), divisor.cpu()
        assert u.dtype == divisor.dtype == gradient.dtype == d_in.dtype == dtype
        for net in range(n_nets):
            rows = slice(net * per_net, (net + 1) * per_net)
            z64, s64, a64 = z[rows].double(), e_ts[net].double(), a[rows].double()
            u64, mask, divisor64 = reference.find_spikes(z64, s64, events=True)
            spikes = u64 < SILENT
            torch.testing.assert_close(u[rows].double(), u64, **_tolerance(dtype))
            found_mask = z64[:, :, None] <= cause[rows][:, None, :]
            mask = mask & spikes[:, None, :]
            assert torch.equal(found_mask, mask)
            torch.testing.assert_close(
                divisor[rows].double(),
                torch.where(spikes, divisor64, float("inf")),
                rtol=1e-6,
                atol=1e-12,
            )
            expected = reference.timing_gradient(z64, mask, a64, u[rows].double())
            torch.testing.assert_close(gradient[net].double(), expected, **_tolerance(dtype))
            expected = reference.feedback(mask, a64, s64)
            torch.testing.assert_close(d_in[rows].double(), expected, **_tolerance(dtype))
        if n_out > 30:
            assert (u == SILENT).any()
            assert (u < SILENT).any()

    @pytest.mark.parametrize("levels", [0, 5])
    def test_one_spike_layer_equals_cpu(self, levels: int) -> None:
        z, e_ts = _layer((2, 4, 90, 33), torch.float32, levels=levels)
        events = kernels.sort_codes(z)
        expected = kernels.find_spikes(events, e_ts)
        on_device = _to(events, DEVICE)
        found = _kernels_cuda.find_spikes(*on_device, e_ts.to(DEVICE))
        _assert_same_spikes(found, expected)
        a, u, cause = _factors(events, e_ts)
        factors = [x.to(DEVICE) for x in (a, u, cause)]
        gradient = _kernels_cuda.timing_gradient(*on_device, *factors, 2, 90).cpu()
        expected_gradient = kernels.timing_gradient(events, a, u, cause, 2, 90)
        torch.testing.assert_close(gradient, expected_gradient, **_tolerance(a.dtype))
        d_in = _kernels_cuda.feedback(z.to(DEVICE), factors[2], factors[0], e_ts.to(DEVICE)).cpu()
        expected_d = kernels.feedback(z, cause, a, e_ts)
        torch.testing.assert_close(d_in, expected_d, **_tolerance(a.dtype))

    @pytest.mark.parametrize(("levels", "dtype"), [(12, torch.float32), (0, torch.float64)])
    def test_spike_trains(self, levels: int, dtype: torch.dtype) -> None:
        n_in, n_nets = 40, 2
        events = _spike_trains([210, 0, 1, 35, 90, 130], n_in, dtype, levels=levels)
        _, e_ts = _layer((n_nets, 3, n_in, 35), dtype)
        found = _kernels_cuda.find_spikes(*_to(events, DEVICE), e_ts.to(DEVICE))
        _assert_same_spikes(found, kernels.find_spikes(events, e_ts))
        a, u, cause = _factors(events, e_ts)
        factors = [x.to(DEVICE) for x in (a, u, cause)]
        gradient = _kernels_cuda.timing_gradient(*_to(events, DEVICE), *factors, n_nets, n_in)
        expected = torch.zeros_like(e_ts, dtype=torch.float64)
        for trial, (begin, end) in enumerate(zip(events.start, events.stop, strict=True)):
            z = events.codes[begin:end].double()
            synapse = events.synapse[begin:end].long()
            u64, mask, _ = (
                reference.find_spikes_of_spike_train(
                    z, synapse, e_ts[trial // 3].double(), events=True
                )
                if len(z)
                else (torch.full((35,), SILENT), torch.zeros(0, 35), None)
            )
            torch.testing.assert_close(
                found[0][trial].cpu().double(), u64.double(), **_tolerance(dtype)
            )
            share = (z[:, None] - u[trial].double()) * a[trial].double() * mask
            share[:, u64 == SILENT] = 0.0
            expected[trial // 3].index_add_(0, synapse, share)
        torch.testing.assert_close(gradient.cpu().double(), expected, **_tolerance(dtype))

    def test_trials_may_share_spikes(self) -> None:
        # Events go on beyond the end of the shorter trial, which must not count them.
        events = _spike_trains([120], 10, torch.float64, levels=4)
        start, stop = events.start[0], events.stop[0]
        shared = events._replace(
            start=torch.stack([start, start, start + 30]),
            stop=torch.stack([stop, stop - 70, stop]),
            rest=torch.full((3,), float("inf"), dtype=torch.float64),
        )
        _, e_ts = _layer((3, 1, 10, 6), torch.float64)
        found = _kernels_cuda.find_spikes(*_to(shared, DEVICE), e_ts.to(DEVICE))
        _assert_same_spikes(found, kernels.find_spikes(shared, e_ts))
        a, u, cause = _factors(shared, e_ts)
        factors = [x.to(DEVICE) for x in (a, u, cause)]
        gradient = _kernels_cuda.timing_gradient(*_to(shared, DEVICE), *factors, 3, 10).cpu()
        expected = kernels.timing_gradient(shared, a, u, cause, 3, 10)
        torch.testing.assert_close(gradient, expected, **_tolerance(a.dtype))

    @pytest.mark.parametrize("n_in", [4, 100])
    def test_rest(self, n_in: int) -> None:
        """Most inputs at the latest time: left out by the sort, and the same as when listed."""
        z, e_ts = _layer((1, 6, n_in, 40), torch.float64)
        e_ts = e_ts.abs()
        z[:, n_in // 4 :] = z.max() + 0.1
        z[0] = 1.5
        events = _kernels_cuda.sort_codes(z.to(DEVICE))
        assert (events[4] < float("inf")).all()
        codes, order = z.sort(dim=1, stable=True)
        listed = Events(
            codes.ravel(),
            order.int().ravel(),
            torch.arange(6) * n_in,
            torch.arange(1, 7) * n_in,
            torch.full((6,), float("inf"), dtype=torch.float64),
        )
        expected = kernels.find_spikes(listed, e_ts)
        assert (expected.cause == z.max()).any()  # `rest` decides some spikes
        for given in (Events(*events), _to(listed, DEVICE)):
            _assert_same_spikes(_kernels_cuda.find_spikes(*given, e_ts.to(DEVICE)), expected)
            a, u, cause = _factors(listed, e_ts)
            factors = [x.to(DEVICE) for x in (a, u, cause)]
            gradient = _kernels_cuda.timing_gradient(*given, *factors, 1, n_in).cpu()
            torch.testing.assert_close(
                gradient,
                kernels.timing_gradient(listed, a, u, cause, 1, n_in),
                **_tolerance(a.dtype),
            )

    @pytest.mark.parametrize(("chunk", "block"), [(4, 32), (16, 4), (64, 4)])
    def test_tiles_change_nothing(
        self, chunk: int, block: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Events cut by a chunk's end, early stops at every distance."""
        monkeypatch.setattr(_kernels_cuda, "_forward_tile", lambda *_: (chunk, block))
        for levels in (0, 6):
            z, e_ts = _layer((1, 2, 70, 9), torch.float64, levels=levels)
            e_ts[:, :, :3] *= 30  # neurons done after few of the spikes
            events = kernels.sort_codes(z)
            found = _kernels_cuda.find_spikes(*_to(events, DEVICE), e_ts.to(DEVICE))
            _assert_same_spikes(found, kernels.find_spikes(events, e_ts))

    def test_late_inputs_cannot_win(self) -> None:
        """Every neuron is done early; strong late inputs of either sign leave no trace."""
        z = torch.linspace(1.0, 2.5, 200, dtype=torch.float64)[None]
        e_ts = torch.full((1, 200, 3), 0.5, dtype=torch.float64)
        e_ts[:, 40:] = torch.tensor([50.0, -50.0, 0.0], dtype=torch.float64)
        events = _kernels_cuda.sort_codes(z.to(DEVICE))
        found = _kernels_cuda.find_spikes(*events, e_ts.to(DEVICE))
        _assert_same_spikes(found, kernels.find_spikes(kernels.sort_codes(z), e_ts))
        assert (found[1] < z[0, 40]).all()

    @pytest.mark.parametrize("chunk", [1, 8])
    def test_of_equal_codes_the_first_counts(
        self, chunk: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_kernels_cuda, "_forward_tile", lambda *_: (chunk, 4))
        z = torch.tensor([[1.0, 1.5]], dtype=torch.float64, device=DEVICE)
        e_ts = torch.tensor([[[2.0], [0.0]]], dtype=torch.float64, device=DEVICE)
        u, cause, divisor = _kernels_cuda.find_spikes(*_kernels_cuda.sort_codes(z), e_ts)
        assert (u.item(), cause.item(), divisor.item()) == (2.0, 1.0, 1.0)

    def test_divisor_is_clamped(self) -> None:
        """A sum of exactly the threshold divides by 1e-10, one far above by 1e10."""
        z = torch.tensor([[1e-9]], dtype=torch.float64, device=DEVICE)
        e_ts = torch.tensor([[[1.0, 1e12]]], dtype=torch.float64, device=DEVICE)
        u, cause, divisor = _kernels_cuda.find_spikes(*_kernels_cuda.sort_codes(z), e_ts)
        assert divisor.tolist() == [[1e-10, 1e10]]
        torch.testing.assert_close(u.cpu(), torch.tensor([[10.0, 1e-7]], dtype=torch.float64))
        assert (cause == 1e-9).all()

    def test_silent_neurons(self) -> None:
        z, e_ts = _layer((1, 3, 12, 5), torch.float32)
        u, cause, divisor = _kernels_cuda.find_spikes(
            *_kernels_cuda.sort_codes(z.to(DEVICE)), -e_ts.abs().to(DEVICE)
        )
        assert (u == SILENT).all()
        assert (cause == -float("inf")).all()
        assert (divisor == float("inf")).all()


if DEVICE is not None:

    class TestKernels(Checks):
        pass


if not INTERPRETED:

    def test_interpreter(interpret) -> None:
        """The checks hold in Triton's interpreter, which needs no GPU."""
        interpret(__file__)

    def _launches(monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], dtype: torch.dtype):
        """What the four functions would start for a layer, as (kernel, arguments, warps, sizes)."""
        started = []
        monkeypatch.setattr(
            _kernels_cuda,
            "_launch",
            lambda kernel, _, *arguments, warps, **sizes: started.append(
                (kernel, arguments, warps, sizes)
            ),
        )
        n_nets, per_net, n_in, n_out = shape
        z = torch.ones(n_nets * per_net, n_in, dtype=dtype)
        e_ts = torch.ones(n_nets, n_in, n_out, dtype=dtype)
        events = _kernels_cuda.sort_codes(z)
        u, cause, divisor = _kernels_cuda.find_spikes(*events, e_ts)
        _kernels_cuda.timing_gradient(*events, divisor, u, cause, n_nets, n_in)
        _kernels_cuda.feedback(z, cause, u, e_ts)
        return started

    @pytest.mark.parametrize(
        ("shape", "dtype"),
        [
            ((1, 128, 784, 800), torch.float32),
            ((1, 128, 800, 10), torch.float32),
            ((1, 1, 500, 3200), torch.float32),
            ((1000, 4, 2, 8), torch.float64),
            ((1, 1, 1, 1), torch.float64),
        ],
    )
    def test_compiles_for_hopper(
        shape: tuple[int, ...], dtype: torch.dtype, monkeypatch, compile_for_hopper
    ) -> None:
        """Types and shared memory hold up in the compiler, which sees more than the interpreter."""
        started = _launches(monkeypatch, shape, dtype)
        assert len(started) == 5
        for kernel, arguments, warps, sizes in started:
            options = {"num_warps": warps, **_kernels_cuda._OPTIONS}
            compiled = compile_for_hopper(kernel, arguments, sizes, **options)
            assert compiled.metadata.shared <= 48 * 1024
