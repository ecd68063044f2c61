"""Window runs killed between two commits: the next start makes all windows, without a hand."""

import multiprocessing
import random
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from dagster import DagsterRunStatus

from coin_platform.broker import LocalBroker
from coin_platform.exchanges import EXCHANGES
from coin_platform.lake import Lake, open_lake
from coin_platform.model import SECOND, Region, Window
from coin_platform.orchestration import backfill, window_runs
from coin_platform.orchestration.close_windows import close_windows
from coin_platform.orchestration.long_runs import collect_job
from coin_platform.orchestration.partitions import key_of
from coin_platform.orchestration.resources import Topics
from coin_platform.orchestration.run_process import PROCESS_TAG
from coin_platform.runtime.processes import identity
from coin_platform.selection import sources
from coin_platform.settings import Settings, load
from coin_platform.simulator.faults import Faults
from tests.kit.crashing import Crash, make_window
from tests.kit.hour import Clock, World

MINUTE = 60 * SECOND
WINDOWS = 2


class Home:
    """A journal of some windows of simulated exchanges, a lake in a folder, and Dagster's database."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        begin = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=10)
        self.first = int(begin.timestamp()) * SECOND
        self.environment = {
            "COIN_HOME": str(folder),
            "COIN_EXCHANGES": "upbit",
            "COIN_CHANNELS": "ticker,trade",
            "COIN_WINDOW": "1m",
            "COIN_GRACE": "3s",
            "COIN_START": begin.isoformat(),
        }
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)
        load.cache_clear()
        self.settings = load()
        home = folder / "dagster_home"
        home.mkdir()
        (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
        self.instance = dg.DagsterInstance.from_config(str(home))
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["tests.kit.crashing"])
        self.cursor = ""
        self._log()

    @property
    def windows(self) -> list[Window]:
        """The windows that hold records."""
        return [Window(start, start + MINUTE) for start in range(self.first, self.first + WINDOWS * MINUTE, MINUTE)]

    def requests(self) -> Sequence[dg.RunRequest]:
        """Let the closing sensor look once."""
        sensor = close_windows(Region.KOREA, self.settings)
        context = dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor or None, resources={"topics": Topics()}
        )
        result: Any = sensor(context)
        self.cursor = context.cursor or ""
        keys = set(map(key_of, self.windows))  # later windows hold nothing
        return [request for request in getattr(result, "run_requests", None) or [] if request.partition_key in keys]

    def run(self, request: dg.RunRequest, crash: Crash | None = None) -> None:
        """Make a window in a process of its own."""
        arguments = (self.environment, "tables_korea", request.partition_key, dict(request.tags), crash)
        process = self.context.Process(target=make_window, args=arguments)
        process.start()
        process.join(100)
        assert process.exitcode == (0 if crash is None else -9)

    def tables(self, lake: Lake) -> dict[tuple[str, str, Window], pl.DataFrame | None]:
        """Return all tables of the windows."""
        names = {(source.exchange.name, table) for source in self.sources for table in self._tables(source.channel)}
        return {(*name, window): lake.read(name[1], name[0], window) for name in names for window in self.windows}

    def footers(self, lake: Lake) -> list[dict[str, object]]:
        """Return what the footers of all tables of the windows say of their content, and of what they were made of."""
        own = {"generation", "code"}
        footers = [lake.provenance(name[1], name[0], window) or {} for *name, window in self.tables(lake)]
        return [{fact: value for fact, value in footer.items() if fact not in own} for footer in footers]

    def _tables(self, channel: str) -> tuple[str, ...]:
        return (f"raw_{channel}", channel, "dead", "gap")

    def _log(self) -> None:
        clock = Clock(self.first)
        broker = LocalBroker(self.settings.path(self.settings.journal_dir), clock=lambda: clock.time)
        self.sources = list(sources(EXCHANGES["upbit"], self.settings))
        world = World(["upbit"], broker, clock, self.settings, faults=Faults())
        while clock.time < self.first + WINDOWS * MINUTE - 10 * SECOND:
            world.run(1, 4 * SECOND)
            broker.flush()  # a record's time is that of its commit
        broker.close()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """Give a home without any made window, in which retries begin at once."""
    monkeypatch.setattr(window_runs, "FIRST_RETRY_SECONDS", 0.0)
    home = Home(tmp_path, monkeypatch)
    with home.instance:
        yield home
    load.cache_clear()


def test_D9_after_kills_at_three_moments_all_windows_are_made_without_a_hand(home: Home, tmp_path: Path) -> None:
    chance = random.Random(20)
    # Each attempt has fewer of the window's 6 tables to make: stored tables are not stored again.
    moments = [Crash(chance.randint(1, 2), is_stored) for is_stored in (True, False, True)]
    asked = home.requests()
    assert [request.partition_key for request in asked] == list(map(key_of, home.windows))
    # One run dies while it is about to begin: its process is there, its code is not loaded yet.
    process = home.context.Process(target=time.sleep, args=(100,))
    process.start()
    gone = {PROCESS_TAG: identity(process.pid)}
    process.kill()
    process.join()
    begun = home.instance.create_run_for_job(
        collect_job(Region.KOREA), tags={**asked[1].tags, **gone}, status=DagsterRunStatus.STARTING
    )
    home.run(asked[0], moments.pop())
    while asked := home.requests():
        home.run(asked[0], moments.pop() if moments else None)
    assert not moments, "three were killed"
    statuses = [run.status for run in home.instance.get_runs() if run.run_id != begun.run_id]
    assert statuses.count(DagsterRunStatus.SUCCESS) == WINDOWS and statuses.count(DagsterRunStatus.FAILURE) == 3
    made = home.tables(open_lake(home.settings))
    lake = open_lake(Settings(lake_url=f"file:{tmp_path / 'undisturbed'}"))
    with dg.DagsterInstance.ephemeral() as instance:
        work = backfill.BackfillPlan([EXCHANGES["upbit"]], home.windows)
        backfill.run_backfill(work, home.settings, Topics(), lake, instance, lambda tables: None)
    undisturbed = home.tables(lake)
    for place, rows in undisturbed.items():
        assert rows is not None and rows.equals(made[place])  # type: ignore[arg-type]  # then it is not equal
    for source in home.sources:
        raw = [made[source.exchange.name, f"raw_{source.channel}", window] for window in home.windows]
        offsets = [offset for rows in raw if rows is not None for offset in rows["offset"]]
        broker = LocalBroker(home.settings.path(home.settings.journal_dir))
        assert offsets == list(range(broker.end_offset(source.topic, source.partition)))
        broker.close()


def test_D9_S8_windows_that_were_made_in_another_order_are_made_again_until_all_are_as_if_in_order(
    home: Home, tmp_path: Path
) -> None:
    """Crashes leave runs in the queue: a window whose run failed waits, and later ones are made before it."""
    asked = home.requests()
    for request in reversed(asked):
        home.run(request)
    again: list[str | None] = []
    while asked := home.requests():
        again += [request.partition_key for request in asked]
        for request in asked:
            home.run(request)
    assert again[: WINDOWS - 1] == list(map(key_of, home.windows[1:])), "each was made before the one that precedes it"
    lake = open_lake(Settings(lake_url=f"file:{tmp_path / 'in_order'}"))
    with dg.DagsterInstance.ephemeral() as instance:
        work = backfill.BackfillPlan([EXCHANGES["upbit"]], home.windows)
        backfill.run_backfill(work, home.settings, Topics(), lake, instance, lambda tables: None)
    made, in_order = (home.footers(each) for each in (open_lake(home.settings), lake))
    assert made == in_order


def test_D9_a_window_that_cannot_be_made_again_is_tried_until_it_is(home: Home) -> None:
    first, second, *_ = home.requests()
    home.run(second)
    home.run(first)
    [again] = [request for request in home.requests() if request.partition_key == second.partition_key]
    home.run(again, Crash(1, is_stored=False))
    asked = home.requests()
    assert again.partition_key in [request.partition_key for request in asked]
