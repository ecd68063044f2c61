"""`coin dead-letters` lists, shows and decodes again, as a user sees it."""

import json
from contextlib import closing

import pytest

from coin_platform.broker import connect
from coin_platform.clock import wall
from coin_platform.errors import DecodeError
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import Channel, Event
from coin_platform.preprocess.partition import Partition, commit
from coin_platform.topic_names import dead_letter_topic, processed_topic
from tests.kit.platform import Platform, recorded


def work(platform: Platform, exchange: str, channel: Channel = Channel.TICKER) -> None:
    """Let a worker process the log of a channel, and end."""
    lane = Partition(platform.source(exchange, channel), platform.broker, platform.settings)
    place = platform.source(exchange, channel)
    lane.work(platform.broker.end_offset(place.topic, place.partition))
    platform.broker.flush()
    lane.settle()
    commit([lane], platform.broker)


@pytest.fixture
def letters(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Platform:
    """Give a platform whose older code could decode no frame of Upbit, and all but one of OKX."""
    platform.time = wall()  # or the journal would trim what is older than a day
    with monkeypatch.context() as older:
        older.setattr(EXCHANGES["upbit"], "decode", lambda frame: (_ for _ in ()).throw(DecodeError("upbit: old code")))
        platform.log("upbit", Channel.TICKER, [*recorded("upbit", "ticker")[:2], b"{half"])
        work(platform, "upbit")
    platform.log("okx", Channel.TICKER, [b"\xff", recorded("okx", "ticker")[1]])
    work(platform, "okx")
    platform.broker.close()  # the worker has ended
    return platform


def cells(output: str) -> list[list[str]]:
    """Return the rows of a table."""
    return [[cell.strip() for cell in line.strip("│ ").split("│")] for line in output.splitlines() if "│" in line]


def test_dead_letters_are_counted_by_reason(letters: Platform) -> None:
    result = letters.coin("dead-letters", "list")
    assert result.exit_code == 0, result.output
    okx, upbit = cells(result.output)
    assert okx[:2] == ["okx", "ticker"] and okx[2].startswith("DecodeError: okx: ") and okx[3] == "1"
    assert upbit[:5] == ["upbit", "ticker", "DecodeError: upbit: old code", "3", "koreaSocketDataIn-ticker[0] 2"]
    assert cells(letters.coin("dead-letters", "list", "--exchange", "okx").output) == [okx]


def test_D19_a_reason_is_shown_in_the_terminal_without_markup_and_control_characters(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: object) -> list[Event]:
        raise DecodeError("[/x]![a](http://e)[bold]\x1b[31mred\u202e")

    platform.time = wall()
    with monkeypatch.context() as older:
        older.setattr(EXCHANGES["upbit"], "decode", fails)
        platform.log("upbit", Channel.TICKER, recorded("upbit", "ticker")[:1])
        work(platform, "upbit")
    platform.broker.close()
    monkeypatch.setenv("COLUMNS", "200")
    result = platform.coin("dead-letters", "list")
    assert result.exit_code == 0, result.output
    assert "DecodeError: [/x]![a](http://e)[bold]\\x1b[31mred\\u202e" in result.output
    assert "\x1b" not in result.output and "\u202e" not in result.output


def test_dead_letters_are_printed_with_their_payload(letters: Platform) -> None:
    result = letters.coin("dead-letters", "show", "--limit", "2")
    assert result.exit_code == 0, result.output
    upbit, okx = map(json.loads, result.stdout.splitlines())
    assert (upbit["topic"], upbit["partition"], upbit["offset"], upbit["error"], upbit["attempts"]) == (
        *("koreaSocketDataIn-ticker", 0, 2, "DecodeError", 1),
    )
    assert (upbit["text"], upbit["payload"], upbit["header"]) == ("{half", "e2hhbGY=", letters_header(letters, 2))
    assert "old code" in upbit["traceback"] and upbit["code"] and upbit["time"] <= okx["time"]
    assert (okx["exchange"], okx["text"]) == ("okx", "\\xff")


def letters_header(platform: Platform, offset: int) -> str:
    place = platform.source("upbit", Channel.TICKER)
    [record] = platform.broker.read(place.topic, place.partition, offset, offset + 1)
    return record.header


def test_S7_letters_that_pass_after_a_redrive_by_command_are_processed_once(letters: Platform) -> None:
    first = letters.coin("dead-letters", "redrive")
    assert first.exit_code == 0, first.output
    assert cells(first.output) == [["upbit", "ticker", "2", "1"], ["okx", "ticker", "0", "1"]]
    source = letters.source("upbit", Channel.TICKER)
    out = processed_topic(source.exchange.region, source.channel)
    stored = [json.loads(record.value) for record in letters.broker.read(out, 0, 0, 100)]
    assert [(record["offset"], record["redriven"]) for record in stored] == [(0, True), (1, True)]
    assert [row[:1] + row[3:4] for row in cells(letters.coin("dead-letters", "list").output)] == [
        *(["okx", "1"], ["upbit", "1"]),
    ]
    everything = cells(letters.coin("dead-letters", "list", "--all").output)
    assert [row[:1] + row[3:4] for row in everything] == [["okx", "2"], ["upbit", "1"], ["upbit", "3"]]
    again = letters.coin("dead-letters", "redrive", "--exchange", "upbit")
    assert cells(again.output) == [["upbit", "ticker", "0", "1"]]
    assert letters.broker.end_offset(out, 0) == 2


def test_D25_foreign_records_among_dead_letters_are_named_counted_and_skipped(letters: Platform) -> None:
    place = letters.source("upbit", Channel.TICKER)
    topic, wanted = dead_letter_topic(place.topic), cells(letters.coin("dead-letters", "list").output)
    with closing(connect(letters.settings)) as broker:
        for value in (b"?", b"[]", b'{"offset":1}', b"\xff"):
            broker.append(topic, place.partition, "foreign", value)
    remark = f"{topic}[0]: offset 3: not a dead letter; records skipped: 4"
    for command in ("list", "show"):
        result = letters.coin("dead-letters", command)
        assert result.exit_code == 0, result.output
        assert remark in result.stderr
        assert command == "show" or cells(result.stdout) == wanted
    result = letters.coin("dead-letters", "redrive")
    assert result.exit_code == 0, result.output
    assert ["upbit", "ticker", "2", "5"] in cells(result.stdout)


def test_a_log_without_dead_letters_is_said_to_have_none(platform: Platform) -> None:
    assert platform.coin("dead-letters", "list").output == "no dead letters\n"
    assert platform.coin("dead-letters", "show").output == ""
    assert platform.coin("dead-letters", "redrive").output == "no dead letters to try again\n"


def test_an_unknown_exchange_is_refused(platform: Platform) -> None:
    refused = platform.coin("dead-letters", "list", "--exchange", "nobody")
    assert refused.exit_code != 0 and "nobody: there is no such" in str(refused.exception)
