"""Windows close by the clock of their log, whatever the clock of the machine that looks says."""

import logging

import pytest

from coin_platform.broker import MemoryBroker
from coin_platform.errors import RetentionLoss
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import SECOND, Microseconds, Window
from coin_platform.orchestration.log_clock import LogClock
from coin_platform.orchestration.offsets import is_closed
from coin_platform.selection import sources
from coin_platform.settings import Settings
from coin_platform.steady_clock import JUMP_CONFIRM_SECONDS
from tests.kit.faulty_broker import FaultyBroker

BEGIN: Microseconds = 1_795_000_020 * SECOND  # a whole minute
HOUR = 3600 * SECOND
MINUTE = 60 * SECOND
SOURCE = next(iter(sources(EXCHANGES["upbit"], Settings())))
PLACES = [(SOURCE.topic, SOURCE.partition), (SOURCE.topic, SOURCE.partition + 1)]
SETTLE_SECONDS = 5.0
ERRORS = (HOUR, -HOUR, 25 * HOUR, 10 * 365 * 24 * HOUR)


class World:
    """A log that a clock stamps which is right, and a machine whose clock may be wrong."""

    def __init__(self, error: Microseconds = 0) -> None:
        self.true, self.error = BEGIN, error
        self.broker = MemoryBroker(clock=lambda: self.true)
        self.clock = LogClock(lambda: self.true + self.error, lambda: self.true / SECOND, SETTLE_SECONDS)

    def append(self, partition: int = 0) -> None:
        self.broker.append(SOURCE.topic, SOURCE.partition + partition, "h", b"value")

    def look(self, seconds: float = 5) -> Microseconds:
        self.true += int(seconds * SECOND)
        return self.clock.look(self.broker, PLACES)

    def is_closed(self, start: Microseconds, grace: Microseconds = 0) -> bool:
        return is_closed(self.broker, SOURCE, Window(start, start + MINUTE), grace, lambda: self.look(0))


@pytest.mark.parametrize("error", ERRORS)
def test_D3_a_machine_whose_clock_is_wrong_closes_windows_when_the_log_says(
    error: int, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(error)
    for partition in (0, 1):
        world.append(partition)
        world.look()
    for _ in range(3):
        world.append(1)  # the other partition is quiet
        assert abs(world.look() - world.true) <= 5 * SECOND
    assert not world.is_closed(BEGIN) and not world.is_closed(BEGIN + MINUTE)
    for _ in range(20):
        world.append(1)
        world.look()
    assert world.is_closed(BEGIN) and not world.is_closed(BEGIN + 2 * MINUTE)
    assert not world.is_closed(BEGIN, grace=HOUR)
    with caplog.at_level(logging.WARNING):
        assert caplog.text.count("the log's clock and ours are") == 1


@pytest.mark.parametrize("error", [HOUR, 25 * HOUR, 10 * 365 * 24 * HOUR])
def test_D3_a_process_that_begins_on_a_clock_that_is_ahead_closes_no_window_before_the_log_has_told(error: int) -> None:
    world = World(error)
    world.append()
    assert not world.is_closed(BEGIN) and not world.clock.is_settled
    world.look(1)
    assert not world.is_closed(BEGIN) and not world.clock.is_settled, "a busy collector brings nothing for a second"
    world.append()
    assert not world.is_closed(BEGIN) and world.clock.is_settled


def test_D3_an_idle_log_closes_by_the_local_clock_once_it_was_waited_for() -> None:
    world = World()
    world.append()
    world.true += HOUR  # the collector ended an hour ago
    assert not world.is_closed(BEGIN) and not world.clock.is_settled
    world.look(SETTLE_SECONDS)
    assert world.is_closed(BEGIN) and world.clock.is_settled


@pytest.mark.parametrize("error", ERRORS)
def test_D3_a_jump_while_the_collector_is_down_closes_nothing_early(error: int) -> None:
    world = World()
    world.append()
    world.look()
    world.append()
    world.look()
    world.error = error
    for _ in range(int(JUMP_CONFIRM_SECONDS)):
        world.look(5)
    assert abs(world.look() - world.true) <= 5 * SECOND, "the log's time goes on also when it has lasted"


def test_D3_a_jump_before_any_record_came_is_held() -> None:
    world = World()
    world.append()
    world.look()
    world.error = 25 * HOUR
    assert world.look() == world.true
    assert world.look(JUMP_CONFIRM_SECONDS) == world.true + 25 * HOUR  # nothing says that it is wrong


def test_clocks_that_are_about_equal_are_the_local_one(caplog: pytest.LogCaptureFixture) -> None:
    world = World(-SECOND)
    for _ in range(5):
        world.append()
        assert world.look() == world.true - SECOND
    assert not caplog.records


def test_a_record_that_is_trimmed_before_it_is_read_says_nothing() -> None:
    world = World(HOUR)
    world.broker = broker = FaultyBroker(clock=lambda: world.true)
    broker.refuse("read", RetentionLoss("gone"))
    for _ in range(3):
        world.append()
        assert world.look() == world.true + HOUR
