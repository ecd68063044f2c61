"""The recordings under tests/data as frames."""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from coin_platform.exchanges import EXCHANGES
from coin_platform.model import Channel, Event, Frame, Kind, Pair
from coin_platform.simulator.recordings import read

DATA = Path(__file__).parent.parent / "data"
LATE = 4_102_444_800_000_000  # µs; the year 2100, later than any message


def files(pattern: str = "*") -> list[tuple[str, Path]]:
    """Return (exchange, file) of all recordings whose name matches. Lists of markets need the pattern `markets`."""
    paths = sorted(DATA.glob(f"*/{pattern}.jsonl"))
    return [(path.parent.name, path) for path in paths if path.stem != "markets" or pattern == "markets"]


def frames(exchange: str, stem: str) -> list[Frame]:
    """Return the frames of one file."""
    return [frame for _, frame in read(EXCHANGES[exchange], DATA / exchange / f"{stem}.jsonl")]


def events(exchange: str, stem: str) -> Iterator[Event]:
    """Yield the events of the frames of one file."""
    for frame in frames(exchange, stem):
        yield from EXCHANGES[exchange].decode(frame)


def say(exchange: str, channel: Channel, payload: bytes, pair: Pair | None = None) -> list[Event]:
    """Return the events of a message. With a pair it is a REST answer, otherwise a message of a socket."""
    frame = Frame(
        exchange=exchange,
        channel=channel,
        connection="c",
        number=1,
        received_time=LATE,
        payload=payload,
        kind=Kind.REST if pair else Kind.SOCKET,
        pair=pair,
    )
    return EXCHANGES[exchange].decode(frame)


def cut(frame: Frame) -> Iterator[Frame]:
    """Yield a message cut off at every length."""
    for length in range(len(frame.payload)):
        yield msgspec.structs.replace(frame, payload=frame.payload[:length])


def spoilt(frame: Frame) -> Iterator[Frame]:
    """Yield a message with one byte replaced, at every third place."""
    for place in range(0, len(frame.payload), 3):
        for byte in (b"", b"\x00", b'"', b"9", b"-", b"[]", b"null"):
            changed = frame.payload[:place] + byte + frame.payload[place + 1 :]
            yield msgspec.structs.replace(frame, payload=changed)
