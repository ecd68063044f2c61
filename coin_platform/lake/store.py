"""Objects by key, each replaced whole by compare-and-swap: the contract, and a store in memory."""

import hashlib
import io
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

from coin_platform.errors import Conflict


class Stored(NamedTuple):
    """An object as it was read: its bytes or their end, its size in bytes, and the etag of this version."""

    data: bytes
    etag: str
    size: int
    sha256: str


class Store(Protocol):
    """A place for objects. Every method raises `LakeError`, one line with the remedy, when the place cannot be used."""

    @property
    def scan_options(self) -> Mapping[str, str]:
        """The storage options with which polars opens a `source`."""

    def get(self, key: str, last: int | None = None) -> Stored | None:
        """Return an object, or only its `last` bytes. Return `None` when there is no object."""

    def put(self, key: str, data: bytes, if_match: str | None) -> str:
        """Store an object whole if the stored version is still `if_match` (`None`: no object), and return its etag.

        Raises `Conflict` when the stored version is another one. Nothing is changed then.
        """

    def delete(self, key: str) -> None:
        """Remove an object, if there is one."""

    def list(self, prefix: str, after: str = "") -> Iterator[str]:
        """Yield the keys that begin with `prefix` and come after `after`, in order."""

    def uri(self, key: str) -> str:
        """Return the address of an object, for people."""

    def source(self, key: str) -> str | Path | io.BytesIO:
        """Return the source that polars scans."""


def digest(data: bytes) -> str:
    """Return the SHA-256 of bytes in hex."""
    return hashlib.sha256(data).hexdigest()


class MemoryStore:
    """Keeps objects in this process, for tests and trials."""

    def __init__(self) -> None:
        self.scan_options: Mapping[str, str] = {}
        self._objects: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def get(self, key: str, last: int | None = None) -> Stored | None:
        """Return an object, or only its `last` bytes."""
        data = self._objects.get(key)
        return None if data is None else stored_of(data, last)

    def put(self, key: str, data: bytes, if_match: str | None) -> str:
        """Store an object if the stored version is still `if_match`."""
        with self._lock:
            current = self.get(key)
            compare(key, current, if_match)
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


def stored_of(data: bytes, last: int | None) -> Stored:
    """Return bytes as an object whose etag is their SHA-256."""
    sha256 = digest(data)
    return Stored(data if last is None else data[-last:], sha256, len(data), sha256)


def compare(key: str, current: Stored | None, if_match: str | None) -> None:
    """Raise `Conflict` unless the stored version is `if_match`."""
    if (current.etag if current else None) != if_match:
        raise Conflict(f"{key}: another writer committed first; read it again and retry")
