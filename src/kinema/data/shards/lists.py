"""The lists of samples that go along with shards, under the names that data modules look for."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kinema.data.datasets.archive import facts_path, read_facts, read_prepared
from kinema.data.manifest import Manifest, ManifestError, read_manifest
from kinema.data.shards.layout import FOLDER_LIST, ShardError

_PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class SampleList:
    """A list of samples.

    Args:
        name: Of its file among the shards.
        files: What is written, by name: the list, and the facts that `kinema data prepare` keeps beside it.
        paths: Its videos, relative to the data root, each once.
        classes: Names of the classes where the list was a folder of classes.
    """

    name: str
    files: dict[str, bytes]
    paths: tuple[str, ...]
    classes: tuple[str, ...] | None = None


def read_lists(sources: Sequence[Path], root: Path) -> list[SampleList]:
    """Read what data modules would: CSV files, or folders with a folder per class.

    A folder of `train` and `val` gives the lists of these, `train.csv` and `val.csv`; the root itself `videos.csv`.

    Args:
        sources: CSV files and folders.
        root: Data root of the videos.

    Raises:
        ManifestError: If a list cannot be used as it is.
        ShardError: If a path is absolute, two lists have one name, or folders differ in their classes.
    """
    found = [_read_list(source, root) for given in sources for source in _parts(given)]
    names = [sample_list.name for sample_list in found]
    if len(set(names)) < len(names):
        raise ShardError(
            f"two lists would have one name among {names}; rename one of them, or write two folders of shards"
        )
    if len({sample_list.classes for sample_list in found if sample_list.classes is not None}) > 1:
        raise ShardError(
            f"the folders {[str(source) for source in sources]} hold different classes; give each one all of them"
        )
    return found


def _parts(source: Path) -> list[Path]:
    parts = [source / part for part in _PARTS if (source / part).is_dir()]
    return parts if len(parts) > 1 else [source]


def _read_list(source: Path, root: Path) -> SampleList:
    if source.is_dir():
        manifest = read_manifest(source.absolute(), root=root)
        inside = Path(*source.absolute().relative_to(root.absolute()).parts)
        name = f"{inside.name}.csv" if inside.parts else FOLDER_LIST
        rows = [f"{_quoted(record.path)},{_quoted(manifest.class_names[record.label])}" for record in manifest.records]
        text = "\n".join(["path,label", *rows]) + "\n"
        return SampleList(name, {name: text.encode()}, _paths(manifest, source), tuple(manifest.class_names))
    if not source.is_file():
        raise ManifestError(f"there is no list {source}; give CSV files, or folders with one folder per class")
    facts = facts_path(source)
    prepared = facts.is_file() and "annotations" in read_facts(source)
    manifest = read_prepared(source) if prepared else read_manifest(source.absolute(), root=root)
    files = {source.name: source.read_bytes()} | ({facts.name: facts.read_bytes()} if prepared else {})
    return SampleList(source.name, files, _paths(manifest, source))


def _paths(manifest: Manifest, source: Path) -> tuple[str, ...]:
    absolute = next((record.path for record in manifest.records if Path(record.path).is_absolute()), None)
    if absolute is not None:
        raise ShardError(
            f"{source} names {absolute}, a place on this machine alone; write paths relative to the data root"
        )
    return tuple(dict.fromkeys(key_of(record.path) for record in manifest.records))


def key_of(path: str) -> str:
    """A path below the data root in its normal form: no `.` and no `..`."""
    parts: list[str] = []
    for part in Path(path).parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)


def digest_of(lists: Sequence[SampleList]) -> str:
    """Names the content of some lists."""
    digest = hashlib.sha256()
    for sample_list in lists:
        for name, content in sample_list.files.items():
            digest.update(f"{name}:{len(content)}:".encode() + content)
    return digest.hexdigest()


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\n') else text
