"""Times as datetimes and as text: exact to the microsecond, in UTC."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coin_platform.times import datetime_of, microseconds_of, minute_text


@given(st.integers(-(1 << 50), 1 << 56))
def test_a_time_becomes_a_datetime_and_back_without_loss(time: int) -> None:
    moment = datetime_of(time)
    assert moment.tzinfo is UTC
    assert microseconds_of(moment) == time
    assert microseconds_of(moment.astimezone(timezone(timedelta(hours=9)))) == time


def test_a_text_has_the_minute_in_utc_without_a_zone() -> None:
    assert minute_text(1_795_490_459_999_999) == "2026-11-24T03:20"
    assert minute_text(-1) == "1969-12-31T23:59"


def test_a_datetime_without_a_zone_is_refused() -> None:
    with pytest.raises(TypeError):
        microseconds_of(datetime(2026, 11, 24))  # noqa: DTZ001
