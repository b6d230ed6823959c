"""What the tests of BRP-SNN share."""

import pytest


@pytest.fixture(scope="session")
def scripts(scripts_of):
    return scripts_of("brp_snn")
