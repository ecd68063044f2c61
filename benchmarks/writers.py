"""P22: what a collector's journals take of a core, written by one thread, against a thread for each."""

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from itertools import cycle
from pathlib import Path

from benchmarks.compare import Outcome, same
from coin_platform.journal import JournalReader, JournalWriter, WriterThread, flush_all

JOURNALS, PACE, SECONDS, TURNS = 16, 500, 4.0, 3  # partitions of a region, records a second of all
HEADER, VALUE = "w,1,ticker-0-62f8a1c2,1234,1790000000000000", b"x" * 400


def run(folder: Path) -> Iterator[Outcome]:
    """Measure in `folder`, the two ways in turns."""
    taken: dict[str, list[float]] = {"one": [], "each": []}
    for turn in range(TURNS):
        taken["one"].append(_share(folder / f"one-{turn}", [WriterThread()] * JOURNALS))
        taken["each"].append(_share(folder / f"each-{turn}", [WriterThread() for _ in range(JOURNALS)]))
    one, each = (statistics.median(found) for found in taken.values())
    note = f"{100 * one:.1f} against {100 * each:.1f} % of a core, {PACE} records/s into {JOURNALS} journals"
    yield Outcome("P22", "CPU of one writer, against one for each journal", each / one, must=1.3, note=note)


def _share(folder: Path, writers: Sequence[WriterThread]) -> float:
    """Append at the pace; return what part of a core that took."""
    paths = [folder / f"{number}.db" for number in range(JOURNALS)]
    with ExitStack() as stack:
        journals = [
            stack.enter_context(closing(JournalWriter(path, writer=writer)))
            for path, writer in zip(paths, writers, strict=True)
        ]
        for journal in journals:
            journal.append(HEADER, VALUE)
        flush_all(journals)  # all files are open
        begun, used = time.perf_counter(), time.process_time()
        for number, journal in enumerate(cycle(journals)):
            if (due := begun + number / PACE) > begun + SECONDS:
                break
            time.sleep(max(0.0, due - time.perf_counter()))
            journal.append(HEADER, VALUE)
        flush_all(journals)
        share = (time.process_time() - used) / (time.perf_counter() - begun)
    same(sum(JournalReader(path).end_offset() for path in paths), JOURNALS + number, "P22")
    return share
