"""A store whose last good values outlive it: what a cluster says when the store is away, empty or holds nonsense."""

import logging
import threading
from collections.abc import Callable

from coin_platform.clock import wall
from coin_platform.cluster.contract import ANNOUNCED_KINDS, Changes, ClusterEntry, Health, HealthState
from coin_platform.cluster.packed import check_key, check_size
from coin_platform.cluster.store import ClusterStore
from coin_platform.errors import ClusterError, VersionConflict
from coin_platform.model import Microseconds

logger = logging.getLogger(__name__)

_READS = "reading"
_WRITES = "writing"
_COPY = "the copy"


class LastGood:
    """The cluster on top of a store. A copy on this disk keeps the newest good value of every key that is put.

    1. If the store is away, has lost a value, holds an older one or nonsense, the copy is in force.
    2. A value that the store has lost, or of which it has an older version, is put back. Versions decide between
       machines whose copies differ: the highest wins.
    3. `health` says what is wrong, and since when.
    """

    def __init__(
        self,
        store: ClusterStore,
        copy: ClusterStore,
        check: Callable[[str, ClusterEntry], None],
        clock: Callable[[], Microseconds] = wall,
    ) -> None:
        """`check` raises `ClusterError` for an entry that is nonsense."""
        self._store, self._copy, self._check, self._clock = store, copy, check, clock
        self._good: dict[str, ClusterEntry] = {}
        self._copied_kinds: set[str] = set()  # whose copies have been read
        self._problems: dict[str, str] = {}
        self._since = clock()
        self._lock = threading.Lock()  # of the dictionaries; it is not held during a call to a store

    @property
    def health(self) -> Health:
        """The state of the store as the last calls saw it."""
        with self._lock:
            reason = next(iter(self._problems.values()), "")
            return Health(HealthState.DEGRADED if reason else HealthState.GOOD, self._since, reason)

    @property
    def look_seconds(self) -> float:
        """How often its values are read without a hint."""
        return self._store.look_seconds

    def get(self, key: str) -> ClusterEntry | None:
        """Return the newest good value: the store's, or ours."""
        is_announced = key.startswith(ANNOUNCED_KINDS)
        check_key(key, is_announced)
        if is_announced:
            return self._store.read(key)
        try:
            stored = self._store.read(key)
        except ClusterError as error:
            self._say(_READS, str(error))
            return self._known(key)
        self._say(_READS)
        return self._judged(key, stored)

    def entries(self, prefix: str) -> dict[str, ClusterEntry]:
        """Return the newest good values whose keys begin with `prefix`."""
        if prefix in ANNOUNCED_KINDS:
            return self._store.read_all(prefix)
        known = self._all_known(prefix)
        try:
            stored = self._store.read_all(prefix)
        except ClusterError as error:
            self._say(_READS, str(error))
            return known
        self._say(_READS)
        judged = {key: self._judged(key, stored.get(key)) for key in sorted({*stored, *known})}
        return {key: entry for key, entry in judged.items() if entry is not None}

    def put(self, key: str, value: bytes, version: int) -> int:
        """Replace the value if its version is still `version`.

        Where the store holds less than the version that is in force here, that is no conflict: the store is mended.
        """
        check_key(key, is_announced=False)
        check_size(key, value)
        new_version = version + 1
        try:
            try:
                self._store.swap(key, value, version, new_version)
            except VersionConflict as conflict:
                new_version = max(version, conflict.version) + 1
                if not self._is_mended_by(key, version, conflict.version):
                    raise
                self._store.swap(key, value, conflict.version, new_version)
        except VersionConflict:
            raise
        except ClusterError as error:
            self._say(_WRITES, str(error))
            raise
        self._say(_WRITES)
        self._say(key)
        self._remember(key, ClusterEntry(new_version, value))
        return new_version

    def announce(self, key: str, value: bytes, seconds: float) -> None:
        """Store a value for so many seconds."""
        check_key(key, is_announced=True)
        check_size(key, value)
        try:
            self._store.announce(key, value, seconds)
        except ClusterError as error:
            self._say(_WRITES, str(error))
            raise
        self._say(_WRITES)

    def changes(self) -> Changes:
        """Return the store's hints."""
        return self._store.changes()

    def close(self) -> None:
        """Close the store."""
        self._store.close()
        self._copy.close()

    def _is_mended_by(self, key: str, version: int, stored_version: int) -> bool:
        """Return whether a conflict only shows that the store is behind the value in force, or holds nonsense."""
        known = self._known(key)
        if known is None or known.version != version:
            return False
        return stored_version < version or self._fault(key, self._store.read(key)) is not None

    def _judged(self, key: str, stored: ClusterEntry | None) -> ClusterEntry | None:
        """Return which entry is in force, and mend the store if that is ours."""
        known = self._known(key)
        if stored is None and known is None:
            return None
        fault = self._fault(key, stored)
        if fault is not None:
            self._say(key, f"{self._store.place}: {fault}; the last good value is in force")
            return known
        if known is not None and (stored is None or stored.version < known.version):
            self._mend(key, stored.version if stored else 0, known)
            return known
        self._say(key)
        assert stored is not None
        if stored != known:
            self._remember(key, stored)
        return stored

    def _fault(self, key: str, stored: ClusterEntry | None) -> str | None:
        if stored is None:
            return None
        try:
            self._check(key, stored)
        except ClusterError as error:
            return str(error)
        return None

    def _mend(self, key: str, stored_version: int, known: ClusterEntry) -> None:
        """Put back what the store has lost."""
        has = f"has version {stored_version}, which is older than" if stored_version else "has lost"
        problem = f"{self._store.place}: {key} {has} version {known.version}, which is in force and is put back"
        self._say(key, problem)
        try:
            self._store.swap(key, known.value, stored_version, known.version)
        except ClusterError as error:
            self._say(key, f"{problem}, but that failed: {error}")
            return  # another process put it back first, or the store cannot be written: the next look tells
        self._say(_WRITES)
        self._say(key)

    def _known(self, key: str) -> ClusterEntry | None:
        self._all_known(f"{key.partition('/')[0]}/")
        with self._lock:
            return self._good.get(key)

    def _all_known(self, prefix: str) -> dict[str, ClusterEntry]:
        """Return the good values of a kind. The copies on this disk are read once."""
        if prefix not in self._copied_kinds:
            try:
                copies = self._copy.read_all(prefix)
            except ClusterError as error:
                copies = {}
                self._say(_COPY, str(error))
            with self._lock:
                self._copied_kinds.add(prefix)
                for key, entry in copies.items():
                    if self._fault(key, entry) is None:
                        self._good.setdefault(key, entry)
        with self._lock:
            return {key: entry for key, entry in self._good.items() if key.startswith(prefix)}

    def _remember(self, key: str, entry: ClusterEntry) -> None:
        with self._lock:
            self._good[key] = entry
        try:
            copied = self._copy.read(key)
            if copied is None or copied.version <= entry.version:
                self._copy.swap(key, entry.value, copied.version if copied else 0, entry.version)
        except VersionConflict:
            pass  # another process of this machine keeps the same copies, and was first
        except ClusterError as error:
            self._say(_COPY, str(error))
            return
        self._say(_COPY)

    def _say(self, subject: str, problem: str = "") -> None:
        """Note a problem, or that it is over. Log it when that is new."""
        with self._lock:
            before, was_degraded = self._problems.get(subject, ""), bool(self._problems)
            if problem:
                self._problems[subject] = problem
            else:
                self._problems.pop(subject, None)
            if bool(self._problems) != was_degraded:
                self._since = self._clock()
        if problem and not before:
            logger.warning("cluster: %s", problem)
        elif before and not problem:
            logger.info("cluster: good again, after: %s", before)
