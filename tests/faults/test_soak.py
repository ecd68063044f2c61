"""All services together under random faults: nothing lost, nothing twice, no wrong book, every hole in the ledger.

`SOAK_SEED` repeats a run, `SOAK_MINUTES` makes the long one longer, `SOAK_FAULTS` names the faults that may happen,
`SOAK_EVERY` the seconds between two.
"""

import os
import random
from contextlib import closing
from pathlib import Path

import pytest

from coin_platform.exchanges import EXCHANGES
from tests.faults.fleet import growth_of_files, slope
from tests.faults.soak import Plan, Soak
from tests.faults.verdict import Verdict, judge, make_tables
from tests.kit.figures import figure

pytestmark = [pytest.mark.kafka, pytest.mark.s3]

MINUTES = float(os.environ.get("SOAK_MINUTES") or 20)
RATE = 16.0  # steps of the market a second: about 2,000 messages
SETTLED = 300.0  # seconds after its start until a process has seen all that it will hold
MOST_GROWTH = 1.0  # MiB in 10 minutes
MOST_FILES = 8


def plan(minutes: float, rate: float) -> Plan:
    """Return what the environment wants: the same seed gives the same faults."""
    seed = int(os.environ.get("SOAK_SEED") or random.SystemRandom().randrange(1 << 16))
    faults = tuple(filter(None, os.environ.get("SOAK_FAULTS", "").split(",")))
    print(f"SOAK_SEED={seed}", flush=True)
    every = None if faults == ("none",) else float(os.environ.get("SOAK_EVERY") or 30)
    return Plan(minutes, seed, rate, every, faults)


def examine(soak: Soak) -> None:
    """Run a soak; everything must add up."""
    try:
        soak.run()
        complaints = make_tables(soak)
        with closing(soak.broker()) as broker:
            verdicts = {name: judge(soak, kind, broker) for name, kind in EXCHANGES.items()}
    finally:
        soak.close()
    show(soak, verdicts)
    assert not complaints
    assert not soak.fleet.accidents
    assert not {name: verdict.wrongs for name, verdict in verdicts.items() if verdict.wrongs}


def show(soak: Soak, verdicts: dict[str, Verdict]) -> None:
    """Print what happened and what was found."""
    for event in soak.events:
        print(f"{event.start / 1e6 - soak.started:6.1f} s, for {(event.stop - event.start) / 1e6:4.1f} s: {event}")
    for name, verdict in verdicts.items():
        print(
            f"{name}: {verdict.books} books compared, {verdict.repeated} processed again, {verdict.wrongs or 'right'}"
        )


@pytest.mark.long
@pytest.mark.timeout(900)
def test_S1_three_minutes_of_random_faults_lose_and_double_nothing(tmp_path: Path) -> None:
    examine(Soak(plan(3, RATE), tmp_path))


@pytest.mark.long
@pytest.mark.timeout(900 + 300 * MINUTES)
def test_S1_S8_hours_of_random_faults_lose_double_and_leak_nothing(tmp_path: Path) -> None:
    soak = Soak(plan(MINUTES, RATE), tmp_path)
    examine(soak)
    members = soak.fleet.members.values()
    growth = {member.name: slope(member.lives, SETTLED) for member in members}
    files = {member.name: growth_of_files(member.lives, SETTLED) for member in members}
    print(growth, files)
    assert {name: found for name, found in growth.items() if found is not None and found >= MOST_GROWTH} == {}
    assert {name: found for name, found in files.items() if found > MOST_FILES} == {}
    figure("S1", "soak: messages", soak.exchanges.sent, "messages")
