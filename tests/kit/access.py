"""The access to an exchange as tests need it: nothing is paced, and looks at what is due come quickly."""

from coin_platform.broker import Broker, MemoryBroker
from coin_platform.collect.access import ExchangeAccess
from coin_platform.collect.pacing import TokenBucket
from coin_platform.collect.rest import Rest
from coin_platform.collect.timing import Timing
from coin_platform.exchanges.base import Exchange
from tests.kit.clock import MovedClock

QUICK = Timing(look_seconds=0.01, take_over_look_seconds=0.01)


def quick_access(
    exchange: Exchange,
    rest: Rest,
    broker: Broker | None = None,
    *,
    clock: MovedClock | None = None,
    timing: Timing = QUICK,
) -> ExchangeAccess:
    """Return the access of one feed to an exchange."""
    connects = TokenBucket(1000.0)
    return ExchangeAccess(
        exchange, broker or MemoryBroker(), rest, connects, clock=clock or MovedClock(), timing=timing
    )
