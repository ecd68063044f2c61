"""Records of one channel as a collector would log them, and the gaps that the ledger finds in them."""

import json
from collections.abc import Iterator
from typing import Any

from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Exchange
from coin_platform.model import SECOND, Channel, Control, Event, Frame, Gap, Kind, Pair, Ticker
from coin_platform.records import Facts, Header, Transport
from coin_platform.tables.gaps import GapLedger
from tests.kit.log import TIME

BTC, ETH = Pair("BTC", "KRW"), Pair("ETH", "KRW")
PAIRS = [f"{base}-{quote}" for base in ("BTC", "ETH") for quote in ("KRW", "USDT", "USD")]


def plain(exchange: str) -> Exchange:
    """Return an exchange whose messages are lists of the pairs that they bring."""

    def read(_: Exchange, frame: Frame) -> Iterator[Event]:
        for name in json.loads(frame.payload):
            yield Ticker(pair=Pair.parse(name), last="1") if name in PAIRS else Control(name=name)

    adapter: Exchange = type("Plain", (type(EXCHANGES[exchange]),), {"read": read})()
    return adapter


class Feed:
    """Records of one channel, and what the ledger says of them. Times are seconds."""

    def __init__(self, channel: Channel = Channel.TICKER, exchange: str = "upbit", *, books: bool = False) -> None:
        self.ledger = GapLedger(plain(exchange), channel, books=books)
        self.numbers: dict[str, int] = {}
        self.rows: dict[Any, Gap] = {}  # by key, as last told
        self.epoch = 1

    def keep(self, changed: list[Gap]) -> list[Gap]:
        self.rows |= {(gap.channel, gap.pair, gap.start): gap for gap in changed}
        return changed

    def say(self, kind: Kind, at: float, name: str, value: bytes, pair: Pair | None = None) -> list[Gap]:
        header = Header(kind, self.epoch, name, self.numbers.get(name, 0), TIME + int(at * SECOND), pair)
        return self.keep(self.ledger.record(header, value))

    def open(
        self,
        at: float,
        name: str = "a",
        pairs: tuple[Pair, ...] = (BTC,),
        transport: str = "ws",
        *,
        beside: bool = False,
    ) -> None:
        facts = Facts(transport=transport, pairs=[str(pair) for pair in pairs], beside=beside)
        assert self.say(Kind.OPENED, at, name, facts.pack()) == [] or self.epoch > 1

    def frame(self, at: float, name: str = "a", skip: int = 0, heard: tuple[object, ...] | None = None) -> list[Gap]:
        """Take a message that brings these pairs, or all that the connection carries."""
        self.numbers[name] = self.numbers.get(name, 0) + 1 + skip
        line = self.ledger.state.connections.get(name)
        pairs = [*map(str, heard)] if heard is not None else line.pairs if line else []
        return self.say(Kind.SOCKET, at, name, json.dumps(pairs).encode())

    def answer(self, at: float, pair: Pair, value: bytes, name: str = "a") -> list[Gap]:
        self.numbers[name] = self.numbers.get(name, 0) + 1
        return self.say(Kind.REST, at, name, value, pair)

    def close(self, at: float, reason: str, name: str = "a") -> list[Gap]:
        return self.say(Kind.CLOSED, at, name, Facts(reason=reason).pack())

    def carry(self, at: float, *pairs: Pair, name: str = "a", kind: Kind = Kind.PAIRS) -> list[Gap]:
        return self.say(kind, at, name, Facts(pairs=[str(pair) for pair in pairs]).pack())

    @property
    def gaps(self) -> list[tuple[Any, ...]]:
        """Pair, from and to in seconds, cause, filled by."""
        return [
            (
                str(gap.pair) if gap.pair else None,
                (gap.start - TIME) / SECOND,
                None if gap.stop is None else (gap.stop - TIME) / SECOND,
                gap.cause,
                gap.filled_by,
            )
            for gap in self.rows.values()
        ]


def trades(*seconds: float) -> bytes:
    """Return Upbit's REST answer with trades at these times, newest first."""
    row = (
        '{{"market":"KRW-BTC","timestamp":{ms},"trade_price":1.0,"trade_volume":1.0,"ask_bid":"ASK",'
        '"sequential_id":{ms},"trade_date_utc":"2026-11-02","trade_time_utc":"00:00:00",'
        '"prev_closing_price":1.0,"change_price":0.0}}'
    )
    return (
        "[" + ",".join(row.format(ms=TIME // 1000 + int(at * 1000)) for at in sorted(seconds, reverse=True)) + "]"
    ).encode()


def served(
    *pairs: Pair,
    channel: Channel = Channel.TICKER,
    exchange: str = "upbit",
    books: bool = False,
    until: float | None = None,
) -> Feed:
    """Return a feed of these pairs, or of BTC, that was opened at 0, brought them at 1, and broke at `until`."""
    feed = Feed(channel, exchange, books=books)
    feed.open(0, pairs=pairs or (BTC,))
    feed.frame(1)
    if until is not None:
        feed.close(until, "broken")
    return feed


def broken(at: float = 2, again: float = 10) -> Feed:
    """Return a feed of trades that broke and was served again."""
    feed = served(channel=Channel.TRADE, until=at)
    feed.open(again - 0.5, "b")
    feed.frame(again, "b")
    return feed


def wants(feed: Feed, at: float, *pairs: Pair, kind: Kind = Kind.OPENED, name: str = "w", **facts: object) -> list[Gap]:
    """Say what a feed wants."""
    names = [str(pair) for pair in pairs]
    return feed.say(kind, at, name, Facts(transport=Transport.NONE, pairs=names, **facts).pack())  # type: ignore[arg-type]
