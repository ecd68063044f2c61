"""A damaged lake is one line that names the file and the remedy, whoever reads it and whichever way."""

import io
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from coin_platform.errors import Damaged, LakeError
from coin_platform.lake import FolderStore, Lake
from coin_platform.lake.parquet import Broken, NotOurs, content_hash, decode, encode, facts_of
from coin_platform.model import SECOND, Window

HOUR = 3600 * SECOND
TEN = 1_792_144_800 * SECOND  # 2026-10-16 10:00 UTC
AT = datetime(2026, 10, 16, 10, tzinfo=UTC)
WINDOWS = [Window(TEN + number * HOUR, TEN + (number + 1) * HOUR) for number in range(3)]
TIME = pl.Datetime("us", "UTC")


def rows(hour: int) -> pl.DataFrame:
    """Return enough rows that their values are most of a file."""
    times = [AT + timedelta(hours=hour, milliseconds=number) for number in range(500)]
    columns = {"pair": ["BTC-KRW"] * 500, "received_time": times, "log_time": times}
    values = {"last": [random.Random(number).random() for number in range(500)]}
    place = {"topic": ["t"] * 500, "partition": [0] * 500, "offset": list(range(500)), "index": [0] * 500}
    return pl.DataFrame({**columns, **values, **place}).with_columns(pl.col("received_time", "log_time").cast(TIME))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a lake with two windows of an exchange, and a landing object of the third."""
    lake = Lake(FolderStore(tmp_path), HOUR)
    for hour, window in enumerate(WINDOWS[:2]):
        lake.commit("ticker", "upbit", window, rows(hour), {})
    lake.landing.put("ticker", "upbit", "topic-0-1000", rows(2))
    assert lake.scan("ticker").collect().height == 1500
    return tmp_path


def part(folder: Path, hour: int) -> Path:
    return folder / f"ticker/exchange=upbit/date=2026-10-16/hour={10 + hour}/part.parquet"


def landed(folder: Path) -> Path:
    return folder / "landing/ticker/exchange=upbit/topic-0-1000.parquet"


def other_type(path: Path) -> None:
    found = pl.read_parquet(path).with_columns(pl.col("last").cast(pl.String))
    path.write_bytes(encode(found, facts_of(path.read_bytes())) if "landing" not in str(path) else _plain(found))


def _plain(frame: pl.DataFrame) -> bytes:
    file = io.BytesIO()
    frame.write_parquet(file)
    return file.getvalue()


def zeros(path: Path, start: float, stop: float) -> None:
    """Overwrite a part of a file."""
    data = bytearray(path.read_bytes())
    first, last = int(start * len(data)), int(stop * len(data))
    data[first:last] = bytes(last - first)
    path.write_bytes(data)


ILLS: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_bytes(b"not a table\n" * 20),
    "one byte": lambda path: path.write_bytes(b"P"),
    "cut in half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "cut at its end": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "begun only": lambda path: path.write_bytes(b"PAR1"),
    "zeros": lambda path: zeros(path, 0, 1),
    "zeros where values are": lambda path: zeros(path, 0.2, 0.6),
    "zeros at its end": lambda path: zeros(path, 0.95, 1),
    "a footer of zeros": lambda path: zeros(path, 0.9, 0.99),
    "a column of another type": other_type,
}
PLACES: dict[str, Callable[[Path], Path]] = {
    "newest": lambda folder: part(folder, 1),
    "older": lambda folder: part(folder, 0),
    "landing": landed,
}
WAYS: dict[str, Callable[[pl.LazyFrame], object]] = {
    "collect": lambda found: found.collect(),
    "streaming": lambda found: found.collect(engine="streaming"),
    "grouped": lambda found: found.group_by("exchange").agg(pl.col("last").cast(pl.Float64).mean()).collect(),
    "filtered": lambda found: found.filter(pl.col("pair") == "BTC-KRW").select("last").collect(),
    "beside others": lambda found: pl.concat([found, found]).collect(),
}


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("ill", ILLS)
def test_D25_a_scan_of_a_damaged_lake_is_one_line_that_names_the_file(folder: Path, ill: str, where: str) -> None:
    path = PLACES[where](folder)
    ILLS[ill](path)
    for way in WAYS.values():
        with pytest.raises(LakeError) as caught:
            way(Lake(FolderStore(folder), HOUR).scan("ticker"))
        text = str(caught.value)
        assert "\n" not in text
        assert str(path) in text
        assert any(remedy in text for remedy in ("coin lake backfill", "move it away", "remove it"))


@pytest.mark.parametrize("ill", [ill for ill in ILLS if ill != "a column of another type"])
def test_D25_every_reader_of_a_damaged_object_says_so_in_one_line(folder: Path, ill: str) -> None:
    ILLS[ill](part(folder, 0))
    lake = Lake(FolderStore(folder), HOUR)
    reads: list[Callable[[], object]] = [lambda: lake.read("ticker", "upbit", WINDOWS[0])]
    if ill != "zeros where values are":  # of which the footer tells nothing
        reads += [lambda: lake.provenance("ticker", "upbit", WINDOWS[0]), lambda: list(lake.contents("ticker"))]
    for read in reads:
        with pytest.raises(LakeError) as caught:
            read()
        assert str(part(folder, 0)) in str(caught.value) and "\n" not in str(caught.value)
    assert lake.windows("ticker", "upbit") == WINDOWS[:2]


def test_D25_the_remedy_is_the_command_that_makes_the_window_again(folder: Path) -> None:
    ILLS["cut at its end"](part(folder, 0))
    with pytest.raises(Damaged) as caught:
        Lake(FolderStore(folder), HOUR).read("ticker", "upbit", WINDOWS[0])
    again = "coin lake backfill --from 2026-10-16T10:00 --to 2026-10-16T11:00 --table ticker --exchange upbit"
    assert str(caught.value).endswith(again)


def test_D25_a_damaged_landing_object_is_named_in_the_log_and_left_out(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    landed(folder).write_bytes(b"spoiled")
    lake = Lake(FolderStore(folder), HOUR)
    [key] = lake.landing.keys("ticker")["upbit"]
    assert lake.landing.times(key) is None
    assert f"{landed(folder)} is damaged" in caplog.text and "remove it" in caplog.text


@pytest.mark.parametrize(
    "name",
    [
        "ticker/exchange=upbit/date=2026-13-45/hour=10/part.parquet",
        "ticker/exchange=upbit/date=2026-10-16/hour=99/part.parquet",
        "ticker/exchange=upbit/date=----------/hour=10/part.parquet",
        "ticker/exchange=upbit/date=2026-10-16/hour=10/minute=75/part.parquet",
        "ticker/exchange=upbit/notes.txt",
        "ticker/README",
        "landing/ticker/exchange=upbit/notes.txt",
    ],
)
def test_D25_files_that_no_window_is_named_like_are_left_alone(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"mine")
    lake = Lake(FolderStore(folder), HOUR)
    assert lake.scan("ticker").collect().height == 1500
    assert lake.windows("ticker", "upbit") == WINDOWS[:2]


def test_D25_an_object_that_goes_while_it_is_scanned_is_one_line(folder: Path) -> None:
    found = Lake(FolderStore(folder), HOUR).scan("ticker")
    part(folder, 0).unlink()
    with pytest.raises(LakeError, match=r"hour=10/part.parquet was removed while it was read: scan again"):
        found.collect()


def test_D25_what_somebody_asks_wrongly_stays_their_own_error(folder: Path) -> None:
    found = Lake(FolderStore(folder), HOUR).scan("ticker")
    with pytest.raises(pl.exceptions.PolarsError) as caught:
        found.filter(pl.col("pair").str.to_datetime("%Y", strict=True) > AT).collect()
    assert not isinstance(caught.value, LakeError)
    with pytest.raises(pl.exceptions.ColumnNotFoundError):
        found.select("price").collect()


def test_D25_bytes_of_a_file_that_were_changed_anywhere_are_told_or_do_not_matter() -> None:
    frame, facts = rows(0), {"rows": 500, "topic": "t"}
    data = encode(frame, {**facts, "content_hash": content_hash(frame, facts), "generation": 1})
    chance = random.Random(7)
    assert decode(data)[0].equals(frame)
    for _ in range(300):
        changed = bytearray(data)
        changed[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        try:
            found, _ = decode(bytes(changed))
        except (Broken, NotOurs) as error:
            assert "\n" not in str(error)
            continue
        assert found.equals(frame)


def test_D25_an_object_of_a_former_version_without_a_hash_of_its_facts_is_read() -> None:
    frame, facts = rows(0), {"rows": 500, "topic": "t"}
    whole = {**facts, "content_hash": content_hash(frame, facts), "generation": 1}
    file = io.BytesIO()
    frame.write_parquet(file, metadata={"coin": json.dumps(whole)})
    assert decode(file.getvalue())[1] == whole
    for wrong in ("[]", "7", json.dumps(facts), "{"):
        file = io.BytesIO()
        frame.write_parquet(file, metadata={"coin": wrong})
        with pytest.raises(Broken, match="facts"):
            facts_of(file.getvalue())
