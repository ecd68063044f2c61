"""Write the gaps of a channel to the topic of the gaps, as soon as its records show them.

Table `gap` comes from the same ledger, and is the exact one: a gap of a book begins here with the message that revealed
it, and in the table with the row before.
"""

import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable

from coin_platform.broker import Broker, Loss
from coin_platform.errors import BrokerUnreachable, DecodeError, RetentionLoss
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Exchange
from coin_platform.model import Cause, Channel, Gap, Microseconds, Pair
from coin_platform.records import Header, unpack
from coin_platform.settings import Settings
from coin_platform.tables.gap_record import pack_gap
from coin_platform.tables.gap_state import LedgerState
from coin_platform.tables.gaps import GapLedger
from coin_platform.topic_names import GAPS, raw_topic

logger = logging.getLogger(__name__)

TAIL_RECORDS = 2_000  # read at a start, to know the gaps that an earlier collector left open


class GapReports:
    """The gaps of one channel of one exchange, over all its connections."""

    def __init__(self, exchange: Exchange, channel: Channel, broker: Broker) -> None:
        self._exchange, self._channel, self._broker = exchange, channel, broker
        self._ledger = self._new(LedgerState())
        self._last_header: Header | None = None
        self._is_over = False
        self.counts: Counter[str] = Counter()  # of the records that were written

    def resume(self, topic: str) -> None:
        """Read the newest records of a raw topic, so that our first record ends the gaps that are open."""
        partition = self._exchange.partition
        # This ledger does not decode frames: a pair counts as served once its connection has a frame.
        before = GapLedger(self._exchange, self._channel)
        try:
            end = self._broker.end_offset(topic, partition)
            begin = max(self._broker.begin_offset(topic, partition), end - TAIL_RECORDS)
            for record in self._broker.read(topic, partition, begin, end):
                with contextlib.suppress(DecodeError):  # the tables make a dead letter of it
                    before.record(unpack(record.header), record.value)
        except (BrokerUnreachable, RetentionLoss) as error:
            logger.warning("%s %s: what was missing before is not known, %s", self._exchange.name, topic, error)
        self._ledger = self._new(before.state)

    def record(self, header: Header, value: bytes) -> None:
        """Take a record that was appended to the raw topic, and report what it shows."""
        self._last_header = header
        self._report(self._ledger.record(header, value))

    def served(self, pairs: Iterable[Pair], connection: str, time: Microseconds) -> None:
        """Report that the books of these pairs can be trusted, for the first time or again."""
        for pair in pairs:
            self._report(self._ledger.row(pair, connection, time))

    def lost(self, pair: Pair, connection: str, cause: Cause, reason: str, time: Microseconds) -> None:
        """Report that a book cannot be trusted from now on."""
        if cause is Cause.NO_BOOK:
            self._report(self._ledger.waits(pair, connection, time))
            return
        self._ledger.state.last_rows.pop(str(pair), None)  # that was its first row, long ago
        self._report(self._ledger.lost(pair, cause, reason, time))

    def hand_over(self, time: Microseconds) -> None:
        """End all reports: another collector takes over, and reports the gaps from now on."""
        self._report(self._ledger.handed_over(time))
        self._is_over = True

    def _new(self, state: LedgerState) -> GapLedger:
        has_books = self._channel is Channel.ORDERBOOK and self._exchange.has_deltas
        return GapLedger(self._exchange, self._channel, state, books=has_books)

    def _report(self, gaps: Iterable[Gap]) -> None:
        for gap in () if self._is_over else gaps:
            header = self._last_header.pack() if self._last_header else ""
            self._broker.append(GAPS, self._exchange.gap_partition, header, pack_gap(gap))
            self.counts[gap.cause] += 1


def loss_reporter(settings: Settings) -> Callable[[Broker, Loss], None]:
    """Return what `connect` calls with records that were given up: a loss of raw frames becomes a gap.

    Processed records and dead letters can be made again from the raw frames, so their loss is no gap.
    """
    sources = {
        (raw_topic(settings.topic_prefix(exchange.region), channel), exchange.partition): (exchange, channel)
        for exchange in EXCHANGES.values()
        for channel in Channel
    }

    def report(broker: Broker, loss: Loss) -> None:
        if (loss.topic, loss.partition) not in sources:
            return
        exchange, channel = sources[loss.topic, loss.partition]
        gap = Gap(
            exchange=exchange.name,
            channel=channel,
            pair=None,
            start=loss.from_time,
            stop=loss.to_time,
            cause=Cause.SPOOL_OVERFLOW,
            reason=f"{loss.records} records given up before kafka took them: {loss.cause}",
        )
        broker.append(GAPS, exchange.gap_partition, "", pack_gap(gap))

    return report
