"""S3 that fails now and then: every operation that we use, every way to fail, as often as we have patience.

We write objects by single PUTs alone, so there is no multipart upload that could fail halfway.
"""

import uuid
from collections.abc import Iterator

import polars as pl
import pytest

from coin_platform.errors import LakeError
from coin_platform.lake import Lake
from coin_platform.lake.s3 import ATTEMPTS, FIRST_DELAY_SECONDS, S3Store
from coin_platform.model import SECOND, Window
from infra.stack import SeaweedFS
from tests.kit.s3 import Fault, S3Proxy, s3_client

pytestmark = pytest.mark.s3

HOUR = 3600 * SECOND
WINDOW = Window(497_818 * HOUR, 497_819 * HOUR)
ROWS = pl.DataFrame({"pair": ["BTC-KRW", "ETH-KRW"], "last": [1.0, 2.5]})
FACTS = {"frames": 2}
USED = ("PUT", "GET", "LIST", "RANGE")
WAYS = {"429": 429, "500": 500, "503": 503, "409": 409, "reset": 0, "timeout": 0}


@pytest.fixture
def proxy(seaweedfs: SeaweedFS) -> Iterator[S3Proxy]:
    with S3Proxy(seaweedfs.address) as proxy:
        yield proxy


def lake(proxy: S3Proxy, prefix: str, waits: list[float], way: str = "") -> Lake:
    client = s3_client(proxy.endpoint, read_timeout=1.2 if way == "timeout" else 10.0)  # a busy disk is no fault
    return Lake(S3Store(client, "lake", prefix, single_writer=False, sleep=waits.append), HOUR)


def work(lake: Lake) -> None:
    """Write a window and look at it in every way that there is."""
    done = lake.commit("ticker", "upbit", WINDOW, ROWS, FACTS)
    assert (done.generation, done.rows) == (1, 2)
    facts = lake.provenance("ticker", "upbit", WINDOW)
    assert facts is not None
    assert (facts["frames"], facts["generation"], facts["content_hash"]) == (2, 1, done.content_hash)
    assert lake.windows("ticker", "upbit") == [WINDOW]
    read = lake.read("ticker", "upbit", WINDOW)
    assert read is not None
    assert read.equals(ROWS)


@pytest.mark.parametrize("times", [1, pytest.param(2, marks=pytest.mark.long), ATTEMPTS - 1])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", USED)
def test_S1_S3_A11_what_passes_is_waited_for_and_nothing_is_written_twice(
    proxy: S3Proxy, method: str, way: str, times: int
) -> None:
    waits: list[float] = []
    fault = Fault(method, times, status=WAYS[way], silence=2.5 * (way == "timeout"))
    proxy.faults = [fault]
    prefix = uuid.uuid4().hex
    work(lake(proxy, prefix, waits, way))
    assert fault.times == 0, "the fault was met"
    shortest = [FIRST_DELAY_SECONDS / 2 * 2**attempt for attempt in range(times)]
    assert all(low <= wait <= 2 * low for wait, low in zip(waits, shortest, strict=True))
    work(lake(proxy, prefix, waits))


@pytest.mark.parametrize("method", USED)
def test_S3_A11_patience_ends_with_one_line_and_nothing_half_is_left(proxy: S3Proxy, method: str) -> None:
    waits: list[float] = []
    proxy.faults = [Fault(method, ATTEMPTS, status=503)]
    prefix = uuid.uuid4().hex
    with pytest.raises(LakeError, match="does not answer; is it running"):
        work(lake(proxy, prefix, waits))
    assert len(waits) == ATTEMPTS - 1
    work(lake(proxy, prefix, waits))


@pytest.mark.parametrize("way", ["500", "reset", "timeout"])
def test_S4_A12_a_put_that_was_stored_although_its_answer_was_lost_counts_as_ours(proxy: S3Proxy, way: str) -> None:
    proxy.faults = [Fault("PUT", 2, status=WAYS[way], after=True, silence=2.5 * (way == "timeout"))]
    work(lake(proxy, uuid.uuid4().hex, [], way))
