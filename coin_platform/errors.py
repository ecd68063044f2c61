"""Every error that this package raises on purpose, as a tree.

CoinPlatformError
    SettingsError         a setting is wrong                              -> stop with one line
    DecodeError           a frame is not what its exchange documents      -> dead letter
        BadTime           its exchange time cannot be right               -> dead letter; our clock may be wrong
    UnknownPair           a text is not a pair                            -> refuse that pair
    BookError             one pair's book can no longer be trusted        -> resync that pair
        SequenceGap       an update begins later than the book ends
        ChecksumMismatch  the book has another checksum than was sent
    DeliveryError         a record could not be stored                    -> stop with one line, the run is restarted
        PartitionBusy     another process writes this partition
    NotTaken              a frame is not stored                           -> end its connection, with a gap
        NotLeading        another machine may collect by now
        OverBudget        a peer sends more than the disk takes
    NotTakenOver          the collector before this one continues         -> stop with one line
    BrokerUnreachable     the broker does not answer                      -> try again later
    RetentionLoss         the offsets that were asked for were trimmed    -> the window fails and says so
    ClusterError          what the machines share cannot be read or written -> stop with one line, or go on as before
        VersionConflict   another process changed the value first         -> read again, then try again
        ZooKeeperUnreachable  it does not answer in time                  -> whoever leads steps down
        NodeMissing       a node of ZooKeeper does not exist              -> make it, or take a new place in the queue
        PairsUnreadable   a stored value is not a set of pairs            -> the last good set stays in force
    LakeError             the lake does not hold what was expected        -> stop with one line
        Conflict          another writer committed first                  -> read again, then try again
        Smaller           a stored window would lose records              -> keep the stored window
        NotOwner          the lake belongs to another deployment          -> stop with one line
        Damaged           an object is not as it was stored               -> make it again, or stop with one line
    WindowOpen            a window was asked for before it closed         -> wait
    RecordingError        a file is not a recording                       -> stop with one line
    DemoError             the demo's numbers do not add up                -> stop with one line
    UnknownName           the command line names something unknown        -> stop with one line
    NoAnswer              an exchange did not give what it was asked for  -> one line for that exchange
    BadArgument           the command line has a value of no use          -> stop with one line
    ApiError              the control API refuses, or cannot be asked     -> stop with one line
    FeedRefused           a client of the feed may not have what it asks  -> refuse that client
    ServerEnded           a process that serves ended by itself           -> stop with one line
"""

from typing import ClassVar


class CoinPlatformError(Exception):
    """The base of all errors that this package raises on purpose. Its text is one line that names the remedy."""


class SettingsError(CoinPlatformError):
    """A setting is unknown or wrong. The start ends with this line."""


class DecodeError(CoinPlatformError):
    """A frame is not what its exchange documents. It becomes a dead letter."""


class BadTime(DecodeError):
    """A frame's exchange time (UTC, µs) cannot be right: the exchange's clock is wrong, or ours is."""

    def __init__(self, text: str, exchange_time: int) -> None:
        super().__init__(text)
        self.exchange_time = exchange_time


class UnknownPair(CoinPlatformError):
    """A text is not a pair. That pair is refused, and all others go on."""


class BookError(CoinPlatformError):
    """One pair's book can no longer be trusted. That pair is resynced."""

    cause: ClassVar[str] = "sequence"  # of the gap that begins, as `model.Cause` spells it


class SequenceGap(BookError):
    """An update begins later than the book ends."""


class ChecksumMismatch(BookError):
    """The book does not have the checksum its exchange sent."""

    cause = "checksum"


class DeliveryError(CoinPlatformError):
    """A record could not be stored. The process ends, and its watchdog starts a new one."""


class PartitionBusy(DeliveryError):
    """Another process already writes this partition."""


class NotTaken(CoinPlatformError):
    """A frame is not stored. Its connection ends with a gap."""


class NotLeading(NotTaken):
    """This process does not lead any more, so another machine may collect by now."""


class OverBudget(NotTaken):
    """A peer sends more bytes than the disk takes. Its connection ends with a gap, and all others go on."""


class NotTakenOver(CoinPlatformError):
    """A collector could not take over from the one before it, which continues."""


class BrokerUnreachable(CoinPlatformError):
    """The broker did not answer in time. The same can be asked again."""


class RetentionLoss(CoinPlatformError):
    """The offsets that were asked for have been trimmed."""


class ClusterError(CoinPlatformError):
    """The store of a cluster cannot be read or written."""


class VersionConflict(ClusterError):
    """Another process changed this value first. `version` is the one that is stored now (0: none)."""

    def __init__(self, key: str, version: int) -> None:
        super().__init__(
            f"{key}: another change came first, and version {version} is stored now; read it and try again"
        )
        self.version = version


class ZooKeeperUnreachable(ClusterError):
    """ZooKeeper did not answer in time. What was asked for may have been done all the same."""


class NodeMissing(ClusterError):
    """A node of ZooKeeper does not exist, or does not exist any more."""


class PairsUnreadable(ClusterError):
    """A stored value is not a set of active pairs."""


class LakeError(CoinPlatformError):
    """The lake does not hold what was expected."""


class Conflict(LakeError):
    """Another writer committed this object first."""


class Smaller(LakeError):
    """A stored window would be replaced by fewer records. The stored one is kept."""


class NotOwner(LakeError):
    """Another deployment owns the lake, and only its owner may write it."""


class Damaged(LakeError):
    """An object of the lake cannot be read any more, or does not hold the values that were stored."""


class WindowOpen(CoinPlatformError):
    """A window was asked for before it closed."""


class RecordingError(CoinPlatformError):
    """A file is not a recording."""


class DemoError(CoinPlatformError):
    """The demo's numbers do not add up, or the demo did not reach its end."""


class UnknownName(CoinPlatformError):
    """The command line names something that does not exist. The error text lists the names that do."""


class NoAnswer(CoinPlatformError):
    """An exchange did not give what it was asked for. The error text says why."""


class BadArgument(CoinPlatformError):
    """A value on the command line cannot be used. The error text says what to write instead."""


class ApiError(CoinPlatformError):
    """The control API refused a request, or could not be asked."""


class FeedRefused(CoinPlatformError):
    """A client of the feed asked for something that does not exist, or may not have it. The text names the remedy."""


class ServerEnded(CoinPlatformError):
    """A process that serves ended by itself. The error text names its log."""
