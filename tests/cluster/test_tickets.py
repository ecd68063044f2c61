"""The order of candidates follows from the names of their nodes alone."""

import msgspec
import pytest

from coin_platform.cluster.tickets import CandidateInfo, decode, is_first, prefix, queue

A, B, C, D = (letter * 32 for letter in "abcd")


def names(line: list[str]) -> str:
    """Return the candidates of a queue, in its order."""
    return "".join(ticket.token[0] for ticket in queue(line))


def test_the_lowest_number_leads_and_other_nodes_are_left_out() -> None:
    line = [f"{prefix(B)}0000000007", f"{prefix(A)}0000000005", "c-short-0000000001", "other", f"{prefix(C)}12"]
    assert names(line) == "ab"
    first, second = queue(line)
    assert is_first(first, queue(line)) and not is_first(second, queue(line))


def test_a_successor_inherits_the_place_before_all_others_who_wait() -> None:
    line = [f"{prefix(A)}0000000005", f"{prefix(B)}0000000007"]
    line.append(queue(line)[0].heir(C))
    assert names(line) == "acb"
    leader, heir, other = queue(line)
    assert is_first(leader, queue(line)) and is_first(heir, queue(line)) and not is_first(other, queue(line))
    line.append(heir.heir(D))
    assert names(line) == "acdb"
    assert names(line[1:]) == "cdb", "the leader has left"


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b'{"host":1,"process":2}'])
def test_what_another_version_wrote_is_nobody(data: bytes) -> None:
    assert decode(data) is None


def test_a_candidate_says_where_it_runs_and_with_which_epoch() -> None:
    info = CandidateInfo(host="seoul-1", process=12, epoch=5, since=7)
    assert decode(msgspec.json.encode(info)) == info
    assert str(info) == "process 12 of seoul-1"
