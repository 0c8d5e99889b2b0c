"""What a folder of shards holds, and where in it a video lies.

* `chunk-0-<n>.bin`: chunks in the format of litdata 0.2 (Lightning AI, its `streaming/writer.py`): the number of items N and
  N + 1 offsets as 32-bit numbers, then the items. An item is the sizes of its three leaves as 32-bit numbers and the leaves:
  `content`, the bytes of a video file or of all pictures of a folder; `name`, its path; and for pictures `sizes`, the bytes of
  each as 64-bit numbers. All little-endian.
* `index.json`: litdata's list of the chunks. Written last: where it lies, the folder is whole.
* `shards.json`: which video is which item, and how they were made.
* the lists of the samples, under their own names, and `classes.txt` if they were folders.

litdata's own `StreamingDataset` reads such a folder too. kinema does not read through it: it opens a video in place, as a
stretch of the chunk, so that no more of it is read than of a file. litdata 0.2.76 hands over all of its bytes, fetches them
anew in each epoch where the set is remote, and waits for two minutes for a chunk that is cut short.
"""

import json
import struct
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

INDEX, FACTS, CLASSES, UNREADABLE, FOLDER_LIST = (
    "index.json",
    "shards.json",
    "classes.txt",
    "unreadable.csv",
    "videos.csv",
)
FORMAT = 1
LEAVES = ("content", "name", "sizes")
_NUMBER = 4  # bytes of a 32-bit number


class ShardError(ValueError):
    """Shards that cannot be read or written as they are; the text names the file and the way out."""


@dataclass(frozen=True)
class Stretch:
    """Bytes of a chunk.

    Args:
        begin: The first of them.
        end: The one behind the last.
    """

    begin: int
    end: int


@dataclass(frozen=True)
class Item:
    """Where the leaves of an item lie in its chunk."""

    content: Stretch
    name: Stretch
    sizes: Stretch


class ShardIndex:
    """Which chunks there are and which videos they hold.

    Args:
        folder: Where `index.json` and `shards.json` lie.
        where: What to call the folder in messages, such as its address.

    Attributes:
        chunks: Names of the chunk files.
        chunk_bytes: Their sizes.
        lists: Names of the lists of samples.
        places: Chunk and item of each video, by its path.
        pictures: Videos are folders of pictures.
        has_classes: The names of the classes are listed in `classes.txt`.

    Raises:
        ShardError: If a file is missing or cannot be read, was not written by `kinema data shard`, or the two contradict
            each other.
    """

    def __init__(self, folder: Path, where: str | None = None) -> None:
        self.folder, self.where = folder, where or str(folder)
        index, facts = self._read(INDEX), self._read(FACTS)
        if facts.get("format") != FORMAT:
            raise ShardError(
                f"{self.where}/{FACTS} is of format {facts.get('format')}, and this version of kinema reads {FORMAT}; "
                "write the shards again with 'kinema data shard'"
            )
        config = index.get("config", {})
        if (
            config.get("data_format") != ["bytes"] * len(LEAVES)
            or config.get("compression")
            or config.get("encryption")
        ):
            raise ShardError(
                f"{self.where}/{INDEX} lists chunks of {config.get('data_format')}, compression "
                f"{config.get('compression')}; 'kinema data shard' writes plain bytes, so another program wrote these"
            )
        entries: list[dict[str, Any]] = index["chunks"]
        self.chunks = [entry["filename"] for entry in entries]
        self.chunk_bytes = [entry["chunk_bytes"] for entry in entries]
        self.counts = [entry["chunk_size"] for entry in entries]
        self.lists: list[str] = facts["lists"]
        self.pictures: bool = facts["pictures"]
        self.has_classes: bool = facts["classes"]
        videos: list[str] = facts["videos"]
        if len(videos) != sum(self.counts):
            raise ShardError(
                f"{self.where}: {FACTS} names {len(videos)} videos and {INDEX} counts {sum(self.counts)}; the two are of "
                "different shards: copy the folder again, or write it again"
            )
        first = [0, *accumulate(self.counts)]
        self.places = {
            path: (chunk, item)
            for chunk, (begin, count) in enumerate(zip(first, self.counts, strict=False))
            for item, path in enumerate(videos[begin : begin + count])
        }

    def check_size(self, chunk: int, path: Path) -> None:
        """Refuse a chunk that is missing or of another size than it was written with.

        Raises:
            ShardError: If it is.
        """
        size, wanted = path.stat().st_size if path.is_file() else None, self.chunk_bytes[chunk]
        if size != wanted:
            found = (
                "is missing"
                if size is None
                else f"has {size} bytes and should have {wanted}: it was cut short or changed"
            )
            raise ShardError(f"the shard {path} {found}; copy it again, or write it again with 'kinema data shard'")

    def items(self, chunk: int, path: Path) -> list[int]:
        """Offsets of the items of a chunk file, and of its end.

        Raises:
            ShardError: If its head contradicts the index.
        """
        self.check_size(chunk, path)
        count = self.counts[chunk]
        with path.open("rb") as file:
            head = file.read(_NUMBER * (count + 2))
        numbers = list(struct.unpack(f"<{len(head) // _NUMBER}I", head[: len(head) // _NUMBER * _NUMBER]))
        found, offsets = numbers[:1], numbers[1:]
        ordered = (
            offsets == sorted(offsets) and offsets[:1] == [len(head)] and offsets[-1:] == [self.chunk_bytes[chunk]]
        )
        if found != [count] or not ordered:
            held = f"{found[0]} videos at {offsets[:3]}..." if found else "nothing"
            raise ShardError(
                f"the shard {path} is damaged: its head lists {held} and {count} videos were written; copy it again, or write "
                "it again"
            )
        return offsets

    def _read(self, name: str) -> dict[str, Any]:
        path = self.folder / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ShardError(
                f"{self.where} holds no {name}; give a folder that 'kinema data shard' has finished (the same command goes "
                "on with an unfinished one)"
            ) from error
        except (OSError, ValueError) as error:
            raise ShardError(
                f"{self.where}/{name} cannot be read ({error}); copy it again, or write it again"
            ) from error


def parse_item(head: bytes, begin: int, end: int) -> Item | None:
    """Where the leaves of an item lie that fills the bytes from `begin` to `end` of its chunk; None if it does not.

    Args:
        head: Its first twelve bytes.
        begin: Its first byte.
        end: The byte behind it.
    """
    size = _NUMBER * len(LEAVES)
    if len(head) < size:
        return None
    lengths = struct.unpack_from(f"<{len(LEAVES)}I", head)
    borders = list(accumulate(lengths, initial=begin + size))
    if borders[-1] != end:
        return None
    return Item(*(Stretch(a, b) for a, b in pairwise(borders)))


ITEM_HEAD = _NUMBER * len(LEAVES)
