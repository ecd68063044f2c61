"""Objects in S3, each replaced whole by a conditional write, also when the answer to a write is lost."""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
)
from botocore.parsers import ResponseParserError

from coin_platform.errors import Conflict, LakeError, SettingsError
from coin_platform.lake.store import Stored, compare, digest
from coin_platform.retries import repeated
from coin_platform.settings import PREFIX, Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
from coin_platform.lake.s3_access import access, scan_options
from coin_platform.lake.s3_errors import UnknownOutcome, outcome_of, remedy

logger = logging.getLogger(__name__)
T = TypeVar("T")
ATTEMPTS = 6  # of one request, before the lake counts as unreachable
FIRST_DELAY_SECONDS = 0.2  # doubled by each attempt, so that all of them take about 6 s
_RACERS = 8  # writers of one key at once in the probe


class S3Store:
    """Keeps objects in a bucket. Two writers are safe on every S3 that honours `If-Match` and `If-None-Match`.

    A probe before the first write finds out whether it does. A store that fails the probe gets plain writes, which are
    correct as long as one process writes. `single_writer` is the outcome of the probe where it is known already.
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
        """Whether the store ignores conditions. Only one process may write then."""
        with self._probing:
            if self._single_writer is None:
                self._single_writer = not self._honours_conditions()
                if self._single_writer:
                    logger.warning("%s ignores conditional writes: only one process may write this lake", self.uri(""))
        return self._single_writer

    def get(self, key: str, last: int | None = None) -> Stored | None:
        """Return an object, or only its `last` bytes."""
        range_header: dict[str, Any] = {} if last is None else {"Range": f"bytes=-{last}"}

        def read() -> Stored | None:
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key, **range_header)
            except ClientError as error:
                if error.response["Error"]["Code"] == "NoSuchKey":
                    return None
                raise
            size = int(answer.get("ContentRange", f"/{answer['ContentLength']}").rpartition("/")[2])
            return Stored(answer["Body"].read(), answer["ETag"], size, answer["Metadata"].get("sha256", ""))

        return self._persist(read)

    def put(self, key: str, data: bytes, if_match: str | None) -> str:
        """Store an object if the stored version is still `if_match`."""
        if self.single_writer:
            compare(self.uri(key), self.get(key, 1), if_match)
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

    def date(self) -> str:
        """Return what the server says of the time, as in the header Date."""
        answer = self._persist(partial(self._client.head_bucket, Bucket=self._bucket))
        return answer["ResponseMetadata"]["HTTPHeaders"].get("date", "")

    def uri(self, key: str) -> str:
        """Return `s3://BUCKET/…`."""
        return f"s3://{self._bucket}/{self._prefix}{key}"

    def source(self, key: str) -> str:
        """Return the object's address. Polars opens it with `scan_options`."""
        return self.uri(key)

    def _put(self, key: str, data: bytes, if_match: str | None) -> str:
        """Write under a condition. After a lost answer a refusal may mean that our write succeeded: compare SHA-256."""
        condition: dict[str, Any] = {"IfNoneMatch": "*"} if if_match is None else {"IfMatch": if_match}
        lost_answers = 0

        def write() -> str:
            nonlocal lost_answers
            try:
                return self._write(key, data, condition)
            except UnknownOutcome:
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
            is_gone = error.response["Error"]["Code"] in ("NoSuchKey", "404") and "IfMatch" in condition
            if status == 412 or is_gone:  # for a vanished object AWS answers 404, SeaweedFS 412
                raise Conflict(f"{self.uri(key)}: another writer committed first; read it again and retry") from error
            raise outcome_of(error) from error
        except (BotoCoreError, ResponseParserError) as error:
            raise outcome_of(error) from error
        return answer["ETag"]

    def _persist(self, call: Callable[[], T]) -> T:
        """Repeat a call while the store does not answer. Raises `LakeError` for a refusal, or after `ATTEMPTS`."""

        def once() -> T:
            try:
                return call()
            except (ClientError, BotoCoreError, ResponseParserError) as error:
                reason = outcome_of(error)
                if isinstance(reason, UnknownOutcome):
                    raise reason from error
                raise self._refusal(error) from error

        def tell(error: BaseException, attempt: int) -> None:
            logger.warning("%s: %s, attempt %d of %d", self.uri(""), error, attempt, ATTEMPTS)

        try:
            return repeated(
                once,
                lambda error: isinstance(error, UnknownOutcome),
                attempts=ATTEMPTS,
                first_delay=FIRST_DELAY_SECONDS,
                sleep=self._sleep,
                tell=tell,
            )
        except UnknownOutcome as error:
            failure = error
        endpoint = self._client.meta.endpoint_url
        if failure.remedy:
            raise LakeError(
                f"{self.uri('')}: {endpoint}: {failure}, {ATTEMPTS} times; {failure.remedy}"
            ) from failure.__cause__
        raise LakeError(
            f"{self.uri('')}: {endpoint} does not answer; is it running, is {PREFIX}S3_ENDPOINT right? ({failure})"
        ) from failure.__cause__

    def _refusal(self, error: Exception) -> LakeError:
        return LakeError(f"{self.uri('')}: {' '.join(str(error).split())}; {remedy(error)}")

    def _honours_conditions(self) -> bool:
        """Try a first write, a second one, a stale one and a race, on objects of the probe."""
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
            with ThreadPoolExecutor(_RACERS) as pool:
                race = list(pool.map(lambda number: wins(names[1], b"%d" % number, None), range(_RACERS)))
            return first and not again and not stale and sum(race) == 1
        finally:
            for name in names:
                self.delete(name)


def open_s3(settings: Settings, client: "S3Client | None" = None) -> S3Store:
    """Return the store of `COIN_LAKE_URL=s3://bucket/prefix`, through this client or one of its own."""
    bucket, _, prefix = settings.lake_url.removeprefix("s3://").partition("/")
    if not bucket:
        raise SettingsError(f"{PREFIX}LAKE_URL={settings.lake_url}: it names no bucket; write s3://bucket/prefix")
    access_values = access(settings)
    try:
        client = client or boto3.client(
            "s3",
            **access_values,
            config=Config(
                retries={"total_max_attempts": 1},  # a repeat inside boto3 would hide a lost answer from us
                connect_timeout=2,
                read_timeout=20,
                request_checksum_calculation="when_required",  # other S3 servers do not all know AWS's trailers
            ),
        )
    except (BotoCoreError, ValueError) as error:
        raise SettingsError(f"{PREFIX}LAKE_URL={settings.lake_url}: {error}; check the AWS configuration") from error
    return S3Store(client, bucket, prefix, scan_options=scan_options(access_values, client.meta.region_name))
