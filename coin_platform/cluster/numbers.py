"""The numbers of the status: what each means, and whether it only rises. Prometheus gets the same numbers."""

from typing import NamedTuple

GAPS_BY_CAUSE = "gaps_"  # begin of a number's name; the rest is a cause, which is a label in Prometheus


class Number(NamedTuple):
    """One number of a component."""

    text: str
    is_counter: bool = False  # it only rises while its process lives


NUMBERS = {
    # a collector
    "feeds": Number("feeds of the collector"),
    "feeds_live": Number("feeds that are live, or have no pairs"),
    "unwritten_bytes": Number("bytes that wait for the disk"),
    "spool_records": Number("records on this disk that Kafka has not taken"),
    "spool_bytes": Number("bytes on this disk that these records take"),
    "given_up_records": Number("records given up before Kafka took them", is_counter=True),
    # a collector and its feeds
    "frames": Number("frames that came", is_counter=True),
    "frames_per_second": Number("frames a second, over the last 10 s"),
    # a feed
    "age_seconds": Number("seconds since the last frame"),
    "frame_bytes": Number("bytes of the frames that came", is_counter=True),
    "undecodable_frames": Number("frames that could not be decoded", is_counter=True),
    "unasked_events": Number("events of pairs that their connection did not carry", is_counter=True),
    "pairs": Number("pairs that are wanted"),
    "pairs_confirmed": Number("pairs that the exchange serves"),
    "pairs_unconfirmed": Number("pairs without an answer yet"),
    "pairs_refused": Number("pairs that the exchange refuses"),
    "pairs_stale": Number("pairs without data for a minute"),
    "pairs_not_traded": Number("wanted pairs that are halted, delisted or not listed"),
    "pairs_listed": Number("pairs that the exchange lists; of channel `instrument`"),
    "books_proved": Number("books that are valid, and whose sequence, checksum or whole snapshots would show a loss"),
    "books_unproved": Number("other wanted books; of Coinbase all, because nothing would show a loss"),
    "books_invalid": Number("books that wait for a snapshot"),
    "books_lost": Number("times that a book lost its proof", is_counter=True),
    "book_resyncs": Number("times that a book was asked for again", is_counter=True),
    "reconnects": Number("connections after the first", is_counter=True),
    "gap_records": Number("records of gaps of the channel that were written; told by the first feed", is_counter=True),
    "gaps": Number("the same by cause: `gaps_disconnect` and so on", is_counter=True),
    "connects_left": Number("connections that may be opened now; below 0 some wait"),
    "requests_left": Number("REST requests that may be sent now; below 0 some wait"),
    "banned_seconds": Number("seconds for which the exchange must not be asked anything"),
    "clock_lag_seconds": Number("how far our clock is ahead of the exchange's messages"),
    # who leads
    "epoch": Number("epoch with which the leader collects; 0: not known"),
    "proof_age_seconds": Number("seconds since ZooKeeper last proved our place among the candidates"),
    # a worker and its partitions
    "partitions": Number("raw partitions of the worker"),
    "lag_records": Number("raw records that wait"),
    "position": Number("next offset to read"),
    "committed": Number("offset before which all results are stored"),
    "rows": Number("processed records that were written", is_counter=True),
    "rows_per_second": Number("processed records a second, over the last 10 s"),
    "dead_letters": Number("dead letters that were written", is_counter=True),
    "redis_records": Number("processed records and gaps written to Redis", is_counter=True),
    "redis_records_per_second": Number("the same a second, over the last 10 s"),
    "redis_skipped": Number("those that came to Redis never: it was away for too long", is_counter=True),
    # a server
    "answers": Number("requests that were answered", is_counter=True),
    "answers_per_second": Number("requests that were answered a second, over the last 10 s"),
    "refused_requests": Number("answers with a status from 400 to 499", is_counter=True),
    "failed_requests": Number("answers with a status of 500 or more", is_counter=True),
}
"""Each number by its name. docs/operations.md lists them for operators."""


def number_of(name: str) -> Number:
    """Return what a number means. Numbers of other versions have no text."""
    return NUMBERS.get("gaps" if name.startswith(GAPS_BY_CAUSE) else name) or Number(name.replace("_", " "))
