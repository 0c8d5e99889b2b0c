"""Features of whole videos: a classifier slides over them, and what it sees goes into one feature file per video."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
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
from kinema.data.untrimmed.clip_grid import ClipGrid, GridClips, clips_on
from kinema.data.untrimmed.feature_files import (
    CLASSES,
    FeatureError,
    FeatureFacts,
    FeatureFile,
    describe_video,
)
from kinema.data.untrimmed.feature_writing import FeatureRows, feature_rows
from kinema.data.video_names import printable

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
    for each clip. `extract_to` writes these as they come.

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
    found: list[_Gathered] = []

    def gather(facts: FeatureFacts) -> AbstractContextManager[_Gathered]:
        found.append(_Gathered(facts))
        return nullcontext(found[0])

    name = video or (printable(Path(source).stem) if isinstance(source, str | Path) else "video")
    _slide(source, embed, grid, transform, gather, video=name, batch_size=batch_size, on_clips=on_clips)
    facts, by_task = found[0].facts, found[0].logits
    return FeatureFile(
        video=name,
        features=found[0].features,
        starts=facts.starts,
        centers=facts.centers,
        ends=facts.ends,
        duration=facts.duration,
        fps=facts.fps,
        stride=facts.stride,
        clip_frames=facts.clip_frames,
        model=model,
        commit=commit,
        logits=by_task.get("", by_task),
    )


def extract_to(
    folder: str | Path,
    source: str | Path | AbstractContextManager[OpenedVideo],
    embed: Embedding,
    grid: ClipGrid,
    transform: EvalTransform,
    *,
    video: str,
    batch_size: int = 8,
    model: str = "",
    commit: str = "",
    on_clips: Callable[[int, int], None] | None = None,
) -> FeatureFacts:
    """Slide over one video and write its feature file, clip by clip: no more than a batch is held, however long the video is.

    What grows are the numbers and seconds of frames and clips. The file appears when it is whole.

    Args:
        folder: Where `<video>.safetensors` goes.
        source, embed, grid, transform, video, batch_size, model, commit, on_clips: As for `extract`.

    Raises:
        DecodeError, FeatureError: As `extract`.
        OSError: If the file cannot be written.
    """

    def rows(facts: FeatureFacts) -> AbstractContextManager[FeatureRows]:
        return feature_rows(folder, facts, model=model, commit=commit)

    return _slide(source, embed, grid, transform, rows, video=video, batch_size=batch_size, on_clips=on_clips)


class _Gathered:
    """Rows of features and class scores in memory, in one piece from the beginning."""

    def __init__(self, facts: FeatureFacts) -> None:
        self.facts, self.added = facts, 0
        count = len(facts.centers)
        self.features = torch.empty(count, facts.dim)
        self.logits = {task: torch.empty(count, width) for task, width in facts.num_classes.items()}

    def add(self, features: Float[Tensor, "M D"], logits: Mapping[str, Float[Tensor, "M K"]]) -> None:
        place = slice(self.added, self.added + len(features))
        self.features[place] = features
        for task, part in logits.items():
            self.logits[task][place] = part
        self.added += len(features)


def _slide(
    source: str | Path | AbstractContextManager[OpenedVideo],
    embed: Embedding,
    grid: ClipGrid,
    transform: EvalTransform,
    into: Callable[[FeatureFacts], AbstractContextManager[_Gathered | FeatureRows]],
    *,
    video: str,
    batch_size: int,
    on_clips: Callable[[int, int], None] | None,
) -> FeatureFacts:
    """Add the rows of a video, batch by batch, to what `into` opens once their widths are known."""
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} puts nothing through the network; give 1 or more")
    views, done = transform.num_crops, 0
    facts: FeatureFacts | None = None
    rows: _Gathered | FeatureRows | None = None
    held: tuple[Tensor, dict[str, Tensor]] | None = None  # crops of a clip whose other crops are still to come
    with ExitStack() as stack:
        frames = stack.enter_context(open_video(source) if isinstance(source, str | Path) else source)
        places = grid.over(frames)
        crops = (crop for clip in clips_on(frames, places, transform) for crop in clip)
        while batch := list(islice(crops, batch_size)):
            features, logits = embed(torch.stack(batch))
            scores = dict(logits) if isinstance(logits, Mapping) else {"": logits}
            if held is not None:
                features = torch.cat([held[0], features])
                scores = {task: torch.cat([held[1][task], part]) for task, part in scores.items()}
            if rows is None:
                facts = _facts(video, places, grid, features.shape[1] * views, scores)
                rows = stack.enter_context(into(facts))
            whole = len(features) // views * views
            if whole:
                rows.add(
                    features[:whole].unflatten(0, (-1, views)).flatten(1),
                    {task: _joint(part[:whole].unflatten(0, (-1, views))) for task, part in scores.items()},
                )
            held = features[whole:].clone(), {task: part[whole:].clone() for task, part in scores.items()}
            done += len(batch)
            if on_clips is not None:
                on_clips(done // views, len(places))
    assert facts is not None, "a grid has a clip on every video"
    return facts


def _facts(video: str, places: GridClips, grid: ClipGrid, dim: int, scores: Mapping[str, Tensor]) -> FeatureFacts:
    return FeatureFacts(
        video,
        dim,
        torch.from_numpy(places.starts),
        torch.from_numpy(places.centers),
        torch.from_numpy(places.ends),
        {task: part.shape[1] for task, part in scores.items()},
        duration=places.duration,
        fps=places.fps,
        stride=grid.stride,
        clip_frames=grid.span,
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
        broken: Videos whose files were there, but not whole, so that they were made anew, and what was wrong.
    """

    written: list[str] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    short: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)


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

    Finished is a file whose header is whole and of this video; others are made anew.

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
        name = printable(path.name if path.is_dir() else path.stem)  # a folder of pictures has no ending
        other = by_name.setdefault(name, path)
        if other != path:
            raise FeatureError(f"{other} and {path} would share the feature file of {name}; rename one, or part them")
    _agree(folder, described(grid, transform, facts or {}))
    result = Extracted()
    todo = {}
    for name, path in by_name.items():
        broken = _broken(folder, name)
        if broken is None:
            result.finished.append(name)
            continue
        todo[name] = path
        if broken:
            result.broken[name] = broken
    with progress_bar(progress and bool(todo)) as bar:
        task = bar.add_task("videos", total=len(by_name), completed=len(result.finished))
        for place, (name, path) in enumerate(todo.items(), start=len(result.finished)):

            def told(done: int, of: int, place: int = place) -> None:
                bar.update(task, completed=place + done / of)

            try:
                made = extract_to(
                    folder,
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
                result.written.append(name)
                if round(made.duration * made.fps) < made.clip_frames:
                    result.short.append(name)
            bar.update(task, completed=place + 1)
    return result


def _broken(folder: Path, video: str) -> str | None:
    """What is wrong with the feature file of a video by its header; "" where there is none, None where it is whole."""
    try:
        describe_video(folder, video)
    except FileNotFoundError:
        return ""
    except FeatureError as error:
        return str(error)
    return None


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
