"""Settings that are right one by one, but do not go together. Pure."""

from collections.abc import Iterator
from datetime import timedelta
from urllib.parse import urlsplit

from coin_platform.doctor.checks import Diagnosis, State
from coin_platform.errors import SettingsError
from coin_platform.selection import exchanges_of, wanted_pairs
from coin_platform.settings import PREFIX, Mode, Security, Settings

_SAFE_COPIES = 3
_KAFKA = (
    *("kafka_security_protocol", "kafka_sasl_mechanism", "kafka_user", "kafka_password", "kafka_ca"),
    *("kafka_certificate", "kafka_key", "kafka_replication", "spool_bytes"),
)
_S3 = ("s3_endpoint", "s3_region", "s3_access_key", "s3_secret_key", "s3_session_token", "s3_ca")
_OUTBOUND = ("proxy", "ca")


def contradictions(settings: Settings) -> Iterator[Diagnosis]:
    """Yield what does not go together, and settings that have no effect."""
    try:
        exchanges = exchanges_of(None, settings)
    except SettingsError as error:
        yield Diagnosis(State.WRONG, str(error))
        exchanges = []
    for exchange in exchanges:
        if not wanted_pairs(exchange, settings):
            yield _warning(
                f"COIN_PAIRS has no pair that {exchange.name} trades in {exchange.quote}: nothing of it is collected",
                f"add a pair such as BTC-{exchange.quote}, or leave {exchange.name} out of COIN_EXCHANGES",
            )
    yield from _without_effect(settings)
    yield from _exposed(settings)
    if settings.landing_min_interval > settings.window.total_seconds():
        yield _warning(
            f"COIN_LANDING_MIN_INTERVAL={settings.landing_min_interval:g} is longer than COIN_WINDOW: rows are not "
            "readable before their window is made",
            f"write at most {settings.window / timedelta(seconds=1):g}",
        )
    is_kafka = settings.broker_url.startswith("kafka:")
    if is_kafka and settings.kafka_replication < _SAFE_COPIES and not _is_local(settings.broker_url):
        yield _warning(
            f"COIN_KAFKA_REPLICATION={settings.kafka_replication}: records are lost with the broker that has them",
            "write 3 before the topics are created",
        )


def _without_effect(settings: Settings) -> Iterator[Diagnosis]:
    groups = (
        (_KAFKA, settings.broker_url.startswith("kafka:"), "COIN_BROKER_URL is not kafka://…"),
        (_S3, settings.lake_url.startswith("s3:"), "COIN_LAKE_URL is not s3://…"),
        (_OUTBOUND, settings.exchanges_mode is Mode.LIVE, "COIN_EXCHANGES_MODE=simulated stays on this machine"),
    )
    for names, has_effect, reason in groups:
        for name in names:
            default = Settings.model_fields[name].get_default(call_default_factory=True)
            if not has_effect and getattr(settings, name) != default:
                variable = f"{PREFIX}{name.upper()}"
                yield _warning(f"{variable} has no effect: {reason}", f"remove {variable}, or change the other setting")


def _exposed(settings: Settings) -> Iterator[Diagnosis]:
    """Yield passwords that anyone on the way could read."""
    is_plain = settings.kafka_security_protocol is Security.SASL_PLAINTEXT
    if is_plain and not _is_local(settings.broker_url):
        yield _warning(
            "COIN_KAFKA_SECURITY_PROTOCOL=SASL_PLAINTEXT: what goes to Kafka can be read on the way", "write SASL_SSL"
        )
    endpoint = settings.s3_endpoint or ""
    if endpoint.startswith("http:") and not _is_local(endpoint):
        yield _warning(f"COIN_S3_ENDPOINT={endpoint}: the lake can be read on the way", "write https://")


def _is_local(address: str) -> bool:
    return (urlsplit(address.split(",")[0]).hostname or "") in ("127.0.0.1", "::1", "localhost")


def _warning(text: str, remedy: str) -> Diagnosis:
    return Diagnosis(State.WARNING, text, remedy)
