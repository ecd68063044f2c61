"""Python runs this at its start where the wall clock is moved: `time.sleep` must not depend on that clock.

libfaketime 0.9.10, which Debian has, breaks the system call of `time.sleep` where the monotonic clock is left alone
(https://github.com/wolfcw/libfaketime/issues/426). It leaves `select` alone.
"""

import select
import time
from typing import SupportsIndex


def sleep(seconds: float | SupportsIndex, /) -> None:
    """Sleep as `time.sleep` does."""
    if (wait := float(seconds)) < 0:
        raise ValueError("sleep length must be non-negative")
    select.select((), (), (), wait)


time.sleep = sleep
