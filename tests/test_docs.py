"""Compare documents with the code: fields with the recordings, the README with the adapters, and every path named."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from coin_platform.cluster.numbers import NUMBERS
from coin_platform.commands.exchanges import markdown
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.parsing import from_rfc3339
from coin_platform.model import SECOND, BookUpdate, Candle, Channel, Event, Frame, Instrument, Kind, Pair, Ticker, Trade
from coin_platform.simulator.recordings import read
from coin_platform.tables import processed, schema
from coin_platform.tables.rows import Entry, Row, columns_of
from tests.kit.recordings import files

ROOT = Path(__file__).parent.parent
FIELDS = ROOT / "docs/fields.md"
NULL = "null"
SOURCES = {"socket": Kind.SOCKET, "REST": Kind.REST}
EVENTS = {
    Channel.TICKER: Ticker,
    Channel.ORDERBOOK: BookUpdate,
    Channel.TRADE: Trade,
    Channel.CANDLE: Candle,
    Channel.INSTRUMENT: Instrument,
}
OWN = 1 + len(schema.WHEN)  # pair and the three times stand before a table's own columns
ROWS = {
    channel: ["exchange_time", *list(names)[OWN : -len(schema.ORIGIN)]]
    for channel, names in (
        (Channel.TICKER, schema.TICKER_COLUMNS),
        (Channel.TRADE, schema.TRADE_COLUMNS),
        (Channel.CANDLE, schema.CANDLE_COLUMNS),
    )
} | {
    Channel.ORDERBOOK: ["exchange_time", "is_snapshot", "sequence", "bids", "asks", "checksum"],
    # All but `change`, which is no value of the exchange.
    Channel.INSTRUMENT: ["exchange_time", *list(schema.INSTRUMENT_COLUMNS)[OWN : -len(schema.ORIGIN) - 1]],
}
FACTORS = {"ms": 1000, "µs": 1, "s": SECOND, "%": 0.01, "": 1}
FIELD = re.compile(r"`([^`]+)`(?:, (ms|µs|s|%|RFC 3339))?(?:, or null.*)?")
DERIVED = re.compile(r"(\w+) ([-/]) (\w+)(?:, or null.*)?")


class Cell(NamedTuple):
    """A cell of the document: the origin of one column of an exchange's table, from one source."""

    exchange: str
    channel: Channel
    source: str
    column: str
    text: str

    @property
    def place(self) -> tuple[str, Channel, str]:
        """The exchange, channel and source of the values."""
        return self.exchange, self.channel, self.source

    def __str__(self) -> str:
        return f"{self.exchange} {self.channel} {self.source} {self.column}"


def tables(text: str) -> Iterator[tuple[str, str, list[list[str]]]]:
    """Yield the tables of a document: the headings above each, and its rows, the header first."""
    second = third = ""
    rows: list[list[str]] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        elif rows:
            yield second, third, [rows[0], *rows[2:]]
            rows = []
        if line.startswith("## "):
            second, third = line[3:], ""
        elif line.startswith("### "):
            third = line[4:]


def named(cell: str) -> list[str]:
    """Return the columns that the first cell of a row names."""
    return re.findall(r"\w+", cell)


@cache
def cells() -> list[Cell]:
    """Return the cells of docs/fields.md for every exchange, table, source and column."""
    titles = {exchange.title: name for name, exchange in EXCHANGES.items()}
    return [
        Cell(titles[second], Channel(third), source, column, text)
        for second, third, (header, *rows) in tables(FIELDS.read_text(encoding="utf-8"))
        if second in titles
        for first, *texts in rows
        for source, text in zip(header[1:], texts, strict=True)
        for column in named(first)
    ]


@cache
def recorded_events() -> dict[tuple[str, Channel, str], list[tuple[Frame, Event, dict[str, Any]]]]:
    """Return all recorded events with their frames and values, by exchange, channel and source."""
    found = defaultdict(list)
    kinds = {event: channel for channel, event in EVENTS.items()}
    sources = {kind: source for source, kind in SOURCES.items()}
    for exchange, path in files():
        for _, frame in read(EXCHANGES[exchange], path):
            for event in EXCHANGES[exchange].decode(frame):
                if type(event) in kinds:
                    place = exchange, kinds[type(event)], sources[frame.kind]
                    found[place].append((frame, event, values(event)))
    return found


def values(event: Event) -> dict[str, Any]:
    """Return the values of an event for which the document has a row."""
    if isinstance(event, BookUpdate):
        return {name: getattr(event, name) for name in ROWS[Channel.ORDERBOOK] if name != "sequence"} | {
            "sequence": event.last_sequence
        }
    return columns_of(event)


def recorded(cell: Cell) -> list[tuple[Frame, Event, dict[str, Any]]]:
    """Return the recorded events of a cell."""
    return recorded_events().get(cell.place, [])


def filled_tables(exchange: str) -> set[tuple[Channel, str]]:
    """Return the tables that an exchange fills, each with its source."""
    adapter = EXCHANGES[exchange]
    pair = Pair("BTC", adapter.quote)
    rest = {(channel, "REST") for channel in Channel if adapter.request_url(channel, pair)}
    return rest | {(channel, "socket") for channel in adapter.channels}


def looked_up(node: Any, path: list[str]) -> Iterator[Any]:
    """Yield the values of a path that begins anywhere in a message: `k.o`, `c[0]`, `[4]`."""
    children = node if isinstance(node, list) else list(node.values()) if isinstance(node, dict) else []
    for child in children:
        yield from looked_up(child, path)
    yield from followed(node, path) if (path[0].isdigit() if isinstance(node, list) else isinstance(node, dict)) else ()


def followed(node: Any, path: list[str]) -> Iterator[Any]:
    """Yield the value of a path that begins here, if there is one."""
    for step in path:
        if isinstance(node, list) and step.isdigit() and int(step) < len(node):
            node = node[int(step)]
        elif isinstance(node, dict) and step in node:
            node = node[step]
        else:
            return
    if not isinstance(node, dict | list):
        yield node


def converted(value: Any, unit: str) -> Any:
    """Return a native value as the column has it: a float, whole µs, or text as it is."""
    if unit == "RFC 3339":
        return from_rfc3339(value) if isinstance(value, str) and value else None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return value
    return round(number * FACTORS[unit]) if unit in ("ms", "µs", "s") else number * FACTORS[unit]


def equal(decoded: Any, native: Any) -> bool:
    """Compare by value; ids stay text, because a float would not hold them."""
    if isinstance(native, float) and isinstance(decoded, float | int) and not isinstance(decoded, bool):
        return decoded == pytest.approx(native, rel=1e-12)
    return bool(decoded == native)


def test_every_column_of_every_table_of_every_exchange_is_in_the_document() -> None:
    described: dict[tuple[str, Channel, str], list[str]] = defaultdict(list)
    for cell in cells():
        described[cell.place].append(cell.column)
    wanted = {(name, channel, source) for name in EXCHANGES for channel, source in filled_tables(name)}
    assert set(described) == wanted
    assert {place: sorted(names) for place, names in described.items()} == {
        place: sorted(ROWS[place[1]]) for place in wanted
    }


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_exactly_the_columns_that_the_document_calls_null_are_null(exchange: str) -> None:
    for cell in (cell for cell in cells() if cell.exchange == exchange):
        found = [value[cell.column] for _, _, value in recorded(cell)]
        nulls = sum(value is None for value in found)
        if cell.text == NULL:
            assert nulls == len(found), f"{cell}: the document says null, {len(found) - nulls} recordings have a value"
        elif ", or null" not in cell.text:
            assert nulls == 0, f"{cell}: null in {nulls} of {len(found)} recordings; the document says {cell.text}"


def test_columns_that_the_document_calls_null_at_times_have_values_too() -> None:
    by_column: dict[tuple[str, Channel, str], list[Any]] = defaultdict(list)
    for cell in (cell for cell in cells() if ", or null" in cell.text):
        by_column[cell.exchange, cell.channel, cell.column] += [value[cell.column] for _, _, value in recorded(cell)]
    assert [key for key, found in by_column.items() if all(value is None for value in found)] == []


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_the_native_fields_of_the_document_hold_the_values_of_the_columns(exchange: str) -> None:
    for cell in (cell for cell in cells() if cell.exchange == exchange):
        field = FIELD.fullmatch(cell.text)
        if field is None:
            continue
        path, unit = re.findall(r"\w+", field[1]), field[2] or ""
        compared = 0
        for frame, _, value in recorded(cell):
            found = list(looked_up(json.loads(frame.payload, parse_int=str, parse_float=str), path))
            decoded = value[cell.column]
            if found and decoded is not None:
                native = [one if cell.column == "id" else converted(one, unit) for one in found]
                assert any(equal(decoded, one) for one in native), f"{cell}: {decoded!r} is not {native[:5]}"
                compared += 1
        known = any(value[cell.column] is not None for _, _, value in recorded(cell))
        assert compared or not known, f"{cell}: no recording has {cell.text}"


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_derived_columns_are_derived_as_the_document_says(exchange: str) -> None:
    for cell in (cell for cell in cells() if cell.exchange == exchange):
        derived = DERIVED.fullmatch(cell.text)
        for _, _, value in recorded(cell) if derived else ():
            assert derived is not None
            one, other, result = value[derived[1]], value[derived[3]], value[cell.column]
            if None not in (one, other, result):
                expected = one - other if derived[2] == "-" else one / other
                assert result == pytest.approx(expected, rel=1e-9, abs=1e-12), f"{cell}: {cell.text}"


def contract() -> list[tuple[str, str, dict[str, str]]]:
    """Return exchange, source and the cells of the table about the processed tickers."""
    [(header, *rows)] = [
        rows for second, _, rows in tables(FIELDS.read_text(encoding="utf-8")) if second == "Processed tickers"
    ]
    titles = {exchange.title: name for name, exchange in EXCHANGES.items()}
    return [
        (titles[title], source, dict(zip(named(" ".join(header[2:])), texts, strict=True)))
        for title, sources, *texts in rows
        for source in sources.split(", ")
    ]


def test_the_processed_tickers_have_the_values_that_the_document_names() -> None:
    described = {(cell.place, cell.column): cell.text for cell in cells()}
    assert {(name, source) for name, source, _ in contract()} == {
        (name, source) for name in EXCHANGES for channel, source in filled_tables(name) if channel is Channel.TICKER
    }
    for exchange, source, texts in contract():
        place = exchange, Channel.TICKER, source
        for _, event, value in recorded_events()[place]:
            columns = dict.fromkeys(schema.TICKER_COLUMNS) | {"pair": str(getattr(event, "pair", ""))}
            row = Row(tuple(columns.values()), None, received_time=0, log_time=0, offset=0, index=0)
            record = json.loads(processed.encode(EXCHANGES[exchange], Channel.TICKER, Entry(row, event)))
            for name, text in texts.items():
                column, _, native = text.partition(" ")
                assert text == NULL or native == f"({described[place, column].split(', or null')[0]})", (
                    f"{exchange} {source} {name}: {text}"
                )
                got, wanted = record["data"][0][name], None if text == NULL else value[column]
                assert (None if got is None else float(got)) == pytest.approx(wanted), f"{exchange} {source} {name}"


def test_the_table_of_exchanges_in_the_readme_is_the_one_that_the_code_prints() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    begin, end = "<!-- coin exchanges --markdown -->\n", "\n<!-- end -->"
    assert text.count(begin) == text.count(end) == 1
    found = text[text.index(begin) + len(begin) : text.index(end)]
    assert found == markdown(), "put the output of `coin exchanges --markdown` between the two comments of README.md"


GENERATED = ROOT / "docs/guarantees.md"  # tests/faults/test_guarantees.py compares it with the tests
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted({*(ROOT / "docs").glob("*.md")} - {GENERATED})]
MADE_BY_COMMANDS = ("data/", "reports/", "dagster_home/", "certificates/", "captured/", "_probe/", "landing/")
"""Paths that begin like this are not in the repository: commands make them."""


def named_paths(text: str) -> set[str]:
    """Return the paths that a document names: link targets, and words in backticks that look like a path."""
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    words = re.findall(r"`([\w./-]+)`", text)
    files = [word for word in words if re.fullmatch(r"[\w./-]+\.(py|md|toml|yaml|html|png|jsonl|service)", word)]
    folders = [word for word in words if word.endswith("/")]
    return {path for path in [*links, *files, *folders] if not path.startswith(("/", *MADE_BY_COMMANDS))}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_path_that_a_document_names_exists(document: Path) -> None:
    places = (document.parent, ROOT, ROOT / "coin_platform")
    paths = named_paths(document.read_text(encoding="utf-8"))
    missing = sorted(path for path in paths if not any((place / path).exists() for place in places))
    assert missing == [], "a file has moved; name its new place"


def test_the_tree_of_the_contributors_page_names_every_folder_of_two_levels() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    tree = text.split("```")[1]
    top, listed = "", set()
    for line in tree.splitlines():
        if found := re.match(r"( *)(\w+)/", line):
            top = top if found[1] else found[2]
            listed.add(top if not found[1] else f"{top}/{found[2]}")
    packages = {f"coin_platform/{path.parent.name}" for path in (ROOT / "coin_platform").glob("*/__init__.py")}
    assert packages <= listed
    assert [name for name in listed if not (ROOT / name).is_dir()] == []


def test_links_files_and_folders_are_seen_as_paths() -> None:
    text = "[a](docs/a.md) [b](https://host/x) `tests/x.py` `records.py` `tests/data/` `data/demo/report.html` `s3:Get`"
    assert named_paths(text) == {"docs/a.md", "tests/x.py", "records.py", "tests/data/"}


def test_every_number_of_the_status_is_in_the_operators_page_with_its_meaning() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8").partition("### Numbers")[2].partition("## ")[0]
    told = dict(re.findall(r"^\| `(\w+)` \| [\w, ]+ \| (.*) \|$", text, re.M))
    assert told == {name: number.text for name, number in NUMBERS.items()}
