"""The store of several machines: Redis. A hash for each kind of key, so a kind is read at once."""

import contextlib
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from coin_platform.clock import wall
from coin_platform.cluster.contract import ClusterEntry
from coin_platform.cluster.packed import Packed, unpack
from coin_platform.errors import ClusterError, VersionConflict
from coin_platform.model import SECOND
from coin_platform.settings import PREFIX

LOOK_SECONDS = 10.0  # between two looks: a hint that is published while a connection is away is lost
ANSWER_SECONDS = 1.0  # that Redis has for an answer; a call that is not answered is repeated once
_HINT_SECONDS = 0.25  # a wait for a hint looks this often whether it is closed

# The payload stays opaque: Lua's JSON turns [] into {}, and rounds large integers.
_SWAP = """
local stored = redis.call('HGET', KEYS[1], ARGV[1])
local version = '0'
if stored then version = string.match(stored, '^(%d+) ') or '?' end
if version ~= ARGV[2] then return {0, stored} end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('PUBLISH', KEYS[2], ARGV[1])
return {1}
"""


class RedisStore:
    """Keeps `<kind>/<name>` as field `<name>` of the hash `<prefix>:<kind>`. Connects with the first call."""

    look_seconds = LOOK_SECONDS

    def __init__(self, url: str, prefix: str) -> None:
        """`url` may hold a password, which is shown nowhere."""
        self.place = place_of(url)
        self._prefix, self._hints = prefix, f"{prefix}:changes"
        self._client, self._listener = connected(url), connected(url)
        self._swap: Any = self._client.register_script(_SWAP)

    def read(self, key: str) -> ClusterEntry | None:
        """Return the entry of a field. An expired one is none."""
        kind, name = self._place_of(key)
        with self._readable_errors(kind):
            data = self._client.hget(kind, name)
        return None if data is None else self._alive(kind, name, data)

    def read_all(self, prefix: str) -> dict[str, ClusterEntry]:
        """Return the entries of a kind. Expired fields are removed, and what is not ours is left out."""
        kind = f"{self._prefix}:{prefix.rstrip('/')}"
        entries = {}
        with self._readable_errors(kind):
            for field, data in self._client.hgetall(kind).items():
                name = field.decode("utf-8", "replace")
                with contextlib.suppress(ClusterError):
                    entry = self._alive(kind, name, data)
                    if entry is not None:
                        entries[f"{prefix}{name}"] = entry
                    else:
                        self._client.hdel(kind, field)  # if it was announced just now, that is repeated in a second
        return entries

    def swap(self, key: str, value: bytes, expected: int, version: int) -> None:
        """Replace a field by a script, which is atomic, and publish a hint.

        The client repeats a call whose answer was lost. The second call then meets our own entry: our token shows it.
        """
        kind, name = self._place_of(key)
        packed = Packed(ClusterEntry(version, value), token=uuid.uuid4().hex)
        with self._readable_errors(kind):
            is_swapped, *stored = self._swap([kind, self._hints], [name, str(expected), packed.pack()])
        if is_swapped:
            return
        there = unpack(f"{self.place} {kind} {name}", stored[0]) if stored and stored[0] else None
        if there is None or there.token != packed.token:
            raise VersionConflict(key, there.entry.version if there else 0)

    def announce(self, key: str, value: bytes, seconds: float) -> None:
        """Set a field with the time of its end, or remove it. Redis before 7.4 has no expiry of fields."""
        kind, name = self._place_of(key)
        with self._readable_errors(kind):
            if seconds <= 0:
                self._client.hdel(kind, name)
                return
            packed = Packed(ClusterEntry(0, value), wall() + int(seconds * SECOND))
            self._client.hset(kind, name, packed.pack())

    def changes(self) -> "RedisHints":
        """Return hints of all swaps from now on."""
        return RedisHints(self._listener, self._hints)

    def close(self) -> None:
        """Close the connections."""
        with contextlib.suppress(RedisError, OSError):
            self._client.close()
            self._listener.close()

    def _place_of(self, key: str) -> tuple[str, str]:
        kind, _, name = key.partition("/")
        return f"{self._prefix}:{kind}", name

    def _alive(self, kind: str, name: str, data: bytes) -> ClusterEntry | None:
        packed = unpack(f"{self.place} {kind} {name}", data)
        return packed.entry if not packed.expires or packed.expires > wall() else None

    def _readable_errors(self, kind: str) -> contextlib.AbstractContextManager[None]:
        return readable_errors(self.place, kind)


class RedisHints:
    """Hints by Pub/Sub. They are at most once, so after each new connection the values may have changed."""

    def __init__(self, client: Any, channel: str) -> None:
        """Subscribe with the first wait."""
        self._pubsub = client.pubsub()
        self._channel = channel
        self._is_subscribed = False
        self._closed = threading.Event()

    def wait(self, seconds: float) -> None:
        """Return after a hint, after a new connection, or after `seconds`. Used by one thread."""
        deadline = time.monotonic() + seconds
        try:
            if not self._is_subscribed:
                self._pubsub.subscribe(self._channel)
                self._is_subscribed = True
            while not self._closed.is_set() and (left := deadline - time.monotonic()) > 0:
                if self._pubsub.get_message(timeout=min(left, _HINT_SECONDS)) is not None:
                    return  # a hint; or the answer to a subscription, also of one that was made again
        except (RedisError, OSError):
            # The look that follows tells what is wrong.
            self._closed.wait(min(max(deadline - time.monotonic(), 0), ANSWER_SECONDS))
        except ValueError:  # redis-py reads on from a socket that another thread has closed with the store
            if not self._closed.is_set():
                raise
        if self._closed.is_set():
            self._end()

    def close(self) -> None:
        """End the wait of another thread."""
        self._closed.set()

    def _end(self) -> None:
        with contextlib.suppress(RedisError, OSError):
            self._pubsub.close()


def place_of(url: str) -> str:
    """Return the address of a server for people, without its password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}:{parts.port or 6379}{parts.path.rstrip('/')}"


def connected(url: str) -> Any:
    """Return a client that connects with its first call, fails soon, and repeats a call once."""
    retry = Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.2), 1)
    options = {"socket_timeout": ANSWER_SECONDS, "socket_connect_timeout": ANSWER_SECONDS, "health_check_interval": 5}
    return redis.Redis.from_url(url, retry=retry, client_name="coin-platform", **options)


@contextlib.contextmanager
def readable_errors(place: str, key: str) -> Iterator[None]:
    """Raise `ClusterError`, one line with the remedy, for what Redis or the network refuses. `key` was asked for."""
    try:
        yield
    except (RedisError, OSError) as error:
        text = " ".join(str(error).split())[:200]
        raise ClusterError(f"{place}: {text or type(error).__name__}; {_remedy(error, key)}") from error


def _remedy(error: Exception, kind: str) -> str:
    """Return what to do about an error of Redis. Redis 6 names an error of a script only in the text."""
    words = f"{type(error).__name__} {error}"
    for sign, remedy in (
        ("WRONGTYPE", f"something else keeps the key {kind}; delete it there"),
        ("NoPermission", f"allow its user the keys and channels {kind.rpartition(':')[0]}:*"),
        ("NOPERM", f"allow its user the keys and channels {kind.rpartition(':')[0]}:*"),
        ("Authentication", f"check the user and the password in {PREFIX}REDIS_URL"),
        ("maxmemory", "give it more memory, or remove what is not needed there"),
        ("read only replica", f"write the address of the primary server into {PREFIX}REDIS_URL"),
        ("Timeout", "check whether it is overloaded"),
        ("Connection", f"start it, or check {PREFIX}REDIS_URL"),
    ):
        if sign in words:
            return remedy
    return "look into its log"
