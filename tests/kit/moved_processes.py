"""Collector and worker as real processes whose wall clock is moved while they run, and what must hold then.

The monotonic clock of the processes stays true, as it does where a time server or a hand sets a machine's clock. The
exchanges keep the true time.
"""

import json
import subprocess
import sys
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from coin_platform.exchanges.base import Source
from coin_platform.lake import open_lake
from coin_platform.model import SECOND, Gap, Kind, Microseconds
from coin_platform.records import Record, Transport, unpack, unpack_facts
from coin_platform.simulator.sent_log import digest
from coin_platform.tables.schema import latest
from coin_platform.topic_names import dead_letter_topic, group, processed_topic
from infra.stack import ROOT
from tests.kit.accounts import Accounts
from tests.kit.asia import Asia, running
from tests.kit.history import CLEAN, Row, check
from tests.kit.stored_history import gaps_from
from tests.kit.waiting import until
from tests.kit.wall_clock import WallClock

LATE: Microseconds = 60 * SECOND  # that a message may be on its way on a busy machine
PATIENCE = 100.0  # seconds in which something must happen, on a busy machine too


class MovedProcesses:
    """Collector and worker on a wall clock that is moved, with windows of a minute."""

    def __init__(self, platform: Asia, clock: WallClock) -> None:
        self.platform, self.clock = platform, clock
        self._before = {source: self._end(self._processed(source)) for source in platform.sources}

    def start(self) -> None:
        """Start both, and return when each pair has been heard: one that has not is waited for by the wall clock."""
        for name in ("collect", "preprocess"):
            self.platform.start(name, "--region", "asia")
        self.platform.until_more(PATIENCE)
        until(lambda: all(map(self.platform.is_heard, self.platform.sources)), PATIENCE)

    def pass_(self, seconds: float) -> None:
        """Let time pass. Both processes are alive at its end, and each source has a frame of the clock as it is now."""
        time.sleep(seconds)
        self.platform.until_more(PATIENCE)
        until(lambda: all(map(self._is_on_the_clock, self.platform.sources)), PATIENCE)
        assert {
            name: process.poll() for name, process in self.platform.processes.items() if process.poll() is not None
        } == {}

    def end(self) -> None:
        """End the exchanges, the collector, and the worker once it has everything."""
        self.platform.end("simulate", PATIENCE)
        self.platform.end("collect", PATIENCE)
        until(self._is_processed, PATIENCE)
        self.platform.end("preprocess", PATIENCE)

    def make_windows(self, *, is_moved: bool) -> list[str]:
        """Make the windows up to the end of this minute, on the moved clock or on the true one; return what failed."""
        stop = datetime.fromtimestamp((time.time() // 60 + 1) * 60, UTC)
        words = ["--from", f"{self.platform.settings.start:%Y-%m-%dT%H:%M}", "--to", f"{stop:%Y-%m-%dT%H:%M}"]
        environment = self.platform.environment(is_ours=is_moved)
        command = [sys.executable, "-W", "ignore", "-m", "coin_platform", "lake", "backfill", *words]
        log = self.platform.home / "backfill.log"
        with log.open("wb") as file:
            code = subprocess.run(command, env=environment, cwd=ROOT, stdout=file, stderr=file, check=False).returncode
        stored = open_lake(self.platform.settings).windows("raw_ticker", self.platform.sources[0].exchange.name)
        assert all(window.stop <= time.time() * SECOND for window in stored), "a window was made that is open"
        lines = log.read_text().splitlines()
        failed = [line for line in lines if line.startswith(("FAILED", "CHECK FAILED")) and "no_gap" not in line]
        return [*failed, *([f"ended with {code}: {lines[-1:]}"] if code else [])]

    def assert_right(self, jumps: int = 1, ahead: float = 0.0) -> None:
        """Nothing is lost, double, misplaced or trimmed; nobody reconnected, and `jumps` of the clock were told.

        Stamps may be as far ahead as the clock was followed, which is `ahead` seconds.
        """
        platform, sent = self.platform, self.platform.sent()
        found = check(sent, platform.stored(), gaps=platform.gaps())
        assert found.counts == CLEAN, [cases[:2] for cases in found if cases]
        log = (platform.home / "collect.log").read_text()
        assert log.count("the wall clock jumped to") == log.count("the wall clock is right again") == jumps
        times: defaultdict[tuple[str, str], deque[Microseconds]] = defaultdict(deque)  # of messages with the same bytes
        for message in sent:
            if message.kind == "data":
                times[message.exchange, message.hash].append(message.time)
        for source in platform.sources:
            records = self.records(source)
            assert records[0].offset == 0, f"{source}: {records[0].offset} records were trimmed"
            headers = [unpack(record.header) for record in records]
            assert len({header.epoch for header in headers}) == 1
            sockets = [record for record, header in zip(records, headers, strict=True) if header.kind is Kind.SOCKET]
            sent_times = (times[source.exchange.name, digest(record.value)] for record in sockets)
            delays = [record.time - known.popleft() for record, known in zip(sockets, sent_times, strict=True) if known]
            followed = int(ahead * SECOND)
            assert min(delays) >= min(followed, 0) - SECOND, f"{source}: misplaced"
            assert max(delays) <= max(followed, 0) + LATE, f"{source}: misplaced"
            assert self._end((dead_letter_topic(source.topic), source.partition)) == 0
            assert len(self._opened(records)) == 1, f"{source}: reconnected"

    def labels(self, source: Source) -> list[bool]:
        """Return whether our own records say that the clock is suspect, each change once."""
        records = self.records(source)
        said = [unpack_facts(each.value).clock_suspect for each in records if not unpack(each.header).kind.is_frame]
        return [label for index, label in enumerate(said) if index == 0 or label != said[index - 1]]

    def assert_in_windows(self) -> None:
        """Each record is in the window of its stamp, each frame in a table or accounted for, and processed once."""
        platform, lake = self.platform, open_lake(self.platform.settings)
        rows: list[Row] = []
        ledger: list[Gap] = []
        for source in platform.sources:
            name, channel = source.exchange.name, source.channel
            offsets: list[int] = []
            for window in lake.windows(f"raw_{channel}", name):
                raw = lake.read(f"raw_{channel}", name, window)
                assert raw is not None
                stamps = raw["log_time"].to_physical()
                assert stamps.is_between(window.start, window.stop, closed="left").all(), f"{source} {window}"
                offsets += raw["offset"].to_list()
            records = self.records(source)
            assert offsets == [record.offset for record in records], f"{source}: each record once, none left out"
            table, gaps = (self._table(kind, name) for kind in (channel.value, "gap"))
            newest = latest("gap", gaps.lazy()).collect()  # each gap as it was told last
            theirs = [gap for gap in gaps_from(name, newest) if gap.channel is channel]
            accounts = Accounts(source, records, table, theirs)
            assert accounts.unexplained == [], f"{source}: frames without a row or a reason"
            rows, ledger = rows + accounts.rows, ledger + theirs
            assert self._places(source) == sorted(table.select("offset", "index").iter_rows()), f"{source}: processed"
        assert check(platform.sent(), platform.stored(), gaps=ledger, rows=rows).counts == CLEAN

    def records(self, source: Source) -> list[Record]:
        """Return all that is stored of a source."""
        place = source.topic, source.partition
        broker = self.platform.broker
        return [*broker.read(*place, broker.begin_offset(*place), broker.end_offset(*place))]

    def _is_on_the_clock(self, source: Source) -> bool:
        """Whether the newest frame of a source was stamped by the clock as it is now, and not before that was set."""
        headers = reversed([unpack(record.header) for record in self.records(source)])
        newest = next(header for header in headers if header.kind is Kind.SOCKET)
        return abs(newest.received_time / SECOND - time.time() - self.clock.ahead) < LATE / SECOND

    def _opened(self, records: list[Record]) -> list[Record]:
        """Return the first records of sockets."""
        opened = [record for record in records if unpack(record.header).kind is Kind.OPENED]
        return [record for record in opened if unpack_facts(record.value).transport == Transport.SOCKET]

    def _table(self, table: str, exchange: str) -> pl.DataFrame:
        lake = open_lake(self.platform.settings)
        parts = [lake.read(table, exchange, window) for window in lake.windows(table, exchange)]
        return pl.concat(part for part in parts if part is not None)

    def _places(self, source: Source) -> list[tuple[int, int]]:
        """Return which rows the processed topic has got from this run."""
        place = self._processed(source)
        said = self.platform.broker.read(*place, self._before[source], self._end(place))
        bodies = [json.loads(record.value) for record in said]
        return sorted((body["offset"], body["index"]) for body in bodies)

    def _is_processed(self) -> bool:
        ends = {source: self._end((source.topic, source.partition)) for source in self.platform.sources}
        groups = {source: group(source.exchange.region, source.channel) for source in ends}
        committed = self.platform.broker.committed
        return all(committed(groups[each], each.topic, each.partition) == end for each, end in ends.items())

    def _processed(self, source: Source) -> tuple[str, int]:
        return processed_topic(source.exchange.region, source.channel), source.partition

    def _end(self, place: tuple[str, int]) -> int:
        return self.platform.broker.end_offset(*place)


@contextmanager
def moved_processes(folder: Path, url: str) -> Iterator[MovedProcesses]:
    """Run the exchanges, and give the clock on which all else is to run."""
    clock = WallClock(folder)
    settings = {"window": "1m", "grace": "3s", "start": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:00Z")}
    channels = "ticker,orderbook,trade"
    with running(folder / "home", url, channels, rate=3, environment=clock.environment, **settings) as platform:
        yield MovedProcesses(platform, clock)
