"""Features of whole videos: a classifier slides over them, and what it sees goes into one feature file per video."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from kinema.data.decoding import DecodeError, open_video
from kinema.data.frame_cache import OpenedVideo
from kinema.data.journal import write_durably
from kinema.data.progress import progress_bar
from kinema.data.transforms import EvalTransform
from kinema.data.untrimmed.clip_grid import ClipGrid, clips_on
from kinema.data.untrimmed.feature_files import CLASSES, FeatureError, FeatureFile, feature_path, write

FACTS = "extraction.json"

Logits = Tensor | Mapping[str, Tensor]


class Embedding(Protocol):
    """From a batch of clips to their features and class scores."""

    def __call__(self, clips: UInt8[Tensor, "B C T H W"]) -> tuple[Float[Tensor, "B D"], Logits]: ...


class ClassifierFeatures:
    """What a classifier sees in a clip, and which scores it gives.

    Features are what its head sees, before dropout; of a network with one vector per frame their mean over the frames, as
    the head averages its scores.

    Args:
        network: A network of kinema in evaluation mode: with `forward_features` and `head`.
        normalise: From uint8 pixels to the network's input.
        tasks: Names of its classifiers where it has several, in their order.
        device: Where it runs.

    Raises:
        ValueError: If the network gives no features, or the tasks are not as many as its classifiers.
    """

    def __init__(
        self,
        network: nn.Module,
        normalise: nn.Module,
        *,
        tasks: Sequence[str] = (),
        device: str | torch.device = "cpu",
    ) -> None:
        if not (hasattr(network, "forward_features") and hasattr(network, "head")):
            raise ValueError(
                f"{type(network).__name__} gives no features; a network with forward_features and a head was expected, as "
                "all of 'kinema models' are"
            )
        self.network, self.normalise = cast(Any, network.eval().to(device)), normalise.to(device)
        self.tasks, self.device = list(tasks), device

    @torch.inference_mode()
    def __call__(self, clips: UInt8[Tensor, "B C T H W"]) -> tuple[Float[Tensor, "B D"], Logits]:
        features = self.network.forward_features(self.normalise(clips.to(self.device)))
        logits = self.network.head(features)
        parts = [_over_frames(part).cpu() for part in (logits if isinstance(logits, tuple) else (logits,))]
        if isinstance(logits, tuple):
            if len(self.tasks) != len(parts):
                raise ValueError(
                    f"the network has {len(parts)} classifiers and {len(self.tasks)} names of tasks were given "
                    f"({self.tasks}); give one name for each"
                )
            return _over_frames(features).cpu(), dict(zip(self.tasks, parts, strict=True))
        return _over_frames(features).cpu(), parts[0]


def _over_frames(values: Tensor) -> Tensor:
    return values.mean(dim=1) if values.ndim == 3 else values


def extract(
    source: str | Path | AbstractContextManager[OpenedVideo],
    embed: Embedding,
    grid: ClipGrid,
    transform: EvalTransform,
    *,
    video: str | None = None,
    batch_size: int = 8,
    model: str = "",
    commit: str = "",
    on_clips: Callable[[int, int], None] | None = None,
) -> FeatureFile:
    """Slide over one video.

    Where a clip has several crops, their features stand side by side (V D), as in TAdaConv's features of EPIC-KITCHENS-100
    (D = 3 x 2048), and its class scores are the logarithm of the mean of their probabilities: the softmax of what is stored is
    what an average over crops gives in the evaluation of a classifier.

    Decoding takes the memory of a clip and a few frames whatever the length of the video. What grows is the result: D numbers
    for each clip.

    Args:
        source: A video file, or an opened video.
        embed: What to see in clips.
        grid: Where they lie.
        transform: Which crops of them.
        video: Name of the video; that of the file without its ending when None.
        batch_size: Crops that go through the network together.
        model, commit: Noted in the feature file.
        on_clips: Called with the number of clips done and of all.

    Raises:
        DecodeError: If the video cannot be decoded exactly from beginning to end.
        FeatureError: If the network's features are not finite.
    """
    opened = open_video(source) if isinstance(source, str | Path) else source
    name = video or (Path(source).stem if isinstance(source, str | Path) else "video")
    rows: list[Tensor] = []
    scores: dict[str, list[Tensor]] = {}
    with opened as frames:
        places = grid.over(frames)
        crops = (crop for clip in clips_on(frames, places, transform) for crop in clip)
        done = 0
        while batch := list(islice(crops, batch_size)):
            features, logits = embed(torch.stack(batch))
            rows += features
            for task, part in (logits if isinstance(logits, Mapping) else {"": logits}).items():
                scores.setdefault(task, []).extend(part)
            done += len(batch)
            if on_clips is not None:
                on_clips(done // transform.num_crops, len(places))
    views = transform.num_crops
    by_task = {task: _joint(torch.stack(parts).unflatten(0, (-1, views))) for task, parts in scores.items()}
    return FeatureFile(
        video=name,
        features=torch.stack(rows).unflatten(0, (-1, views)).flatten(1),
        starts=torch.from_numpy(places.starts),
        centers=torch.from_numpy(places.centers),
        ends=torch.from_numpy(places.ends),
        duration=places.duration,
        fps=places.fps,
        stride=grid.stride,
        clip_frames=grid.span,
        model=model,
        commit=commit,
        logits=by_task.get("", by_task),
    )


def _joint(logits: Float[Tensor, "N V K"]) -> Float[Tensor, "N K"]:
    if logits.shape[1] == 1:
        return logits[:, 0]
    return logits.double().softmax(-1).mean(1).log().clamp(min=-1e4).float()


@dataclass
class Extracted:
    """What became of many videos.

    Args:
        written: Names of videos whose feature files were written now.
        finished: Names of those that had been written before.
        short: Names of those that are shorter than a clip; its frames are repeated.
        failed: Videos that have no features, and why.
    """

    written: list[str] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    short: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def extract_all(
    videos: Iterable[Path],
    folder: Path,
    embed: Embedding,
    grid: ClipGrid,
    transform: EvalTransform,
    *,
    opener: Callable[[Path], AbstractContextManager[OpenedVideo]] = open_video,
    batch_size: int = 8,
    model: str = "",
    commit: str = "",
    facts: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Extracted:
    """Write the feature files of many videos into a folder; what was finished by an earlier call is left as it is.

    A feature file appears under its name when it is whole. A video that cannot be decoded has none, and the others are done.

    Args:
        videos: Video files, or folders of pictures; a feature file has the name of the video without its ending.
        folder: Where feature files go, `extraction.json`, which says how they were made, and `classes.txt`, the names of the
            class scores where the facts tell them, which `FeatureData` reads.
        embed, grid, transform, batch_size, model, commit: As for `extract`.
        opener: Opens a video.
        facts: What else must agree with an earlier call, such as a hash of the weights; JSON. `classes` are the names of the
            classes of each task, of "" where there is one.
        progress: Show a bar with the time left, on the error stream.

    Raises:
        FeatureError: If two videos have one name, or the folder holds features that were made otherwise.
        OSError: If the folder cannot be written.
    """
    by_name: dict[str, Path] = {}
    for path in videos:
        name = path.name if path.is_dir() else path.stem  # a folder of pictures has no ending
        other = by_name.setdefault(name, path)
        if other != path:
            raise FeatureError(f"{other} and {path} would share the feature file of {name}; rename one, or part them")
    _agree(folder, described(grid, transform, facts or {}))
    result = Extracted()
    todo = {name: path for name, path in by_name.items() if not feature_path(folder, name).is_file()}
    result.finished = [name for name in by_name if name not in todo]
    with progress_bar(progress and bool(todo)) as bar:
        task = bar.add_task("videos", total=len(by_name), completed=len(result.finished))
        for place, (name, path) in enumerate(todo.items(), start=len(result.finished)):

            def told(done: int, of: int, place: int = place) -> None:
                bar.update(task, completed=place + done / of)

            try:
                file = extract(
                    opener(path),
                    embed,
                    grid,
                    transform,
                    video=name,
                    batch_size=batch_size,
                    model=model,
                    commit=commit,
                    on_clips=told,
                )
            except (DecodeError, FeatureError) as error:
                result.failed[name] = str(error)
            else:
                write(folder, file)
                result.written.append(name)
                if round(file.duration * file.fps) < file.clip_frames:
                    result.short.append(name)
            bar.update(task, completed=place + 1)
    return result


def read_facts(folder: str | Path) -> dict[str, Any]:
    """What `extract_all` noted of the features in a folder.

    Raises:
        FileNotFoundError: If it noted nothing there.
    """
    path = Path(folder) / FACTS
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} holds no {FACTS}, which says how its features were made; write features with 'kinema features' and "
            "train the localizer on them, or evaluate these with 'kinema validate'"
        )
    return json.loads(path.read_text(encoding="utf-8"))


def _agree(folder: Path, facts: Mapping[str, Any]) -> None:
    """Note how the features of a folder are made; refuse a folder in which they were made otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = json.loads(json.dumps(facts))  # as it will be read: lists for tuples
    if (folder / FACTS).is_file():
        found = read_facts(folder)
        other = [name for name in {**found, **wanted} if found.get(name) != wanted.get(name)]
        if other:
            told = "; ".join(f"{name}: {found.get(name)} there, {wanted.get(name)} now" for name in other)
            raise FeatureError(f"{folder} holds features that were made otherwise ({told}); give another folder")
        return
    if any(folder.glob("*.safetensors")):
        raise FeatureError(f"{folder} holds feature files and no {FACTS}; give a folder of their own to these")
    write_durably(folder / FACTS, json.dumps(wanted, indent=2) + "\n")
    if names := wanted.get("classes", {}).get(""):
        write_durably(folder / CLASSES, "".join(f"{name}\n" for name in names))


def described(grid: ClipGrid, transform: EvalTransform, facts: Mapping[str, Any]) -> dict[str, Any]:
    """How features are made, as `extraction.json` holds it."""
    crops = {"size": transform.size, "resize": transform.resize, "num_crops": transform.num_crops}
    return {"grid": asdict(grid), "transform": crops, **facts}
