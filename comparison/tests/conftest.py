"""What the tests of the comparison share."""

from collections.abc import Iterator

import jax
import pytest
import torch


@pytest.fixture(scope="session")
def scripts(scripts_of):
    return scripts_of("comparison")


@pytest.fixture(autouse=True, scope="session")
def _compiled_once(request: pytest.FixtureRequest) -> Iterator[None]:
    """What JAX has compiled for a test is there for the next, in later sessions too."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = [getattr(jax.config, name) for name in names]
    for name, value in zip(names, (str(request.config.cache.mkdir("jax")), 0.1), strict=True):
        jax.config.update(name, value)
    yield
    for name, value in zip(names, before, strict=True):
        jax.config.update(name, value)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """One thread and single precision, and afterwards torch and JAX as they were."""
    threads, precise = torch.get_num_threads(), jax.config.jax_enable_x64
    torch.set_num_threads(1)
    jax.config.update("jax_enable_x64", False)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
    jax.config.update("jax_enable_x64", precise)
