"""Small trees of exactly the shape of the published data sets: their annotation files, and tiny media that move."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from kinema.data.datasets.archive import ArchiveData
from kinema.data.datasets.archives import build_archive
from kinema.data.motion.encoding import encode_mp4
from kinema.data.motion.scenes import LEVELS, MOTION_CLASSES, draw_clip

CODECS = {".webm": "libvpx", ".avi": "mpeg4"}
KINETICS = ("abseiling", "air drumming", "zumba")
SOMETHING = (
    "Pulling [something] from left to right",
    "Pulling [something] from right to left",
    "Holding [something] next to [something]",
)
JESTER = ("Swiping Left", "Swiping Right", "Drumming Fingers")
UCF = ("ApplyEyeMakeup", "ApplyLipstick", "Archery")
HMDB = ("brush_hair", "cartwheel", "shoot_ball")
DIVES = (
    ["Back", "15som", "05Twis", "FREE"],
    ["Back", "15som", "15Twis", "FREE"],
    ["Forward", "15som", "NoTwis", "PIKE"],
)
HACS = ("Archery", "BMX", "Zumba")
VERBS, NOUNS = ("take", "put", "wash", "open"), ("tap", "spoon", "plate", "cupboard", "knife")


def make_archive(name: str, root: Path, *, videos: int = 2, length: int = 12, **options: Any) -> ArchiveData:
    """Write a small archive and give its data module.

    Args:
        name: One of `kinema.data.datasets.archives.ARCHIVES`.
        root: Where to; made if absent.
        videos: Videos of each class in each split.
        length: Frames of a video.
        options: Of the data module.
    """
    root.mkdir(parents=True, exist_ok=True)
    _MAKERS[name.removesuffix("600").removesuffix("700").removesuffix("400")](root, videos, length, name)
    return build_archive(name, str(root), subset=True, **options)


def write_media(path: Path, number: int, num_frames: int = 12) -> None:
    """Draw a clip of the built-in motion set and write it: a video by its suffix, or a folder of JPEG files without one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix:
        path.write_bytes(_encoded(number, num_frames, path.suffix.lower()))
    else:
        write_frames(path, _drawn(number, num_frames))


@cache
def _drawn(number: int, num_frames: int) -> np.ndarray:
    motion = MOTION_CLASSES[number % len(MOTION_CLASSES)]
    return draw_clip(np.random.default_rng(number), motion, LEVELS["easy"], num_frames)


@cache
def _encoded(number: int, num_frames: int, suffix: str) -> bytes:
    frames = _drawn(number, num_frames)
    if suffix == ".mp4":
        return encode_mp4(frames, intra_only=False)
    content = io.BytesIO()
    with av.open(content, "w", format=suffix[1:]) as file:
        stream = file.add_stream(CODECS[suffix], rate=25)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.codec_context.thread_count = 1
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode(None))
    return content.getvalue()


def write_frames(path: Path, frames: np.ndarray, template: str = "{:05d}.jpg", first: int = 1) -> Path:
    """Write a folder of pictures."""
    path.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames, first):
        Image.fromarray(frame).save(path / template.format(number), quality=90)
    return path


def write_csv(path: Path, rows: Sequence[Sequence[object]], delimiter: str = ",") -> Path:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.getvalue())
    return path


def _samples(classes: Sequence[Any], splits: Sequence[str], videos: int) -> list[tuple[int, str, int]]:
    """Running number, split and class of each video."""
    cells = [(split, label) for split in splits for label in range(len(classes)) for _ in range(videos)]
    return [(number, split, label) for number, (split, label) in enumerate(cells)]


def _kinetics(root: Path, videos: int, num_frames: int, name: str) -> None:
    header = ["label", "youtube_id", "time_start", "time_end", "split"] + (["is_cc"] if name == "kinetics400" else [])
    rows: dict[str, list[list[object]]] = {"train": [header], "val": [header], "test": [header]}
    for number, split, label in _samples(KINETICS, list(rows), videos):
        youtube, start = f"-a_B{number:07d}", 7 * number
        rows[split].append([KINETICS[label], youtube, start, start + 10, split] + (["0"] if len(header) > 5 else []))
        folder = KINETICS[label] if split == "train" else KINETICS[label].replace(" ", "_")
        write_media(root / split / folder / f"{youtube}_{start:06d}_{start + 10:06d}.mp4", number, num_frames)
    for split, lines in rows.items():
        write_csv(root / f"{split}.csv", lines)


def _ssv2(root: Path, videos: int, num_frames: int, name: str) -> None:
    listed: dict[str, list[dict[str, Any]]] = {"train": [], "validation": []}
    for number, split, label in _samples(SOMETHING, list(listed), videos):
        template = SOMETHING[label]
        parts = ["a cup"] * template.count("[something]")
        label_text = template.replace("[something]", "a cup").lower()
        listed[split].append(
            {"id": str(78687 + number), "label": label_text, "template": template, "placeholders": parts}
        )
        write_media(root / "20bn-something-something-v2" / f"{78687 + number}.webm", number, num_frames)
    for split, entries in listed.items():
        (root / f"something-something-v2-{split}.json").write_text(json.dumps(entries))
    (root / "something-something-v2-test.json").write_text(json.dumps([{"id": "1420"}]))
    plain = sorted(template.replace("[", "").replace("]", "") for template in SOMETHING)
    ids = {text: str(index) for index, text in enumerate(plain)}
    (root / "something-something-v2-labels.json").write_text(json.dumps(ids))


def _ssv1(root: Path, videos: int, num_frames: int, name: str) -> None:
    plain = [template.replace("[", "").replace("]", "") for template in SOMETHING]
    _twentybn(root, "something-something-v1", "20bn-something-something-v1", plain, videos, num_frames)


def _jester(root: Path, videos: int, num_frames: int, name: str) -> None:
    _twentybn(root, "jester-v1", "20bn-jester-v1", JESTER, videos, num_frames)


def _twentybn(root: Path, prefix: str, media: str, classes: Sequence[str], videos: int, num_frames: int) -> None:
    rows: dict[str, list[list[str]]] = {"train": [], "validation": []}
    for number, split, label in _samples(classes, list(rows), videos):
        rows[split].append([str(100218 + number), classes[label]])
        write_media(root / media / str(100218 + number), number, num_frames)
    for split, lines in rows.items():
        write_csv(root / f"{prefix}-{split}.csv", lines, delimiter=";")
    (root / f"{prefix}-test.csv").write_text("999\n")
    (root / f"{prefix}-labels.csv").write_text("\n".join(classes) + "\n")


EPIC_COLUMNS = (
    *("narration_id", "participant_id", "video_id", "narration_timestamp", "start_timestamp", "stop_timestamp"),
    *(
        "start_frame",
        "stop_frame",
        "narration",
        "verb",
        "verb_class",
        "noun",
        "noun_class",
        "all_nouns",
        "all_noun_classes",
    ),
)


def epic_row(video: str, place: int, start: float, stop: float, verb: int, noun: int) -> list[object]:
    """A line of the list, of a video with 60 frames a second."""
    times = [f"00:00:{seconds:05.2f}" for seconds in (start, start, stop)]
    frames = [int(start * 60), int(stop * 60)]
    names = [f"{VERBS[verb]} {NOUNS[noun]}", VERBS[verb], verb, NOUNS[noun], noun, [NOUNS[noun]], [noun]]
    return [f"{video}_{place}", video.split("_")[0], video, *times, *frames, *names]


def _epic100(root: Path, videos: int, num_frames: int, name: str) -> None:
    rows: dict[str, list[list[object]]] = {"train": [EPIC_COLUMNS], "validation": [EPIC_COLUMNS]}
    length = 3 * num_frames / 25
    for number, split in enumerate(split for split in rows for _ in range(videos)):
        participant = f"P{number + 1:02d}"
        video = f"{participant}_01"
        write_media(root / participant / "videos" / f"{video}.MP4", number, 3 * num_frames)
        for place in range(3):  # the second overlaps the first, as in the release
            start = round(place * length / 4, 2)
            verb, noun = (number + place) % len(VERBS), (number + 2 * place) % len(NOUNS)
            rows[split].append(epic_row(video, place, start, round(start + length / 3, 2), verb, noun))
    for split, lines in rows.items():
        write_csv(root / f"EPIC_100_{split}.csv", lines)
    for task, names in (("verb", VERBS), ("noun", NOUNS)):
        lines = [(index, key, [key], "category") for index, key in enumerate(names)]
        write_csv(root / f"EPIC_100_{task}_classes.csv", [("id", "key", "instances", "category"), *lines])


def _ucf101(root: Path, videos: int, num_frames: int, name: str) -> None:
    folder = root / "ucfTrainTestlist"
    folder.mkdir()
    (folder / "classInd.txt").write_text("".join(f"{index} {name}\n" for index, name in enumerate(UCF, 1)))
    files: list[tuple[int, str]] = []
    for number, _, label in _samples(UCF, ("1", "2", "3"), videos):
        file = f"{UCF[label]}/v_{UCF[label]}_g{number + 1:02d}_c01.avi"
        files.append((label, file))
        write_media(root / "UCF-101" / file, number, num_frames)
    for split in (1, 2, 3):
        tested = files[(split - 1) * len(UCF) * videos : split * len(UCF) * videos]
        train = "".join(f"{file} {label + 1}\n" for label, file in files if (label, file) not in tested)
        (folder / f"trainlist{split:02d}.txt").write_text(train)
        (folder / f"testlist{split:02d}.txt").write_text("".join(f"{file}\n" for _, file in tested))


def _hmdb51(root: Path, videos: int, num_frames: int, name: str) -> None:
    folder = root / "testTrainMulti_7030_splits"
    folder.mkdir()
    uses: dict[str, list[str]] = {label: [] for label in HMDB}
    for number, _, label in _samples(HMDB, ("1", "2", "3"), videos):
        file = f"April_{number}_{HMDB[label]}_u_nm_np1_ba_goo_0.avi"
        uses[HMDB[label]].append(file)
        write_media(root / HMDB[label] / file, number, num_frames)
    for label, files in uses.items():
        for split in (1, 2, 3):
            # By thirds: test, training, unused; which third is which turns with the split.
            lines = [f"{file} {(2, 1, 0)[(index // videos + split - 1) % 3]} \n" for index, file in enumerate(files)]
            (folder / f"{label}_test_split{split}.txt").write_text("".join(lines))


def _diving48(root: Path, videos: int, num_frames: int, name: str) -> None:
    listed: dict[str, list[dict[str, Any]]] = {"train": [], "test": []}
    for number, split, label in _samples(DIVES, list(listed), videos):
        entry = {"vid_name": f"_8Vy3dlHg2w_{number:05d}", "label": label, "start_frame": 0, "end_frame": num_frames}
        listed[split].append(entry)
        write_media(root / "rgb" / f"{entry['vid_name']}.mp4", number, num_frames)
    for split, entries in listed.items():
        (root / f"Diving48_V2_{split}.json").write_text(json.dumps(entries))
    (root / "Diving48_vocab.json").write_text(json.dumps(DIVES))


def _hacs(root: Path, videos: int, num_frames: int, name: str) -> None:
    rows: list[list[object]] = [["classname", "youtube_id", "subset", "start", "end", "label"]]
    for number, split, label in _samples(HACS, ("training", "validation"), videos):
        youtube = f"y-{number:09d}"
        rows.append([HACS[label], youtube, split, "0.1", "0.3", 1])
        rows.append([HACS[(label + 1) % 3], youtube, split, "0.1", "0.3", -1])
        write_media(root / HACS[label] / f"v_{youtube}.mp4", number, num_frames)
    write_csv(root / "HACS_clips_v1.1.1.csv", rows)


def _howto100m(root: Path, videos: int, num_frames: int, name: str) -> None:
    rows: list[list[object]] = [["video_id", "category_1", "category_2", "rank", "task_id"]]
    tasks = (20, 103, 100)
    for number, _, label in _samples(tasks, ("all",), 4 * videos):
        rows.append([f"v{number:010d}", "Food", "Drinks", number, tasks[label]])
        write_media(root / "videos" / f"v{number:010d}.webm", number, num_frames)
    rows.append(["rare0000000", "Food", "Drinks", 1, 7])
    write_csv(root / "HowTo100M_v1.csv", rows)
    (root / "task_ids.csv").write_text("7\tBoil Water\n20\tMake Tea\n100\tFold a Shirt\n103\tPaint a Wall\n")


_MAKERS: dict[str, Callable[[Path, int, int, str], None]] = {
    "kinetics": _kinetics,
    "ssv1": _ssv1,
    "ssv2": _ssv2,
    "jester": _jester,
    "epic100": _epic100,
    "ucf101": _ucf101,
    "hmdb51": _hmdb51,
    "diving48": _diving48,
    "hacs": _hacs,
    "howto100m": _howto100m,
}
