"""Run checks at the same time, each with its own time limit, so that a check that hangs costs only itself."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

from coin_platform.errors import CoinPlatformError

LIMIT_SECONDS = 20.0  # of a check; those that need more say so


class State(StrEnum):
    """What a check has found."""

    FINE = "fine"
    WARNING = "warning"  # it works, but not as well as it could, or not for long
    WRONG = "wrong"  # it does not work


class Diagnosis(NamedTuple):
    """One line of a check, and what to do about it."""

    state: State
    text: str
    remedy: str = ""


class Check(NamedTuple):
    """Something to look at. `run` may block, and raises `CoinPlatformError` for what is wrong."""

    name: str
    run: Callable[[], Sequence[Diagnosis]]
    seconds: float = LIMIT_SECONDS


class Outcome(NamedTuple):
    """What a check has found, and how long it took."""

    name: str
    findings: Sequence[Diagnosis]
    seconds: float


def fine(text: str) -> list[Diagnosis]:
    """Return the finding of a check that found nothing wrong."""
    return [Diagnosis(State.FINE, text)]


def wrong(text: str, remedy: str) -> list[Diagnosis]:
    """Return the finding that something does not work."""
    return [Diagnosis(State.WRONG, text, remedy)]


def warning(text: str, remedy: str) -> list[Diagnosis]:
    """Return the finding that something works, but not well."""
    return [Diagnosis(State.WARNING, text, remedy)]


def run_all(checks: Sequence[Check], clock: Callable[[], float] = time.monotonic) -> Iterator[Outcome]:
    """Run all checks at the same time, and yield their outcomes as they end.

    A check that takes longer than its limit is given up. Its thread is left alone, and ends with the process.
    """
    outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
    started = clock()
    waiting = {check.name: check for check in checks}
    for check in checks:
        threading.Thread(
            target=lambda check=check: outcomes.put(_outcome(check, started, clock)),
            name=f"check {check.name}",
            daemon=True,
        ).start()
    while waiting:
        first = min(waiting.values(), key=lambda check: check.seconds)
        try:
            outcome = outcomes.get(timeout=max(0.0, started + first.seconds - clock()))
        except queue.Empty:
            text = f"no answer within {first.seconds:g} s"
            outcome = Outcome(first.name, wrong(text, "look whether it hangs, or the network to it"), first.seconds)
        if waiting.pop(outcome.name, None) is not None:  # a check that was given up may still end
            yield outcome


def _outcome(check: Check, started: float, clock: Callable[[], float]) -> Outcome:
    try:
        findings = check.run()
    except CoinPlatformError as error:
        findings = [Diagnosis(State.WRONG, str(error))]  # the text of such an error names the remedy
    except Exception as error:  # whatever it is: it costs this check alone
        findings = wrong(f"{type(error).__name__}: {error}", "this is not foreseen; please report it")
    return Outcome(check.name, findings, clock() - started)
