"""What the tests of shifting learning share."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope="session")
def scripts(scripts_of):
    return scripts_of("shifting_learning")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """After a script that ran in this process torch is as it was."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
