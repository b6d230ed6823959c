"""What the tests of the comparison share."""

from collections.abc import Iterator

import jax
import pytest
import torch


@pytest.fixture(scope="session")
def scripts(scripts_of):
    return scripts_of("comparison")


@pytest.fixture(autouse=True, scope="session")
def _compiled_once(compiled_once: None) -> None:
    """JAX's compiled programs are kept for all tests here."""


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
