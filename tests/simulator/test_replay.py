"""`coin replay`: recorded frames reach the real collector, each once, in order and at their pace."""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect

from coin_platform.broker import MemoryBroker
from coin_platform.collect.collector import Collector
from coin_platform.commands.capture import write
from coin_platform.errors import CoinPlatformError
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.addresses import simulated_url
from coin_platform.model import SECOND, Channel, Kind, Pair, Region
from coin_platform.records import Header, unpack
from coin_platform.runtime.ports import free_port
from coin_platform.selection import sources
from coin_platform.settings import Mode, Settings
from coin_platform.simulator.replay import Replay, asked_for
from coin_platform.simulator.sent_log import SentLog, digest, open_log
from coin_platform.topic_names import raw_topic
from tests.kit.recordings import DATA, frames
from tests.kit.waiting import eventually

START = 1_795_478_400 * SECOND
CHANNELS = [(name, channel) for name, adapter in EXCHANGES.items() for channel in sorted(adapter.channels)]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SentLog]:
    """The log of sent messages."""
    with open_log(tmp_path / "log") as log:
        yield log


class ReplayClock:
    """The clock of a replay. Each wait for a frame passes at once, but only as many waits as the test allows."""

    def __init__(self, waits: int = 1_000_000) -> None:
        self.passed = 0.0
        self.waits: list[float] = []
        self._allowed = asyncio.Semaphore(waits)

    def __call__(self) -> float:
        return self.passed

    async def sleep(self, seconds: float) -> None:
        """Let the time pass."""
        due = self.passed + seconds
        await self._allowed.acquire()
        self.waits.append(seconds)
        self.passed = max(self.passed, due)
        await asyncio.sleep(0)

    def allow(self, waits: int) -> None:
        """Allow so many more waits."""
        for _ in range(waits):
            self._allowed.release()


def replayed(
    folder: Path, log: SentLog, clock: ReplayClock | None = None, *, speed: float = 1.0, loop: bool = False
) -> Replay:
    """Return the replay of a folder, on a free port."""
    settings = Settings(exchanges_mode=Mode.SIMULATED, simulator_port=free_port(0))
    clock = clock or ReplayClock()
    return Replay(settings, folder, log, speed=speed, loop=loop, monotonic=clock, sleep=clock.sleep)


@contextlib.asynccontextmanager
async def serving(replay: Replay) -> AsyncIterator[str]:
    """Serve until the block ends. Yield host and port."""
    stop, ready = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(replay.run(stop, ready))
        await ready.wait()
        try:
            yield f"127.0.0.1:{replay.port}"
        finally:
            stop.set()


def record(folder: Path, exchange: str, channel: Channel, payloads: Sequence[bytes], every: float = 1.0) -> None:
    """Capture frames that came `every` seconds."""
    source = next(source for source in sources(EXCHANGES[exchange], Settings()) if source.channel is channel)
    broker = MemoryBroker()
    for number, payload in enumerate(payloads, 1):
        header = Header(Kind.SOCKET, 1, "c", number, START + int(number * every * SECOND))
        broker.append(source.topic, source.partition, header.pack(), payload)
    stored = broker.read(source.topic, source.partition, 0, len(payloads))
    write(source, stored, folder / exchange / f"{channel}.jsonl")


def subscription(exchange: str, channel: Channel) -> str:
    """Return the request of a client that subscribes to BTC."""
    adapter = EXCHANGES[exchange]
    return next(adapter.subscribe(channel, [Pair("BTC", adapter.quote)], id=1, time=START)).payload


def sent(folder: Path) -> Counter[tuple[str, str]]:
    """Count the exchanges and hashes of all messages that were sent."""
    lines = (folder / "log/sent.jsonl").read_text(encoding="utf-8").splitlines()
    return Counter((line["exchange"], line["hash"]) for line in map(json.loads, lines))


@pytest.mark.parametrize(("exchange", "channel"), CHANNELS)
def test_what_a_subscription_asks_for_is_known_by_its_words(exchange: str, channel: Channel) -> None:
    adapter = EXCHANGES[exchange]
    pairs = [Pair(base, adapter.quote) for base in ("BTC", "ETH", "XRP", "SOL", "USDT")]
    requests = list(adapter.subscribe(channel, pairs, id=77, time=START + 123_456))
    assert requests
    assert {frozenset(asked_for(adapter, request.payload)) for request in requests} == {frozenset({channel})}
    assert adapter.ping is None or asked_for(adapter, adapter.ping) == set()


async def test_the_collector_stores_what_was_captured_byte_for_byte_and_in_order(tmp_path: Path, log: SentLog) -> None:
    captured = {
        ("okx", Channel.ORDERBOOK): [frame.payload for frame in frames("okx", "book_sequence_1")],
        ("okx", Channel.TICKER): [frame.payload for frame in frames("okx", "ticker")] * 7,
        ("bybit", Channel.TRADE): [b"\xff\x00 no text", b'{"cut', *(f.payload for f in frames("bybit", "trade"))],
    }
    for (exchange, channel), payloads in captured.items():
        record(tmp_path, exchange, channel, payloads)

    clock = ReplayClock()

    replay, broker = replayed(tmp_path, log, clock, speed=50.0), MemoryBroker()
    channels = (Channel.TICKER, Channel.ORDERBOOK, Channel.TRADE)
    settings = Settings(
        exchanges_mode=Mode.SIMULATED, simulator_port=replay.port, exchanges=("okx", "bybit"), channels=channels
    )
    stop, ready = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        served = group.create_task(replay.run(asyncio.Event(), ready))
        await ready.wait()
        group.create_task(Collector(Region.ASIA, settings, broker).run(stop))
        await served
        stop.set()
    for (exchange, channel), payloads in captured.items():
        topic, partition = raw_topic("asia", channel), EXCHANGES[exchange].partition
        records = list(broker.read(topic, partition, 0, broker.end_offset(topic, partition)))
        stored = [record.value for record in records if unpack(record.header).kind is Kind.SOCKET]
        assert stored == payloads, f"{exchange} {channel}"
    assert sent(tmp_path) == Counter((name, digest(load)) for (name, _), loads in captured.items() for load in loads)
    frame_count = max(map(len, captured.values()))
    assert clock.passed >= (frame_count - 1) / 50 - 1e-6
    assert max(clock.waits) <= 1 / 50 + 1e-6  # the frames came a second apart


async def test_a_channel_that_came_later_comes_later_again(tmp_path: Path, log: SentLog) -> None:
    record(tmp_path, "kraken", Channel.TICKER, [b"1", b"2"], every=10)
    record(tmp_path, "kraken", Channel.TRADE, [b"3"], every=40)  # 30 s after the first ticker

    clock = ReplayClock()

    async with serving(replayed(tmp_path, log, clock, speed=100.0)) as host:
        url = simulated_url(EXCHANGES["kraken"].socket_url(Channel.TRADE), "kraken", host)
        async with connect(url) as socket:
            await socket.send(subscription("kraken", Channel.TRADE))
            assert await socket.recv() == "3"
    assert clock.waits == [pytest.approx(0.3)]


async def test_where_no_time_was_recorded_ten_frames_come_a_second(tmp_path: Path, log: SentLog) -> None:
    (tmp_path / "upbit").symlink_to(DATA / "upbit")
    payloads = [frame.payload for frame in frames("upbit", "ticker")]

    clock = ReplayClock()

    async with serving(replayed(tmp_path, log, clock, speed=5.0)) as host:
        url = simulated_url(EXCHANGES["upbit"].socket_url(Channel.TICKER), "upbit", host)
        async with connect(url) as socket:
            await socket.send(subscription("upbit", Channel.TICKER))
            assert [await socket.recv(decode=False) for _ in payloads] == payloads
    assert clock.waits == [pytest.approx(1 / 50)] * len(payloads)


async def test_the_next_connection_goes_on_where_the_last_one_ended(tmp_path: Path, log: SentLog) -> None:
    payloads = [f"{number}".encode() for number in range(6)]
    record(tmp_path, "kraken", Channel.TICKER, payloads, every=1)

    clock = ReplayClock(waits=0)

    async def listen(url: str, frames: int) -> list[bytes]:
        async with connect(url) as socket:
            clock.allow(frames)
            await socket.send(subscription("kraken", Channel.TICKER))
            await socket.send('{"method":"ping"}')
            return [await socket.recv(decode=False) for _ in range(frames)]

    async with serving(replayed(tmp_path, log, clock)) as host:
        url = simulated_url(EXCHANGES["kraken"].socket_url(Channel.TICKER), "kraken", host)
        assert [*await listen(url, 2), *await listen(url, 3), *await listen(url, 1)] == payloads
    assert sent(tmp_path) == Counter(("kraken", digest(payload)) for payload in payloads)
    ends = [json.loads(line) for line in (tmp_path / "log/closed.jsonl").read_text().splitlines()]
    assert [(end["code"], end["sent"]) for end in ends] == [(1000, 2), (1000, 3), (1000, 1)]


async def test_a_loop_begins_again_at_the_end(tmp_path: Path, log: SentLog) -> None:
    record(tmp_path, "kraken", Channel.TICKER, [b"1", b"2"], every=0.01)

    clock = ReplayClock(waits=5)

    async with (
        serving(replayed(tmp_path, log, clock, loop=True)) as host,
        connect(f"ws://{host}/kraken/v2") as socket,
    ):
        await socket.send(subscription("kraken", Channel.TICKER))
        assert [await socket.recv() for _ in range(5)] == ["1", "2", "1", "2", "1"]


async def test_rest_is_answered_with_what_was_recorded_for_the_path_and_pair(tmp_path: Path, log: SentLog) -> None:
    (tmp_path / "upbit").mkdir()
    line = '{"transport":"rest","url":"https://api.upbit.com/v1/orderbook?markets=%s&level=0","payload":"%s"}\n'
    answers = [("KRW-BTC", "btc 1"), ("KRW-ETH", "eth"), ("KRW-BTC", "btc 2")]
    (tmp_path / "upbit/rest_orderbook.jsonl").write_text("".join(line % answer for answer in answers))
    record(tmp_path, "upbit", Channel.TICKER, [b"1"])

    async with serving(replayed(tmp_path, log)) as host, httpx.AsyncClient(trust_env=False) as client:
        paths = ("KRW-BTC", "KRW-BTC", "KRW-BTC", "KRW-ETH", "KRW-XRP")
        urls = [f"http://{host}/upbit/v1/orderbook?markets={symbol}" for symbol in paths]
        urls += [f"http://{host}/upbit/v1/ticker?markets=KRW-BTC", f"http://{host}/okx/api/v5/market/ticker"]
        assert [(answer.status_code, answer.text) for answer in [await client.get(url) for url in urls]] == [
            (200, "btc 1"),
            (200, "btc 2"),
            (200, "btc 2"),
            (200, "eth"),
            *[(404, "not recorded")] * 2,
            (404, "not recorded: okx"),
        ]


async def test_it_waits_for_every_channel_and_then_ends(tmp_path: Path, log: SentLog) -> None:
    record(tmp_path, "kraken", Channel.TICKER, [b"1"], every=0)
    record(tmp_path, "kraken", Channel.TRADE, [b"2"], every=0)

    replay, ready = replayed(tmp_path, log), asyncio.Event()
    served = asyncio.create_task(replay.run(asyncio.Event(), ready))
    await ready.wait()
    url = simulated_url(EXCHANGES["kraken"].socket_url(Channel.TICKER), "kraken", f"127.0.0.1:{replay.port}")
    async with connect(url) as socket:
        await socket.send(subscription("kraken", Channel.TICKER))
        assert await socket.recv() == "1"
        await eventually(lambda: [track.over.is_set() for track in replay.tracks] == [True, False])
        assert not served.done()
        await socket.send(subscription("kraken", Channel.TRADE))  # one connection may hear both channels
        assert await socket.recv() == "2"
        await socket.wait_closed()
        assert socket.close_code == 1001
    await served


@pytest.mark.parametrize(("speed", "line"), [(1.0, "no recordings; write the folder of"), (0.0, "--speed 0: write a")])
def test_what_cannot_be_replayed_is_one_line(tmp_path: Path, log: SentLog, speed: float, line: str) -> None:
    with pytest.raises(CoinPlatformError, match=line):
        replayed(tmp_path, log, speed=speed)
