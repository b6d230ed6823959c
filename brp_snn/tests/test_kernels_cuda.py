"""The CUDA kernels: in Triton's interpreter, on a GPU where there is one, and through the compiler.

The interpreter has to be chosen before Triton is imported, so `test_interpreter` runs this file
again in a process of its own. There, and on a GPU, `TestKernels` holds the checks of `Checks`.
"""

import importlib.util
import os

import pytest
import torch

from brp_snn import _kernels
from brp_snn.models import Neuron

if importlib.util.find_spec("triton") is None:
    pytest.skip("the CUDA kernels need Triton", allow_module_level=True)

from brp_snn import _kernels_cuda

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda" if torch.cuda.is_available() else None

NEURONS = [Neuron(), Neuron(threshold=-0.2, lens=1.3, decay=0.7)]
# time, rows, height, width; pooling: a plain layer, edges that pooling leaves out, several blocks
CASES = [((4, 3, 1, 7), (1, 1)), ((3, 2, 5, 7), (2, 3)), ((5, 6, 9, 6), (2, 2))]


def drawn(shape, seed):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=draw, dtype=torch.float64)


def pooled_shape(shape, pool):
    return (*shape[:2], shape[2] // pool[0], shape[3] // pool[1])


@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize(("shape", "pool"), CASES)
class Checks:
    """Equal to the CPU's kernels to the last bit."""

    def _assert_same(self, name, arrays, changed, *arguments, **options):
        arrays = [array.clone() for array in arrays]
        moved = [array.to(DEVICE) for array in arrays]
        getattr(_kernels, name)(*arrays, *arguments, **options)
        getattr(_kernels_cuda, name)(*moved, *arguments, **options)
        for i in changed:
            assert torch.equal(moved[i].cpu(), arrays[i]), i

    def test_integrate(self, shape, pool, neuron):
        arrays = (drawn(shape, 0), drawn(shape[1:], 1), torch.zeros(pooled_shape(shape, pool)))
        self._assert_same("integrate", (*arrays[:2], arrays[2].double()), (0, 2), neuron, pool)

    @pytest.mark.parametrize("look", [True, False])
    def test_teach(self, shape, pool, neuron, look):
        arrays = (drawn(shape, 0), drawn(shape[1:], 1), drawn(shape[1:], 2))
        self._assert_same("teach", arrays, (0, 2), neuron, look=look)

    def test_chain(self, shape, pool, neuron):
        arrays = (drawn(shape, 0), drawn(pooled_shape(shape, pool), 1))
        self._assert_same("chain", arrays, (0,), neuron, pool)


if DEVICE is not None:

    class TestKernels(Checks):
        pass


if not INTERPRETED:

    def test_interpreter(interpret):
        interpret(__file__)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_compiles_for_hopper(dtype, monkeypatch, compile_for_hopper):
        started = []
        monkeypatch.setattr(
            _kernels_cuda,
            "_launch",
            lambda kernel, n, *arguments, **constants: started.append(
                (kernel, arguments, {**constants, "BLOCK": _kernels_cuda.BLOCK})
            ),
        )
        shape, pool = CASES[1]
        potential, row = drawn(shape, 0).to(dtype), drawn(shape[1:], 1).to(dtype)
        pooled = torch.zeros(pooled_shape(shape, pool), dtype=dtype)
        _kernels_cuda.integrate(potential, row, pooled, Neuron(), pool)
        _kernels_cuda.teach(potential, row, row.clone(), Neuron())
        _kernels_cuda.chain(potential, pooled, Neuron(), pool)
        assert len(started) == 3
        for kernel, arguments, constants in started:
            compile_for_hopper(kernel, arguments, constants, **_kernels_cuda._OPTIONS)
