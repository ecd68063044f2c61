"""Give free memory back to the system, in processes that run for weeks."""

import ctypes
import gc
import threading
import time
from functools import cache

TRIM_SECONDS = 5.0  # between two returns of free pages; one takes 3 ms
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # of mallopt(3)
_LARGE_BYTES = 128 << 10  # glibc begins with this threshold, and raises it


@cache
def give_back_memory() -> None:
    """Make the C library return free memory to the system from now on. Call this before other threads start.

    Only glibc is changed; with another library nothing is done.

    1. Large blocks are returned at once. By default glibc takes blocks of up to 32 MiB from its heap once a block of
       that size was freed. Between a collector's many small objects they left holes: 18 MiB more in 10 minutes.
    2. Free pages are returned every `TRIM_SECONDS`. By default glibc returns only those at the end of a heap.
    3. All threads share one heap. A worker had 16 heaps, each with its own holes: 13 MiB after 10 minutes.
    4. Objects that exist `TRIM_SECONDS` after the start are mostly code. The garbage collector skips them from then on,
       because looking through them took 84 ms.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt") and hasattr(library, "malloc_trim"):
        library.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        library.mallopt(_M_ARENA_MAX, 1)
        threading.Thread(target=_trim, args=(library,), name="memory", daemon=True).start()


def _trim(library: ctypes.CDLL) -> None:
    time.sleep(TRIM_SECONDS)
    gc.freeze()
    while True:
        library.malloc_trim(0)
        time.sleep(TRIM_SECONDS)
