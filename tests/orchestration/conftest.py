"""What tests of Dagster share."""

from collections.abc import Iterator

import dagster as dg
import pytest


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """Give an empty Dagster."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance
