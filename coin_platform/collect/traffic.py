"""What has come over a route, counted over all its connections."""

from dataclasses import dataclass

from coin_platform.model import Microseconds


@dataclass
class Traffic:
    """The counts of one feed. They only rise, whichever connection or poller brings the frames."""

    frames: int = 0
    bytes: int = 0
    undecodable: int = 0  # frames
    unasked: int = 0  # events of pairs that the connection does not carry, or no longer
    lost: int = 0  # books
    resyncs: int = 0  # requests for a book that had been asked for before on the same connection
    last_frame_time: Microseconds | None = None
