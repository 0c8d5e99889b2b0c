"""A map-style dataset of clips: a record of a manifest becomes pixels."""

import random
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, NotRequired, Self, TypedDict

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from kinema.data.decoding import DecodeError, Decoder, open_video
from kinema.data.frame_cache import FrameSource, OpenedVideo
from kinema.data.loader import sample_seed
from kinema.data.manifest import Manifest, VideoRecord, resolve
from kinema.data.published_sampling import PublishedIntervals, PublishedScheme, PublishedSegments
from kinema.data.sampling import Clip, ClipKind, Dense, FrameScheme, Segments, draw_clips
from kinema.data.transforms import EvalTransform, TrainTransform

SUBSTITUTION_TRIES = 10


class ClipBatch(TypedDict):
    """N views of one or more videos. A training batch holds one view of each video, or several augmented ones."""

    clip: UInt8[Tensor, "N C T H W"]
    label: Int[Tensor, "N *labels"]
    """Class ids: (N,), or (N, labels) where a sample has several, such as a verb and a noun."""
    video: Int[Tensor, " N"]
    """Place of the video in its manifest."""
    view: Int[Tensor, " N"]
    num_views: Int[Tensor, " N"]
    start: Float[Tensor, " N"]
    end: Float[Tensor, " N"]
    decoded: Bool[Tensor, " N"]
    """False where the video could not be decoded and the clip is black: to be counted as wrong."""
    names: list[str]
    failures: list[tuple[str, str]]
    """Videos of this batch that could not be decoded, and why."""
    seed: NotRequired[Int[Tensor, " N"]]
    """In training: what the randomness of each sample came from, for what is drawn for the whole batch."""
    target: NotRequired[Float[Tensor, "N K"]]
    """In a mixed batch: the weight of each class, to be trained on in place of `label`; where a sample has several labels,
    those of all its tasks behind each other."""


@dataclass(frozen=True)
class View:
    """One view of a video: the crop of a clip."""

    pixels: UInt8[Tensor, "C T H W"]
    clip: Clip


class EvalClips:
    """All views of a video, clip by clip and crop by crop.

    Args:
        scheme: Which frames of a window.
        transform: Which crops of a clip.
        kind: How windows are placed.
        num_clips: Windows of a video, for `constant_clips_per_video`.
        decoder: Passed to `open_video`.
        cache: Where the frames of the videos are instead.
    """

    def __init__(
        self,
        scheme: FrameScheme | PublishedScheme,
        transform: EvalTransform,
        *,
        kind: ClipKind = "constant_clips_per_video",
        num_clips: int = 1,
        decoder: Decoder = "auto",
        cache: FrameSource | None = None,
    ) -> None:
        if kind == "random":
            raise ValueError("evaluation needs repeatable clips; use constant_clips_per_video or uniform")
        self.scheme, self.transform, self.kind = scheme, transform, kind
        self.num_clips, self.decoder, self.cache = num_clips, decoder, cache

    def facts(self) -> dict[str, Any] | None:
        """What a checkpoint keeps, so that it can be used without its run: plain values; None for a scheme of one's own."""
        if type(self.scheme) not in _SCHEMES.values():
            return None
        return {
            "scheme": type(self.scheme).__name__,
            **asdict(self.scheme),  # pyrefly: ignore[bad-argument-type]
            "transform": asdict(self.transform),
            "kind": self.kind,
            "num_clips": self.num_clips,
        }

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Self:
        """What gave these `facts`, on video files and by the default decoder."""
        rest = dict(facts)
        scheme, transform = _SCHEMES[rest.pop("scheme")], EvalTransform(**rest.pop("transform"))
        kind, num_clips = rest.pop("kind"), rest.pop("num_clips")
        return cls(scheme(**rest), transform, kind=kind, num_clips=num_clips)

    def __call__(
        self, source: str | Path | bytes, *, start: Fraction | None = None, end: Fraction | None = None
    ) -> list[View]:
        """Decode each wanted frame once and cut all views.

        Raises:
            DecodeError: If a wanted frame cannot be decoded exactly.
        """
        with opened(source, self.decoder, self.cache) as video:
            clips = draw_clips(
                self.scheme,
                _sample(video, start, end, source),
                fps=video.fps,
                kind=self.kind,
                num_clips=self.num_clips,
                rng=random.Random(0),
            )
            wanted = sorted({index for clip in clips for index in clip.indices})
            frames = video.decode(wanted)
        place = {index: i for i, index in enumerate(wanted)}
        return [
            View(crop.transpose(0, 1).contiguous(), clip)
            for clip in clips
            for crop in self.transform(frames[[place[index] for index in clip.indices]])
        ]


_SCHEMES: dict[str, Any] = {kind.__name__: kind for kind in (Segments, Dense, PublishedSegments, PublishedIntervals)}


class TrainClips:
    """One random clip of a video, randomly cropped and augmented.

    Args:
        scheme: Which frames of a window.
        transform: What is drawn for the pixels.
        num_repeats: How often the clip, decoded once, is transformed: each time with new draws (repeated augmentation, Hoffer
            et al. 2020, arXiv:1901.09335; `NUM_SAMPLE` of PySlowFast).
        decoder: Passed to `open_video`.
        cache: Where the frames of the videos are instead.
    """

    def __init__(
        self,
        scheme: FrameScheme | PublishedScheme,
        transform: TrainTransform,
        *,
        num_repeats: int = 1,
        decoder: Decoder = "auto",
        cache: FrameSource | None = None,
    ) -> None:
        if num_repeats < 1:
            raise ValueError(f"num_repeats must be at least 1, got {num_repeats}")
        self.scheme, self.transform, self.decoder, self.cache = scheme, transform, decoder, cache
        self.num_repeats = num_repeats

    def __call__(self, path: Path, record: VideoRecord, rng: random.Random) -> list[tuple[View, int]]:
        """The views, each with its label.

        Raises:
            DecodeError: If a wanted frame cannot be decoded exactly.
        """
        with opened(path, self.decoder, self.cache) as video:
            sample = _sample(video, record.start, record.end, path)
            (clip,) = draw_clips(self.scheme, sample, fps=video.fps, rng=rng)
            frames = video.decode(clip.indices)
        drawn = [self.transform(frames, record.label) for _ in range(self.num_repeats)]
        return [(View(pixels.transpose(0, 1).contiguous(), clip), label) for pixels, label in drawn]


def opened(
    source: str | Path | bytes, decoder: Decoder, cache: FrameSource | None
) -> AbstractContextManager[OpenedVideo]:
    """A video file or its content; or, where there is a cache, what it holds of that path."""
    if cache is None or isinstance(source, bytes):
        return open_video(source, decoder=decoder)
    return cache.open(Path(source))


def _sample(video: OpenedVideo, start: Fraction | None, end: Fraction | None, source: str | Path | bytes) -> range:
    """Frames between two times, by the clock of the video; at least one."""
    first = 0 if start is None else video.frame_at(start)
    # A video that ends before its sample begins is a wrong or cut video: one sample is lost, not the run.
    if start is not None and first >= video.num_frames:
        name = "a video in memory" if isinstance(source, bytes) else source
        raise DecodeError(
            f"{name}: the sample starts at {float(start):.3f} s and the video ends at "
            f"{float(video.num_frames / video.fps):.3f} s; correct its start in the manifest, or copy the video again"
        )
    stop = video.num_frames if end is None else min(video.frame_at(end), video.num_frames)
    return range(first, max(stop, first + 1))


class ClipDataset(Dataset):
    """Clips of a manifest by key (epoch, index).

    What a key gives depends on (seed, epoch, index) alone: not on the worker, the rank, or what was asked before.

    Args:
        manifest: The videos.
        root: Data root of their paths.
        cut: `TrainClips` or `EvalClips`. Only training may substitute.
        seed: Seed of all randomness.
        on_error: For training. `substitute` takes another video for one that cannot be decoded, of the same class where it
            can, and names it in `failures`; `raise` stops. Evaluation never substitutes: an undecodable video gives black clips
            with `decoded` False.
    """

    def __init__(
        self,
        manifest: Manifest,
        root: Path,
        cut: TrainClips | EvalClips,
        *,
        seed: int = 0,
        on_error: Literal["substitute", "raise"] = "substitute",
    ) -> None:
        self.manifest, self.root, self.cut = manifest, root, cut
        self.seed, self.on_error = seed, on_error
        self._of_class: dict[int, list[int]] = {}
        for index, record in enumerate(manifest.records):
            self._of_class.setdefault(record.label, []).append(index)

    def __len__(self) -> int:
        return len(self.manifest)

    def __getitem__(self, key: int | tuple[int, int]) -> ClipBatch:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        seed = sample_seed(self.seed, epoch, index)
        with torch.random.fork_rng(devices=[]):
            # torch.manual_seed would seed every accelerator too, in the middle of the network's own draws, and where none
            # is in use yet keep a call and its stack for each sample: a fifth of a small network's epoch.
            torch.default_generator.manual_seed(seed)
            if isinstance(self.cut, TrainClips):
                sample = self._train_sample(self.cut, index, random.Random(seed))
                sample["seed"] = torch.full((len(sample["clip"]),), seed)
                return sample
            return self._eval_sample(self.cut, index)

    def _train_sample(self, cut: TrainClips, index: int, rng: random.Random) -> ClipBatch:
        failures: list[tuple[str, str]] = []
        record = self.manifest.records[index]
        for _ in range(SUBSTITUTION_TRIES):
            try:
                drawn = cut(resolve(record, self.root), record, rng)
                # A mirror image may be of another class, so each repeat has its own label.
                samples = [
                    _batch_of([view], (label, *record.further_labels), index, record.path, decoded=True, failures=[])
                    for view, label in drawn
                ]
                samples[0]["failures"] += failures
                return samples[0] if len(samples) == 1 else collate(samples)
            except DecodeError as error:
                if self.on_error == "raise":
                    raise
                failures.append((record.path, str(error)))
                others = self._others(record.label, {path for path, _ in failures})
                if not others:
                    break
                index = rng.choice(others)
                record = self.manifest.records[index]
        raise DecodeError(
            f"{len(failures)} videos in turn could not be decoded, the last, {failures[-1][0]}, because: {failures[-1][1]}. "
            "Check them with 'kinema data check'"
        )

    def _others(self, label: int, tried: Collection[str]) -> list[int]:
        """Samples of other files than those tried: of a class, or of any where it has none left."""
        of_class = [index for index in self._of_class[label] if self.manifest.records[index].path not in tried]
        return of_class or [index for index, record in enumerate(self.manifest.records) if record.path not in tried]

    def _eval_sample(self, cut: EvalClips, index: int) -> ClipBatch:
        record = self.manifest.records[index]
        try:
            views = cut(resolve(record, self.root), start=record.start, end=record.end)
            return _batch_of(views, record.labels, index, record.path, decoded=True, failures=[])
        except DecodeError as error:
            size = cut.transform.size
            black = View(
                torch.zeros(3, cut.scheme.num_frames, size, size, dtype=torch.uint8),
                Clip([], Fraction(0), Fraction(0), 0),
            )
            return _batch_of(
                [black], record.labels, index, record.path, decoded=False, failures=[(record.path, str(error))]
            )


def collate(samples: Sequence[ClipBatch]) -> ClipBatch:
    """Put the views of several videos in one batch."""
    shapes = {tuple(sample["clip"].shape[1:]) for sample in samples}
    if len(shapes) > 1:
        raise ValueError(f"clips of different shapes (C, T, H, W) in one batch: {sorted(shapes)}")

    def join(key: str) -> Tensor:
        return torch.cat([sample[key] for sample in samples])  # pyrefly: ignore[bad-typed-dict-key]

    batch = ClipBatch(
        clip=join("clip"),
        label=join("label"),
        video=join("video"),
        view=join("view"),
        num_views=join("num_views"),
        start=join("start"),
        end=join("end"),
        decoded=join("decoded"),
        names=[name for sample in samples for name in sample["names"]],
        failures=[failure for sample in samples for failure in sample["failures"]],
    )
    if all("seed" in sample for sample in samples):
        batch["seed"] = join("seed")
    return batch


def _batch_of(
    views: list[View],
    labels: tuple[int, ...],
    video: int,
    name: str,
    *,
    decoded: bool,
    failures: list[tuple[str, str]],
) -> ClipBatch:
    count = len(views)
    label = torch.tensor(labels).repeat(count, 1)
    return ClipBatch(
        clip=torch.stack([view.pixels for view in views]),
        label=label if len(labels) > 1 else label.squeeze(1),
        video=torch.full((count,), video),
        view=torch.arange(count),
        num_views=torch.full((count,), count),
        start=torch.tensor([float(view.clip.start) for view in views], dtype=torch.float64),
        end=torch.tensor([float(view.clip.end) for view in views], dtype=torch.float64),
        decoded=torch.full((count,), decoded),
        names=[name] * count,
        failures=failures,
    )
