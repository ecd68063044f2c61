"""Probes the services of the ladder, each in a thread of its own: one that hangs holds up no other."""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping

from coin_platform.clock import elapsed, wall
from coin_platform.errors import CoinPlatformError
from coin_platform.serve.feed.ladder import Ladder, Service

logger = logging.getLogger(__name__)

PROBE_SECONDS = 2.0  # after a good probe, until the next one
AGAIN_SECONDS = 0.5  # after a bad one


@contextlib.contextmanager
def probing(
    ladder: Ladder,
    probes: Mapping[Service, Callable[[], None]],
    *,
    seconds: float = PROBE_SECONDS,
    again_seconds: float = AGAIN_SECONDS,
) -> Iterator[None]:
    """Tell the ladder meanwhile whether each service answers."""
    stop = threading.Event()

    def run(service: Service, probe: Callable[[], None]) -> None:
        while not stop.is_set():
            failure = _failure(probe)
            was_up = ladder.is_up(service)
            ladder.note(service, elapsed(), wall(), failure)
            if was_up and not ladder.is_up(service):
                logger.warning("%s is down: %s", service, failure)
            elif not was_up and ladder.is_up(service):
                logger.info("%s is up", service)
            stop.wait(again_seconds if failure else seconds)

    threads = [
        threading.Thread(target=run, args=item, name=f"probe of {item[0]}", daemon=True) for item in probes.items()
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _failure(probe: Callable[[], None]) -> str:
    try:
        probe()
    except CoinPlatformError as error:
        return str(error) or type(error).__name__
    return ""
