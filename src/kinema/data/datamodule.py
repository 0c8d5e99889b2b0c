"""The Lightning data module: manifests in, resumable loaders of clips out."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import LightningDataModule

from kinema.data.augmentation.mixing import Mixing, mix_clips, mix_labels
from kinema.data.augmentation.options import Augmentation
from kinema.data.clips import ClipBatch, ClipDataset, EvalClips, TrainClips, collate
from kinema.data.decoding import Decoder
from kinema.data.decoding.frame_folder import FrameFolders
from kinema.data.frame_cache import FrameCache, FrameSource, prepare_frame_cache
from kinema.data.home import data_home
from kinema.data.loader import EpochBatches, ResumableLoader
from kinema.data.manifest import Manifest, ManifestError, read_manifest, resolve, split_by_path
from kinema.data.sampling import ClipKind, Dense, Rounding, Sampling, Segments, ShortVideo, frame_scheme
from kinema.data.shards.layout import CLASSES, FOLDER_LIST
from kinema.data.shards.source import ShardedVideos
from kinema.data.transforms import EvalTransform, TrainCrop, TrainTransform

_PARTS = ("train", "val", "test")
_PARTS_AS_FOLDERS = frozenset({*_PARTS, "training", "valid", "validation", "testing"})


class VideoDataModule(LightningDataModule):
    """Videos on disk, described by manifests.

    Where the videos are listed, in order of precedence: `manifest` (one CSV whose column `split` says train, val or
    test); `train`, `val` and `test` (a CSV or a folder per class each); `train` and `val` folders or CSVs found below
    `root`; else `root` itself as a folder per class, of which `val_fraction` is held out. What is given and would not be
    read is refused.

    Args:
        root: Data root; all paths are relative to it and none may leave it.
        manifest: One CSV with a `split` column, relative to `root`.
        train: CSV or folder per class of the training videos.
        val: CSV or folder per class of the validation videos.
        test: CSV or folder per class of the test videos; the validation videos when None, and then a test says so.
        classes: Text file with one class name a line, in the order of their ids; sorted from the labels when None.
        val_fraction: Share of each class held out when nothing says which videos are for validation.
        hold_out: To choose options without looking at the validation videos: this share of the training videos of each class
            validates (and tests) in their place, and the rest trains.
        num_frames: T, frames of a clip.
        sampling: `segment` takes one frame from each of T segments, `dense` takes T frames `stride_frames` apart.
        stride_frames: Distance of the frames of dense sampling.
        short_video: What dense sampling does where a video ends before the clip; other code than TSM's repeats the last frame.
        rounding: Whose arithmetic says which frames these are: `kinema`, or that of the code of `tsm`, `tada`, `timesformer` or
            `uniformer`, see `kinema.data.published_sampling`.
        target_fps: Frames per second at which `stride_frames` is meant; that of each video when None.
        num_clips: Clips of a video in validation and test.
        num_crops: Crops of a clip in validation and test: 1, 3, 5 or 10. Five of ten are mirrored, and refused where a class
            names a side, unless `flip_pairs` is [].
        clip_kind: How the clips of validation and test are placed.
        size: Side of the square clips in pixels.
        resize: Short side in pixels before a clip is cut; `size` when None.
        eval_size: Side of the square clips in validation and test, where it is another.
        eval_resize: Short side before a clip is cut there; `eval_size` when that is given, `resize` otherwise.
        train_crop: How training clips are cut: a box of random area and shape, a square at a random or the central place, or
            TSM's `multi_scale` boxes.
        train_scale: Share of the area that `random_resized` keeps, smallest and largest.
        train_jitter: Smallest and largest short side in pixels, drawn for each training clip that is cut at `random`.
        train_jitter_inverse: Draw the reciprocal of the short side, so that small ones come more often.
        flip: Probability of mirroring a training clip; refused where a class names a side, unless `flip_pairs` says what
            becomes of it.
        flip_pairs: Names of classes that swap when mirrored; `auto` derives them from the words left, right and clockwise in
            the names of the classes.
        augment: RandAugment, colours and erasing in training.
        num_repeats: How often each training clip is cut and augmented, with new draws; a batch has so many times more clips.
        mixing: MixUp and CutMix of training batches.
        batch_size: Videos of a training batch on one process.
        eval_batch_size: Videos of a validation batch on one process; `batch_size` when None.
        num_workers: Worker processes of each loader.
        decoder: Which decoder reads the files.
        frames: Where videos are folders of pictures: the name of a picture by its number, such as `{:05d}.jpg`.
        frames_fps: Pictures per second in such folders.
        shards: Folder or address of what `kinema data shard` wrote: videos and lists come from there, and nothing from `root`.
            The samples are those of the files, in the same order, and a run may go on from one with the other. Chunks of an
            object store (`s3://bucket/folder`) are fetched as they are wanted, and kept below `$KINEMA_DATA/shards` or
            `~/.cache/kinema/shards`.
        frame_cache: Decode every frame once, before training, and keep it with its short side resized, for this run and all
            others: for small sets that many runs train on. Not for what sees the whole frame: `random_resized` crops,
            `multi_scale` ones without `resize`, and augmentation before the crop.
            They lie in `$KINEMA_DATA/frames`, or `~/.cache/kinema/frames`.
        on_error: What training does with a video that cannot be decoded.
        max_error_rate: Largest share of training videos that may be undecodable before the run stops.
        seed: Seed of all randomness of the data; that of the run when None.
    """

    def __init__(
        self,
        root: str,
        *,
        manifest: str | None = None,
        train: str | None = None,
        val: str | None = None,
        test: str | None = None,
        classes: str | None = None,
        val_fraction: float = 0.2,
        hold_out: float = 0.0,
        num_frames: int = 8,
        sampling: Sampling = "segment",
        stride_frames: int = 8,
        short_video: ShortVideo = "loop",
        rounding: Rounding = "kinema",
        target_fps: float | None = None,
        num_clips: int = 1,
        num_crops: int = 1,
        clip_kind: ClipKind = "constant_clips_per_video",
        size: int = 224,
        resize: int | None = None,
        eval_size: int | None = None,
        eval_resize: int | None = None,
        train_crop: TrainCrop = "random_resized",
        train_scale: tuple[float, float] = (0.35, 1.0),
        train_jitter: tuple[int, int] | None = None,
        train_jitter_inverse: bool = False,
        flip: float = 0.0,
        flip_pairs: list[tuple[str, str]] | Literal["auto"] | None = None,
        augment: Augmentation | None = None,
        num_repeats: int = 1,
        mixing: Mixing | None = None,
        batch_size: int = 8,
        eval_batch_size: int | None = None,
        num_workers: int = 2,
        decoder: Decoder = "auto",
        frames: str | None = None,
        frames_fps: float = 30.0,
        shards: str | None = None,
        frame_cache: bool = False,
        on_error: Literal["substitute", "raise"] = "substitute",
        max_error_rate: float = 0.01,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.root = Path(root).expanduser()
        self.sources = {"manifest": manifest, "train": train, "val": val, "test": test}
        beside = next((part for part in _PARTS if self.sources[part]), None)
        if manifest and beside:
            raise ValueError(
                f"manifest={manifest} says by its column split what {beside}={self.sources[beside]} says too; give one of them"
            )
        self.classes, self.val_fraction = classes, val_fraction
        if not 0 <= hold_out < 1:
            raise ValueError(f"hold_out={hold_out} is no share of the training videos; give a number from 0 to below 1")
        self.hold_out = hold_out
        self.scheme = frame_scheme(
            sampling, num_frames, stride_frames, short_video=short_video, rounding=rounding, target_fps=target_fps
        )
        if clip_kind == "uniform" and not isinstance(self.scheme, Segments | Dense):
            raise ValueError(
                f"clip_kind 'uniform' tiles a video, and the code of '{rounding}' does not; use rounding 'kinema'"
            )
        self.size, self.resize, self.num_repeats = size, resize, num_repeats
        # A run's configuration, read back, holds mappings.
        self.mixing = Mixing(**mixing) if isinstance(mixing, Mapping) else mixing
        augment = Augmentation(**augment) if isinstance(augment, Mapping) else augment or Augmentation()
        self.train_transform = TrainTransform(
            size,
            crop=train_crop,
            resize=resize,
            jitter=None if train_jitter is None else (train_jitter[0], train_jitter[1]),
            jitter_inverse=train_jitter_inverse,
            scale=train_scale,
            flip=flip,
            augment=augment,
        )
        if eval_size is None and eval_resize is None:
            eval_resize = resize
        self.flip, self.flip_pairs = flip, flip_pairs
        self.folders = None if frames is None else FrameFolders(frames, frames_fps)
        self.eval_clips = EvalClips(
            self.scheme,
            EvalTransform(eval_size or size, eval_resize, num_crops),  # pyrefly: ignore[bad-argument-type]
            kind=clip_kind,
            num_clips=num_clips,
            decoder=decoder,
            cache=self.folders,
        )
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size or batch_size
        self.num_workers, self.decoder = num_workers, decoder
        whole = {"train_crop": train_crop} if train_crop == "random_resized" else {}
        whole |= {"train_crop": train_crop} if train_crop == "multi_scale" and resize is None else {}
        whole |= {"augment.before_crop": True} if augment.before_crop else {}
        whole |= {"train_jitter": train_jitter} if train_jitter is not None else {}
        whole |= {"eval_size": eval_size} if eval_size is not None else {}
        whole |= {"eval_resize": eval_resize} if eval_resize != resize else {}
        if frame_cache and whole:
            name, value = next(iter(whole.items()))
            raise ValueError(
                f"frame_cache=True keeps frames with their short side resized, and {name}={value!r} needs them as they are; "
                "give train_crop 'random' or 'center' and one size, or leave the cache out"
            )
        if frame_cache and frames is not None:
            raise ValueError(
                f"frame_cache=True keeps frames of video files, and frames='{frames}' are pictures already"
            )
        if frame_cache and shards is not None:
            raise ValueError(
                f"frame_cache=True keeps frames of video files, and shards='{shards}' are read; leave one of them out"
            )
        self.frame_cache, self.shards = frame_cache, shards
        self.cache: FrameSource | None = self.folders
        self.on_error: Literal["substitute", "raise"] = on_error
        self.max_error_rate = max_error_rate
        self.seed = seed
        self.manifests: dict[str, Manifest] = {}
        self._train_loader: ResumableLoader | None = None
        self._resume_from: dict[str, int] | None = None

    @property
    def class_names(self) -> list[str]:
        """Names of the classes by id; known after `setup`."""
        return self.manifests["train"].class_names

    @property
    def tasks(self) -> dict[str, list[str]]:
        """Where a sample has several labels: what each tells and its class names by id; empty for one label."""
        return self.manifests["train"].tasks

    @property
    def test_is_validation(self) -> bool:
        """Whether nothing says which videos are for tests, so that those of validation are; known after `setup`."""
        return self.manifests["test"] is self.manifests["val"]

    def setup(self, stage: str | None = None) -> None:
        if self.manifests:
            return
        if self.shards is not None:
            self._read_from_shards(self.shards)
        if not self.root.is_dir():
            raise ManifestError(
                f"the data root {self.root} is not a folder; give the folder of your videos as --data.root"
            )
        self.manifests = self.read_manifests()
        if self.hold_out:
            train, held_out = split_by_path(self.manifests["train"], val_fraction=self.hold_out)
            self.manifests = {"train": train, "val": held_out, "test": held_out}
        for part, manifest in self.manifests.items():
            if not len(manifest):
                raise ManifestError(f"no video for '{part}' in {self.root}; add some, or name another manifest")
            self._check_present(part, manifest)
        if self.frame_cache:
            self.cache = self.eval_clips.cache = self._prepare_cache()

    def read_manifests(self) -> dict[str, Manifest]:
        """The manifests of train, val and test. All share the classes of training."""
        names = self._class_names()
        if self.sources["manifest"]:
            whole = read_manifest(self.sources["manifest"], root=self.root, class_names=names)
            parts = {part: whole.where(split=part) for part in _PARTS}
            if not len(parts["train"]) or not len(parts["val"]) or set(whole.splits) - set(_PARTS):
                raise ManifestError(
                    f"the column split of {self.sources['manifest']} must say train, val or test, and have rows for train "
                    f"and val; it says {whole.splits}"
                )
        else:
            found = {part: self.sources[part] or self._find(part) for part in _PARTS}
            if not found["train"]:
                self._refuse_parts_without_training(found)
                everything = self.root if self.shards is None else self.root / FOLDER_LIST
                train, val = split_by_path(
                    read_manifest(everything, root=self.root, class_names=names), val_fraction=self.val_fraction
                )
                return {"train": train, "val": val, "test": val}
            if not found["val"]:
                raise ManifestError(f"{self.root} has training videos but no 'val' beside them; name it as --data.val")
            parts = {"train": read_manifest(found["train"], root=self.root, class_names=names)}
            names = parts["train"].class_names
            for part in ("val", "test"):
                source = found[part]
                if source:
                    parts[part] = read_manifest(source, root=self.root, class_names=names)
        if not len(parts.get("test", ())):
            parts["test"] = parts["val"]
        return parts

    def _refuse_parts_without_training(self, found: Mapping[str, str | None]) -> None:
        """What would be left out without a word where the root itself is read as a folder per class."""
        for part in ("val", "test"):
            where = found[part]
            # A class may be called 'test': a folder of videos, not one of folders.
            asked = self.sources[part] is not None
            if where and (asked or (self.root / where).is_file() or _holds_folders(self.root / where)):
                raise ManifestError(
                    f"{self.root / where} is there for '{part}', and nothing says which videos are for training; name them as "
                    "--data.train, or put 'train' or train.csv beside it"
                )
        folders = {entry.name for entry in self.root.iterdir() if entry.is_dir() and not entry.name.startswith(".")}
        if folders and all(name.lower() in _PARTS_AS_FOLDERS for name in folders) and self.shards is None:
            raise ManifestError(
                f"the folders {sorted(folders)} in {self.root} are named as parts of a data set, not as classes; name them "
                "as --data.train, --data.val and --data.test"
            )

    def train_dataloader(self) -> ResumableLoader:
        pairs = tuple((self._id_of(a), self._id_of(b)) for a, b in self._flip_pairs())
        transform = replace(self.train_transform, flip_pairs=pairs)
        cut = TrainClips(self.scheme, transform, num_repeats=self.num_repeats, decoder=self.decoder, cache=self.cache)
        self._train_loader = self._loader("train", cut)
        if self._resume_from is not None:
            self._train_loader.load_state_dict(self._resume_from)
            self._resume_from = None
        return self._train_loader

    def val_dataloader(self) -> ResumableLoader:
        self._refuse_mirrored_crops()
        return self._loader("val", self.eval_clips)

    def test_dataloader(self) -> ResumableLoader:
        self._refuse_mirrored_crops()
        return self._loader("test", self.eval_clips)

    def on_after_batch_transfer(self, batch: ClipBatch, dataloader_idx: int) -> ClipBatch:
        """Mix a training batch, on the device; which way follows from the seed of its first sample."""
        if self.mixing is None or "seed" not in batch:
            return batch
        mix = self.mixing.draw(*batch["clip"].shape[-2:], seed=int(batch["seed"][0]))
        if mix is not None:
            batch["clip"] = mix_clips(batch["clip"], mix)
            sizes = [len(names) for names in self.tasks.values()] or [len(self.class_names)]
            labels = batch["label"].reshape(-1, len(sizes)).unbind(1)
            parts = [mix_labels(label, size, mix) for label, size in zip(labels, sizes, strict=True)]
            batch["target"] = torch.cat(parts, dim=1)
        return batch

    def state_dict(self) -> dict[str, Any]:
        """The place within the epoch.

        Lightning asks the loader too, but gives the state back only to loaders made after it read the checkpoint, and
        sizing a learning rate schedule makes them before.
        """
        return {} if self._train_loader is None else {"train_loader": self._train_loader.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._resume_from = state_dict.get("train_loader")

    def _loader(self, part: str, cut: TrainClips | EvalClips) -> ResumableLoader:
        training = isinstance(cut, TrainClips)
        rank, world_size = self._rank()
        dataset = ClipDataset(self.manifests[part], self.root, cut, seed=self._run_seed(), on_error=self.on_error)
        batches = EpochBatches(
            len(dataset),
            self.batch_size if training else self.eval_batch_size,
            shuffle=training,
            seed=self._run_seed(),
            rank=rank,
            world_size=world_size,
            drop_last=training,
        )
        return ResumableLoader(
            dataset,
            batches,
            collate_fn=collate,
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=training and self.num_workers > 0,
        )

    def _prepare_cache(self) -> FrameCache:
        records = [record for manifest in self.manifests.values() for record in manifest.records]
        paths = [resolve(record, self.root) for record in records]
        return prepare_frame_cache(data_home() / "frames", paths, self.resize or self.size, decoder=self.decoder)

    def _rank(self) -> tuple[int, int]:
        if self.trainer is None:
            return 0, 1
        if self.trainer.world_size > 1 and self.trainer._accelerator_connector.use_distributed_sampler:
            raise ValueError(
                "the data module deals batches to processes itself; build the Trainer with use_distributed_sampler=False"
            )
        return self.trainer.global_rank, self.trainer.world_size

    def _run_seed(self) -> int:
        return self.seed if self.seed is not None else int(os.environ.get("PL_GLOBAL_SEED", 0))

    def _class_names(self) -> list[str] | None:
        # Folders name the classes, and what they were called goes along with shards of them.
        name = self.classes or (CLASSES if self.shards is not None and (self.root / CLASSES).is_file() else None)
        if name is None:
            return None
        path = self.root / name
        if not path.is_file():
            raise ManifestError(f"the file of class names {path} does not exist; write one name a line")
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]

    def _find(self, part: str) -> str | None:
        return next((name for name in (part, f"{part}.csv") if (self.root / name).exists()), None)

    def _id_of(self, name: str) -> int:
        if name not in self.class_names:
            raise ManifestError(f"flip_pairs names the class '{name}', which is none of {self.class_names}")
        return self.class_names.index(name)

    def _flip_pairs(self) -> list[tuple[str, str]]:
        if self.flip_pairs is not None and self.flip_pairs != "auto":
            return list(self.flip_pairs)
        from kinema.data.datasets.mirror_pairs import mirror_pairs, mirrored_name  # its folder is built on this one

        if self.flip_pairs == "auto":
            return mirror_pairs(self.class_names)
        sided = self._sided_class()
        if self.flip and sided is not None:
            raise ValueError(
                f"flip={self.flip} mirrors clips, one of '{sided}' then shows '{mirrored_name(sided)}', labelled as before; "
                "set flip_pairs to auto, flip to 0, or flip_pairs to [] to mirror clips nonetheless"
            )
        return []

    def _sided_class(self) -> str | None:
        """The first class whose clips show another one in a mirror, by its name; None if there is none."""
        from kinema.data.datasets.mirror_pairs import mirrored_name

        return next((name for name in self.class_names if mirrored_name(name) != name), None)

    def _refuse_mirrored_crops(self) -> None:
        if self.eval_clips.transform.num_crops != 10 or self.flip_pairs == []:
            return
        pairs = self.flip_pairs if self.flip_pairs != "auto" else None
        sided = pairs[0][0] if pairs else self._sided_class()
        if sided is not None:
            raise ValueError(
                f"num_crops=10 scores five mirrored crops, and one of '{sided}' shows another class in a mirror; take 5 crops, "
                "or set flip_pairs to [] to score them nonetheless"
            )

    def _read_from_shards(self, where: str) -> None:
        """Take the folder of the shards for the data root, and videos out of it."""
        source = ShardedVideos(where, folders=self.folders, decoder=self.decoder)
        self.root, self.cache, self.eval_clips.cache = source.folder, source, source

    def _check_present(self, part: str, manifest: Manifest) -> None:
        paths = [(record.path, resolve(record, self.root)) for record in manifest.records]
        held = self.cache.__contains__ if isinstance(self.cache, ShardedVideos) else Path.exists
        absent = [name for name, path in paths if not held(path)]
        if len(absent) == len(manifest) or (part == "train" and len(absent) > self.max_error_rate * len(manifest)):
            raise ManifestError(
                f"{len(absent)} of {len(manifest)} '{part}' videos are missing below {self.root}, such as {absent[:3]}; "
                "correct --data.root, or restore the files and look with 'kinema data check'"
            )


def _holds_folders(path: Path) -> bool:
    return any(entry.is_dir() for entry in path.iterdir())
