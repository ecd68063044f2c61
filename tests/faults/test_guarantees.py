"""The page of guarantees: every promise has a test of its name, and the newest figure counts."""

from pathlib import Path

import pytest

from tests.kit.figures import ROOT, figure, figures, versions
from tools.guarantees import PAGE, PROMISES, figures_of_page, page, proofs
from tools.sabotage import SABOTAGES, Sabotage


def test_the_newest_figure_of_a_name_replaces_the_former(tmp_path: Path) -> None:
    file = tmp_path / "reports" / "figures.json"
    figure("K1", "first acknowledgement", 2.5, "s", file=file)
    figure("K1", "memory", 80, "MiB", file=file)
    figure("K1", "first acknowledgement", 0.5, "s", file=file)
    assert [(known["name"], known["value"], known["unit"]) for known in figures(file)] == [
        ("memory", 80, "MiB"),
        ("first acknowledgement", 0.5, "s"),
    ]
    assert figures(file)[0]["versions"] == versions()
    assert versions()["Apache Kafka"].split(".")[0] == "4"


def test_the_page_has_each_promise_with_its_figures_and_tests(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_a.py").write_text(
        "@pytest.mark.long\ndef test_K1_A4_an_outage_ends(): ...\n"
        "class TestIt:\n    def test_S1_nothing_is_lost(self): ...\n"
        "def test_other(): ...\n"
    )
    figure("K1", "first acknowledgement", 1234.5, "s", file=tmp_path / "figures.json")
    text = page(proofs(tmp_path / "tests"), figures(tmp_path / "figures.json"), tmp_path)
    sections = dict(part.split("\n\n", 1) for part in text.split("## ")[1:])
    assert list(sections) == [*PROMISES, "Not promised yet"]
    assert "**1,234.5 s** first acknowledgement (" in sections["K1"]
    assert "- [an outage ends](../tests/test_a.py) (A4, long)\n" in sections["K1"]
    assert "- [nothing is lost](../tests/test_a.py)\n" in sections["S1"]
    assert "- no test has its name\n" in sections["F7"]
    assert text.count("test_a.py") == 2
    assert f"Apache Kafka {versions()['Apache Kafka']}" in text


def test_what_was_measured_elsewhere_stays_on_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    measured = figures_of_page(text)
    assert len(measured) > 20
    assert {known["promise"] for known in measured} <= PROMISES.keys()
    assert page(proofs(ROOT / "tests"), measured) == text, "`make guarantees` is due"
    assert figures_of_page("# Guarantees\n") == []


def test_every_promise_has_a_test_of_its_name() -> None:
    named = {promise for proof in proofs(ROOT / "tests") for promise in proof.promises}
    assert PROMISES.keys() - named == set()


@pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda sabotage: f"{sabotage.promise} {sabotage.mechanism}")
def test_each_mechanism_that_is_to_be_sabotaged_stands_in_its_file_once(sabotage: Sabotage) -> None:
    assert (ROOT / sabotage.file).read_text(encoding="utf-8").count(sabotage.old) == 1
    assert all((ROOT / test).exists() for test in sabotage.tests)
