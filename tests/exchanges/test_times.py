"""Times that exchanges write as text, a leap second among them."""

import re

import msgspec
import pytest

from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.parsing import from_rfc3339
from tests.kit.recordings import LATE, files, frames

_TIME = re.compile(rb"([12]\d{3}-\d\d-\d\d[T ])\d\d:\d\d:\d\d")


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"),
        ("2016-12-31T23:59:60.250000Z", "2017-01-01T00:00:00.250000Z"),
        ("2016-12-31T23:59:60.123456789Z", "2017-01-01T00:00:00.123456Z"),
        ("2016-12-31T23:59:60", "2017-01-01T00:00:00Z"),
        ("20161231T235960", "2017-01-01T00:00:00Z"),
        ("2016-12-31 23:59:60+00:00", "2017-01-01T00:00:00Z"),
        ("2017-01-01T08:59:60+09:00", "2017-01-01T00:00:00Z"),
    ],
)
def test_D28_a_leap_second_is_the_second_after_it(text: str, after: str) -> None:
    assert from_rfc3339(text) == from_rfc3339(after) is not None


@pytest.mark.parametrize("text", ["2016-12-31T23:58:60Z", "2016-12-31T23:59:61Z", "2016-12-31T23:60:00Z", "23:59:60"])
def test_D28_what_is_no_leap_second_is_no_time(text: str) -> None:
    with pytest.raises(ValueError):
        from_rfc3339(text)


@pytest.mark.parametrize(("exchange", "stem"), [(name, path.stem) for name, path in files()])
def test_D28_no_frame_is_a_dead_letter_for_a_leap_second(exchange: str, stem: str) -> None:
    adapter = EXCHANGES[exchange]
    for frame in frames(exchange, stem)[:50]:
        changed = msgspec.structs.replace(frame, payload=_TIME.sub(rb"\g<1>23:59:60", frame.payload))
        if changed.payload != frame.payload:
            late = msgspec.structs.replace(changed, received_time=LATE)
            assert [type(event) for event in adapter.decode(late)] == [type(event) for event in adapter.decode(frame)]
