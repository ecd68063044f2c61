"""What a process that runs for weeks holds of its machine's memory."""

import ctypes

_M_MMAP_THRESHOLD = -3  # of mallopt(3)
_LARGE = 256 << 10  # bytes


def give_back_memory() -> None:
    """Have the C library return every large block to the system when it is freed.

    By default glibc takes blocks of up to 32 MiB from its heap as soon as one of that size was freed. Between the many
    small things of a collector they leave holes that fit nothing: 18 MiB more in 10 minutes, though no more was in use.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # of glibc alone
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
