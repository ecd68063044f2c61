"""Bring a transform to a position in a raw partition. It must know what the log tells before that position."""

from collections.abc import Sequence

from coin_platform.broker import Broker
from coin_platform.errors import DecodeError
from coin_platform.exchanges.base import Source
from coin_platform.model import SECOND, Channel, Microseconds
from coin_platform.records import Header, Record, unpack_dated
from coin_platform.tables import instrument
from coin_platform.tables.duplicates import LEAD
from coin_platform.tables.frame_numbers import ANY_COLLECTOR_MEMORY, OWN_COLLECTOR_MEMORY, LastNumber, LastNumbers
from coin_platform.tables.rows import Entry
from coin_platform.tables.transform import Transform

MILLISECOND: Microseconds = 1_000
TAKE_OVER_SPAN: Microseconds = 60 * SECOND  # so long two collectors may log when one succeeds the other
LONGEST_LOOKBACK: Microseconds = 3600 * SECOND  # for older trades; to read more would take longer than seconds
TAIL_RECORDS = 500  # at least so many records before a position are read for what was seen


def prepared(
    source: Source, broker: Broker, position: int, window: Microseconds, since: Microseconds | None = None
) -> Transform:
    """Return a transform that stands at `position` and knows what came before.

    1. Books are rebuilt from the last checkpoints before the position, at most from those of the window before. A pair
       without a checkpoint has no valid book until its next snapshot.
    2. Trades are read from the begin of the position's window (length `window`, µs), or from log time `since` if that
       is earlier. So a trade that is told again within the window is known.
    3. Lists of markets are read as far back as the job of the position's window reads them.
    4. Last frame numbers are read as far back as a collector may send frames again.
    """
    begin = broker.begin_offset(source.topic, source.partition)
    newest = list(broker.read(source.topic, source.partition, max(begin, position - 1), position))
    if not newest:
        return Transform(source, position, window)
    backs, latest = [LEAD], position - TAIL_RECORDS
    if source.channel is Channel.ORDERBOOK and source.exchange.has_deltas:
        backs, latest = [LEAD, 10 * LEAD, window + LEAD], position
    elif source.channel is Channel.TRADE:
        backs = [max(newest[0].time % window + LEAD, 0 if since is None else newest[0].time - since)]
    elif source.channel is Channel.INSTRUMENT:
        backs, latest = [newest[0].time % window + instrument.memory(window)], position
    for back in backs:
        first = max(begin, min(latest, broker.offset_for_time(source.topic, source.partition, newest[0].time - back)))
        transform = Transform(source, position, window)
        transform.learn(_last_numbers(source, broker, newest[0], first))
        for record in broker.read(source.topic, source.partition, first, position):
            transform.feed(record)
        if not transform.books.orphans or first <= begin:
            break
    if source.channel is Channel.TRADE and first > begin:
        transform.knows_since = newest[0].time - backs[0]
    return transform


def with_older_trades(transform: Transform, broker: Broker, record: Record, entries: Sequence[Entry]) -> Transform:
    """Return a transform that knows the trades which a record may repeat. In most cases it is the same transform.

    A transform that was `prepared` does not know the trades of earlier windows. A record that became `entries` may tell
    such trades again. Then older records are read, twice as far back each time, at most `LONGEST_LOOKBACK`. Feed the
    record again where another transform is returned.
    """
    if not transform.knows_since or not entries:
        return transform
    oldest = min(entry.event.exchange_time for entry in entries)
    if oldest >= transform.knows_since + LEAD // 2:
        return transform
    earliest = record.time - LONGEST_LOOKBACK
    since = max(earliest, min(oldest - LEAD, record.time - 2 * (record.time - transform.knows_since)))
    if since < transform.knows_since:
        assert transform.window is not None  # `prepared` gives it one
        transform = prepared(transform.source, broker, record.offset, transform.window, since)
    if since <= earliest:
        transform.knows_since = 0  # nothing older is looked for
    return transform


def _last_numbers(source: Source, broker: Broker, newest: Record, position: int) -> list[LastNumber]:
    """Return the last frame numbers of the connections before a position, as far back as `newest` may need them.

    A collector that was succeeded may come back and send its last frames again. Those were logged before its successor
    began, and the successor's epoch is that time in ms. So the log is read there, too, from collector to collector.
    """
    place, numbers = (source.topic, source.partition), LastNumbers()
    begin = broker.begin_offset(*place)

    def take(since: Microseconds, stop: int) -> set[int]:
        """Take the frames from log time `since` to before offset `stop`, and return their epochs."""
        start, epochs = max(begin, broker.offset_for_time(*place, since)), set()
        for record in broker.read(*place, start, stop) if start < stop else ():
            header = _header(record)
            if header is not None and header.kind.is_frame:
                numbers.take((header.epoch, header.connection), header.number, record.time)
                epochs.add(header.epoch)
        return epochs

    waiting, seen = take(newest.time - OWN_COLLECTOR_MEMORY, position), set[int]()
    if (header := _header(newest)) is not None:
        waiting.add(header.epoch)
    while waiting:
        epoch = waiting.pop()
        seen.add(epoch)
        began = epoch * MILLISECOND
        if newest.time - began >= ANY_COLLECTOR_MEMORY:
            continue
        offset = min(broker.offset_for_time(*place, began), position)
        for last in broker.read(*place, offset - 1, offset) if offset > begin else ():
            stop = min(broker.offset_for_time(*place, began + TAKE_OVER_SPAN), position)
            waiting |= take(last.time - TAKE_OVER_SPAN, stop) - seen
    return numbers.pack()


def _header(record: Record) -> Header | None:
    """Return the header of a record; `None` for a foreign header, whose record becomes a dead letter."""
    try:
        return unpack_dated(record.header)
    except DecodeError:
        return None
