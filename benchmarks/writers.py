"""P22: the share of a core that a collector's journals need, with one writer thread and with a thread for each."""

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from itertools import cycle
from pathlib import Path

from benchmarks.compare import Outcome, same
from coin_platform.journal import JournalReader, JournalWriter, WriterThread, flush_all

JOURNALS = 16  # the partitions of a region
RECORDS_PER_SECOND = 500  # of all journals together
SECONDS = 4.0
TURNS = 3
HEADER, VALUE = "w,1,ticker-0-62f8a1c2,1234,1790000000000000", b"x" * 400


def run(folder: Path) -> Iterator[Outcome]:
    """Measure the two ways in `folder`, in turns."""
    taken: dict[str, list[float]] = {"one": [], "each": []}
    for turn in range(TURNS):
        taken["one"].append(_share(folder / f"one-{turn}", [WriterThread()] * JOURNALS))
        taken["each"].append(_share(folder / f"each-{turn}", [WriterThread() for _ in range(JOURNALS)]))
    shared, separate = (statistics.median(shares) for shares in taken.values())
    shares_text = f"{100 * shared:.1f} against {100 * separate:.1f} % of a core"
    note = f"{shares_text}, {RECORDS_PER_SECOND} records/s into {JOURNALS} journals"
    yield Outcome("P22", "CPU of one writer, against one for each journal", separate / shared, must=1.3, note=note)


def _share(folder: Path, writers: Sequence[WriterThread]) -> float:
    """Append `RECORDS_PER_SECOND` for `SECONDS`, and return the share of a core that this took."""
    paths = [folder / f"{number}.db" for number in range(JOURNALS)]
    with ExitStack() as stack:
        journals = [
            stack.enter_context(closing(JournalWriter(path, writer=writer)))
            for path, writer in zip(paths, writers, strict=True)
        ]
        for journal in journals:
            journal.append(HEADER, VALUE)
        flush_all(journals)  # opens all files
        begun, used = time.perf_counter(), time.process_time()
        for number, journal in enumerate(cycle(journals)):
            if (due := begun + number / RECORDS_PER_SECOND) > begun + SECONDS:
                break
            time.sleep(max(0.0, due - time.perf_counter()))
            journal.append(HEADER, VALUE)
        flush_all(journals)
        share = (time.process_time() - used) / (time.perf_counter() - begun)
    same(sum(JournalReader(path).end_offset() for path in paths), JOURNALS + number, "P22")
    return share
