"""`python -m benchmarks [PART …]`: measure, write reports/bench.json. Exit with 1 if a figure fails."""

import argparse
import json
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import feed, journals, live, pace, rounds, tables, windows, writers
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
    "feed": feed.run,
}


def main(names: list[str]) -> int:
    """Run the named parts, by default all, and return the exit code: 2 for a name that is no part."""
    if unknown := [name for name in names if name not in PARTS]:
        print(f"{unknown[0]}: there is no such part; there are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    outcomes: list[Outcome] = []
    for name in names or PARTS:
        with tempfile.TemporaryDirectory(prefix="coin-bench-") as folder:
            for outcome in PARTS[name](Path(folder)):
                outcomes.append(outcome)
                print(_line(outcome), file=sys.stderr)
    table = Table("id", "what", "value", "must", "", "")
    for outcome in outcomes:
        value = f"{outcome.value:.3g} {outcome.unit}"
        table.add_row(outcome.id, outcome.what, value, _must(outcome), "" if outcome.passed else "FAILS", outcome.note)
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
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure, and write reports/bench.json.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"one of {', '.join(PARTS)}; by default all")
    sys.exit(main(parser.parse_args().parts))
