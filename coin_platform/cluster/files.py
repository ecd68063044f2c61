"""The store of one machine: each value is a file, replaced whole."""

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote, unquote

from coin_platform.clock import wall
from coin_platform.cluster.contract import ClusterEntry
from coin_platform.cluster.packed import Packed, unpack
from coin_platform.errors import ClusterError, VersionConflict
from coin_platform.model import SECOND

LOOK_SECONDS = 0.5  # between two looks at the files; a look costs less than 1 ms
LOCK_SECONDS = 10.0  # to wait for other writers, which need milliseconds each, unless the disk is very slow
_LOCK_LOOK_SECONDS = 0.01


class FileStore:
    """Keeps `<kind>/<name>` as a file below a folder. A writer takes the folder's lock; a reader takes none.

    A process that is killed at any point leaves the old file or the new one.
    """

    look_seconds = LOOK_SECONDS

    def __init__(self, root: Path) -> None:
        """The folder is made with the first value."""
        self.place = str(root)
        self._root = root

    def read(self, key: str) -> ClusterEntry | None:
        """Return the entry of a file. An expired one is none."""
        path = self._path(key)
        with self._readable_errors():
            try:
                packed = unpack(str(path), path.read_bytes())
            except FileNotFoundError:
                return None
        return packed.entry if not packed.expires or packed.expires > wall() else None

    def read_all(self, prefix: str) -> dict[str, ClusterEntry]:
        """Return the entries of a folder. Expired files are removed, and what is not ours is left out."""
        entries = {}
        with self._readable_errors():
            for path in self._files(prefix):
                key = f"{prefix}{unquote(path.name)}"
                with suppress(ClusterError):
                    entry = self.read(key)
                    if entry is not None:
                        entries[key] = entry
                    else:
                        path.unlink(missing_ok=True)  # if it was announced just now, that is repeated in a second
        return entries

    def swap(self, key: str, value: bytes, expected: int, version: int) -> None:
        """Replace a file under the folder's lock, and sync it to the disk."""
        path = self._path(key)
        with self._readable_errors(), self._lock():
            stored = self.read(key)
            if (stored.version if stored else 0) != expected:
                raise VersionConflict(key, stored.version if stored else 0)
            _replace(path, Packed(ClusterEntry(version, value)).pack(), is_synced=True)

    def announce(self, key: str, value: bytes, seconds: float) -> None:
        """Replace a file. It is not synced: after a power loss nobody misses it."""
        path = self._path(key)
        with self._readable_errors():
            if seconds <= 0:
                path.unlink(missing_ok=True)
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            _replace(path, Packed(ClusterEntry(0, value), wall() + int(seconds * SECOND)).pack(), is_synced=False)

    def changes(self) -> "Looks":
        """Return hints that come every `LOOK_SECONDS`."""
        return Looks(self.look_seconds)

    def close(self) -> None:
        """Nothing is held open."""

    def _path(self, key: str) -> Path:
        kind, _, name = key.partition("/")
        return self._root / quote(kind, safe="") / quote(name, safe="")

    def _files(self, prefix: str) -> list[Path]:
        folder = self._root / quote(prefix.rstrip("/"), safe="")
        if not folder.exists():
            return []
        return sorted(path for path in folder.iterdir() if path.name[0] != ".")

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Hold the folder's lock. The system releases the lock of a killed writer."""
        self._root.mkdir(parents=True, exist_ok=True)
        handle = os.open(self._root / ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
        try:
            self._acquire(handle)
            yield
        finally:
            os.close(handle)

    def _acquire(self, handle: int) -> None:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ClusterError(
                        f"{self._root}/.lock: another process holds it for {LOCK_SECONDS:g} s; end that process"
                    ) from None
                time.sleep(_LOCK_LOOK_SECONDS)

    @contextmanager
    def _readable_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            path, reason = error.filename or self._root, error.strerror or error
            raise ClusterError(f"{path}: {reason}; make room and access there") from error


class Looks:
    """Hints that come at regular times, whether something changed or not."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._closed = threading.Event()

    def wait(self, seconds: float) -> None:
        """Return after the time between two looks, or earlier after `seconds`."""
        self._closed.wait(min(seconds, self._seconds))

    def close(self) -> None:
        """End the wait."""
        self._closed.set()


def _replace(path: Path, data: bytes, is_synced: bool) -> None:
    """Replace a file whole. Only one writer at a time may replace it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        if is_synced:
            os.fsync(file.fileno())
    temporary.replace(path)
    if is_synced:
        handle = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
