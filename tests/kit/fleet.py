"""Runs collectors and workers as processes. Starts each again when it ends, and measures its memory and files."""

import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import psutil

_LOOK_SECONDS = 0.25  # between two looks for processes that have ended
_SAMPLE_SECONDS = 5.0  # between two measurements
_MEDIAN_SAMPLES = 6  # of which a median is taken: half a minute
_MINUTE_SAMPLES = 10  # at least, of a minute that counts
_LAST_LINE_BYTES = 1_000  # of a log's last line, at most
_END_SECONDS = 40.0  # in which a process must end after it was asked to
MIB = 1 << 20


class Sample(NamedTuple):
    """The memory and the files of a process at a moment of the monotonic clock."""

    time: float
    memory: int  # bytes of its own: resident, without the pages of files that the system can take back
    files: int  # descriptors


class Life(NamedTuple):
    """One process of a member, from start to end."""

    started: float
    samples: list[Sample]


class End(NamedTuple):
    """The end of one process of a member."""

    code: int
    is_intended: bool  # the fleet or a test ended it
    words: str  # the last line of the log

    @property
    def is_accident(self) -> bool:
        """Whether the end was not intended, or was not clean."""
        return not self.is_intended or self.code not in (0, -signal.SIGKILL)


class Member:
    """One long run: its process of now, and its earlier processes."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name, self.lives = name, list[Life]()
        self.ends = list[End]()
        self._command, self._environment, self._log = command, environment, log
        self.is_wanted, self._is_doomed = True, False
        self._process: subprocess.Popen[bytes] | None = None
        self._leaving: subprocess.Popen[bytes] | None = None  # while another one takes over

    def start(self, *more: str) -> None:
        """Start a process. The words `more` follow its command."""
        command = [sys.executable, *self._command, *more]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )
        self.lives.append(Life(time.monotonic(), []))

    def hand_over(self) -> None:
        """Start a process that takes over from the process of now, and then asks that process to end."""
        assert self._leaving is None
        self._leaving = self._process
        self.start("--take-over")

    def send(self, number: signal.Signals) -> None:
        """Send the process of now a signal, if it still runs."""
        assert self._process is not None
        self._is_doomed = self._is_doomed or number in (signal.SIGKILL, signal.SIGTERM)
        if self._process.poll() is None:
            self._process.send_signal(number)

    def end(self) -> None:
        """Ask the process to end with SIGTERM, and do not start it again."""
        self.is_wanted = False
        self.send(signal.SIGTERM)

    def wait(self) -> None:
        """Wait until the process has ended. Kill it if it takes too long."""
        assert self._process is not None
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._note(self._process.returncode, is_intended=self._is_doomed)
        if self._leaving is not None:
            self._note(self._leaving.wait(_END_SECONDS), is_intended=True)

    def beat(self) -> None:
        """Start the process again if it has ended but is still wanted."""
        assert self._process is not None
        if self._leaving is not None and self._leaving.poll() is not None:
            self._note(self._leaving.returncode, is_intended=True)
            self._leaving = None
        if self.is_wanted and self._process.poll() is not None:
            self._note(self._process.returncode, is_intended=self._is_doomed)
            self._is_doomed = False
            self.start()

    def measure(self) -> None:
        """Take a sample of the process of now."""
        assert self._process is not None
        with suppress(psutil.Error):
            process = psutil.Process(self._process.pid)
            memory = process.memory_info()
            self.lives[-1].samples.append(Sample(time.monotonic(), memory.rss - memory.shared, process.num_fds()))

    def _note(self, code: int, *, is_intended: bool) -> None:
        with self._log.open("rb") as log:
            log.seek(-min(_LAST_LINE_BYTES, self._log.stat().st_size), os.SEEK_END)
            words = log.read().decode(errors="replace").strip().rpartition("\n")[2]
        self.ends.append(End(code, is_intended, words))


class Fleet:
    """All members, and the thread that starts them again and measures them."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = {member.name: member for member in members}
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fleet")

    def __enter__(self) -> Self:
        for member in self.members.values():
            member.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()
        self.end(*self.members)

    def end(self, *names: str) -> None:
        """End members for good, all at the same time."""
        running = [self.members[name] for name in names if self.members[name].is_wanted]
        for member in running:
            member.end()
        for member in running:
            member.wait()

    @property
    def accidents(self) -> list[str]:
        """The ends of processes that were not intended or not clean."""
        ends = [(member.name, end) for member in self.members.values() for end in member.ends]
        return [f"{name} ended with {end.code}: {end.words}" for name, end in ends if end.is_accident]

    def _run(self) -> None:
        measured = 0.0
        while not self._is_over.wait(_LOOK_SECONDS):
            for member in self.members.values():
                member.beat()
            if time.monotonic() - measured >= _SAMPLE_SECONDS:
                measured = time.monotonic()
                for member in self.members.values():
                    member.measure()


def member(name: str, arguments: Sequence[str], environment: Mapping[str, str], logs: Path) -> Member:
    """Return a member that runs `coin` with these arguments."""
    logs.mkdir(parents=True, exist_ok=True)
    return Member(name, ["-m", "coin_platform", *arguments], {**os.environ, **environment}, logs / f"{name}.log")


def settled(lives: Iterable[Life], settling: float) -> Iterator[list[Sample]]:
    """Yield the samples of each process from `settling` seconds after its start on, if there are enough of them."""
    for life in lives:
        samples = [sample for sample in life.samples if sample.time - life.started >= settling]
        if len(samples) >= 2 * _MEDIAN_SAMPLES:
            yield samples


def slope(samples: Sequence[Sample]) -> float:
    """Return by how many MiB in 10 minutes a process's memory grows: least squares over the least of each minute.

    Memory above the least of a minute belongs to a batch on its way, some MiB for a second. A leak raises the least.
    """
    minutes: defaultdict[int, list[float]] = defaultdict(list)
    for at, memory, _ in samples:
        minutes[int((at - samples[0].time) // 60)].append(memory / MIB)
    whole = {minute: min(held) for minute, held in minutes.items() if len(held) >= _MINUTE_SAMPLES}
    return 10 * statistics.linear_regression(list(whole), list(whole.values())).slope


def gain(samples: Sequence[Sample], held: Callable[[Sample], float]) -> float:
    """Return how much more a process holds at its end than at first, by the medians of half a minute."""
    spans = (samples[:_MEDIAN_SAMPLES], samples[-_MEDIAN_SAMPLES:])
    first, last = ([held(sample) for sample in span] for span in spans)
    return statistics.median(last) - statistics.median(first)


def write_samples(members: Iterable[Member], path: Path) -> None:
    """Write all measurements as lines of comma separated values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        file.write("member,process,seconds,memory_mib,files\n")
        for member in members:
            for number, life in enumerate(member.lives):
                for at, memory, files in life.samples:
                    file.write(f"{member.name},{number},{at - life.started:.0f},{memory / MIB:.2f},{files}\n")
