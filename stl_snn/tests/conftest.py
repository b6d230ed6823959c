"""What the tests of STL-SNN share."""

import pytest


@pytest.fixture(scope="session")
def scripts(scripts_of):
    return scripts_of("stl_snn")
