"""The real services that tests need, started once for all of them."""

import os
from collections.abc import Iterator

import pytest

from infra.stack import Kafka, SeaweedFS, Service, StackError


def _started(service: Service) -> Iterator[Service]:
    """Start a service; where that cannot be, skip by name, but in CI fail: nothing is skipped there."""
    try:
        service.launch()
    except StackError as error:
        pytest.fail(str(error)) if os.environ.get("CI") == "true" else pytest.skip(str(error))
    with service:
        yield service


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A real Apache Kafka of one node, which can be reached through a proxy too."""
    yield from _started(Kafka(tmp_path_factory.mktemp("kafka"), is_proxied=True))


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A real S3 server with the bucket `lake`."""
    yield from _started(SeaweedFS(tmp_path_factory.mktemp("seaweedfs")))
