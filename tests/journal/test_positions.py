"""Positions of consumer groups, also in damaged files and by several processes."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from coin_platform.errors import DeliveryError
from coin_platform.journal import JournalReader, JournalWriter, Positions
from tests.kit.journals import cut, emptied, line, overwritten, process


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


@pytest.mark.parametrize("ill", [cut, overwritten, emptied])
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
