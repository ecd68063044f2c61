"""`coin capture` writes stored frames byte for byte, from the topic or from the raw tables."""

import json
import shutil
from pathlib import Path

import pytest

from coin_platform.broker import LocalBroker
from coin_platform.errors import CoinPlatformError, RetentionLoss
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import Channel, Frame, Kind, Pair
from coin_platform.records import Facts, Header
from coin_platform.simulator.recordings import read
from tests.kit.platform import FIRST, THEN, Platform, recorded

RANGE = ("--from", "2026-11-02T03:00", "--to", "2026-11-02T03:02")
STRANGE = [
    b'{"type":"ticker","code":"KRW-BTC"',  # cut off
    b"\x1f\x8b\xff\x00",  # no UTF-8
    '{"note":"비트코인\u2028\x85","a":1.10,"b":"\\ud83d"}'.encode(),
    b"",
    b"line\r\nbreak\r",
    b"\xef\xbb\xbf{}",
]


def frames(file: Path, exchange: str) -> list[Frame]:
    """Return the frames of a recording."""
    return [frame for _, frame in read(EXCHANGES[exchange], file)]


def test_every_frame_is_written_byte_for_byte(platform: Platform, tmp_path: Path) -> None:
    started = platform.time
    platform.log("upbit", Channel.TICKER, STRANGE)
    place = platform.source("upbit", Channel.TICKER)
    own = Header(Kind.CHECKPOINT, 1, "ticker-0", len(STRANGE), platform.time)
    platform.broker.append(place.topic, place.partition, own.pack(), Facts().pack())
    platform.broker.append(place.topic, place.partition, "not a header", b"x")
    platform.log("upbit", Channel.TICKER, [b"[]"], Kind.REST, first=len(STRANGE) + 1)
    made = platform.coin("capture", "--exchange", "upbit", *RANGE, "--out", tmp_path / "out")
    assert made.exit_code == 0, made.output
    file = tmp_path / "out/upbit/ticker.jsonl"
    assert f"{file}: 7 frames; 1 records without a header of this program left out" in made.output
    captured = frames(file, "upbit")
    assert [frame.payload for frame in captured] == [*STRANGE, b"[]"]
    assert [frame.number for frame in captured] == [1, 2, 3, 4, 5, 6, 7]
    assert {(frame.connection, frame.epoch, frame.channel) for frame in captured} == {("ticker-0", 1, Channel.TICKER)}
    assert [frame.received_time for frame in captured] == [started - 5 + 10_000 * at for at in range(7)]
    assert [frame.kind for frame in captured] == [*[Kind.SOCKET] * 6, Kind.REST]
    first = json.loads(file.read_text(encoding="utf-8").split("\n")[0])
    assert list(first)[:4] == ["source", "recorded", "transport", "url"]
    assert (first["source"], first["recorded"]) == ("koreaSocketDataIn-ticker[0] offset 0", "2026-11-02")
    assert first["payload"] == STRANGE[0].decode()


def test_a_rest_answer_keeps_its_pair_and_names_its_address(platform: Platform, tmp_path: Path) -> None:
    place = platform.source("upbit", Channel.ORDERBOOK)
    header = Header(Kind.REST, 1, "orderbook-0", 1, platform.time, Pair("ETH", "KRW"))
    platform.broker.append(place.topic, place.partition, header.pack(), b"[]")
    platform.broker.flush()
    assert platform.coin("capture", "--exchange", "upbit", *RANGE, "--out", tmp_path / "out").exit_code == 0
    file = tmp_path / "out/upbit/orderbook.jsonl"
    [frame] = frames(file, "upbit")
    assert (frame.kind, frame.pair, frame.payload) == (Kind.REST, Pair("ETH", "KRW"), b"[]")
    assert json.loads(file.read_text())["url"] == "https://api.upbit.com/v1/orderbook?markets=KRW-ETH"


def test_only_frames_of_the_asked_log_time_are_written(platform: Platform, tmp_path: Path) -> None:
    platform.log("upbit", Channel.TICKER, [b"1", b"2"])
    platform.time = THEN.start
    platform.log("upbit", Channel.TICKER, [b"3", b"4"], first=3)
    out = tmp_path / "out"
    platform.coin("capture", "--exchange", "upbit", "--last", "1m", "--to", "2026-11-02T03:02", "--out", out)
    assert [frame.payload for frame in frames(out / "upbit/ticker.jsonl", "upbit")] == [b"3", b"4"]


def test_trimmed_frames_come_from_the_raw_tables(platform: Platform, tmp_path: Path) -> None:
    payloads = [f"{number}".encode() for number in range(20)]
    platform.log("upbit", Channel.TICKER, payloads[:10])
    platform.time = THEN.start
    platform.log("upbit", Channel.TICKER, payloads[10:], first=11)
    assert platform.coin("lake", "backfill", *RANGE, "--exchange", "upbit", "--table", "raw_ticker").exit_code == 0
    for forgotten in (5, 10, 13, 20):
        platform.trim("upbit", Channel.TICKER, forgotten)
        out = tmp_path / f"{forgotten}"
        assert platform.coin("capture", "--exchange", "upbit", *RANGE, "--out", out).exit_code == 0
        captured = frames(out / "upbit/ticker.jsonl", "upbit")
        assert [frame.payload for frame in captured] == payloads, f"{forgotten} are forgotten"
        assert [frame.number for frame in captured] == list(range(1, 21))


def test_D1_frames_of_a_lost_log_come_from_the_raw_tables(platform: Platform, tmp_path: Path) -> None:
    sent = [b'{"number": %d}' % number for number in range(4)]
    journal = platform.settings.path(platform.settings.journal_dir)
    for window, part in ((FIRST, sent[:3]), (THEN, sent[3:])):
        platform.time = window.start
        platform.log("upbit", Channel.TICKER, part)
        if window is FIRST:
            made = platform.coin("lake", "backfill", *RANGE[:2], "--to", "2026-11-02T03:01", "--table", "raw_ticker")
            assert made.exit_code == 0, made.output
            platform.broker.close()
            shutil.rmtree(journal)
            platform.broker = LocalBroker(journal, clock=lambda: platform.time)
    out = tmp_path / "captured"
    assert platform.coin("capture", "--exchange", "upbit", *RANGE, "--out", out).exit_code == 0
    assert [frame.payload for frame in frames(out / "upbit/ticker.jsonl", "upbit")] == sent


def test_frames_that_are_lost_everywhere_are_an_error_and_leave_no_file(platform: Platform, tmp_path: Path) -> None:
    platform.log("upbit", Channel.TICKER, [b"1", b"2", b"3"])
    platform.trim("upbit", Channel.TICKER, 1)
    error = platform.coin("capture", "--exchange", "upbit", *RANGE, "--out", tmp_path / "out").exception
    assert isinstance(error, RetentionLoss)
    assert str(error).startswith(
        "koreaSocketDataIn-ticker[0]: the topic begins with offset 1, and raw_ticker of upbit has no window "
        "2026-11-02T03:00"
    )
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


def test_a_capture_can_be_decoded_and_its_books_hold(platform: Platform, tmp_path: Path) -> None:
    book = recorded("okx", "book_sequence_1")
    platform.time = FIRST.start
    platform.log("okx", Channel.ORDERBOOK, book)
    platform.log("okx", Channel.TICKER, recorded("okx", "ticker"))
    assert platform.coin("capture", "--exchange", "okx", *RANGE, "--out", tmp_path).exit_code == 0
    held = json.loads(platform.coin("book", "okx", tmp_path / "okx/orderbook.jsonl", "--json").output)
    assert (held["gaps"], held["checksum_mismatches"]) == (0, 0) and held["updates"] > 50
    original = Path(__file__).parents[1] / "data/okx/book_sequence_1.jsonl"
    assert held == json.loads(platform.coin("book", "okx", original, "--json").output)
    decoded = platform.coin("decode", "okx", tmp_path / "okx/ticker.jsonl").output
    assert decoded == platform.coin("decode", "okx", original.with_name("ticker.jsonl")).output


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--exchange", "upbit"), "write either --from 2026-11-24T03:00 or --last 1h"),
        (
            ("--exchange", "upbit", "--last", "one"),
            "--last one: this is not a length of time; write it as 90s, 15m, 1h or 2d",
        ),
        (
            ("--exchange", "upbit", "--from", "3 am"),
            "--from 3 am: this is not a time; write it as 2026-11-24T03:00, in UTC",
        ),
        (("--exchange", "Upbit", *RANGE), "--exchange Upbit: there is no such name; write one of upbit, "),
    ],
)
def test_a_wrong_argument_is_one_line(
    platform: Platform, tmp_path: Path, arguments: tuple[str, ...], line: str
) -> None:
    error = platform.coin("capture", *arguments, "--out", tmp_path).exception
    assert isinstance(error, CoinPlatformError)
    assert str(error).startswith(line)


def test_a_recording_that_exists_is_not_overwritten(platform: Platform, tmp_path: Path) -> None:
    (tmp_path / "upbit").mkdir()
    file = tmp_path / "upbit/ticker.jsonl"
    file.write_text("{}")
    error = platform.coin("capture", "--exchange", "upbit", *RANGE, "--out", tmp_path).exception
    assert f"{file} exists already" in str(error)
    assert file.read_text() == "{}"
