"""What this machine must have: packages, room on its disks, open files, ports, and the right time."""

import os
import resource
import shutil
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from email.utils import parsedate_to_datetime
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import NamedTuple

import psutil
from packaging.requirements import Requirement

from coin_platform import __version__
from coin_platform.demo.processes import UI_PORT
from coin_platform.doctor.checks import Diagnosis, State, fine, warning, wrong
from coin_platform.model import SECOND, Microseconds
from coin_platform.selection import collected_regions
from coin_platform.settings import PREFIX, Mode, Settings

LEAST_FREE_BYTES = 1 << 30  # with less, the journal is about to stop
LEAST_OPEN_FILES = 1024  # sockets of ten exchanges, and the journals of 120 partitions
CLOCK_WRONG_SECONDS = 2.0  # a Date header has whole seconds, and an answer takes time
_GIB = 1 << 30
_OURS = ("coin_platform", "dagster", "/coin")  # in the command of a process of ours


def packages() -> list[Diagnosis]:
    """Look at the version of Python and of every package that this program needs."""

    def installed(name: str) -> str | None:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            return None

    return package_findings(metadata.requires("coin-platform") or [], installed, sys.version_info[:2])


def package_findings(
    requirements: Iterable[str], installed: Callable[[str], str | None], python: tuple[int, ...]
) -> list[Diagnosis]:
    """Compare requirements with what is installed. Extras are left out."""
    wanted = [Requirement(text) for text in requirements if "extra" not in text]
    faults = []
    for requirement in wanted:
        version = installed(requirement.name)
        if version is None:
            faults.append(f"{requirement.name} is not installed")
        elif not requirement.specifier.contains(version, prereleases=True):
            faults.append(f"{requirement.name} is {version}, not {requirement.specifier}")
    if python < (3, 11):
        faults.append(f"Python is {'.'.join(map(str, python))}, not 3.11 or later")
    if faults:
        return wrong("; ".join(faults), "run `make .venv/.ready`, or install requirements.lock")
    return fine(f"coin_platform {__version__}, Python {'.'.join(map(str, python))}, {len(wanted)} packages as required")


def open_files() -> list[Diagnosis]:
    """Look at how many files and sockets a process may have open."""
    return open_file_findings(*resource.getrlimit(resource.RLIMIT_NOFILE))


def open_file_findings(soft: int, hard: int) -> list[Diagnosis]:
    """Judge the limits of open files. A negative limit is none."""
    if 0 <= soft < LEAST_OPEN_FILES:
        raised = "" if hard < 0 or hard >= LEAST_OPEN_FILES else f"; the hard limit {hard} must be raised, too"
        remedy = f"run `ulimit -n 4096` before the start, or write LimitNOFILE=4096 for systemd{raised}"
        return wrong(f"a process may open {soft} files; ten exchanges need {LEAST_OPEN_FILES}", remedy)
    return fine(f"a process may open {'any number of' if soft < 0 else soft} files")


class Disk(NamedTuple):
    """A disk with folders that this program writes."""

    folders: Sequence[Path]
    free_bytes: int
    budget_bytes: int = 0  # that settings allow this program to write beside what it has
    is_writable: bool = True


def disks(settings: Settings) -> list[Diagnosis]:
    """Look at the disks that are written: whether they can be written, and how much room they have."""
    return [finding for disk in _disks(settings) for finding in disk_findings(disk)]


def disk_findings(disk: Disk) -> list[Diagnosis]:
    """Judge one disk."""
    place = ", ".join(map(str, disk.folders))
    free = f"{disk.free_bytes / _GIB:.1f} GiB free"
    if not disk.is_writable:
        return wrong(f"{place}: this user cannot write there", "give it to this user, or set COIN_HOME")
    if disk.free_bytes < LEAST_FREE_BYTES:
        return wrong(f"{place}: {free}", "make room: frames are lost once the disk is full")
    if disk.free_bytes < disk.budget_bytes:
        budget = f"the journal may still grow by {disk.budget_bytes / _GIB:.1f} GiB"
        return warning(f"{place}: {free}, but {budget}", f"make room, or lower {PREFIX}JOURNAL_BYTES")
    return fine(f"{place}: {free}")


def _disks(settings: Settings) -> list[Disk]:
    is_kafka = settings.broker_url.startswith("kafka:")
    journal = settings.path(settings.journal_dir)
    folders = [journal, settings.home / "data"]
    if settings.lake_url.startswith("file:"):
        folders.append(settings.path(Path(settings.lake_url.removeprefix("file:"))))
    if home := os.environ.get("DAGSTER_HOME"):
        folders.append(Path(home))
    used = sum(file.stat().st_size for file in journal.rglob("*") if file.is_file()) if journal.exists() else 0
    budget = max(0, (settings.spool_bytes if is_kafka else settings.journal_bytes) - used)
    by_device: dict[tuple[int, bool], list[Path]] = {}
    for folder in dict.fromkeys(folders):
        there = _existing(folder)
        by_device.setdefault((there.stat().st_dev, os.access(there, os.W_OK | os.X_OK)), []).append(folder)
    return [
        Disk(group, shutil.disk_usage(_existing(group[0])).free, budget * (journal in group), is_writable)
        for (_, is_writable), group in by_device.items()
    ]


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def wanted_ports(settings: Settings) -> Iterator[tuple[str, int]]:
    """Yield the ports of 127.0.0.1 that this program listens on, each with what it is for."""
    yield "Dagster's UI", UI_PORT
    yield f"{PREFIX}SERVE_PORT", settings.serve_port
    if settings.exchanges_mode is Mode.SIMULATED:
        yield f"{PREFIX}SIMULATOR_PORT", settings.simulator_port
    if settings.metrics_port:
        for number, region in enumerate(collected_regions(settings)):
            yield f"{PREFIX}METRICS_PORT of {region}", settings.metrics_port + number


def ports(settings: Settings) -> list[Diagnosis]:
    """Look whether the ports are free, or ours."""
    wanted = list(wanted_ports(settings))
    return port_findings(wanted, {port: _holder(port) for _, port in wanted if not is_free(port)})


def port_findings(wanted: Sequence[tuple[str, int]], holders: dict[int, str]) -> list[Diagnosis]:
    """Judge ports. `holders` are the commands of the processes that hold ports; empty: not known."""
    findings: list[Diagnosis] = []
    for purpose, port in wanted:
        rivals = [other for other, other_port in wanted if other_port == port and other != purpose]
        holder = holders.get(port)
        if rivals:
            findings += wrong(f"{purpose} is {port}, and so is {rivals[0]}", "write another port")
        elif holder is not None and not any(word in holder for word in _OURS):
            text = f"port {port} of {purpose} is taken by {holder or 'another process'}"
            is_ui = port == UI_PORT
            if is_ui:
                findings += warning(text, "end that process, or use the port that `coin up` prints")
            else:
                findings += wrong(text, f"end that process, or set {purpose.split()[0]} to another port")
    if findings:
        return findings
    used = [str(port) for _, port in wanted if port in holders]
    free = [str(port) for _, port in wanted if port not in holders]
    texts = [f"{', '.join(free)} free"] * bool(free) + [f"{', '.join(used)} used by this program"] * bool(used)
    return fine("; ".join(texts))


def is_free(port: int) -> bool:
    """Return whether nothing listens on a port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _holder(port: int) -> str:
    """Return the process that listens on a port, as number and command; empty where it cannot be seen."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr[1:2] == (port,) and connection.pid:
                command = " ".join(psutil.Process(connection.pid).cmdline())
                return f"process {connection.pid} ({command[:80]})"
    except psutil.Error:
        pass  # processes of other users cannot be seen
    return ""


class ClockSamples:
    """How far this machine's clock is ahead of other clocks, in seconds, as the answers of other servers say."""

    def __init__(self) -> None:
        self.ahead: dict[str, float] = {}  # by the name of the server

    def note(self, name: str, date: str | None, asked: Microseconds, answered: Microseconds) -> None:
        """Take the Date header of an answer, and our time before and after it. Ignore a header that is no date.

        The header has whole seconds: the true time is half a second later on average.
        """
        try:
            moment = parsedate_to_datetime(date or "")
        except (ValueError, TypeError, OverflowError):
            return
        if moment.tzinfo:
            self.ahead[name] = (asked + answered) / 2 / SECOND - (moment.timestamp() + 0.5)


def clock_findings(ahead: dict[str, float]) -> list[Diagnosis]:
    """Judge our clock by the clocks of others. The median counts: one server may be wrong itself."""
    if not ahead:
        return warning("no server told the time, so the clock was not checked", "run it again once one is reached")
    seconds = median(ahead.values())
    text = (
        f"this machine's clock is {abs(seconds):.1f} s {'ahead of' if seconds > 0 else 'behind'} {len(ahead)} servers"
    )
    if abs(seconds) > CLOCK_WRONG_SECONDS:
        names = ", ".join(sorted(ahead))
        return wrong(f"{text} ({names})", "let NTP set the clock: `timedatectl set-ntp true`, or chrony")
    return [Diagnosis(State.FINE, text)]
