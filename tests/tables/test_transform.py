"""Records to rows: duplicates, dead letters, and that nothing goes unaccounted."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Source
from coin_platform.model import BookUpdate, Channel, Kind, Subscribed
from coin_platform.records import Checkpoint, Facts, Header, Record
from coin_platform.tables.dataframes import batch
from coin_platform.tables.transform import Transform
from coin_platform.topic_names import raw_topic
from tests.kit.log import TIME, conserves, log, recorded
from tests.kit.recordings import frames

KRAKEN = Source(EXCHANGES["kraken"], Channel.ORDERBOOK, raw_topic("ne", Channel.ORDERBOOK), 1)
UPBIT = Source(EXCHANGES["upbit"], Channel.TICKER, raw_topic("korea", Channel.TICKER), 0)


@pytest.mark.no_cover  # much work, all of it covered by small tests
@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(1, 1169), max_size=4))
def test_a_table_does_not_depend_on_how_the_log_was_cut(cuts: list[int]) -> None:
    whole = recorded("kraken", "book_sequence_2")
    transform = Transform(KRAKEN)
    rows = []
    for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), len(whole)], strict=True):
        rows += [row for record in whole[start:stop] for row in transform.feed(record)]
    assert sorted(row.offset for row in rows) == batch(KRAKEN, whole).rows["offset"].sort().to_list()


def test_doubles_are_counted_once_and_dead_frames_keep_their_bytes() -> None:
    whole = recorded("upbit", "ticker")[:2]
    twice = whole[1]._replace(offset=2)
    bad = log([b"", b"", b"", b'{"type":"ticker"'])[3]
    strange = Record(4, TIME, "nonsense", b"?")
    result = batch(UPBIT, [*whole, twice, bad, strange])
    assert result.counts["frames"] == 5
    assert (result.counts["frames_rows"], result.counts["frames_duplicate"], result.counts["frames_dead"]) == (2, 1, 2)
    dead = result.dead.to_dicts()
    assert [letter["payload"] for letter in dead] == [b'{"type":"ticker"', b"?"]
    assert dead[0]["number"] == 4 and dead[1]["number"] is None
    assert "nonsense" in dead[1]["reason"]
    assert conserves(result)


def test_an_own_record_that_cannot_be_read_is_a_dead_letter() -> None:
    record = Record(0, TIME, Header(Kind.CHECKPOINT, 1, "c", 0, TIME).pack(), b"?")
    assert batch(UPBIT, [record]).counts["frames_dead"] == 1
    assert batch(UPBIT, [record], 1).counts["frames"] == 0


def test_a_fault_before_the_window_is_the_window_before_s() -> None:
    books = [frame.payload for frame in frames("kraken", "book_sequence_1") if b'"channel":"book"' in frame.payload]
    whole = log(books)
    del whole[10]
    assert batch(KRAKEN, whole, 200).counts["faults"] == batch(KRAKEN, whole, 200).counts["missing"] == 0
    assert batch(KRAKEN, whole, 5).counts["faults"] == 1


def test_S1_records_that_are_sent_again_change_nothing() -> None:
    once, exchange, book = recorded("kraken", "book_sequence_2"), KRAKEN.exchange, KRAKEN.exchange.book()
    for event in (event for frame in frames("kraken", "book_sequence_2")[:400] for event in exchange.decode(frame)):
        if isinstance(event, Subscribed):
            book.depth = event.depth or book.depth
        if isinstance(event, BookUpdate):
            exchange.apply(book, event)
            pair = event.pair
    facts = Facts(book=Checkpoint.of(book.snapshot(pair)))
    checkpoint = Record(0, TIME, Header(Kind.CHECKPOINT, 1, "c", 400, TIME).pack(), facts.pack())
    log = [*once[:400], checkpoint, *once[400:600], *once[380:400], checkpoint, *once[400:]]
    result = batch(KRAKEN, [record._replace(offset=offset) for offset, record in enumerate(log)])
    assert result.counts["faults"] == result.counts["frames_invalid"] == 0
    assert result.counts["frames_duplicate"] == 220
    wanted = batch(KRAKEN, once).rows.drop("offset", "log_time")
    assert result.rows.drop("offset", "log_time").equals(wanted)
