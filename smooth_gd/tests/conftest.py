"""What the tests of smooth gradient descent share."""

import os

# Before JAX starts: two CPU devices, so that batches are shared out; one core computes.
os.environ.setdefault("NPROC", "1")

import jax
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_num_cpu_devices", 2)


@pytest.fixture(autouse=True, scope="session")
def _compiled_once(compiled_once: None) -> None:
    """JAX's compiled programs are kept for all tests here."""


@pytest.fixture(scope="session")
def scripts(scripts_of):
    return scripts_of("smooth_gd")
