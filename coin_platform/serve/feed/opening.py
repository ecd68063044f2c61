"""What the feed of this machine can read from, as its settings say."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from coin_platform.broker import connect
from coin_platform.clock import wall
from coin_platform.cluster.feed_streams import open_feed_streams
from coin_platform.model import SECOND, Microseconds
from coin_platform.serve.feed.border import Border
from coin_platform.serve.feed.bound import BoundFeed
from coin_platform.serve.feed.door import BOUND_PATHS
from coin_platform.serve.feed.frames_source import FramesSource
from coin_platform.serve.feed.ladder import Ladder, LadderTimes, Service
from coin_platform.serve.feed.probing import AGAIN_SECONDS, PROBE_SECONDS, probing
from coin_platform.serve.feed.reader import LadderReader
from coin_platform.serve.feed.redis_source import RedisSource
from coin_platform.serve.feed.source import FeedSource, places_of
from coin_platform.serve.feed.tail import TopicSource
from coin_platform.settings import Settings

READ_PATIENCE_SECONDS = 2.0  # that an answer of Kafka may take; the ladder moves after two bad probes anyhow


class OpenedFeed(NamedTuple):
    """The ladder of this machine, and what reads from the source that it names."""

    ladder: Ladder
    reader: LadderReader


def services_of(settings: Settings) -> dict[Service, Callable[[Microseconds], FeedSource]]:
    """Return the services with a log, and what opens a source that begins with records of a time."""
    if not settings.broker_url.startswith("kafka:"):
        return {Service.LOCAL: lambda since: _local_source(settings, since)}
    services: dict[Service, Callable[[Microseconds], FeedSource]] = {
        Service.KAFKA: lambda since: _kafka_source(settings, since)
    }
    if settings.redis_feed:
        services[Service.REDIS] = lambda since: _redis_source(settings, since)
    return services


def bound_feeds(settings: Settings, ladder: Ladder, instance: str, seconds: int) -> dict[str, BoundFeed]:
    """Return the feeds of one service alone, by their paths. They begin with the records of the last `seconds`."""

    def feed(service: Service, open_source: Callable[[Microseconds], FeedSource]) -> BoundFeed:
        return BoundFeed(instance, service, ladder, lambda: open_source(wall() - seconds * SECOND))

    services = services_of(settings)
    return {path: feed(service, services[service]) for service, path in BOUND_PATHS.items() if service in services}


@contextmanager
def opened_feed(
    settings: Settings,
    since: Microseconds,
    *,
    times: LadderTimes = LadderTimes(),  # noqa: B008 - it cannot change
    probe_seconds: float = PROBE_SECONDS,
) -> Iterator[OpenedFeed]:
    """Give the ladder and its reader, and probe the services meanwhile. Records begin at `since`."""
    with ExitStack() as stack:
        services = services_of(settings)
        sources = {service: open_source(since) for service, open_source in services.items()}
        border = None
        if Service.LOCAL not in services:
            border = Border()
            sources[Service.LOCAL] = FramesSource(settings, border)
        ladder = Ladder(sources, times)
        reader = LadderReader(ladder, sources, border)
        stack.callback(reader.close)
        probes = {service: source.probe for service, source in sources.items()}
        stack.enter_context(
            probing(ladder, probes, seconds=probe_seconds, again_seconds=min(probe_seconds, AGAIN_SECONDS))
        )
        yield OpenedFeed(ladder, reader)


def _local_source(settings: Settings, since: Microseconds) -> FeedSource:
    return TopicSource(connect(settings), places_of(settings), since)


def _kafka_source(settings: Settings, since: Microseconds) -> FeedSource:
    from coin_platform.broker import kafka  # kafka-python takes long to import
    from coin_platform.broker.kafka_probe import KafkaProbe

    places = places_of(settings)
    broker = kafka.connect(settings, patience=READ_PATIENCE_SECONDS)
    return TopicSource(broker, places, since, probe=KafkaProbe(settings, list(places)))


def _redis_source(settings: Settings, since: Microseconds) -> FeedSource:
    return RedisSource(open_feed_streams(settings), open_feed_streams(settings), places_of(settings), since)
