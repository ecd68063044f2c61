"""Commands to the processes of a deployment: values that say what to do once, obeyed by whoever they are for."""

from collections.abc import Callable

import msgspec

from coin_platform.cluster.contract import Cluster
from coin_platform.errors import VersionConflict
from coin_platform.model import SECOND, Channel, Microseconds

PREFIX = "commands/"
RELOAD = f"{PREFIX}reload"  # whoever waits for hints is woken when it is put, and reads the pairs again
OBEYED_FOR: Microseconds = 60 * SECOND  # an older command is not obeyed any more
_TRIES = 20


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """A command: who gave it, and when (UTC, µs)."""

    by: str
    time: Microseconds


def reconnect_key(exchange: str, channel: Channel, shard: int) -> str:
    """Return the key of the command that replaces the connection of one feed."""
    return f"{PREFIX}reconnect.{exchange}.{channel}.{shard}"


def give(cluster: Cluster, key: str, by: str, time: Microseconds) -> int:
    """Give a command, and return its number. All who wait for hints wake up. Raises `ClusterError`."""
    value = msgspec.json.encode(Command(by=by, time=time))
    for tries_left in reversed(range(_TRIES)):
        entry = cluster.get(key)
        try:
            return cluster.put(key, value, entry.version if entry else 0)
        except VersionConflict:  # another command of this kind came first: ours is given, too
            if not tries_left:
                raise
    raise AssertionError  # the loop returns or raises


class CommandReader:
    """Finds the commands that are new. Those that were given before it began are not obeyed again."""

    def __init__(self, cluster: Cluster, clock: Callable[[], Microseconds]) -> None:
        self._cluster, self._clock = cluster, clock
        self._begin = clock()
        self._seen: dict[str, int] = {}

    def new(self) -> dict[str, Command]:
        """Return the commands given since the last call, by key. It blocks. Raises `ClusterError`."""
        found = {}
        for key, entry in self._cluster.entries(PREFIX).items():
            if entry.version <= self._seen.get(key, 0):
                continue
            self._seen[key] = entry.version
            try:
                command = _decode(entry.value)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue  # of another version of this program
            if command.time >= max(self._begin, self._clock() - OBEYED_FOR):
                found[key] = command
        return found


_decode = msgspec.json.Decoder(Command).decode
