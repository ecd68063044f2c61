"""Bytes that no exchange should send end nothing, delay nothing and fill no memory."""

import gzip
import json
import random
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from coin_platform.collect.session import Session
from coin_platform.errors import DecodeError
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Exchange
from coin_platform.model import BookUpdate, Channel, Frame, Instant, Kind, Pair
from coin_platform.records import Checkpoint, Facts
from tests.kit.figures import figure
from tests.kit.fuzz import mutations, recorded
from tests.kit.recordings import files, frames

pytestmark = pytest.mark.no_cover  # coverage would take time and memory of its own

STEPS = 3_000_000  # a frame takes no longer than so many additions, 0.15 s of a fast processor; the largest 0.05 s
MOST = 64 << 20  # bytes
FAILED = Path("reports/fuzz")


def hearing(exchange: Exchange, originals: list[Frame]) -> Callable[[Frame], int]:
    """Return a function that gives a frame to a session and returns whether it was a dead letter."""
    pairs = sorted({frame.pair for frame in originals if frame.pair} | {Pair("BTC", exchange.quote)})
    sessions = {channel: Session(exchange, channel, pairs) for channel in exchange.channels}
    for session in sessions.values():
        session.opened(Instant(0, 0.0))

    def hear(frame: Frame) -> int:
        if frame.channel not in sessions:  # over REST only
            return not cost(frame)[0]
        session = sessions[frame.channel]
        before = session.traffic.undecodable
        session.received(frame, Instant(frame.received_time, 100.0))
        return session.traffic.undecodable - before

    return hear


def is_long(seconds: float) -> bool:
    """Return whether `STEPS` additions take less time now: a processor's speed differs by machine and by moment."""
    if seconds < 0.05:
        return False  # on any machine
    start, total = time.thread_time(), 0
    for step in range(STEPS):
        total += step
    return time.thread_time() - start < seconds


def kept(frame: Frame, seed: int) -> Path:
    """Write a harmful frame to a file, so that it can become a recording."""
    FAILED.mkdir(parents=True, exist_ok=True)
    path = FAILED / f"{frame.exchange}-{frame.channel}-{seed}.bin"
    path.write_bytes(frame.payload)
    return path


@pytest.mark.parametrize("seconds", [2, pytest.param(10, marks=pytest.mark.long)])
@pytest.mark.parametrize("exchange", EXCHANGES)
def test_F7_S7_mutated_messages_are_dead_letters_or_values_and_take_no_time_and_no_memory(
    exchange: str, seconds: int
) -> None:
    adapter, seed = EXCHANGES[exchange], zlib.crc32(exchange.encode()) if seconds == 2 else time.time_ns() % 2**32
    print(f"seed {seed}")
    originals, heard, dead, longest = recorded(exchange), 0, 0, 0.0
    hear = hearing(adapter, originals)
    tracemalloc.start()
    try:
        stop = time.monotonic() + seconds
        for frame in mutations(random.Random(seed), originals):
            if time.monotonic() > stop and heard > 500:
                break
            if heard % 500 == 0:
                hear = hearing(adapter, originals)
            start = time.thread_time()
            try:
                dead += hear(frame)
            except Exception as error:
                pytest.fail(f"seed {seed}: {error!r} for {kept(frame, seed)}")
            longest, heard = max(longest, time.thread_time() - start), heard + 1
            assert not is_long(longest), f"seed {seed}: {longest:.3f} s for {kept(frame, seed)}"
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    print(f"{exchange}: {heard} frames, {dead} dead letters, {longest * 1000:.1f} ms at most, {peak >> 20} MiB")
    assert peak < MOST
    assert 0.2 * heard < dead < heard


M = 16 << 20  # bytes: more than any exchange has ever sent at once
HUGE = {
    "digits": b"9" * M,
    "blanks": b" " * M,
    "open arrays": b"[" * M,
    "open objects": b'{"a":' * (M // 5),
    "a text": b'"' + b"x" * (M - 2) + b'"',
    "escapes": b'"' + b"\\u0041" * (M // 6) + b'"',
    "NUL": b"\x00" * M,
    "zeros": b"[" + b"0," * (M // 2) + b"0]",
    "objects": b"[" + b"{}," * (M // 3) + b"{}]",
    "the same key": b"{" + b'"type":"x",' * (M // 11) + b'"a":1}',
    "gzip": gzip.compress(random.Random(1).randbytes(M), 0),
}
ODD = {
    "nothing": b"",
    "a number": b"7",
    "null": b"null",
    "a word": b'"x"',
    "two messages": b'{"a":1}{"b":2}',
    "cut off": b'{"type":',
    "byte order mark": b"\xef\xbb\xbf{}",
    "no UTF-8": b'{"type":"\xff\xfe"}',
    "half a surrogate": b'{"type":"\\ud800"}',
    "NUL in a text": b'{"type":"\x00"}',
    "a key twice": b'{"type":"ticker","type":"match"}',
    "2,000 deep": b"[" * 2000 + b"]" * 2000,
    "2,000 deep objects": b'{"data":' * 2000 + b"1" + b"}" * 2000,
    "gzip garbage": gzip.compress(b'{"type":"ticker"}'),
    "deflate garbage": zlib.compress(b'{"type":"ticker"}')[2:-4],
    "binary": bytes(range(256)),
    "many keys": b"{" + b",".join(b'"k%d":1' % number for number in range(40_000)) + b"}",
}


def cost(frame: Frame) -> tuple[bool, float]:
    """Return whether a frame can be decoded, and in how many seconds. Raises every other error than `DecodeError`."""
    start = time.thread_time()
    try:
        EXCHANGES[frame.exchange].decode(frame)
    except DecodeError:
        return False, time.thread_time() - start
    return True, time.thread_time() - start


@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("name", [*ODD, *HUGE])
def test_B10_F7_what_is_no_message_is_a_dead_letter_and_takes_no_time_and_no_memory(exchange: str, name: str) -> None:
    payload, adapter = {**ODD, **HUGE}[name], EXCHANGES[exchange]
    frame = Frame(exchange=exchange, channel=Channel.TICKER, connection="c", number=1, received_time=0, payload=payload)
    for channel in Channel:
        for source, pair in ((Kind.SOCKET, None), (Kind.REST, Pair("BTC", adapter.quote))):
            asked = msgspec.structs.replace(frame, channel=channel, kind=source, pair=pair)
            tracemalloc.start()
            try:
                is_read, _ = cost(asked)
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert peak < MOST, f"{channel} {source}: {peak >> 20} MiB"
            _, seconds = cost(asked)  # without the tracing
            assert not is_long(seconds), f"{channel} {source}: {seconds:.3f} s"
            assert not is_read or (source is Kind.REST and name not in HUGE), f"{channel} {source}"


def arrays(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the places of a message's arrays that are not empty."""
    if isinstance(value, list) and value:
        yield path
        yield from arrays(value[0], (*path, 0))
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from arrays(inner, (*path, key))


def grown(body: object, path: tuple[str | int, ...], size: int) -> bytes:
    """Return a message in which one array is repeated until the message has about this many bytes."""
    copy = json.loads(json.dumps(body))
    place = copy
    for key in path:
        place = place[key]
    place[:] = place * (size // len(json.dumps(place)))
    return json.dumps(copy, separators=(",", ":")).encode()


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_F7_a_message_that_is_too_large_for_its_exchange_is_not_read_and_any_other_is_read_in_time(
    exchange: str,
) -> None:
    adapter, tried, seen = EXCHANGES[exchange], 0, set[tuple[str, tuple[str | int, ...]]]()
    for name, path in files():
        for frame in frames(exchange, path.stem)[:2] if name == exchange else []:
            try:
                body = json.loads(frame.payload)
            except ValueError:
                continue  # a "pong"
            for place in arrays(body):
                if (path.stem, place) in seen:
                    continue
                seen.add((path.stem, place))
                large = msgspec.structs.replace(frame, payload=grown(body, place, 500_000))
                assert len(large.payload) < adapter.max_bytes(large)
                seconds = min(cost(large)[1] for _ in range(2))
                assert not is_long(seconds), f"{path.stem} {place}: {seconds:.3f} s"
                huge = msgspec.structs.replace(large, payload=large.payload + b" " * adapter.max_bytes(large))
                assert cost(huge)[0] is False
                tried += 1
    assert tried > 5


def test_F7_the_largest_whole_book_that_is_read_takes_no_longer_than_any_frame_may() -> None:
    """A collector's loop reads the book in one turn, and writes its checkpoint in another."""
    exchange, count = EXCHANGES["coinbase"], 58_000
    book = exchange.book()
    sides = [[[f"{60_000 + 0.01 * n * sign:.2f}", f"0.{n:08}"] for n in range(count)] for sign in (-1, 1)]
    payload = msgspec.json.encode({"type": "snapshot", "product_id": "BTC-USD", "bids": sides[0], "asks": sides[1]})
    assert 0.9 < len(payload) / (3 << 20) < 1
    frame = msgspec.structs.replace(frames("coinbase", "book_sequence_1")[0], payload=payload)
    reading, logging = [], []
    for _ in range(3):
        start = time.thread_time()
        [update] = exchange.decode(frame)
        assert isinstance(update, BookUpdate)
        exchange.apply(book, update)
        reading.append(time.thread_time() - start)
        start = time.thread_time()
        Facts(transport="ws", book=Checkpoint.of(book.snapshot(update.pair))).pack()
        logging.append(time.thread_time() - start)
    figure("F7", f"to read a whole book of {2 * count:,} levels", round(1000 * min(reading)), "ms")
    figure("F7", f"to make a checkpoint of {2 * count:,} levels", round(1000 * min(logging)), "ms")
    assert not is_long(max(min(reading), min(logging)))
