"""How a folder of the motion set knows what it holds: hashes, in a manifest when finished and in a journal until then.

`manifest.json` is written last and marks a finished folder. While clips are being made, `journal.jsonl` gets one line for
every clip that is complete. Files are written under a temporary name and renamed, so no half-written one has its own name.
"""

import hashlib
import json
import os
import threading
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
JOURNAL = "journal.jsonl"


def verify_motion(folder: str | Path) -> list[str]:
    """Compare a motion set, or another set that kinema makes, with the hashes in its manifest.

    Returns:
        One sentence for each problem; an empty list for a set that is whole.
    """
    folder = Path(folder)
    try:
        manifest = _read_manifest(folder)
    except (FileNotFoundError, NotADirectoryError):
        return [f"{folder} has no {MANIFEST}: it is no motion set, or an unfinished one; run `kinema data motion`"]
    except ValueError as error:
        return [f"{folder / MANIFEST} cannot be read ({error}); run `kinema data motion` to make the set again"]
    problems = []
    command = manifest.get("command", "kinema data motion")
    for name, digest in manifest["files"].items():
        if not (folder / name).is_file():
            problems.append(f"{name} is missing; run `{command}` to make it again")
        elif file_hash(folder / name) != digest:
            problems.append(f"{name} is not the file that was written; run `{command}` to make it again")
    return problems


def finished_files(folder: Path, header: dict[str, Any]) -> dict[str, str]:
    """Give name and hash of every file that a finished or unfinished set has recorded and that still agrees.

    None does if the set was made with another header (options, versions): a clip and its reversal must come from one
    encoder, or their frames may differ.
    """
    try:
        record = _read_manifest(folder) if (folder / MANIFEST).exists() else _read_journal(folder)
    except (FileNotFoundError, ValueError):
        return {}
    files = record.pop("files")
    if record != header:
        return {}
    return {
        name: digest
        for name, digest in files.items()
        if (folder / name).is_file() and file_hash(folder / name) == digest
    }


def write_file(path: Path, content: bytes) -> str:
    """Write through a temporary name, so that `path` is complete or as it was, and return the SHA-256 of `content`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    temporary.write_bytes(content)
    temporary.replace(path)
    return hashlib.sha256(content).hexdigest()


def write_manifest(folder: Path, manifest: dict[str, Any] | None) -> None:
    """Mark a folder as finished, or, by None, as unfinished."""
    if manifest is None:
        (folder / MANIFEST).unlink(missing_ok=True)
    else:
        write_file(folder / MANIFEST, json.dumps(manifest, indent=1).encode())


def delete_leftovers(folder: Path) -> None:
    """Delete the temporary files of a run that was killed."""
    for path in folder.rglob(".*.part"):
        path.unlink()


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def journal_line(entry: dict[str, Any] | list[str]) -> bytes:
    """Encode a line of the journal: first the header, then `[name, hash]` for each file."""
    return json.dumps(entry).encode() + b"\n"


def _read_manifest(folder: Path) -> dict[str, Any]:
    manifest = json.loads((folder / MANIFEST).read_bytes())
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise ValueError("it lists no files")
    return manifest


def _read_journal(folder: Path) -> dict[str, Any]:
    # A line without its end was cut off when the run was killed.
    lines = [line for line in (folder / JOURNAL).read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    try:
        header, *entries = [json.loads(line) for line in lines]
        return header | {"files": dict(entries)}
    except TypeError as error:
        raise ValueError("it is no journal") from error
