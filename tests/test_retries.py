"""A short call is repeated while it may pass: with growing delays, for so many attempts or so long, and never else."""

import pytest

from coin_platform.retries import repeated


class Call:
    """Fails some times, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.count = list(errors), 0

    def __call__(self) -> str:
        self.count += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


def passes(error: BaseException) -> bool:
    return isinstance(error, ConnectionError)


def test_a_call_is_repeated_with_growing_delays_until_it_answers() -> None:
    waits: list[float] = []
    told: list[int] = []
    call = Call(*(ConnectionError() for _ in range(4)))
    answer = repeated(
        *(call, passes),
        attempts=6,
        first_delay=1,
        longest_delay=4,
        sleep=waits.append,
        tell=lambda _, attempt: told.append(attempt),
    )
    assert (answer, call.count, told) == ("answer", 5, [1, 2, 3, 4])
    assert all(longest / 2 <= wait <= longest for wait, longest in zip(waits, (1, 2, 4, 4), strict=True))


def test_the_last_error_is_raised_itself_and_told_too() -> None:
    told: list[str] = []
    call = Call(*(ConnectionError(str(number)) for number in range(9)))
    with pytest.raises(ConnectionError, match="2"):
        repeated(
            *(call, passes),
            attempts=3,
            first_delay=0,
            sleep=lambda _: None,
            tell=lambda error, _: told.append(str(error)),
        )
    assert told == ["0", "1", "2"]


def test_an_error_that_does_not_pass_is_raised_at_once() -> None:
    call = Call(ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        repeated(call, passes, attempts=3, first_delay=0)
    assert call.count == 1


def test_without_time_left_a_call_is_made_once() -> None:
    call = Call(ConnectionError(), ConnectionError())
    with pytest.raises(ConnectionError):
        repeated(call, passes, seconds=0, first_delay=0)
    assert call.count == 1
