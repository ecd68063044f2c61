"""Serve all simulated exchanges on one port of loopback: `ws://127.0.0.1:PORT/<exchange>/…`, and HTTP likewise."""

import asyncio
import logging
import re
import time
from collections.abc import Callable
from http import HTTPStatus
from itertools import count
from urllib.parse import parse_qsl, urlsplit

import msgspec
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from coin_platform.clock import wall
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Exchange
from coin_platform.model import Channel, Microseconds, Pair
from coin_platform.selection import wanted_pairs
from coin_platform.settings import Settings
from coin_platform.simulator import VENUES
from coin_platform.simulator.client import OUTBOX_MESSAGES, Client
from coin_platform.simulator.faults import Faults, Mischief
from coin_platform.simulator.loopback import is_upgrade, listening, response, split
from coin_platform.simulator.market import Market
from coin_platform.simulator.sent_log import SentLog, digest, open_log

__all__ = ["Simulator", "digest", "open_log"]

logger = logging.getLogger(__name__)


class Simulator:
    """The simulated exchanges: one market that moves `rate` times a second, and the clients of all exchanges."""

    def __init__(
        self,
        settings: Settings,
        seed: int,
        log: SentLog,
        names: tuple[str, ...] = (),
        *,
        rate: float = 10.0,
        outbox: int = OUTBOX_MESSAGES,
        witness: Callable[[Market, Microseconds], None] | None = None,
        more_pairs: int = 0,
    ) -> None:
        """Serve these exchanges, or all. Each lists the default pairs and `more_pairs` coins: C01, C02 and so on.

        `witness` sees the market after each step, before any client hears of it.
        """
        self._names = names or tuple(VENUES)
        coins = [f"C{number:02}" for number in range(1, more_pairs + 1)]
        default = settings.model_copy(update={"pairs": ()})
        pairs = {
            name: (
                *wanted_pairs(EXCHANGES[name], default),
                *(Pair(coin, EXCHANGES[name].quote) for coin in coins),
            )
            for name in self._names
        }
        self.market = Market(seed, pairs, wall())
        self.faults = {name: Faults() for name in self._names}
        self._port, self._seed, self._log, self._pause = settings.simulator_port, seed, log, 1 / rate
        self._outbox, self._witness = outbox, witness or (lambda market, time: None)
        self._numbers = count(1)
        self._clients: set[Client] = set()
        self._is_ending = False

    async def run(self, stop: asyncio.Event, ready: asyncio.Event | None = None) -> None:
        """Serve until `stop`, then close all connections with 1001. Raises `SettingsError` if the port is in use."""
        async with listening(self._port, self._serve, self._http):
            logger.info("simulated exchanges on 127.0.0.1:%d: %s", self._port, " ".join(self._names))
            if ready is not None:
                ready.set()
            await self._steps(stop)
            self._is_ending = True
            for client in self._clients:
                client.end(1001)

    def disconnect(self, exchange: str, code: int = 1001) -> None:
        """Close the open connections of an exchange with this code."""
        for client in self._clients:
            if client.exchange == exchange:
                client.end(code)

    async def _steps(self, stop: asyncio.Event) -> None:
        due, moment = time.monotonic(), wall()
        while not stop.is_set():
            moment = max(moment, wall())
            self.market.step(moment)
            self._witness(self.market, moment)
            for client in list(self._clients):
                client.step(moment)
            due = max(due + self._pause, time.monotonic() - 1)
            try:
                await asyncio.wait_for(stop.wait(), max(0.0, due - time.monotonic()))
            except TimeoutError:
                continue

    async def _serve(self, socket: ServerConnection) -> None:
        if self._is_ending:  # it came in between: all connections have had their last word
            await socket.close(1001)
            return
        assert socket.request is not None
        name, path = split(urlsplit(socket.request.path).path)
        number, faults = next(self._numbers), self.faults[name]
        mischief = Mischief(faults, f"{self._seed} {name} {number}")
        client = Client(socket, number, VENUES[name](self.market, path), mischief, self._log, self._outbox)
        if faults.close:
            client.end(1000)
        self._clients.add(client)
        try:
            await client.run()
        finally:
            self._clients.discard(client)

    def _http(self, socket: ServerConnection, request: Request) -> Response | None:
        parts = urlsplit(request.path)
        (name, path), query = split(parts.path), dict(parse_qsl(parts.query))
        if name == "_faults":
            return self._misbehave(query)
        if name not in self._names:
            return response(HTTPStatus.NOT_FOUND, f"no such exchange: {name[:40]}")
        faults = self.faults[name]
        if faults.status:
            return response(faults.status, "<html>go away</html>", **{"Retry-After": faults.retry_after})
        is_socket = is_upgrade(request)
        if not _paths(EXCHANGES[name], is_socket=is_socket).fullmatch(path):
            return response(HTTPStatus.NOT_FOUND, "not simulated")
        if is_socket:
            return None
        venue = VENUES[name](self.market, path)
        venue.refused = faults.refuse
        answer = venue.rest(path, query, wall())
        return response(answer.status, answer.body)

    def _misbehave(self, query: dict[str, str]) -> Response:
        """Set faults as in `/_faults?exchange=okx&drop=0.01`, and list them. Without `exchange`, set them for all."""
        names = [query.pop("exchange")] if "exchange" in query else list(self._names)
        try:
            for name in names:
                self.faults[name].change(query)
        except (KeyError, msgspec.ValidationError) as error:
            return response(HTTPStatus.BAD_REQUEST, f"{error}")
        return response(HTTPStatus.OK, msgspec.json.encode(self.faults).decode())


def _paths(exchange: Exchange, *, is_socket: bool) -> re.Pattern[str]:
    """Return a pattern of the paths that the real adapter uses. No other path is simulated."""
    pair = Pair("BASE", exchange.quote)  # some paths name the pair
    urls = [exchange.socket_url(channel) if is_socket else exchange.request_url(channel, pair) for channel in Channel]
    paths = {urlsplit(url).path for url in (*urls, None if is_socket else exchange.markets_url()) if url}
    return re.compile("|".join(map(re.escape, sorted(paths))).replace(pair.base, "[^/]+"))
