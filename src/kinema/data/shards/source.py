"""Videos out of shards, behind the interface of an opened video: the same samples as from the files, bit for bit."""

import os
from contextlib import AbstractContextManager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from kinema.data.decoding import DecodeError, Decoder, open_video
from kinema.data.decoding.file_part import FilePart
from kinema.data.decoding.frame_folder import FrameFolder, FrameFolders, read_picture
from kinema.data.frame_cache import OpenedVideo
from kinema.data.shards.layout import CLASSES, ITEM_HEAD, Item, ShardError, ShardIndex, Stretch, parse_item
from kinema.data.shards.storage import ObjectStore, fetch_index, is_remote


class ShardedVideos:
    """The videos of `kinema data shard`, each by its path.

    Which sample comes when is the loader's business, as with files: any video is opened at any time, by any process. Chunks of
    an object store are fetched whole, when the first video of them is wanted, and kept: the set needs as much room here as
    there, below `$KINEMA_DATA/shards` or `~/.cache/kinema/shards`.

    Args:
        where: Folder or address of the shards.
        folders: How pictures are read, where the videos are folders of them.
        decoder: Passed to `open_video`.

    Attributes:
        folder: Holds the lists of the samples; paths of videos are relative to it.

    Raises:
        ShardError: If the shards are not whole, or are pictures and `folders` is None, or the other way round.
    """

    def __init__(self, where: str, *, folders: FrameFolders | None = None, decoder: Decoder = "auto") -> None:
        self.where, self.folders, self.decoder = where, folders, decoder
        self._store = ObjectStore(where) if is_remote(where) else None
        folder = Path(where).expanduser() if self._store is None else fetch_index(self._store)
        self.folder = Path(os.path.abspath(folder))  # noqa: PTH100 - links are left as they are, as in `resolve`
        self.index = ShardIndex(self.folder, where)
        if self.index.pictures != (folders is not None):
            raise ShardError(
                f"{where} holds {'folders of pictures' if self.index.pictures else 'video files'}, and the data module reads "
                f"{'pictures' if folders else 'video files'}; "
                + ("give --data.frames, such as {:05d}.jpg" if self.index.pictures else "leave --data.frames out")
            )
        self._offsets: dict[int, list[int]] = {}
        if self._store is None:
            # At once, not in the middle of an epoch.
            for chunk, name in enumerate(self.index.chunks):
                self.index.check_size(chunk, self.folder / name)
        else:
            for name in [*self.index.lists, *([CLASSES] if self.index.has_classes else [])]:
                self._store.fetch(name, self.folder / name)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_offsets": {}}

    def __contains__(self, path: Path) -> bool:
        return self._key(path) in self.index.places

    def open(self, path: str | Path) -> AbstractContextManager[OpenedVideo]:
        """A video by its path, below `folder`.

        Raises:
            DecodeError: If the shards do not hold it, or it cannot be decoded.
            ShardError: If its chunk is missing, cut short or damaged, or cannot be fetched.
        """
        key = self._key(Path(path))
        if key not in self.index.places:
            raise DecodeError(f"{self.where} does not hold {key}; it could not be read when the shards were written")
        chunk, number = self.index.places[key]
        file = self._chunk_file(chunk)
        begin, end = self._item_borders(chunk, number, file)
        with file.open("rb", buffering=0) as opened:
            item = parse_item(_read(opened, Stretch(begin, begin + ITEM_HEAD)), begin, end)
            name = None if item is None else _read(opened, item.name).decode(errors="replace")
            if item is None or name != key:
                raise ShardError(
                    f"the shard {file} is damaged: {key} should be its item {number} and "
                    f"{'nothing that can be read' if name is None else name} is; copy it again, or write it again"
                )
            if self.folders is not None:
                return _PackedPictures(file, key, item, _read(opened, item.sizes), self.folders)
        part = FilePart(file, item.content.begin, item.content.end - item.content.begin, f"{key} in {file}")
        return open_video(part, decoder=self.decoder)

    def _chunk_file(self, chunk: int) -> Path:
        name = self.index.chunks[chunk]
        if self._store is not None:
            self._store.fetch(name, self.folder / name, num_bytes=self.index.chunk_bytes[chunk])
        return self.folder / name

    def _item_borders(self, chunk: int, number: int, file: Path) -> tuple[int, int]:
        if chunk not in self._offsets:
            self._offsets[chunk] = self.index.items(chunk, file)
        offsets = self._offsets[chunk]
        return offsets[number], offsets[number + 1]

    def _key(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix() if path.is_absolute() else path.as_posix()


class _PackedPictures(FrameFolder):
    """A folder of pictures whose files lie behind each other in a chunk."""

    def __init__(self, file: Path, key: str, item: Item, sizes: bytes, folders: FrameFolders) -> None:
        lengths = np.frombuffer(sizes, "<i8")
        self._borders = item.content.begin + np.concatenate([[0], lengths.cumsum()])
        if len(lengths) == 0 or self._borders[-1] != item.content.end:
            raise ShardError(
                f"the shard {file} is damaged: the pictures of {key} do not fill its place; copy it again, or write it again"
            )
        self._file = file
        super().__init__(Path(key), folders.template, 1, len(lengths), folders.fps_of(Path(key).name))

    def picture(self, number: int) -> np.ndarray:
        with self._file.open("rb", buffering=0) as opened:
            content = _read(opened, Stretch(int(self._borders[number]), int(self._borders[number + 1])))
        return read_picture(BytesIO(content), f"{self.file(number)} in {self._file}")


def _read(file: Any, stretch: Stretch) -> bytes:
    return os.pread(file.fileno(), stretch.end - stretch.begin, stretch.begin)
