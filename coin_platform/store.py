"""Objects by key, each replaced whole by compare-and-swap: the contract, a folder, and memory."""

import fcntl
import hashlib
import io
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from coin_platform.errors import Conflict, LakeError

ABANDONED = 3600.0  # seconds after which a temporary file has no writer any more


class Stored(NamedTuple):
    """An object as it was read: its bytes (or their end), and what names this version of it."""

    data: bytes
    etag: str
    size: int
    sha256: str


class Store(Protocol):
    """Where objects live. Every method raises `LakeError`, one line with the remedy, when the place cannot be used."""

    @property
    def scan_options(self) -> Mapping[str, str]:
        """The storage options with which polars opens a `source`."""

    def get(self, key: str, last: int | None = None) -> Stored | None:
        """Return an object, or only its `last` bytes; `None` when there is none."""

    def put(self, key: str, data: bytes, if_match: str | None) -> str:
        """Store an object whole if it is still the version `if_match` (`None`: if there is none); return its etag.

        Raises `Conflict` when it is not, and then nothing was changed.
        """

    def delete(self, key: str) -> None:
        """Remove an object, if there is one."""

    def list(self, prefix: str, after: str = "") -> Iterator[str]:
        """Yield the keys that begin with `prefix` and come after `after`, in order."""

    def uri(self, key: str) -> str:
        """Return the address of an object, for people."""

    def source(self, key: str) -> str | Path | io.BytesIO:
        """Return what polars scans."""


def digest(data: bytes) -> str:
    """Return the sha256 of some bytes in hex."""
    return hashlib.sha256(data).hexdigest()


class MemoryStore:
    """Objects of this process, for tests and trials."""

    def __init__(self) -> None:
        self.scan_options: Mapping[str, str] = {}
        self._objects: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def get(self, key: str, last: int | None = None) -> Stored | None:
        """Return an object, or only its `last` bytes."""
        data = self._objects.get(key)
        return None if data is None else _stored(data, last)

    def put(self, key: str, data: bytes, if_match: str | None) -> str:
        """Store an object if it is still the version `if_match`."""
        with self._lock:
            current = self.get(key)
            _compare(key, current, if_match)
            self._objects[key] = data
        return digest(data)

    def delete(self, key: str) -> None:
        """Remove an object, if there is one."""
        self._objects.pop(key, None)

    def list(self, prefix: str, after: str = "") -> Iterator[str]:
        """Yield keys in order."""
        return (key for key in sorted(self._objects) if key.startswith(prefix) and key > after)

    def uri(self, key: str) -> str:
        """Return `memory:KEY`."""
        return f"memory:{key}"

    def source(self, key: str) -> io.BytesIO:
        """Return the object as a file."""
        return io.BytesIO(self._objects[key])


class FolderStore:
    """Files of a folder. A file appears by one rename, under a lock that every writer of the folder takes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.scan_options: Mapping[str, str] = {}

    def get(self, key: str, last: int | None = None) -> Stored | None:
        """Return a file's bytes, or only its `last` ones."""
        with self._readable_errors():
            try:
                return _stored((self.root / key).read_bytes(), last)
            except FileNotFoundError:
                return None

    def put(self, key: str, data: bytes, if_match: str | None) -> str:
        """Store a file if it is still the version `if_match`: killed anywhere, it leaves the old one or the new."""
        path = self.root / key
        with self._readable_errors():
            self._make_folder(path.parent)
            _remove_abandoned(path.parent)
            with _temporary(path, data) as temporary, self._lock():
                _compare(key, self.get(key), if_match)
                temporary.replace(path)
                _sync(path.parent)
        return digest(data)

    def delete(self, key: str) -> None:
        """Remove a file, if there is one."""
        with self._readable_errors():
            (self.root / key).unlink(missing_ok=True)

    def list(self, prefix: str, after: str = "") -> Iterator[str]:
        """Yield the files in order; hidden ones are ours alone."""
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
            _sync(folder)  # or a power loss takes the new folder and the file with it

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Hold the folder's lock; the system lets go of a killed writer's."""
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
            where, reason = error.filename or self.root, error.strerror or error
            raise LakeError(
                f"{where}: {reason}; make room and access there, or set COIN_LAKE_URL to another place"
            ) from error


def _stored(data: bytes, last: int | None) -> Stored:
    sha256 = digest(data)
    return Stored(data if last is None else data[-last:], sha256, len(data), sha256)


def _compare(key: str, current: Stored | None, if_match: str | None) -> None:
    if (current.etag if current else None) != if_match:
        raise Conflict(f"{key}: another writer committed first; read it again and retry")


@contextmanager
def _temporary(path: Path, data: bytes) -> Iterator[Path]:
    """Write bytes beside `path`, safe on the disk, under a name that no reader takes for a table."""
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
            if path.stat().st_mtime < time.time() - ABANDONED:
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
    """Yield files in the order of their keys, without opening folders that cannot hold one that is wanted."""
    entries: list[tuple[str, Path]] = []
    with _vanishing():
        entries = [(f"{at}{path.name}{'/' * path.is_dir()}", path) for path in folder.iterdir() if path.name[0] != "."]
    for key, path in sorted(entries):
        if not key.endswith("/"):
            if key.startswith(prefix) and key > after:
                yield key
        elif (key.startswith(prefix) or prefix.startswith(key)) and (key > after or after.startswith(key)):
            yield from _walk(path, key, prefix, after)
