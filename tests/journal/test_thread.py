"""One thread writes the journals of a process: together, and none of them is held up by another's trouble."""

import fcntl
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from coin_platform.errors import DeliveryError
from coin_platform.journal import JournalReader, JournalWriter, WriterThread, flush_all
from coin_platform.journal.lock import WRITER_ROLE
from tests.kit.waiting import until


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return [tmp_path / "topic" / f"{number}.db" for number in range(12)]


@pytest.fixture
def journals(paths: list[Path]) -> Iterator[list[JournalWriter]]:
    writer = WriterThread()
    with ExitStack() as stack:
        yield [stack.enter_context(closing(JournalWriter(path, writer=writer))) for path in paths]


def writing() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("writer ")]


def values(path: Path) -> list[bytes]:
    return [record.value for record in JournalReader(path).read(0)]


def test_all_journals_are_written_by_one_thread_that_ends_with_the_last(paths: list[Path]) -> None:
    before, writer = len(writing()), WriterThread()
    for round_ in range(2):  # a writer that has nothing left begins again
        journals = [JournalWriter(path, writer=writer) for path in paths]
        for number, journal in enumerate(journals):
            journal.append("h", b"%d" % number)
        assert len(writing()) == before + 1
        flush_all(journals)
        for journal in journals:
            journal.close()
        until(lambda: len(writing()) == before, 10)
        assert [values(path) for path in paths] == [[b"%d" % number] * (round_ + 1) for number in range(len(paths))]


def test_what_came_in_the_20_ms_after_the_first_record_is_committed_with_it(paths: list[Path]) -> None:
    times: list[float] = []
    first, second = (
        JournalWriter(path, writer=writer, on_append=lambda _: times.append(time.monotonic()))
        for writer in [WriterThread(1.0)]
        for path in paths[:2]
    )
    with closing(first), closing(second):
        for journal in (first, second):
            journal.append("h", b"the file is open")
        flush_all([first, second])
        times.clear()
        began = time.monotonic()
        first.append("h", b"")
        time.sleep(0.5)
        second.append("h", b"")
        until(lambda: len(times) == 2, 10)
        assert times[0] - began >= 1.0
        assert times[1] - began < 1.4  # not a second after its own record


def test_who_flushes_one_journal_does_not_wait_for_the_others(paths: list[Path]) -> None:
    writer = WriterThread(60)
    with (
        closing(JournalWriter(paths[0], writer=writer)) as patient,
        closing(JournalWriter(paths[1], writer=writer)) as hasty,
    ):
        patient.append("h", b"waits")
        hasty.append("h", b"now")
        hasty.flush()
        assert values(paths[1]) == [b"now"]


def test_a_journal_that_fails_ends_alone(paths: list[Path], journals: list[JournalWriter]) -> None:
    def refuse(end: int) -> None:
        raise ValueError(f"cannot take {end}")

    broken = JournalWriter(paths[0].with_name("broken.db"), writer=journals[0]._writer, on_append=refuse)
    broken.append("h", b"")
    with pytest.raises(DeliveryError, match="cannot take 1"):
        broken.flush()
    with pytest.raises(DeliveryError, match="cannot take 1"):
        broken.close()
    for journal in journals:
        journal.append("h", b"goes on")
    flush_all(journals)
    assert [values(path) for path in paths] == [[b"goes on"]] * len(paths)


def test_a_guest_whose_host_has_made_no_file_yet_holds_up_nobody(
    paths: list[Path], journals: list[JournalWriter], tmp_path: Path
) -> None:
    path = tmp_path / "other" / "0.db"
    path.parent.mkdir()
    with path.with_name(f"{path.name}.{WRITER_ROLE}").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(f"{os.getpid()} {socket.gethostname()}\n")
        lock.flush()
        guest = JournalWriter(path, writer=journals[0]._writer, guest=True)
        guest.append("h", b"waits")
        journals[0].append("h", b"goes on")
        journals[0].flush()
        assert values(paths[0]) == [b"goes on"]
        assert not path.exists()
    guest.flush()  # the host has ended
    assert values(path) == [b"waits"]
    guest.close()
