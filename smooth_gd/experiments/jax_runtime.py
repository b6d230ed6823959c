"""What the scripts set up before JAX starts: precision, threads, device, compiled programs."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import jax

from shared import experiment
from shared.device import jax_device, seed_everything
from shared.errors import UserError
from shared.experiment import UNNAMED, Positive

Dtype = Literal["float32", "float64"]


@dataclass(frozen=True)
class Settings(experiment.Settings):
    """The options of every script here."""

    device: Annotated[str, UNNAMED] = "auto"
    """auto, cuda, cuda:N or cpu; auto takes the first of these that is there."""
    dtype: Dtype = "float64"
    """Floating point type."""
    threads: Annotated[Positive[int] | None, UNNAMED] = 1
    """CPU threads; without a number all cores."""


@dataclass(frozen=True)
class Device:
    """Where a program runs; as text in the words of the records: cpu, or cuda and the card's name.

    Attributes:
        jax: JAX's device.
    """

    jax: Any

    def __str__(self) -> str:
        if self.jax.platform == "cpu":
            return "cpu"
        return f"cuda:{self.jax.id} {self.jax.device_kind}"


def prepare(settings: Settings) -> Device:
    """Set JAX up; to be called before it computes anything.

    A CPU is shown to JAX as one device per thread, so that batches can be shared out, or as so many
    as --xla_force_host_platform_device_count in XLA_FLAGS says. Compiled programs are kept in the
    user's cache folder, or where JAX_COMPILATION_CACHE_DIR says, unless
    JAX_ENABLE_COMPILATION_CACHE is false: a second run does not compile them again.

    Raises:
        UserError: a device, seed or number of threads that cannot be.
    """
    threads = threads_of(settings.threads)
    if settings.deterministic:
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_deterministic_ops=true".strip()
    os.environ["NPROC"] = str(threads)  # the size of XLA's pool of threads
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", threads)
    jax.config.update("jax_enable_x64", settings.dtype == "float64")
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", cache_folder())
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)  # there are many small ones
    seed_everything(settings.seed)
    device = jax_device(settings.device)
    jax.config.update("jax_default_device", device)
    return Device(device)


def cache_folder() -> str | None:
    """The user's folder for compiled programs; None where nothing can be written there."""
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = cache / "five-spiking-rules" / "jax"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # a home that is read-only, or none at all
        return None
    return str(folder) if os.access(folder, os.W_OK) else None


def threads_of(threads: int | None) -> int:
    """--threads, by default as many as there are cores.

    Raises:
        UserError: below 1, or more than there are cores; every thread is a device of JAX's, and
            devices that wait for each other's core stand still.
    """
    most = available_threads()
    if threads is None:
        return most
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
