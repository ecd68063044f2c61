"""Run `coin` with a witness: it writes down each frame that is read, so that a test knows what a kill costs."""

import os
from pathlib import Path

from coin_platform.cli import main
from coin_platform.collect.recorder import Recorder
from coin_platform.model import Frame, Instant, Kind, Microseconds, Pair

Read = tuple[int, str, int]  # epoch, connection, number


def read(path: Path) -> dict[Read, Microseconds]:
    """Return the frames that were read, and when."""
    lines = [line.split() for line in path.read_text().splitlines()]
    return {(int(epoch), connection, int(number)): int(time) for epoch, connection, number, time in lines}


def watch(path: Path) -> None:
    """Write down every frame that is read, at once and into a file, which survives the process."""
    file, take = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), Recorder.take

    def witnessed(recorder: Recorder, kind: Kind, payload: bytes, pair: Pair | None = None) -> tuple[Frame, Instant]:
        frame, moment = take(recorder, kind, payload, pair)
        os.write(file, f"{frame.epoch} {frame.connection} {frame.number} {moment.wall}\n".encode())
        return frame, moment

    Recorder.take = witnessed  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    watch(Path(os.environ.pop("WITNESS")))
    main()
