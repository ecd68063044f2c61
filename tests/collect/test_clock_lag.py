"""Only news says something about our clock. Old messages, with which an exchange greets, do not."""

import msgspec
import pytest

from coin_platform.collect.clock_lag import LAG_MESSAGES, LEAST_LAG_MESSAGES, ClockLag, Greetings
from coin_platform.collect.session import Session
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import (
    SECOND,
    BookUpdate,
    Candle,
    Channel,
    Event,
    Frame,
    Instant,
    Kind,
    Level,
    Microseconds,
    Pair,
    Side,
    Ticker,
    Trade,
)
from coin_platform.steady_clock import JUMP_CONFIRM_SECONDS
from tests.kit.recordings import files, frames

BEGIN: Microseconds = 1_795_000_000 * SECOND
HOUR = 3600 * SECOND
PAIRS = [Pair(f"Q{number}", "USD") for number in range(60)]
_VALUES = ("open", "high", "low", "close", "volume")


class Market(type(EXCHANGES["kraken"])):  # type: ignore[misc]
    """An exchange whose frames hold the events that a test puts into them."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def decode(self, frame: Frame) -> list[Event]:
        return self.events


class Line:
    """A connection to that exchange, and our clocks, which may be wrong."""

    def __init__(self, channel: Channel, error: Microseconds = 0, *, has_deltas: bool = True) -> None:
        self.market, self.channel, self.error, self.seconds = Market(), channel, error, 0.0
        self.market.has_deltas = has_deltas
        self.clock_lag = ClockLag()
        self.session = Session(self.market, channel, PAIRS, self.clock_lag)
        self.number = 0
        self.session.opened(self.moment)

    @property
    def true(self) -> Microseconds:
        return BEGIN + int(self.seconds * SECOND)

    @property
    def moment(self) -> Instant:
        return Instant(self.true + self.error, self.seconds)

    def say(self, *events: Event, kind: Kind = Kind.SOCKET, after: float = 0.05) -> None:
        """Bring one frame."""
        self.seconds += after
        self.number += 1
        self.market.events = list(events)
        frame = Frame(
            exchange="kraken",
            channel=self.channel,
            connection="c",
            number=self.number,
            received_time=self.moment.wall,
            payload=b"",
            kind=kind,
        )
        self.session.received(frame, self.moment)

    def event(self, pair: Pair, age: float) -> Event:
        """Return an event that happened `age` seconds ago."""
        time = self.true - int(age * SECOND)
        match self.channel:
            case Channel.TICKER:
                return Ticker(pair=pair, exchange_time=time, last="1")
            case Channel.TRADE:
                return Trade(pair=pair, exchange_time=time, id="1", price=1.0, size=1.0, side=Side.BUY)
            case Channel.CANDLE:
                return msgspec.convert(
                    {"pair": pair, "open_time": time, "exchange_time": time, **dict.fromkeys(_VALUES, 1.0)}, Candle
                )
            case _:
                bids, asks = [Level(1.0, 1.0)], [Level(2.0, 1.0)]
                return BookUpdate(pair=pair, exchange_time=time, is_snapshot=False, bids=bids, asks=asks)

    def happen(self, pair: Pair, age: float, after: float) -> None:
        """Let time pass, and bring an event that happened `age` seconds before then."""
        self.seconds += after
        self.say(self.event(pair, age), after=0)


CHANNELS = list(Channel)


@pytest.mark.parametrize("channel", CHANNELS)
def test_R11_pairs_that_greet_with_old_news_are_no_clock_error(channel: Channel) -> None:
    line = Line(channel)
    for pair in PAIRS:
        line.say(line.event(pair, 7_200))
    assert (line.clock_lag.lag, line.clock_lag.is_suspect) == (None, False)


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("error", [10 * SECOND, -10 * SECOND, HOUR, -HOUR])
def test_R11_a_wrong_clock_is_noticed_by_the_first_news_of_quiet_pairs(channel: Channel, error: int) -> None:
    line = Line(channel, error)
    for pair in PAIRS:
        line.say(line.event(pair, 7_200))
    for pair in PAIRS[:LEAST_LAG_MESSAGES]:
        line.happen(pair, 0.02, after=5)
    assert line.clock_lag.is_suspect and line.clock_lag.lag is not None
    assert abs(line.clock_lag.lag - error) < SECOND


def test_R11_a_history_that_comes_in_one_frame_or_many_is_a_greeting() -> None:
    for is_one in (True, False):
        line = Line(Channel.TRADE)
        for pair in PAIRS:
            news = [line.event(pair, 60.0 * age) for age in range(50, 0, -1)]
            for events in [news] if is_one else [[event] for event in news]:
                line.say(*events, after=0.001)
        assert line.clock_lag.lag is None
        for _ in range(LAG_MESSAGES):
            line.happen(PAIRS[0], 0.02, after=1)
        assert line.clock_lag.lag == SECOND // 50


def test_R11_a_history_that_comes_newest_first_is_a_greeting() -> None:
    line = Line(Channel.TRADE)
    for pair in PAIRS:
        for age in range(50):
            line.say(line.event(pair, 60.0 * age), after=0.001)
    assert line.clock_lag.lag is None


def test_R11_a_ticker_that_repeats_the_time_of_the_last_trade_is_no_news() -> None:
    line = Line(Channel.TICKER)
    traded = line.event(PAIRS[0], 0)
    for _ in range(200):
        line.say(traded, after=60)
    assert line.clock_lag.lag is None


def test_R11_a_snapshot_is_no_news_at_any_time_where_books_come_as_changes() -> None:
    for has_deltas, is_known in ((True, False), (False, True)):
        line = Line(Channel.ORDERBOOK, has_deltas=has_deltas)
        for _ in range(LAG_MESSAGES):
            update = line.event(PAIRS[0], 60)
            assert isinstance(update, BookUpdate)
            line.say(msgspec.structs.replace(update, is_snapshot=True), after=1)
        assert (line.clock_lag.lag is not None) is is_known


def test_R11_a_pair_that_is_subscribed_again_greets_again() -> None:
    line = Line(Channel.TRADE)
    for _ in range(40):
        line.session.follow([], line.moment)
        line.session.follow(PAIRS, line.moment)
        for pair in PAIRS:
            line.say(line.event(pair, 600), after=10)
    assert line.clock_lag.lag is None


def test_R11_rest_is_no_news_whatever_its_time() -> None:
    line = Line(Channel.TICKER)
    for age in (7_200, 0, -7_200):
        for _ in range(LAG_MESSAGES):
            line.say(line.event(PAIRS[0], age), kind=Kind.REST)
    assert line.clock_lag.lag is None


def test_R11_a_greeting_from_later_than_now_is_proof_that_our_clock_is_behind() -> None:
    line = Line(Channel.TRADE, -HOUR)
    for pair in PAIRS:
        line.say(line.event(pair, 60))
    assert line.clock_lag.lag is not None and abs(line.clock_lag.lag + HOUR) < 2 * 60 * SECOND


@pytest.mark.parametrize(("exchange", "stem"), [(name, path.stem) for name, path in files()])
def test_R11_no_recorded_greeting_two_hours_old_counts(exchange: str, stem: str) -> None:
    adapter, clock_lag = EXCHANGES[exchange], ClockLag()
    first = frames(exchange, stem)[0]
    events = adapter.decode(first)
    times = [time for event in events if (time := getattr(event, "exchange_time", None)) is not None]
    pairs = list(dict.fromkeys(pair for event in events if isinstance(pair := getattr(event, "pair", None), Pair)))
    if not times or first.kind is not Kind.SOCKET:
        return
    late = msgspec.structs.replace(first, received_time=max(times) + 2 * HOUR)
    for _ in range(LEAST_LAG_MESSAGES):  # as many connections
        session = Session(adapter, first.channel, pairs, clock_lag)
        session.opened(Instant(late.received_time, 0.0))
        session.received(late, Instant(late.received_time, 1.0))
    assert (clock_lag.lag, clock_lag.is_suspect) == (None, False)


def test_a_greeting_that_is_followed_by_news_at_once_costs_one_message_at_most() -> None:
    greetings, pair = Greetings(), PAIRS[0]
    greeting_times = [(-HOUR, 0.0), (100_000, 0.1), (200_000, 0.2), (300_000, 0.3)]
    news = [greetings.is_news(pair, time, number, moment) for number, (time, moment) in enumerate(greeting_times)]
    assert news == [False, False, True, True]
    assert greetings.is_news(pair, 350_000, 3, 0.3), "two news in one frame are two"


def test_D3_a_clock_that_has_jumped_is_suspect_before_any_message_says_so() -> None:
    clock_lag = ClockLag()
    for jump, seconds, is_suspect in (
        *((0, 1, False), (HOUR, 2, True), (0, 3, False), (-HOUR, 4, True)),
        (-HOUR, 10 + JUMP_CONFIRM_SECONDS, False),  # from then on only the exchanges can tell
    ):
        clock_lag.look(Instant(BEGIN + int(seconds * SECOND) + jump, float(seconds)))
        assert clock_lag.is_suspect is is_suspect
        assert str(clock_lag) == ("our clock has jumped" if is_suspect else "our clock goes on steadily")
