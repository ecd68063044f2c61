"""Runs `coin`, and writes down each frame that it reads. So a test knows which frames a kill cost."""

import os
from pathlib import Path

from coin_platform.cli import main
from coin_platform.collect.recorder import Recorder
from coin_platform.model import Frame, Instant, Kind, Microseconds, Pair

ReadFrame = tuple[int, str, int]  # epoch, connection, number


def read(path: Path) -> dict[ReadFrame, Microseconds]:
    """Return the frames that were read, with the times of reading."""
    lines = [line.split() for line in path.read_text().splitlines()]
    return {(int(epoch), connection, int(number)): int(time) for epoch, connection, number, time in lines}


def watch(path: Path) -> None:
    """Write down every frame as soon as it is read, into a file that survives the process."""
    file, take = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), Recorder.take

    def witnessed(recorder: Recorder, kind: Kind, payload: bytes, pair: Pair | None = None) -> tuple[Frame, Instant]:
        frame, moment = take(recorder, kind, payload, pair)
        os.write(file, f"{frame.epoch} {frame.connection} {frame.number} {moment.wall}\n".encode())
        return frame, moment

    Recorder.take = witnessed  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    watch(Path(os.environ.pop("WITNESS")))
    main()
