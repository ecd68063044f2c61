"""Writes `docs/guarantees.md`: each promise, the tests that prove it, and what they measured.

`python -m tools.guarantees`; tests are found by their names, `test_K1_…`, figures in `reports/figures.json`. A
figure that was not measured here stays as the page has it.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.kit.figures import ROOT, Figure, figures

PAGE = ROOT / "docs" / "guarantees.md"

PROMISES = {
    "S1": "Of every frame written to the spool none is missing and none double in the stored tables, through `kill -9` "
    "of any process and outages of Kafka and S3 of 10 minutes.",
    "S2": "A closed window that is run again with unchanged input gives a byte-identical object.",
    "S3": "A reader never sees a half-written window.",
    "S4": "Of two runs of a window at once exactly one commits; no update is lost.",
    "S5": "A frame that comes late is in the window of its append time, and `scan` over its received time finds it.",
    "S6": "Per window, frames in = rows out + dead letters + declared duplicates + declared non-data.",
    "S7": "Every frame that cannot be decoded is a dead letter with its identity and bytes; it delays its partition by "
    "less than 1 s, and redriving it makes no doubles.",
    "S8": "Loss that cannot be prevented is in the ledger, with bounds within 1 s.",
    "K1": "Without a broker for 10 minutes at 5,000 frames/s of 500 B: sockets stay read, memory grows by 256 MiB at "
    "most, the backlog drains at twice the live rate or more, the first acknowledgement comes within 3 s.",
    "K2": "`kill -9` of the collector costs no frame that was read more than 50 ms before; a power cut costs 200 ms.",
    "K3": "Any fatal state of a producer is left within 5 s by another one that sends again from the spool.",
    "K4": "A consumer whose partition does not move for 60 s, while its end does, is rebuilt, and says so.",
    "F1": "A lost or wrong book message is noticed at the next message, on exchanges that can prove it.",
    "F2": "A resync touches one pair; a thousand bad updates a second cause one.",
    "F3": "A connection that is open and silent is replaced within 15 s where there are heartbeats, else 40 s.",
    "F4": "Reconnects keep to half of the published limits: a server that closes at once for 10 minutes sees 26 at "
    "most; bans are obeyed to the second.",
    "F5": "A planned rotation leaves no gap and no double.",
    "F6": "Jumps of the wall clock cause no reconnect and misplace no window.",
    "F7": "No bytes of an exchange end the process, block it for 50 ms or cost 64 MiB.",
    # What an attack on the platform may not reach.
    "D1": "A stored window never shrinks unless it is told to by name. A log that began anew is noticed by its "
    "identity: the window says so in table `gap` and in a failed check.",
    "D2": "One deployment writes a lake. Another one is refused with a line that names both, until it adopts the lake.",
    "D3": "A wall clock that jumps misplaces no record silently, deletes nothing and ends no healthy run.",
    "D4": "A record that is sent again, however late, is stored once, also in another window.",
    "D5": "What is wanted and not served is a gap from the start, also where an exchange was never reached.",
    "D6": "A slow run never overwrites the table of a newer one.",
    "D7": "A damaged raw object is noticed when it is read. It is made again from the topic, or nothing is replaced.",
    "D8": "Windows are made as far back as the log reaches.",
    "D9": "A crash of everything heals itself: the next start makes all windows that the log still has.",
    "D10": "A window that failed is tried again for as long as the log has its records; it stays listed until then.",
    "D11": "What a command started ends with it; two of them never share one home.",
    "D12": "Settings that would stop windows or workers are refused or corrected at the start.",
    "D13": "Two workers never process one partition at the same time.",
    "D14": "Dagster's home and the logs have an owner that keeps them small.",
    "D15": "A fault on one frame costs that frame: it becomes a dead letter, and the rest is stored.",
    "D16": "A REST answer has a limit of bytes and of time, after decoding.",
    "D17": "One exchange's flood can cost its own connection, never its region.",
    "D18": "A peer that does not read is left within a deadline; a process always ends when it is told to.",
    "D19": "Text of an exchange is shown as text, never rendered.",
    "D21": "Kafka is reached with TLS and SASL; no password is printed.",
    "D22": "S3 is reached with a private CA, a region and a session token; an error names its real cause.",
    "D23": "Exchanges are reached through a proxy and with a private CA, over sockets and REST alike.",
    "D24": "A wrong setting stops the start with one line that names it.",
    "D25": "A damaged or foreign file or record gives one line that names it and the remedy; the rest goes on.",
    "D26": "Dagster's UI answers only to the names that it was started for.",
    "D27": "What is installed is pinned by hash; a change of any setting, also of a secret, restarts the long runs.",
    "D28": "Odd values of locks, cursors, clocks and headers are answered sensibly.",
    # What bad weather at the exchanges may not reach.
    "R1": "A value that decodes fits its column.",
    "R2": "A refusal for the moment is asked for again, one for good is named, one of the connection replaces it.",
    "R3": "A gap ends with the pair's own data.",
    "R4": "A known loss costs a book its trust where the exchange cannot prove it.",
    "R5": "Stored volume is traded volume, whichever transport told of a trade.",
    "R6": "A market without a last price is no error.",
    "R7": "One odd market costs one market; two markets are never confused.",
    "R8": "The bounds of plausibility let through what markets really have.",
    "R9": "A rate limit is a ban however it is told: nothing is asked during it, and afterwards the past is fetched.",
    "R10": "A quiet market is not a dead connection.",
    "R11": "Old greetings never feed the clock's lag.",
    "R12": "An empty REST answer fills a gap only where it covers the gap.",
    "R13": "Column `proof` tells the truth.",
    "R14": "Two different trades under one id are both stored.",
}

NOT_BUILT = (
    "The feed for many clients and its limits: slow clients, memory a client, snapshots, shutdown.",
    "Leaders and followers on several machines: election, fencing, hand-over.",
    "The control API: keys, active pairs in Redis, status, fallback between services.",
    "Memory of a window's job that does not grow with the window.",
)
"""What is planned and not promised yet."""


class Proof(NamedTuple):
    """A test function that names promises or faults."""

    promises: tuple[str, ...]
    file: Path
    name: str
    is_long: bool


def proofs(folder: Path) -> Iterator[Proof]:
    """Yield the tests of a tree that name promises, without importing them."""
    for file in sorted(folder.rglob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and (found := re.match(r"test_((?:[A-Z]\d+_)+)", node.name)):
                is_long = any(ast.unparse(each) == "pytest.mark.long" for each in node.decorator_list)
                yield Proof(tuple(found[1].strip("_").split("_")), file, node.name, is_long)


def page(found: Iterable[Proof], measured: Sequence[Figure], root: Path = ROOT) -> str:
    """Return the page."""
    of: dict[str, list[Proof]] = defaultdict(list)
    for test in found:
        for promise in test.promises:
            of[promise].append(test)
    newest = max(measured, key=lambda each: each["time"], default=None)
    lines = ["# Guarantees", "", "Generated by `make guarantees` from the tests and what they measured last.", ""]
    if newest is not None:
        versions = ", ".join(f"{name} {value}" for name, value in newest["versions"].items())
        lines += [f"Last measured {newest['time']} UTC with {versions}.", ""]
    for promise, sentence in PROMISES.items():
        lines += [f"## {promise}", "", sentence, ""]
        figures_here = sorted((each for each in measured if each["promise"] == promise), key=lambda each: each["name"])
        lines += [
            f"- **{each['value']:,.10g} {each['unit']}** {each['name']} ({each['time'][:10]})" for each in figures_here
        ]
        lines += [_line(test, root) for test in of[promise]] or ["- no test has its name"]
        lines.append("")
    lines += ["## Not promised yet", "", *(f"- {sentence}" for sentence in NOT_BUILT), ""]
    return "\n".join(lines)


def told(text: str) -> list[Figure]:
    """Return the figures that a page tells of."""
    head = re.search(r"^Last measured (\S+ \S+) UTC with (.+)\.$", text, re.MULTILINE)
    if head is None:
        return []
    versions = dict(re.findall(r"(\S[^,]*) ([^ ,]+)(?:, |$)", head[2]))
    found = []
    for section in text.split("\n## ")[1:]:
        for value, unit, name, day in re.findall(r"^- \*\*(\S+) (.+?)\*\* (.+) \((\S+)\)$", section, re.MULTILINE):
            time = head[1] if head[1].startswith(day) else day
            number = float(value.replace(",", ""))
            found.append(
                Figure(
                    promise=section.split(maxsplit=1)[0],
                    name=name,
                    value=number,
                    unit=unit,
                    time=time,
                    versions=versions,
                )
            )
    return found


def _line(test: Proof, root: Path) -> str:
    sentence = re.sub(r"^test_(?:[A-Z]\d+_)+", "", test.name).replace("_", " ")
    faults = [each for each in test.promises if each not in PROMISES]
    notes = [*faults, *(["long"] if test.is_long else [])]
    return f"- [{sentence}](../{test.file.relative_to(root)})" + (f" ({', '.join(notes)})" if notes else "")


def main() -> None:
    """Write the page."""
    former = told(PAGE.read_text(encoding="utf-8"))
    measured = {(each["promise"], each["name"]): each for each in [*former, *figures()]}
    PAGE.write_text(page(proofs(ROOT / "tests"), [*measured.values()]), encoding="utf-8")


if __name__ == "__main__":
    main()
