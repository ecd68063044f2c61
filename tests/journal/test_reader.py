"""Reading a journal: offsets and times, beside its writer, and files that are damaged."""

import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coin_platform.errors import DeliveryError, RetentionLoss
from coin_platform.journal import JournalReader, JournalWriter, WriterThread
from tests.kit.journals import MIB, cut, emptied, line, offsets, process, write
from tests.kit.waiting import until


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


def _of_another_kind(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE other (a)")


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


ILLS = (emptied, _of_another_kind, cut, _a_folder, _without_a_head, _of_strange_values, _with_a_hole)
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
