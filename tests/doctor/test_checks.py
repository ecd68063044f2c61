"""Checks run side by side. One that hangs or fails costs only itself."""

import threading
import time

from coin_platform.doctor.checks import Check, Diagnosis, State, fine, run_all
from coin_platform.errors import SettingsError


def test_a_check_that_hangs_costs_only_itself() -> None:
    release = threading.Event()

    def hangs() -> list[Diagnosis]:
        release.wait(60)
        return fine("too late")

    outcomes = run_all([Check("hangs", hangs, 0.2), Check("quick", lambda: fine("here"), 60)])
    try:
        found = {outcome.name: outcome.findings[0] for outcome in outcomes}
    finally:
        release.set()
    assert found["quick"] == (State.FINE, "here", "")
    assert (found["hangs"].state, found["hangs"].text) == (State.WRONG, "no answer within 0.2 s")
    assert found["hangs"].remedy


def test_a_check_that_was_given_up_is_not_told_twice() -> None:
    given_up, slow_may_end = threading.Event(), threading.Event()

    def slow() -> list[Diagnosis]:
        given_up.wait(60)
        slow_may_end.set()
        return fine("late")

    def waits_for_slow() -> list[Diagnosis]:
        slow_may_end.wait(60)
        time.sleep(0.05)
        return fine("last")

    outcomes = run_all([Check("slow", slow, 0.1), Check("last", waits_for_slow, 60)])
    first = next(outcomes)
    given_up.set()
    assert [first.name, *(outcome.name for outcome in outcomes)] == ["slow", "last"]


def test_an_error_is_the_finding_of_its_check() -> None:
    def refuses() -> list[Diagnosis]:
        raise SettingsError("COIN_X=1: this is wrong; write 2")

    def breaks() -> list[Diagnosis]:
        raise ZeroDivisionError("nothing")

    found = {o.name: o.findings for o in run_all([Check("refuses", refuses), Check("breaks", breaks)])}
    assert found["refuses"] == [(State.WRONG, "COIN_X=1: this is wrong; write 2", "")]
    assert found["breaks"][0].text == "ZeroDivisionError: nothing" and found["breaks"][0].state is State.WRONG
