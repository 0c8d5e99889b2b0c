"""Look at every frame of every video before training does: what is there, and what cannot be decoded."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from os import cpu_count
from pathlib import Path
from typing import Literal

import numpy as np

from kinema.data.decoding import DecodeError
from kinema.data.decoding.frame_folder import FrameFolders
from kinema.data.decoding.pyav_reader import PyAVReader
from kinema.data.progress import progress_bar

Status = Literal["ok", "damaged", "undecodable"]

# A header's duration includes a soundtrack and is often rounded; less than this share of it, and frames are missing.
_SHORTEST_SHARE = Fraction(9, 10)


@dataclass(frozen=True)
class VideoFacts:
    """What a full decode of a video shows.

    Args:
        path: The file, as it was given.
        status: "ok" if every frame decodes exactly; "damaged" if some do not, or the file ends before its header says
            (MPEG-TS says nothing); "undecodable" if the file cannot be opened, or none of its frames decodes.
        reason: Why it is not "ok".
        num_bytes: Size of the file.
        num_frames: Frames to be shown, lost ones included.
        missing: Numbers of the frames that cannot be decoded exactly.
        errors: Packets that could not be read or decoded.
        fps: Average frames per second.
        duration: Seconds, the last frame included.
        width: Columns of a frame, rotation applied.
        height: Rows of a frame, rotation applied.
        codec: FFmpeg's name of the decoder.
        container: FFmpeg's name of the demuxer.
        first_timestamp: Seconds on the file's own clock at which the first frame is shown.
        variable_rate: Whether frames are shown for unequal times.
        keyframe_interval: The most frames from one keyframe to the next; what a reader decodes to reach a frame.
        sha256: Hash of the file, if it was asked for.
    """

    path: str
    status: Status
    reason: str = ""
    num_bytes: int = 0
    num_frames: int = 0
    missing: tuple[int, ...] = ()
    errors: int = 0
    fps: Fraction = Fraction(0)
    duration: Fraction = Fraction(0)
    width: int = 0
    height: int = 0
    codec: str = ""
    container: str = ""
    first_timestamp: Fraction = Fraction(0)
    variable_rate: bool = False
    keyframe_interval: int = 0
    sha256: str = ""


def inspect_video(path: str | Path, *, sha256: bool = False, every_frame: bool = True) -> VideoFacts:
    """Decode a whole video and report what is in it; a file that is no video is reported too, not raised.

    Args:
        path: A file.
        every_frame: Decode every frame; else only the first and the last, which finds files that are cut off or no videos,
            and not damage between, in a small part of the time.
        sha256: Also hash the file. Codecs carry no checksum, so that damage can go unnoticed in decoding; a hash notices
            all of it, if there is one to compare with.
    """
    path = Path(path)
    facts = VideoFacts(str(path), "undecodable", num_bytes=path.stat().st_size if path.is_file() else 0)
    if sha256 and path.is_file():
        facts = replace(facts, sha256=_hash(path))
    try:
        with PyAVReader(path) as video:
            if every_frame:
                video.find_missing()
            else:
                _decode_ends(video)
            return _describe(video, facts)
    except DecodeError as error:
        return replace(facts, reason=str(error).removeprefix(str(path)).lstrip(": "))


def inspect_pictures(
    path: str | Path, folders: FrameFolders, *, sha256: bool = False, every_frame: bool = True
) -> VideoFacts:
    """Decode a folder of pictures as a video and report what is in it, as `inspect_video` does of a file.

    Args:
        path: The folder.
        folders: How its pictures are called and how many make a second.
        sha256: Also hash the pictures, in their order, as if they were one file.
        every_frame: Decode every picture; else only the first and the last.
    """
    facts = VideoFacts(str(path), "undecodable", container="pictures", codec=Path(folders.template).suffix[1:])
    try:
        video = folders.open(path)
        numbers = range(video.num_frames) if every_frame else sorted({0, video.num_frames - 1})
        size = tuple(video.decode([0]).shape[2:])
        for number in numbers[1:]:  # one by one: all frames of a long video at a time would fill the memory
            if tuple(video.decode([number]).shape[2:]) != size:
                video.decode([0, number])  # raises, and names them
        files = [video.file(number) for number in range(video.num_frames)]
        digest = hashlib.sha256()
        for file in files if sha256 else ():
            digest.update(file.read_bytes())
        return replace(
            facts,
            status="ok",
            num_bytes=sum(file.stat().st_size for file in files),
            num_frames=video.num_frames,
            fps=video.fps,
            duration=video.duration,
            height=size[0],
            width=size[1],
            keyframe_interval=1,
            sha256=digest.hexdigest() if sha256 else "",
        )
    except (DecodeError, OSError) as error:
        return replace(facts, reason=str(error).removeprefix(str(path)).lstrip(": "))


def inspect_videos(
    paths: Sequence[str | Path],
    *,
    folders: FrameFolders | None = None,
    num_workers: int | None = None,
    progress: bool = True,
    sha256: bool = False,
) -> list[VideoFacts]:
    """Inspect many videos at a time, in the order given.

    Args:
        paths: Files; with `folders`, folders of pictures.
        folders: How folders of pictures are read; None where videos are files.
        num_workers: Videos decoded at a time (in threads, which FFmpeg lets run); one per core by default.
        progress: Show a bar with the time left on stderr.
        sha256: Also hash each file.
    """
    pool = ThreadPoolExecutor(num_workers or cpu_count() or 1)

    def inspect(path: str | Path) -> VideoFacts:
        return inspect_video(path, sha256=sha256) if folders is None else inspect_pictures(path, folders, sha256=sha256)

    with progress_bar(progress) as bar, pool:
        try:
            results = pool.map(inspect, paths)
            return list(bar.track(results, total=len(paths), description="decoding videos"))
        except BaseException:
            pool.shutdown(cancel_futures=True)  # on Ctrl-C, do not decode the rest first
            raise


def _decode_ends(video: PyAVReader) -> None:
    for number in sorted({0, video.num_frames - 1}):
        try:
            video.decode([number])
        except DecodeError:
            continue  # noted in the reader's report, from which the verdict follows


def _describe(video: PyAVReader, facts: VideoFacts) -> VideoFacts:
    """Add what a fully decoded video holds, and the verdict."""
    index = video.index
    missing = video.report.missing
    status, reason = _judge(video)
    return replace(
        facts,
        status=status,
        reason=reason,
        num_frames=video.num_frames,
        missing=tuple(missing),
        errors=video.report.errors,
        fps=video.fps,
        duration=video.duration,
        width=video.width if len(missing) < video.num_frames else 0,
        height=video.height if len(missing) < video.num_frames else 0,
        codec=video.codec,
        container=video.demuxer,
        first_timestamp=int(index.pts[0]) * index.time_base,
        variable_rate=index.variable_rate,
        keyframe_interval=int(np.diff([0, *index.packets.keyframes, len(index.packets)]).max()),
    )


def _judge(video: PyAVReader) -> tuple[Status, str]:
    missing, num_frames, header = video.report.missing, video.num_frames, video.header_duration
    if len(missing) == num_frames:
        return "undecodable", f"none of its {num_frames} frames decodes"
    if missing:
        return "damaged", f"{len(missing)} of {num_frames} frames cannot be decoded exactly, the first is {missing[0]}"
    if header is not None and video.duration < header * _SHORTEST_SHARE:
        return "damaged", (
            f"its header says {float(header):.2f} s, its frames end after {float(video.duration):.2f} s: it was cut off"
        )
    if video.report.errors:
        return "damaged", f"{video.report.errors} errors between whole frames"
    return "ok", ""


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
