"""A collector without leadership stands by; with it, it collects; without it again, it takes no more frames."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from coin_platform.broker import MemoryBroker
from coin_platform.clock import wall
from coin_platform.cluster import Cluster, open_cluster
from coin_platform.cluster.leader import AlwaysLeader
from coin_platform.cluster.status import ComponentKind, Status, statuses
from coin_platform.cluster.term import Term
from coin_platform.collect.candidate import Candidate
from coin_platform.end_reasons import End
from coin_platform.errors import ClusterError
from coin_platform.model import Channel, Kind, Pair, Region
from coin_platform.records import unpack_facts
from coin_platform.settings import Settings
from coin_platform.topic_names import raw_topic
from tests.kit.collecting import simulated, states
from tests.kit.kraken import TICKER, FakeKraken, Quick, fake_kraken, records
from tests.kit.waiting import eventually

BTC = (Pair("BTC", "USD"),)
TICKERS = raw_topic("ne", Channel.TICKER)


class Elected(AlwaysLeader):
    """A leadership that a test gives and takes."""

    def __init__(self) -> None:
        self.leads = False
        self.is_broken = False
        self.ended: list[int] = []
        self.is_closed = False

    def begin(self, least_epoch: int) -> Term | None:  # type: ignore[override]
        if self.is_broken:
            raise ClusterError("zookeeper does not answer")
        return Term(least_epoch, lambda: self.leads) if self.leads else None

    def end(self, term: Term) -> None:
        self.ended.append(term.epoch)

    def reports(self) -> list[Status]:
        state = "leading" if self.leads else "standby"
        return [Status(name="leader/ne", kind=ComponentKind.LEADER, state=state, reason="process 7 of seoul-1 leads")]

    def close(self) -> None:
        self.is_closed = True


class Scene:
    """A candidate of a fake Kraken, and what it left behind."""

    def __init__(self, fake: FakeKraken, home: Path, leadership: AlwaysLeader) -> None:
        self.fake, self.broker = fake, MemoryBroker()
        self.settings: Settings = simulated(fake, home=home, pairs=BTC, channels=(Channel.TICKER,))
        self.cluster: Cluster = open_cluster(self.settings)
        self.candidate = Candidate(Region.NE, self.settings, self.broker, self.cluster, leadership, exchanges=[Quick()])

    def is_live(self) -> bool:
        return self.candidate.collector is not None and states(self.candidate.collector) == {"live"}

    def told(self) -> dict[str, Status]:
        """Return the status by name."""
        return {status.name: status for status in statuses(self.cluster, wall())}

    def states(self) -> dict[str, str]:
        """Return the states of the collector and of the leadership, by name."""
        told = self.told()
        return {name: told[name].state for name in ("collector/ne", "leader/ne") if name in told}

    def epochs(self) -> list[int]:
        """Return the epochs of the records, each once, in order."""
        return list(dict.fromkeys(header.epoch for header, _ in records(self.broker, TICKERS)))

    def ends(self) -> list[str]:
        """Return why sockets ended."""
        facts = [unpack_facts(value) for header, value in records(self.broker, TICKERS) if header.kind is Kind.CLOSED]
        return [ended.reason for ended in facts if ended.transport == "ws"]


@asynccontextmanager
async def scene(home: Path, leadership: AlwaysLeader) -> AsyncIterator[Scene]:
    """Run a candidate until the block ends."""
    async with fake_kraken() as fake:
        made, stop = Scene(fake, home, leadership), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(made.candidate.run(stop))
            try:
                yield made
            finally:
                stop.set()


async def test_one_machine_collects_at_once_and_says_nothing_of_leadership(tmp_path: Path) -> None:
    async with scene(tmp_path, AlwaysLeader()) as made:
        await eventually(made.is_live)
        await eventually(lambda: "collector/ne" in made.told())
        assert not any(name.startswith("leader/") for name in made.told())
    assert made.ends() == [End.STOPPED]


async def test_a_candidate_stands_by_collects_loses_its_term_and_collects_again(tmp_path: Path) -> None:
    leadership = Elected()
    async with scene(tmp_path, leadership) as made:
        await eventually(lambda: "leader/ne" in made.told())
        told = made.told()["leader/ne"]
        assert (told.state, told.reason) == ("standby", "process 7 of seoul-1 leads")
        assert not made.fake.opened and "collector/ne" not in made.told()
        leadership.leads = True
        await eventually(made.is_live)
        await eventually(lambda: made.states() == {"collector/ne": "live", "leader/ne": "leading"}, 20)
        leadership.leads = False
        await eventually(lambda: not made.fake.sockets and made.candidate.collector is None)
        await eventually(lambda: made.states() == {"leader/ne": "standby"}, 20)
        assert made.ends() == [End.NOT_LEADING]
        assert len(leadership.ended) == 1
        leadership.leads = True
        await eventually(made.is_live)
    first, second = made.epochs()
    assert second > first and leadership.ended == [first, second]
    assert made.ends() == [End.NOT_LEADING, End.STOPPED]
    assert leadership.is_closed


async def test_L3_a_frame_that_comes_after_the_term_is_not_taken(tmp_path: Path) -> None:
    """The process of a frozen leader meets its first frame before anything else tells it what happened."""
    leadership = Elected()
    leadership.leads = True
    async with scene(tmp_path, leadership) as made:
        await eventually(made.is_live)
        collector = made.candidate.collector
        assert collector is not None
        before, frames = len(records(made.broker, TICKERS)), collector.feeds[0].traffic.frames
        leadership.leads = False
        await made.fake.say(TICKER)
        await eventually(lambda: made.candidate.collector is None)
        later = [header for header, _ in records(made.broker, TICKERS)[before:]]
        assert collector.feeds[0].traffic.frames == frames
        assert later and not any(header.kind.is_frame for header in later)


async def test_a_candidate_outlives_a_leadership_that_cannot_answer_and_ends_while_it_stands_by(tmp_path: Path) -> None:
    leadership = Elected()
    leadership.is_broken = True
    async with scene(tmp_path, leadership) as made:
        await eventually(lambda: "leader/ne" in made.told())
    assert leadership.is_closed and not made.told() and not records(made.broker, TICKERS)
