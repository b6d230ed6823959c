"""What the tests of smooth gradient descent share."""

import os
from collections.abc import Iterator

# Before JAX starts: two CPU devices, so that batches are shared out; one core computes.
os.environ.setdefault("NPROC", "1")

import jax
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_num_cpu_devices", 2)

CACHE = {
    "jax_persistent_cache_min_compile_time_secs": 0,
    "jax_compilation_cache_max_size": 300_000_000,  # bytes
}


@pytest.fixture(autouse=True, scope="session")
def compiled_once(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a test, script or notebook has compiled is there for the next, in later sessions too."""
    cache = CACHE | {"jax_compilation_cache_dir": str(request.config.cache.mkdir("jax"))}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cache.items():
            jax.config.update(name, value)
            patch.setenv(name.upper(), str(value))
        yield


@pytest.fixture(scope="session")
def scripts(scripts_of):
    return scripts_of("smooth_gd")
