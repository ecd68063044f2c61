"""Make text of exchanges safe to show: in a line of a terminal or a log, and in Markdown."""

import re

_MARKUP = re.compile(r"[&<>\[\]`*_~|\\]|^[-+=#]|^\d+(?=[.)])")  # the last two begin a block only at the start of a line
_LINK_STARTS = re.compile(r"(?<=:)(?=//)|(?<=www)(?=\.)|(?<=@)", re.IGNORECASE)
_ZERO_WIDTH_SPACE = "\u200b"  # a space without width; a text that it splits is not taken for an address


def one_line(text: str) -> str:
    """Return a text in one line of printable characters. All others are written as Python escapes them."""
    return "".join(
        character if character.isprintable() else repr(character)[1:-1] for character in " ".join(text.split())
    )


def markdown(text: str) -> str:
    """Return Markdown that shows a text as it is, in one line, also in a cell of a table.

    Markup becomes character references, which CommonMark never takes for structure. GitHub's dialect still makes links
    of bare addresses, so a space without width splits them.
    """
    return _MARKUP.sub(_reference, _LINK_STARTS.sub(_ZERO_WIDTH_SPACE, one_line(text)))


def _reference(match: re.Match[str]) -> str:
    return "".join(f"&#{ord(character)};" for character in match[0])
