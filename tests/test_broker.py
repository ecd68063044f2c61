"""The broker contract, on the local journal and on its in-memory twin; and what only the journal promises."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coin_platform.broker import Broker, LocalBroker, MemoryBroker, connect
from coin_platform.errors import DeliveryError, PartitionBusy, RetentionLoss, SettingsError
from coin_platform.journal import Journal, JournalReader
from coin_platform.settings import Settings

TOPIC = "koreaSocketDataIn-ticker"


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.time = 1_000

    def __call__(self) -> int:
        return self.time


@pytest.fixture(params=["memory", "local"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[MemoryBroker | LocalBroker, Clock]]:
    """Give each broker with its clock."""
    clock = Clock()
    broker = MemoryBroker(clock=clock) if request.param == "memory" else LocalBroker(tmp_path, clock=clock)
    yield broker, clock
    broker.close()


def fill(broker: Broker, count: int, start: int = 0) -> None:
    """Append numbered records and store them."""
    for number in range(start, start + count):
        broker.append(TOPIC, 0, f"h{number}", b"v%d" % number)
    broker.flush()


def values(broker: Broker, start: int, stop: int) -> list[bytes]:
    """Read a range."""
    return [record.value for record in broker.read(TOPIC, 0, start, stop)]


def test_records_come_back_in_order_with_offsets_from_zero(made: tuple[Broker, Clock]) -> None:
    broker, _ = made
    assert (broker.begin_offset(TOPIC, 0), broker.end_offset(TOPIC, 0), values(broker, 0, 9)) == (0, 0, [])
    fill(broker, 5)
    found = list(broker.read(TOPIC, 0, 1, 99))
    assert [record.offset for record in found] == [1, 2, 3, 4]
    assert (found[0].header, found[0].value) == ("h1", b"v1")
    assert broker.end_offset(TOPIC, 0) == 5
    assert broker.end_offset(TOPIC, 1) == broker.end_offset("another", 0) == 0


def test_times_never_go_back_and_find_their_offset(made: tuple[Broker, Clock]) -> None:
    broker, clock = made
    fill(broker, 2)
    clock.time = 2_000
    fill(broker, 2, 2)
    clock.time = 1_500  # the clock was set back
    fill(broker, 1, 4)
    times = [record.time for record in broker.read(TOPIC, 0, 0, 9)]
    assert times == sorted(times) == [1_000, 1_000, 2_000, 2_000, 2_000]
    assert [broker.offset_for_time(TOPIC, 0, at) for at in (0, 1_000, 1_001, 2_000, 2_001)] == [0, 0, 2, 2, 5]


def test_trimmed_offsets_are_never_used_again_and_reading_them_says_so(
    made: tuple[MemoryBroker | LocalBroker, Clock],
) -> None:
    broker, _ = made
    fill(broker, 4)
    broker.trim(TOPIC, 0, 4)
    broker.flush()
    deadline = time.monotonic() + 5
    while broker.begin_offset(TOPIC, 0) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (broker.begin_offset(TOPIC, 0), broker.end_offset(TOPIC, 0)) == (4, 4)
    fill(broker, 1, 4)
    assert values(broker, 4, 9) == [b"v4"]
    with pytest.raises(RetentionLoss, match=TOPIC):
        values(broker, 3, 9)


def test_groups_remember_where_they_are(made: tuple[Broker, Clock]) -> None:
    broker, _ = made
    assert broker.committed("g", TOPIC, 0) is None
    broker.commit("g", TOPIC, 0, 7)
    broker.commit("other", TOPIC, 0, 3)
    broker.commit("g", TOPIC, 0, 5)
    assert (broker.committed("g", TOPIC, 0), broker.committed("other", TOPIC, 0)) == (5, 3)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 30), st.integers(0, 40), st.integers(0, 40))
def test_a_range_is_a_slice_of_what_was_appended(tmp_path: Path, count: int, start: int, stop: int) -> None:
    broker = LocalBroker(tmp_path / f"{count}-{start}-{stop}-{time.monotonic_ns()}")
    fill(broker, count)
    assert values(broker, start, stop) == [b"v%d" % number for number in range(count)][start:stop]
    broker.close()


def test_a_second_writer_is_refused_with_the_first_one_s_pid(tmp_path: Path) -> None:
    first = Journal(tmp_path / "0.db")
    try:
        with pytest.raises(PartitionBusy, match=str(os.getpid())):
            Journal(tmp_path / "0.db")
    finally:
        first.close()
    Journal(tmp_path / "0.db").close()


def test_a_journal_goes_on_where_it_stopped(tmp_path: Path) -> None:
    for start in (0, 3):
        broker = LocalBroker(tmp_path)
        fill(broker, 3, start)
        broker.close()
    assert values(LocalBroker(tmp_path), 0, 9) == [b"v%d" % number for number in range(6)]


def test_a_reader_does_not_hold_up_the_writer(tmp_path: Path) -> None:
    broker = LocalBroker(tmp_path)
    fill(broker, 20_000)
    reading = broker.read(TOPIC, 0, 0, 20_000)
    next(reading)
    fill(broker, 100, 20_000)  # while the reader is in the middle
    with contextlib.closing(sqlite3.connect(tmp_path / TOPIC / "0.db")) as database:
        busy, _, _ = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert busy == 0, "an iterating reader keeps no transaction open"
    assert sum(1 for _ in reading) == 19_999
    broker.close()


WRITER = """
import sys
from pathlib import Path
from coin_platform.journal import Journal
journal, number = Journal(Path(sys.argv[1])), 0
while True:
    for _ in range(50):
        journal.append("h", b"v%d" % number)
        number += 1
    journal.flush()
    print(number, flush=True)
"""


def test_K2_a_killed_writer_loses_nothing_that_it_flushed(tmp_path: Path) -> None:
    path = tmp_path / "0.db"
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        before = JournalReader(path).end_offset()
        flushed = [int(process.stdout.readline()) for _ in range(10)][-1]
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        reader = JournalReader(path)
        assert reader.end_offset() >= before + flushed
        found = [record.value for record in reader.read(before, before + flushed)]
        assert found == [b"v%d" % number for number in range(flushed)]
        with contextlib.closing(sqlite3.connect(path)) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


FULL = """
import resource, sys
from pathlib import Path
from coin_platform.errors import DeliveryError
from coin_platform.journal import Journal
journal = Journal(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    for _ in range(100):
        journal.append("h", b"x" * 50_000)
        journal.flush()
except DeliveryError as error:
    print(error)
"""


def test_A16_a_full_disk_is_one_line_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "0.db"
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert str(path) in done.stdout and done.stdout.count("\n") == 1, done.stderr


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises((DeliveryError, SettingsError), match="file"):
        broker = LocalBroker(tmp_path / "file")
        broker.append(TOPIC, 0, "h", b"")
        broker.flush()


def test_an_unknown_broker_names_the_setting() -> None:
    with pytest.raises(SettingsError, match="COIN_BROKER_URL"):
        connect(Settings(broker_url="smtp:x"))


def test_appending_does_not_wait_for_the_disk(tmp_path: Path) -> None:
    append: Callable[[str, bytes], None]
    journal = Journal(tmp_path / "0.db", commit_every=60)
    append = journal.append
    append("h", b"v")
    assert JournalReader(tmp_path / "0.db").end_offset() == 0
    journal.close()
    assert JournalReader(tmp_path / "0.db").end_offset() == 1


def test_K2_what_is_appended_is_synced_on_its_own_beat(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "0.db", sync_every=0.05)
    try:
        journal.append("h", b"v")
        journal.flush()
        (tmp_path / "0.db-wal").unlink()  # only a sync looks at the file again
        with pytest.raises(DeliveryError, match="deleted"):
            deadline = time.monotonic() + 5
            while time.monotonic() < deadline:
                journal.append("h", b"v")  # nobody asks for a flush
                time.sleep(0.01)
    finally:
        with contextlib.suppress(DeliveryError):
            journal.close()
