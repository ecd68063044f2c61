"""A real S3 server with TLS and keys; what it refuses is named by its cause, each with its own remedy."""

import datetime
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.auth
import polars as pl
import pytest
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError
from pydantic import SecretStr

from coin_platform.errors import LakeError, SettingsError
from coin_platform.lake import open_lake
from coin_platform.lake.s3 import S3Store, open_s3
from coin_platform.lake.s3_access import access, scan_options
from coin_platform.model import SECOND, Window
from coin_platform.orchestration.resources import LakeFolder
from coin_platform.settings import Settings, load
from infra.certificates import Authority
from infra.stack import SeaweedFS
from tests.conftest import _started

HOUR = Window(0, 3600 * SECOND)
ROWS = pl.DataFrame({"pair": ["BTC-KRW"] * 2, "last": [1.0, 2.0]})


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """A real S3 server with TLS, a private authority and keys."""
    for service in _started(SeaweedFS(tmp_path_factory.mktemp("secured"), is_secured=True)):
        assert isinstance(service, SeaweedFS)
        yield service


def settings(server: SeaweedFS, **more: Any) -> Settings:
    """Return the settings that get in, unless told otherwise."""
    assert server.authority is not None
    values: dict[str, Any] = {"lake_url": "s3://lake/tls", "s3_endpoint": server.secured, "s3_ca": server.authority.ca}
    return Settings(**values | {"s3_access_key": "key", "s3_secret_key": "secret"} | more)


@pytest.mark.s3
def test_D22_the_lake_is_written_and_scanned_over_TLS_with_a_private_authority(
    secured: SeaweedFS, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert secured.authority is not None
    other = Authority(tmp_path / "other")
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(other.ca.read_text() + secured.authority.ca.read_text())
    ours = settings(secured, s3_ca=bundle)
    for name in ("lake_url", "s3_endpoint", "s3_ca"):
        monkeypatch.setenv(f"COIN_{name.upper()}", str(getattr(ours, name)))
    monkeypatch.setenv("COIN_S3_ACCESS_KEY", "key")
    monkeypatch.setenv("COIN_S3_SECRET_KEY", "secret")
    load.cache_clear()
    try:
        through_dagster = LakeFolder().open()
    finally:
        load.cache_clear()
    for lake, exchange in ((open_lake(ours), "upbit"), (through_dagster, "korbit")):
        lake.commit("ticker", exchange, HOUR, ROWS, {})
        found = lake.scan("ticker", exchanges=[exchange]).select("pair", "last").collect()
        assert found.sort("last").equals(ROWS)


@pytest.mark.s3
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"s3_access_key": "nobody"}, "check COIN_S3_ACCESS_KEY"),
        ({"s3_secret_key": "wrong-secret"}, "check COIN_S3_SECRET_KEY"),
        ({"lake_url": "s3://nowhere/x"}, "check COIN_LAKE_URL, or make the bucket"),
        ({"s3_ca": None}, "check COIN_S3_CA"),
        ({"s3_endpoint": "http://127.0.0.1:1", "s3_ca": None}, "is it running, is COIN_S3_ENDPOINT right?"),
        ({"lake_url": "s3://UPPER_case!/x"}, "check COIN_LAKE_URL"),
    ],
)
def test_D22_each_refusal_is_one_line_with_its_own_remedy(
    secured: SeaweedFS, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], says: str
) -> None:
    monkeypatch.setattr("coin_platform.lake.s3.FIRST_DELAY_SECONDS", 0.0)
    with pytest.raises(LakeError) as error:
        open_s3(settings(secured, **change)).get("x")
    text = str(error.value)
    assert says in text and "\n" not in text and "wrong-secret" not in text


@pytest.mark.s3
def test_D22_TLS_asked_of_a_port_without_it_says_so(secured: SeaweedFS) -> None:
    plain = secured.address.replace("http:", "https:")
    with pytest.raises(LakeError, match="write http:// in COIN_S3_ENDPOINT"):
        open_s3(settings(secured, s3_endpoint=plain)).get("x")


@pytest.mark.s3
def test_D22_a_clock_that_is_wrong_is_named_and_not_the_keys(
    secured: SeaweedFS, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ahead(remove_tzinfo: bool = True) -> datetime.datetime:
        moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=2)
        return moment.replace(tzinfo=None) if remove_tzinfo else moment

    store = open_s3(settings(secured))
    monkeypatch.setattr(botocore.auth, "get_current_datetime", ahead)
    with pytest.raises(LakeError, match=r"RequestTimeTooSkewed.*clock") as error:
        store.get("x")
    assert "KEY" not in str(error.value)


class Refusing:
    """A client whose every request is answered with an error."""

    def __init__(self, error: Exception) -> None:
        self.error, self.meta, self.asked = error, self, 0
        self.endpoint_url = "https://s3.test"

    def get_object(self, **_: object) -> object:
        self.asked += 1
        raise self.error


def answer(code: str, status: int) -> ClientError:
    """Return the error that boto3 makes of an answer."""
    response = {"Error": {"Code": code, "Message": "told\nby S3"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "GetObject")  # type: ignore[arg-type]  # the stubs want all of an answer


@pytest.mark.parametrize(
    ("error", "attempts", "says"),
    [
        (answer("RequestTimeout", 400), 6, "the request came too slowly"),
        (answer("RequestTimeTooSkewed", 403), 1, "clock"),
        (answer("SignatureDoesNotMatch", 403), 1, "check COIN_S3_SECRET_KEY"),
        (answer("InvalidAccessKeyId", 403), 1, "check COIN_S3_ACCESS_KEY"),
        (answer("AccessDenied", 403), 1, "rights"),
        (answer("ExpiredToken", 400), 1, "COIN_S3_SESSION_TOKEN has expired"),
        (answer("InvalidToken", 400), 1, "check COIN_S3_SESSION_TOKEN"),
        (answer("AuthorizationHeaderMalformed", 400), 1, "check COIN_S3_REGION"),
        (answer("PermanentRedirect", 301), 1, "check COIN_S3_REGION"),
        (answer("SlowDown", 503), 6, "look at the server"),
        (answer("503", 503), 6, "is it running"),
        (answer("418", 418), 1, "check COIN_LAKE_URL"),
        (ResponseParserError("Unable to parse response"), 6, "check COIN_S3_ENDPOINT"),
    ],
)
def test_D22_an_error_is_named_by_its_cause_and_repeated_only_if_it_may_pass(
    error: Exception, attempts: int, says: str
) -> None:
    client = Refusing(error)
    store = S3Store(client, "bucket", single_writer=False, sleep=lambda _: None)  # type: ignore[arg-type]
    with pytest.raises(LakeError) as caught:
        store.get("x")
    assert says in str(caught.value) and "\n" not in str(caught.value)
    assert client.asked == attempts


@pytest.mark.parametrize("content", [None, "nonsense"])
def test_D22_a_file_of_authorities_that_is_missing_or_none_is_named(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_text(content)
    with pytest.raises(SettingsError, match=f"COIN_S3_CA={tmp_path / 'ca.pem'}"):
        open_s3(Settings(home=tmp_path, lake_url="s3://lake/x", s3_ca=Path("ca.pem")))


def test_D22_region_and_session_token_reach_boto3_and_polars(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "coin_platform")
    secret = SecretStr("hidden")
    ours = Settings(
        lake_url="s3://lake/x",
        s3_endpoint="http://s3.test:9000",
        s3_region="eu-central-1",
        s3_access_key=secret,
        s3_secret_key=secret,
        s3_session_token=secret,
    )
    store = open_s3(ours)
    client: Any = store._client
    credentials = client._request_signer._credentials.get_frozen_credentials()
    assert (store._client.meta.region_name, credentials.token) == ("eu-central-1", "hidden")
    assert store.scan_options["aws_region"] == "eu-central-1"
    assert store.scan_options["aws_session_token"] == "hidden"
    assert scan_options(access(ours), "eu-central-1") == store.scan_options
    assert "hidden" not in caplog.text


def test_D22_an_address_without_a_bucket_is_refused() -> None:
    with pytest.raises(SettingsError, match="COIN_LAKE_URL=s3://: it names no bucket"):
        open_s3(Settings(lake_url="s3://"))
