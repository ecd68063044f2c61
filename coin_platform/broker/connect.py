"""Connect to the broker that COIN_BROKER_URL names."""

from collections.abc import Callable

from coin_platform.broker.contract import Broker
from coin_platform.broker.local import LocalBroker
from coin_platform.errors import SettingsError
from coin_platform.settings import PREFIX, Settings


def connect(settings: Settings, *, guest: bool = False) -> Broker:
    """Return the broker of COIN_BROKER_URL; a `guest` takes over from the process that appends now.

    Raises `SettingsError` if there is no such broker.
    """
    scheme, _, address = settings.broker_url.partition(":")
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}:" for name in SCHEMES)
        raise SettingsError(
            f"{PREFIX}BROKER_URL={settings.broker_url}: there is no broker {scheme!r}; write one of {known}"
        )
    return SCHEMES[scheme](settings, address, guest)


def _local(settings: Settings, address: str, guest: bool) -> Broker:
    if address:
        raise SettingsError(
            f"{PREFIX}BROKER_URL={settings.broker_url}: nothing follows `local:`; the folder is {PREFIX}JOURNAL_DIR"
        )
    return LocalBroker(
        settings.path(settings.journal_dir),
        retention_hours=settings.journal_hours,
        retention_bytes=settings.journal_bytes,
        guest=guest,
    )


def _kafka(settings: Settings, address: str, guest: bool) -> Broker:
    from coin_platform.broker.kafka import connect

    return connect(settings, guest=guest)


SCHEMES: dict[str, Callable[[Settings, str, bool], Broker]] = {"local": _local, "kafka": _kafka}
