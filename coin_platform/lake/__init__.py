"""The lake: tables of Parquet objects in S3 or in a folder."""

from coin_platform.lake.folder import FolderStore
from coin_platform.lake.lake import Commit, Lake, open_lake, scan
from coin_platform.lake.store import MemoryStore, Store

__all__ = ["Commit", "FolderStore", "Lake", "MemoryStore", "Store", "open_lake", "scan"]
