"""What a failure of a journal's file means: one line with a remedy, a full disk, or a damaged file."""

import errno
import sqlite3
from pathlib import Path

_FULL = "free space on that disk, or let less be kept: COIN_JOURNAL_HOURS, COIN_JOURNAL_BYTES, COIN_SPOOL_BYTES"
_DENIED = "make the file and its folder writable for this user, or choose another COIN_JOURNAL_DIR"
_REMEDIES = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: _FULL,
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.EROFS: _DENIED,
    errno.ENOTDIR: "a file is where a folder should be: choose another COIN_JOURNAL_DIR",
    errno.EEXIST: "a file is where a folder should be: choose another COIN_JOURNAL_DIR",
    errno.EISDIR: "a folder is where a file should be: move it away",
}
_DAMAGED = "the file is damaged: move it away, a new one will be begun"
_FOREIGN = "this is not a journal: move it away, a new one will be begun"
_SQLITE_REMEDIES = {
    sqlite3.SQLITE_ERROR: _FOREIGN,  # a table or a column is missing
    sqlite3.SQLITE_CONSTRAINT: _DAMAGED,
    sqlite3.SQLITE_MISMATCH: _DAMAGED,
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_IOERR: f"the disk refused: check its health, quotas and limits; {_FULL}",
    sqlite3.SQLITE_READONLY: _DENIED,
    sqlite3.SQLITE_PERM: _DENIED,
    sqlite3.SQLITE_CANTOPEN: _DENIED,
    sqlite3.SQLITE_BUSY: "end the program that has this file open for writing",
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _FOREIGN,
}
_FULL_CODES = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE)  # the second: a quota, or a limit of file sizes


def explain(path: Path, error: Exception) -> str:
    """Return the one line that tells of a failure: the file, what happened, and what to do."""
    if path.is_dir():
        return f"journal {path}: {error}; {_REMEDIES[errno.EISDIR]}"
    if isinstance(error, OSError):
        return f"journal {path}: {error.strerror or error}; {_REMEDIES.get(error.errno or 0, 'check the disk')}"
    return (
        f"journal {path}: {error or type(error).__name__}; {_SQLITE_REMEDIES.get(_code(error), 'see the cause above')}"
    )


def is_damaged(error: Exception) -> bool:
    """Whether a failure means that the file does not hold what a journal wrote to it."""
    return _SQLITE_REMEDIES.get(_code(error)) in (_DAMAGED, _FOREIGN)


def _code(error: Exception) -> int:
    """Return SQLite's code of a failure. Python's module gives none where a value cannot be read: that is damage."""
    default = sqlite3.SQLITE_CORRUPT if isinstance(error, sqlite3.DatabaseError) else sqlite3.SQLITE_OK
    return (
        int(getattr(error, "sqlite_errorcode", default)) & 0xFF
    )  # without the upper bits, which divide an error further


def is_full(error: Exception) -> bool:
    """Whether a failure to write means that the disk is full, or that a quota or limit is reached."""
    return getattr(error, "sqlite_errorcode", 0) in _FULL_CODES or getattr(error, "errno", 0) == errno.ENOSPC
