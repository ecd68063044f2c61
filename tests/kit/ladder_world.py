"""A server of the feed on real Kafka and Redis, which a test takes away from it and gives back.

What writes to Kafka and copies into Redis goes on meanwhile. A client reads all that the server sends.
"""

import asyncio
import contextlib
import json
import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from coin_platform.broker import connect, kafka_topics
from coin_platform.clock import wall
from coin_platform.cluster import Cluster
from coin_platform.cluster.feed_streams import open_feed_streams
from coin_platform.cluster.files import FileStore
from coin_platform.cluster.status import statuses
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import Channel, Kind, Region
from coin_platform.preprocess.redis_feed import RedisFeed
from coin_platform.preprocess.worker import Worker
from coin_platform.records import Header
from coin_platform.selection import sources
from coin_platform.serve.feed.border import LATE
from coin_platform.serve.feed.distributor import Distributor, listen
from coin_platform.serve.feed.door import PATH, Door, DoorLimits
from coin_platform.serve.feed.hub import Hub
from coin_platform.serve.feed.ladder import LadderTimes, Rung
from coin_platform.serve.feed.opening import OpenedFeed, bound_feeds, opened_feed
from coin_platform.serve.feed.reports import FeedReports
from coin_platform.serve.keys import Keys
from coin_platform.serve.reports import announce
from coin_platform.settings import Settings
from infra.stack import Kafka, Redis
from tests.kit.clusters import cluster_of
from tests.kit.feed import append_processed
from tests.kit.feed_server import connect_to
from tests.kit.proxy import Proxy, Toxics
from tests.kit.recordings import frames
from tests.kit.redis_streams import copying
from tests.kit.waiting import eventually

UPBIT = EXCHANGES["upbit"]
TIMES = LadderTimes(up_probes=3, up_seconds=0.5, down_probes=2, down_seconds=5, climb_seconds=1)
PROBE_SECONDS = 0.2
FIRST_ID = 10**16  # of the collected trades; no recorded one has so high a number


class Written:
    """Trades of one pair that no other test has, and the thread that writes them one after the other."""

    def __init__(self, settings: Settings) -> None:
        self.pair, self.count = f"T{uuid.uuid4().hex[:12].upper()}-KRW", 0
        self._broker = connect(settings.model_copy(update={"journal_dir": Path("writer")}))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            append_processed(self._broker, "upbit", self.pair, channel=Channel.TRADE, offset=self.count, time=wall())
            self.count += 1

    def __enter__(self) -> "Written":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._broker.close()


class Collected:
    """Trades of one pair that come to a collector of the server's machine, and the worker that processes them."""

    def __init__(self, settings: Settings, here: Settings) -> None:
        """`here` are the settings of the server."""
        self.pair, self.count = f"T{uuid.uuid4().hex[:12].upper()}-KRW", 0
        [self._source] = [source for source in sources(UPBIT, settings) if source.channel is Channel.TRADE]
        self._collector = connect(here)
        self._broker = connect(settings.model_copy(update={"journal_dir": Path("worker")}))
        self._worker = Worker(Region.KOREA, [UPBIT], settings, self._broker)
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._collect),
            threading.Thread(target=self._worker.run, args=(self._stop,)),
        ]

    def _collect(self) -> None:
        trade = json.loads(frames("upbit", "trade")[0].payload) | {"code": f"KRW-{self.pair.partition('-')[0]}"}
        while not self._stop.wait(0.02):
            self.count += 1
            header = Header(Kind.SOCKET, 1, "c", self.count, wall())
            frame = trade | {"sequential_id": FIRST_ID + self.count - 1}
            self._collector.append(
                self._source.topic, self._source.partition, header.pack(), json.dumps(frame).encode()
            )

    def __enter__(self) -> "Collected":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._collector.close()
        self._broker.close()


class Seen:
    """What a client of the feed has seen: it checks each frame as it comes."""

    def __init__(self, pair: str) -> None:
        self._pair, self._seq = pair, -1
        self.next: int | None = None  # the trade that is to come
        self.trades = self.holes = self.snapshots = 0
        self.missing = 0  # trades that a hole announced, and that have not been seen to be missing yet
        self.may_miss = False  # a hole said that it does not know how many
        self.close_code: int | None = None

    async def follow(self, client: ClientConnection) -> None:
        """Take frames until the connection ends."""
        try:
            async for text in client:
                self.take(json.loads(text))
        except ConnectionClosed as closed:
            self.close_code = closed.rcvd.code if closed.rcvd else None

    def take(self, frame: dict[str, Any]) -> None:
        """Take a frame."""
        seq, is_snapshot = frame["seq"], frame.get("snapshot", False)
        assert self._seq == -1 or seq == self._seq + (not is_snapshot), "seq goes on"
        self._seq = seq
        self.snapshots += is_snapshot
        for record in frame["records"]:
            if record["type"] == "hole" and record["channel"] == "trade":
                assert not is_snapshot
                self.holes += 1
                self.may_miss |= record["missed_records"] is None
                if record["reason"] != LATE:  # such a one was told before, when nobody knew how many
                    self.missing += record["missed_records"] or 0
            elif record["type"] == "trade" and record["pair"] == self._pair:
                self._take(_number(record), is_snapshot=is_snapshot)

    def _take(self, offset: int, *, is_snapshot: bool) -> None:
        if is_snapshot:
            assert self.next is None or offset == self.next - 1, "the state is that of the last bundle"
            self.next = offset + 1
            return
        if self.next is not None and offset != self.next:
            assert offset > self.next, "nothing comes twice or late"
            assert self.may_miss or offset - self.next <= self.missing, "a hole is told before what comes after it"
            self.missing = max(0, self.missing - (offset - self.next))
            self.may_miss = False
        self.next = offset + 1
        self.trades += 1


def _number(record: dict[str, Any]) -> int:
    """Return the number of a trade. A frame of the spool has no offset in Kafka yet, so collected trades have ids."""
    number = int(record["id"]) - FIRST_ID
    return number if number >= 0 else int(record["offset"])


class LadderWorld:
    """A server, its services behind proxies, and a client."""

    def __init__(self, settings: Settings, opened: OpenedFeed, proxies: dict[str, Proxy], cluster: Cluster) -> None:
        self.ladder, self.reader = opened
        self.proxies, self.cluster = proxies, cluster
        self.longest_silence = 0.0  # seconds from a move until it was shown
        self.listening = listen("127.0.0.1", 0)
        self.port = self.listening.getsockname()[1]
        bound = bound_feeds(settings, self.ladder, "run", 1)
        door = Door(Keys([]), frozenset({"127.0.0.1"}), DoorLimits(), is_local=True, paths=[PATH, *bound])
        self.distributor = Distributor(Hub("run"), door, self.reader.read, moves=lambda: self.reader.moves, bound=bound)
        self.url = self.url_of(PATH)
        self.reports = FeedReports(self.distributor, self.ladder, self.url, self.port)

    def url_of(self, path: str) -> str:
        """Return the address of a feed."""
        return f"ws://127.0.0.1:{self.port}{path}"

    @contextlib.asynccontextmanager
    async def served(self) -> AsyncIterator[None]:
        """Serve, and announce how the server is."""
        stop = asyncio.Event()
        running = asyncio.create_task(self.distributor.run(self.listening, stop))
        announcing = asyncio.create_task(announce(self.cluster, "server-feed", self.reports.report, stop))
        try:
            yield
        finally:
            stop.set()
            await asyncio.gather(running, announcing)

    def take_away(self, service: str, *, hangs: bool = False) -> None:
        """Keep the server from a service, or give it no answer."""
        if hangs:
            self.proxies[service].up = self.proxies[service].down = Toxics(timeout=0)
        else:
            self.proxies[service].is_down = True

    def give_back(self, service: str) -> None:
        """Let the server reach a service again."""
        self.proxies[service].up = self.proxies[service].down = Toxics()
        self.proxies[service].is_down = False

    def shown(self) -> str:
        """Return the rung that the API would show."""
        return next(
            (status.texts["rung"] for status in statuses(self.cluster, wall()) if status.is_within("server/feed")), ""
        )

    async def stands_on(self, rung: Rung, seconds: float = 60) -> None:
        """Wait until the server reads from a rung, and says so."""
        await eventually(lambda: self.ladder.rung is rung, seconds)
        moved = time.monotonic()
        await eventually(lambda: self.shown() == rung, seconds)
        self.longest_silence = max(self.longest_silence, time.monotonic() - moved)


@contextlib.asynccontextmanager
async def ladder_world(
    kafka: Kafka, redis: Redis, folder: Path, *, collects_here: bool = False
) -> AsyncIterator[tuple[LadderWorld, Written | Collected, Seen]]:
    """Run a server that reaches both services through proxies, and what writes to them.

    What writes to Kafka reaches it directly. If `collects_here`, everyone reaches Kafka through the proxy, and the
    server's machine collects.
    """
    shown = f"127.0.0.1:{kafka.shown[0]}"
    direct = Settings(
        home=folder,
        broker_url=f"kafka://{shown if collects_here else kafka.address}",
        topic_korea=f"korea{uuid.uuid4().hex}",
        batch_interval=0.05,
        redis_url=redis.address,
        redis_feed=True,
        deployment=uuid.uuid4().hex,
        exchanges=("upbit",),
    )
    kafka_topics.create(direct.model_copy(update={"broker_url": f"kafka://{kafka.address}"}))
    with contextlib.ExitStack() as stack:
        proxies = {
            "kafka": stack.enter_context(Proxy(f"127.0.0.1:{kafka.hidden[0]}", port=kafka.shown[0])),
            "redis": stack.enter_context(Proxy(f"127.0.0.1:{redis.port}")),
        }
        stack.enter_context(_copied(direct))
        cluster = cluster_of(FileStore(folder / "store"), folder / "copies")
        far = {"broker_url": f"kafka://{proxies['kafka'].address}", "journal_dir": Path("server")}
        far["redis_url"] = f"redis://{proxies['redis'].address}/0"
        settings = Settings(**{**direct.model_dump(), **far})
        written: Written | Collected = Collected(direct, settings) if collects_here else Written(direct)
        stack.enter_context(written)
        opened = stack.enter_context(opened_feed(settings, wall(), times=TIMES, probe_seconds=PROBE_SECONDS))
        world, seen = LadderWorld(settings, opened, proxies, cluster), Seen(written.pair)
        async with world.served():
            async with connect_to(world.url) as client:
                following = asyncio.create_task(seen.follow(client))
                yield world, written, seen
            await following


@contextlib.contextmanager
def _copied(settings: Settings) -> Iterator[None]:
    """Copy processed records into Redis, as a worker does."""
    broker, streams = connect(settings.model_copy(update={"journal_dir": Path("copy")})), open_feed_streams(settings)
    feed = RedisFeed(Region.KOREA, [UPBIT], settings, broker, streams)
    try:
        with copying(feed):
            yield
    finally:
        broker.close()
        streams.close()
