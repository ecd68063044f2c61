"""Records as a collector would have logged them."""

from coin_platform.model import Kind, Pair
from coin_platform.records import Facts, Header, Record
from coin_platform.tables import quality
from coin_platform.tables.dataframes import Batch
from tests.kit.recordings import frames

TIME = 1_795_478_400_000_000


def log(payloads: list[bytes], connection: str = "c", start: int = 0) -> list[Record]:
    """Make the records of a socket's messages."""
    return [
        Record(start + n, TIME + n, Header(Kind.SOCKET, 1, connection, n + 1, TIME + n).pack(), payload)
        for n, payload in enumerate(payloads)
    ]


def answer(offset: int, pair: Pair, payload: bytes) -> Record:
    """Make the record of a REST answer, of a connection of its own."""
    header = Header(Kind.REST, 1, "r", offset + 1, TIME + offset, pair)
    return Record(offset, TIME + offset, header.pack(), payload)


def recorded(exchange: str, stem: str) -> list[Record]:
    """Return a recording as a log."""
    return [
        Record(n, TIME + n, Header(frame.kind, 1, "c", n + 1, TIME + n, frame.pair).pack(), frame.payload)
        for n, frame in enumerate(frames(exchange, stem))
    ]


def own(offset: int, kind: Kind, facts: Facts, connection: str = "c") -> Record:
    """Make a record of our own."""
    return Record(offset, TIME + offset, Header(kind, 1, connection, offset, TIME).pack(), facts.pack())


def conserves(result: Batch) -> bool:
    """Whether each frame and each row is accounted for."""
    return quality.conservation(result.rows, result.counts).passed
