"""A worker of one region over a broker in memory, and the faults that a test gives the broker."""

from coin_platform.errors import BrokerUnreachable
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import Channel
from coin_platform.preprocess.worker import Worker
from coin_platform.topic_names import raw_topic
from tests.kit.faulty_broker import FaultyBroker
from tests.kit.raw_log import SETTINGS, ConnectionLog
from tests.kit.recordings import frames

GOOD = frames("upbit", "ticker")[0].payload  # a message that becomes one row
BOOKS = raw_topic("korea", Channel.ORDERBOOK)


def worker_of(log: ConnectionLog, *exchanges: str) -> Worker:
    """Return a worker of these exchanges, by default of the log's own."""
    chosen = [EXCHANGES[name] for name in exchanges or (log.source.exchange.name,)]
    return Worker(log.region, chosen, SETTINGS, log.broker, clock=lambda: log.time)


def faulty_log(channel: Channel = Channel.TICKER, exchange: str = "upbit") -> tuple[ConnectionLog, FaultyBroker]:
    """Return a log whose broker can be given faults, and that broker."""
    log = ConnectionLog(exchange, channel)
    log.broker = broker = FaultyBroker(clock=lambda: log.time)
    return log, broker


def silence(broker: FaultyBroker, *topics: str) -> None:
    """Have the broker not answer for some topics, or for all if none is named."""
    error = BrokerUnreachable("kafka does not answer")
    broker.refuse("end_offsets", error, lambda places: not topics or any(topic in topics for topic, _ in places))
