"""Keep log files small, while their writers go on."""

import os
import shutil
from pathlib import Path


def rotate(log: Path, most_bytes: int, old_logs: int) -> None:
    """Begin a log larger than `most_bytes` anew: copy it to `<log>.1` and empty it, so that its writers go on."""
    if not log.exists() or log.stat().st_size <= most_bytes:
        return
    names = [log, *(log.with_name(f"{log.name}.{number}") for number in range(1, old_logs + 1))]
    for older, newer in zip(reversed(names[1:]), reversed(names[1:-1]), strict=False):
        if newer.exists():
            newer.replace(older)
    shutil.copyfile(log, names[1])
    os.truncate(log, 0)
