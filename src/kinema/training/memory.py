"""Memory of CPU runs: keep what was freed instead of handing it back to the system after every layer."""

import ctypes
import os
import sys

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Let this process keep freed memory for the next allocation; returns whether the C library could be told.

    Activations of video networks are large, and glibc maps each of them anew from the system and gives it back, so the
    kernel zeroes every page of every layer in every step. That can be half of the time of a training step on a CPU:
    compare `kinema bench model tsm_mobilenetv2` with and without `--keep-memory`. The price is that memory once used stays
    with the process. Other C libraries than glibc are left as they are, and so is glibc when the environment variable
    KINEMA_KEEP_FREED_MEMORY is 0.
    """
    if os.environ.get("KINEMA_KEEP_FREED_MEMORY") == "0":
        return False
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, -1))
