"""Stored volume is traded volume: what the socket and REST both tell is one row, and each trade is there once."""

import json
import math
from collections.abc import Iterable
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coin_platform.errors import DecodeError
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Source
from coin_platform.model import SECOND, Channel, Kind, Pair, Side, Trade
from coin_platform.records import Header, Record
from coin_platform.simulator import VENUES
from coin_platform.simulator.market import Market
from coin_platform.tables.dataframes import Batch, batch
from coin_platform.tables.known_trades import KnownTrades
from tests.kit.log import TIME, answer, conserves
from tests.kit.recordings import say

OKX = Source(EXCHANGES["okx"], Channel.TRADE, "asiaSocketDataIn-trade", 0)
GATE = Source(EXCHANGES["gateio"], Channel.TRADE, "asiaSocketDataIn-trade", 2)
BITHUMB = Source(EXCHANGES["bithumb"], Channel.TRADE, "koreaSocketDataIn-trade", 1)
BTC_USDT, BTC_KRW = Pair("BTC", "USDT"), Pair("BTC", "KRW")


def okx_socket(id: int, size: float, count: int, channel: str = "trades") -> bytes:
    """Return what OKX tells of `count` trades at one price."""
    row = {"instId": "BTC-USDT", "tradeId": str(id), "px": "100", "sz": str(size), "side": "buy", "ts": "1786538760218"}
    return json.dumps(
        {"arg": {"channel": channel, "instId": "BTC-USDT"}, "data": [{**row, "count": str(count)}]}
    ).encode()


def okx_rest(sizes: dict[int, float]) -> bytes:
    """Return OKX's answer with these trades."""
    row = {"instId": "BTC-USDT", "px": "100", "side": "buy", "ts": "1786538760218"}
    rows = [{**row, "tradeId": str(id), "sz": str(size)} for id, size in sizes.items()]
    return json.dumps({"code": "0", "msg": "", "data": rows}).encode()


def volume(result: Batch) -> float:
    """Return the sum of the sizes that are stored, after each frame was accounted for."""
    assert conserves(result)
    return math.fsum(result.rows["size"])


def told(source: Source, pair: Pair, messages: Iterable[tuple[str, bytes]]) -> Batch:
    """Return the rows of messages of a socket and of REST, in this order."""
    records = []
    for offset, (transport, payload) in enumerate(messages):
        if transport == "rest":
            records.append(answer(offset, pair, payload))
        else:
            header = Header(Kind.SOCKET, 1, "c", offset + 1, TIME + offset)
            records.append(Record(offset, TIME + offset, header.pack(), payload))
    return batch(source, records)


def test_R5_trades_that_one_order_made_are_not_told_again_over_rest() -> None:
    socket, rest = okx_socket(123, 5, 3), okx_rest({124: 7, 123: 1, 122: 3, 121: 1, 120: 2})
    filled = told(OKX, BTC_USDT, [("ws", socket), ("rest", rest)])
    assert filled.rows.select("id", "size", "transport").sort("id").rows() == [
        *(("120", 2.0, "rest"), ("123", 5.0, "ws"), ("124", 7.0, "rest")),
    ]
    before = told(OKX, BTC_USDT, [("rest", rest), ("ws", socket), ("ws", socket)])
    assert volume(filled) == volume(before) == 14


def test_R5_an_aggregated_trade_of_which_a_part_is_known_adds_nothing() -> None:
    """It cannot be divided. What is missing of it may still come on its own."""
    socket = okx_socket(123, 5, 3)
    result = told(OKX, BTC_USDT, [("rest", okx_rest({122: 3, 121: 1})), ("ws", socket), ("rest", okx_rest({123: 1}))])
    assert volume(result) == 5


def test_R5_another_connection_may_aggregate_otherwise() -> None:
    result = told(
        OKX,
        BTC_USDT,
        [
            *(
                ("ws", okx_socket(123, 5, 3)),
                ("ws", okx_socket(123, 5, 3)),
                ("ws", okx_socket(123, 2, 1, "trades-all")),
            ),
            *(
                ("ws", okx_socket(124, 1, 1, "trades-all")),
                ("ws", okx_socket(126, 4, 2)),
                ("ws", okx_socket(127, 9, 1)),
            ),
        ],
    )
    assert result.rows["id"].to_list() == ["123", "124", "126", "127"]


@pytest.mark.parametrize("count", ["0", "-1", "125", "9223372036854775808", "1.5", "x"])
def test_R5_a_count_that_cannot_be_is_a_dead_letter(count: str) -> None:
    payload = okx_socket(123, 5, 3).replace(b'"count": "3"', f'"count": "{count}"'.encode())
    with pytest.raises(DecodeError):
        say("okx", Channel.TRADE, payload)
    [trade] = say("okx", Channel.TRADE, payload.replace(f'"{count}"'.encode(), b'"124"'))
    assert isinstance(trade, Trade) and trade.count == 124  # 0 to 123


def test_R5_okx_is_asked_for_each_trade_on_its_own() -> None:
    okx = EXCHANGES["okx"]
    [request] = okx.subscribe(Channel.TRADE, [BTC_USDT], id=1, time=0)
    assert '"channel":"trades-all"' in request.payload
    assert okx.socket_url(Channel.TRADE).endswith("/ws/v5/business")
    assert {okx.socket_url(channel) for channel in (Channel.TICKER, Channel.ORDERBOOK)} == {okx.ws_url}


def gate_socket(id: int, size: float, ids: str) -> bytes:
    """Return what Gate.io tells of the trades with these ids."""
    row = {"id": id, "id_market": id, "create_time_ms": "1786539952742.901000", "side": "buy", "price": "100"}
    row |= {"currency_pair": "BTC_USDT", "amount": str(size), "range": ids}
    return json.dumps({"time": 1786539952, "channel": "spot.trades", "event": "update", "result": row}).encode()


def gate_rest(sizes: dict[int, float]) -> bytes:
    """Return Gate.io's answer with these trades."""
    row = {"create_time_ms": "1786539952742.901000", "side": "buy", "price": "100", "currency_pair": "BTC_USDT"}
    return json.dumps([{**row, "id": str(id), "amount": str(size)} for id, size in sizes.items()]).encode()


def test_R5_a_range_of_ids_of_gateio_covers_what_rest_tells() -> None:
    rest = gate_rest({124: 7, 123: 1, 122: 3, 121: 1})
    assert volume(told(GATE, BTC_USDT, [("ws", gate_socket(123, 5, "121-123")), ("rest", rest)])) == 12
    for ids in ("123-123", "", "121-", "124-123", "3-7", "x-y", "²-123"):  # one trade, or ids of something else
        result = told(GATE, BTC_USDT, [("ws", gate_socket(123, 1, ids)), ("rest", rest)])
        assert volume(result) == 12, ids


def bithumb(id: int, size: float, time: int = 1783658381138, *, side: str = "BID") -> dict[str, object]:
    """Return what is the same of a trade of Bithumb over both transports, but for its id."""
    return {"trade_price": 95539000, "trade_volume": size, "ask_bid": side, "sequential_id": id, "timestamp": time}


def bithumb_socket(id: int, size: float, time: int = 1783658381138, side: str = "BID") -> tuple[str, bytes]:
    """Return a trade as the socket tells it."""
    row = bithumb(id, size, side=side) | {"trade_timestamp": time, "timestamp": time + 260}
    return "ws", json.dumps({"type": "trade", "code": "KRW-BTC", **row}).encode()


def bithumb_rest(*rows: dict[str, object]) -> tuple[str, bytes]:
    """Return the answer with these trades."""
    return "rest", json.dumps([{"market": "KRW-BTC", **row} for row in rows]).encode()


def test_R5_a_trade_of_two_ids_is_one_trade() -> None:
    result = told(
        BITHUMB,
        BTC_KRW,
        [
            *(bithumb_socket(862683813820523888, 5), bithumb_socket(862683813820523889, 2)),
            bithumb_rest(bithumb(17836583811380002, 7), bithumb(17836583811380001, 2), bithumb(17836583811380000, 5)),
        ],
    )
    assert result.rows.select("size", "transport").rows() == [(5.0, "ws"), (2.0, "ws"), (7.0, "rest")]


def test_R5_like_trades_are_as_many_as_either_transport_tells() -> None:
    """Three trades alike in one millisecond, of which the socket brought two; then the answer comes again."""
    like = [bithumb(17836583811380000 + number, 5) for number in range(3)]
    first, second = bithumb_socket(1, 5), bithumb_socket(2, 5)
    for messages in (
        [first, second, bithumb_rest(*like), bithumb_rest(*like)],
        [bithumb_rest(*like), first, second, bithumb_rest(*like), first],
        [first, bithumb_rest(*like[:1]), second, bithumb_rest(*like), second],
    ):
        assert volume(told(BITHUMB, BTC_KRW, messages)) == 15


@pytest.mark.parametrize("other", [{"size": 6.0}, {"time": 1783658381139}, {"side": "ASK"}])
def test_R5_what_differs_is_another_trade(other: dict[str, object]) -> None:
    row = bithumb(17836583811380000, float(str(other.get("size", 5.0))), int(str(other.get("time", 1783658381138))))
    row["ask_bid"] = other.get("side", "BID")
    assert told(BITHUMB, BTC_KRW, [bithumb_socket(1, 5), bithumb_rest(row)]).rows.height == 2


@pytest.mark.parametrize("name", EXCHANGES)
def test_R5_filling_over_rest_adds_what_is_missing_and_no_trade_twice(name: str) -> None:
    """In each exchange's own words: of a socket that loses every third message, and of REST asked twice."""
    exchange, pair = EXCHANGES[name], Pair("BTC", EXCHANGES[name].quote)
    time = TIME
    market = Market(7, {name: (pair,)}, time)
    venue = VENUES[name](market, urlsplit(exchange.socket_url(Channel.TRADE)).path)
    address = urlsplit(exchange.request_url(Channel.TRADE, pair) or "")
    for request in exchange.subscribe(Channel.TRADE, (pair,), id=1, time=time):
        list(venue.received(request.payload, time))
    deals = {deal.id: deal for deal in market.listings[name][pair].deals}
    messages: list[tuple[str, bytes]] = []
    for step in range(1, 121):
        time += SECOND // 10
        market.step(time)
        deals |= {deal.id: deal for deal in market.listings[name][pair].deals}
        sent = [out.payload for out in venue.step(time)]
        messages += [("ws", text.encode()) for number, text in enumerate(sent) if (step + number) % 3]
        if step % 30 == 0:
            answered = venue.rest(address.path, dict(parse_qsl(address.query)), time)
            messages.append(("rest", answered.body.encode()))
    result = told(Source(exchange, Channel.TRADE, "t", exchange.partition), pair, messages)
    assert result.rows.height == len(deals) > 100
    assert volume(result) == pytest.approx(math.fsum(deal.size for deal in deals.values()), rel=1e-9)
    assert {"ws", "rest"} == set(result.rows["transport"])


def trade(id: int, count: int = 1) -> Trade:
    """Return a trade that covers `count` ids."""
    return Trade(pair=BTC_USDT, id=str(id), price=1.0, size=1.0, side=Side.BUY, exchange_time=TIME, count=count)


@given(st.lists(st.tuples(st.integers(10, 40), st.integers(1, 8)), max_size=30))
def test_R5_no_id_is_a_row_twice(trades: list[tuple[int, int]]) -> None:
    known, covered = KnownTrades(has_ids_by_transport=False, trades_per_answer=1), set[int]()
    for id, count in trades:
        ids = set(range(id - count + 1, id + 1))
        assert known.add(trade(id, count), str(id), Kind.SOCKET, TIME) is bool(ids & covered)
        if not ids & covered:
            covered |= ids


def test_R5_what_was_told_long_ago_is_forgotten() -> None:
    for by_transport in (False, True):
        known = KnownTrades(has_ids_by_transport=by_transport, trades_per_answer=1)
        for id, count, time in ((10, 3, 1), (20, 1, 2), (30, 3, 3), (40, 1, 4)):
            assert not known.add(trade(id, 1 if by_transport else count), str(id), Kind.SOCKET, time)
        known.forget(3, 3)
        again = [known.add(trade(id), str(id), Kind.SOCKET, 5) for id in (9, 20, 29, 40)]
        assert again == ([False, False, False, True] if by_transport else [False, False, True, True])
        known.forget(9, 9)
        assert not known.add(trade(40), str(40), Kind.SOCKET, 10)


def test_R5_an_id_that_is_no_number_is_covered_by_nothing() -> None:
    known = KnownTrades(has_ids_by_transport=False, trades_per_answer=1)
    assert not known.add(trade(10, 3), "10", Kind.SOCKET, TIME)
    assert not known.add(trade(9), "a9", Kind.SOCKET, TIME)
    assert not known.add(trade(20, 5), "20", Kind.SOCKET, TIME)
    assert known.add(trade(9), "a9", Kind.SOCKET, TIME)
