"""Every setting with its default. This is the only reader of the environment.

A setting is an environment variable COIN_…, or a line of `.env` in the folder COIN_HOME.
"""

import os
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from coin_platform.env_file import PREFIX as PREFIX
from coin_platform.env_file import refuse_unknown_name, refuse_wrong_lines
from coin_platform.errors import SettingsError
from coin_platform.model import Channel, Microseconds, Region
from coin_platform.setting_values import (
    Address,
    Channels,
    Endpoint,
    Grace,
    Names,
    ObserveInterval,
    Pairs,
    ProxyAddress,
    RedisAddress,
    ServeAddress,
    ServeKey,
    TopicPrefix,
    WindowLength,
    WindowStart,
    ZooKeeperAddress,
    empty_is_none,
)

_MOST_BYTES = 1 << 50  # a petabyte: more than any disk of one machine
_SHOWN_CHARACTERS = 200  # of a wrong value


class Mode(StrEnum):
    """Which exchanges to connect to."""

    LIVE = "live"
    SIMULATED = "simulated"


class LogFormat(StrEnum):
    """How lines of the log are written."""

    TEXT = "text"
    JSON = "json"


class Security(StrEnum):
    """The security protocol of a Kafka listener, by Kafka's name."""

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
    """The way in which a user logs in to Kafka, by Kafka's name."""

    PLAIN = "PLAIN"
    SCRAM_SHA_256 = "SCRAM-SHA-256"
    SCRAM_SHA_512 = "SCRAM-SHA-512"


class Failsafe(StrEnum):
    """What a collector does while ZooKeeper cannot be reached."""

    SINGLE = "single"  # it collects: no other machine may be set up to collect


def _root() -> Path:
    """Return the folder of `workspace.yaml`: the checkout, or the current folder."""
    checkout = Path(__file__).resolve().parent.parent
    return checkout if (checkout / "workspace.yaml").exists() else Path.cwd()


_EMPTY_IS_NONE = (
    *("kafka_user", "kafka_password", "kafka_ca", "kafka_certificate", "kafka_key", "proxy", "ca", "ping_every"),
    *("serve_keys", "serve_keys_file", "serve_url", "serve_key", "redis_url"),
    *("zookeeper", "failsafe"),
    *("deployment", "s3_endpoint", "s3_region", "s3_access_key", "s3_secret_key", "s3_session_token", "s3_ca"),
)


class Settings(BaseSettings):
    """All settings. A wrong value stops the start with one line that names the variable and the remedy."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="ignore", frozen=True, allow_inf_nan=False, hide_input_in_errors=True
    )

    # what is collected
    home: Path = Field(
        default_factory=_root,
        description="Folder of all data. Relative paths start here.",
    )
    exchanges_mode: Mode = Field(
        Mode.LIVE,
        description="`live`: the real exchanges. `simulated`: the servers of `coin simulate` on this machine.",
    )
    exchanges: Names = Field((), description="Collect only these exchanges, separated by commas. Empty: all.")
    pairs: Pairs = Field(
        (),
        description="Pairs, separated by commas. Each exchange collects the pairs that it trades in its own quote "
        "currency. Empty: the default pairs.",
    )
    channels: Channels = Field(tuple(Channel), description="Collect these channels, separated by commas.")

    # where records are stored
    broker_url: Address = Field(
        "local:", description="`local:`, the journal under COIN_HOME, or `kafka://host:9092,host2:9092`."
    )
    kafka_security_protocol: Security = Field(
        Security.PLAINTEXT,
        description="PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL. The Kafka listener must have the same protocol.",
    )
    kafka_sasl_mechanism: Mechanism = Field(
        Mechanism.SCRAM_SHA_512,
        description="PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512. Used if a user logs in to Kafka (SASL).",
    )
    kafka_user: str | None = Field(None, description="User that logs in to Kafka (SASL).")
    kafka_password: SecretStr | None = Field(None, description="Password of that user.")
    kafka_ca: Path | None = Field(
        None, description="PEM file of the CA certificates that Kafka may have (SSL). Empty: those of this machine."
    )
    kafka_certificate: Path | None = Field(
        None, description="PEM file of our own certificate, if Kafka asks for one (SSL)."
    )
    kafka_key: Path | None = Field(
        None, description="PEM file of the key of our own certificate. Empty: the key is in the certificate's file."
    )
    lake_url: Address = Field("file:data/lake", description="`file:FOLDER` or `s3://bucket/prefix`.")
    deployment: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="Name of this deployment. All its machines have the same name. Empty: a name kept in COIN_HOME.",
    )
    s3_endpoint: Endpoint = Field(None, description="Address of an S3 server that is not AWS.")
    s3_region: str | None = Field(
        None, description="Region of S3. Empty: us-east-1 if an endpoint is set, else the usual sources of AWS."
    )
    s3_access_key: SecretStr | None = Field(None, description="Access key of S3. Empty: the usual sources of AWS.")
    s3_secret_key: SecretStr | None = Field(None, description="Secret key of S3.")
    s3_session_token: SecretStr | None = Field(None, description="Session token of S3, for keys that expire.")
    s3_ca: Path | None = Field(
        None, description="PEM file of the CA certificates that the S3 server may have. Empty: those of this machine."
    )

    # what the processes of one deployment agree on
    redis_url: RedisAddress = Field(
        None,
        description="Redis for the active pairs and the status of a deployment on several machines: "
        "redis://[user:password@]host:6379/0, or rediss:// with TLS. Empty: files under COIN_HOME, for one machine.",
    )
    zookeeper: ZooKeeperAddress = Field(
        None,
        description="ZooKeeper that decides which of several machines collects a region: host:2181,host2:2181. "
        "Empty: this machine always collects.",
    )
    zookeeper_session: float = Field(
        6.0,
        ge=1,
        le=60,
        description="Seconds without a word after which ZooKeeper lets another machine collect. It must grant them: "
        "2 to 20 times its tickTime.",
    )
    failsafe: Failsafe | None = Field(
        None,
        description="`single`: go on collecting while ZooKeeper cannot be reached. Only if no other machine collects. "
        "Empty: stop, because another machine may have begun.",
    )

    redis_feed: bool = Field(
        False,
        description="1: workers also write the processed records and gaps to streams of COIN_REDIS_URL, which the "
        "live feed reads while Kafka is away.",
    )
    redis_feed_records: int = Field(
        5_000,
        ge=100,
        le=1_000_000,
        description="Newest records of each channel of each exchange that those streams keep, about. One takes about "
        "0.7 kB of Redis's memory.",
    )

    # how exchanges are reached
    proxy: ProxyAddress = Field(
        None, description="Proxy to the exchanges: http://[user:password@]host:port. Empty: none."
    )
    ca: Path | None = Field(
        None,
        description="PEM file of CA certificates for exchanges, the proxy and COIN_SERVE_URL. They are trusted beside "
        "those of this machine.",
    )
    ping_every: float | None = Field(
        None,
        ge=0.05,
        le=600,
        description="Seconds between pings, for exchanges that want pings. Empty: as each exchange wants, Kraken 5.",
    )

    # windows
    window: WindowLength = Field(
        timedelta(hours=1), description="Length of a window: 1m to 60m, a whole part of the hour, for example 15m."
    )
    grace: Grace = Field(
        timedelta(seconds=60),
        description="Wait after the end of a window before the window closes, if no newer record comes: 0s to 1h.",
    )
    start: WindowStart = Field(
        datetime(2026, 11, 1, tzinfo=UTC),
        description="Start of the first window, UTC. It is rounded down to the start of a window.",
    )

    # topics and the local journal
    topic_korea: TopicPrefix = Field("korea", description="Prefix of the raw topics of the region Korea.")
    topic_asia: TopicPrefix = Field("asia", description="Prefix of the raw topics of the region Asia.")
    topic_ne: TopicPrefix = Field("ne", description="Prefix of the raw topics of the region NE.")
    journal_dir: Path = Field(Path("data/journal"), description="Folder of the local journal.")
    journal_hours: float = Field(
        24, gt=0, le=10 * 366 * 24, description="Hours that the local journal keeps. Older records are deleted."
    )
    journal_bytes: int = Field(
        20 << 30,
        gt=1 << 20,
        le=_MOST_BYTES,
        description="Bytes that the local journal keeps. The oldest records are deleted first.",
    )
    kafka_replication: int = Field(
        1, ge=1, le=32, description="Copies that Kafka keeps of each new topic. Write 3 in production."
    )
    spool_bytes: int = Field(
        2 << 30,
        gt=1 << 20,
        le=_MOST_BYTES,
        description="Bytes of records that may wait on disk while Kafka is away. Beyond them records are lost, which "
        "is a gap `spool_overflow`.",
    )

    # rows near real time
    batch_ticker: int = Field(
        20, ge=1, le=100_000, description="Waiting ticker frames of an exchange that the worker takes as a batch."
    )
    batch_orderbook: int = Field(
        50, ge=1, le=100_000, description="Waiting frames of another channel that the worker takes as a batch."
    )
    batch_interval: float = Field(
        0.25, ge=0, le=60, description="Seconds after which the worker takes fewer frames as a batch."
    )
    landing_min_interval: float = Field(
        10.0,
        ge=0,
        le=24 * 3600,
        description="Least seconds between two landing objects of a partition. Fewer seconds make more small objects.",
    )

    # what this machine serves
    observe_interval: ObserveInterval = Field(
        timedelta(minutes=5),
        description="Time from one observation of the exchanges and topics in Dagster to the next: 30s to 24h.",
    )
    ui_hosts: Names = Field(
        ("localhost", "127.0.0.1"),
        description="Host names under which `coin up` serves Dagster's UI, separated by commas. Others are refused.",
    )
    serve_host: str = Field(
        "127.0.0.1",
        min_length=1,
        max_length=255,
        description="Address at which `coin serve` listens. Another one than this machine's own needs COIN_SERVE_KEYS.",
    )
    serve_port: int = Field(8600, ge=1, le=65535, description="Port of the control API.")
    feed_port: int = Field(8601, ge=1, le=65535, description="Port of the live feed, at the same address.")
    feed_clients: int = Field(4_000, ge=1, le=100_000, description="Most connections to one server of the live feed.")
    feed_clients_per_address: int = Field(
        200, ge=1, le=100_000, description="Most connections to it from one address: more are needed behind a proxy."
    )
    serve_hosts: Names = Field(
        ("localhost", "127.0.0.1"),
        description="Host names under which `coin serve` is reached, separated by commas. Others are refused.",
    )
    serve_keys: SecretStr | None = Field(
        None,
        description="Keys of the control API as SCOPE:KEY, separated by commas. A scope is read, pairs or admin; a key "
        "has 32 characters or more. Empty: a key that the server makes in data/serve.key, for this machine only.",
    )
    serve_keys_file: Path | None = Field(None, description="File of such keys, one a line.")
    serve_url: ServeAddress = Field(
        None,
        description="Control API that `coin pairs` and `coin status` ask, such as http://127.0.0.1:8600. Empty: they "
        "read and write the store of this deployment themselves.",
    )
    serve_key: ServeKey = Field(
        None,
        description="Key that they send to it. Empty: the key in data/serve.key, if the API is on this machine.",
    )
    metrics_port: int = Field(
        0,
        ge=0,
        le=65520,
        description="Port of a worker's metrics on 127.0.0.1. Workers of further regions take the next ports, and "
        "collectors the ports from 10 above it. 0: none.",
    )
    simulator_port: int = Field(8700, ge=1, le=65535, description="Port of the simulated exchanges on 127.0.0.1.")
    log_format: LogFormat = Field(
        LogFormat.TEXT, description="`text`: log lines for people. `json`: one JSON object a line."
    )
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="DEBUG, INFO, WARNING or ERROR.")

    @field_validator(*_EMPTY_IS_NONE, mode="before")
    @classmethod
    def _none(cls, value: Any) -> Any:
        return empty_is_none(value)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for text in self._contradictions():
            raise ValueError(text)
        return self

    def _contradictions(self) -> Iterator[str]:
        """Yield a line for each contradiction between settings. The line begins with the name of a setting."""
        needed = (self.window + self.grace) / timedelta(hours=1)
        if self.journal_hours < needed:
            yield (
                f"COIN_JOURNAL_HOURS={self.journal_hours:g}: COIN_WINDOW and COIN_GRACE need {needed:.4g}. "
                "A window is made of the records that the journal still has"
            )
        taken: dict[str, Region] = {}
        for region in Region:
            prefix = self.topic_prefix(region)
            other = taken.setdefault(prefix.casefold().replace(".", "_"), region)  # Kafka compares topics like this
            if other is not region:
                yield f"COIN_TOPIC_{region.upper()}={prefix}: {other} has this prefix; each region needs its own"
        if self.redis_feed and self.redis_url is None:
            yield "COIN_REDIS_FEED=1: set COIN_REDIS_URL too, the Redis that gets the records"
        security = self.kafka_security_protocol
        for name in ("kafka_user", "kafka_password"):
            is_set = bool(getattr(self, name))
            if security.has_sasl and not is_set:
                yield f"{PREFIX}{name.upper()} is not set: COIN_KAFKA_SECURITY_PROTOCOL={security} needs it"
            if is_set and not security.has_sasl:
                yield (
                    f"{PREFIX}{name.upper()} is set, but COIN_KAFKA_SECURITY_PROTOCOL={security} sends no password; "
                    "write SASL_SSL"
                )
        for name in ("kafka_ca", "kafka_certificate", "kafka_key"):
            if getattr(self, name) and not security.has_tls:
                yield f"{PREFIX}{name.upper()}: COIN_KAFKA_SECURITY_PROTOCOL={security} has no TLS; write SASL_SSL"
        if self.kafka_key and not self.kafka_certificate:
            yield f"COIN_KAFKA_KEY={self.kafka_key}: set COIN_KAFKA_CERTIFICATE too, the certificate of this key"
        if bool(self.s3_access_key) != bool(self.s3_secret_key):
            yield "COIN_S3_ACCESS_KEY and COIN_S3_SECRET_KEY belong together; set both or none"
        if self.failsafe and not self.zookeeper:
            yield f"COIN_FAILSAFE={self.failsafe}: this machine always collects without COIN_ZOOKEEPER; set both"
        if self.s3_session_token and not self.s3_access_key:
            yield "COIN_S3_SESSION_TOKEN is set: set its COIN_S3_ACCESS_KEY and COIN_S3_SECRET_KEY too"

    def path(self, value: Path) -> Path:
        """Return a path of the settings as an absolute path. Relative paths start from COIN_HOME."""
        return (self.home / value).resolve()

    def topic_prefix(self, region: Region) -> str:
        """Return the prefix of the raw topics of a region."""
        return {Region.KOREA: self.topic_korea, Region.ASIA: self.topic_asia, Region.NE: self.topic_ne}[region]

    def batch_records(self, channel: Channel) -> int:
        """Return the number of waiting frames of a channel that make a batch."""
        return self.batch_ticker if channel is Channel.TICKER else self.batch_orderbook

    @property
    def window_length(self) -> Microseconds:
        """The window length in µs."""
        return self.window // timedelta(microseconds=1)


@cache
def load() -> Settings:
    """Return the settings of this process: the environment, then `.env` in COIN_HOME, then the defaults.

    Raises `SettingsError`, one line without secrets, for an unknown name or a wrong value.
    """
    environment = {name.upper(): value for name, value in os.environ.items() if name.upper().startswith(PREFIX)}
    known_names = {PREFIX + name.upper() for name in Settings.model_fields}
    for name in sorted(environment):
        refuse_unknown_name(name, "", known_names)
    home = Path(environment.get(f"{PREFIX}HOME") or _root())
    file = home / ".env"
    try:
        is_wrong, has_file = home.exists() and not home.is_dir(), file.exists()
    except OSError as error:
        raise SettingsError(f"{PREFIX}HOME={home}: this folder cannot be opened: {error.strerror}") from error
    if is_wrong:
        raise SettingsError(f"{PREFIX}HOME={home}: this is not a folder")
    if has_file:
        refuse_wrong_lines(file, known_names)
    try:
        return Settings(_env_file=file, _env_file_encoding="utf-8")
    except ValidationError as error:
        line = _line(error, environment, file)
        raise SettingsError("".join(c if c.isprintable() else repr(c)[1:-1] for c in line)) from None


def _line(error: ValidationError, environment: Collection[str], file: Path) -> str:
    """Return one line that says what is wrong and where, without secrets."""
    first = error.errors()[0]
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return message  # of settings that contradict each other
    name = str(first["loc"][0])
    value = first["input"]
    is_shown = name not in SECRETS and "@" not in str(value) and "password" not in message
    value_text = f"={str(value)[:_SHOWN_CHARACTERS]}" if is_shown else ""
    place = "" if f"{PREFIX}{name.upper()}" in environment else f" in {file}"
    return f"{PREFIX}{name.upper()}{value_text}{place}: {message}. Meaning: {Settings.model_fields[name].description}"


SECRETS = frozenset(name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation))
"""The settings whose values are never shown."""
