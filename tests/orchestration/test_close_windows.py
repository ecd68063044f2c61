"""The sensor starts one run for each closed window that is missing, and none for an open one."""

import json
import logging
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from dagster import DagsterRunStatus
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.storage.dagster_run import DagsterRun
from dagster._core.storage.tags import PRIORITY_TAG

from coin_platform.broker import MemoryBroker
from coin_platform.clock import elapsed
from coin_platform.errors import DeliveryError
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import Kind, Region
from coin_platform.orchestration import alerts
from coin_platform.orchestration import close_windows as sensor_module
from coin_platform.orchestration.close_windows import TRIMMED_WINDOWS, close_windows
from coin_platform.orchestration.log_clock import LogClock
from coin_platform.orchestration.long_runs import collect_job
from coin_platform.orchestration.partitions import FORMAT
from coin_platform.orchestration.run_process import BOOT_SECONDS, PROCESS_TAG
from coin_platform.orchestration.window_runs import ATTEMPT_TAG, LONGEST_RETRY_SECONDS
from coin_platform.records import Header
from coin_platform.runtime.processes import identity
from coin_platform.selection import sources
from coin_platform.settings import Settings
from tests.kit.dagster import GivenTopics, ended_process, status_of

JOB = collect_job(Region.KOREA)  # any job will do: runs are known by their tags
ORIGIN = RemoteJobOrigin(RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("coin_platform"), "jobs"), JOB.name)
MINUTE = timedelta(minutes=1)


class Closing:
    """A region's sensor with a log in memory; every window is a minute."""

    def __init__(
        self,
        instance: dg.DagsterInstance,
        begun: timedelta,
        settings: dict[str, Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Log a first record `begun` ago."""
        self.now = datetime.now(UTC).replace(second=0, microsecond=0)
        self.instance, self.cursor = instance, ""
        defaults: dict[str, Any] = {"start": self.now - timedelta(days=2), "window": MINUTE, "grace": timedelta(0)}
        self.settings = Settings(**{**defaults, "exchanges": ("upbit",), **(settings or {})})
        self.sources = list(sources(EXCHANGES["upbit"], self.settings))
        self.time = int((self.now - begun).timestamp() * 1e6)
        present = int(self.now.timestamp() * 1e6) + 30_000_000  # however long the test takes
        self.broker = MemoryBroker(clock=lambda: self.time)
        self.append()
        self.sensor = close_windows(Region.KOREA, self.settings, clock, LogClock(lambda: present, lambda: 0.0))

    def append(self) -> None:
        """Log a record."""
        self.broker.append(self.sources[0].topic, 0, Header(Kind.SOCKET, 1, "c", 1, self.time).pack(), b"{}")

    def name(self, ago: int) -> str:
        """Return the key of the window that began `ago` minutes before the last whole minute."""
        return (self.now - ago * MINUTE).strftime(FORMAT)

    def tick(self) -> list[str]:
        """Look once; return the windows of which runs are asked for."""
        return [str(request.partition_key) for request in self.requests()]

    def requests(self) -> list[dg.RunRequest]:
        """Look once; return the runs that are asked for."""
        GivenTopics.broker = self.broker
        context = dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor or None, resources={"topics": GivenTopics()}
        )
        result: Any = self.sensor(context)
        self.cursor = context.cursor or ""
        return list(getattr(result, "run_requests", None) or [])

    def run(self, request: dg.RunRequest, status: DagsterRunStatus) -> dg.DagsterRun:
        """Make of a request a run with this status."""
        begun = DagsterRunStatus.STARTED if status is DagsterRunStatus.FAILURE else status
        run = self.instance.add_run(DagsterRun(JOB.name, tags=request.tags, status=begun, remote_job_origin=ORIGIN))
        if status is DagsterRunStatus.FAILURE:
            self.instance.report_run_failed(run, "the lake is away")
        return run

    def status(self, run: dg.DagsterRun) -> DagsterRunStatus:
        """Return the status of a run as it is now."""
        return status_of(self.instance, run)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Give a function that moves the wall clock of the sensors by a number of seconds."""
    real, moved = time.time, [0.0]

    def move(seconds: float) -> None:
        moved[0] += seconds

    monkeypatch.setattr("time.time", lambda: real() + moved[0])
    yield move


def test_closed_windows_are_launched_once_and_failed_ones_again(instance: dg.DagsterInstance, later: Any) -> None:
    region = Closing(instance, timedelta(minutes=3) - timedelta(microseconds=1))
    assert region.tick() == [region.name(3), region.name(2), region.name(1)], "not the window that is open"
    first, second, third = region.requests()
    run = region.run(first, DagsterRunStatus.STARTED)
    assert region.tick() == [region.name(2), region.name(1)], "one under way"
    region.run(second, DagsterRunStatus.FAILURE)
    assert region.tick() == [region.name(1)], "one that has just failed"
    part = instance.create_run_for_job(
        JOB, tags=dict(third.tags), status=DagsterRunStatus.SUCCESS, parent_run_id="1", root_run_id="1"
    )
    assert region.tick() == [region.name(1)], "a part that was run again need not be all"
    assert part.run_id in str(region.requests()[0].run_key)
    region.run(third, DagsterRunStatus.SUCCESS)
    assert region.tick() == []
    later(60)
    [again] = region.requests()
    assert again.partition_key == region.name(2)
    assert again.tags[PRIORITY_TAG] == "1" and PRIORITY_TAG not in first.tags, "newer windows wait for it in the queue"
    assert region.status(run) is DagsterRunStatus.STARTED


def test_D25_a_partition_that_is_damaged_holds_up_no_other(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    region = Closing(instance, timedelta(minutes=2))
    damaged, look = region.sources[1], region.broker.end_offset

    def end_offset(topic: str, partition: int) -> int:
        if topic == damaged.topic:
            raise DeliveryError("journal x.db is damaged: move it away")
        return look(topic, partition)

    monkeypatch.setattr(region.broker, "end_offset", end_offset)
    assert region.tick() == [region.name(2), region.name(1)]
    assert f"without {damaged.channel} of upbit: journal x.db is damaged: move it away" in caplog.text


def test_D8_windows_are_caught_up_as_far_as_the_log_reaches(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensor_module, "MOST_RUNS", 60)
    region = Closing(instance, timedelta(hours=3))
    keys = list[str | None]()
    while requests := region.requests():
        keys += [request.partition_key for request in requests]
        for request in requests:
            region.run(request, DagsterRunStatus.SUCCESS)
    assert keys == [region.name(ago) for ago in range(180, 0, -1)]
    assert region.tick() == []
    assert len(region.cursor) < 200, "what is done is a stretch of time, not a list"


def test_D8_no_window_before_the_first_is_made(instance: dg.DagsterInstance) -> None:
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    region = Closing(instance, timedelta(hours=24), {"start": now - timedelta(minutes=2)})
    assert region.tick() == [region.name(2), region.name(1)]


def test_D8_no_more_runs_are_queued_than_are_soon_done(instance: dg.DagsterInstance) -> None:
    region = Closing(instance, timedelta(hours=3))
    requests = region.requests()
    assert len(requests) == sensor_module.MOST_RUNS
    for request in requests:
        region.run(request, DagsterRunStatus.QUEUED)
    assert region.tick() == []


def test_D8_windows_that_were_trimmed_are_made_empty_or_told_as_lost(
    instance: dg.DagsterInstance, caplog: pytest.LogCaptureFixture
) -> None:
    region = Closing(instance, timedelta(minutes=200))
    region.cursor = json.dumps([region.name(200), region.name(199), region.name(150)])
    region.time = int((region.now - 60 * MINUTE).timestamp() * 1e6)
    region.append()
    region.broker.trim(region.sources[0].topic, 0, 1)
    assert region.tick()[0] == region.name(60 + TRIMMED_WINDOWS), "as many as before tell that they lack something"
    region = Closing(instance, timedelta(minutes=200))
    first = region.requests()[0]
    region.run(first, DagsterRunStatus.SUCCESS)
    assert region.tick()[0] == region.name(199)
    region.time = int((region.now - 60 * MINUTE).timestamp() * 1e6)
    region.append()
    region.broker.trim(region.sources[0].topic, 0, 1)
    caplog.clear()
    assert region.tick()[0] == region.name(60 + TRIMMED_WINDOWS)
    [line] = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert line.startswith(
        f"{199 - 60 - TRIMMED_WINDOWS} windows of korea from {region.name(199)} to {region.name(108)}"
    )
    caplog.clear()
    region.tick()
    assert caplog.records == [], "once"


def test_D8_a_log_that_was_never_written_and_one_whose_first_window_is_open_ask_for_nothing(
    instance: dg.DagsterInstance,
) -> None:
    region = Closing(instance, timedelta(0))
    assert region.tick() == [] and region.cursor == ""
    region.broker = MemoryBroker()
    assert region.tick() == [] and region.cursor == ""


@pytest.mark.parametrize("cursor", ["no JSON", "{", '{"since": "x"}', "[1]", '["yesterday"]', "null", "\x00", "7"])
def test_D28_a_cursor_that_cannot_be_read_is_started_anew_with_a_warning(
    cursor: str, instance: dg.DagsterInstance, caplog: pytest.LogCaptureFixture
) -> None:
    region = Closing(instance, timedelta(minutes=2))
    region.cursor = cursor
    assert region.tick() == [region.name(2), region.name(1)]
    [line] = [record.message for record in caplog.records]
    assert line.startswith("close_windows_korea: the cursor cannot be read and begins anew: ")
    caplog.clear()
    assert region.tick() == [region.name(2), region.name(1)]
    assert caplog.records == []


def test_a_cursor_of_an_earlier_version_is_understood(
    instance: dg.DagsterInstance, caplog: pytest.LogCaptureFixture
) -> None:
    region = Closing(instance, timedelta(minutes=4))
    region.cursor = json.dumps([region.name(4), region.name(2)])
    assert region.tick() == [region.name(3), region.name(1)]
    assert caplog.records == []


@pytest.mark.parametrize("status", [DagsterRunStatus.STARTED, DagsterRunStatus.STARTING, DagsterRunStatus.CANCELING])
def test_D9_a_run_whose_process_vanished_frees_its_place(
    status: DagsterRunStatus, instance: dg.DagsterInstance
) -> None:
    region = Closing(instance, timedelta(minutes=1))
    [request] = region.requests()
    dead = instance.create_run_for_job(JOB, tags={**request.tags, PROCESS_TAG: ended_process()}, status=status)
    assert region.tick() == [], "it has just failed"
    assert region.status(dead) is DagsterRunStatus.FAILURE
    live = instance.create_run_for_job(JOB, tags={**request.tags, PROCESS_TAG: identity()}, status=status)
    region.tick()
    assert region.status(live) is status


@pytest.mark.parametrize("status", [DagsterRunStatus.STARTED, DagsterRunStatus.STARTING, DagsterRunStatus.NOT_STARTED])
def test_D9_a_run_that_never_got_a_process_frees_its_place(
    status: DagsterRunStatus, instance: dg.DagsterInstance, later: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = 1000.0
    region = Closing(instance, timedelta(minutes=1), clock=lambda: moment)
    [request] = region.requests()
    dead = region.run(request, status)
    later(-25 * 3600)
    for _ in range(int(BOOT_SECONDS / 10) + 1):
        region.tick()
        assert region.status(dead) is status
        moment += 10
    region.tick()
    assert region.status(dead) is DagsterRunStatus.FAILURE
    later(26 * 3600)
    assert region.name(1) in region.tick()


@pytest.mark.parametrize("status", [DagsterRunStatus.STARTED, DagsterRunStatus.STARTING, DagsterRunStatus.NOT_STARTED])
def test_D9_a_run_that_a_killed_process_was_about_to_launch_frees_its_place_soon(
    status: DagsterRunStatus, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = 1000.0
    region = Closing(instance, timedelta(minutes=1), clock=lambda: moment)
    [request] = region.requests()
    dead = region.run(request, status)
    monkeypatch.setattr("coin_platform.orchestration.run_process._BEGAN", elapsed() + 1)
    for _ in range(3):
        region.tick()
        assert region.status(dead) is status
        moment += 10
    region.tick()
    assert region.status(dead) is DagsterRunStatus.FAILURE


def test_D9_runs_of_other_hosts_and_queued_ones_are_left_alone(instance: dg.DagsterInstance, later: Any) -> None:
    region = Closing(instance, timedelta(minutes=2))
    first, second = region.requests()
    elsewhere = "another-host " + identity().partition(" ")[2]
    runs = [
        instance.create_run_for_job(JOB, tags={**first.tags, PROCESS_TAG: elsewhere}, status=DagsterRunStatus.STARTED),
        region.run(second, DagsterRunStatus.QUEUED),
    ]
    later(100_000)
    region.tick()
    assert [region.status(run) for run in runs] == [DagsterRunStatus.STARTED, DagsterRunStatus.QUEUED]


def test_D10_a_window_is_tried_again_for_ever_after_longer_and_longer_waits(
    instance: dg.DagsterInstance, later: Any
) -> None:
    region = Closing(instance, timedelta(minutes=1))
    name = region.name(1)
    for wait in (10, 20, 40, 80, 160, 320, 640, 900, 900, 900):
        [request] = [request for request in region.requests() if request.partition_key == name]
        region.run(request, DagsterRunStatus.FAILURE)
        later(wait - 5)
        assert name not in region.tick()
        later(6)
    assert LONGEST_RETRY_SECONDS == 900
    assert {run.tags[ATTEMPT_TAG] for run in instance.get_runs()} == {str(number) for number in range(1, 11)}


def test_D10_a_window_that_fails_holds_up_no_other(instance: dg.DagsterInstance) -> None:
    region = Closing(instance, timedelta(minutes=20))
    for request in region.requests():
        region.run(request, DagsterRunStatus.FAILURE)
    assert region.tick() == [region.name(ago) for ago in (16, 15, 14, 13)]


def test_D10_a_clock_that_was_set_back_delays_no_retry(instance: dg.DagsterInstance, later: Any) -> None:
    region = Closing(instance, timedelta(minutes=1))
    [request] = region.requests()
    later(25 * 3600)
    run = instance.create_run_for_job(JOB, tags=dict(request.tags), status=DagsterRunStatus.STARTED)
    instance.report_run_failed(run, "the lake is away")
    later(-25 * 3600)
    assert region.name(1) in region.tick()


def test_D10_a_run_with_a_foreign_attempt_is_the_first(instance: dg.DagsterInstance, later: Any) -> None:
    region = Closing(instance, timedelta(minutes=1))
    [request] = region.requests()
    instance.create_run_for_job(JOB, tags={**request.tags, ATTEMPT_TAG: "many"}, status=DagsterRunStatus.FAILURE)
    later(11)
    [request] = [request for request in region.requests() if request.partition_key == region.name(1)]
    assert request.tags[ATTEMPT_TAG] == "2"


def test_D10_the_third_failure_of_a_window_is_an_alert(
    instance: dg.DagsterInstance, caplog: pytest.LogCaptureFixture
) -> None:
    for attempt in ("2", "3"):
        tags = {ATTEMPT_TAG: attempt, "dagster/partition": "2026-11-02-03:00"}
        run = instance.create_run_for_job(JOB, tags=tags, status=DagsterRunStatus.STARTED)
        instance.report_run_failed(run, "the lake is away")
        [entry] = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
        event = entry.dagster_event
        assert event is not None
        context = dg.build_run_status_sensor_context("failure_alerts", event, instance, run).for_run_failure()
        alerts.failure_alerts(context)
        keeps_failing = [record for record in caplog.records if "coin lake retry" in record.message]
        assert len(keeps_failing) == (attempt == "3")
    assert "window 2026-11-02-03:00 of collect_korea failed 3 times" in keeps_failing[0].message
