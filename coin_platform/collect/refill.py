"""Ask once over REST for the trades and candles before a connection: the newest page of each pair."""

import asyncio
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import httpx

from coin_platform.collect.pacing import Backoff
from coin_platform.collect.recorder import Recorder
from coin_platform.collect.rest import Rest, error_text, knows_no_pair
from coin_platform.errors import DecodeError, NotTaken
from coin_platform.model import Channel, Kind, Pair, Refusal, Refused

logger = logging.getLogger(__name__)

REFILLED_CHANNELS = (Channel.TRADE, Channel.CANDLE)  # an answer tells their past


@dataclass
class _Request:
    """A pair whose past has not come yet."""

    pair: Pair
    url: str
    due: float  # seconds of the loop's clock
    reason: str = ""  # why the last answer brought nothing
    backoff: Backoff = field(default_factory=Backoff)


class Refill:
    """Asks for one pair after the other, so that one request of the feed is under way. Stores the answers.

    1. Only the newest page is asked for. The ledger of gaps sees whether it reaches back to what was stored before.
    2. A pair that the exchange refuses for the moment is asked for again, with growing pauses, until its connection
       ends. The other pairs have their turns meanwhile.
    3. A ban delays the answer, however long it lasts: `Rest` asks nothing before it is over.
    """

    def __init__(self, recorder: Recorder, rest: Rest, pairs: Callable[[], Collection[Pair]]) -> None:
        """Ask for `pairs()`, and store the answers as frames of this recorder."""
        self.route = recorder.route
        self._recorder, self._rest, self._pairs = recorder, rest, pairs

    async def run(self) -> None:
        """Ask for each pair that has an address. Raises `DeliveryError` if an answer cannot be stored."""
        clock = asyncio.get_running_loop().time
        urls = ((pair, self.route.exchange.request_url(self.route.channel, pair)) for pair in self._pairs())
        requests = [_Request(pair, self.route.here(url), clock()) for pair, url in urls if url is not None]
        while requests:
            request = min(requests, key=lambda request: request.due)
            await asyncio.sleep(max(0.0, request.due - clock()))
            if request.pair not in self._pairs():
                requests.remove(request)
                continue
            reason, is_final = await self._ask(request)
            if not reason or is_final:
                requests.remove(request)
            if reason and (is_final or reason != request.reason):
                then = "given up" if is_final else "asking again"
                logger.warning("%s: no past of %s over REST, %s; %s", self.route, request.pair, reason, then)
            request.reason = reason
            request.due = clock() + request.backoff.next(0.0)

    async def _ask(self, request: _Request) -> tuple[str, bool]:
        """Return what went wrong, or an empty text, and whether the next attempt would get the same."""
        try:
            payload = await self._rest.get(request.url)
            frame, _ = self._recorder.take(Kind.REST, payload, request.pair)
        except (httpx.HTTPError, NotTaken) as error:
            return error_text(error), knows_no_pair(error)
        try:
            events = self.route.exchange.decode(frame)
        except DecodeError as error:
            return str(error), True  # the frame is in the log, and becomes a dead letter
        self._rest.heed_events(events)
        refusals = [event for event in events if isinstance(event, Refused)]
        reason = refusals[0].reason if refusals else ""
        return reason, any(refused.refusal is Refusal.FINAL for refused in refusals)
