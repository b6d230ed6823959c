import mmap
import os
import platform
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from shared.device import (
    DeviceError,
    make_deterministic,
    seed_everything,
    set_threads,
    torch_device,
)
from shared.errors import UserError


def test_auto_takes_what_there_is():
    best = "cuda" if torch.cuda.is_available() else "cpu"
    if torch.backends.mps.is_available():
        best = "mps"
    assert torch_device("auto").type == best
    assert torch_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda:99", "mps"])
def test_an_absent_device_is_an_error_not_a_fallback(name, monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="use --device cpu"):
        torch_device(name)


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cpu:0", "auto:1", "", "cuda:-1"])
def test_other_words_are_refused(name):
    with pytest.raises(DeviceError, match="is not one of auto, cpu, cuda, cuda:N, mps"):
        torch_device(name)


def test_cuda_is_given_where_torch_sees_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert torch_device("cuda") == torch.device("cuda:0")
    assert torch_device("cuda:1") == torch.device("cuda:1")
    assert torch_device("auto") == torch.device("cuda:0")
    with pytest.raises(DeviceError, match=r"torch sees 2 CUDA device\(s\) here"):
        torch_device("cuda:2")


def draws() -> list[float]:
    return [random.random(), float(np.random.rand()), float(torch.rand(1))]  # noqa: NPY002


def test_one_seed_gives_one_stream_everywhere():
    seed_everything(5)
    first = draws()
    seed_everything(5)
    assert draws() == first
    seed_everything(6)
    assert all(a != b for a, b in zip(draws(), first, strict=True))


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_out_of_range_are_refused(seed):
    with pytest.raises(UserError, match="a seed lies between"):
        seed_everything(seed)


def test_threads():
    before = torch.get_num_threads()
    set_threads(1)
    assert torch.get_num_threads() == 1
    set_threads(None)
    assert torch.get_num_threads() == 1
    set_threads(before)
    with pytest.raises(UserError, match="at least one thread"):
        set_threads(0)


def test_deterministic_mode_is_on():
    make_deterministic()
    assert torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)


FAULTS = """
import resource
from shared.device import keep_freed_memory
keep_freed_memory()
import numpy as np
def step():
    arrays = [np.ones(2**24) for _ in range(6)]  # 768 MB: more than a threshold of 512 MB
    small = bytearray(10)
for _ in range(2):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_freed_memory_is_kept_on_glibc():
    done = subprocess.run(
        [sys.executable, "-c", FAULTS],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "NUMPY_MADVISE_HUGEPAGE": "0"},  # with huge pages there are few faults
    )
    faults = int(done.stdout)  # elsewhere than on glibc it must run, no more
    assert faults < 768 * 2**20 / mmap.PAGESIZE / 100 or platform.libc_ver()[0] != "glibc"


def test_a_platform_of_jax_that_is_not_there_is_named():
    code = (
        "from shared.device import jax_device, DeviceError\n"
        "try: jax_device()\n"
        "except DeviceError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "JAX_PLATFORMS": "rocm"},
    )
    assert done.stdout.startswith("JAX_PLATFORMS=rocm: JAX has no such device here"), done.stderr
