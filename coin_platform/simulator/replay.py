"""Serve the recorded exchanges of a folder on loopback, as a live feed."""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable
from functools import cache
from http import HTTPStatus
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from coin_platform.clock import unless
from coin_platform.errors import SettingsError
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Exchange
from coin_platform.model import SECOND, Channel, Pair
from coin_platform.settings import Settings
from coin_platform.simulator.loopback import is_upgrade, listening, response, split
from coin_platform.simulator.replay_client import ReplayClient
from coin_platform.simulator.sent_log import SentLog
from coin_platform.simulator.tracks import RecordedExchange

logger = logging.getLogger(__name__)


class Replay:
    """The exchanges of a folder `<exchange>/<channel>.jsonl`, served as the simulated ones are.

    1. A client that subscribes to a channel gets the socket frames of the channel, in order and at `speed` times their
       own pace.
    2. Only one connection at a time hears a channel. The next connection goes on where the last one ended.
    3. A REST request gets the recorded answers for its path and pair, one after the other. The last answer stays.
    """

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        log: SentLog,
        *,
        speed: float = 1.0,
        loop: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Read the folder. Raises `SettingsError` if it has no recordings."""
        if speed <= 0:
            raise SettingsError(f"--speed {speed:g}: write a number above 0, for example 10")
        files = {name: sorted((folder / name).glob("*.jsonl")) for name in EXCHANGES}
        self._exchanges = {name: RecordedExchange(EXCHANGES[name], paths) for name, paths in files.items() if paths}
        self.tracks = [track for recorded in self._exchanges.values() for track in recorded.tracks.values()]
        if not self.tracks:
            raise SettingsError(f"{folder}: no recordings; write the folder of <exchange>/<channel>.jsonl")
        begin = min((track.first_time for track in self.tracks if track.first_time is not None), default=0)
        for track in self.tracks:
            track.prepare(begin, speed, loop=loop, monotonic=monotonic, sleep=sleep)
        self.port, self._log = settings.simulator_port, log
        self._numbers = count(1)

    async def run(self, stop: asyncio.Event, ready: asyncio.Event | None = None) -> None:
        """Serve until all frames are sent, or until `stop`. Raises `SettingsError` if the port is in use."""
        async with listening(self.port, self._serve, self._http):
            logger.info("%s on 127.0.0.1:%d", ", ".join(f"{track}: {track.total}" for track in self.tracks), self.port)
            if ready is not None:
                ready.set()
            await unless(stop, asyncio.gather(*(track.over.wait() for track in self.tracks)))

    async def _serve(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        name, path = split(urlsplit(socket.request.path).path)
        names: dict[str, str | int] = {"exchange": name, "connection": next(self._numbers), "path": path}
        client = ReplayClient(socket, names, self._log)
        subscribed: set[Channel] = set()
        try:
            async with asyncio.TaskGroup() as group:
                players = []
                async for text in socket:
                    for channel in asked_for(EXCHANGES[name], text if isinstance(text, str) else "") - subscribed:
                        subscribed.add(channel)
                        if track := self._exchanges[name].tracks.get(channel):
                            players.append(group.create_task(track.play(client)))
                for player in players:
                    player.cancel()
        except* ConnectionClosed:
            pass
        finally:
            self._log.closed(**names, code=socket.close_code, sent=client.sent)

    def _http(self, socket: ServerConnection, request: Request) -> Response | None:
        name, _ = split(urlsplit(request.path).path)
        recorded = self._exchanges.get(name)
        if recorded is None:
            return response(HTTPStatus.NOT_FOUND, f"not recorded: {name[:40]}")
        if is_upgrade(request):
            return None
        answer = recorded.answer(request.path.lstrip("/").removeprefix(name))
        return response(HTTPStatus.NOT_FOUND, "not recorded") if answer is None else response(HTTPStatus.OK, answer)


def asked_for(exchange: Exchange, text: str) -> set[Channel]:
    """Return the channels that a client's message asks for. Each channel has words that only its requests use."""
    words = _words(text)
    return {channel for channel, own_words in _own_words(exchange).items() if own_words & words}


@cache
def _own_words(exchange: Exchange) -> dict[Channel, frozenset[str]]:
    """Return for each channel the words that stand in its requests and in those of no other channel."""
    pair = Pair("BTC", exchange.quote)
    words = {
        channel: frozenset().union(
            *(_words(request.payload) for request in exchange.subscribe(channel, [pair], id=1, time=SECOND))
        )
        for channel in sorted(exchange.channels)
    }
    return {
        channel: own.difference(*(others for other, others in words.items() if other is not channel))
        for channel, own in words.items()
    }


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z]+", text.lower()))
