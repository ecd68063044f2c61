"""One process writes a partition, one guest waits for it, and both are named."""

import errno
import os
import socket
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from coin_platform.errors import PartitionBusy
from coin_platform.journal import JournalReader, JournalWriter
from coin_platform.journal.lock import WRITER_ROLE, WriterSeat, holder
from tests.kit.journals import line, offsets, process, write
from tests.kit.waiting import until


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
