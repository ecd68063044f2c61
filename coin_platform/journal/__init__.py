"""The durable log on this disk: one SQLite file for each partition of a topic."""

from coin_platform.journal.file import path_of
from coin_platform.journal.positions import Positions
from coin_platform.journal.reader import JournalReader
from coin_platform.journal.thread import WriterThread
from coin_platform.journal.writer import JournalWriter, flush_all

__all__ = ["JournalReader", "JournalWriter", "Positions", "WriterThread", "flush_all", "path_of"]
