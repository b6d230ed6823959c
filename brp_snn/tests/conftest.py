"""What the tests of BRP-SNN share."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope="session")
def scripts(scripts_of):
    return scripts_of("brp_snn")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """One thread, and after a script that ran in this process torch as it was.

    Networks as small as those of tests wait longer for a second thread than they work.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
