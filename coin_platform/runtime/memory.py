"""What a process that runs for weeks holds of its machine's memory."""

import ctypes
import gc
import threading
import time
from functools import cache

EVERY = 5.0  # seconds between two looks for what is free
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # of mallopt(3)
_LARGE = 128 << 10  # bytes; what it begins with by default


@cache
def give_back_memory() -> None:
    """Have the C library (glibc, else nothing is done) return what is free to the system, from now on.

    Large blocks at once: by default it takes blocks of up to 32 MiB from its heap as soon as one of that size was
    freed, and between a collector's many small things they leave holes that fit nothing, 18 MiB more in 10 minutes.
    Free pages between others every 5 seconds, which takes 3 ms: of itself it returns those at a heap's end only. All
    threads share a heap: a worker's had 16, each with its own holes, 13 MiB after 10 minutes of uneven batches.
    Best called before there are other threads.

    What is there 5 seconds after the start, mostly code, is not looked through for garbage again: that took 84 ms.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt") and hasattr(library, "malloc_trim"):
        library.mallopt(_M_MMAP_THRESHOLD, _LARGE)
        library.mallopt(_M_ARENA_MAX, 1)
        threading.Thread(target=_trim, args=(library,), name="memory", daemon=True).start()


def _trim(library: ctypes.CDLL) -> None:
    time.sleep(EVERY)
    gc.freeze()
    while True:
        library.malloc_trim(0)
        time.sleep(EVERY)
