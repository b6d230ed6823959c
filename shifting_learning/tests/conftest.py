"""What the tests of shifting learning share."""

import pytest


@pytest.fixture(scope="session")
def scripts(scripts_of):
    return scripts_of("shifting_learning")
