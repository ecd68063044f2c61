"""Facts that hold for every exchange and every recording. A new file in tests/data is a new test."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coin_platform.book import Applied
from coin_platform.commands.decode import BookReplay
from coin_platform.errors import BookError, ChecksumMismatch, DecodeError, SequenceGap
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.addresses import simulated_url
from coin_platform.exchanges.base import Exchange, Request
from coin_platform.model import BookUpdate, Channel, Control, Event, Frame, Kind, Pair, Proof, Region, Ticker
from coin_platform.simulator.recordings import read
from tests.kit.market_lists import traded_pairs
from tests.kit.recordings import events, files, frames


def replay(exchange: str, path: Path) -> BookReplay:
    """Feed a whole recorded sequence."""
    book_replay = BookReplay(EXCHANGES[exchange])
    for _, frame in read(EXCHANGES[exchange], path, Channel.ORDERBOOK):
        book_replay.feed(frame)
    return book_replay


@pytest.mark.parametrize(("exchange", "path"), files(), ids=str)
def test_every_recorded_message_says_something(exchange: str, path: Path) -> None:
    adapter = EXCHANGES[exchange]
    for line, frame in read(adapter, path):
        assert adapter.decode(frame), f"line {line} says nothing"


@pytest.mark.parametrize(("exchange", "path"), files("markets"), ids=str)
def test_every_recorded_market_list_has_pairs_that_can_be_asked_for(exchange: str, path: Path) -> None:
    adapter = EXCHANGES[exchange]
    for line, frame in read(adapter, path):
        pairs = traded_pairs(adapter, frame.payload)
        assert pairs, f"line {line} lists nothing"
        assert [adapter.pair(adapter.symbol(pair)) for pair in pairs] == pairs


@pytest.mark.parametrize(("exchange", "path"), files("book_sequence_*"), ids=str)
def test_recorded_books_hold_without_a_false_gap(exchange: str, path: Path) -> None:
    result = replay(exchange, path).result()
    recorded = list(read(EXCHANGES[exchange], path))
    with_checksum = [
        event
        for _, frame in recorded
        for event in EXCHANGES[exchange].decode(frame)
        if isinstance(event, BookUpdate) and event.checksum is not None
    ]
    assert (result["gaps"], result["checksum_mismatches"], result["crossed"]) == (0, 0, 0)
    assert result["checksum_matches"] == len(with_checksum)
    assert result["updates"] > 0


def test_F1_a_dropped_kraken_message_is_found_by_the_checksum() -> None:
    all_frames = [f for f in frames("kraken", "book_sequence_2") if b'"book"' in f.payload]
    updates = [index for index, frame in enumerate(all_frames) if b'"type":"update"' in frame.payload]
    mismatches = 0
    for dropped in updates[5:60:5]:
        attempt = BookReplay(EXCHANGES["kraken"])
        try:
            for index, frame in enumerate(all_frames):
                if index != dropped:
                    attempt.feed(frame)
        except ChecksumMismatch:
            mismatches += 1
    # a change below the tenth level leaves the checksum alone, as the exchange defines it
    assert mismatches >= 9


def chained() -> list[Frame]:
    """OKX's first recorded sequence as it would be sent today: numbered, checksum 0."""
    numbered = []
    for index, frame in enumerate(frames("okx", "book_sequence_1")):
        body = msgspec.json.decode(frame.payload)
        row = body["data"][0]
        row |= {"checksum": 0, "seqId": 100 + 7 * index, "prevSeqId": -1 if index == 0 else 93 + 7 * index}
        numbered.append(msgspec.structs.replace(frame, payload=msgspec.json.encode(body)))
    return numbered


def test_okx_sequences_apply_and_each_dropped_message_is_found_at_the_next_one() -> None:
    whole = chained()
    okx = EXCHANGES["okx"]
    updates = [event for frame in whole for event in okx.decode(frame) if isinstance(event, BookUpdate)]
    book = okx.book()
    assert [okx.apply(book, update) for update in updates] == [Applied.APPLIED] * len(updates)
    for dropped in range(1, len(updates) - 1, 7):
        book = okx.book()
        for update in updates[:dropped]:
            okx.apply(book, update)
        with pytest.raises(SequenceGap):
            okx.apply(book, updates[dropped + 1])
        assert not book.is_valid


def test_a_repeated_message_raises_no_alarm() -> None:
    for exchange, stem in (("okx", "book_sequence_1"), ("kraken", "book_sequence_1")):
        adapter, once, twice = EXCHANGES[exchange], BookReplay(EXCHANGES[exchange]), BookReplay(EXCHANGES[exchange])
        for frame in chained() if exchange == "okx" else frames(exchange, stem):
            once.feed(frame)
            twice.feed(frame)
            if b'"update"' in frame.payload:
                twice.feed(frame)
        assert once.result()["pairs"] == twice.result()["pairs"], adapter.name
        assert twice.result()["gaps"] == twice.result()["checksum_mismatches"] == 0


def test_a_flipped_digit_is_caught_and_costs_that_pair_only() -> None:
    kraken = EXCHANGES["kraken"]
    both = BookReplay(kraken)
    other_frames = [f for f in frames("kraken", "book_sequence_2") if b'"book"' in f.payload][:50]
    own_frames = [f for f in frames("kraken", "book_sequence_1") if b'"book"' in f.payload][:50]
    caught = 0
    for index, (own_frame, other_frame) in enumerate(zip(own_frames, other_frames, strict=True)):
        both.feed(other_frame)
        if index == 20:
            update = next(event for event in kraken.decode(own_frame) if isinstance(event, BookUpdate))
            level = [*update.bids, *update.asks][0]
            digits = f"{level.price:.1f}".encode()
            flipped = own_frame.payload.replace(digits, digits[:-1] + (b"1" if digits[-1:] != b"1" else b"2"), 1)
            own_frame = msgspec.structs.replace(own_frame, payload=flipped)
        try:
            both.feed(own_frame)
        except ChecksumMismatch:
            caught += 1
    result = both.result()
    assert caught == result["checksum_mismatches"] == 1
    assert result["pairs"]["ETH-USD"]["best_bid"] is not None
    assert result["checksum_matches"] > 60


@pytest.mark.parametrize("name", EXCHANGES)
def test_no_exchange_imports_another(name: str) -> None:
    own = type(EXCHANGES[name]).__module__
    others = {type(exchange).__module__ for exchange in EXCHANGES.values()} - {own}
    imported = {getattr(value, "__module__", None) for value in vars(sys.modules[own]).values()}
    assert not imported & others


def test_partitions_are_unique_within_a_region() -> None:
    places = [(exchange.region, exchange.partition) for exchange in EXCHANGES.values()]
    assert len(set(places)) == len(places)
    assert {exchange.region for exchange in EXCHANGES.values()} == set(Region)


@pytest.mark.parametrize("exchange", EXCHANGES.values(), ids=EXCHANGES)
def test_symbols_read_back_as_the_pair_they_were_written_from(exchange: Exchange) -> None:
    for base in ("BTC", "1INCH", "USDC"):
        pair = Pair(base, exchange.quote)
        assert exchange.pair(exchange.symbol(pair)) == pair


@pytest.mark.parametrize("exchange", EXCHANGES.values(), ids=EXCHANGES)
def test_every_channel_can_be_asked_for(exchange: Exchange) -> None:
    pairs = [Pair(f"A{number}", exchange.quote) for number in range(3)]
    for channel in exchange.channels:
        assert exchange.socket_url(channel).startswith("wss://")
        asked = [pair for r in exchange.subscribe(channel, pairs, id=1, time=0) for pair in r.pairs]
        assert asked == pairs
        assert not (exchange.request_url(channel, pairs[0]) or "https://").startswith("http:")
    assert (exchange.markets_url() or "https://").startswith("https://")


def test_what_is_not_streamed_is_polled() -> None:
    polled = {exchange.name for exchange in EXCHANGES.values() if exchange.polled - {Channel.INSTRUMENT}}
    assert polled == {"bithumb", "korbit", "coinbase"}
    assert {exchange.name for exchange in EXCHANGES.values() if Channel.INSTRUMENT in exchange.channels} == {"kraken"}
    assert {exchange.channels | exchange.polled for exchange in EXCHANGES.values()} == {frozenset(Channel)}


def test_a_checksum_is_what_it_takes_to_prove_by_checksum() -> None:
    for exchange in EXCHANGES.values():
        if exchange.proof is not Proof.SEQUENCE:  # OKX has one for its old messages, Bybit has none
            assert (exchange.checksum(exchange.book()) is None) == (exchange.proof is not Proof.CHECKSUM)


def test_R13_an_exchange_of_changes_without_a_number_says_that_nothing_proves_its_books() -> None:
    for exchange in EXCHANGES.values():
        assert (exchange.proof is Proof.SNAPSHOT) == (not exchange.has_deltas), exchange.name
        assert exchange.can_hide_losses == (exchange.has_deltas and exchange.proof is not Proof.SEQUENCE), exchange.name
    assert EXCHANGES["coinbase"].proof is Proof.NONE


@given(st.binary(max_size=200))
def test_no_bytes_at_all_make_a_parser_raise_anything_else(payload: bytes) -> None:
    for name, exchange in EXCHANGES.items():
        frame = Frame(exchange=name, channel=Channel.TICKER, connection="c", number=1, received_time=0, payload=payload)
        try:
            events = exchange.decode(frame)
        except DecodeError:
            continue
        assert all(isinstance(event, Control) or not isinstance(event, Ticker) for event in events)


def test_simulated_addresses_keep_the_path() -> None:
    assert simulated_url("wss://ws.kraken.com/v2", "kraken", "127.0.0.1:1") == "ws://127.0.0.1:1/kraken/v2"
    assert simulated_url("https://x.y/a/b?c=1", "okx", "127.0.0.1:1") == "http://127.0.0.1:1/okx/a/b?c=1"


def test_book_errors_are_one_family() -> None:
    assert issubclass(SequenceGap, BookError)
    assert list(events("okx", "error"))


class Bare(Exchange):
    """An exchange that offers nothing but what it must."""

    name, title, region, partition, quote = "bare", "Bare", Region.NE, 99, "USD"
    channels, proof = frozenset({Channel.TICKER}), Proof.SNAPSHOT
    ws_url, rest_url = "wss://bare", "https://bare"

    def symbol(self, pair: Pair) -> str:
        return str(pair)

    def pair(self, symbol: str) -> Pair:
        return Pair.parse(symbol)

    def subscribe(self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: int) -> Iterator[Request]:
        return iter(())

    def unsubscribe(self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: int) -> Iterator[Request]:
        return iter(())

    def read(self, frame: Frame) -> Iterator[Event]:
        yield Control(name="nothing")


def test_what_an_exchange_does_not_offer_is_none_or_a_dead_letter() -> None:
    bare = Bare()
    assert bare.markets_url() is None
    assert bare.request_url(Channel.TICKER, Pair("A", "B")) is None
    assert not bare.polled
    with pytest.raises(DecodeError, match="nothing over REST for instrument"):
        traded_pairs(bare, b"[]")
    with pytest.raises(DecodeError, match="lists no markets"):
        bare.market_rows(b"[]")
    with pytest.raises(DecodeError, match="lists no markets"):
        bare.instrument(msgspec.Raw(b"{}"))
    frame = Frame(exchange="bare", channel=Channel.TICKER, connection="c", number=1, received_time=0, payload=b"")
    assert bare.decode(frame) == [Control(name="nothing")]
    with pytest.raises(DecodeError, match="answers nothing over REST"):
        bare.decode(msgspec.structs.replace(frame, kind=Kind.REST))
