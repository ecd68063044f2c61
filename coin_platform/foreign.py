"""Text of exchanges, made safe to show: in a line of a terminal or a log, and in Markdown."""

import re

_MARKUP = re.compile(r"[&<>\[\]`*_~|\\]|^[-+=#]|^\d+(?=[.)])")  # what begins a block does so only at the begin
_LINKS = re.compile(r"(?<=:)(?=//)|(?<=www)(?=\.)|(?<=@)", re.IGNORECASE)
_NOWHERE = "\u200b"  # a space without width: what it parts is no address


def one_line(text: str) -> str:
    """Return a text in one line of printable characters; what is not printable is written as in Python."""
    return "".join(mark if mark.isprintable() else repr(mark)[1:-1] for mark in " ".join(text.split()))


def markdown(text: str) -> str:
    """Return Markdown that shows a text as it is, in one line, also in a cell of a table or at the begin of a line.

    Markup becomes character references, which CommonMark never takes for structure. GitHub's dialect makes links of
    bare addresses even so; a space without width parts those.
    """
    return _MARKUP.sub(_reference, _LINKS.sub(_NOWHERE, one_line(text)))


def _reference(found: re.Match[str]) -> str:
    return "".join(f"&#{ord(mark)};" for mark in found[0])
