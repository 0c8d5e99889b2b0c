"""One process at a time in a folder that several would spoil, and no waiting: the second is told."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


class Busy(RuntimeError):
    """Another process is at it."""


@contextmanager
def alone(lock: Path, doing: str) -> Iterator[None]:
    """Hold a lock file while a block runs; it is let go of also where the process is killed.

    Args:
        lock: The file; made if absent, and left behind empty.
        doing: What the other process does, for the message.

    Raises:
        Busy: If another process holds it.
    """
    held = FileLock(lock)
    try:
        held.acquire(timeout=0)
    except Timeout as error:
        raise Busy(f"another process is {doing}; wait until it has ended, or write elsewhere") from error
    try:
        yield
    finally:
        held.release()
