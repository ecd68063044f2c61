"""What an exchange writes is shown as it is, by whatever renders Markdown or a terminal."""

from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from coin_platform.foreign import markdown, one_line
from coin_platform.tables import quality, schema
from coin_platform.tables.gap_table import listing

HOSTILE = [
    "![x](http://evil.test/x.png)",
    "<img src=http://evil.test/x.png>",
    "<script>alert(1)</script>",
    "[a](javascript:alert(1))",
    "`code` and ``more``",
    "a | b || c",
    "first\nsecond\r\n\n# heading\n- item",
    "*bold* _it_ ~~gone~~ **x**",
    "http://evil.test www.evil.test a@evil.test <http://evil.test>",
    "[x]: http://evil.test",
    "\\![x](http://evil.test) \\`x\\`",
    "&lt;b&gt; &#60;i&#62; &amp;",
    "- item",
    "1. item",
    "12) item",
    "# heading",
    "> quote",
    "---",
    "===",
    "+ item",
    "```\ncode",
    "    indented",
    "a\x00b\x1b[31mred\u202egnp\u2028next\u200bx",
    "",
]
RENDERER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
PLACES = {"line": "{}", "item": "- {}", "after a word": "- 3 x DecodeError: {}", "cell": "|a|b|\n|-|-|\n|{}|end|"}
STRUCTURE = {"paragraph", "bullet_list", "list_item", "table", "thead", "tbody", "tr", "th", "td", "inline"}


def shown(tokens: list[Token]) -> str:
    """Return the text of an inline part that has nothing but text."""
    assert {token.type for token in tokens} <= {"text"}, [token.type for token in tokens]
    return "".join(token.content for token in tokens).replace("\u200b", "")


def rendered(place: str, text: str) -> list[str]:
    """Return the texts of a document in which a foreign text is; it has no structure but its own."""
    tokens = RENDERER.parse(PLACES[place].format(markdown(text)))
    assert {token.type.removesuffix("_open").removesuffix("_close") for token in tokens} <= STRUCTURE
    return [shown(token.children or []) for token in tokens if token.type == "inline"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("text", HOSTILE)
def test_D19_foreign_text_is_shown_as_it_is_and_never_as_markup(text: str, place: str) -> None:
    document = " ".join(rendered(place, text))
    assert one_line(text) in document or not one_line(text)
    if place == "cell":
        assert document.split()[-1] == "end"
    assert "\n" not in markdown(text)


@given(st.text(alphabet=st.sampled_from("ab1 \n\t|`*_[]()!<>&#;:/\\.-+=~@\u2028\x00"), max_size=40))
def test_D19_no_text_whatever_becomes_markup(text: str) -> None:
    for place in PLACES:
        assert one_line(text) in " ".join(rendered(place, text)) or not one_line(text)


@pytest.mark.parametrize(
    "text", ["http://evil.test", "HTTPS://evil.test", "www.evil.test", "WWW.evil.test", "a@b.test"]
)
def test_D19_a_bare_address_is_no_link(text: str) -> None:
    assert text not in markdown(text) and markdown(text).replace("\u200b", "") == text


def test_D19_ordinary_reasons_and_pairs_are_left_alone() -> None:
    for text in ("BTC-KRW", "1INCH-USDT", "silent for 15 s (no pong)", "price: -1 is not positive", "HTTP 503"):
        assert markdown(text) == one_line(text) == text


@pytest.mark.parametrize("text", HOSTILE[:-1])
def test_D19_the_list_of_gaps_and_the_sentences_of_checks_show_foreign_text(text: str) -> None:
    time = datetime(2026, 11, 1, tzinfo=UTC)
    row = ("ticker", text, time, None, "disconnected", text, None, time, "t", 0, 0)
    gaps = pl.DataFrame([row], schema=schema.GAP, orient="row")
    tokens = RENDERER.parse(listing(gaps))
    cells = [shown(token.children or []) for token in tokens if token.type == "inline"]
    assert len(cells) == 14 and (cells[8], cells[13]) == (one_line(text), one_line(text))
    for finding in (quality.no_gap(gaps), quality.arrived([(text, text)])):
        [inline] = [token for token in RENDERER.parse(finding.sentence) if token.type == "inline"]
        assert one_line(text) in shown(inline.children or [])
