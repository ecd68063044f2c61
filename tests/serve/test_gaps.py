"""Gaps over HTTP: those of the table, and those that the topic tells since its last window."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from coin_platform.errors import BrokerUnreachable
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import SECOND, Channel, Gap, Microseconds, Pair, Window
from coin_platform.tables import schema
from coin_platform.tables.gap_record import pack_gap
from coin_platform.topic_names import GAPS
from tests.kit.serving import HOUR, Served

START = int(datetime(2026, 11, 2, 3, tzinfo=UTC).timestamp()) * SECOND
BTC = Pair("BTC", "KRW")
ASKED = {"from": "2026-11-02T03:00:00Z", "to": "2026-11-02T09:00:00Z", "exchange": "upbit"}


@pytest.fixture
def served(tmp_path: Path) -> Served:
    return Served(tmp_path)


def tell(
    served: Served, start: Microseconds, stop: Microseconds | None, exchange: str = "upbit", reason: str = ""
) -> None:
    """Append a gap to the topic, as a collector does."""
    gap = Gap(
        exchange=exchange, channel=Channel.TICKER, pair=BTC, start=start, stop=stop, cause="disconnect", reason=reason
    )
    served.broker.append(GAPS, EXCHANGES[exchange].gap_partition, "", pack_gap(gap))


def store(served: Served, start: Microseconds, *gaps: tuple[Microseconds, Microseconds | None]) -> None:
    """Commit a window of table `gap` with these gaps."""
    rows = [("ticker", str(BTC), *gap, "silence", "", None, start, "t", 0, number) for number, gap in enumerate(gaps)]
    table = pl.DataFrame(rows, schema=schema.GAP, orient="row")
    served.lake.commit("gap", "upbit", Window(start, start + HOUR), table, {})


def found(served: Served, **more: object) -> list[tuple[float, float | None, str]]:
    """Return the seconds from `START` to the start and the stop of each gap, and its cause."""
    body = served.ask("GET", "/api/gaps", params=ASKED | more).json()
    assert body["unread"] == {} and body["total"] >= len(body["gaps"])

    def seconds(text: str | None) -> float | None:
        return None if text is None else datetime.fromisoformat(text).timestamp() - START / SECOND

    return [(seconds(gap["from"]) or 0.0, seconds(gap["to"]), gap["cause"]) for gap in body["gaps"]]


def test_a_gap_of_a_stored_window_comes_from_the_table_and_a_newer_one_from_the_topic(served: Served) -> None:
    store(served, START, (START + 10 * SECOND, START + 20 * SECOND), (START + 30 * SECOND, None))
    tell(served, START + 11 * SECOND, START + 20 * SECOND)  # the table has it, with the exact start
    tell(served, START + 30 * SECOND, START + HOUR + SECOND)  # lasted at the end of the window
    tell(served, START + HOUR + 5 * SECOND, None)
    tell(served, START + HOUR + 5 * SECOND, START + HOUR + 6 * SECOND)  # told again
    tell(served, START + 100 * HOUR, None)
    tell(served, START + HOUR, None, "bithumb")
    assert found(served) == [
        (10.0, 20.0, "silence"),
        (30.0, 3601.0, "disconnect"),
        (3605.0, 3606.0, "disconnect"),
    ]


def test_gaps_have_pages(served: Served) -> None:
    for number in range(30):
        tell(served, START + number * SECOND, START + number * SECOND + 1)
    assert found(served, offset=28, limit=500)[0][0] == 28.0
    assert len(found(served, limit=7)) == 7
    assert served.ask("GET", "/api/gaps", params=ASKED | {"limit": 501}).status_code == 422


def test_text_of_an_exchange_stays_text(served: Served) -> None:
    tell(served, START, None, reason='<script>alert(1)</script>\n"')
    answer = served.ask("GET", "/api/gaps", params=ASKED)
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["gaps"][0]["reason"] == '<script>alert(1)</script>\n"'


def test_records_that_are_no_gaps_are_left_out(served: Served) -> None:
    for value in (b"", b"{}", b"\xff", b'{"exchange":"upbit"}'):
        served.broker.append(GAPS, EXCHANGES["upbit"].gap_partition, "", value)
    assert found(served) == []


def test_what_cannot_be_read_is_named(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    store(served, START, (START + 10 * SECOND, START + 20 * SECOND))

    def fail(*_: object) -> int:
        raise BrokerUnreachable("kafka does not answer")

    monkeypatch.setattr(served.broker, "end_offset", fail)
    body = served.ask("GET", "/api/gaps", params=ASKED).json()
    assert body["total"] == 1 and body["unread"] == {"topic MarketGaps": "kafka does not answer"}


@pytest.mark.parametrize(
    ("start", "stop"),
    [
        ("2026-11-02T03:00:00Z", "2026-11-02T03:00:00Z"),
        ("2026-11-02T03:00:00Z", "2026-12-24T03:00:00Z"),
        ("0001-01-01T00:00:00+23:59", "0001-01-02T00:00:00Z"),
        ("9999-12-31T00:00:00-23:59", "9999-12-31T23:59:59-23:59"),
        ("1", "2"),
    ],
)
def test_an_impossible_range_is_refused(served: Served, start: str, stop: str) -> None:
    answer = served.ask("GET", "/api/gaps", params={"from": start, "to": stop})
    assert answer.status_code == 422 and answer.json()["remedy"]
