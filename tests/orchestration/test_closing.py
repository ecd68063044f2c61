"""The sensor that closes windows: one run for each closed window that is missing, none for an open one."""

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
from dagster._core.storage.dagster_run import DagsterRunStatus as Status

from coin_platform.broker import Broker, MemoryBroker
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import Kind, Region
from coin_platform.orchestration.closing import ATTEMPTS, close_windows
from coin_platform.orchestration.ingest import collect_job
from coin_platform.orchestration.partitions import FORMAT
from coin_platform.orchestration.resources import Topics
from coin_platform.settings import Settings
from coin_platform.sources import sources
from coin_platform.wire import Header


def test_closed_windows_are_launched_once_and_failed_ones_again() -> None:
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    settings = Settings(start=now - timedelta(minutes=5), window=timedelta(minutes=1), grace=timedelta(0))
    found = list(sources(EXCHANGES["upbit"], settings))
    written = int((now - timedelta(minutes=3)).timestamp() * 1e6) + 1
    broker = MemoryBroker(clock=lambda: written)
    broker.append(found[0].topic, 0, Header(Kind.SOCKET, 1, "c", 1, written).pack(), b"{}")

    class MemoryTopics(Topics):
        """The log of this test."""

        def open(self, *, guest: bool = False) -> Broker:
            return broker

    sensor = close_windows(Region.KOREA, "tables_korea", found, settings)

    def tick(instance: dg.DagsterInstance) -> list[str]:
        result: Any = sensor(dg.build_sensor_context(instance=instance, resources={"topics": MemoryTopics()}))
        return [request.partition_key for request in getattr(result, "run_requests", None) or []]

    with dg.DagsterInstance.ephemeral() as instance:
        wanted = [(now - timedelta(minutes=minutes)).strftime(FORMAT) for minutes in (3, 2, 1)]
        assert tick(instance) == wanted, "not before the first record, not the window that is open"
        job = collect_job(Region.KOREA)  # any job will do: runs are found by their tags
        tags = {"coin/window_region": "korea", "coin/window": wanted[0]}
        instance.create_run_for_job(job, tags=tags, status=Status.STARTED)
        assert tick(instance) == wanted[1:], "one under way"
        for _ in range(ATTEMPTS):
            instance.create_run_for_job(job, tags=tags | {"coin/window": wanted[1]}, status=Status.FAILURE)
        assert tick(instance) == wanted[2:], "given up after three attempts"
        instance.create_run_for_job(
            job, tags=tags | {"coin/window": wanted[2]}, status=Status.SUCCESS, parent_run_id="1", root_run_id="1"
        )
        assert tick(instance) == wanted[2:], "a part that was run again need not be all"
        instance.create_run_for_job(job, tags=tags | {"coin/window": wanted[2]}, status=Status.SUCCESS)
        assert tick(instance) == []
