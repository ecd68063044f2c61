"""The deployment behind a control API, for `coin pairs` and `coin status` with COIN_SERVE_URL."""

from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any

from coin_platform.cluster import Health, HealthState
from coin_platform.cluster.pairs import ALL_CHANNELS, PairSet
from coin_platform.cluster.status import Status
from coin_platform.commands.api_answers import (
    Answer,
    ChangedAnswer,
    MarketsAnswer,
    PairsAnswer,
    ReloadedAnswer,
    StatusesAnswer,
    read_answer,
)
from coin_platform.commands.api_client import ApiClient, ApiProblem
from coin_platform.commands.deployment_contract import check_active
from coin_platform.errors import BadArgument, NoAnswer, UnknownName
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Exchange
from coin_platform.model import Instrument, InstrumentState, Pair

_PAGE_ROWS = 500
_PAIRS_AT_ONCE = 100  # of one request: its address stays short
_REFUSED = "refused"


class ServedDeployment:
    """The deployment that a control API shows and changes."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self._health = Health(HealthState.GOOD, 0)

    def exchanges(self) -> list[Exchange]:
        """Return the exchanges that the server's settings enable."""
        found = self._ask("/api/pairs", list[PairsAnswer])
        return [EXCHANGES[answer.exchange] for answer in found if answer.collected and answer.exchange in EXCHANGES]

    def markets(self, exchange: Exchange) -> list[Instrument]:
        """Return all pages of what the exchange lists. Raises `NoAnswer`."""
        path, found = f"/api/exchanges/{exchange.name}/markets", list[Instrument]()
        while True:
            params = {"state": list(InstrumentState), "limit": _PAGE_ROWS, "offset": len(found)}
            try:
                page = self._ask(path, MarketsAnswer, params)
            except ApiProblem as error:
                if error.status == HTTPStatus.SERVICE_UNAVAILABLE:  # the exchange does not answer the server
                    raise NoAnswer(error.detail.removeprefix(f"{exchange.name}: ")) from error
                raise
            found += [market.instrument() for market in page.markets]
            if not page.markets or len(found) >= page.total:
                return found

    def pairs(self, exchange: Exchange) -> PairSet:
        """Return the set in force."""
        answer = self._ask(f"/api/pairs/{exchange.name}", PairsAnswer)
        self._health = answer.cluster.health()
        return answer.pair_set()

    def add(self, exchange: Exchange, channel: str, pairs: Sequence[Pair], *, is_unchecked: bool) -> list[str]:
        """Add the pairs, and wait up to 5 s for the collectors."""
        PairSet(pairs={}).added(channel, pairs)  # raises what the store itself would raise
        notes: list[str] = []
        for part in _parts(pairs):
            body = {"pairs": part, "unchecked": is_unchecked}
            notes += self._change("POST", exchange, channel, json=body)
        return notes

    def drop(self, exchange: Exchange, channel: str, pairs: Sequence[Pair], *, is_explicit: bool) -> list[str]:
        """Drop the pairs, and wait up to 5 s for the collectors."""
        before = self.pairs(exchange)
        check_active(exchange, before, pairs)
        before.dropped(channel, pairs, is_explicit)  # raises what the store itself would raise
        notes: list[str] = []
        for part in _parts(pairs):
            notes += self._change("DELETE", exchange, channel, params={"pair": part, "explicit": is_explicit})
        return notes

    def reload(self) -> list[Exchange]:
        """Have the server store every stored set anew, and wake up all collectors."""
        answer = read_answer(self._client.ask("POST", "/api/pairs/reload"), ReloadedAnswer)
        return [EXCHANGES[name] for name in answer.exchanges if name in EXCHANGES]

    def statuses(self) -> list[Status]:
        """Return what every component says of itself, as the server sees it."""
        answer = self._ask("/api/status", StatusesAnswer)
        self._health = answer.cluster.health()
        return [component.status() for component in answer.components]

    @property
    def health(self) -> Health:
        """The state of the server's store as the last answer said it."""
        return self._health

    def close(self) -> None:
        """Close the connection to the server."""
        self._client.close()

    def _ask(self, path: str, kind: type[Answer], params: dict[str, Any] | None = None) -> Answer:
        return read_answer(self._client.ask("GET", path, params=params), kind)

    def _change(self, method: str, exchange: Exchange, channel: str, **request: Any) -> list[str]:
        """Change an entry. Return what the exchange refuses, and what the change did not reach."""
        place = exchange.name if channel == ALL_CHANNELS else f"{exchange.name}/{channel}"
        try:
            answer = read_answer(self._client.ask(method, f"/api/pairs/{place}", **request), ChangedAnswer)
        except ApiProblem as error:
            if error.kind == "unlisted-pairs":
                raise UnknownName(f"{error.detail}; see `coin pairs list {exchange.name}`") from error
            if error.kind == "wrong-pairs":
                raise BadArgument(error.detail) from error
            if error.kind == "not-available" and error.detail.startswith(f"{exchange.name} does not say"):
                raise NoAnswer(f"{error.detail}; or write --unchecked") from error
            raise
        refused = (row for row in answer.results if row.state == _REFUSED)
        return [*(f"{exchange.name} refuses {row.pair}, {row.reason}" for row in refused), *filter(None, [answer.note])]


def _parts(pairs: Sequence[Pair]) -> Iterator[list[str]]:
    """Yield the pairs, so many a request."""
    texts = [str(pair) for pair in pairs]
    for first in range(0, len(texts), _PAIRS_AT_ONCE):
        yield texts[first : first + _PAIRS_AT_ONCE]
