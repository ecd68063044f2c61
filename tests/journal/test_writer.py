"""The journal keeps what it took, in order, through kills, full disks, trims and restarts."""

import errno
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coin_platform.errors import DeliveryError, PartitionBusy, RetentionLoss
from coin_platform.journal import JournalReader, JournalWriter, Positions, WriterThread
from coin_platform.journal.lock import WRITER_ROLE, WriterSeat, holder
from coin_platform.model import SECOND
from tests.kit.waiting import until

MIB = 1 << 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "topic" / "0.db"


def write(path: Path, count: int, value: bytes = b"value") -> None:
    with closing(JournalWriter(path)) as journal:
        for n in range(count):
            journal.append(f"h{n}", value)


def offsets(path: Path, start: int = 0) -> list[int]:
    return [record.offset for record in JournalReader(path).read(start)]


@contextmanager
def process(code: str, *arguments: object) -> Iterator["subprocess.Popen[str]"]:
    """Run Python code in a process of its own, with the journal's names at hand; it is killed in the end."""
    preamble = (
        "import sys, time\nfrom pathlib import Path\nfrom coin_platform.journal import *\npath = Path(sys.argv[1])\n"
    )
    command = [sys.executable, "-c", preamble + code, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            yield child
        finally:
            child.kill()


def line(child: "subprocess.Popen[str]") -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


# Offsets and times


def test_offsets_are_0_1_2_and_go_on_after_a_restart(path: Path) -> None:
    write(path, 3)
    write(path, 2)
    records = list(JournalReader(path).read(0))
    assert [(r.offset, r.header, r.value) for r in records] == [
        (0, "h0", b"value"),
        (1, "h1", b"value"),
        (2, "h2", b"value"),
        (3, "h0", b"value"),
        (4, "h1", b"value"),
    ]


def test_offsets_are_not_used_again_after_everything_was_trimmed_and_the_writer_restarted(path: Path) -> None:
    with closing(JournalWriter(path)) as journal:
        for _ in range(10):
            journal.append("h", b"")
        journal.flush()
        journal.trim(10)
    assert JournalReader(path).bounds()[:2] == (10, 10)
    write(path, 1)
    assert offsets(path, 10) == [10]


def test_an_asked_for_trim_is_done_when_close_returns(path: Path) -> None:
    with closing(JournalWriter(path)) as journal:
        for _ in range(25_000):
            journal.append("h", b"")
        journal.trim(24_999)
    assert JournalReader(path).begin_offset() == 24_999


def test_a_trim_beyond_the_end_spares_what_comes_later(path: Path) -> None:
    with closing(JournalWriter(path)) as journal:
        journal.append("h", b"old")
        journal.trim(100)
        until(lambda: JournalReader(path).begin_offset() == 1, 10)
        journal.append("h", b"new")
    assert [(r.offset, r.value) for r in JournalReader(path).read(1)] == [(1, b"new")]


def test_append_time_never_goes_back_even_if_the_clock_does(path: Path) -> None:
    times = iter([1_000, 400, 2_000])
    for _ in range(3):  # a new writer each time, so that a restart is no excuse
        with closing(JournalWriter(path, clock=lambda: next(times))) as journal:
            journal.append("h", b"")
    assert [record.time for record in JournalReader(path).read(0)] == [1_000, 1_000, 2_000]


def test_the_last_time_outlives_the_records(path: Path) -> None:
    with closing(JournalWriter(path, clock=lambda: 5_000)) as journal:
        journal.append("h", b"")
        journal.flush()
        journal.trim(1)
    assert JournalReader(path).last_time() == 5_000
    with closing(JournalWriter(path, clock=lambda: 3)) as journal:
        journal.append("h", b"")
    assert [record.time for record in JournalReader(path).read(1)] == [5_000]


def test_the_offset_for_a_time_is_the_first_record_at_or_after_it(path: Path) -> None:
    clock = iter([100, 200, 200, 300])
    with closing(JournalWriter(path, clock=lambda: next(clock))) as journal:
        for _ in range(4):
            journal.append("h", b"")
            journal.flush()
        reader = JournalReader(path)
        assert [reader.offset_for_time(t) for t in (0, 100, 101, 200, 201, 300, 301)] == [0, 0, 1, 1, 3, 3, 4]
        journal.trim(2)
        until(lambda: reader.begin_offset() == 2, 10)
        assert [reader.offset_for_time(t) for t in (0, 200, 201, 301)] == [2, 2, 3, 4]


# Reading


def test_a_reader_may_come_before_the_first_record(path: Path) -> None:
    reader = JournalReader(path)
    assert reader.bounds() == (0, 0, None)
    assert reader.offset_for_time(1) == 0
    assert list(reader.read(0)) == []
    assert not path.parent.exists()


def test_a_range_ends_before_its_stop_and_at_the_end(path: Path) -> None:
    write(path, 5)
    reader = JournalReader(path)
    assert [r.offset for r in reader.read(1, 3)] == [1, 2]
    assert [r.offset for r in reader.read(3, 99)] == [3, 4]
    assert list(reader.read(5)) == list(reader.read(99)) == list(reader.read(2, 2)) == []


def test_records_larger_than_a_read_step_come_whole_and_in_order(path: Path) -> None:
    with closing(JournalWriter(path)) as journal:
        for n in range(6):
            journal.append("h", bytes([n]) * (7 * MIB))
            journal.flush()
    assert [(len(r.value), r.value[-1]) for r in JournalReader(path).read(0)] == [(7 * MIB, n) for n in range(6)]


def test_a_record_is_readable_soon_without_a_flush(path: Path) -> None:
    with closing(JournalWriter(path)) as journal:
        journal.append("h", b"soon")
        until(lambda: JournalReader(path).end_offset() == 1, 10)
        assert [r.value for r in JournalReader(path).read(0)] == [b"soon"]


def test_another_process_reads_while_this_one_writes(path: Path) -> None:
    follow = """
seen = 0
while seen < 2000:
    for record in JournalReader(path).read(seen):
        assert (record.offset, record.value) == (seen, b"%d" % seen)
        seen += 1
print(seen)
"""
    with process(follow, path) as child, closing(JournalWriter(path)) as journal:
        for n in range(2_000):
            journal.append("h", b"%d" % n)
            if n % 100 == 0:
                journal.flush()
        journal.flush()
        assert line(child) == "2000"


def test_a_reader_that_dawdles_does_not_let_the_write_ahead_log_grow(path: Path) -> None:
    write(path, 6_000)
    reading = JournalReader(path).read(0)
    next(reading)
    with closing(JournalWriter(path)) as journal:
        for _ in range(20):
            for _ in range(4):
                journal.append("h", bytes(MIB))
            journal.flush()
        assert Path(f"{path}-wal").stat().st_size < 24 * MIB
        assert [r.offset for r in reading] == list(range(1, 6_000))


def test_a_trim_under_a_reader_is_an_error_not_a_hole(path: Path) -> None:
    write(path, 12_000)
    reading = JournalReader(path, "topic T partition 0").read(0)
    next(reading)
    with closing(JournalWriter(path)) as journal:
        journal.trim(11_000)
    with pytest.raises(RetentionLoss, match=r"topic T partition 0: offset 5000 was trimmed, .* is 11000"):
        list(reading)


def test_a_damaged_file_is_named_by_the_error_of_its_reader(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a journal" * 1_000)
    with pytest.raises(DeliveryError, match=rf"journal {path}: file is not a database; .*move it away"):
        JournalReader(path).bounds()


def _emptied(path: Path) -> None:
    path.write_bytes(b"")


def _of_another_kind(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE other (a)")


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _overwritten(path: Path) -> None:
    path.write_bytes(b"x" * path.stat().st_size)


def _a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _without_a_head(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("DELETE FROM head")


def _of_strange_values(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE head SET next_offset = 'many'")
        db.execute("UPDATE record SET time = 'noon'")


def _with_a_hole(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("DELETE FROM record WHERE offset IN (3, 400)")


def _of_other_texts(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE record SET header = CAST(x'ff' AS TEXT)")


def _of_other_types(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE record SET value = 'text', time = 'noon'")


ILLS = (_emptied, _of_another_kind, _cut, _a_folder, _without_a_head, _of_strange_values, _with_a_hole)
ILLS_OF_RECORDS = (_of_other_texts, _of_other_types)


@pytest.mark.parametrize("ill", [*ILLS, *ILLS_OF_RECORDS])
def test_D25_a_damaged_journal_is_one_line_of_its_readers_with_file_and_remedy(
    path: Path, ill: Callable[[Path], None]
) -> None:
    write(path, 500)
    ill(path)
    with pytest.raises(DeliveryError) as caught:
        list(JournalReader(path).read(0))
    text = str(caught.value)
    assert text.startswith(f"journal {path}: ") and text.count("move it away") == 1 and "\n" not in text


@pytest.mark.parametrize("ill", [ill for ill in ILLS if ill is not _with_a_hole])
def test_D25_a_damaged_journal_is_one_line_of_its_writer_with_file_and_remedy(
    path: Path, ill: Callable[[Path], None]
) -> None:
    write(path, 500)
    ill(path)
    journal = JournalWriter(path)
    with pytest.raises(DeliveryError, match=rf"journal {path}: [^\n]+; [^\n]+"):
        for _ in range(100):
            journal.append("h", b"value" * 100)
            journal.flush()
    with pytest.raises(DeliveryError):
        journal.close()


@settings(max_examples=30, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), size=st.integers(1, 3_000), data=st.data())
def test_D25_whatever_bytes_a_disk_changes_a_reader_says_one_line(
    place: float, size: int, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "0.db"
    write(path, 50, b"value" * 40)
    content = bytearray(path.read_bytes())
    start = int(place * len(content))
    content[start : start + size] = data.draw(st.binary(min_size=size, max_size=size))
    path.write_bytes(content)
    for suffix in ("-wal", "-shm"):
        path.with_name(f"0.db{suffix}").unlink(missing_ok=True)
    reader = JournalReader(path)
    for look in (reader.bounds, lambda: list(reader.read(0)), lambda: reader.offset_for_time(1), reader.size):
        with suppress(DeliveryError, RetentionLoss):
            look()


@settings(max_examples=15, deadline=None)
@given(steps=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 150), st.booleans()), max_size=6), data=st.data())
def test_a_range_is_the_slice_of_what_was_appended_whatever_was_trimmed(
    steps: list[tuple[int, int, bool]], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("journal") / "0.db"
    written: list[bytes] = []
    begin = 0
    journal = JournalWriter(path, writer=WriterThread(0))
    try:
        for count, trim_to, is_restart in steps:
            new = [b"%d" % (len(written) + n) for n in range(count)]
            for value in new:
                journal.append("h", value)
            written += new
            journal.flush()
            journal.trim(trim_to)
            begin = max(begin, min(trim_to, len(written)))
            until(lambda: journal._trim_to is None, 10)  # or it would trim what comes next  # noqa: B023
            assert JournalReader(path).begin_offset() == begin
            if is_restart:
                journal.close()
                journal = JournalWriter(path, writer=WriterThread(0))
    finally:
        journal.close()
    start = data.draw(st.integers(begin, len(written)))
    stop = data.draw(st.integers(start, len(written) + 2))
    reader = JournalReader(path)
    assert reader.bounds()[:2] == (begin, len(written))
    assert [(r.offset, r.value) for r in reader.read(start, stop)] == list(enumerate(written))[start:stop]
    if begin:
        with pytest.raises(RetentionLoss):
            list(reader.read(begin - 1, begin))


# Writing


def test_append_does_not_wait_for_a_disk_that_stands_still(path: Path) -> None:
    write(path, 1)
    with closing(JournalWriter(path)) as journal, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # the writer's thread now waits for us
        for _ in range(1_000):
            journal.append("h", b"")
        assert JournalReader(path).end_offset() == 1
        other.execute("ROLLBACK")
        journal.flush()
        assert JournalReader(path).end_offset() == 1_001


def test_K2_commits_do_not_wait_for_a_sync_that_takes_long(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    has_begun, may_end = threading.Event(), threading.Event()

    def sync(file: int) -> None:
        has_begun.set()
        assert may_end.wait(10)

    with closing(JournalWriter(path, sync_seconds=0)) as journal:
        journal.append("h", b"first")
        journal.flush()
        monkeypatch.setattr(os, "fsync", sync)
        journal.append("h", b"being synced")
        assert has_begun.wait(10)
        journal.append("h", b"meanwhile")
        until(lambda: JournalReader(path).end_offset() == 3, 10)
        may_end.set()


def test_what_waits_in_memory_has_a_bound(path: Path) -> None:
    write(path, 1)
    with (
        closing(JournalWriter(path, buffer_bytes=10_000)) as journal,
        closing(sqlite3.connect(path, isolation_level=None)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DeliveryError, match=f"journal {path}: 10,100 bytes wait for the disk"):
            for _ in range(1_000):
                journal.append("", bytes(100))
        other.execute("ROLLBACK")
        journal.flush()
        journal.append("", bytes(100))  # it goes on when the disk does
    assert JournalReader(path).end_offset() == 1 + 101 + 1


def test_threads_may_append_together_and_each_keeps_its_order(path: Path) -> None:
    with closing(JournalWriter(path)) as journal:

        def run(name: str) -> None:
            for n in range(2_000):
                journal.append(name, b"%d" % n)

        threads = [threading.Thread(target=run, args=(name,)) for name in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    records = list(JournalReader(path).read(0))
    for name in "abc":
        assert [int(r.value) for r in records if r.header == name] == list(range(2_000))


def test_the_listener_hears_each_new_end(path: Path) -> None:
    ends: list[int] = []
    with closing(JournalWriter(path, on_append=ends.append)) as journal:
        for _ in range(3):
            journal.append("h", b"")
            journal.flush()
    assert ends == [1, 2, 3]


def test_a_closed_journal_says_so_and_may_be_closed_again(path: Path) -> None:
    journal = JournalWriter(path)
    journal.close()
    journal.close()
    with pytest.raises(DeliveryError, match=f"journal {path} is closed"):
        journal.append("h", b"")


# One writer


def test_a_second_writer_is_told_who_the_first_one_is(path: Path) -> None:
    with process(
        "journal = JournalWriter(path); journal.flush(); print('open', flush=True); time.sleep(60)", path
    ) as child:
        assert line(child) == "open"
        with pytest.raises(PartitionBusy, match=rf"journal {path} is being written by process {child.pid}: end"):
            JournalWriter(path)
        assert JournalReader(path).end_offset() == 0  # readers do not mind


def test_a_guest_appends_beside_the_writer_and_follows_it(path: Path) -> None:
    writer = JournalWriter(path)
    with closing(JournalWriter(path, guest=True)) as guest:
        assert guest.host() == os.getpid()
        assert writer.has_guest
        for number in range(40):
            (writer, guest)[number % 2].append("h", b"%d" % number)
            if number % 7 == 0:
                writer.flush()
                guest.flush()
        guest.flush()
        guest.trim(10)  # that is up to the writer
        guest.flush()
        writer.close()
        assert [record.offset for record in JournalReader(path).read(0)] == list(range(40))
        assert sorted(int(record.value) for record in JournalReader(path).read(0)) == list(range(40))
        assert guest.host() is None
        with pytest.raises(PartitionBusy, match="is being written by process"):
            JournalWriter(path)
        guest.append("h", b"40")
        guest.flush()
        assert JournalReader(path).end_offset() == 41
        with closing(JournalWriter(path, guest=True)) as next_one:
            assert next_one.host() == os.getpid()
            assert guest.has_guest
    with closing(JournalWriter(path, guest=True)) as alone:
        assert alone.host() is None and not alone.has_guest


def test_there_is_one_guest_and_the_second_is_told_who(path: Path) -> None:
    busy = rf"journal {path} is about to be taken over by process {os.getpid()}: end that one first"
    with (
        closing(JournalWriter(path)),
        closing(JournalWriter(path, guest=True)),
        pytest.raises(PartitionBusy, match=busy),
    ):
        JournalWriter(path, guest=True)


def test_a_guest_does_not_take_the_process_of_another_machine_for_one_of_ours(path: Path) -> None:
    with closing(JournalWriter(path)):
        lock = path.with_name("0.db.lock")
        lock.write_text("17 elsewhere\n")
        busy = rf"journal {path} is being written by process 17 of elsewhere: end that one first"
        for _ in range(2):
            with pytest.raises(PartitionBusy, match=busy):
                JournalWriter(path, guest=True)


def test_the_lock_of_a_former_version_names_its_process(path: Path) -> None:
    with closing(JournalWriter(path)):
        path.with_name("0.db.lock").write_text("17\n")
        with closing(JournalWriter(path, guest=True)) as guest:
            assert guest.host() == 17


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00\n", b"12 \n\n"])
def test_D28_a_lock_file_that_names_nobody_is_of_an_unknown_process(path: Path, content: bytes) -> None:
    with closing(JournalWriter(path)):
        lock = path.with_name("0.db.lock")
        lock.write_bytes(content)
        named = holder(path, WRITER_ROLE, patience=0.01)
        if named is not None:
            assert named == (12, socket.gethostname())
            return
        for guest in (False, True):
            with pytest.raises(PartitionBusy, match=rf"journal {path} is being written by an unknown process: end"):
                JournalWriter(path, guest=guest)


def test_D28_a_lock_is_held_also_when_a_full_disk_takes_no_name(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    path.parent.mkdir()
    path.with_name("0.db.lock").write_text("17 elsewhere\n")
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        seat = WriterSeat(path)
    assert holder(path, WRITER_ROLE, patience=0.01) is None
    with pytest.raises(PartitionBusy, match="an unknown process"):
        WriterSeat(path)
    seat.release()
    WriterSeat(path).release()
    assert holder(path, WRITER_ROLE) == (os.getpid(), socket.gethostname())


def test_D28_a_longer_name_of_a_former_holder_leaves_nothing(path: Path) -> None:
    path.parent.mkdir()
    path.with_name("0.db.lock").write_text("1 " + 200 * "x" + "\n")
    WriterSeat(path).release()
    assert path.with_name("0.db.lock").read_text() == f"{os.getpid()} {socket.gethostname()}\n"


def test_a_guest_trims_only_when_the_partition_is_its_own(path: Path) -> None:
    options: Any = {"retention_bytes": 1, "retain_seconds": 0.01}
    with closing(JournalWriter(path)) as writer, closing(JournalWriter(path, guest=True, **options)) as guest:
        for _ in range(20):
            guest.append("h", b"value")
            guest.flush()
        time.sleep(0.1)
        assert JournalReader(path).begin_offset() == 0
        writer.close()
        assert guest.host() is None
        until(lambda: JournalReader(path).begin_offset() > 0, 10)


def test_all_that_was_flushed_survives_kill_9_and_the_partition_is_free(path: Path) -> None:
    append = """
journal = JournalWriter(path)
for n in range(10**9):
    journal.append("h", b"%d" % n)
    if n % 50 == 49:
        journal.flush()
        print(n + 1, flush=True)
"""
    with process(append, path) as child:
        flushed = [int(line(child)) for _ in range(40)][-1]
        child.kill()
        child.wait()
        assert child.stdout is not None
        flushed = max([flushed, *(int(rest) for rest in child.stdout.read().split("\n")[:-1])])
    read = list(JournalReader(path).read(0))  # before any writer has repaired anything
    assert len(read) >= flushed
    assert [int(r.value) for r in read] == list(range(len(read)))
    write(path, 1)
    assert JournalReader(path).end_offset() == len(read) + 1
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_half_made_file_of_a_killed_writer_is_made_anew(path: Path) -> None:
    path.parent.mkdir()
    path.with_name("0.db.new").write_bytes(b"half")
    path.with_name("0.db.new-wal").write_bytes(b"half")
    assert JournalReader(path).end_offset() == 0
    write(path, 2)
    assert offsets(path) == [0, 1]
    assert not list(path.parent.glob("*.new*"))


# Retention


def test_trimmed_space_returns_to_the_disk(path: Path) -> None:
    with closing(JournalWriter(path)) as journal:
        for _ in range(40):
            journal.append("h", os.urandom(MIB))
        journal.append("h", b"kept")
        journal.flush()
        journal.trim(40)
        until(lambda: path.stat().st_size < 6 * MIB, 10)
        assert [r.value for r in JournalReader(path).read(40)] == [b"kept"]


def test_records_older_than_the_retention_go_also_when_nothing_is_appended(path: Path) -> None:
    hour = 3_600 * SECOND
    time_ = hour
    with closing(
        JournalWriter(
            path, clock=lambda: time_, monotonic=lambda: time_ / SECOND, retention_hours=2, retain_seconds=0.01
        )
    ) as journal:
        journal.append("h", b"at 1")
        journal.flush()
        time_ = 2 * hour
        journal.append("h", b"at 2")
        journal.flush()
        assert JournalReader(path).begin_offset() == 0
        time_ = 3 * hour + 1
        until(lambda: JournalReader(path).begin_offset() == 1, 10)
        time_ = 4 * hour
        journal.flush()
        assert [r.value for r in JournalReader(path).read(1)] == [b"at 2"]


def test_the_oldest_records_go_when_there_are_too_many_bytes(path: Path) -> None:
    with closing(JournalWriter(path, retention_bytes=4 * MIB, retain_seconds=0.01)) as journal:
        for n in range(200):
            journal.append("h", bytes([n]) * 100_000)
        until(lambda: JournalReader(path).begin_offset() > 0, 10)
        journal.flush()
    kept = list(JournalReader(path).read(JournalReader(path).begin_offset()))
    assert kept[-1].offset == 199
    assert 3 * MIB < sum(len(r.value) for r in kept) < 4 * MIB


# Failures of the disk


def test_a_full_disk_is_one_line_with_file_and_remedy_and_loses_nothing_stored(path: Path) -> None:
    fill = """
import resource
from coin_platform.errors import DeliveryError
journal = JournalWriter(path)
journal.append("h", b"safe")
journal.flush()
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
for call in (lambda: [(journal.append("h", bytes(100_000)), journal.flush()) for _ in range(100)],
             lambda: journal.append("h", b""), journal.flush, journal.close):
    try:
        call()
        print("no error")
    except DeliveryError as error:
        print(error)
journal.close()
"""
    with process(fill, path) as child:
        lines = [line(child) for _ in range(4)]
        assert child.wait() == 0
    assert len(set(lines)) == 1
    assert lines[0].startswith(f"journal {path}: ")
    assert "free space on that disk" in lines[0]
    records = list(JournalReader(path).read(0))
    assert records[0].value == b"safe"
    write(path, 1)  # once there is room, a new writer goes on where the stored ones end
    assert offsets(path) == list(range(len(records) + 1))


def test_a_folder_that_cannot_be_made_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DeliveryError, match=r"file/0\.db: .*COIN_JOURNAL_DIR"):
        JournalWriter(tmp_path / "file" / "0.db")


def test_a_file_that_is_no_journal_is_an_error_of_the_next_call_and_stays_untouched(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a journal" * 1_000)
    journal = JournalWriter(path)
    with pytest.raises(DeliveryError, match=f"journal {path}: file is not a database; .*move it away"):
        for _ in range(2):  # the first call may come before the writer has looked
            journal.append("h", b"")
            journal.flush()
    with pytest.raises(DeliveryError, match="file is not a database"):
        journal.close()
    assert path.read_bytes() == b"not a journal" * 1_000


def test_a_file_deleted_while_it_is_written_is_noticed(path: Path) -> None:
    journal = JournalWriter(path)
    journal.append("h", b"")
    journal.flush()
    for file in path.parent.glob("0.db*"):
        file.unlink()
    journal.append("h", b"")
    with pytest.raises(DeliveryError, match=f"journal {path}: the file was deleted"):
        journal.flush()
    with pytest.raises(DeliveryError, match="deleted"):
        journal.close()


def test_an_error_of_the_listener_is_not_swallowed(path: Path) -> None:
    def listen(end: int) -> None:
        raise ValueError(f"cannot take {end}")

    journal = JournalWriter(path, on_append=listen)
    journal.append("h", b"")
    with pytest.raises(DeliveryError, match="cannot take 1"):
        journal.flush()
    with pytest.raises(DeliveryError, match="cannot take 1"):
        journal.close()


# Positions


def test_positions_are_kept_by_group_topic_and_partition(tmp_path: Path) -> None:
    positions = Positions(tmp_path / "new" / ".positions.db")
    assert positions.committed("g", "t", 0) is None
    positions.commit("g", "t", 0, 5)
    positions.commit("g", "t", 1, 6)
    positions.commit("other", "t", 0, 7)
    positions.commit("g", "t", 0, 4)
    again = Positions(tmp_path / "new" / ".positions.db")
    assert [again.committed("g", "t", 0), again.committed("g", "t", 1), again.committed("other", "t", 0)] == [4, 6, 7]
    assert again.committed("g", "t2", 0) is None


def test_two_processes_commit_positions_at_once(tmp_path: Path) -> None:
    path = tmp_path / ".positions.db"
    commit = "for n in range(50): Positions(path).commit(sys.argv[2], 't', 0, n)\nprint('done')"
    with process(commit, path, "a") as first, process(commit, path, "b") as second:
        assert [line(first), line(second)] == ["done", "done"]
    assert [Positions(path).committed(group, "t", 0) for group in "ab"] == [49, 49]


def test_a_position_that_cannot_be_stored_is_an_error_with_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DeliveryError, match=r"file/\.positions\.db: .*COIN_JOURNAL_DIR"):
        Positions(tmp_path / "file" / ".positions.db").commit("g", "t", 0, 1)


@pytest.mark.parametrize("ill", [_cut, _overwritten, _emptied])
def test_D25_a_damaged_positions_file_is_set_aside_and_a_new_one_begun(
    tmp_path: Path, ill: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / ".positions.db"
    before = Positions(path)
    for number in range(200):
        before.commit(f"group {number}", "t", 0, 5)
    first, second = Positions(path), Positions(path)
    assert first.committed("group 1", "t", 0) == second.committed("group 1", "t", 0) == 5
    del before
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    ill(path)
    assert first.committed("group 1", "t", 0) is None
    second.commit("group 1", "t", 0, 7)
    first.commit("group 2", "t", 0, 8)
    assert [Positions(path).committed(f"group {number}", "t", 0) for number in (1, 2, 3)] == [7, 8, None]
    assert caplog.text.count(f"it was moved to {path}.damaged, and a new one is begun") == 1
    assert path.with_name(".positions.db.damaged").exists()


def test_D25_a_position_that_is_no_number_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / ".positions.db"
    Positions(path).commit("g", "t", 0, 5)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE position SET next_offset = 'five'")
    assert Positions(path).committed("g", "t", 0) is None
    assert path.with_name(".positions.db.damaged").exists()


def test_D25_a_folder_where_the_positions_should_be_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / ".positions.db"
    path.mkdir()
    line = rf"journal {path}: unable to open database file; a folder is [^\n]*move it away"
    with pytest.raises(DeliveryError, match=line):
        Positions(path).committed("g", "t", 0)
    with pytest.raises(DeliveryError, match=line):
        Positions(path).commit("g", "t", 0, 1)


def make_former(path: Path) -> None:
    """Make the journal one of a former version, which gave it no identity."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("DROP TABLE identity")


def test_D1_a_journal_of_a_former_version_is_read_and_gets_an_identity_from_its_next_writer(path: Path) -> None:
    with closing(JournalWriter(path)) as journal:
        journal.append("h", b"1")
    make_former(path)
    reader = JournalReader(path)
    assert reader.identity() is None and [record.value for record in reader.read(0)] == [b"1"]
    with closing(JournalWriter(path)) as journal:
        journal.append("h", b"2")
    name = reader.identity()
    assert name and [record.value for record in reader.read(0)] == [b"1", b"2"]
    with closing(JournalWriter(path)) as journal:
        journal.append("h", b"3")
    assert reader.identity() == JournalReader(path).identity() == name
