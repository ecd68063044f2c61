"""The one way to repeat a short call to a service, such as S3 or Kafka, that may answer the next time.

Frames wait in the journal instead, and connections to exchanges have a policy of their own: `collect.pacing`.
"""

import random
import time
from collections.abc import Callable
from typing import TypeVar

import tenacity

T = TypeVar("T")


def repeated(
    call: Callable[[], T],
    may_pass: Callable[[BaseException], bool],
    *,
    attempts: int | None = None,
    seconds: float | None = None,
    first_delay: float,
    longest_delay: float = 60.0,
    sleep: Callable[[float], None] = time.sleep,
    tell: Callable[[BaseException, int], None] | None = None,
) -> T:
    """Return the result of a call. Repeat it after an error that `may_pass`, `attempts` times or for so many seconds.

    Delays are `first_delay` seconds, doubled by each attempt, and shortened at random by up to a half. `tell` is called
    with each such error and the number of its attempt. Raises the last error itself.
    """

    def delay(state: tenacity.RetryCallState) -> float:
        return min(longest_delay, first_delay * 2.0 ** min(state.attempt_number - 1, 30)) * random.uniform(0.5, 1)

    def told(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        if tell is not None and error is not None and may_pass(error):
            tell(error, state.attempt_number)

    stops: list[tenacity.stop.stop_base] = []
    if attempts is not None:
        stops.append(tenacity.stop_after_attempt(attempts))
    if seconds is not None:
        stops.append(tenacity.stop_after_delay(seconds))
    policy = tenacity.Retrying(
        retry=tenacity.retry_if_exception(may_pass),
        stop=tenacity.stop_any(*stops),
        wait=delay,
        sleep=sleep,
        after=told,
        reraise=True,
    )
    return policy(call)
