"""What is judged of a machine: packages, disks, open files, ports and the clock. No test looks at this machine."""

import socket
from pathlib import Path

import pytest

from coin_platform.doctor import machine
from coin_platform.doctor.checks import Diagnosis, State
from coin_platform.doctor.machine import Disk, clock_findings, disk_findings, open_file_findings, port_findings
from coin_platform.model import SECOND
from coin_platform.settings import Mode, Settings

GIB = 1 << 30


def only(findings: list[Diagnosis], state: State) -> Diagnosis:
    """Return the only finding, which has this state. What is not fine names a remedy."""
    [finding] = findings
    assert finding.state is state
    assert bool(finding.remedy) is (state is not State.FINE)
    return finding


def test_packages_are_compared_with_what_is_required() -> None:
    installed = {"polars": "2.1.3", "kafka-python": "3.1.0"}.get
    wanted = ["polars<2.2,>=2.1", "kafka-python<3.1,>=3.0.12", "crc32c", 'x; extra == "dev"']
    text = only(machine.package_findings(wanted, installed, (3, 11)), State.WRONG).text
    assert text == "kafka-python is 3.1.0, not <3.1,>=3.0.12; crc32c is not installed"
    assert "3 packages" not in only(machine.package_findings(wanted[:1], installed, (3, 11)), State.FINE).text
    assert "Python is 3.10" in only(machine.package_findings([], installed, (3, 10)), State.WRONG).text


def test_the_packages_of_the_tests_are_right() -> None:
    only(machine.packages(), State.FINE)


@pytest.mark.parametrize(("soft", "state"), [(256, State.WRONG), (1024, State.FINE), (-1, State.FINE)])
def test_a_low_limit_of_open_files_is_wrong(soft: int, state: State) -> None:
    only(open_file_findings(soft, 4096), state)
    if state is State.WRONG:
        assert "the hard limit 512" in only(open_file_findings(soft, 512), state).remedy


def test_a_disk_needs_room_for_what_the_journal_may_become() -> None:
    place = [Path("/a")]
    assert "1.5 GiB free" in only(disk_findings(Disk(place, 3 * GIB // 2)), State.FINE).text
    assert "may still grow by 20.0 GiB" in only(disk_findings(Disk(place, 5 * GIB, 20 * GIB)), State.WARNING).text
    only(disk_findings(Disk(place, GIB // 2)), State.WRONG)
    assert "cannot write" in only(disk_findings(Disk(place, 5 * GIB, is_writable=False)), State.WRONG).text


def test_the_disks_of_a_home_that_does_not_exist_yet_are_looked_at_and_not_made(tmp_path: Path) -> None:
    home = tmp_path / "not" / "yet"
    findings = machine.disks(Settings(home=home))
    assert all(str(home) in finding.text or "DAGSTER" in finding.text for finding in findings[:1])
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_taken_is_wrong_unless_we_hold_it() -> None:
    wanted = [("Dagster's UI", 3000), ("COIN_SIMULATOR_PORT", 8700)]
    assert only(port_findings(wanted, {}), State.FINE).text == "3000, 8700 free"
    ours = {8700: "process 7 (python -m coin_platform simulate)"}
    assert only(port_findings(wanted, ours), State.FINE).text == "3000 free; 8700 used by this program"
    taken = only(port_findings(wanted, {8700: "process 7 (nginx)"}), State.WRONG)
    assert "taken by process 7 (nginx)" in taken.text and "COIN_SIMULATOR_PORT" in taken.remedy
    assert "another process" in only(port_findings(wanted, {3000: ""}), State.WARNING).text


def test_two_purposes_of_one_port_are_wrong() -> None:
    settings = Settings(exchanges_mode=Mode.SIMULATED, simulator_port=9101, metrics_port=9100)
    findings = port_findings(list(machine.wanted_ports(settings)), {})
    assert {finding.text for finding in findings} == {
        "COIN_SIMULATOR_PORT is 9101, and so is COIN_METRICS_PORT of asia",
        "COIN_METRICS_PORT of asia is 9101, and so is COIN_SIMULATOR_PORT",
    }


def test_a_process_that_listens_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not machine.is_free(port)
        [finding] = machine.ports(Settings(exchanges_mode=Mode.SIMULATED, simulator_port=port))[:1]
        assert str(port) in finding.text


def test_the_clock_is_judged_by_the_median_of_other_clocks() -> None:
    assert "0.3 s ahead of 1 servers" in only(clock_findings({"S3": 0.3}), State.FINE).text
    assert "behind" in only(clock_findings({"a": -5.0, "b": -4.0, "c": 100.0}), State.WRONG).text
    only(clock_findings({"a": 500.0, "b": 0.1, "c": -0.1}), State.FINE)
    only(clock_findings({}), State.WARNING)


def test_a_sample_is_measured_from_the_middle_of_the_question() -> None:
    samples = machine.ClockSamples()
    samples.note("a", "Thu, 01 Jan 1970 00:01:40 GMT", 103 * SECOND, 104 * SECOND)
    samples.note("b", "not a date", 0, 0)
    samples.note("c", None, 0, 0)
    assert samples.ahead == {"a": 3.0}
