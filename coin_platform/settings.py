"""Every setting with its default; the only reader of the environment.

Settings are environment variables (or lines of `.env` in COIN_HOME's folder) named `COIN_…`.
"""

import os
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from coin_platform.errors import SettingsError, UnknownPair
from coin_platform.model import Channel, Microseconds, Pair, Region

PREFIX = "COIN_"


class Mode(StrEnum):
    """Which exchanges to talk to."""

    LIVE = "live"
    SIMULATED = "simulated"


def _root() -> Path:
    """Return the folder of `workspace.yaml`: the checkout, or where the command was started."""
    checkout = Path(__file__).resolve().parent.parent
    return checkout if (checkout / "workspace.yaml").exists() else Path.cwd()


class Settings(BaseSettings):
    """All settings; a wrong value stops the start with one line that names the variable and the remedy."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_file=".env", extra="ignore", frozen=True)

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
    lake_url: str = Field("file:data/lake", description="`file:FOLDER` or `s3://bucket/prefix`")
    s3_endpoint: str | None = Field(None, description="address of an S3 server that is not AWS")
    s3_access_key: SecretStr | None = Field(None, description="S3 access key; empty: the usual AWS sources")
    s3_secret_key: SecretStr | None = Field(None, description="S3 secret key")
    proxy: SecretStr | None = Field(
        None, description="proxy to the exchanges, http://[user:password@]host:port; empty: none"
    )
    ca: Path | None = Field(
        None, description="PEM file of CA certificates that exchanges (or the proxy) may have, beside the machine's"
    )
    ping_every: float | None = Field(
        None, gt=0, description="seconds between pings, where an exchange wants them; empty: as it wants, Kraken 5"
    )
    window: timedelta = Field(timedelta(hours=1), description="window length, for example 1h or 15m")
    grace: timedelta = Field(timedelta(seconds=60), description="wait after a window's end when the log is quiet")
    start: datetime = Field(datetime(2026, 11, 1, tzinfo=UTC), description="start of the first window, UTC")
    topic_korea: str = Field("korea", description="prefix of the raw topics of the region Korea")
    topic_asia: str = Field("asia", description="prefix of the raw topics of the region Asia")
    topic_ne: str = Field("ne", description="prefix of the raw topics of the region NE")
    journal_dir: Path = Field(Path("data/journal"), description="folder of the local journal")
    journal_hours: float = Field(24, gt=0, description="hours the local journal keeps")
    journal_bytes: int = Field(20 << 30, gt=1 << 20, description="bytes the local journal keeps")
    kafka_replication: int = Field(1, ge=1, description="copies that Kafka keeps of each new topic; 3 in production")
    spool_bytes: int = Field(2 << 30, gt=1 << 20, description="bytes of records that may wait on disk for Kafka")
    batch_ticker: int = Field(20, ge=1, description="waiting ticker frames of an exchange that make a batch")
    batch_orderbook: int = Field(50, ge=1, description="waiting frames of another channel that make a batch")
    batch_interval: float = Field(0.25, ge=0, description="seconds after which fewer make one")
    landing_min_interval: float = Field(10.0, ge=0, description="seconds between two landing objects of a partition")
    metrics_port: int = Field(0, ge=0, le=65535, description="port of the metrics on 127.0.0.1; 0: none")
    simulator_port: int = Field(8700, ge=1, le=65535, description="port of the simulated exchanges on 127.0.0.1")
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="DEBUG, INFO, WARNING or ERROR")

    @field_validator("exchanges", "channels", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        return (
            tuple(name.strip().lower() for name in value.split(",") if name.strip())
            if isinstance(value, str)
            else value
        )

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
            return timedelta(**{units[value[-1]]: float(value[:-1])})
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
    def _utc(cls, value: datetime) -> datetime:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)

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
    """Return the settings of this process. Raises `SettingsError`, one line a wrong variable."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    unknown = sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known)
    if unknown:
        raise SettingsError(f"{unknown[0]}: there is no such setting; `coin settings` lists them")
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = PREFIX + str(first["loc"][0]).upper()
        wanted = Settings.model_fields[str(first["loc"][0])].description
        message = first["msg"].removeprefix("Value error, ")
        raise SettingsError(f"{name}={first['input']}: {message}; it is {wanted}") from None
