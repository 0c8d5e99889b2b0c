"""A published data set as a data module: its official annotation files, and its media as the archives hold them.

`kinema data prepare` looks at every video once and writes what it found as a manifest beside them. Where that manifest
lies, it is read; where not, the annotation files are.
"""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from kinema.data.datamodule import VideoDataModule
from kinema.data.datasets.annotations import AnnotationFolder, Listing
from kinema.data.datasets.checks import check_class_order
from kinema.data.manifest import Manifest, ManifestError, read_manifest

USABLE = ("", "ok", "damaged")
"""Status of samples that training takes. What is missing or cannot be decoded stays in validation, where it counts as wrong."""


class ArchiveData(VideoDataModule):
    """What the data sets have in common; each is a subclass that reads its own annotation files.

    Args:
        root: Folder that the archive was unpacked to.
        annotations: Folder of the annotation files, absolute, below `root` or below the working directory; looked for
            below `root` when None.
        prepared: Manifest that `kinema data prepare` wrote; `<root>/<name of the data set>.csv` where that exists, when None.
        subset: The annotations are a part of the release on purpose, with fewer classes.
        data: Options of `VideoDataModule`.
    """

    def __init__(
        self,
        root: str,
        *,
        annotations: str | None = None,
        prepared: str | None = None,
        subset: bool = False,
        **data: Any,
    ) -> None:
        super().__init__(root, manifest=None, train=None, val=None, test=None, **data)
        self.annotations, self.prepared, self.subset = annotations, prepared, subset

    @property
    @abstractmethod
    def archive_name(self) -> str:
        """Name of the data set with the options that change which samples it has: what `prepare` calls its files."""

    @property
    def listing_options(self) -> dict[str, Any]:
        """Options that change which samples there are, or where their media lie: a prepared manifest is for these alone.

        Subclasses add their own. Plain values.
        """
        template, fps = (None, None) if self.folders is None else (self.folders.template, str(self.folders.fps))
        return {"frames": template, "frames_fps": fps, "subset": self.subset}

    @abstractmethod
    def read_archive(self) -> Listing:
        """Read the annotation files and say where the media of each sample lies, whether it is there or not.

        Raises:
            ManifestError: If an annotation file is missing, of another version, or contradicts itself.
        """

    @property
    def prepared_path(self) -> Path:
        """Where the manifest of `kinema data prepare` lies, or would."""
        return self.root / (self.prepared or f"{self.archive_name}.csv")

    @property
    def notes(self) -> list[str]:
        """What a user must know of the data, for a run to say."""
        train = self.manifests["train"].records
        damaged = sum(record.metadata.get("status") == "damaged" for record in train)
        if not damaged:
            return []
        return [
            f"{damaged} training videos were found damaged by 'kinema data prepare'; they are used as far as they decode"
        ]

    def annotation_folder(self, *usual: str) -> AnnotationFolder:
        return AnnotationFolder(self.root, self.annotations, usual)

    def read_manifests(self) -> dict[str, Manifest]:
        if self.prepared is not None and not self.prepared_path.is_file():
            raise ManifestError(f"{self.prepared_path} does not exist; write it with 'kinema data prepare'")
        if self.shards is not None and not self.prepared_path.is_file():
            raise ManifestError(
                f"the shards {self.shards} hold no list {self.prepared_path.name}; write it with 'kinema data prepare', and "
                f"then the shards with 'kinema data shard ROOT/{self.prepared_path.name}'"
            )
        if self.prepared_path.is_file():
            whole = read_prepared(self.prepared_path, self.listing_options)
            if self.folders is not None:
                # The times in the manifest were made of frame numbers by these rates, and are read back by the same.
                for record in whole.records:
                    if rate := record.metadata.get("fps"):
                        self.folders.rates.setdefault(Path(record.path).name, Fraction(rate))
        else:
            whole = self.read_archive().manifest
        names = self._class_names()
        if names is not None:
            assert self.classes is not None
            check_class_order(names, whole.class_names, self.root / self.classes)
        parts = {part: whole.where(split=part) for part in ("train", "val", "test")}
        train = [record for record in parts["train"].records if record.metadata.get("status", "") in USABLE]
        parts["train"] = replace(parts["train"], records=train)
        # Several data sets have only one of the two; their papers validate on it and report it.
        parts["val"] = parts["val"] if len(parts["val"]) else parts["test"]
        parts["test"] = parts["test"] if len(parts["test"]) else parts["val"]
        return parts


def read_prepared(path: Path, options: Mapping[str, Any] | None = None) -> Manifest:
    """Read the manifest that `kinema data prepare` wrote, with the classes in their official order.

    Args:
        path: The manifest.
        options: The `listing_options` of the data set that reads it; any will do when None.

    Raises:
        ManifestError: If the file beside it is missing, an annotation file has changed since, or the manifest was written
            with other options.
    """
    facts = read_facts(path)
    written = facts.get("options", {})
    for name, asked in (options or {}).items():
        if written.get(name, asked) != asked:
            raise ManifestError(
                f"{path} was prepared with {name}: {written[name]}, and {asked} is asked for now; give the same options, or "
                "run 'kinema data prepare' again with those of now"
            )
    for name, digest in facts["annotations"].items():
        file = path.parent / name
        if file.is_file() and hash_of(file) != digest:
            raise ManifestError(
                f"{file} is not the annotation file that {path.name} was made from; run 'kinema data prepare' again"
            )
    return read_manifest(path.absolute(), root=path.parent, class_names=facts["classes"])


def facts_path(path: Path) -> Path:
    """Where the facts of a prepared manifest lie."""
    return path.with_suffix(".json")


def read_facts(path: Path) -> dict[str, Any]:
    """What `kinema data prepare` wrote beside a manifest: classes, annotation files, counts."""
    try:
        return json.loads(facts_path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ManifestError(
            f"{facts_path(path)} cannot be read ({error}); it belongs to {path.name}, write both with 'kinema data prepare'"
        ) from error


def hash_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
