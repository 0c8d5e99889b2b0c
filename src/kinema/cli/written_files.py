"""Files that a command is to write: refused where one would destroy what is read, or two would be one."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path


def need_other_files(written: Mapping[str, Path | None], read: Sequence[Path]) -> None:
    """Refuse to write over what is read, and to write two things into one file; to be called before any is opened.

    Files that exist are compared themselves, so a link or another spelling of a name does not hide one.

    Args:
        written: Options to their files; None for those that were not given.
        read: Files that are read.

    Raises:
        ValueError: Saying which option to change.
    """
    given = {option: path for option, path in written.items() if path is not None}
    for option, path in given.items():
        if path.is_dir():
            raise ValueError(f"{option} {path} is a folder, and a file was needed; give {path / 'NAME'} or the like")
        for other in read:
            if _same(path, other):
                raise ValueError(f"{option} {path} would be written over {other}, which is read; give another file")
    for (option, path), (second, other) in combinations(given.items(), 2):
        if _same(path, other):
            raise ValueError(f"{option} {path} and {second} {other} are one file; give each its own")


def _same(path: Path, other: Path) -> bool:
    if path.exists() and other.exists():
        return path.samefile(other)
    return path.resolve() == other.resolve()
