"""`make guarantees`: write `docs/guarantees.md`, with each promise, the tests that prove it, and their figures.

Tests are found by their names, `test_K1_…`. Figures are those of `reports/figures.json`. A figure that was not measured
on this machine stays as the page has it.
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
    "S1": "Every frame written to the spool is in the stored tables exactly once, through `kill -9` of any process and "
    "outages of Kafka and S3 of 10 minutes.",
    "S2": "A second run of a closed window with unchanged input gives an object with the same bytes.",
    "S3": "A reader never sees a half-written window.",
    "S4": "If two runs of a window run at the same time, exactly one commits. No update is lost.",
    "S5": "A late frame is in the window of its append time. `scan` over its received time finds it.",
    "S6": "Per window, frames in = rows out + dead letters + declared duplicates + declared non-data.",
    "S7": "Every frame that cannot be decoded is a dead letter with its identity and bytes. It delays its partition by "
    "less than 1 s, and decoding it again makes no duplicates.",
    "S8": "A loss that cannot be prevented is a row of table `gap`, with bounds within 1 s.",
    "K1": "Without a broker for 10 minutes at 5,000 frames/s of 500 B, sockets are read on, and memory grows by "
    "256 MiB at most. Then the first acknowledgement comes within 3 s, and the backlog drains at twice the live rate.",
    "K2": "`kill -9` of the collector loses only frames read in the last 50 ms, a power cut those of the last 200 ms.",
    "K3": "A producer in a fatal state is replaced within 5 s. The new producer sends again from the spool.",
    "K4": "A consumer that does not move for 60 s while its partition grows is rebuilt, and the log says so.",
    "F1": "A lost or wrong book message is noticed at the next message, on exchanges that can prove it.",
    "F2": "A resync concerns one pair. A thousand bad updates a second cause one resync.",
    "F3": "A silent open connection is replaced within 15 s if the exchange sends heartbeats, otherwise within 40 s.",
    "F4": "Reconnects keep to half of the published limits: a server that closes at once for 10 minutes sees 26 at "
    "most. Bans are obeyed to the second.",
    "F5": "A planned rotation leaves no gap and no duplicate.",
    "F6": "A jump of the wall clock causes no reconnect and misplaces no window.",
    "F7": "No bytes from an exchange end the process, block it for 50 ms or cost 64 MiB.",
    "C1": "Without a key nothing is changed and no configuration is shown. A server that other machines reach does not "
    "start without a key of 32 characters.",
    "C2": "No request makes the control API fail, and no answer shows its code.",
    "C3": "A secret of the settings is in no line of the log, also not in an error or a line of a library, in no "
    "answer and no metric, in no output of a command, and in nothing that Dagster stores of a run.",
    "C4": "A store of the active pairs that is away, empty, read-only, full, slow or answers nonsense unsubscribes no "
    "pair and holds up no frame. The last good set stays in force, and the health says since when. A change sends only "
    "the difference.",
    "C5": "`GET /ws/info` and `GET /api/ws/infra-health` tell where each server of the feed gets its records from, "
    "within 2 s of a change, and why it does not. The server moves between Kafka, Redis and this machine after "
    "probes only.",
    "L1": "When the collector of a region ends, the one that stands by on another machine begins within 1 s. After a "
    "crash or a freeze it begins 2 s after the session with ZooKeeper at the latest.",
    "L2": "A leader that is cut off from ZooKeeper sends nothing more 1 s after it notices, and closes its connections "
    "before another one may lead.",
    "L3": "A leader that was frozen for three sessions and goes on reaches no table and no client with what it reads "
    "then.",
    "L4": "Two collectors of one region at once give the rows of one.",
    "W2": "A client of the feed that does not read costs the others nothing. It misses bundles, and is cut once it has "
    "had no room for 5 s.",
    "W4": "What breaks the WebSocket protocol ends its own connection only. A large message is refused before it is "
    "read.",
    "W5": "A client of the feed gets every record once, in the snapshot or in one bundle, also when the server goes on "
    "from another source. A client that was skipped sees it in `seq`, and gets a snapshot.",
    "W6": "A server of the feed that ends tells each client another moment to come back.",
    # found by attacks on the platform
    "D1": "A stored window never shrinks, unless an option asks for it. A log that began anew is recognised by its "
    "identity. Then the window has a gap and a failed check.",
    "D2": "One deployment writes a lake. Another deployment is refused with a line that names both, until it adopts "
    "the lake.",
    "D3": "A jump of the wall clock misplaces no record silently, deletes nothing and ends no healthy run.",
    "D4": "A record that is sent again is stored once, however late it comes, also in another window.",
    "D5": "A wanted pair that is not served is a gap from the start, also if the exchange was never reached.",
    "D6": "A slow run never overwrites the table of a newer one.",
    "D7": "A damaged raw object is noticed when it is read. It is made again from the topic, or nothing is replaced.",
    "D8": "Windows are made as far back as the log reaches.",
    "D9": "After a crash of everything, the next start makes all windows that the log still has.",
    "D10": "A failed window is tried again as long as the log has its records. It is listed until it is made.",
    "D11": "All processes that a command started end with it. Two such commands never share one home.",
    "D12": "Settings that would stop windows or workers are refused or corrected at the start.",
    "D13": "Two workers never process one partition at the same time.",
    "D14": "Dagster's home and the logs stay small: a job and a limit on their size keep them so.",
    "D15": "A frame that causes an error becomes a dead letter. All other frames are stored.",
    "D16": "A REST answer has a limit of bytes after unpacking, and a limit of time.",
    "D17": "A flood from one exchange costs at most its own connection, never its region.",
    "D18": "A peer that does not read, or that sends a request byte by byte, is cut off within a deadline. A process "
    "always ends when it is told to.",
    "D19": "Text from an exchange is shown as text, never rendered.",
    "D21": "Kafka is reached with TLS and SASL. No password is printed.",
    "D22": "S3 is reached with a private CA, a region and a session token. An error names its real cause.",
    "D23": "Exchanges are reached through a proxy and with a private CA, over sockets and REST alike.",
    "D24": "A wrong setting stops the start with one line that names it.",
    "D25": "A damaged or foreign file or record gives one line with its name and the remedy. All else goes on.",
    "D26": "Dagster's UI answers only requests for the host names it was started with.",
    "D27": "All packages are pinned by hash. A change of any setting, also of a secret, restarts the long runs.",
    "D28": "Odd values of locks, cursors, clocks and headers do no harm: each has a defined result.",
    # found by misbehaving exchanges
    "R1": "A value that decodes fits its column.",
    "R2": "A pair refused for the moment is asked for again. A pair refused for good is named. A refused connection is "
    "replaced.",
    "R3": "A gap ends with data of its pair.",
    "R4": "A known loss ends the trust in a book if the exchange sends nothing that proves it.",
    "R5": "The stored volume is the traded volume, whether trades came over a socket or over REST.",
    "R6": "A market without a last price is not an error.",
    "R7": "An odd market costs only that market. Two markets are never confused.",
    "R8": "The bounds of plausibility accept all values that markets really have.",
    "R9": "A rate limit is a ban, in whatever form it is sent. Nothing is requested during a ban. The past is fetched "
    "afterwards.",
    "R10": "A connection of quiet markets is not replaced.",
    "R11": "Old messages at the start of a connection do not change the measured lag of the clock.",
    "R12": "An empty REST answer fills a gap only if it covers the gap.",
    "R13": "Column `proof` names what would reveal a missing message.",
    "R14": "Two different trades with one id are both stored.",
    "R15": "A wanted pair that its exchange delists fails the check `listed` of that window, and one that is halted "
    "warns. Both are named.",
}

NOT_BUILT = (
    "Limits of the feed under load: sends a second, memory for each client, delays with thousands of clients.",
    "Fallback of the feed and the API between services; canary secrets in every message of the feed.",
    "Memory of a window's job that does not grow with the window.",
)
"""Planned, and not promised yet."""


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
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (
                match := re.match(r"test_((?:[A-Z]\d+_)+)", node.name)
            ):
                is_long = any(ast.unparse(decorator) == "pytest.mark.long" for decorator in node.decorator_list)
                yield Proof(tuple(match[1].strip("_").split("_")), file, node.name, is_long)


def page(tests: Iterable[Proof], measured: Sequence[Figure], root: Path = ROOT) -> str:
    """Return the page of all promises."""
    tests_of_promise: dict[str, list[Proof]] = defaultdict(list)
    for test in tests:
        for promise in test.promises:
            tests_of_promise[promise].append(test)
    newest = max(measured, key=lambda figure: figure["time"], default=None)
    lines = ["# Guarantees", "", "Generated by `make guarantees` from the tests and what they measured last.", ""]
    if newest is not None:
        versions = ", ".join(f"{name} {value}" for name, value in newest["versions"].items())
        lines += [f"Last measured {newest['time']} UTC with {versions}.", ""]
    for promise, sentence in PROMISES.items():
        lines += [f"## {promise}", "", sentence, ""]
        own = sorted((figure for figure in measured if figure["promise"] == promise), key=lambda figure: figure["name"])
        lines += [
            f"- **{figure['value']:,.10g} {figure['unit']}** {figure['name']} ({figure['time'][:10]})" for figure in own
        ]
        lines += [_line(test, root) for test in tests_of_promise[promise]] or ["- no test has its name"]
        lines.append("")
    lines += ["## Not promised yet", "", *(f"- {sentence}" for sentence in NOT_BUILT), ""]
    return "\n".join(lines)


def figures_of_page(text: str) -> list[Figure]:
    """Return the figures that a page shows."""
    head = re.search(r"^Last measured (\S+ \S+) UTC with (.+)\.$", text, re.MULTILINE)
    if head is None:
        return []
    versions = dict(re.findall(r"(\S[^,]*) ([^ ,]+)(?:, |$)", head[2]))
    page_figures = []
    for section in text.split("\n## ")[1:]:
        for value, unit, name, day in re.findall(r"^- \*\*(\S+) (.+?)\*\* (.+) \((\S+)\)$", section, re.MULTILINE):
            time = head[1] if head[1].startswith(day) else day
            number = float(value.replace(",", ""))
            page_figures.append(
                Figure(
                    promise=section.split(maxsplit=1)[0],
                    name=name,
                    value=number,
                    unit=unit,
                    time=time,
                    versions=versions,
                )
            )
    return page_figures


def _line(test: Proof, root: Path) -> str:
    sentence = re.sub(r"^test_(?:[A-Z]\d+_)+", "", test.name).replace("_", " ")
    faults = [name for name in test.promises if name not in PROMISES]
    notes = [*faults, *(["long"] if test.is_long else [])]
    return f"- [{sentence}](../{test.file.relative_to(root)})" + (f" ({', '.join(notes)})" if notes else "")


def main() -> None:
    """Write the page."""
    former = figures_of_page(PAGE.read_text(encoding="utf-8"))
    measured = {(figure["promise"], figure["name"]): figure for figure in [*former, *figures()]}
    PAGE.write_text(page(proofs(ROOT / "tests"), [*measured.values()]), encoding="utf-8")


if __name__ == "__main__":
    main()
