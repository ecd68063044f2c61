"""The lake's objects in S3: conditional writes, and what to believe when the answer got lost."""

import logging
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    SSLError,
)
from botocore.parsers import ResponseParserError

from coin_platform import tls
from coin_platform.errors import Conflict, LakeError, SettingsError
from coin_platform.lake.store import Stored, digest
from coin_platform.settings import PREFIX, Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

logger = logging.getLogger(__name__)

T = TypeVar("T")
ATTEMPTS = 6
FIRST_DELAY = 0.2  # seconds; doubled by each attempt, so that all of them take about 6 s
RACERS = 8
_PASSING = {  # codes of refusals that may pass, whatever their status
    *("RequestTimeout", "RequestTimeoutException", "SlowDown", "Throttling", "ThrottlingException", "InternalError"),
    *("ServiceUnavailable", "IncompleteBody", "BadDigest", "OperationAborted", "TooManyRequests"),
}
_REMEDIES = {  # by the code of a refusal
    "RequestTimeTooSkewed": "this machine's clock or the server's is wrong: set it, best by NTP",
    "InvalidAccessKeyId": f"check {PREFIX}S3_ACCESS_KEY",
    "SignatureDoesNotMatch": f"check {PREFIX}S3_SECRET_KEY",
    "AccessDenied": f"check {PREFIX}S3_ACCESS_KEY, and that it has the rights that docs/access.md lists",
    "ExpiredToken": f"{PREFIX}S3_SESSION_TOKEN has expired: set a new one, with its keys",
    "InvalidToken": f"check {PREFIX}S3_SESSION_TOKEN",
    "NoSuchBucket": f"check {PREFIX}LAKE_URL, or make the bucket",
    "AuthorizationHeaderMalformed": f"check {PREFIX}S3_REGION",
    "PermanentRedirect": f"check {PREFIX}S3_REGION",
    "IllegalLocationConstraintException": f"check {PREFIX}S3_REGION",
}


class _Unknown(Exception):
    """No answer, or one that does not say whether the request was carried out; with what may help."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.remedy = remedy


class S3Store:
    """Objects of a bucket. Works with every S3 that honours `If-Match` and `If-None-Match`; a probe finds out.

    A store that fails the probe gets plain writes: correct as long as nobody else writes. `single_writer` says the
    probe's outcome where it is known; `None` finds out before the first write.
    """

    def __init__(
        self,
        client: "S3Client",
        bucket: str,
        prefix: str = "",
        *,
        scan_options: Mapping[str, str] | None = None,
        single_writer: bool | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.scan_options: Mapping[str, str] = scan_options or {}
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._sleep = sleep
        self._single_writer = single_writer
        self._probing = threading.Lock()

    @property
    def single_writer(self) -> bool:
        """Whether the store ignores conditions, so that only one process may write."""
        with self._probing:
            if self._single_writer is None:
                self._single_writer = not self._honours_conditions()
                if self._single_writer:
                    logger.warning("%s ignores conditional writes: only one process may write this lake", self.uri(""))
        return self._single_writer

    def get(self, key: str, last: int | None = None) -> Stored | None:
        """Return an object, or only its `last` bytes."""
        wanted: dict[str, Any] = {} if last is None else {"Range": f"bytes=-{last}"}

        def read() -> Stored | None:
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key, **wanted)
            except ClientError as error:
                if error.response["Error"]["Code"] == "NoSuchKey":
                    return None
                raise
            size = int(answer.get("ContentRange", f"/{answer['ContentLength']}").rpartition("/")[2])
            return Stored(answer["Body"].read(), answer["ETag"], size, answer["Metadata"].get("sha256", ""))

        return self._persist(read)

    def put(self, key: str, data: bytes, if_match: str | None) -> str:
        """Store an object if it is still the version `if_match`."""
        if self.single_writer:
            self._compare(key, if_match)
            return self._persist(lambda: self._write(key, data, {}))
        return self._put(key, data, if_match)

    def delete(self, key: str) -> None:
        """Remove an object, if there is one."""
        self._persist(partial(self._client.delete_object, Bucket=self._bucket, Key=self._prefix + key))

    def list(self, prefix: str, after: str = "") -> Iterator[str]:
        """Yield keys in order, a thousand a request."""
        after = self._prefix + after if after else ""
        while True:
            page = self._persist(
                partial(
                    self._client.list_objects_v2, Bucket=self._bucket, Prefix=self._prefix + prefix, StartAfter=after
                )
            )
            for item in page.get("Contents", []):
                after = item["Key"]
                yield after.removeprefix(self._prefix)
            if not page["IsTruncated"]:
                return

    def uri(self, key: str) -> str:
        """Return `s3://BUCKET/…`."""
        return f"s3://{self._bucket}/{self._prefix}{key}"

    def source(self, key: str) -> str:
        """Return the object's address, which polars opens with `scan_options`."""
        return self.uri(key)

    def _put(self, key: str, data: bytes, if_match: str | None) -> str:
        """Write under a condition. After a lost answer, a refusal may be our own success: the sha256 tells."""
        condition: dict[str, Any] = {"IfNoneMatch": "*"} if if_match is None else {"IfMatch": if_match}
        lost_answers = 0

        def write() -> str:
            nonlocal lost_answers
            try:
                return self._write(key, data, condition)
            except _Unknown:
                lost_answers += 1
                raise

        try:
            return self._persist(write)
        except Conflict:
            current = self.get(key, 1) if lost_answers else None
            if current is None or current.sha256 != digest(data):
                raise
            return current.etag

    def _write(self, key: str, data: bytes, condition: dict[str, Any]) -> str:
        try:
            answer = self._client.put_object(
                Bucket=self._bucket, Key=self._prefix + key, Body=data, Metadata={"sha256": digest(data)}, **condition
            )
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            gone = error.response["Error"]["Code"] in ("NoSuchKey", "404") and "IfMatch" in condition
            if status == 412 or gone:  # AWS says 404 when the object to replace has vanished, SeaweedFS says 412
                raise Conflict(f"{self.uri(key)}: another writer committed first; read it again and retry") from error
            raise _unknown_or(error) from error
        except (BotoCoreError, ResponseParserError) as error:
            raise _unknown_or(error) from error
        return answer["ETag"]

    def _compare(self, key: str, if_match: str | None) -> None:
        current = self.get(key, 1)
        if (current.etag if current else None) != if_match:
            raise Conflict(f"{self.uri(key)}: another writer committed first; read it again and retry")

    def _persist(self, call: Callable[[], T]) -> T:
        """Repeat a call while the store does not answer. Raises `LakeError` when it is refused or patience ends."""
        for attempt in range(ATTEMPTS):
            try:
                return call()
            except (ClientError, BotoCoreError, ResponseParserError, _Unknown) as error:
                reason = error if isinstance(error, _Unknown) else _unknown_or(error)
                if not isinstance(reason, _Unknown):
                    raise self._refusal(error) from error
                logger.warning("%s: %s, attempt %d of %d", self.uri(""), reason, attempt + 1, ATTEMPTS)
                failure = reason
                if attempt + 1 < ATTEMPTS:
                    self._sleep(FIRST_DELAY * 2**attempt * random.uniform(0.5, 1))
        endpoint = self._client.meta.endpoint_url
        if failure.remedy:
            raise LakeError(f"{self.uri('')}: {endpoint}: {failure}, {ATTEMPTS} times; {failure.remedy}")
        raise LakeError(
            f"{self.uri('')}: {endpoint} does not answer; is it running, is {PREFIX}S3_ENDPOINT right? ({failure})"
        )

    def _refusal(self, error: Exception) -> LakeError:
        return LakeError(f"{self.uri('')}: {' '.join(str(error).split())}; {_remedy(error)}")

    def _honours_conditions(self) -> bool:
        """Try what two generations and a race would do, on objects of our own."""
        names = [f"_probe/{uuid.uuid4()}", f"_probe/{uuid.uuid4()}"]

        def wins(key: str, data: bytes, if_match: str | None) -> bool:
            try:
                self._put(key, data, if_match)
            except Conflict:
                return False
            return True

        try:
            first, again = wins(names[0], b"1", None), wins(names[0], b"2", None)
            stale = wins(names[0], b"3", f'"{"0" * 32}"')
            with ThreadPoolExecutor(RACERS) as pool:
                race = list(pool.map(lambda number: wins(names[1], b"%d" % number, None), range(RACERS)))
            return first and not again and not stale and sum(race) == 1
        finally:
            for name in names:
                self.delete(name)


def _unknown_or(error: ClientError | BotoCoreError | ResponseParserError) -> Exception:
    """Return `_Unknown` for what may pass, else the error itself."""
    if isinstance(error, ClientError):
        status, code = error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]
        if code.startswith("RequestTimeout"):
            return _Unknown(f"answer {status} {code}", "the request came too slowly: look at the network to the server")
        if code in _PASSING:
            return _Unknown(f"answer {status} {code}", "look at the server: it has too much to do, or is broken")
        if status >= 500 or status in (408, 409, 429):
            return _Unknown(f"answer {status}")  # of whatever stands in front of the server
        return error
    if isinstance(error, ResponseParserError):
        return _Unknown("an answer that is none of S3", f"check {PREFIX}S3_ENDPOINT")
    if isinstance(error, SSLError):
        is_final = "CERTIFICATE_VERIFY_FAILED" in str(error) or "WRONG_VERSION_NUMBER" in str(error)
        return error if is_final else _Unknown(f"SSLError: {error}", f"check {PREFIX}S3_ENDPOINT and {PREFIX}S3_CA")
    if isinstance(error, NoCredentialsError | PartialCredentialsError | ParamValidationError):
        return error
    return _Unknown(f"{type(error).__name__}: {error}")


def _remedy(error: Exception) -> str:
    """Say what helps against a refusal."""
    if isinstance(error, ClientError) and error.response["Error"]["Code"] in _REMEDIES:
        return _REMEDIES[error.response["Error"]["Code"]]
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return f"check {PREFIX}S3_CA, and that the certificate has the host of {PREFIX}S3_ENDPOINT"
    if isinstance(error, SSLError):
        return f"there is no TLS: write http:// in {PREFIX}S3_ENDPOINT, or another port"
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return f"set {PREFIX}S3_ACCESS_KEY and {PREFIX}S3_SECRET_KEY"
    if isinstance(error, ParamValidationError):
        return f"check {PREFIX}LAKE_URL"
    return f"check {PREFIX}LAKE_URL, {PREFIX}S3_ENDPOINT and the rights of {PREFIX}S3_ACCESS_KEY"


class Access(TypedDict):
    """What boto3 and dagster-aws need to know of an S3 server; None: the usual AWS sources."""

    endpoint_url: str | None
    region_name: str | None
    aws_access_key_id: str | None
    aws_secret_access_key: str | None
    aws_session_token: str | None
    verify: str | None  # the path of a file of CA certificates


def access(settings: Settings) -> Access:
    """Return how the settings reach S3. Raises `SettingsError` for a wrong COIN_S3_CA."""
    secrets = (settings.s3_access_key, settings.s3_secret_key, settings.s3_session_token)
    access_key, secret_key, token = (secret.get_secret_value() if secret else None for secret in secrets)
    ca = settings.path(settings.s3_ca) if settings.s3_ca else None
    if ca is not None:
        tls.check(ca, f"{PREFIX}S3_CA")
    return {
        "endpoint_url": settings.s3_endpoint,
        "region_name": settings.s3_region or ("us-east-1" if settings.s3_endpoint else None),
        "aws_access_key_id": access_key,
        "aws_secret_access_key": secret_key,
        "aws_session_token": token,
        "verify": str(ca) if ca else None,
    }


def scan_options(found: Access, region: str) -> dict[str, str]:
    """Return the options with which polars reads the same server."""
    endpoint = found["endpoint_url"]
    options = {
        "aws_endpoint_url": endpoint,
        "aws_allow_http": "true" if (endpoint or "").startswith("http:") else None,
        "aws_region": region,
        "aws_access_key_id": found["aws_access_key_id"],
        "aws_secret_access_key": found["aws_secret_access_key"],
        "aws_session_token": found["aws_session_token"],
    }
    if found["verify"]:
        # object_store takes CA certificates as those of a proxy only, but then trusts them for every server: a proxy
        # is named, and no request goes there.
        address = endpoint or "https://amazonaws.com"
        options |= {"proxy_url": address, "proxy_excludes": urlsplit(address).hostname}
        options["proxy_ca_certificate"] = Path(found["verify"]).read_text()
    return {name: value for name, value in options.items() if value}


def open_s3(settings: Settings, client: "S3Client | None" = None) -> S3Store:
    """Return the store of `COIN_LAKE_URL=s3://bucket/prefix`, through this client or one of its own."""
    bucket, _, prefix = settings.lake_url.removeprefix("s3://").partition("/")
    if not bucket:
        raise SettingsError(f"{PREFIX}LAKE_URL={settings.lake_url}: it names no bucket; write s3://bucket/prefix")
    found = access(settings)
    try:
        client = client or boto3.client(
            "s3",
            **found,
            config=Config(
                retries={"total_max_attempts": 1},  # a repeat inside boto3 would hide a lost answer from us
                connect_timeout=2,
                read_timeout=20,
                request_checksum_calculation="when_required",  # other S3 servers do not all know AWS's trailers
            ),
        )
    except (BotoCoreError, ValueError) as error:
        raise SettingsError(f"{PREFIX}LAKE_URL={settings.lake_url}: {error}; check the AWS configuration") from error
    return S3Store(client, bucket, prefix, scan_options=scan_options(found, client.meta.region_name))
