"""Who may come in to the feed: the address, the host name, the origin, the key, and how many there are already."""

from collections import Counter
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import NamedTuple

from websockets.datastructures import Headers

from coin_platform.clock import elapsed
from coin_platform.errors import FeedRefused
from coin_platform.runtime.own_names import are_own
from coin_platform.serve.feed.filters import Filter, read_filter
from coin_platform.serve.feed.ladder import Service
from coin_platform.serve.keys import Keys, Scope
from coin_platform.serve.rates import RateLimiter, RateLimits

PATH = "/ws/exchange"
BOUND_PATHS = {Service.KAFKA: "/ws/kafka", Service.REDIS: "/ws/redis"}  # the feeds of one service alone
KEY_PROTOCOL = "coin.key."  # a web page cannot set headers; it sends its key as a subprotocol that begins so
FEED_PROTOCOL = "coin.feed"  # the subprotocol that is chosen beside a key, for a key is not repeated
_CONNECTS_PER_SECOND = 200.0  # of one address
_MOST_STREAMS = 256  # filters in use at once: each costs a look at every record


class Admitted(NamedTuple):
    """A client that may come in: what it wants, and its name."""

    wanted: Filter
    name: str  # of its key, or its address
    path: str = PATH


class EntryRefused(Exception):
    """A client that may not come in: the HTTP status, and one line with the remedy."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status


class DoorLimits(NamedTuple):
    """How many clients there may be."""

    clients: int = 4_000
    clients_per_address: int = 200


class Door:
    """Decides about each connection. One event loop owns it."""

    def __init__(
        self,
        keys: Keys,
        names: frozenset[str],
        limits: DoorLimits,
        *,
        is_local: bool,
        paths: Sequence[str] = (PATH,),
        clock: Callable[[], float] = elapsed,
    ) -> None:
        """`names` are the host names of this server. `is_local`: only this machine reaches it, and no key is needed.

        `paths` are those of the feeds that it serves.
        """
        self._paths = list(paths)
        self._keys, self._names, self._limits, self._is_local = keys, names, limits, is_local
        self._rates = RateLimiter(RateLimits(reads_per_second=_CONNECTS_PER_SECOND), clock)
        self._here: Counter[str] = Counter()  # connections by address, also those whose handshake is under way
        self.refused: Counter[int] = Counter()  # by status; 0: cut before the handshake

    def arrives(self, address: str) -> bool:
        """Count a connection that begins. Return whether there is room for its handshake."""
        has_room = self._here.total() < self._limits.clients and self._here[address] < self._limits.clients_per_address
        self._here[address] += 1
        if not has_room:
            self.refused[0] += 1
        return has_room

    def leaves(self, address: str) -> None:
        """Count a connection that has ended."""
        self._here[address] -= 1
        if self._here[address] <= 0:
            del self._here[address]

    def admit(self, target: str, headers: Headers, address: str, streams: int) -> Admitted:
        """Return what a client wants. `streams`: how many filters are in use. Raises `EntryRefused`."""
        try:
            return self._admit(target, headers, address, streams)
        except EntryRefused as refusal:
            self.refused[refusal.status] += 1
            raise

    def _admit(self, target: str, headers: Headers, address: str, streams: int) -> Admitted:
        if seconds := self._rates.take(address, is_write=False):
            raise EntryRefused(
                HTTPStatus.TOO_MANY_REQUESTS, f"too many connections from {address}; wait {seconds:.0f} s"
            )
        self._check_names(headers)
        path, _, query = target.partition("?")
        if path not in self._paths:
            raise EntryRefused(
                HTTPStatus.NOT_FOUND, f"there is no such address; the feed is at {', '.join(self._paths)}"
            )
        name = self._name(headers, address)
        try:
            wanted = read_filter(query)
        except FeedRefused as error:
            raise EntryRefused(HTTPStatus.BAD_REQUEST, str(error)) from None
        if streams >= _MOST_STREAMS and wanted != Filter():
            raise EntryRefused(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"{streams} different filters are in use; ask for the whole feed, and filter its records",
            )
        return Admitted(wanted, name, path)

    def _check_names(self, headers: Headers) -> None:
        """Refuse what a web page of another site may send: see `runtime.own_names`. Raises `EntryRefused`."""
        hosts, origins = headers.get_all("Host"), headers.get_all("Origin")
        if len(origins) > 1 or not are_own(hosts, origins, self._names):
            raise EntryRefused(
                HTTPStatus.FORBIDDEN, "this server is not reached under that name; COIN_SERVE_HOSTS lists its names"
            )

    def _name(self, headers: Headers, address: str) -> str:
        """Return the name of the client. Raises `EntryRefused`."""
        text = _key_text(headers)
        if text is None:
            if self._is_local:
                return address
            raise EntryRefused(
                HTTPStatus.UNAUTHORIZED,
                f"this needs a key of scope {Scope.READ}: send `Authorization: Bearer KEY`, "
                f"or from a web page the subprotocols {FEED_PROTOCOL} and {KEY_PROTOCOL}KEY",
            )
        if seconds := self._rates.blocked_seconds(address):
            raise EntryRefused(
                HTTPStatus.TOO_MANY_REQUESTS, f"too many wrong keys from {address}; wait {seconds:.0f} s"
            )
        key = self._keys.find(text)
        if key is None:
            self._rates.wrong_key(address)
            raise EntryRefused(HTTPStatus.UNAUTHORIZED, "this key is not known; COIN_SERVE_KEYS lists the keys")
        return key.name


def _key_text(headers: Headers) -> str | None:
    """Return the key that a client sent, in one of three places. Raises `EntryRefused` for two different ones."""
    texts = [text.removeprefix("Bearer ").strip() for text in headers.get_all("Authorization")]
    texts += headers.get_all("X-API-Key")
    for line in headers.get_all("Sec-WebSocket-Protocol"):
        words = [word.strip() for word in line.split(",")]
        texts += [word.removeprefix(KEY_PROTOCOL) for word in words if word.startswith(KEY_PROTOCOL)]
    if len(set(texts)) > 1:
        raise EntryRefused(HTTPStatus.BAD_REQUEST, "the request has several keys; send one")
    return texts[0] if texts else None
