"""The CUDA kernels: in Triton's interpreter, on a GPU where there is one, and through the compiler.

The interpreter has to be chosen before Triton is imported, so `test_interpreter` runs this file
again in a process of its own. There, and on a GPU, `TestKernels` holds the checks of `Checks`.
"""

import importlib.util
import os

import pytest
import torch

from stl_snn.lif import ByTorch

if importlib.util.find_spec("triton") is None:
    pytest.skip("the CUDA kernels need Triton", allow_module_level=True)

from stl_snn import _kernels_cuda

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda" if torch.cuda.is_available() else None


class Checks:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("shape", [(1, 1, 1), (3, 4, 300), (5, 2, 256), (2, 7, 33)])
    def test_equals_torch(self, shape: tuple[int, int, int], dtype: torch.dtype) -> None:
        draw = torch.Generator().manual_seed(sum(shape))
        current, signal = (
            torch.randn(shape, generator=draw, dtype=torch.float64).to(dtype) for _ in range(2)
        )
        theta = torch.rand(shape[2], generator=draw, dtype=torch.float64).to(dtype)
        on_device = [x.to(DEVICE) for x in (current, theta, signal)]
        spikes = _kernels_cuda.forward(*on_device[:2], 0.3).cpu()
        assert torch.equal(spikes, ByTorch.forward(current, theta, 0.3))
        found = _kernels_cuda.backward(*on_device, 0.3, 1.5)
        expected = ByTorch.backward(current, theta, signal, 0.3, 1.5)
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == dtype
            tolerance = 1e-5 if dtype == torch.float32 else 1e-12
            torch.testing.assert_close(one.cpu(), other, rtol=tolerance, atol=tolerance)

    def test_the_batch_is_cut(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Sums over samples are the same however they are split among programs."""
        monkeypatch.setattr(_kernels_cuda, "ENOUGH_PROGRAMS", 1)
        draw = torch.Generator().manual_seed(0)
        current = torch.randn(7, 3, 20, generator=draw, dtype=torch.float64, device=DEVICE)
        given = (current, torch.ones_like(current[0, 0]), current.flip(0), 0.5, 2.0)
        whole = _kernels_cuda.backward(*given)
        monkeypatch.setattr(_kernels_cuda, "ENOUGH_PROGRAMS", 3)
        cut = _kernels_cuda.backward(*given)
        assert torch.equal(whole[0], cut[0])
        torch.testing.assert_close(whole[1], cut[1], rtol=1e-12, atol=1e-12)


if DEVICE is not None:

    class TestKernels(Checks):
        pass


if not INTERPRETED:

    def test_interpreter(interpret) -> None:
        """The checks hold in Triton's interpreter, which needs no GPU."""
        interpret(__file__)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_compiles_for_hopper(dtype: torch.dtype, monkeypatch, compile_for_hopper) -> None:
        """Types hold up in the compiler, which sees more than the interpreter."""
        started = []
        monkeypatch.setattr(
            _kernels_cuda,
            "_launch",
            lambda kernel, _, *arguments, **constants: started.append(
                (kernel, arguments, constants)
            ),
        )
        current = torch.zeros(2, 3, 300, dtype=dtype)
        theta = torch.ones(300, dtype=dtype)
        _kernels_cuda.forward(current, theta, 0.5)
        _kernels_cuda.backward(current, theta, current, 0.5, 2.0)
        assert len(started) == 2
        options = {"num_warps": _kernels_cuda.WARPS, **_kernels_cuda._OPTIONS}
        for kernel, arguments, constants in started:
            compile_for_hopper(kernel, arguments, constants, **options)
