"""Remember the timestamp indices of recently opened files, so that a second epoch reads no packet twice.

One cache per process, so DataLoader workers hold one each. Bounded by the number of packets remembered, not by files.
"""

import os
import threading
from collections import OrderedDict

from kinema.data.decoding.containers import FileKey
from kinema.data.decoding.index import FrameIndex

MAX_PACKETS = 1 << 18  # about 10 MB

_lock = threading.Lock()
if hasattr(os, "register_at_fork"):  # a worker forked while a thread held the lock would wait for it forever
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)
_indices: OrderedDict[FileKey, FrameIndex] = OrderedDict()
_num_packets = 0


def recall(key: FileKey | None) -> FrameIndex | None:
    """Return the index of a file in this very state, or None."""
    with _lock:
        if key is None or key not in _indices:
            return None
        _indices.move_to_end(key)
        return _indices[key]


def remember(key: FileKey | None, index: FrameIndex) -> None:
    """Keep an index; the ones not used for longest make room."""
    global _num_packets
    if key is None or len(index.packets) > MAX_PACKETS:
        return
    with _lock:
        if key in _indices:
            return
        _indices[key] = index
        _num_packets += len(index.packets)
        while _num_packets > MAX_PACKETS:
            _, oldest = _indices.popitem(last=False)
            _num_packets -= len(oldest.packets)


def forget_all() -> None:
    """Empty the cache."""
    global _num_packets
    with _lock:
        _indices.clear()
        _num_packets = 0
