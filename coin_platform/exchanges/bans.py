"""Read the length of a ban from the text of an exchange's answer."""

import re

import msgspec

from coin_platform.exchanges.parsing import PARSE_ERRORS

LONGEST_BAN_SECONDS = 30 * 86_400.0  # the longest documented ban is 3 days: more than 30 is a mistake or an attack
_TEXT_CHARACTERS = 4096  # only the begin of an answer is searched: refusals are short


def plausible_ban(seconds: float) -> float | None:
    """Return the length of a ban, or None where it is negative or above `LONGEST_BAN_SECONDS`."""
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
    """Return the longest duration in a JSON answer or a text, like `1 minute 30 seconds` or `30초`, in seconds.

    Return None where the text has no duration, or no plausible one.
    """
    try:
        text = str(msgspec.json.decode(body))  # JSON may escape Korean letters
    except PARSE_ERRORS:
        text = body.decode(errors="replace")
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text[:_TEXT_CHARACTERS])
    totals = [
        sum(float(amount) * _UNIT_SECONDS[unit.lower()] for amount, unit in _ONE_LENGTH.findall(lengths[0]))
        for lengths in _LENGTHS.finditer(text)
    ]
    return max((total for total in totals if total and plausible_ban(total) is not None), default=None)
