"""Writes journals for tests, reads them in other processes, and damages their files."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from coin_platform.journal import JournalReader, JournalWriter

MIB = 1 << 20


def write(path: Path, count: int, value: bytes = b"value") -> None:
    """Write records with the headers `h0`, `h1` ... into a journal."""
    with closing(JournalWriter(path)) as journal:
        for n in range(count):
            journal.append(f"h{n}", value)


def offsets(path: Path, start: int = 0) -> list[int]:
    """Return the offsets that a reader finds from `start` on."""
    return [record.offset for record in JournalReader(path).read(start)]


@contextmanager
def process(code: str, *arguments: object) -> Iterator["subprocess.Popen[str]"]:
    """Run Python code with the journal's names and `path` in another process, and kill that in the end."""
    preamble = (
        "import sys, time\nfrom pathlib import Path\nfrom coin_platform.journal import *\npath = Path(sys.argv[1])\n"
    )
    command = [sys.executable, "-c", preamble + code, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            yield child
        finally:
            child.kill()


def line(child: "subprocess.Popen[str]") -> str:
    """Return the next line that the process prints."""
    assert child.stdout is not None
    return child.stdout.readline().strip()


def emptied(path: Path) -> None:
    """Leave nothing of a file."""
    path.write_bytes(b"")


def cut(path: Path) -> None:
    """Leave the first half of a file."""
    os.truncate(path, path.stat().st_size // 2)


def overwritten(path: Path) -> None:
    """Overwrite a file with other bytes."""
    path.write_bytes(b"x" * path.stat().st_size)
