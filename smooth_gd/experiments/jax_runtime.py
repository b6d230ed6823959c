"""What the scripts share before JAX starts: precision, threads, device, compiled programs."""

import argparse
import os
from pathlib import Path
from typing import Any

import jax

from shared.device import jax_device, seed_everything
from shared.errors import UserError

DTYPES = ("float32", "float64")
DEVICES = ("cuda", "cpu")  # that JAX has, in the order in which it looks for them


def add_dtype_option(parser: argparse.ArgumentParser, default: str) -> None:
    """Add --dtype."""
    parser.add_argument(
        "--dtype", choices=DTYPES, default=default, help=f"floating point type (paper: {default})"
    )


def prepare(args: argparse.Namespace) -> Any:
    """Set JAX up; to be called before it computes anything.

    A CPU is shown to JAX as one device per thread, so that batches can be shared out. Compiled
    programs are kept in the user's cache folder: a second run does not compile them again.

    Args:
        args: of the script, with --dtype and the options of every script.

    Returns:
        The device.

    Raises:
        UserError: a device, seed or number of threads that cannot be.
    """
    threads = threads_of(args)
    if args.deterministic:
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_deterministic_ops=true".strip()
    os.environ["NPROC"] = str(threads)  # the size of XLA's pool of threads
    jax.config.update("jax_num_cpu_devices", threads)
    jax.config.update("jax_enable_x64", args.dtype == "float64")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(cache / "five-spiking-rules" / "jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    seed_everything(args.seed)
    device = jax_device(args.device)
    jax.config.update("jax_default_device", device)
    return device


def threads_of(args: argparse.Namespace) -> int:
    """--threads, by default as many as there are cores.

    Raises:
        UserError: below 1, or more than there are cores; every thread is a device of JAX's, and
            devices that wait for each other's core stand still.
    """
    most = available_threads()
    threads: int = most if args.threads is None else args.threads
    if threads < 1:
        raise UserError(f"--threads {threads}: at least one thread is needed")
    if threads > most:
        raise UserError(f"--threads {threads}: this machine has {most} core(s) to use")
    return threads


def available_threads() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1


def described(device: Any) -> str:
    """A JAX device in the words of the records: cpu, or cuda and the card's name."""
    if device.platform == "cpu":
        return "cpu"
    return f"cuda:{device.id} {device.device_kind}"
