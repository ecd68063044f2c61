"""What all feeds of one exchange share."""

import logging
from collections.abc import Callable, Iterable

from coin_platform.broker import Broker
from coin_platform.clock import now
from coin_platform.cluster.term import Term
from coin_platform.collect.actions import Listed
from coin_platform.collect.clock_lag import ClockLag
from coin_platform.collect.gap_reports import GapReports
from coin_platform.collect.listings import Listings
from coin_platform.collect.pacing import TokenBucket
from coin_platform.collect.rest import Rest
from coin_platform.collect.timing import Timing
from coin_platform.exchanges.base import Exchange
from coin_platform.model import Channel, Instant, Microseconds, Pair

logger = logging.getLogger(__name__)


class ExchangeAccess:
    """One exchange as all its feeds share it: its budgets, our clock against its clock, and the reports of its gaps."""

    def __init__(
        self,
        exchange: Exchange,
        broker: Broker,
        rest: Rest,
        connects: TokenBucket,
        *,
        clock: Callable[[], Instant] = now,
        timing: Timing = Timing(),  # noqa: B008 - it cannot change
        term: Term | None = None,
    ) -> None:
        """Share these. `connects` paces the opening of sockets, and obeys the bans that `rest` learns of.

        No frame is taken after the end of the `term`; the default has no end.
        """
        self.exchange = exchange
        self.term = term or Term()
        self.broker, self.rest, self.connects = broker, rest, connects
        self.clock, self.timing = clock, timing
        self.clock_lag = ClockLag()
        self.listings = Listings()
        self.listing_news: tuple[Microseconds, str] | None = None  # the newest line of what is listed, and when it came
        self._gap_reports: dict[Channel, GapReports] = {}
        rest.share(connects)

    @property
    def budgets(self) -> dict[str, float]:
        """What may be asked of the exchange now: numbers for the status."""
        return {
            "connects_left": self.connects.tokens,
            "requests_left": self.rest.tokens,
            "banned_seconds": self.rest.banned_seconds,
        }

    def gap_reports(self, channel: Channel) -> GapReports:
        """Return the reports of one channel, over all its connections."""
        if channel not in self._gap_reports:
            self._gap_reports[channel] = GapReports(self.exchange, channel, self.broker)
        return self._gap_reports[channel]

    def take_listed(self, listed: Listed, wanted: Iterable[Pair]) -> None:
        """Take what the exchange lists, and log what is new. A wanted pair that is not traded is an error."""
        for news in self.listings.take(listed, wanted):
            self.listing_news = (self.clock().wall, news.line)
            logger.log(logging.ERROR if news.is_alarm else logging.INFO, "%s: %s", self.exchange.name, news.line)
