"""Stores how far each consumer group has come in each partition of a folder of journals."""

import fcntl
import logging
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from coin_platform.errors import DeliveryError
from coin_platform.journal.failures import explain, is_damaged
from coin_platform.journal.file import BUSY_SECONDS
from coin_platform.journal.reader import KeptConnection, use_wal

logger = logging.getLogger(__name__)
T = TypeVar("T")


class Positions:
    """The next offset of each group and partition, in a small file beside the journals. Any process may write it.

    A damaged file is moved to a name that ends in `.damaged`, and a new one is begun. Consumers then find in their own
    results how far they had come. Each method raises `DeliveryError`, one line, if the file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection = KeptConnection(path, self._connect)

    def committed(self, group: str, topic: str, partition: int) -> int | None:
        """Return the next offset that a group will read; `None` if it never committed one."""
        query = "SELECT next_offset FROM position WHERE reader = ? AND topic = ? AND part = ?"

        def ask(db: sqlite3.Connection) -> int | None:
            match db.execute(query, (group, topic, partition)).fetchone():
                case None:
                    return None
                case (int(offset),):
                    return offset
            raise sqlite3.DatabaseError("a position cannot be read")

        return self._ask(ask) if self.path.exists() else None

    def commit(self, group: str, topic: str, partition: int, offset: int) -> None:
        """Store the next offset that a group will read."""
        row = (group, topic, partition, offset)
        self._ask(lambda db: db.execute("INSERT OR REPLACE INTO position VALUES (?, ?, ?, ?)", row))

    def _ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """Return the answer to a query. If the file is damaged, set it aside and ask in a new one."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with self._connection.use() as db:
                    return question(db)
            except sqlite3.Error as error:
                if not is_damaged(error):
                    raise
                self._set_aside(error)
                with self._connection.use() as db:
                    return question(db)
        except (OSError, sqlite3.Error) as error:
            raise DeliveryError(explain(self.path, error)) from error

    def _set_aside(self, error: sqlite3.Error) -> None:
        """Move a damaged file away, unless another process has just done so."""
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)  # freed by the close below
            if not _is_sound(self.path):
                target = self.path.with_name(f"{self.path.name}.damaged")
                self.path.replace(target)  # first, or another process could delete the log of the new file
                for suffix in ("-wal", "-shm"):
                    self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
                logger.error("%s; it was moved to %s, and a new one is begun", explain(self.path, error), target)
        finally:
            os.close(folder)

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, isolation_level=None, timeout=BUSY_SECONDS, check_same_thread=False)
        use_wal(db)
        db.execute("PRAGMA synchronous = NORMAL")  # a power cut may cost the last positions: that work is done again
        db.execute(
            "CREATE TABLE IF NOT EXISTS position (reader TEXT, topic TEXT, part INTEGER, "
            "next_offset INTEGER NOT NULL, PRIMARY KEY (reader, topic, part)) WITHOUT ROWID"
        )
        return db


def _is_sound(path: Path) -> bool:
    try:
        with closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as db:
            db.execute("SELECT reader, topic, part, next_offset FROM position LIMIT 1").fetchall()
            strange = "SELECT 1 FROM position WHERE typeof(next_offset) != 'integer'"
            return db.execute("PRAGMA quick_check").fetchall() == [("ok",)] and not db.execute(strange).fetchall()
    except sqlite3.DatabaseError as error:
        if not is_damaged(error):
            raise
        return False
