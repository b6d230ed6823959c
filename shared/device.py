"""Devices, seeds, threads and determinism, for torch and JAX programs alike."""

import ctypes
import importlib.util
import os
import random
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from shared.errors import UserError

if TYPE_CHECKING:
    import torch


class DeviceError(UserError):
    """A device was asked for that this machine does not have."""


def torch_device(name: str = "auto") -> "torch.device":
    """The torch device of that name.

    Args:
        name: "auto" (CUDA where there is one, else Apple's MPS, else the CPU), "cpu", "cuda",
            "cuda:N" or "mps".

    Raises:
        DeviceError: the word is none of these, or the machine has no such device. A device that is
            asked for is never replaced by another.
    """
    import torch

    kind, _, index = name.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (
        index and (kind != "cuda" or not index.isdigit())
    ):
        raise DeviceError(f"--device {name} is not one of auto, cpu, cuda, cuda:N, mps")
    has_mps = torch.backends.mps.is_available()
    n_cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "auto":
        kind = "cuda" if n_cuda else "mps" if has_mps else "cpu"
    if kind == "cuda" and int(index or 0) >= n_cuda:
        raise DeviceError(
            f"--device {name}: torch sees {n_cuda} CUDA device(s) here; use --device cpu, or "
            "install a CUDA build of torch and a driver"
        )
    if kind == "mps" and not has_mps:
        raise DeviceError(f"--device {name}: this machine has no MPS device; use --device cpu")
    return torch.device(f"cuda:{int(index or 0)}" if kind == "cuda" else kind)


def jax_device(name: str = "auto") -> Any:
    """The JAX device of that name; arguments and errors as in `torch_device`, without "mps"."""
    import jax

    kind, _, index = name.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (index and (kind != "cuda" or not index.isdigit())):
        raise DeviceError(f"--device {name} is not one of auto, cpu, cuda, cuda:N")
    try:
        found = jax.devices(None if kind == "auto" else kind)
    except RuntimeError as error:
        if kind == "auto":  # the platform that the environment asks for
            asked = os.environ.get("JAX_PLATFORMS", "")
            raise DeviceError(
                f"JAX_PLATFORMS={asked}: JAX has no such device here; unset it, or set it to cpu"
            ) from error
        found = []
    if int(index or 0) >= len(found):
        raise DeviceError(
            f"--device {name}: JAX sees {len(found)} such device(s) here; use --device cpu, or "
            "install the extra `gpu` for JAX on CUDA"
        )
    return found[int(index or 0)]


def check_seed(seed: int) -> None:
    """Refuse a seed that cannot be.

    Raises:
        UserError: it is negative or does not fit 32 bits, which numpy requires.
    """
    if not 0 <= seed < 2**32:
        raise UserError(f"--seed {seed}: a seed lies between 0 and {2**32 - 1}")


def seed_everything(seed: int) -> None:
    """Seed python, numpy, and torch where it is imported: to import it takes seconds.

    JAX has no global state: its programs start from `jax.random.key(seed)`.

    Raises:
        UserError: as in `check_seed`.
    """
    check_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - libraries that draw from the global state
    if torch := sys.modules.get("torch"):
        torch.manual_seed(seed)


def set_threads(n: int | None) -> None:
    """Let torch, and what follows it, use n threads; None leaves the library's choice.

    Raises:
        UserError: n is below 1.
    """
    if n is None:
        return
    if n < 1:
        raise UserError(f"--threads {n}: at least one thread is needed")
    if "torch" in sys.modules or importlib.util.find_spec("torch"):
        import torch

        torch.set_num_threads(n)


def share_threads() -> int:
    """Let numba use as many threads as torch does: call it before each numba kernel.

    Returns:
        Their number.
    """
    import numba
    import torch

    _start_numba()
    most: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    threads = min(torch.get_num_threads(), most)
    numba.set_num_threads(threads)
    return threads


@cache
def _start_numba() -> None:
    """Start numba's threads; it then sets how many OpenMP takes, torch's too, which is undone."""
    import numba
    import torch

    threads = torch.get_num_threads()
    numba.get_num_threads()
    torch.set_num_threads(threads)


def make_deterministic() -> None:
    """Make torch choose deterministic algorithms, and fail where it has none.

    On one machine two runs of the same seed then give the same bytes. Across machines and thread
    counts sums may round differently.
    """
    import torch

    # cuBLAS reads it when the first handle is made.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False


def keep_freed_memory() -> None:
    """Let the C library keep large arrays that were freed, for the next ones.

    By default glibc gives them back to the system at once and asks for them again a step later; the
    page faults of that can cost more than the arithmetic. Elsewhere than on glibc nothing happens.
    """
    trim_threshold, mmap_max = -1, -4  # names of mallopt's parameters, from malloc.h
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(mmap_max, 0)  # arrays of their own mappings would go back to the system at once
    # Never: a step that frees more than a threshold would ask for all of it again in the next one.
    mallopt(trim_threshold, -1)


def prepare(
    device: str, seed: int, threads: int | None = None, deterministic: bool = False
) -> "torch.device":
    """Set up a torch program: device, seeds, threads, memory, determinism; see the functions above.

    Numbers too small for a normal float become 0: moments and traces of neurons that fell silent
    decay into them, and a CPU is many times slower with them.

    Returns:
        The device.
    """
    import torch

    found = torch_device(device)
    keep_freed_memory()
    torch.set_flush_denormal(True)  # before the first thread starts, which takes it over
    set_threads(threads)
    seed_everything(seed)
    if deterministic:
        make_deterministic()
    return found
