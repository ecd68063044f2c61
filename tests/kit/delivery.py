"""Writes numbered records, and reads which of them have arrived.

`python -m tests.kit.delivery SERVERS SPOOL TOPIC RATE SIZE` writes in a process of its own.
"""

import random
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Self

from coin_platform.broker import Broker
from coin_platform.broker.kafka import KafkaBroker

_PAUSE_SECONDS = 0.01  # between two batches


def first_seen(numbers: Sequence[int]) -> list[int]:
    """Return the numbers without repetitions. Like a transform, drop a number that does not rise."""
    reached, kept = -1, []
    for number in numbers:
        if number > reached:
            reached = number
            kept.append(number)
    return kept


def stored(broker: Broker, topic: str, partition: int = 0) -> list[int]:
    """Return the numbers in a partition, in order."""
    end = broker.end_offset(topic, partition)
    return [int(record.value.split()[0]) for record in broker.read(topic, partition, 0, end)]


class Writer:
    """Appends `rate` records a second of about `size` bytes, numbered from 0, until the end of its block.

    Their values are random hex digits, which a compression halves.
    """

    def __init__(self, broker: Broker, topic: str, *, rate: float = 1_000, size: int = 500, partition: int = 0) -> None:
        self.appended = 0
        self.slowest = 0.0  # seconds that one `append` took
        self._broker, self._place, self._rate = broker, (topic, partition), rate
        self._size, self._random = size, random.Random(7)
        self._is_over = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        started = time.monotonic()
        try:
            while not self._is_over.wait(_PAUSE_SECONDS):
                due = int((time.monotonic() - started) * self._rate)
                while self.appended < due and not self._is_over.is_set():
                    before = time.monotonic()
                    text = b"%d %s" % (self.appended, self._random.randbytes(self._size // 2).hex().encode())
                    self._broker.append(*self._place, "h", text)
                    self.slowest = max(self.slowest, time.monotonic() - before)
                    self.appended += 1
        except Exception as error:  # raised where the block ends
            self._failure = error


def main() -> None:
    """Write until stdin ends. For each line, print counts of appended and waiting records, and the slowest append."""
    servers, spool, topic, rate, size = sys.argv[1:]
    with closing(KafkaBroker(servers.split(","), Path(spool))) as broker:
        with Writer(broker, topic, rate=float(rate), size=int(size)) as writer:
            for _ in sys.stdin:
                print(writer.appended, broker.shipper.waiting, f"{writer.slowest:.6f}", flush=True)
        broker.flush()
        print(writer.appended, broker.shipper.waiting, f"{writer.slowest:.6f}", flush=True)


if __name__ == "__main__":
    main()
