"""The recordings under tests/data as frames."""

from collections.abc import Iterator
from pathlib import Path

from coin_platform.exchanges import EXCHANGES
from coin_platform.model import Event, Frame
from coin_platform.recording import read

DATA = Path(__file__).parent / "data"


def files(pattern: str = "*") -> list[tuple[str, Path]]:
    """Return (exchange, file) of all recordings whose name matches."""
    return [(path.parent.name, path) for path in sorted(DATA.glob(f"*/{pattern}.jsonl"))]


def frames(exchange: str, stem: str) -> list[Frame]:
    """Return the frames of one file."""
    return [frame for _, frame in read(EXCHANGES[exchange], DATA / exchange / f"{stem}.jsonl")]


def events(exchange: str, stem: str) -> Iterator[Event]:
    """Yield what the frames of one file say."""
    for frame in frames(exchange, stem):
        yield from EXCHANGES[exchange].decode(frame)
