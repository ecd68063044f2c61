"""Which checks there are for these settings."""

from collections.abc import Sequence
from functools import partial

from coin_platform.doctor import machine, reach, services
from coin_platform.doctor.checks import Check, Diagnosis, Outcome, fine
from coin_platform.doctor.contradictions import contradictions
from coin_platform.errors import SettingsError
from coin_platform.selection import exchanges_of
from coin_platform.settings import Mode, Settings

_LAKE_SECONDS = 45.0  # a request to S3 is tried six times before the lake counts as unreachable
CLOCK = "clock"  # the one check that is made of the answers to others


def checks(settings: Settings, samples: machine.ClockSamples) -> list[Check]:
    """Return the checks. Those that reach a server note its time in `samples`."""
    is_kafka = settings.broker_url.startswith("kafka:")
    broker = [Check("kafka", partial(services.kafka, settings)), Check("topics", partial(services.topics, settings))]
    return [
        Check("settings", partial(_settings, settings)),
        *of_the_machine(),
        Check("disk", partial(machine.disks, settings)),
        Check("ports", partial(machine.ports, settings)),
        *(broker if is_kafka else [Check("journal", partial(services.journal, settings))]),
        Check("lake", partial(services.lake, settings, samples), _LAKE_SECONDS),
        *([Check("redis", partial(services.redis, settings))] if settings.redis_url else []),
        *([Check("zookeeper", partial(services.zookeeper, settings))] if settings.zookeeper else []),
        *_exchanges(settings, samples),
    ]


def of_the_machine() -> list[Check]:
    """Return the checks that need no settings."""
    return [Check("packages", machine.packages), Check("open files", machine.open_files)]


def clock(samples: machine.ClockSamples) -> Outcome:
    """Return what the answers of all servers together say of our clock."""
    return Outcome(CLOCK, machine.clock_findings(samples.ahead), 0.0)


def _settings(settings: Settings) -> Sequence[Diagnosis]:
    return list(contradictions(settings)) or fine("they go together")


def _exchanges(settings: Settings, samples: machine.ClockSamples) -> list[Check]:
    if settings.exchanges_mode is Mode.SIMULATED and machine.is_free(settings.simulator_port):
        return [Check("simulator", partial(reach.simulator, settings))]
    try:
        exchanges = exchanges_of(None, settings)
    except SettingsError:
        return []  # the check of the settings says so
    return [Check(exchange.name, partial(reach.exchange, exchange, settings, samples)) for exchange in exchanges]
