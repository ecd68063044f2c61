"""Makes any number of messages of exchanges. Values vary, or compression and branch prediction would be too good."""

from coin_platform.broker import MemoryBroker
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Source
from coin_platform.model import SECOND, Channel, Kind
from coin_platform.records import Header, Record
from coin_platform.selection import sources, wanted_pairs
from coin_platform.settings import Settings
from coin_platform.simulator import VENUES
from coin_platform.simulator.faults import Faults
from coin_platform.simulator.market import Market
from tests.kit.hour import Clock, World

START = 1_790_000_000 * SECOND


def records_of(exchange: str, channel: Channel, count: int) -> tuple[Source, list[Record]]:
    """Return a partition with at least `count` records of a simulated exchange, which makes ten steps a second."""
    settings, clock = Settings(exchanges=(exchange,), channels=(channel,)), Clock(START)
    broker = MemoryBroker(clock=lambda: clock.time)
    world = World([exchange], broker, clock, settings, faults=Faults())
    [source] = world.sources
    while broker.end_offset(source.topic, source.partition) < count:
        world.run(50, SECOND // 10)
    return source, list(broker.read(source.topic, source.partition, 0, 1 << 40))


def data(exchange: str, channel: Channel, count: int, mark: bytes) -> tuple[Source, list[Record]]:
    """Return only the socket frames that contain `mark`, with new offsets."""
    source, records = records_of(exchange, channel, count)
    frames = [record for record in records if record.header.startswith(f"{Kind.SOCKET},") and mark in record.value]
    return source, [record._replace(offset=offset) for offset, record in enumerate(frames)]


def books(exchange: str, count: int) -> tuple[Source, list[Record]]:
    """Return `count` whole books."""
    settings, spot, time = Settings(exchanges=(exchange,)), EXCHANGES[exchange], START
    [source] = [source for source in sources(spot, settings) if source.channel is Channel.ORDERBOOK]
    market = Market(7, {exchange: wanted_pairs(spot, settings)}, time)
    venue = VENUES[exchange](market)
    records: list[Record] = []
    while len(records) < count:
        time += SECOND // 10
        market.step(time)
        for listing in venue.listings().values():
            for out in venue.data(Channel.ORDERBOOK, listing, time, is_first=True):
                header = Header(Kind.SOCKET, 1, "c", len(records) + 1, time + 500)
                records.append(Record(len(records), time + 1000, header.pack(), out.payload.encode()))
    return source, records[:count]
