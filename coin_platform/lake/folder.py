"""Objects in a folder of this machine, each replaced whole by compare-and-swap."""

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from coin_platform.errors import LakeError
from coin_platform.lake.store import Stored, compare, digest, stored_of

ABANDONED_SECONDS = 3600.0  # a temporary file this old has no writer any more: a write takes seconds


class FolderStore:
    """Keeps objects as files. A file appears by one rename, under a lock that every writer of the folder takes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.scan_options: Mapping[str, str] = {}

    def get(self, key: str, last: int | None = None) -> Stored | None:
        """Return a file's bytes, or only its `last` bytes."""
        with self._readable_errors():
            try:
                return stored_of((self.root / key).read_bytes(), last)
            except FileNotFoundError:
                return None

    def put(self, key: str, data: bytes, if_match: str | None) -> str:
        """Store a file if the stored version is still `if_match`.

        A process that is killed at any point leaves the old file or the new one.
        """
        path = self.root / key
        with self._readable_errors():
            self._make_folder(path.parent)
            _remove_abandoned(path.parent)
            with _temporary(path, data) as temporary, self._lock():
                compare(key, self.get(key), if_match)
                temporary.replace(path)
                _sync(path.parent)
        return digest(data)

    def delete(self, key: str) -> None:
        """Remove a file, if there is one."""
        with self._readable_errors():
            (self.root / key).unlink(missing_ok=True)

    def list(self, prefix: str, after: str = "") -> Iterator[str]:
        """Yield the keys in order. Hidden files are no objects."""
        with self._readable_errors():
            yield from _walk(self.root, "", prefix, after)

    def uri(self, key: str) -> str:
        """Return the file's address, `file:///…`."""
        return f"file://{self.root.absolute() / key}"  # as_uri() would write each = as %3D

    def source(self, key: str) -> Path:
        """Return the file's path."""
        return self.root / key

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        folder.mkdir(parents=True, exist_ok=True)
        while folder != self.root:
            folder = folder.parent
            _sync(folder)  # without this a power loss may take the new folder and its file

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Hold the folder's lock. The system releases the lock of a killed writer."""
        handle = os.open(self.root / ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    @contextmanager
    def _readable_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            path, reason = error.filename or self.root, error.strerror or error
            raise LakeError(
                f"{path}: {reason}; make room and access there, or set COIN_LAKE_URL to another place"
            ) from error


@contextmanager
def _temporary(path: Path, data: bytes) -> Iterator[Path]:
    """Write bytes to a hidden file beside `path`, and sync it to the disk."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), 0o644)  # mkstemp's 0600 would shut out other users' readers
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _remove_abandoned(folder: Path) -> None:
    for path in folder.glob(".*.tmp"):
        with _vanishing():
            if path.stat().st_mtime < time.time() - ABANDONED_SECONDS:
                path.unlink()


@contextmanager
def _vanishing() -> Iterator[None]:
    """Allow that another writer removes the file first."""
    try:
        yield
    except FileNotFoundError:
        return


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _walk(folder: Path, at: str, prefix: str, after: str) -> Iterator[str]:
    """Yield keys in order. Folders whose keys cannot match are not opened."""
    entries: list[tuple[str, Path]] = []
    with _vanishing():
        entries = [(f"{at}{path.name}{'/' * path.is_dir()}", path) for path in folder.iterdir() if path.name[0] != "."]
    for key, path in sorted(entries):
        if not key.endswith("/"):
            if key.startswith(prefix) and key > after:
                yield key
        elif (key.startswith(prefix) or prefix.startswith(key)) and (key > after or after.startswith(key)):
            yield from _walk(path, key, prefix, after)
