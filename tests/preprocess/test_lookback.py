"""What a restarted worker reads again: checkpoints of books, and the trades of the window."""

from typing import Any

import pytest

from coin_platform.exchanges import EXCHANGES
from coin_platform.model import SECOND, BookUpdate, Channel, Kind, Subscribed
from coin_platform.preprocess.lookback import TAIL_RECORDS
from coin_platform.records import Checkpoint, Facts
from coin_platform.topic_names import group
from tests.kit.raw_log import SETTINGS, ConnectionLog
from tests.kit.recordings import frames
from tests.kit.working import faulty_log


def test_books_survive_a_restart() -> None:
    whole = ConnectionLog("kraken", Channel.ORDERBOOK)
    whole.recorded("book_sequence_2")
    whole.run()
    log = ConnectionLog("kraken", Channel.ORDERBOOK)
    for at, frame in enumerate(frames("kraken", "book_sequence_2")):
        log.append(frame.payload)
        if at % 200 == 60:
            log.run()
    log.run()
    assert log.processed == whole.processed


def test_books_are_rebuilt_from_an_old_checkpoint() -> None:
    exchange, found = EXCHANGES["kraken"], frames("kraken", "book_sequence_2")
    book = exchange.book()
    for update in (event for frame in found[:100] for event in exchange.decode(frame)):
        if isinstance(update, Subscribed):
            book.depth = update.depth or book.depth
        if isinstance(update, BookUpdate):
            exchange.apply(book, update)
            pair = update.pair
    checkpoint = Facts(book=Checkpoint.of(book.snapshot(pair))).pack()

    def processed(*, restart: bool) -> list[dict[str, Any]]:
        log = ConnectionLog("kraken", Channel.ORDERBOOK)
        log.append(checkpoint, kind=Kind.CHECKPOINT)
        log.append(*[frame.payload for frame in found[100:150]])
        log.time += 400 * SECOND  # further back than the first two looks
        log.append(*[frame.payload for frame in found[150:160]])
        partition = log.run()
        log.append(*[frame.payload for frame in found[160:200]])
        log.work(log.partition() if restart else partition)
        return log.processed

    assert processed(restart=True) == processed(restart=False)
    assert processed(restart=True)[-1]["offset"] == 100


def test_a_lookback_ends_at_the_window_before(monkeypatch: pytest.MonkeyPatch) -> None:
    log, broker = faulty_log(Channel.ORDERBOOK, "kraken")
    deltas = [
        frame.payload for frame in frames("kraken", "book_sequence_2") if b'"book","type":"update"' in frame.payload
    ]
    for _ in range(4):
        log.append(deltas[0])
        log.time += SETTINGS.window_length
    place = (log.source.topic, log.source.partition)
    broker.commit(group(log.region, Channel.ORDERBOOK), *place, 4)
    broker.calls.clear()
    partition = log.partition()
    assert [start for _, _, start, _ in broker.calls["read"]] == [3, 3, 3, 2], (
        "the newest's time, then 30 s, 5 min and a window back"
    )
    assert partition._transform.books.orphans


def test_a_trade_told_long_before_a_restart_is_told_once_in_its_window() -> None:
    log = ConnectionLog("kraken", Channel.TRADE)
    payload = next(frame.payload for frame in frames("kraken", "trade") if b'"data"' in frame.payload)
    log.append(payload, *[b'{"channel":"heartbeat"}'] * (TAIL_RECORDS + 100))
    log.run()
    told = len(log.processed)
    assert told
    log.append(payload)
    log.run()
    assert len(log.processed) == told
