"""Read and check the values of settings. A function raises `ValueError`, with the remedy, for a wrong value."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr, ValidationInfo
from pydantic_settings import NoDecode

from coin_platform.errors import UnknownPair
from coin_platform.model import Channel, Pair

HOUR = timedelta(hours=1)
LONGEST_GRACE = HOUR
OBSERVE_INTERVALS = (timedelta(seconds=30), timedelta(hours=24))  # shortest and longest
LONGEST_TOPIC_PREFIX = 100  # characters: Kafka takes 249 for the whole name of a topic
_TOPIC_PREFIX = r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*"  # what Kafka and the name of a file both take
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours"}


def empty_is_none(value: Any) -> Any:
    """Return `None` for an empty text, and everything else as it is."""
    return None if value == "" else value


def split_names(value: Any) -> Any:
    """Split a text at its commas into names in lower case, each once."""
    if not isinstance(value, str):
        return value
    return tuple(dict.fromkeys(name.strip().lower() for name in value.split(",") if name.strip()))


def split_pairs(value: Any) -> Any:
    """Split a text at its commas into pairs."""
    if not isinstance(value, str):
        return value
    try:
        return tuple(Pair.parse(text) for text in value.split(",") if text.strip())
    except UnknownPair as error:
        raise ValueError(str(error)) from error


def parse_duration(value: Any) -> Any:
    """Read a length of time: 90s, 15m, 1h."""
    if isinstance(value, str) and value[-1:] in _UNITS and value[:-1].replace(".", "", 1).isdigit():
        try:
            return timedelta(**{_UNITS[value[-1]]: float(value[:-1])})
        except OverflowError:
            raise ValueError("this is too long") from None
    return value


def check_window(value: timedelta) -> timedelta:
    """Return a window length that divides the hour into whole minutes."""
    minutes = value / timedelta(minutes=1)
    if minutes != int(minutes) or not 1 <= minutes <= 60 or 60 % minutes:
        raise ValueError("a window is 1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30 or 60 minutes")
    return value


def check_grace(value: timedelta) -> timedelta:
    """Return a wait of at most an hour."""
    if not timedelta(0) <= value <= LONGEST_GRACE:
        raise ValueError("write a time from 0s to 1h")
    return value


def check_observe_interval(value: timedelta) -> timedelta:
    """Return the time from one observation to the next."""
    if not OBSERVE_INTERVALS[0] <= value <= OBSERVE_INTERVALS[1]:
        raise ValueError("write a time from 30s to 24h")
    return value


def round_down_to_window(value: datetime, info: ValidationInfo) -> datetime:
    """Return the start, in UTC, of the window that holds a moment. Windows divide the hour."""
    aware = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    hour = aware.replace(minute=0, second=0, microsecond=0)
    window: timedelta = info.data.get("window", HOUR)  # a wrong window stops the start anyway
    return hour + (aware - hour) // window * window


def check_topic_prefix(value: str) -> str:
    """Return a prefix that Kafka and a file system both take."""
    if len(value) > LONGEST_TOPIC_PREFIX or not re.fullmatch(_TOPIC_PREFIX, value, re.ASCII):
        raise ValueError(
            f"write at most {LONGEST_TOPIC_PREFIX} letters, digits, `-` and `_`, with single dots between them"
        )
    return value


def check_without_credentials(value: str | None) -> str | None:
    """Return an address that holds no user and password: addresses are printed, and credentials in them do nothing."""
    if value is None or value.startswith(("file:", "local:")):
        return value
    is_lake = value.startswith("s3:")
    place = value.partition("://")[2]
    if "@" in place.partition("/")[0] or (":" in place.partition("/")[0] if is_lake else "@" in value):
        names = (
            ("S3_ACCESS_KEY", "S3_SECRET_KEY")
            if is_lake or value.startswith("http")
            else ("KAFKA_USER", "KAFKA_PASSWORD")
        )
        raise ValueError(f"an address holds no user and password; set COIN_{names[0]} and COIN_{names[1]}")
    return value


def check_endpoint(value: str | None) -> str | None:
    """Return the address of an S3 server."""
    if value is not None:
        _check_web_address(value, "http://host:8333 or https://host")
    return value


def check_proxy(value: SecretStr | None) -> SecretStr | None:
    """Return the address of a proxy. It may hold a user and a password."""
    if value is not None:
        _check_web_address(value.get_secret_value(), "http://host:3128 or http://user:password@host:3128")
    return value


def check_serve_url(value: str | None) -> str | None:
    """Return the address of a control API. It holds no key: addresses are printed."""
    if value is not None:
        if "@" in value:
            raise ValueError("an address holds no user and password; set COIN_SERVE_KEY")
        _check_web_address(value, "http://127.0.0.1:8600 or https://host")
    return value


def check_key(value: SecretStr | None) -> SecretStr | None:
    """Return a key as a header takes it."""
    if value is not None:
        text = value.get_secret_value()
        if not text.isascii() or not text.isprintable() or " " in text:
            raise ValueError("a key has letters, digits and signs of ASCII only, and no blanks")
    return value


def check_redis(value: SecretStr | None) -> SecretStr | None:
    """Return the address of a Redis server. It may hold a user and a password."""
    if value is not None:
        text = value.get_secret_value()
        wrong = ValueError("this is not an address; write redis://host:6379/0 or rediss://user:password@host:6379/0")
        try:
            parts = urlsplit(text)
            is_right = parts.scheme in ("redis", "rediss") and parts.hostname and (parts.port is None or parts.port > 0)
        except ValueError:
            raise wrong from None
        rest = f"{parts.path}?{parts.query}#{parts.fragment}"
        if not is_right or not re.fullmatch(r"(/\d{0,3})?\?(ssl_ca_certs=[^&]+)?#", rest) or re.search(r"\s", text):
            raise wrong
    return value


def check_zookeeper(value: str | None) -> str | None:
    """Return the addresses of the nodes of a ZooKeeper, separated by commas."""
    if value is not None:
        nodes = [node.strip() for node in value.split(",")]
        for node in nodes:
            match = re.fullmatch(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(\d{1,5})", node, re.ASCII)
            if match is None or not 0 < int(match[2]) < 65536:
                raise ValueError("this is no list of addresses; write host:2181, or host:2181,host2:2181,host3:2181")
        return ",".join(nodes)
    return value


def _check_web_address(value: str, example: str) -> None:
    """Raise `ValueError`, which does not show the value, if a text is not the address of a web server."""
    wrong = ValueError(f"this is not an address; write {example}")
    try:
        parts = urlsplit(value)
        is_right = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        raise wrong from None
    if not is_right or parts.path not in ("", "/") or parts.query or parts.fragment or re.search(r"\s", value):
        raise wrong


Names: TypeAlias = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_names)]
Channels: TypeAlias = Annotated[tuple[Channel, ...], NoDecode, BeforeValidator(split_names)]
Pairs: TypeAlias = Annotated[tuple[Pair, ...], NoDecode, BeforeValidator(split_pairs)]
WindowLength: TypeAlias = Annotated[timedelta, BeforeValidator(parse_duration), AfterValidator(check_window)]
Grace: TypeAlias = Annotated[timedelta, BeforeValidator(parse_duration), AfterValidator(check_grace)]
ObserveInterval: TypeAlias = Annotated[
    timedelta, BeforeValidator(parse_duration), AfterValidator(check_observe_interval)
]
WindowStart: TypeAlias = Annotated[datetime, AfterValidator(round_down_to_window)]
TopicPrefix: TypeAlias = Annotated[str, AfterValidator(check_topic_prefix)]
Address: TypeAlias = Annotated[str, AfterValidator(check_without_credentials)]
Endpoint: TypeAlias = Annotated[str | None, AfterValidator(check_without_credentials), AfterValidator(check_endpoint)]
ProxyAddress: TypeAlias = Annotated[SecretStr | None, AfterValidator(check_proxy)]
ServeAddress: TypeAlias = Annotated[str | None, AfterValidator(check_serve_url)]
ServeKey: TypeAlias = Annotated[SecretStr | None, AfterValidator(check_key)]
RedisAddress: TypeAlias = Annotated[SecretStr | None, AfterValidator(check_redis)]
ZooKeeperAddress: TypeAlias = Annotated[str | None, AfterValidator(check_zookeeper)]
