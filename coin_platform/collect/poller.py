"""One channel of some pairs over REST: what is answered is stored first, then looked at, like that of a socket."""

import asyncio
import logging
from collections.abc import Callable, Iterable

import httpx

from coin_platform.broker import Broker
from coin_platform.clock import now, unless
from coin_platform.collect.actions import Banned, Failed, Fetch
from coin_platform.collect.clock_lag import ClockLag
from coin_platform.collect.gap_reports import GapReports
from coin_platform.collect.poll_plan import PollPlan
from coin_platform.collect.recorder import Recorder
from coin_platform.collect.rest import Rest, knows_no_pair, told
from coin_platform.collect.route import Route, Traffic
from coin_platform.errors import OverBudget
from coin_platform.model import Instant, Kind, Pair, Refusal
from coin_platform.records import End, Transport

logger = logging.getLogger(__name__)

_BEAT = 0.25  # seconds between two looks at what is due


class Poller:
    """Asks until it is ended; in the log its life is a connection. At most one request is under way."""

    def __init__(
        self,
        route: Route,
        pairs: Iterable[Pair],
        *,
        broker: Broker,
        rest: Rest,
        traffic: Traffic,
        clock: Callable[[], Instant] = now,
        clock_lag: ClockLag | None = None,
        gap_reports: GapReports | None = None,
    ) -> None:
        self.route = route
        self.plan = PollPlan(route.exchange, route.channel, pairs, clock())
        self.last_error = ""  # of the network or the exchange as a whole
        self._rest, self._clock = rest, clock
        self._recorder = Recorder(
            route,
            broker=broker,
            traffic=traffic,
            clock=clock,
            transport=Transport.REST,
            clock_lag=clock_lag,
            gap_reports=gap_reports,
        )
        self._ending = asyncio.Event()
        self.reason = ""
        self._last_frame = clock().monotonic

    @property
    def name(self) -> str:
        """What its records call it; empty until it runs."""
        return self._recorder.name

    @property
    def state(self) -> str:
        """One of connecting, refused, live, stale, closing."""
        if self._ending.is_set():
            return "closing"
        if self._clock().monotonic - self._last_frame > 2 * self.plan.period:
            return "stale"
        if self.plan.is_served:
            return "live"
        return "refused" if self.plan.refused else "connecting"

    async def run(self) -> None:
        """Ask and store until `end` is called. Raises `DeliveryError`, in a group, when a frame could not be stored."""
        self._recorder.open(self.plan.pairs)
        try:
            await unless(self._ending, self._work())
        finally:
            self._recorder.close(self.reason or End.BROKEN_OFF)

    def follow(self, pairs: Iterable[Pair]) -> None:
        """Change what is asked for."""
        self.plan.follow(pairs, self._clock())
        if self.name:
            self._recorder.log(Kind.PAIRS, self.plan.pairs)

    def settle(self) -> None:
        """Log what is polled: the collector before ours has ended."""
        if self.name:
            self._recorder.log(Kind.PAIRS, self.plan.pairs)

    def end(self, reason: str) -> None:
        """Ask no more; an answer that is under way is not waited for."""
        self.reason = self.reason or reason
        self._ending.set()

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._ask())
            group.create_task(self._keep())  # beside: a request may have to wait out a ban

    async def _ask(self) -> None:
        while True:
            request = self.plan.take(self._clock())
            if request is None:
                await asyncio.sleep(min(_BEAT, self.plan.wait(self._clock())))
            else:
                await self._fetch(request)

    async def _fetch(self, request: Fetch) -> None:
        pair = request.pair
        try:
            payload = await self._rest.get(self.route.here(request.url))
            frame, moment = self._recorder.take(Kind.REST, payload, pair)
        except (httpx.HTTPError, OverBudget) as error:
            self._missed(pair, error)
        else:
            self._last_frame, self.last_error = moment.monotonic, ""
            self._tell(self.plan.received(pair, frame))
        finally:
            self.plan.done(pair, self._clock())

    def _missed(self, pair: Pair, error: httpx.HTTPError | OverBudget) -> None:
        reason = told(error)
        if knows_no_pair(error):
            self._tell(self.plan.failed(pair, reason))
            return
        if not self.last_error:
            logger.warning("%s: no answer over REST, %s; asking on", self.route, reason)
        self.last_error = reason

    def _tell(self, actions: Iterable[Failed | Banned]) -> None:
        for action in actions:
            if isinstance(action, Failed):
                self._recorder.refused = {str(pair): str(failed) for pair, failed in self.plan.refused.items()}
                self._recorder.log(Kind.PAIRS, self.plan.pairs)
            match action:
                case Failed(pair, reason, Refusal.FINAL):
                    logger.error("%s: nothing of %s over REST, %s", self.route, pair, reason)
                case Failed(pair, reason):
                    logger.warning("%s: nothing of %s over REST, %s; asking again", self.route, pair, reason)
                case Banned(refusal):
                    self._rest.heed_events([refusal])

    async def _keep(self) -> None:
        """Let every window know the connection."""
        while True:
            if self._recorder.turned(self._clock()):
                self._recorder.log(Kind.CHECKPOINT, self.plan.pairs)
            await asyncio.sleep(_BEAT)
