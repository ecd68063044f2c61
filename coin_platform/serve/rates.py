"""How often a client may ask: token buckets for each key or address, and a limit of wrong keys for each address."""

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, NamedTuple

from coin_platform.clock import elapsed

_MOST_CLIENTS = 10_000  # that are remembered: the one that has been away longest is forgotten first


class RateLimits(NamedTuple):
    """The limits of one client."""

    reads_per_second: float = 100.0
    writes_per_second: float = 10.0
    wrong_keys_per_minute: int = 5


class _Bucket:
    """Holds up to `rate` tokens, the allowance of a second, and refills at `rate` a second."""

    def __init__(self, rate: float, time: float) -> None:
        self._rate, self._tokens, self._time = rate, max(1.0, rate), time

    def take(self, time: float) -> float:
        """Take a token. Return 0, or the seconds until there is one; then nothing was taken."""
        self._tokens = min(max(1.0, self._rate), self._tokens + (time - self._time) * self._rate)
        self._time = time
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / self._rate


class RateLimiter:
    """Counts what each client asks. Its memory is limited, however many clients there are."""

    def __init__(self, rates: RateLimits = RateLimits(), clock: Callable[[], float] = elapsed) -> None:  # noqa: B008
        """Allow what `rates` say. `clock` gives seconds that never go back."""
        self._rates, self._clock = rates, clock
        self._buckets: OrderedDict[tuple[str, bool], _Bucket] = OrderedDict()
        self._wrong_keys: OrderedDict[str, deque[float]] = OrderedDict()

    def take(self, client: str, *, is_write: bool) -> float:
        """Count a request of a client. Return 0, or for how many seconds the client must wait."""
        rate = self._rates.writes_per_second if is_write else self._rates.reads_per_second
        time = self._clock()
        bucket = self._buckets.setdefault((client, is_write), _Bucket(rate, time))
        self._buckets.move_to_end((client, is_write))
        _forget(self._buckets)
        return bucket.take(time)

    def wrong_key(self, address: str) -> None:
        """Count a wrong key that came from an address."""
        self._wrong_keys.setdefault(address, deque(maxlen=self._rates.wrong_keys_per_minute)).append(self._clock())
        self._wrong_keys.move_to_end(address)
        _forget(self._wrong_keys)

    def blocked_seconds(self, address: str) -> float:
        """Return for how many seconds no key is taken from an address, because too many were wrong; 0 if one is."""
        times = self._wrong_keys.get(address)
        if times is None or len(times) < self._rates.wrong_keys_per_minute:
            return 0.0
        return max(0.0, times[0] + 60.0 - self._clock())


def _forget(clients: OrderedDict[Any, Any]) -> None:
    while len(clients) > _MOST_CLIENTS:
        clients.popitem(last=False)
