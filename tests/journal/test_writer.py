"""The journal keeps what it took, in order, through kills, full disks, trims and restarts."""

import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from coin_platform.errors import DeliveryError
from coin_platform.journal import JournalReader, JournalWriter
from coin_platform.model import SECOND
from tests.kit.journals import MIB, line, offsets, process, write
from tests.kit.waiting import until


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
