"""What all feeds of one exchange share."""

from collections.abc import Callable

from coin_platform.broker import Broker
from coin_platform.clock import now
from coin_platform.collect.clock_lag import ClockLag
from coin_platform.collect.gap_reports import GapReports
from coin_platform.collect.pacing import TokenBucket
from coin_platform.collect.rest import Rest
from coin_platform.collect.timing import Timing
from coin_platform.exchanges.base import Exchange
from coin_platform.model import Channel, Instant


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
    ) -> None:
        """Share these. `connects` paces the opening of sockets, and obeys the bans that `rest` learns of."""
        self.exchange = exchange
        self.broker, self.rest, self.connects = broker, rest, connects
        self.clock, self.timing = clock, timing
        self.clock_lag = ClockLag()
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
