"""`python -m benchmarks [NAME …]`: measure, print a table, write reports/bench.json; 1 if something is too slow."""

import json
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import journals, live, pace, rounds, tables, windows, writers
from benchmarks.compare import Outcome

REPORT = Path("reports/bench.json")
PARTS: dict[str, Callable[[Path], Iterator[Outcome]]] = {
    "tables": tables.run,
    "live": live.run,
    "windows": windows.run,
    "journals": journals.run,
    "writers": writers.run,
    "rounds": rounds.run,
    "pace": pace.run,
}


def main(names: list[str]) -> int:
    """Run the named parts, by default all."""
    if unknown := [name for name in names if name not in PARTS]:
        print(f"{unknown[0]}: there is no such part; there are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    outcomes: list[Outcome] = []
    for name in names or PARTS:
        with tempfile.TemporaryDirectory(prefix="coin-bench-") as folder:
            for outcome in PARTS[name](Path(folder)):
                outcomes.append(outcome)
                print(_line(outcome), file=sys.stderr)
    table = Table("id", "what", "seen", "must", "", "")
    for outcome in outcomes:
        seen = f"{outcome.value:.3g} {outcome.unit}"
        table.add_row(outcome.id, outcome.what, seen, _must(outcome), "" if outcome.passed else "FAILS", outcome.note)
    Console(width=None if sys.stdout.isatty() else 200).print(table)
    REPORT.parent.mkdir(exist_ok=True)
    machine = {"python": platform.python_version(), "machine": platform.machine()}
    body = {**machine, "outcomes": [{**outcome._asdict(), "passed": outcome.passed} for outcome in outcomes]}
    REPORT.write_text(json.dumps(body, indent=2, ensure_ascii=False) + "\n")
    return 0 if all(outcome.passed for outcome in outcomes) else 1


def _must(outcome: Outcome) -> str:
    return "" if outcome.must is None else f"{'≥' if outcome.is_least else '≤'} {outcome.must:.3g}"


def _line(outcome: Outcome) -> str:
    return f"{outcome.id}: {outcome.what}: {outcome.value:.3g} {outcome.unit} {_must(outcome)} {outcome.note}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
