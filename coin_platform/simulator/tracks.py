"""Hold the recorded frames and answers of one exchange, and send each frame when it is due."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from coin_platform.errors import DecodeError
from coin_platform.exchanges.base import Exchange
from coin_platform.model import SECOND, Channel, Data, Frame, Kind, Microseconds, Pair
from coin_platform.simulator.recordings import UNKNOWN_TIME, channel_of, pair_of, read, read_all
from coin_platform.simulator.replay_client import ReplayClient
from coin_platform.simulator.venue import MessageKind

logger = logging.getLogger(__name__)

FRAME_SECONDS = 0.1  # between two frames whose times were not recorded


class Track:
    """The socket frames of one channel in the order of their files, and how many of them were sent."""

    def __init__(self, exchange: Exchange, channel: Channel) -> None:
        self.total = 0
        self.first_time: Microseconds | None = None  # of the first frame; None: not recorded
        self.over = asyncio.Event()  # all frames were sent
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
        received = frame.received_time
        if received != UNKNOWN_TIME and (self.first_time is None or received < self.first_time):
            self.first_time = received

    def prepare(
        self,
        begin: Microseconds,
        speed: float,
        *,
        loop: bool,
        monotonic: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        """Go to the first frame. `begin` is that of the whole recording, so that channels keep their distance."""
        self._begin, self._speed, self._loop = begin, speed, loop
        self._monotonic, self._sleep = monotonic, sleep
        self._started: float | None = None
        self._schedule = self._due_frames()
        self._next = next(self._schedule)

    async def play(self, client: ReplayClient) -> None:
        """Wait until no other connection hears the track. Then send the frames that were not sent yet."""
        async with self._turn:
            if self._started is None:
                self._started = self._monotonic()
            while not self.over.is_set():
                seconds, frame = self._next
                await self._sleep(max(0.0, self._started + seconds / self._speed - self._monotonic()))
                if not client.is_open:
                    return
                self._advance()  # before `send`: the frame must not come twice, even if `send` fails
                await client.send(frame.payload, _message_kind(self._exchange, frame))

    def _advance(self) -> None:
        following = next(self._schedule, None)
        if following is None and self._loop:
            self._started, self._schedule = self._monotonic(), self._due_frames()
            following = next(self._schedule)
        if following is not None:
            self._next = following
            return
        self.over.set()
        logger.info("%s: all %d frames sent", self, self.total)

    def _due_frames(self) -> Iterator[tuple[float, Frame]]:
        """Yield the frames, each with the seconds of the recording at which it is due."""
        due = 0.0
        for file in self._files:
            for _, frame in read(self._exchange, file, self._channel):
                if frame.kind is Kind.SOCKET:
                    is_timed = frame.received_time != UNKNOWN_TIME
                    due = (frame.received_time - self._begin) / SECOND if is_timed else due + FRAME_SECONDS
                    yield due, frame


class RecordedExchange:
    """The recordings of one exchange: a track for each channel, and the REST answers."""

    def __init__(self, exchange: Exchange, files: Iterable[Path]) -> None:
        self.tracks: dict[Channel, Track] = {}
        self._exchange = exchange
        self._answers: defaultdict[tuple[str, Pair | None], list[bytes]] = defaultdict(list)
        for file in files:
            channel = channel_of(file)
            for _, frame, url in read_all(exchange, file):
                if frame.kind is Kind.REST:
                    self._answers[urlsplit(url).path, frame.pair].append(frame.payload)
                elif channel is not None:
                    self.tracks.setdefault(channel, Track(exchange, channel)).add(file, frame)

    def answer(self, url: str) -> bytes | None:
        """Return the next answer for a path and pair. The last answer is returned again and again."""
        answers = self._answers.get((urlsplit(url).path, pair_of(self._exchange, url)), [])
        return answers.pop(0) if len(answers) > 1 else answers[0] if answers else None


def _message_kind(exchange: Exchange, frame: Frame) -> MessageKind:
    """Return the kind of a frame for the log of sent messages."""
    try:
        events = exchange.decode(frame)
    except DecodeError:
        return MessageKind.BAD
    return MessageKind.DATA if any(isinstance(event, Data) for event in events) else MessageKind.CONTROL
