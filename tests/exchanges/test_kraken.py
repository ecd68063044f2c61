"""Kraken: the checksum of its books, and the markets that it lists."""

import pytest

from coin_platform.book import Applied
from coin_platform.errors import DecodeError
from coin_platform.exchanges.kraken import Kraken
from coin_platform.model import BookUpdate, Channel, Pair, TextLevel
from tests.kit.market_lists import traded_pairs
from tests.kit.recordings import say

KRAKEN = Kraken()
BTC_USD = Pair("BTC", "USD")


def test_the_checksum_of_the_documented_book() -> None:
    """https://docs.kraken.com/api/docs/guides/spot-ws-book-v2"""
    asks = (
        "45285.2/0.00100000 45286.4/1.54571953 45286.6/1.54571109 45289.6/1.54560911 45290.2/0.15890660 "
        "45291.8/1.54553491 45294.7/0.04454749 45296.1/0.35380000 45297.5/0.09945542 45299.5/0.18772827"
    )
    bids = (
        "45283.5/0.10000000 45283.4/1.54582015 45282.1/0.10000000 45281.0/0.10000000 45280.3/1.54592586 "
        "45279.0/0.07990000 45277.6/0.03310103 45277.5/0.30000000 45277.3/1.54602737 45276.6/0.15445238"
    )
    sides = [
        ",".join('{{"price":{},"qty":{}}}'.format(*level.split("/")) for level in side.split()) for side in (bids, asks)
    ]
    text = (
        '{{"channel":"book","type":"snapshot","data":[{{"symbol":"BTC/USD","bids":[{}],"asks":[{}],'
        '"checksum":3310070434}}]}}'
    )
    [update] = say("kraken", Channel.ORDERBOOK, text.format(*sides).encode())
    assert isinstance(update, BookUpdate)
    assert KRAKEN.apply(KRAKEN.book(), update) is Applied.APPLIED
    assert update.depth == 10


def test_digits_never_turn_into_an_exponent() -> None:
    payload = (
        b'{"channel":"book","type":"update","data":[{"symbol":"A/B","bids":[{"price":0.00000010,"qty":0.00000100}],'
        b'"asks":[],"checksum":1}]}'
    )
    [update] = say("kraken", Channel.ORDERBOOK, payload)
    assert isinstance(update, BookUpdate) and update.bids == [TextLevel(1e-7, 1e-6, "10100")]


def test_a_book_message_without_its_checksum_is_a_dead_letter() -> None:
    payload = b'{"channel":"book","type":"update","data":[{"symbol":"BTC/USD","bids":[],"asks":[]}]}'
    with pytest.raises(DecodeError, match="checksum"):
        say("kraken", Channel.ORDERBOOK, payload)


def test_markets_that_are_not_online_or_not_spot_are_left_out() -> None:
    answer = (
        b'{"error":[],"result":{"XXBTZUSD":{"wsname":"XBT/USD","status":"online"},"A.d":{"wsname":"ETH/USD"},'
        b'"XDGUSD":{"wsname":"XDG/USD","status":"online"},"OLD":{"wsname":"OLD/USD","status":"delisted"}}}'
    )
    assert traded_pairs(KRAKEN, answer) == [BTC_USD, Pair("DOGE", "USD")]
