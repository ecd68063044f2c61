"""Collectors and workers as processes: each is started again when it ends, as the watchdog does it, and measured."""

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

_BEAT = 0.25  # seconds between two looks at who has ended
_SAMPLE = 5.0  # seconds between two measurements
_FEW = 6  # of them
_MINUTE = 10  # of them, or it was none
_LINE = 1_000  # bytes of a log's last line that are told
_PATIENCE = 40.0  # seconds in which a process must end that was asked to
MIB = 1 << 20


class Sample(NamedTuple):
    """What a process holds at a moment of the monotonic clock."""

    time: float
    memory: int  # bytes of its own: resident, without the pages of files that the system can take back
    files: int  # descriptors


class Life(NamedTuple):
    """One process of a member, from start to end."""

    started: float
    samples: list[Sample]


class End(NamedTuple):
    """How one process of a member came to its end."""

    code: int
    is_wanted: bool  # by somebody here
    words: str  # the last line of the log

    @property
    def is_accident(self) -> bool:
        """Whether nobody wanted that end, or it was not clean."""
        return not self.is_wanted or self.code not in (0, -signal.SIGKILL)


class Member:
    """One long run: the process that does it now, and those before."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name, self.lives = name, list[Life]()
        self.ends = list[End]()
        self._command, self._environment, self._log = command, environment, log
        self.is_wanted, self._is_doomed = True, False
        self._process: subprocess.Popen[bytes] | None = None
        self._leaving: subprocess.Popen[bytes] | None = None  # while another one takes over

    def start(self, *more: str) -> None:
        """Start a process; `more` follows its command."""
        command = [sys.executable, *self._command, *more]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )
        self.lives.append(Life(time.monotonic(), []))

    def hand_over(self) -> None:
        """Start a process that takes over from the one of now, and then asks that one to end."""
        assert self._leaving is None
        self._leaving = self._process
        self.start("--take-over")

    def send(self, number: signal.Signals) -> None:
        """Send the process of now a signal, if there is one."""
        assert self._process is not None
        self._is_doomed = self._is_doomed or number in (signal.SIGKILL, signal.SIGTERM)
        if self._process.poll() is None:
            self._process.send_signal(number)

    def end(self) -> None:
        """Want it no more: SIGTERM."""
        self.is_wanted = False
        self.send(signal.SIGTERM)

    def wait(self) -> None:
        """Return when it has ended for good, in the end by force."""
        assert self._process is not None
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._note(self._process.returncode, is_wanted=self._is_doomed)
        if self._leaving is not None:
            self._note(self._leaving.wait(_PATIENCE), is_wanted=True)

    def beat(self) -> None:
        """Start it again if it has ended but is wanted."""
        assert self._process is not None
        if self._leaving is not None and self._leaving.poll() is not None:
            self._note(self._leaving.returncode, is_wanted=True)
            self._leaving = None
        if self.is_wanted and self._process.poll() is not None:
            self._note(self._process.returncode, is_wanted=self._is_doomed)
            self._is_doomed = False
            self.start()

    def measure(self) -> None:
        """Take a sample of the process of now."""
        assert self._process is not None
        with suppress(psutil.Error):
            process = psutil.Process(self._process.pid)
            memory = process.memory_info()
            self.lives[-1].samples.append(Sample(time.monotonic(), memory.rss - memory.shared, process.num_fds()))

    def _note(self, code: int, *, is_wanted: bool) -> None:
        with self._log.open("rb") as log:
            log.seek(-min(_LINE, self._log.stat().st_size), os.SEEK_END)
            words = log.read().decode(errors="replace").strip().rpartition("\n")[2]
        self.ends.append(End(code, is_wanted, words))


class Fleet:
    """All members, with a thread that looks after them."""

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
        """End members for good, all at once."""
        left = [self.members[name] for name in names if self.members[name].is_wanted]
        for member in left:
            member.end()
        for member in left:
            member.wait()

    @property
    def accidents(self) -> list[str]:
        """The ends of processes that nobody wanted, or that were not clean."""
        ends = [(member.name, end) for member in self.members.values() for end in member.ends]
        return [f"{name} ended with {end.code}: {end.words}" for name, end in ends if end.is_accident]

    def _run(self) -> None:
        measured = 0.0
        while not self._is_over.wait(_BEAT):
            for member in self.members.values():
                member.beat()
            if time.monotonic() - measured >= _SAMPLE:
                measured = time.monotonic()
                for member in self.members.values():
                    member.measure()


def member(name: str, arguments: Sequence[str], environment: Mapping[str, str], logs: Path) -> Member:
    """Return a member that runs `coin` with these arguments."""
    logs.mkdir(parents=True, exist_ok=True)
    return Member(name, ["-m", "coin_platform", *arguments], {**os.environ, **environment}, logs / f"{name}.log")


def settled(lives: Iterable[Life], settling: float) -> Iterator[list[Sample]]:
    """Yield what each process was measured to hold from `settling` seconds after its start on, if that was for long."""
    for life in lives:
        samples = [sample for sample in life.samples if sample.time - life.started >= settling]
        if len(samples) >= 2 * _FEW:
            yield samples


def slope(samples: Sequence[Sample]) -> float:
    """Return by how many MiB in 10 minutes a process's memory grows: least squares over the least of each minute.

    What is held above that is a batch on its way, some MiB for a second; what is never given up lies below.
    """
    minutes: defaultdict[int, list[float]] = defaultdict(list)
    for at, memory, _ in samples:
        minutes[int((at - samples[0].time) // 60)].append(memory / MIB)
    whole = {minute: min(held) for minute, held in minutes.items() if len(held) >= _MINUTE}
    return 10 * statistics.linear_regression(list(whole), list(whole.values())).slope


def gain(samples: Sequence[Sample], held: Callable[[Sample], float]) -> float:
    """Return how much more of something a process holds at its end than at first, by the medians of half a minute."""
    first, last = ([held(sample) for sample in some] for some in (samples[:_FEW], samples[-_FEW:]))
    return statistics.median(last) - statistics.median(first)


def write_samples(members: Iterable[Member], path: Path) -> None:
    """Write all measurements as lines of comma separated values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        file.write("member,process,seconds,memory_mib,files\n")
        for each in members:
            for number, life in enumerate(each.lives):
                for at, memory, files in life.samples:
                    file.write(f"{each.name},{number},{at - life.started:.0f},{memory / MIB:.2f},{files}\n")
