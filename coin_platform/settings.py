"""Every setting with its default; the only reader of the environment.

Settings are environment variables (or lines of `.env` in COIN_HOME's folder) named `COIN_…`.
"""

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from dotenv.parser import parse_stream
from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from coin_platform.errors import SettingsError, UnknownPair
from coin_platform.model import Channel, Microseconds, Pair, Region

PREFIX = "COIN_"
LONGEST_GRACE = timedelta(hours=1)
_MOST_BYTES = 1 << 50
_TOPIC_PREFIX = r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*"  # what Kafka and a file's name both take
_SHOWN = 200  # characters of a wrong value
_LONGEST_PREFIX = 100  # characters; Kafka takes 249 for the whole name


class Mode(StrEnum):
    """Which exchanges to talk to."""

    LIVE = "live"
    SIMULATED = "simulated"


class Security(StrEnum):
    """How Kafka is talked to, in Kafka's own words."""

    PLAINTEXT = "PLAINTEXT"
    SSL = "SSL"
    SASL_PLAINTEXT = "SASL_PLAINTEXT"
    SASL_SSL = "SASL_SSL"

    @property
    def has_tls(self) -> bool:
        """Whether connections are encrypted."""
        return self in (Security.SSL, Security.SASL_SSL)

    @property
    def has_sasl(self) -> bool:
        """Whether a user logs in."""
        return self in (Security.SASL_PLAINTEXT, Security.SASL_SSL)


class Mechanism(StrEnum):
    """How a user logs in to Kafka, in Kafka's own words."""

    PLAIN = "PLAIN"
    SCRAM_SHA_256 = "SCRAM-SHA-256"
    SCRAM_SHA_512 = "SCRAM-SHA-512"


def _root() -> Path:
    """Return the folder of `workspace.yaml`: the checkout, or where the command was started."""
    checkout = Path(__file__).resolve().parent.parent
    return checkout if (checkout / "workspace.yaml").exists() else Path.cwd()


_EMPTY_IS_NONE = (
    *("kafka_user", "kafka_password", "kafka_ca", "kafka_certificate", "kafka_key", "proxy", "ca", "ping_every"),
    *("deployment", "s3_endpoint", "s3_region", "s3_access_key", "s3_secret_key", "s3_session_token", "s3_ca"),
)


class Settings(BaseSettings):
    """All settings; a wrong value stops the start with one line that names the variable and the remedy."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="ignore", frozen=True, allow_inf_nan=False, hide_input_in_errors=True
    )

    home: Path = Field(default_factory=_root, description="folder that relative paths start from")
    exchanges_mode: Mode = Field(Mode.LIVE, description="`live`, or `simulated` (loopback servers of `coin simulate`)")
    exchanges: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="only these exchanges, comma separated; empty: all"
    )
    pairs: Annotated[tuple[Pair, ...], NoDecode] = Field(
        (), description="pairs for every exchange that trades their quote, comma separated; empty: the defaults"
    )
    channels: Annotated[tuple[Channel, ...], NoDecode] = Field(
        tuple(Channel), description="channels to collect, comma separated"
    )
    broker_url: str = Field("local:", description="`local:` (journal under COIN_HOME) or `kafka://host:9092,…`")
    kafka_security_protocol: Security = Field(
        Security.PLAINTEXT, description="PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL, as Kafka's listener has it"
    )
    kafka_sasl_mechanism: Mechanism = Field(
        Mechanism.SCRAM_SHA_512, description="PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512, if a user logs in to Kafka (SASL)"
    )
    kafka_user: str | None = Field(None, description="user that logs in to Kafka (SASL)")
    kafka_password: SecretStr | None = Field(None, description="the user's password")
    kafka_ca: Path | None = Field(
        None, description="PEM file of the CA certificates that Kafka's may have (SSL); empty: the machine's"
    )
    kafka_certificate: Path | None = Field(
        None, description="PEM file of the certificate that is shown to Kafka, if it asks for one (SSL)"
    )
    kafka_key: Path | None = Field(None, description="PEM file of that certificate's key; empty: in the same file")
    lake_url: str = Field("file:data/lake", description="`file:FOLDER` or `s3://bucket/prefix`")
    deployment: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="name of this deployment, the same on all its machines; empty: one that is kept in COIN_HOME",
    )
    s3_endpoint: str | None = Field(None, description="address of an S3 server that is not AWS")
    s3_region: str | None = Field(
        None, description="S3 region; empty: us-east-1 with an endpoint, else the usual AWS sources"
    )
    s3_access_key: SecretStr | None = Field(None, description="S3 access key; empty: the usual AWS sources")
    s3_secret_key: SecretStr | None = Field(None, description="S3 secret key")
    s3_session_token: SecretStr | None = Field(None, description="S3 session token, for keys that expire")
    s3_ca: Path | None = Field(
        None, description="PEM file of the CA certificates that the S3 server's may have; empty: the machine's"
    )
    proxy: SecretStr | None = Field(
        None, description="proxy to the exchanges, http://[user:password@]host:port; empty: none"
    )
    ca: Path | None = Field(
        None, description="PEM file of CA certificates that exchanges (or the proxy) may have, beside the machine's"
    )
    ping_every: float | None = Field(
        None,
        ge=0.05,
        le=600,
        description="seconds between pings, where an exchange wants them; empty: as it wants, Kraken 5",
    )
    window: timedelta = Field(timedelta(hours=1), description="window length, for example 1h or 15m")
    grace: timedelta = Field(timedelta(seconds=60), description="wait after a window's end when the log is quiet")
    start: datetime = Field(
        datetime(2026, 11, 1, tzinfo=UTC), description="start of the first window, UTC; rounded down to a window's"
    )
    topic_korea: str = Field("korea", description="prefix of the raw topics of the region Korea")
    topic_asia: str = Field("asia", description="prefix of the raw topics of the region Asia")
    topic_ne: str = Field("ne", description="prefix of the raw topics of the region NE")
    journal_dir: Path = Field(Path("data/journal"), description="folder of the local journal")
    journal_hours: float = Field(24, gt=0, le=10 * 366 * 24, description="hours the local journal keeps")
    journal_bytes: int = Field(20 << 30, gt=1 << 20, le=_MOST_BYTES, description="bytes the local journal keeps")
    kafka_replication: int = Field(
        1, ge=1, le=32, description="copies that Kafka keeps of each new topic; 3 in production"
    )
    spool_bytes: int = Field(
        2 << 30, gt=1 << 20, le=_MOST_BYTES, description="bytes of records that may wait on disk for Kafka"
    )
    batch_ticker: int = Field(
        20, ge=1, le=100_000, description="waiting ticker frames of an exchange that make a batch"
    )
    batch_orderbook: int = Field(
        50, ge=1, le=100_000, description="waiting frames of another channel that make a batch"
    )
    batch_interval: float = Field(0.25, ge=0, le=60, description="seconds after which fewer make one")
    landing_min_interval: float = Field(
        10.0, ge=0, le=24 * 3600, description="seconds between two landing objects of a partition"
    )
    ui_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        ("localhost", "127.0.0.1"), description="names under which `coin up` serves Dagster's UI, comma separated"
    )
    metrics_port: int = Field(
        0,
        ge=0,
        le=65533,
        description="port of a worker's metrics on 127.0.0.1; of more regions the next ones; 0: none",
    )
    simulator_port: int = Field(8700, ge=1, le=65535, description="port of the simulated exchanges on 127.0.0.1")
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="DEBUG, INFO, WARNING or ERROR")

    @field_validator(*_EMPTY_IS_NONE, mode="before")
    @classmethod
    def _none(cls, value: Any) -> Any:
        return None if value == "" else value

    @field_validator("exchanges", "channels", "ui_hosts", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return tuple(dict.fromkeys(name.strip().lower() for name in value.split(",") if name.strip()))

    @field_validator("broker_url", "lake_url", "s3_endpoint")
    @classmethod
    def _no_credentials(cls, value: str | None) -> str | None:
        """Refuse what has credentials in it: an address is printed, and they would have no effect."""
        if value is None or value.startswith(("file:", "local:")):
            return value
        is_lake = value.startswith("s3:")
        place = value.partition("://")[2]
        if "@" in place.partition("/")[0] or (":" in place.partition("/")[0] if is_lake else "@" in value):
            server = "S3" if is_lake or value.startswith("http") else "KAFKA"
            first, second = ("ACCESS_KEY", "SECRET_KEY") if server == "S3" else ("USER", "PASSWORD")
            raise ValueError(
                f"an address holds no user and password; set {PREFIX}{server}_{first} and {PREFIX}{server}_{second}"
            )
        return value

    @field_validator("s3_endpoint")
    @classmethod
    def _endpoint(cls, value: str | None) -> str | None:
        if value is not None:
            _web_address(value, "http://host:8333 or https://host")
        return value

    @field_validator("proxy")
    @classmethod
    def _proxy(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            _web_address(value.get_secret_value(), "http://host:3128 or http://user:password@host:3128")
        return value

    @field_validator("topic_korea", "topic_asia", "topic_ne")
    @classmethod
    def _topic_prefix(cls, value: str) -> str:
        if len(value) > _LONGEST_PREFIX or not re.fullmatch(_TOPIC_PREFIX, value, re.ASCII):
            raise ValueError(f"at most {_LONGEST_PREFIX} letters, digits, `-` and `_`, with single dots between them")
        return value

    @field_validator("pairs", mode="before")
    @classmethod
    def _pairs(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return tuple(Pair.parse(text) for text in value.split(",") if text.strip())
        except UnknownPair as error:
            raise ValueError(str(error)) from error

    @field_validator("window", "grace", mode="before")
    @classmethod
    def _duration(cls, value: Any) -> Any:
        units = {"s": "seconds", "m": "minutes", "h": "hours"}
        if isinstance(value, str) and value[-1:] in units and value[:-1].replace(".", "", 1).isdigit():
            try:
                return timedelta(**{units[value[-1]]: float(value[:-1])})
            except OverflowError:
                raise ValueError("it is too long") from None
        return value

    @field_validator("grace")
    @classmethod
    def _grace(cls, value: timedelta) -> timedelta:
        if not timedelta(0) <= value <= LONGEST_GRACE:
            raise ValueError("it is from 0s to 1h")
        return value

    @field_validator("window")
    @classmethod
    def _whole_minutes(cls, value: timedelta) -> timedelta:
        minutes = value / timedelta(minutes=1)
        if minutes != int(minutes) or not 1 <= minutes <= 60 or 60 % minutes:
            raise ValueError("a window is 1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30 or 60 minutes")
        return value

    @field_validator("start")
    @classmethod
    def _window_start(cls, value: datetime, info: ValidationInfo) -> datetime:
        """Return the start, in UTC, of the window that holds a moment: windows divide the hour."""
        aware = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        hour = aware.replace(minute=0, second=0, microsecond=0)
        window: timedelta = info.data.get("window", timedelta(hours=1))  # a wrong one stops the start anyway
        return hour + (aware - hour) // window * window

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for text in self._contradictions():
            raise ValueError(text)
        return self

    def _contradictions(self) -> Iterator[str]:
        """Yield a line for settings that do not go together, the first of which begins with its name."""
        needed = (self.window + self.grace) / timedelta(hours=1)
        if self.journal_hours < needed:
            yield (
                f"COIN_JOURNAL_HOURS={self.journal_hours:g}: COIN_WINDOW and COIN_GRACE need {needed:.4g}, "
                "for a window is made of what the journal still has"
            )
        taken: dict[str, Region] = {}
        for region in Region:
            prefix = self.topic_prefix(region)
            other = taken.setdefault(prefix.casefold().replace(".", "_"), region)  # as Kafka compares topics
            if other is not region:
                yield f"COIN_TOPIC_{region.upper()}={prefix}: the region {other} has that prefix; each needs its own"
        security = self.kafka_security_protocol
        for name in ("kafka_user", "kafka_password"):
            is_set = bool(getattr(self, name))
            if security.has_sasl and not is_set:
                yield f"{PREFIX}{name.upper()} is not set: COIN_KAFKA_SECURITY_PROTOCOL={security} needs it"
            if is_set and not security.has_sasl:
                yield (
                    f"{PREFIX}{name.upper()} is set, but COIN_KAFKA_SECURITY_PROTOCOL={security} sends no password: "
                    "write SASL_SSL"
                )
        for name in ("kafka_ca", "kafka_certificate", "kafka_key"):
            if getattr(self, name) and not security.has_tls:
                yield f"{PREFIX}{name.upper()}: COIN_KAFKA_SECURITY_PROTOCOL={security} has no TLS; write SASL_SSL"
        if self.kafka_key and not self.kafka_certificate:
            yield f"COIN_KAFKA_KEY={self.kafka_key}: set COIN_KAFKA_CERTIFICATE, the certificate of that key, too"
        if bool(self.s3_access_key) != bool(self.s3_secret_key):
            yield "COIN_S3_ACCESS_KEY and COIN_S3_SECRET_KEY belong together: set both or none"
        if self.s3_session_token and not self.s3_access_key:
            yield "COIN_S3_SESSION_TOKEN is set: set COIN_S3_ACCESS_KEY and COIN_S3_SECRET_KEY, which belong to it, too"

    def path(self, value: Path) -> Path:
        """Return a path of the settings as an absolute one: relative paths start from COIN_HOME."""
        return (self.home / value).resolve()

    def topic_prefix(self, region: Region) -> str:
        """Return what the raw topics of a region begin with."""
        return {Region.KOREA: self.topic_korea, Region.ASIA: self.topic_asia, Region.NE: self.topic_ne}[region]

    def batch_records(self, channel: Channel) -> int:
        """Return how many waiting frames of a channel make a batch."""
        return self.batch_ticker if channel is Channel.TICKER else self.batch_orderbook

    @property
    def window_length(self) -> Microseconds:
        """The window length in µs."""
        return self.window // timedelta(microseconds=1)


@cache
def load() -> Settings:
    """Return the settings of this process: the environment, then `.env` in COIN_HOME, then the defaults.

    Raises `SettingsError`, one line, for an unknown name or a wrong value.
    Secrets are never part of it.
    """
    environment = {name.upper(): value for name, value in os.environ.items() if name.upper().startswith(PREFIX)}
    for name in sorted(environment):
        _refuse_unknown(name, "")
    home = Path(environment.get(f"{PREFIX}HOME") or _root())
    file = home / ".env"
    try:
        is_wrong, has_file = home.exists() and not home.is_dir(), file.exists()
    except OSError as error:
        raise SettingsError(f"{PREFIX}HOME={home}: it cannot be looked at: {error.strerror}") from error
    if is_wrong:
        raise SettingsError(f"{PREFIX}HOME={home}: it is no folder")
    if has_file:
        _refuse_wrong_lines(file, home)
    try:
        settings = Settings(_env_file=file, _env_file_encoding="utf-8")
    except ValidationError as error:
        line = _line(error)
        raise SettingsError("".join(c if c.isprintable() else repr(c)[1:-1] for c in line)) from None
    return settings


def _refuse_unknown(name: str, place: str) -> None:
    if name.removeprefix(PREFIX).lower() not in Settings.model_fields:
        raise SettingsError(f"{name}{place}: there is no such setting; `coin settings` lists them")


def _refuse_wrong_lines(file: Path, home: Path) -> None:
    """Look at `.env` as at the environment. Raises `SettingsError`, which shows no line: it may hold a secret."""
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: it cannot be read as UTF-8 text: {error}") from error
    for binding in parse_stream(StringIO(text)):
        place = f" in {file}, line {binding.original.line}"
        if binding.error or (binding.key is not None and binding.value is None):
            raise SettingsError(f"{place.removeprefix(' in ')}: it is no setting; write NAME=VALUE")
        name = (binding.key or "").upper()
        if name.startswith(PREFIX):
            _refuse_unknown(name, place)
        if name == f"{PREFIX}HOME" and Path(binding.value or "").resolve() != home.resolve():
            raise SettingsError(f"{name}{place}: the file is looked for there; set it in the environment")


def _line(error: ValidationError) -> str:
    """Say in one line what is wrong, without secrets."""
    first = error.errors()[0]
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return message  # of settings that do not go together
    name = str(first["loc"][0])
    value = first["input"]
    is_shown = name not in SECRETS and "@" not in str(value) and "password" not in message
    shown = f"={str(value)[:_SHOWN]}" if is_shown else ""
    return f"{PREFIX}{name.upper()}{shown}: {message}; it is {Settings.model_fields[name].description}"


def _web_address(value: str, example: str) -> None:
    """Raise `ValueError`, which does not show the value, if it is no address of a web server."""
    wrong = ValueError(f"it is no address; write {example}")
    try:
        parts = urlsplit(value)
        is_right = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        raise wrong from None
    if not is_right or parts.path not in ("", "/") or parts.query or parts.fragment or re.search(r"\s", value):
        raise wrong


SECRETS = frozenset(name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation))
"""The settings that are never shown."""
