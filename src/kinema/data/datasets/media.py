"""Where the videos of a data set lie below its root, by their names."""

import os
from collections.abc import Collection
from pathlib import Path

from kinema.data.decoding.frame_folder import PICTURE_SUFFIXES
from kinema.data.manifest import VIDEO_SUFFIXES, ManifestError


class MediaIndex:
    """Every video below a folder by its name without suffix; or every folder of pictures by its name.

    Archives are unpacked in many ways: by split, by class, with blanks or underscores, or all in one folder. What says which
    video it is is the name of the file. Links are followed, hidden folders are not searched.

    Args:
        root: Data root.
        pictures: Look for folders of pictures instead of video files: all below the root that hold one. Folders within them
            are looked at too, for a picture may also lie beside the videos, as a preview of them.
    """

    def __init__(self, root: Path, *, pictures: bool = False) -> None:
        self.root, self.pictures = root, pictures
        self._places: dict[str, list[str]] = {}
        if not root.is_dir():
            raise ManifestError(
                f"the data root {root} is not a folder; give the folder that the archive was unpacked to"
            )
        seen: set[tuple[int, int]] = set()
        waiting = [root]
        while waiting:
            folder = waiting.pop()
            facts = folder.stat()
            if (facts.st_dev, facts.st_ino) in seen:  # a link to a folder above would be followed forever
                continue
            seen.add((facts.st_dev, facts.st_ino))
            waiting += self._look(folder)

    def __len__(self) -> int:
        return sum(map(len, self._places.values()))

    def find(self, name: str, expected: str, *, prefer: Collection[str] = ()) -> str:
        """Path of a video relative to the root.

        Args:
            name: File name without suffix, or name of the folder of pictures.
            expected: Path to give where there is none: a video that is missing, to be counted as such.
            prefer: Names of folders, such as the split, that decide between several videos of that name.

        Raises:
            ManifestError: If several videos have the name and the folders do not decide.
        """
        places = self._places.get(name)
        if places is None:
            return expected
        if len(places) > 1:
            hits = [sum(part in prefer for part in Path(place).parts[:-1]) for place in places]
            places = [place for place, number in zip(places, hits, strict=True) if number == max(hits)]
        if len(places) > 1:
            raise ManifestError(
                f"two videos are called {name}: {' and '.join(sorted(places)[:2])} below {self.root}; keep one of them, which "
                "one is meant cannot be told"
            )
        return places[0]

    def _look(self, folder: Path) -> list[Path]:
        deeper, noted = [], not self.pictures or folder == self.root
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                stem, suffix = os.path.splitext(entry.name)  # noqa: PTH122 - a Path for each of a million files takes longer
                suffix = suffix.lower()
                if suffix in PICTURE_SUFFIXES and not noted:
                    self._note(folder.name, folder)
                    noted = True
                if suffix in VIDEO_SUFFIXES and entry.is_file():
                    if not self.pictures:
                        self._note(stem, folder / entry.name)
                elif suffix not in PICTURE_SUFFIXES and entry.is_dir():
                    deeper.append(folder / entry.name)
        return deeper

    def _note(self, name: str, path: Path) -> None:
        self._places.setdefault(name, []).append(path.relative_to(self.root).as_posix())
