"""Connect to the broker that COIN_BROKER_URL names."""

from collections.abc import Callable

from coin_platform.broker.contract import Broker
from coin_platform.broker.local import LocalBroker
from coin_platform.broker.spool import Loss
from coin_platform.errors import SettingsError
from coin_platform.settings import PREFIX, Settings


def connect(
    settings: Settings,
    *,
    guest: bool = False,
    on_loss: Callable[[Broker, Loss], None] | None = None,
    may_send: Callable[[], bool] = lambda: True,
) -> Broker:
    """Return the broker of COIN_BROKER_URL. A `guest` takes over from the process that appends now.

    1. `on_loss` is called with the broker, on a thread of its own, when appended records had to be given up before they
       were stored.
    2. Appended records wait on this disk while `may_send` is false. Where this disk is the log, they are stored.
    3. Raises `SettingsError` if there is no such broker.
    """
    scheme, _, address = settings.broker_url.partition(":")
    if scheme == "local":
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
    if scheme == "kafka":
        from coin_platform.broker import kafka  # kafka-python takes long to import

        return kafka.connect(settings, guest=guest, on_loss=on_loss, may_send=may_send)
    raise SettingsError(
        f"{PREFIX}BROKER_URL={settings.broker_url}: there is no broker {scheme!r}; write one of local:, kafka:"
    )
