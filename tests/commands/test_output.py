"""Rows are printed as a table for people and as JSON for programs, and text from outside forges nothing."""

import json

import pytest

from coin_platform.commands.output import Column, print_json, print_rows

COLUMNS = (Column("name"), Column("lost_rows", is_number=True), Column("part", write=lambda part: f"part {part}"))
ROWS = ({"name": "[red]a\x1b[31m\nb", "lost_rows": 1234567, "part": 1}, {"name": None, "lost_rows": 2, "part": 2})


def test_a_table_shows_cells_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(COLUMNS, ROWS, as_json=False, nothing="none")
    shown = capsys.readouterr().out
    assert "lost rows" in shown and "[red]a\\x1b[31m" in shown and "\x1b" not in shown
    assert "1,234,567" in shown and "part 2" in shown


def test_json_has_every_value_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(COLUMNS, ROWS, as_json=True, nothing="none")
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == list(ROWS)
    print_json([{"name": "½"}])
    assert capsys.readouterr().out == '{"name": "½"}\n'


def test_no_rows_are_said_in_words_but_never_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(COLUMNS, [], as_json=False, nothing="there are [none]")
    assert capsys.readouterr().out == "there are [none]\n"
    print_rows(COLUMNS, [], as_json=True, nothing="none")
    assert capsys.readouterr().out == ""


def test_a_table_in_a_pipe_is_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(COLUMNS, [{"name": "x" * 300, "lost_rows": 1, "part": 1}], as_json=False, nothing="")
    assert "x" * 300 in capsys.readouterr().out
