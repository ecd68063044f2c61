"""Runs Dagster's daemon and code servers so that no jump of the wall clock stops them.

`python -m coin_platform.orchestration.dagster_clocks daemon …` is `dagster-daemon …`, and `… dagster …` is `dagster …`.
By itself Dagster 1.13 has four faults:

1. The daemon waits until the time of day is some seconds later. Where the clock is set back, its queue stands still
   until the clock comes there again.
2. A sensor does not tick while its last tick lies in the future, also not after a restart.
3. A run is ended when it is older than its time limit by a clock that has jumped.
4. A code server takes no more runs when its clock is long after the last heartbeat of its parent.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster._cli as dagster_cli
from dagster import _time as dagster_time
from dagster._daemon import cli as daemon_cli
from dagster._daemon import daemon, sensor
from dagster._daemon.monitoring import run_monitoring
from dagster._daemon.run_coordinator import queued_run_coordinator_daemon as queue
from dagster._grpc import proxy_server, server

from coin_platform.clock import elapsed, wall
from coin_platform.model import SECOND, Microseconds
from coin_platform.orchestration.dagster_logs import through_ours
from coin_platform.steady_clock import SteadyClock

MODULE = "coin_platform.orchestration.dagster_clocks"
LONGEST_WAIT_SECONDS = 60.0  # between two rounds of sensors or schedules, as Dagster's own longest
PROGRAMS = {"dagster._daemon": "daemon", "dagster": "dagster"}  # modules that are run, and their names here


class _Time:
    """Module `time` for a module of Dagster, with another clock as `time.time`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.time = clock

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


class _ShortWaits:
    """An event for which nobody waits longer than `LONGEST_WAIT_SECONDS` at a time."""

    def __init__(self, event: threading.Event) -> None:
        self._event = event

    def wait(self, seconds: float) -> bool:
        """Wait as the event does, but not for as long as a clock was set back."""
        return self._event.wait(min(seconds, LONGEST_WAIT_SECONDS))


def mend(
    read_wall: Callable[[], Microseconds] = wall,
    monotonic: Callable[[], float] = elapsed,
    replace: Callable[[Any, str, Any], None] = setattr,
) -> None:
    """Mend Dagster in this process. `replace` sets an attribute of one of Dagster's modules.

    1. What Dagster takes for the time of day is the wall clock, whose jumps are held; see `SteadyClock`.
    2. Waits, pauses and heartbeats count seconds that have passed.
    3. A sensor whose last tick lies in the future is due.
    """
    clock, lock = SteadyClock(read_wall, monotonic), threading.Lock()

    def steady() -> float:
        with lock:
            return clock() / SECOND

    replace(dagster_time, "_mockable_get_current_timestamp", steady)
    replace(dagster_time, "_mockable_get_current_datetime", lambda: datetime.fromtimestamp(steady(), UTC))
    replace(run_monitoring, "time", _Time(steady))
    for module in (daemon, queue, server, proxy_server):
        replace(module, "time", _Time(monotonic))
    replace(sensor, "get_elapsed", _never_negative(sensor.get_elapsed))
    for kind in (daemon.SensorDaemon, daemon.SchedulerDaemon):
        replace(kind, "core_loop", _with_short_waits(kind.core_loop))
    start = server.open_ipc_subprocess  # type: ignore[attr-defined]
    replace(server, "open_ipc_subprocess", mended(start))


def mended(start: Callable[..., Any]) -> Callable[..., Any]:
    """Return what starts a process as `start` does, but Dagster's daemon and code servers through this module."""

    def start_mended(words: Sequence[str], **options: Any) -> Any:
        parts = ([MODULE, PROGRAMS[word]] if word in PROGRAMS else [word] for word in words[:3])
        return start([*(word for part in parts for word in part), *words[3:]], **options)

    return start_mended


def _never_negative(get_elapsed: Callable[[Any], float | None]) -> Callable[[Any], float | None]:
    def seconds_since_tick(state: Any) -> float | None:
        seconds = get_elapsed(state)
        return None if seconds is not None and seconds < 0 else seconds  # `None`: there was no tick

    return seconds_since_tick


def _with_short_waits(core_loop: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    def core_loop_with_short_waits(itself: Any, workspace: Any, over: threading.Event) -> Iterator[Any]:
        yield from core_loop(itself, workspace, _ShortWaits(over))

    return core_loop_with_short_waits


def main(program: str, arguments: Sequence[str]) -> None:
    """Run one of Dagster's programs, mended, with its lines in our log."""
    mend()
    through_ours(program if program == "daemon" else "code server")
    sys.argv = [f"dagster {program}", *arguments]
    programs: dict[str, Callable[[], None]] = {"daemon": daemon_cli.main, "dagster": dagster_cli.main}
    programs[program]()


if __name__ == "__mp_main__":  # Dagster starts the process of a run as a copy of its code server
    through_ours("run")
if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
