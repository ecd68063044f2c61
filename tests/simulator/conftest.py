"""A fixture of the tests of the simulator."""

import pytest

from coin_platform.simulator import VENUES


@pytest.fixture(params=VENUES)
def name(request: pytest.FixtureRequest) -> str:
    """Each simulated exchange in turn."""
    return str(request.param)
