"""What happened before a connection: the newest page of each pair's trades or minutes, asked for once over REST."""

import asyncio
import logging

import httpx

from coin_platform.collect.pacing import Backoff
from coin_platform.collect.rest import Rest, knows_no_pair, told
from coin_platform.collect.tape import Route, Tape
from coin_platform.errors import DecodeError
from coin_platform.model import Channel, Kind, Pair, Refused

logger = logging.getLogger(__name__)

REFILLED = (Channel.TRADE, Channel.CANDLE)  # of which an answer tells the past
ATTEMPTS = 3  # for each pair


class Refill:
    """Asks for one pair after the other, so that one request of the feed is under way; stores what is answered.

    Only the newest page is asked for. Whether it reaches back to what was stored before, the ledger of gaps sees.
    """

    def __init__(self, route: Route, tape: Tape, rest: Rest) -> None:
        self.route = route
        self._tape, self._rest = tape, rest

    async def run(self, pairs: tuple[Pair, ...]) -> None:
        """Ask for each of these pairs that has an address. Raises `DeliveryError` when an answer cannot be stored."""
        for pair in pairs:
            url = self.route.exchange.request_url(self.route.channel, pair)
            if url is not None:
                await self._fill(pair, self.route.here(url))

    async def _fill(self, pair: Pair, url: str) -> None:
        backoff = Backoff()
        for attempt in range(1, ATTEMPTS + 1):
            reason, is_final = await self._ask(pair, url)
            if not reason:
                return
            is_final = is_final or attempt == ATTEMPTS
            then = "given up" if is_final else "asking again"
            logger.warning("%s: no past of %s over REST, %s; %s", self.route, pair, reason, then)
            if is_final:
                return
            await asyncio.sleep(backoff.next(0.0))

    async def _ask(self, pair: Pair, url: str) -> tuple[str, bool]:
        """Return what went wrong, if anything, and whether it would do so again."""
        try:
            payload = await self._rest.get(url)
        except httpx.HTTPError as error:
            return told(error), knows_no_pair(error)
        frame, _ = self._tape.take(Kind.REST, payload, pair)
        try:
            events = self.route.exchange.decode(frame)
        except DecodeError as error:
            return str(error), True  # in the log it is a dead letter
        return next((event.reason for event in events if isinstance(event, Refused)), ""), False
