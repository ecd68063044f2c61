"""The events of every recording, in tests/golden: one JSON object a line. `python -m tests.kit.golden` writes them.

A golden file proves that an adapter's events stay as they are. It does not prove that they are right.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from coin_platform.exchanges import EXCHANGES
from coin_platform.model import Event, Level, Pair, TextLevel
from coin_platform.simulator.recordings import read
from tests.kit.market_lists import traded_pairs
from tests.kit.recordings import files

GOLDEN = Path(__file__).parent.parent / "golden"
WHOLE_LINES = 100  # a longer recording is stored as its first and last lines, with a hash of all of them
END_LINES = 50
WHOLE_LEVELS = 12  # a longer side of a book is stored in the same way
END_LEVELS = 3


def golden_path(exchange: str, recording: Path) -> Path:
    """Return the file of a recording's events."""
    return GOLDEN / exchange / recording.name


def golden_text(exchange: str, recording: Path) -> str:
    """Return what the golden file of a recording must hold."""
    lines = list(_lines(exchange, recording))
    if len(lines) > WHOLE_LINES:
        summary = {
            "lines": len(lines),
            "left_out": len(lines) - 2 * END_LINES,
            "sha256_of_all": _sha256("\n".join(lines)),
        }
        lines = [*lines[:END_LINES], _json(summary), *lines[-END_LINES:]]
    return "".join(f"{line}\n" for line in lines)


def main() -> None:
    """Write the golden file of every recording, and remove golden files without a recording."""
    texts = {golden_path(*file): golden_text(*file) for file in (*files(), *files("markets"))}
    for path in set(GOLDEN.glob("*/*.jsonl")) - set(texts):
        path.unlink()
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    print(f"{len(texts)} files in {GOLDEN}; look at the difference before you commit it: git diff {GOLDEN}")


def _lines(exchange: str, recording: Path) -> Iterator[str]:
    """Yield a line for every event and for every list of markets."""
    for line, frame in read(EXCHANGES[exchange], recording):
        if recording.stem == "markets":
            pairs = traded_pairs(EXCHANGES[exchange], frame.payload)
            yield _json({"line": line, "markets": _ends([str(pair) for pair in pairs], WHOLE_LINES, END_LINES)})
            continue
        for event in EXCHANGES[exchange].decode(frame):
            yield _json({"line": line, **_fields(event)})


def _fields(event: Event) -> dict[str, Any]:
    """Return the type of an event and its fields, without those that have their default."""
    defaults = {field.name: field.default for field in msgspec.structs.fields(event)}
    values = {name: value for name, value in msgspec.structs.asdict(event).items() if value != defaults[name]}
    return {"event": type(event).__name__, **{name: _plain(value) for name, value in values.items()}}


def _plain(value: Any) -> Any:
    match value:
        case Pair():
            return str(value)
        case list():
            return _ends([_level(level) for level in value], WHOLE_LEVELS, END_LEVELS)
        case _:
            return value


def _level(level: Level) -> list[float | str]:
    return [level.price, level.size, level.text] if isinstance(level, TextLevel) else [level.price, level.size]


def _ends(values: list[Any], whole: int, end: int) -> Any:
    """Return the values, or where they are many, the first and the last of them, their count and their hash."""
    if len(values) <= whole:
        return values
    return {"count": len(values), "first": values[:end], "last": values[-end:], "sha256": _sha256(_json(values))}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


if __name__ == "__main__":
    main()
