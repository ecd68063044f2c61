"""What one exchange lists now: of which wanted pairs no orders are executed, and what is new. No I/O."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from coin_platform.collect.actions import Listed
from coin_platform.exchanges.base import LIST_WITH_UNREADABLE_ROWS, WHOLE_LIST
from coin_platform.model import Event, Instrument, InstrumentState, Pair

MOST_NAMES = 20  # of pairs that one line names


def listed(events: Sequence[Event]) -> list[Listed]:
    """Return what the events of one frame say of listings, as one action or none."""
    instruments = tuple(event for event in events if isinstance(event, Instrument))
    return [Listed(instruments, WHOLE_LIST in events)] if instruments or LIST_WITH_UNREADABLE_ROWS in events else []


class ListingNews(NamedTuple):
    """One line for the log. An alarm is about a wanted pair."""

    line: str
    is_alarm: bool


class Listings:
    """What one exchange lists, as far as its frames have told. It outlives connections."""

    def __init__(self) -> None:
        self._instruments: dict[Pair, Instrument] = {}
        self._is_known = False  # a whole list has come
        self._reported: dict[Pair, str] = {}  # wanted pairs without trading that were logged, and why

    def take(self, listed: Listed, wanted: Iterable[Pair]) -> list[ListingNews]:
        """Take what a frame lists. Return what is new of the exchange, and of the wanted pairs."""
        named = {instrument.pair: instrument for instrument in listed.instruments}
        news: list[ListingNews] = []
        if self._is_known:
            news += _names("lists now", [pair for pair in named if pair not in self._instruments])
        if listed.is_whole:
            if self._is_known:
                news += _names("lists no more", [pair for pair in self._instruments if pair not in named])
            self._instruments, self._is_known = named, True
        else:
            self._instruments |= named
        return [*news, *self._wanted_news(wanted)]

    @property
    def count(self) -> int | None:
        """How many pairs the exchange lists; `None` before the first whole list."""
        return len(self._instruments) if self._is_known else None

    def not_traded(self, wanted: Iterable[Pair]) -> dict[Pair, str]:
        """Return the wanted pairs of which no orders are executed now, and what the exchange says of each."""
        return {pair: state for pair in wanted if (state := self._state(pair))}

    def _state(self, pair: Pair) -> str:
        """Return why no orders of a pair are executed; empty if they are, or if that is not known."""
        instrument = self._instruments.get(pair)
        if instrument is None:
            return "not listed" if self._is_known else ""
        if instrument.state.is_traded:
            return ""
        return _described(instrument)

    def _wanted_news(self, wanted: Iterable[Pair]) -> list[ListingNews]:
        pairs = [*wanted]
        now = self.not_traded(pairs)
        news = [
            ListingNews(f"{pair} is wanted and not traded: {state}", is_alarm=True)
            for pair, state in now.items()
            if self._reported.get(pair) != state
        ]
        back = [pair for pair in self._reported if pair in pairs and pair not in now]
        self._reported = now
        return [*news, *_names("trades again", back)]


def _described(instrument: Instrument) -> str:
    word = instrument.exchange_state
    is_plain = word is None or word.lower() == instrument.state or instrument.state is InstrumentState.DELISTED
    return instrument.state.value if is_plain else f"{instrument.state.value} ({word:.60})"


def _names(verb: str, pairs: Sequence[Pair]) -> list[ListingNews]:
    if not pairs:
        return []
    rest = f" and {len(pairs) - MOST_NAMES} more" if len(pairs) > MOST_NAMES else ""
    return [ListingNews(f"{verb}: {' '.join(map(str, pairs[:MOST_NAMES]))}{rest}", is_alarm=False)]
