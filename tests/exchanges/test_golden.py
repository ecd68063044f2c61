"""Every recording has exactly the events of its golden file: see `tests.kit.golden`."""

from pathlib import Path

import pytest

from tests.kit.golden import GOLDEN, golden_path, golden_text
from tests.kit.recordings import files

RECORDINGS = [*files(), *files("markets")]
REMEDY = "If the new events are right: `python -m tests.kit.golden`, and look at the diff."


@pytest.mark.parametrize(("exchange", "path"), RECORDINGS, ids=lambda value: getattr(value, "stem", value))
def test_a_recording_has_the_events_of_its_golden_file(exchange: str, path: Path) -> None:
    golden = golden_path(exchange, path)
    assert golden.exists(), f"{golden} is missing. {REMEDY}"
    lines, golden_lines = golden_text(exchange, path).splitlines(), golden.read_text(encoding="utf-8").splitlines()
    assert lines == golden_lines, f"{path} has other events than {golden}. {REMEDY}"


def test_every_golden_file_belongs_to_a_recording() -> None:
    assert set(GOLDEN.glob("*/*.jsonl")) == {golden_path(*recording) for recording in RECORDINGS}, REMEDY
