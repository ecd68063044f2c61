"""What all tests share: the real services, started once, and settings of the process."""

import gc
import logging
import os
import signal
import threading
from collections.abc import Iterator
from functools import wraps
from typing import Any

import pytest
import redis
from hypothesis import settings

from infra.stack import Kafka, Redis, SeaweedFS, Service, StackError, ZooKeeper

# A deadline is an assertion on wall time, which a busy machine does not keep.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As in the background of a script: Dagster would then have SIGTERM ignored, too, also by what we start from here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # as under nohup: what we start would ignore it, too


def pytest_runtest_setup() -> None:
    """Look for garbage among what the last test made only, as services do: in all of a long run's it took 0.8 s.

    Meanwhile whoever is timed stood still.
    """
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Have two processes for each core share the tests, because many tests wait for half of their time."""
    return 2 * (os.cpu_count() or 1)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the tests for processes that share them.

    1. One process runs all tests of a real service, so that it starts once.
    2. The short soak comes first: it takes as long as many others together.
    """
    for item in items:
        services = [name for name in ("kafka", "s3", "zookeeper") if item.get_closest_marker(name)]
        if services and item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(services[0]))
    items.sort(key=lambda item: not any(mark.args == ("soak",) for mark in item.iter_markers("xdist_group")))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run tests that are coroutines on the event loop of asyncio, each on a new one."""
    return "asyncio"


@pytest.fixture(autouse=True)
def _idle_logs_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The logs of tests get no more records, and are of another time than now."""
    monkeypatch.setattr("coin_platform.orchestration.log_clock.SETTLE_SECONDS", 0.0)


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """What a command sets up in this process, as `coin` does, is no matter of the tests that follow."""
    root, ours = logging.getLogger(), logging.getLogger("coin_platform")
    handlers, levels = list(root.handlers), (root.level, ours.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


@pytest.fixture(autouse=True)
def _connections_to_redis_end_with_their_test(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close what a test leaves open. A socket that garbage collection closes is a warning, and fails another test."""
    clients: list[redis.Redis] = []
    begin = redis.Redis.__init__

    @wraps(begin)
    def begin_and_note(client: redis.Redis, *arguments: Any, **options: Any) -> None:
        begin(client, *arguments, **options)
        clients.append(client)

    monkeypatch.setattr(redis.Redis, "__init__", begin_and_note)
    yield
    waiting = [thread for thread in threading.enumerate() if thread.name == "active pairs"] if clients else []
    for thread in waiting:
        thread.join(5)  # it looks four times a second whether its collector has ended
    for client in clients:
        client.connection_pool.disconnect()


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
    """A real Apache Kafka of one node, which can be reached through a proxy too, and by every security protocol."""
    yield from _started(Kafka(tmp_path_factory.mktemp("kafka"), is_proxied=True, is_secured=True))


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A real S3 server with the bucket `lake`."""
    yield from _started(SeaweedFS(tmp_path_factory.mktemp("seaweedfs")))


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """A real Redis server. A test that stops it or fills it leaves it running and empty."""
    server = Redis(tmp_path_factory.mktemp("redis"))
    yield from _started(server)  # type: ignore[misc]


@pytest.fixture(scope="session")
def zookeeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZooKeeper]:
    """A real Apache ZooKeeper of one node. Each test uses a path of its own. A test that stops it starts it again."""
    server = ZooKeeper(tmp_path_factory.mktemp("zookeeper"))
    yield from _started(server)  # type: ignore[misc]
