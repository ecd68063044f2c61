"""What happened before a connection: the newest page of each pair's trades or minutes, asked for once over REST."""

import asyncio
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import httpx

from coin_platform.collect.pacing import Backoff
from coin_platform.collect.recorder import Recorder
from coin_platform.collect.rest import Rest, knows_no_pair, told
from coin_platform.collect.route import Route
from coin_platform.errors import DecodeError, OverBudget
from coin_platform.model import Channel, Kind, Pair, Refusal, Refused

logger = logging.getLogger(__name__)

REFILLED = (Channel.TRADE, Channel.CANDLE)  # of which an answer tells the past


@dataclass
class _Wish:
    """A pair whose past is not here yet, and when it is asked for."""

    pair: Pair
    url: str
    due: float  # of the loop's clock
    reason: str = ""  # why the last answer brought nothing
    backoff: Backoff = field(default_factory=Backoff)


class Refill:
    """Asks for one pair after the other, so that one request of the feed is under way; stores what is answered.

    1. Only the newest page is asked for. Whether it reaches back to what was stored before, the ledger of gaps sees.
    2. A pair that the exchange refuses for the moment is asked for again, with growing pauses, until its connection
       ends. The other pairs have their turns meanwhile.
    3. A ban delays the answer, however long it lasts: `Rest` asks nothing before it is over.
    """

    def __init__(self, route: Route, recorder: Recorder, rest: Rest, wanted: Callable[[], Collection[Pair]]) -> None:
        self.route = route
        self._recorder, self._rest, self._wanted = recorder, rest, wanted

    async def run(self) -> None:
        """Ask for each wanted pair that has an address. Raises `DeliveryError` when an answer cannot be stored."""
        clock = asyncio.get_running_loop().time
        asked = ((pair, self.route.exchange.request_url(self.route.channel, pair)) for pair in self._wanted())
        wishes = [_Wish(pair, self.route.here(url), clock()) for pair, url in asked if url is not None]
        while wishes:
            wish = min(wishes, key=lambda wish: wish.due)
            await asyncio.sleep(max(0.0, wish.due - clock()))
            if wish.pair not in self._wanted():
                wishes.remove(wish)
                continue
            reason, is_final = await self._ask(wish)
            if not reason or is_final:
                wishes.remove(wish)
            if reason and (is_final or reason != wish.reason):
                then = "given up" if is_final else "asking again"
                logger.warning("%s: no past of %s over REST, %s; %s", self.route, wish.pair, reason, then)
            wish.reason = reason
            wish.due = clock() + wish.backoff.next(0.0)

    async def _ask(self, wish: _Wish) -> tuple[str, bool]:
        """Return what went wrong, if anything, and whether it would do so again."""
        try:
            payload = await self._rest.get(wish.url)
            frame, _ = self._recorder.take(Kind.REST, payload, wish.pair)
        except (httpx.HTTPError, OverBudget) as error:
            return told(error), knows_no_pair(error)
        try:
            events = self.route.exchange.decode(frame)
        except DecodeError as error:
            return str(error), True  # in the log it is a dead letter
        self._rest.heed_events(events)
        refusals = [event for event in events if isinstance(event, Refused)]
        reason = refusals[0].reason if refusals else ""
        return reason, any(refused.refusal is Refusal.FINAL for refused in refusals)
