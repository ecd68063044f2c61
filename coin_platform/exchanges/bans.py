"""How long a ban lasts, as an exchange's answer says it."""

import re

import msgspec

from coin_platform.exchanges.parsing import PARSE_ERRORS

LONGEST_BAN_SECONDS = 30 * 86_400.0  # the longest documented ban is 3 days: a longer time is a mistake or an attack
_BAN_TEXT_BYTES = 4096  # of an answer, in which the length of a ban is looked for


def plausible_ban(seconds: float) -> float | None:
    """Return the length of a ban as it is, or None where no exchange means it: negative, or above the longest ban."""
    return seconds if 0.0 <= seconds <= LONGEST_BAN_SECONDS else None


_UNIT_SECONDS = {
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), 0.001),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds", "초"), 1.0),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes", "분"), 60.0),
    **dict.fromkeys(("h", "hour", "hours", "시간"), 3600.0),
    **dict.fromkeys(("d", "day", "days", "일"), 86_400.0),
}
_UNITS = "|".join(sorted(_UNIT_SECONDS, key=len, reverse=True))
_LENGTH = rf"(\d{{1,12}}(?:\.\d{{1,6}})?)[\s-]{{0,3}}({_UNITS})(?![a-z])"
_LENGTHS = re.compile(rf"{_LENGTH}(?:[\s,]{{0,3}}(?:and\s)?{_LENGTH})*", re.IGNORECASE)
_ONE_LENGTH = re.compile(_LENGTH, re.IGNORECASE)


def longest_duration_seconds(body: bytes) -> float | None:
    """Return the longest length of time that a JSON answer or a text names, like `1 minute 30 seconds` or `30초`.

    Return None where the text names none, or none that an exchange means.
    """
    try:
        text = str(msgspec.json.decode(body))  # Korean may be escaped
    except PARSE_ERRORS:
        text = body.decode(errors="replace")
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text[:_BAN_TEXT_BYTES])
    totals = [
        sum(float(amount) * _UNIT_SECONDS[unit.lower()] for amount, unit in _ONE_LENGTH.findall(lengths[0]))
        for lengths in _LENGTHS.finditer(text)
    ]
    return max((total for total in totals if total and plausible_ban(total) is not None), default=None)
