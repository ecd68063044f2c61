"""Every error this package raises on purpose.

CoinPlatformError
    SettingsError         a setting is wrong                             -> stop with one line
    DecodeError           a frame is not what its exchange documents     -> dead letter
        BadTime           its time cannot be: is our clock right?
    UnknownPair           a pair is not spelled BASE-QUOTE               -> refuse that pair
    BookError             one pair's book can no longer be trusted       -> resync that pair
        SequenceGap
        ChecksumMismatch
    DeliveryError         a record could not be stored                   -> stop with one line, the run is restarted
        PartitionBusy     another process writes this partition
    OverBudget            a peer brings more than the disk takes         -> its connection ends, with a gap
    NotTakenOver          the collector before this one goes on          -> stop with one line
    BrokerUnreachable     the broker does not answer                     -> try again later
    RetentionLoss         wanted offsets were already trimmed            -> the window fails and says so
    LakeError             the lake holds something else than we expect   -> stop with one line
        Conflict          someone else committed first                   -> re-read, then retry
        Smaller           a stored window would lose records             -> it is kept
        NotOwner          the lake belongs to another deployment         -> stop with one line
        Damaged           an object is not what was stored               -> made again, or one line
    WindowOpen            a window was asked for before it closed        -> wait
"""

from typing import ClassVar


class CoinPlatformError(Exception):
    """Base of all errors this package raises on purpose; its text is one line that names the remedy."""


class SettingsError(CoinPlatformError):
    """A setting is unknown or wrong: the start stops with this line."""


class DecodeError(CoinPlatformError):
    """A frame is not what its exchange documents: it becomes a dead letter."""


class BadTime(DecodeError):
    """A frame's exchange time (UTC, µs) cannot be: the exchange's clock is wrong, or ours."""

    def __init__(self, text: str, exchange_time: int) -> None:
        super().__init__(text)
        self.exchange_time = exchange_time


class UnknownPair(CoinPlatformError):
    """A text is not a pair: that pair is refused, the others go on."""


class BookError(CoinPlatformError):
    """One pair's book can no longer be trusted: that pair is resynced."""

    cause: ClassVar[str] = "sequence"  # of the gap that begins, as `model.Cause` spells it


class SequenceGap(BookError):
    """An update begins later than the book ends."""


class ChecksumMismatch(BookError):
    """The book does not have the checksum its exchange sent."""

    cause = "checksum"


class DeliveryError(CoinPlatformError):
    """A record could not be stored: the process stops, its watchdog starts a new one."""


class PartitionBusy(DeliveryError):
    """Another process already writes this partition."""


class OverBudget(CoinPlatformError):
    """A peer brings more bytes than the disk takes: that connection ends, with a gap, and all others go on."""


class NotTakenOver(CoinPlatformError):
    """A collector could not take over from the one before it, which goes on."""


class BrokerUnreachable(CoinPlatformError):
    """The broker did not answer in time: what was asked can be asked again."""


class RetentionLoss(CoinPlatformError):
    """The offsets that were asked for have been trimmed."""


class LakeError(CoinPlatformError):
    """The lake holds something else than expected."""


class Conflict(LakeError):
    """Another writer committed this object first."""


class Smaller(LakeError):
    """A window that is stored would be replaced by fewer records: it is kept."""


class NotOwner(LakeError):
    """Another deployment owns the lake, and only that one may write it."""


class Damaged(LakeError):
    """An object of the lake cannot be read any more, or holds other values than were stored."""


class WindowOpen(CoinPlatformError):
    """A window was asked for before it closed."""


class RecordingError(CoinPlatformError):
    """A file is not a recording."""


class DemoError(CoinPlatformError):
    """The demo's numbers do not add up, or it did not come to its end."""


class UnknownName(CoinPlatformError):
    """There is no such thing; the line lists those there are."""


class NoAnswer(CoinPlatformError):
    """An exchange did not say what it was asked for, and why."""


class BadArgument(CoinPlatformError):
    """A time on the command line cannot be used; the line says what to write."""
