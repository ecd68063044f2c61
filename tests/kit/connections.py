"""The log of several connections that carry the same pairs, and messages of exchanges for it."""

import json

from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Source
from coin_platform.model import SECOND, Channel, Kind, Microseconds, Pair
from coin_platform.records import Facts, Header, Record
from coin_platform.tables.dataframes import Batch, batch
from tests.kit.log import TIME, conserves
from tests.kit.recordings import frames

UPBIT = Source(EXCHANGES["upbit"], Channel.TICKER, "t", 0)
UPBIT_TRADES = Source(EXCHANGES["upbit"], Channel.TRADE, "t", 0)
UPBIT_BOOKS = Source(EXCHANGES["upbit"], Channel.ORDERBOOK, "t", 0)
BINANCE_TRADES = Source(EXCHANGES["binance"], Channel.TRADE, "t", 0)
BINANCE_CANDLES = Source(EXCHANGES["binance"], Channel.CANDLE, "t", 0)
BINANCE_BOOKS = Source(EXCHANGES["binance"], Channel.ORDERBOOK, "t", 0)
BYBIT = Source(EXCHANGES["bybit"], Channel.ORDERBOOK, "t", 1)
GATEIO = Source(EXCHANGES["gateio"], Channel.ORDERBOOK, "t", 2)
KRAKEN = Source(EXCHANGES["kraken"], Channel.ORDERBOOK, "t", 1)
FIRST = 1_777_000_020_000  # ms; a whole minute
MINUTE = 60 * SECOND


class PartitionRecords:
    """A partition that connections write to, a millisecond apart unless told otherwise.

    The connections `opened`, a letter each, are opened at once.
    """

    def __init__(self, *pairs: str, transport: str = "ws", opened: str = "") -> None:
        self.records: list[Record] = []
        self.time: Microseconds = TIME
        self._numbers: dict[tuple[int, str], int] = {}
        self._pairs, self._transport = list(pairs), transport
        for connection in opened:
            self.open(connection)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.time += int(seconds * SECOND)

    def open(self, connection: str, *pairs: str, epoch: int = 1) -> None:
        """Log that a connection was opened."""
        facts = Facts(transport=self._transport, pairs=list(pairs or self._pairs))
        self.own(Kind.OPENED, connection, facts, epoch=epoch)

    def close(self, connection: str, epoch: int = 1) -> None:
        """Log that it was closed."""
        self.own(Kind.CLOSED, connection, Facts(reason="replaced"), epoch=epoch)

    def own(self, kind: Kind, connection: str, facts: Facts, epoch: int = 1) -> None:
        """Log a record of our own."""
        self._append(
            Header(kind, epoch, connection, self._numbers.get((epoch, connection), 0), self.time), facts.pack()
        )

    def say(self, connection: str, *payloads: bytes, epoch: int = 1) -> None:
        """Log what a socket brought."""
        for payload in payloads:
            self._append(Header(Kind.SOCKET, epoch, connection, self._next(epoch, connection), self.time), payload)

    def answer(self, connection: str, payload: bytes, pair: Pair) -> None:
        """Log what REST answered."""
        self._append(Header(Kind.REST, 1, connection, self._next(1, connection), self.time, pair), payload)

    def rows(self, source: Source) -> list[int]:
        """Return the offsets of the frames that gave rows; nothing goes unaccounted."""
        return offsets(batch(source, self.records))

    def _next(self, epoch: int, connection: str) -> int:
        self._numbers[epoch, connection] = self._numbers.get((epoch, connection), 0) + 1
        return self._numbers[epoch, connection]

    def _append(self, header: Header, value: bytes) -> None:
        self.time += 1000
        self.records.append(Record(len(self.records), self.time, header.pack(), value))


def offsets(result: Batch) -> list[int]:
    """Return where the rows are from, in order; all frames are accounted for, and no fault was found."""
    assert conserves(result) and not result.counts["frames_dead"] and not result.counts["missing"]
    return [int(offset) for offset in result.rows["offset"].sort()]


def ticker(number: int) -> bytes:
    """Make an Upbit ticker; another number, another price."""
    return json.dumps(json.loads(frames("upbit", "ticker")[0].payload) | {"trade_price": 100.0 + number}).encode()


def trade(number: int) -> bytes:
    """Make a Binance trade with an id."""
    row = {"e": "trade", "E": FIRST, "s": "BTCUSDT", "t": number, "p": "100.5", "q": "0.25", "T": FIRST, "m": True}
    return json.dumps(row).encode()


def nameless(*prices: float) -> bytes:
    """Make an Upbit answer with trades that have no id."""
    head = {"market": "KRW-BTC", "timestamp": 1_777_000_000_000, "trade_volume": 2, "ask_bid": "ASK"}
    return json.dumps([head | {"trade_price": price} for price in prices]).encode()


def candle(number: int) -> bytes:
    """Make a Binance candle of one minute; another number, another close."""
    values = {"t": FIRST, "s": "BTCUSDT", "i": "1m", "o": "100", "c": str(100 + number), "h": "200", "l": "50"}
    return json.dumps(
        {"e": "kline", "E": FIRST + 1, "s": "BTCUSDT", "k": values | {"v": "3", "q": "300", "x": False}}
    ).encode()


def whole(number: int) -> bytes:
    """Make an Upbit book; another number, another size."""
    unit = {"ask_price": 2.0, "bid_price": 1.0, "ask_size": 1.0, "bid_size": 1.0 + number}
    row = {"type": "orderbook", "code": "KRW-BTC", "timestamp": 1_777_000_000_000, "orderbook_units": [unit]}
    return json.dumps(row).encode()


def book(sequence: int, kind: str = "delta") -> bytes:
    """Make a Bybit change, or a whole book, with the sequence as the size of its best bid."""
    data = {"s": "BTCUSDT", "b": [["100", str(sequence)]], "a": [["101", "1"]], "u": sequence, "seq": sequence}
    head = {"topic": "orderbook.200.BTCUSDT", "type": kind, "ts": 1_777_000_000_000, "cts": 1_777_000_000_000}
    return json.dumps(head | {"data": data}).encode()


def snapshot(sequence: int) -> bytes:
    """Make a whole Bybit book."""
    return book(sequence, "snapshot")
