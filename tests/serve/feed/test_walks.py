"""The ladder on real Kafka and Redis that come and go: no record twice, none late, every hole told."""

import asyncio
import random
from pathlib import Path

import pytest

from coin_platform.serve.feed.ladder import Rung, Service
from infra.stack import Kafka, Redis
from tests.kit.feed_server import connect_to
from tests.kit.figures import figure
from tests.kit.ladder_world import Collected, LadderWorld, Seen, Written, ladder_world
from tests.kit.redis_streams import empty_redis as empty_redis
from tests.kit.waiting import eventually

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.xdist_group("kafka"), pytest.mark.timeout(300)]
SEED = 22


async def goes_on(written: Written | Collected, seen: Seen) -> None:
    """Wait until a trade that is written from now on has been seen."""
    count = written.count
    await eventually(lambda: seen.next is not None and seen.next > count, 60)


async def test_C5_A22_each_step_down_and_up_again(kafka: Kafka, empty_redis: Redis, tmp_path: Path) -> None:
    async with ladder_world(kafka, empty_redis, tmp_path) as (world, written, seen):
        await world.stands_on(Rung.KAFKA_REDIS)
        await goes_on(written, seen)
        moves, begun = world.reader.moves, len(world.ladder.moves)
        world.take_away("redis")
        await world.stands_on(Rung.KAFKA)
        await goes_on(written, seen)
        assert world.reader.moves == moves, "the source is the same"
        world.give_back("redis")
        await world.stands_on(Rung.KAFKA_REDIS)
        world.take_away("kafka")
        await world.stands_on(Rung.REDIS)
        await goes_on(written, seen)
        await eventually(lambda: seen.snapshots == 2 + moves == 1 + world.reader.moves, 60)
        world.take_away("redis", hangs=True)
        await eventually(lambda: not world.ladder.is_up(Service.REDIS) and world.distributor.failure, 60)
        assert world.ladder.rung is Rung.REDIS, "there is nowhere else to go"
        world.give_back("kafka")
        await world.stands_on(Rung.KAFKA)
        await goes_on(written, seen)
        world.give_back("redis")
        await world.stands_on(Rung.KAFKA_REDIS)
        world.take_away("kafka", hangs=True)
        await world.stands_on(Rung.REDIS)
        await goes_on(written, seen)
        world.give_back("kafka")
        await world.stands_on(Rung.KAFKA_REDIS)
        await goes_on(written, seen)
    assert (seen.holes, seen.missing) == (0, 0)
    figure("C5", "longest time from a move of the feed until it is shown", round(world.longest_silence, 2), "s")
    assert [move.after for move in world.ladder.moves[begun:]] == [
        *(Rung.KAFKA, Rung.KAFKA_REDIS, Rung.REDIS, Rung.KAFKA, Rung.KAFKA_REDIS, Rung.REDIS, Rung.KAFKA_REDIS),
    ]


async def test_C5_A22_while_kafka_is_away_from_all_the_frames_of_this_machine_stand_in(
    kafka: Kafka, empty_redis: Redis, tmp_path: Path
) -> None:
    async with ladder_world(kafka, empty_redis, tmp_path, collects_here=True) as (world, written, seen):
        await world.stands_on(Rung.KAFKA_REDIS)
        await goes_on(written, seen)
        world.take_away("kafka")
        await world.stands_on(Rung.LOCAL)
        await goes_on(written, seen)
        world.give_back("kafka")
        await world.stands_on(Rung.KAFKA_REDIS)
        await goes_on(written, seen)
        world.take_away("redis")
        await world.stands_on(Rung.KAFKA)
        world.take_away("kafka", hangs=True)
        await world.stands_on(Rung.LOCAL)
        await goes_on(written, seen)
    assert seen.missing == 0


async def test_the_feeds_of_one_service_tell_the_same_and_are_closed_while_it_is_down(
    kafka: Kafka, empty_redis: Redis, tmp_path: Path
) -> None:
    async with ladder_world(kafka, empty_redis, tmp_path) as (world, written, _):
        await world.stands_on(Rung.KAFKA_REDIS)
        clients = {service: Seen(written.pair) for service in ("kafka", "redis")}
        async with asyncio.TaskGroup() as tasks:
            for service, seen in clients.items():
                tasks.create_task(follow(world, service, seen))
            for seen in clients.values():
                await goes_on(written, seen)
            world.take_away("redis")
            await eventually(lambda: clients["redis"].close_code == 1013, 60)
            await goes_on(written, clients["kafka"])
            again = Seen(written.pair)
            await follow(world, "redis", again)
            assert (again.close_code, again.snapshots) == (1013, 0)
            world.give_back("redis")
            await world.stands_on(Rung.KAFKA_REDIS)
            tasks.create_task(follow(world, "redis", again))
            await goes_on(written, again)
            for service in clients:
                world.take_away(service)
        assert [seen.holes for seen in (*clients.values(), again)] == [0, 0, 0]


async def follow(world: LadderWorld, service: str, seen: Seen) -> None:
    """Follow the feed of one service until it is closed."""
    async with connect_to(world.url_of(f"/ws/{service}")) as client:
        await seen.follow(client)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("collects_here", "walks"), [(False, 12), (True, 8)])
async def test_C5_A22_twenty_random_walks(
    kafka: Kafka, empty_redis: Redis, tmp_path: Path, collects_here: bool, walks: int
) -> None:
    chance = random.Random(SEED)
    print(f"seed {SEED}")
    async with ladder_world(kafka, empty_redis, tmp_path, collects_here=collects_here) as (world, written, seen):
        await world.stands_on(Rung.KAFKA_REDIS)
        for number in range(walks):
            away: set[str] = set()
            for _ in range(4):
                step(world, away, chance, empty_redis)
                rung = Rung.LOCAL if collects_here and "kafka" in away else RUNGS["".join(sorted(away))]
                if rung is Rung.NONE:
                    await eventually(lambda: not any(view.is_up for view in world.ladder.views()), 60)
                    continue
                await world.stands_on(rung)
                await goes_on(written, seen)
            for service in ("kafka", "redis"):
                world.give_back(service)
            await world.stands_on(Rung.KAFKA_REDIS)
            await goes_on(written, seen)
            print(f"walk {number}: {seen.trades} trades, {seen.holes} holes, {world.reader.moves} moves")
    assert seen.missing == 0, "each record that a hole announced is missing"
    assert seen.trades > 1000 and world.reader.moves > walks


RUNGS = {"": Rung.KAFKA_REDIS, "redis": Rung.KAFKA, "kafka": Rung.REDIS, "kafkaredis": Rung.NONE}
"""Where the feed stands while these services are away; none: it stays where it was."""


def step(world: LadderWorld, away: set[str], chance: random.Random, redis: Redis) -> None:
    """Take a service away or give it back. Now and then Redis comes back empty."""
    service = chance.choice(("kafka", "redis"))
    if service in away:
        away.remove(service)
        world.give_back(service)
    else:
        away.add(service)
        world.take_away(service, hangs=chance.random() < 0.3)
    if "redis" in away and chance.random() < 0.3:
        redis.client().flushall()
