"""Recorded frames as a live feed: the exchanges of a folder on loopback, each saying again what it said."""

import asyncio
import logging
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from http import HTTPStatus
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.protocol import State

from coin_platform.clock import unless
from coin_platform.errors import DecodeError, SettingsError
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Exchange
from coin_platform.model import SECOND, Channel, Data, Frame, Microseconds, Pair
from coin_platform.model import Kind as RecordKind
from coin_platform.settings import Settings
from coin_platform.simulator.loopback import is_upgrade, listening, response, split
from coin_platform.simulator.recordings import UNKNOWN, channel_of, pair_of, read, read_all
from coin_platform.simulator.sent_log import SentLog, digest
from coin_platform.simulator.venue import Kind

logger = logging.getLogger(__name__)

RATE = 10.0  # frames a second where the recording does not say when they came


class Replay:
    """The exchanges of a folder `<exchange>/<channel>.jsonl`, served as the simulated ones are.

    Who subscribes to a channel is sent its socket frames, in order and at `speed` times their own pace. One connection
    at a time hears a channel; the next one goes on where it ended. What is asked for over REST is answered with the
    recorded answers for the same path and pair, one after the other; the last one stays.
    """

    def __init__(
        self, settings: Settings, folder: Path, log: SentLog, *, speed: float = 1.0, loop: bool = False
    ) -> None:
        """Look through the folder. Raises `SettingsError` when there is nothing in it."""
        if speed <= 0:
            raise SettingsError(f"--speed {speed:g}: write a number above 0, for example 10")
        files = {name: sorted((folder / name).glob("*.jsonl")) for name in EXCHANGES}
        self._exchanges = {name: _Recorded(EXCHANGES[name], found) for name, found in files.items() if found}
        self.tracks = [track for recorded in self._exchanges.values() for track in recorded.tracks.values()]
        if not self.tracks:
            raise SettingsError(f"{folder}: no recordings; write the folder of <exchange>/<channel>.jsonl")
        first = min((track.first for track in self.tracks if track.first is not None), default=0)
        for track in self.tracks:
            track.prepare(first, speed, loop=loop)
        self.port, self._log = settings.simulator_port, log
        self._numbers = count(1)

    async def run(self, stop: asyncio.Event, ready: asyncio.Event | None = None) -> None:
        """Serve until all is sent, or until `stop`. Raises `SettingsError` when the port is taken."""
        async with listening(self.port, self._serve, self._http):
            logger.info("%s on 127.0.0.1:%d", ", ".join(f"{track}: {track.total}" for track in self.tracks), self.port)
            if ready is not None:
                ready.set()
            await unless(stop, asyncio.gather(*(track.over.wait() for track in self.tracks)))

    async def _serve(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        name, path = split(urlsplit(socket.request.path).path)
        names: dict[str, str | int] = {"exchange": name, "connection": next(self._numbers), "path": path}
        client = _Client(socket, names, self._log)
        wanted: set[Channel] = set()
        try:
            async with asyncio.TaskGroup() as group:
                players = []
                async for text in socket:
                    for channel in asked_for(EXCHANGES[name], text if isinstance(text, str) else "") - wanted:
                        wanted.add(channel)
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


class _Client:
    """One socket, and how much it was sent."""

    def __init__(self, socket: ServerConnection, names: dict[str, str | int], log: SentLog) -> None:
        self._socket, self._names, self._log = socket, names, log
        self.sent = 0

    @property
    def is_open(self) -> bool:
        """Whether it can be sent to."""
        return self._socket.state is State.OPEN

    async def send(self, payload: bytes, kind: Kind) -> None:
        """Note a frame, then hand it over: an open socket takes it before anything else can happen."""
        self.sent += 1
        self._log.sent(**self._names, number=self.sent, kind=kind, hash=digest(payload))
        await self._socket.send(payload, text=_is_text(payload))


class _Track:
    """The socket frames of one channel, in the order of their files, and how far they have been sent."""

    def __init__(self, exchange: Exchange, channel: Channel) -> None:
        self.total = 0
        self.first: Microseconds | None = None  # when the first frame came, if it is known
        self.over = asyncio.Event()  # all was sent
        self._exchange, self._channel = exchange, channel
        self._files: list[Path] = []
        self._turn = asyncio.Lock()

    def __str__(self) -> str:
        return f"{self._exchange.name} {self._channel}"

    def add(self, file: Path, frame: Frame) -> None:
        """Count a frame of a file."""
        if file not in self._files:
            self._files.append(file)
        self.total += 1
        if frame.received_time != UNKNOWN:
            self.first = frame.received_time if self.first is None else min(self.first, frame.received_time)

    def prepare(self, first: Microseconds, speed: float, *, loop: bool) -> None:
        """Begin at the beginning; `first` is when the whole recording begins, so that channels keep their distance."""
        self._first, self._speed, self._loop = first, speed, loop
        self._started: float | None = None
        self._due = self._schedule()
        self._next = next(self._due)

    async def play(self, client: _Client) -> None:
        """Send what has not been sent yet, once no other connection does."""
        async with self._turn:
            if self._started is None:
                self._started = time.monotonic()
            while not self.over.is_set():
                seconds, frame = self._next
                await asyncio.sleep(max(0.0, self._started + seconds / self._speed - time.monotonic()))
                if not client.is_open:
                    return
                self._advance()  # first: what was handed over is not sent again, however that ends
                await client.send(frame.payload, _kind(self._exchange, frame))

    def _advance(self) -> None:
        following = next(self._due, None)
        if following is None and self._loop:
            self._started, self._due = time.monotonic(), self._schedule()
            following = next(self._due)
        if following is not None:
            self._next = following
            return
        self.over.set()
        logger.info("%s: all %d frames sent", self, self.total)

    def _schedule(self) -> Iterator[tuple[float, Frame]]:
        """Yield the frames and when each is due, in seconds of the recording."""
        at = 0.0
        for file in self._files:
            for _, frame in read(self._exchange, file, self._channel):
                if frame.kind is RecordKind.SOCKET:
                    known = frame.received_time != UNKNOWN
                    at = (frame.received_time - self._first) / SECOND if known else at + 1 / RATE
                    yield at, frame


class _Recorded:
    """What there is of one exchange: a track for each channel, and answers."""

    def __init__(self, exchange: Exchange, files: Iterable[Path]) -> None:
        self.tracks: dict[Channel, _Track] = {}
        self._exchange = exchange
        self._answers: defaultdict[tuple[str, Pair | None], list[bytes]] = defaultdict(list)
        for file in files:
            channel = channel_of(file)
            for _, frame, url in read_all(exchange, file):
                if frame.kind is RecordKind.REST:
                    self._answers[urlsplit(url).path, frame.pair].append(frame.payload)
                elif channel is not None:
                    self.tracks.setdefault(channel, _Track(exchange, channel)).add(file, frame)

    def answer(self, url: str) -> bytes | None:
        """Return the next answer for a path and pair; the last one again and again."""
        answers = self._answers.get((urlsplit(url).path, pair_of(self._exchange, url)), [])
        return answers.pop(0) if len(answers) > 1 else answers[0] if answers else None


def asked_for(exchange: Exchange, text: str) -> set[Channel]:
    """Return the channels that a client's message asks for, known by the words in which the requests differ."""
    words = _words(text)
    return {channel for channel, telling in _telling_words(exchange).items() if telling & words}


@cache
def _telling_words(exchange: Exchange) -> dict[Channel, frozenset[str]]:
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


def _kind(exchange: Exchange, frame: Frame) -> Kind:
    """Say what a frame is, as the log of what was sent calls it."""
    try:
        events = exchange.decode(frame)
    except DecodeError:
        return Kind.BAD
    return Kind.DATA if any(isinstance(event, Data) for event in events) else Kind.CONTROL


def _is_text(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True
