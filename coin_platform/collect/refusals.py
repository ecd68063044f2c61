"""The pairs that an exchange refuses on one connection, and when each is asked for again."""

from collections.abc import Callable

from coin_platform.collect.actions import Failed
from coin_platform.collect.pacing import Backoff
from coin_platform.model import Instant, Pair, Refusal, Refused


class Refusals:
    """The refused pairs of one connection. A pair is refused until the exchange confirms it or sends its data."""

    def __init__(self, chance: Callable[[], float]) -> None:
        """`chance` spreads the attempts to get a pair that is refused for the moment."""
        self.pairs: dict[Pair, Failed] = {}
        self._chance = chance
        self._backoffs: dict[Pair, Backoff] = {}
        self._retry_at: dict[Pair, float] = {}  # monotonic seconds

    @property
    def temporary(self) -> frozenset[Pair]:
        """The pairs that are refused for the moment, and are asked for again."""
        return frozenset(pair for pair, failed in self.pairs.items() if failed.refusal is not Refusal.FINAL)

    @property
    def final(self) -> frozenset[Pair]:
        """The pairs that are refused for good."""
        return frozenset(self.pairs) - self.temporary

    def add(self, pair: Pair, event: Refused, now: Instant) -> Failed | None:
        """Note a refusal, and plan the next attempt unless it is for good. Return the refusal if it is new."""
        failed = Failed(pair, event.reason, event.refusal)
        is_new = self.pairs.get(pair) != failed
        self.pairs[pair] = failed
        self._retry_at.pop(pair, None)
        if event.refusal is not Refusal.FINAL:
            wait = self._backoffs.setdefault(pair, Backoff(self._chance)).next(0.0)
            self._retry_at[pair] = now.monotonic + max(wait, event.ban_seconds)
        return failed if is_new else None

    def remove(self, pair: Pair) -> None:
        """Forget that a pair was refused."""
        self.pairs.pop(pair, None)
        self._retry_at.pop(pair, None)
        self._backoffs.pop(pair, None)

    def take_due(self, now: Instant) -> list[Pair]:
        """Return the pairs whose next attempt is due. Each is returned once; it stays refused until it is removed."""
        due = [pair for pair, moment in self._retry_at.items() if moment <= now.monotonic]
        for pair in due:
            del self._retry_at[pair]
        return due
