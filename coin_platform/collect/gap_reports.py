"""The topic of the gaps: what a channel of an exchange lacks, told as soon as its records say so.

The live twin of table `gap`, by the same ledger. The table is the exact one: a book's gap begins here with the message
that revealed it, there with the row before.
"""

import contextlib
import logging
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

TAIL = 2_000  # records looked at for what an earlier collector left


class GapReports:
    """The gaps of one channel of one exchange, over all its connections."""

    def __init__(self, exchange: Exchange, channel: Channel, broker: Broker) -> None:
        self._exchange, self._channel, self._broker = exchange, channel, broker
        self._ledger = self._new(LedgerState())
        self._told_by: Header | None = None  # the last record
        self._is_over = False

    def resume(self, topic: str) -> None:
        """Go on from the newest records of a raw topic, so that our first one ends what is missing since."""
        partition = self._exchange.partition
        before = GapLedger(self._exchange, self._channel)  # without looking into frames: a book served is one heard of
        try:
            end = self._broker.end_offset(topic, partition)
            begin = max(self._broker.begin_offset(topic, partition), end - TAIL)
            for record in self._broker.read(topic, partition, begin, end):
                with contextlib.suppress(DecodeError):  # a dead letter elsewhere
                    before.record(unpack(record.header), record.value)
        except (BrokerUnreachable, RetentionLoss) as error:
            logger.warning("%s %s: what was missing before is not known, %s", self._exchange.name, topic, error)
        self._ledger = self._new(before.state)

    def record(self, header: Header, value: bytes) -> None:
        """Take a record that was appended to the raw topic."""
        self._told_by = header
        self._tell(self._ledger.record(header, value))

    def served(self, pairs: Iterable[Pair], connection: str, time: Microseconds) -> None:
        """The books of these pairs can be trusted, now or again."""
        for pair in pairs:
            self._tell(self._ledger.row(pair, connection, time))

    def lost(self, pair: Pair, connection: str, cause: Cause, reason: str, time: Microseconds) -> None:
        """A book cannot be trusted from now on."""
        if cause is Cause.NO_BOOK:
            self._tell(self._ledger.waits(pair, connection, time))
            return
        self._ledger.state.last_rows.pop(str(pair), None)  # that was its first row, long ago
        self._tell(self._ledger.lost(pair, cause, reason, time))

    def hand_over(self, time: Microseconds) -> None:
        """Another collector takes over: what is missing from now on, it tells."""
        self._tell(self._ledger.handed_over(time))
        self._is_over = True

    def _new(self, state: LedgerState) -> GapLedger:
        has_books = self._channel is Channel.ORDERBOOK and self._exchange.has_deltas
        return GapLedger(self._exchange, self._channel, state, books=has_books)

    def _tell(self, gaps: Iterable[Gap]) -> None:
        for gap in () if self._is_over else gaps:
            header = self._told_by.pack() if self._told_by else ""
            self._broker.append(GAPS, self._exchange.gap_partition, header, pack_gap(gap))


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
