"""All services together under random faults: nothing lost, nothing twice, no wrong book, every hole a gap.

1. `SOAK_SEED` repeats a run.
2. `SOAK_MINUTES` makes the long run longer.
3. `SOAK_FAULTS` names the faults that may happen.
4. `SOAK_EVERY` is the number of seconds between two faults.
"""

import os
import random
from pathlib import Path

import pytest

from coin_platform.exchanges import EXCHANGES
from coin_platform.model import SECOND
from tests.kit.figures import ROOT, figure
from tests.kit.fleet import MIB, gain, settled, slope, write_samples
from tests.kit.soak import DISTURBANCES, FAULTS, Event, Plan, Soak
from tests.kit.verdict import Verdict, judge, make_tables

pytestmark = [pytest.mark.kafka, pytest.mark.s3, pytest.mark.xdist_group("soak")]  # it starts services of its own

MINUTES = float(os.environ.get("SOAK_MINUTES") or 20)
RATE = 18.0  # steps of the market a second: 2,400 messages, of which 2,000 are to be carried on average
HALF_RATE = 8.0  # of the short run, because its tables must be made and judged within five minutes, too
SETTLED_SECONDS = 300.0  # after its start, until a process holds all that it will ever hold
RISE = "MiB in 10 minutes"
MOST_GROWTH = 1.0  # MiB in 10 minutes
MOST_LEFT = 32.0  # MiB, of the records that piled up in outages
MOST_FILES = 8


def plan(minutes: float, rate: float, every: float, seed: int | None = None, among: tuple[str, ...] = FAULTS) -> Plan:
    """Return the plan that the environment asks for. A seed repeats its faults; without one they are new."""
    seed = int(os.environ.get("SOAK_SEED") or (random.SystemRandom().randrange(1 << 16) if seed is None else seed))
    faults = tuple(filter(None, os.environ.get("SOAK_FAULTS", "").split(",")))
    every = float(os.environ.get("SOAK_EVERY") or every)
    print(f"SOAK_SEED={seed}", flush=True)
    return Plan(minutes, seed, rate, every, () if faults == ("none",) else faults or among)


def examine(soak: Soak, name: str) -> None:
    """Run a soak, and check that everything adds up."""
    try:
        soak.run()
        complaints = make_tables(soak)
        verdicts = judge(soak)
    finally:
        soak.close()
    show(soak, verdicts)
    write_samples(soak.fleet.members.values(), ROOT / "reports" / f"{name.replace(' ', '-')}-memory.csv")
    assert not complaints
    assert not soak.fleet.accidents
    assert not {name: verdict.faults for name, verdict in verdicts.items() if verdict.faults}
    assert soak.exchanges.sent > 100 * soak.seconds
    assert all(verdict.books > soak.seconds for verdict in verdicts.values())
    kills = [event for event in soak.events if event.fault in ("collector", "worker")]
    figure("S1", f"{name}: messages", soak.exchanges.sent, "messages")
    figure("S1", f"{name}: messages a second", round(soak.exchanges.sent / soak.seconds), "1/s")
    figure("S1", f"{name}: faults", len(soak.events) - 1, "faults")
    figure("S1", f"{name}: kills among the faults", len(kills), "faults")
    figure("S1", f"{name}: lost, phantom, double, reordered, not or wrongly reported", 0, "messages")
    figure(
        "F1", f"{name}: books compared with the market", sum(verdict.books for verdict in verdicts.values()), "books"
    )
    costs = [(kill.start - time) / 1000 for kill in kills for time in _before(kill, verdicts)]
    figure("K2", f"{name}: oldest message that a kill cost, from sent to killed", round(max(costs, default=0)), "ms")


def _before(kill: Event, verdicts: dict[str, Verdict]) -> list[int]:
    """Return the times before a kill at which messages were sent that the kill cost."""
    hit = [name for name, exchange in EXCHANGES.items() if kill.victim == f"collect-{exchange.region}"]
    return [time for name in hit for time in verdicts[name].killed if kill.start - 5 * SECOND < time <= kill.start]


def show(soak: Soak, verdicts: dict[str, Verdict]) -> None:
    """Print the faults that were made, and the verdicts."""
    for event in soak.events:
        print(f"{event.start / 1e6 - soak.started:6.1f} s, for {(event.stop - event.start) / 1e6:4.1f} s: {event}")
    for name, verdict in verdicts.items():
        counts = f"{verdict.books} books compared, {len(verdict.killed)} lost by kills"
        print(f"{name}: {counts}, {verdict.repeated} processed again, {verdict.faults or 'right'}")


@pytest.mark.timeout(600)
@pytest.mark.no_cover  # the exchanges, which are in this process, take half the time so
def test_S1_A1_A4_minutes_of_random_faults_lose_and_double_nothing(tmp_path: Path) -> None:
    examine(Soak(plan(2, HALF_RATE, every=11, seed=112), tmp_path), "short soak")  # services, kills, a deploy


@pytest.mark.long
@pytest.mark.timeout(900 + 300 * MINUTES)
def test_S1_S8_hours_of_random_faults_lose_double_and_leak_nothing(tmp_path: Path) -> None:
    soak = Soak(plan(MINUTES, RATE, every=30), tmp_path)
    examine(soak, "soak")
    lives = [samples for member in soak.fleet.members.values() for samples in settled(member.lives, SETTLED_SECONDS)]
    memory = max((gain(samples, lambda sample: sample.memory / MIB) for samples in lives), default=0.0)
    files = max((gain(samples, lambda sample: sample.files) for samples in lives), default=0.0)
    figure("S1", "soak: most memory that a process held more in the end, after outages", round(memory, 1), "MiB")
    figure("S1", "soak: descriptors that a process gained", files, "files")
    assert memory < MOST_LEFT
    assert files <= MOST_FILES


@pytest.mark.long
@pytest.mark.timeout(300 + 90 * MINUTES)
def test_S1_exchanges_that_are_uneasy_for_long_let_no_process_grow(tmp_path: Path) -> None:
    """Measure each process in one stretch: no service and no process ends. In a short stretch noise hides growth.

    Each disturbance comes once in the first four minutes. The first time of one takes 1 MiB, which is no growth.
    """
    soak = Soak(plan(MINUTES, RATE, every=30, among=tuple(DISTURBANCES))._replace(all_first=True), tmp_path)
    try:
        soak.run()
    finally:
        soak.close()
    members = soak.fleet.members.values()
    write_samples(members, ROOT / "reports" / "uneasy-memory.csv")
    assert not soak.fleet.accidents
    growth = {member.name: slope(samples) for member in members for samples in settled(member.lives, SETTLED_SECONDS)}
    print(growth)
    assert growth.keys() == soak.fleet.members.keys(), "too short"
    figure("S1", "uneasy exchanges: fastest growth of a process's memory", round(max(growth.values()), 2), RISE)
    assert {name: rise for name, rise in growth.items() if rise >= MOST_GROWTH} == {}
