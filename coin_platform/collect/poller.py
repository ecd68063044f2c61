"""Poll one channel over REST: store each answer first, then read it, as a connection does with its frames."""

import asyncio
import logging
from collections.abc import Iterable

import httpx

from coin_platform.clock import unless
from coin_platform.collect.access import ExchangeAccess
from coin_platform.collect.actions import Banned, Failed, Fetch, Listed
from coin_platform.collect.poll_plan import PollPlan
from coin_platform.collect.recorder import Recorder
from coin_platform.collect.rest import error_text, knows_no_pair
from coin_platform.end_reasons import End
from coin_platform.errors import NotTaken
from coin_platform.model import Kind, Pair, Refusal

logger = logging.getLogger(__name__)

STALE_PERIODS = 2  # of the plan, without an answer


class Poller:
    """Asks until it is ended; in the log, its life is a connection. At most one request is under way."""

    def __init__(self, pairs: Iterable[Pair], recorder: Recorder, access: ExchangeAccess) -> None:
        """Poll these pairs of the recorder's route."""
        self.route = route = recorder.route
        self.plan = PollPlan(
            route.exchange, route.channel, pairs, access.clock(), route.window, traffic=recorder.traffic
        )
        self.last_error = ""  # of the network, or of the exchange as a whole
        self.reason = ""  # why it ends
        self._recorder, self._rest, self._clock = recorder, access.rest, access.clock
        self._access = access
        self._look_seconds = access.timing.look_seconds
        self._end_asked = asyncio.Event()
        self._last_frame = self._clock().monotonic

    @property
    def name(self) -> str:
        """The name in its records; empty until it runs."""
        return self._recorder.name

    @property
    def state(self) -> str:
        """One of connecting, refused, live, stale, closing."""
        if self._end_asked.is_set():
            return "closing"
        if self._clock().monotonic - self._last_frame > STALE_PERIODS * self.plan.period:
            return "stale"
        if self.plan.is_served:
            return "live"
        return "refused" if self.plan.refused else "connecting"

    @property
    def is_complete(self) -> bool:
        """Whether it is live, and every pair has been answered or refused. The pairs are asked for one by one."""
        return self.state == "live" and not self.plan.unconfirmed

    async def run(self) -> None:
        """Ask and store until `end` is called. Raises `DeliveryError`, in a group, if a frame cannot be stored."""
        self._recorder.open(self.plan.pairs)
        try:
            await unless(self._end_asked, self._work())
        finally:
            self._recorder.close(self.reason or End.BROKEN_OFF)

    def follow(self, pairs: Iterable[Pair]) -> None:
        """Poll these pairs from now on."""
        self.plan.follow(pairs, self._clock())
        self.settle()

    def settle(self) -> None:
        """Log what is polled now: the collector before ours has ended, or the pairs have changed."""
        if self.name:
            self._recorder.log(Kind.PAIRS, self.plan.pairs)

    def end(self, reason: str) -> None:
        """Ask no more. An answer that is under way is not waited for. The first reason counts."""
        self.reason = self.reason or reason
        self._end_asked.set()

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._ask())
            group.create_task(self._log_windows())  # a task of its own: a request may have to wait for the end of a ban

    async def _ask(self) -> None:
        await self._recorder.take_place_in_log()
        while True:
            request = self.plan.take(self._clock())
            if request is None:
                await asyncio.sleep(min(self._look_seconds, self.plan.wait(self._clock())))
            else:
                await self._fetch(request)

    async def _fetch(self, request: Fetch) -> None:
        pair, is_error = request.pair, True
        try:
            payload = await self._rest.get(self.route.here(request.url))
            frame, moment = self._recorder.take(Kind.REST, payload, None if self.plan.is_list else pair)
        except (httpx.HTTPError, NotTaken) as error:
            self._take_error(pair, error)
        else:
            is_error, self._last_frame, self.last_error = False, moment.monotonic, ""
            self._perform(self.plan.received(pair, frame))
        finally:
            self.plan.done(pair, self._clock(), is_error=is_error)

    def _take_error(self, pair: Pair, error: httpx.HTTPError | NotTaken) -> None:
        reason = error_text(error)
        if knows_no_pair(error):
            self._perform(self.plan.failed(pair, reason))
            return
        if not self.last_error:
            logger.warning("%s: no answer over REST, %s; asking on", self.route, reason)
        self.last_error = reason

    def _perform(self, actions: Iterable[Failed | Banned | Listed]) -> None:
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
                case Listed():
                    self._access.take_listed(action, self.plan.pairs)

    async def _log_windows(self) -> None:
        """Log what is polled once for each window, so that each window knows the connection."""
        while True:
            if self._recorder.turned(self._clock()):
                self._recorder.log(Kind.CHECKPOINT, self.plan.pairs)
            await asyncio.sleep(self._look_seconds)
