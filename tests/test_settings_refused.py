"""Wrong settings are refused, each with one line. No line shows a secret."""

import os
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from coin_platform import cli
from coin_platform.commands import output
from coin_platform.commands import settings as settings_command
from coin_platform.errors import SettingsError
from coin_platform.model import Pair
from coin_platform.orchestration.definitions import definitions
from coin_platform.selection import exchanges_of
from coin_platform.settings import SECRETS, Settings, load

SECRET = "xK9-hidden"


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test a home of its own, and another current folder."""
    (tmp_path / "home").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("COIN_HOME", str(tmp_path / "home"))


def refusal(monkeypatch: pytest.MonkeyPatch, **values: str) -> str:
    """Return the line with which these settings are refused."""
    for name, value in values.items():
        monkeypatch.setenv(f"COIN_{name}", value)
    load.cache_clear()
    try:
        with pytest.raises(SettingsError) as error:
            exchanges_of(None, load())
    finally:
        load.cache_clear()
    text = str(error.value)
    assert "\n" not in text and text.strip()
    return text


def accepted(monkeypatch: pytest.MonkeyPatch, **values: str) -> Settings:
    """Return the settings that these values make."""
    for name, value in values.items():
        monkeypatch.setenv(f"COIN_{name}", value)
    load.cache_clear()
    try:
        return load()
    finally:
        load.cache_clear()


def shown_by_the_command(monkeypatch: pytest.MonkeyPatch) -> str:
    """Return what `coin settings` prints."""
    printed = StringIO()
    monkeypatch.setattr(output, "console", lambda: Console(width=400, file=printed))
    load.cache_clear()
    settings_command.settings()
    load.cache_clear()
    return printed.getvalue()


def test_D24_the_env_file_is_read_from_home_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere" / ".env").write_text("COIN_WINDOW=5m\n")
    assert accepted(monkeypatch).window_length == 3_600_000_000
    (tmp_path / "home" / ".env").write_text("# ours\nexport COIN_WINDOW='10m'\nAWS_PROFILE=x\nCOIN_GRACE=2s # short\n")
    settings = accepted(monkeypatch)
    assert (settings.window_length, settings.grace.total_seconds()) == (600_000_000, 2)
    assert accepted(monkeypatch, WINDOW="15m").window_length == 900_000_000


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("COIN_WINDOOW=5m", "COIN_WINDOOW"),
        ("coin_windoow=5m", "COIN_WINDOOW"),
        ("export COIN_S3_SECRET=xK9-hidden", "COIN_S3_SECRET"),
        ("COIN_WINDOW 5m xK9-hidden", "line 2"),
        ("COIN_S3_SECRET_KEY xK9-hidden", "line 2"),
        ("COIN_S3_SECRET_KEY", "line 2"),
        ("COIN_WINDOW='5m", "line 2"),
        ("COIN_HOME=/somewhere", "set it in the environment"),
        ("COIN_WINDOW=7m", "COIN_WINDOW=7m in "),
        ("COIN_GRACE=2s", "COIN_GRACE in "),
        ("coin_grace=1s", "line 1 sets it, too"),
        ("COIN_ZOOKEEPER=zk:2181/path", "COIN_ZOOKEEPER=zk:2181/path in "),
        ("COIN_ZOOKEEPER=zk1,zk2:2181", "write host:2181, or host:2181,host2:2181,host3:2181"),
        ("COIN_ZOOKEEPER=zk:70000", "this is no list of addresses"),
        ("COIN_ZOOKEEPER_SESSION=0", "COIN_ZOOKEEPER_SESSION=0 in "),
        ("COIN_FAILSAFE=double", "COIN_FAILSAFE=double in "),
        ("COIN_FAILSAFE=single", "this machine always collects without COIN_ZOOKEEPER"),
        ("COIN_SERVE_PORT=many", "COIN_SERVE_PORT=many in "),
        ("COIN_EXCHANGES=upbit,upbitt", "upbitt"),
        ("COIN_KAFKA_SECURITY_PROTOCOL=SASL_SSL\nCOIN_KAFKA_USER=coin", "COIN_KAFKA_PASSWORD"),
    ],
)
def test_D24_A26_a_wrong_line_of_the_env_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, says: str
) -> None:
    (tmp_path / "home" / ".env").write_text(f"COIN_GRACE=1s\n{line}\n")
    text = refusal(monkeypatch)
    assert says in text and SECRET not in text


@pytest.mark.parametrize("line", ["COIN_WINDOW=7m", "COIN_WINDOOW=5m", "COIN_GRACE=2s", "COIN_LOG_LEVEL=xK9-hidden x"])
def test_D24_A26_the_file_of_a_wrong_value_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    file = tmp_path / "home" / ".env"
    file.write_text(f"COIN_GRACE=1s\n{line}\n")
    assert str(file) in refusal(monkeypatch)


def test_D24_A26_an_exchange_that_is_named_twice_is_collected_once(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = accepted(monkeypatch, EXCHANGES="upbit,okx, UPBIT")
    assert settings.exchanges == ("upbit", "okx")
    assert [exchange.name for exchange in exchanges_of(None, settings)] == ["upbit", "okx"]


def test_D24_A26_a_process_with_a_poisoned_file_ends_at_once_with_one_line(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / ".env").write_text("COIN_WINDOW=15m\nCOIN_S3_SECRET_KEY=xK9-hidden\n")
    before = sorted(home.rglob("*"))
    for command in (["collect", "--region", "ne"], ["preprocess", "--region", "ne"], ["serve"], ["up"]):
        done = subprocess.run(
            [sys.executable, "-m", "coin_platform", *command],
            env={**os.environ, "COIN_HOME": str(home)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 2, done.stderr
        assert "COIN_S3_ACCESS_KEY and COIN_S3_SECRET_KEY belong together" in done.stderr
        assert len(done.stderr.splitlines()) == 1 and SECRET not in done.stderr + done.stdout
    assert sorted(home.rglob("*")) == before, "nothing was begun"


@pytest.mark.parametrize("make", [lambda path: path.write_bytes(b"COIN_GRACE=\xff"), lambda path: path.mkdir()])
def test_D24_an_env_file_that_cannot_be_read_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: object
) -> None:
    assert callable(make)
    make(tmp_path / "home" / ".env")
    assert str(tmp_path / "home" / ".env") in refusal(monkeypatch)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("JOURNAL_HOURS", value) for value in ("inf", "nan", "-1", "0", "0.5", "1.01", "1e9")),
        *(("JOURNAL_BYTES", value) for value in ("0", "1000", "-5", str(1 << 60), "1.5", "many")),
        *(("SPOOL_BYTES", value) for value in ("0", "1000", str(1 << 60))),
        *(("GRACE", value) for value in ("-1s", "2h", "999999999h", "9e99", "P9999Y", "nan", "inf", "1e400s")),
        *(("OBSERVE_INTERVAL", value) for value in ("0s", "29s", "25h", "-5m", "nan", "often")),
        *(("WINDOW", value) for value in ("0s", "90s", "2h", "999999999999h", "-1h", "")),
        *(("TOPIC_NE", value) for value in ("../x", "", "a/b", "a b", ".", "..", "a..b", "a.", "ä", "a\n", "x" * 101)),
        *(("KAFKA_REPLICATION", value) for value in ("0", "-1", "1000")),
        *(("PING_EVERY", value) for value in ("0", "-1", "inf", "nan", "1e9")),
        *(("BATCH_INTERVAL", value) for value in ("-1", "inf", "nan", "1e9")),
        *(("LANDING_MIN_INTERVAL", value) for value in ("-1", "inf", "nan", "1e9")),
        *(("BATCH_TICKER", value) for value in ("0", "-1", "999999999999")),
        *(("BATCH_ORDERBOOK", value) for value in ("0", "1e99")),
        *(("SIMULATOR_PORT", value) for value in ("0", "-1", "65536")),
        *(("S3_ENDPOINT", value) for value in ("nonsense", "ftp://host", "https://", "http://host:port", "http://h/x")),
        *(("PROXY", value) for value in ("host:3128", "socks5://host:1080", "http://", "http://h:99999", "http://h/x")),
        *(("REDIS_URL", value) for value in ("host:6379", "http://host", "redis://", "redis://h:x", "redis://h/a?b=1")),
        *(("SERVE_URL", value) for value in ("host:8600", "ftp://host", "http://", "http://h:x", "http://h/api")),
        *(("SERVE_KEY", value) for value in ("a b", "ä" * 40, "a\n")),
        *(("KAFKA_SECURITY_PROTOCOL", value) for value in ("TLS", "")),
        *(("KAFKA_SASL_MECHANISM", value) for value in ("GSSAPI", "MD5")),
    ],
)
def test_D24_a_value_that_cannot_be_right_is_one_line_that_names_the_setting(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    assert f"COIN_{name}" in refusal(monkeypatch, **{name: value})


def test_D24_a_home_that_is_not_a_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    assert "this is not a folder" in refusal(monkeypatch, HOME=str(tmp_path / "file"))
    assert "this folder cannot be opened" in refusal(monkeypatch, HOME="/" + "x" * 5000)


@pytest.mark.parametrize(
    "prefixes",
    [
        {"TOPIC_NE": "korea"},
        {"TOPIC_NE": "Korea"},
        {"TOPIC_KOREA": "x", "TOPIC_ASIA": "x"},
        {"TOPIC_KOREA": "a.b", "TOPIC_NE": "a_b"},
    ],
)
def test_D24_two_regions_never_share_a_topic_prefix(monkeypatch: pytest.MonkeyPatch, prefixes: dict[str, str]) -> None:
    text = refusal(monkeypatch, **prefixes)
    assert "COIN_TOPIC_" in text and "each region needs its own" in text


def test_D24_regions_may_swap_their_prefixes(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = accepted(monkeypatch, TOPIC_NE="asia", TOPIC_ASIA="ne", TOPIC_KOREA="prod.k_1-x")
    assert (settings.topic_ne, settings.topic_asia) == ("asia", "ne")


@pytest.mark.parametrize(
    "choice",
    [
        {"EXCHANGES": "kraken", "PAIRS": "BTC-KRW"},
        {"PAIRS": "BTC-EUR"},
        {"CHANNELS": ""},
        {"CHANNELS": " , "},
    ],
)
def test_D24_a_choice_that_leaves_nothing_to_collect_is_refused(
    monkeypatch: pytest.MonkeyPatch, choice: dict[str, str]
) -> None:
    assert "nothing to collect" in refusal(monkeypatch, **choice)


@pytest.mark.parametrize("command", ["collect", "preprocess"])
def test_D24_a_region_with_nothing_to_collect_is_refused(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setenv("COIN_PAIRS", "BTC-KRW")
    load.cache_clear()
    try:
        done = CliRunner().invoke(cli.app, [command, "--region", "ne"])
    finally:
        load.cache_clear()
    assert isinstance(done.exception, SettingsError) and "leave nothing to collect" in str(done.exception)


def test_D24_Dagster_has_no_jobs_for_a_region_with_nothing_to_collect() -> None:
    defs = definitions(Settings(pairs=(Pair("BTC", "KRW"),)))
    assert {job.name for job in defs.jobs or ()} >= {"collect_korea", "preprocess_korea", "tables_korea"}
    assert not {job.name for job in defs.jobs or ()} & {"collect_ne", "preprocess_ne", "tables_asia"}


def test_D24_an_empty_value_means_unset_where_the_description_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    names = (
        *("S3_ENDPOINT", "S3_REGION", "S3_ACCESS_KEY", "S3_SECRET_KEY", "PING_EVERY", "PROXY", "CA", "REDIS_URL"),
        *("SERVE_URL", "SERVE_KEY"),
    )
    settings = accepted(monkeypatch, **dict.fromkeys(names, ""))
    assert {getattr(settings, name.lower()) for name in names} == {None}


SASL = {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_USER": "coin", "KAFKA_PASSWORD": SECRET}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"BROKER_URL": f"kafka://user:{SECRET}@host:9092"}, "COIN_KAFKA_USER"),
        ({"BROKER_URL": f"kafka://host:9092,user:{SECRET}/x@host:9092"}, "COIN_KAFKA_USER"),
        ({"BROKER_URL": f"kafka+ssl://user:{SECRET}@host:9092"}, "COIN_KAFKA_USER"),
        ({"S3_ENDPOINT": f"https://key:{SECRET}@host"}, "COIN_S3_ACCESS_KEY"),
        ({"LAKE_URL": f"s3://key:{SECRET}@bucket/x"}, "COIN_S3_ACCESS_KEY"),
        ({"LAKE_URL": f"s3://key:{SECRET}/y@bucket/x"}, "COIN_S3_ACCESS_KEY"),
        ({"REDIS_URL": f"http://user:{SECRET}@host:6379"}, "COIN_REDIS_URL"),
        ({"SERVE_URL": f"https://user:{SECRET}@host"}, "COIN_SERVE_KEY"),
        ({"SERVE_KEY": f"{SECRET} {SECRET}"}, "COIN_SERVE_KEY"),
        ({"PROXY": f"socks5://user:{SECRET}@host:1080"}, "COIN_PROXY"),
        ({**SASL, "KAFKA_SECURITY_PROTOCOL": "SSL"}, "COIN_KAFKA_USER"),
        ({"KAFKA_PASSWORD": SECRET}, "COIN_KAFKA_PASSWORD"),
        ({**SASL, "KAFKA_USER": ""}, "COIN_KAFKA_USER"),
        ({**SASL, "KAFKA_PASSWORD": ""}, "COIN_KAFKA_PASSWORD"),
        ({"KAFKA_CA": "ca.pem"}, "COIN_KAFKA_CA"),
        ({**SASL, "KAFKA_KEY": "key.pem"}, "COIN_KAFKA_CERTIFICATE"),
        ({"S3_SECRET_KEY": SECRET}, "COIN_S3_ACCESS_KEY"),
        ({"S3_SESSION_TOKEN": SECRET}, "COIN_S3_ACCESS_KEY"),
        ({"REDIS_FEED": "1"}, "COIN_REDIS_URL"),
    ],
)
def test_D21_credentials_without_effect_are_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, str], says: str
) -> None:
    text = refusal(monkeypatch, **values)
    assert says in text and SECRET not in text


def test_D21_no_secret_is_ever_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        **SASL,
        **dict.fromkeys(("S3_ACCESS_KEY", "S3_SECRET_KEY", "S3_SESSION_TOKEN"), SECRET),
        "PROXY": f"http://user:{SECRET}@host:3128",
        "SERVE_KEYS": f"admin:{SECRET}",
        "SERVE_KEY": SECRET,
        "REDIS_URL": f"redis://user:{SECRET}@host:6379",
    }
    settings = accepted(monkeypatch, **values)
    assert settings.kafka_password is not None and settings.kafka_password.get_secret_value() == SECRET
    assert {f"COIN_{name.upper()}" for name in SECRETS} <= {f"COIN_{name}" for name in values}
    printed = repr(settings) + str(settings) + settings.model_dump_json() + str(settings.model_dump())
    assert SECRET not in printed + shown_by_the_command(monkeypatch)
    with pytest.raises(ValueError, match="broker_url") as error:
        Settings(broker_url=f"kafka://user:{SECRET}@host:9092")
    assert SECRET not in str(error.value) + repr(error.value)


def test_D24_every_setting_has_a_description_that_the_command_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(field.description for field in Settings.model_fields.values())
    monkeypatch.setenv("COIN_JOURNAL_DIR", "data/[bold]journal[/x]")
    monkeypatch.setenv("COIN_WINDOW", "15m")
    monkeypatch.setenv("COIN_GRACE", "2.5s")
    shown = shown_by_the_command(monkeypatch)
    assert "data/[bold]journal[/x]" in shown
    assert all(str(field.description) in shown for field in Settings.model_fields.values())
    assert "Folder of the local journal. Default: data/journal." in shown
    assert " 15m " in shown and " Default: 1h." in shown and " 2.5s " in shown and " Default: 1m." in shown
    assert "ticker,orderbook,trade,candle" in shown and shown.count("Default:") == 4, "the home was changed, too"


def test_D24_every_setting_of_access_is_in_the_document() -> None:
    text = (Path(__file__).parent.parent / "docs" / "access.md").read_text()
    parts = ("kafka_security", "kafka_sasl", "kafka_user", "kafka_pass", "kafka_ca", "kafka_cert", "kafka_key", "s3_")
    names = [name for name in Settings.model_fields if name.startswith(parts) or name in ("proxy", "ca", "ui_hosts")]
    assert len(names) == 16
    assert [name for name in names if f"`COIN_{name.upper()}`" not in text] == []
    written = set(re.findall(r"COIN_[A-Z0-9_]+", text))
    assert {name.removeprefix("COIN_").lower() for name in written} <= set(Settings.model_fields)
