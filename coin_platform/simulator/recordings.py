"""Read and write recorded messages: one JSON object a line, with source, recorded, transport, url and payload.

1. A message that we recorded also has epoch, connection, number and received_time (µs, UTC).
2. A REST answer that we recorded also has its pair.
3. A payload that is not UTF-8 stands in `payload_base64` instead of `payload`.
"""

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from coin_platform.errors import CoinPlatformError, RecordingError, UnknownPair
from coin_platform.exchanges.base import Exchange, Source
from coin_platform.model import Channel, Frame, Kind, Microseconds, Pair
from coin_platform.records import Header, Record

UNKNOWN_TIME: Microseconds = 4_102_444_800_000_000  # the year 2100: of a frame without a time, later than any other


def channel_of(file: Path) -> Channel | None:
    """Return the channel that stands in the name of a recording, or None."""
    named = (channel for channel in Channel if channel.value in file.stem)
    return next(named, Channel.ORDERBOOK if "book" in file.stem else None)


def read(exchange: Exchange, file: Path, channel: Channel | None = None) -> Iterator[tuple[int, Frame]]:
    """Yield line numbers and frames. If no channel is given, the file's name tells it.

    Raises `RecordingError` with file and line.
    """
    for number, frame, _ in read_all(exchange, file, channel):
        yield number, frame


def read_all(exchange: Exchange, file: Path, channel: Channel | None = None) -> Iterator[tuple[int, Frame, str]]:
    """Yield line numbers, frames and the URLs of the frames. Raises `RecordingError` as `read` does."""
    channel = channel or channel_of(file) or Channel.ORDERBOOK
    try:
        with file.open(encoding="utf-8", newline="\n") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, *_frame(exchange, channel, file, number, line)
    except (OSError, UnicodeDecodeError) as error:
        raise RecordingError(f"{file}: {error}") from error


def line(source: Source, record: Record, header: Header) -> str:
    """Return the line that records a frame of a raw topic."""
    exchange, channel = source.exchange, source.channel
    url = exchange.socket_url(channel)
    if header.kind is Kind.REST and header.pair is not None:
        url = exchange.request_url(channel, header.pair) or url
    facts = {
        "source": f"{source.topic}[{source.partition}] offset {record.offset}",
        "recorded": datetime.fromtimestamp(header.received_time / 1e6, UTC).date().isoformat(),
        "transport": "rest" if header.kind is Kind.REST else "ws",
        "url": url,
        "epoch": header.epoch,
        "connection": header.connection,
        "number": header.number,
        "received_time": header.received_time,
        **({"pair": str(header.pair)} if header.pair else {}),
    }
    try:
        payload = {"payload": record.value.decode()}
    except UnicodeDecodeError:
        payload = {"payload_base64": base64.b64encode(record.value).decode()}
    return json.dumps({**facts, **payload}, ensure_ascii=False, separators=(",", ":"))


def _frame(exchange: Exchange, channel: Channel, file: Path, number: int, line: str) -> tuple[Frame, str]:
    try:
        recorded = json.loads(line)
        kind = Kind.REST if recorded["transport"] == "rest" else Kind.SOCKET
        url = str(recorded.get("url") or "")
        pair = None
        if kind is Kind.REST:
            pair = Pair.read(recorded["pair"]) if "pair" in recorded else pair_of(exchange, url)
        frame = Frame(
            exchange=exchange.name,
            channel=channel,
            connection=str(recorded.get("connection", file.stem)),
            number=int(recorded.get("number", number)),
            received_time=int(recorded.get("received_time", UNKNOWN_TIME)),
            payload=_bytes(recorded, line),
            epoch=int(recorded.get("epoch", 0)),
            kind=kind,
            pair=pair,
        )
    except (ValueError, LookupError, TypeError, UnknownPair) as error:
        raise RecordingError(f"{file}:{number}: not a recording with transport and payload: {error}") from error
    return frame, url


def _bytes(recorded: dict[str, Any], line: str) -> bytes:
    """Return the exact bytes of the message.

    A payload that is a text is the message itself. Any other payload is cut out of the line, as it is written there.
    """
    if "payload_base64" in recorded:
        return base64.b64decode(recorded["payload_base64"], validate=True)
    payload = recorded["payload"]
    return (payload if isinstance(payload, str) else _payload(line)).encode()


def _payload(line: str) -> str:
    """Return the text of the payload as it stands in the line, so that numbers keep their digits."""
    decoder = json.JSONDecoder()
    start = line.index('"payload"') + len('"payload"')
    start += len(line[start:]) - len(line[start:].lstrip(" :"))
    _, stop = decoder.raw_decode(line, start)
    return line[start:stop]


def pair_of(exchange: Exchange, url: str) -> Pair | None:
    """Return the pair that a URL of REST asks for, or None if no part of the URL is a symbol of the exchange."""
    parts = urlsplit(url)
    values = [value for _, value in parse_qsl(parts.query)]
    path = [part for part in parts.path.split("/") if part]
    for value in [*values, *path, *map("/".join, pairwise(path))]:  # Coinone's symbols are two parts: KRW/BTC
        try:
            pair = exchange.pair(value)
        except (CoinPlatformError, ValueError):
            continue
        # A part of a path in lower case is a word of the address, like `order_book`.
        if value in values or (exchange.symbol(pair) == value and not value.islower()):
            return pair
    return None
