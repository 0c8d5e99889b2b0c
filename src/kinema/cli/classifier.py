"""Which classifier: the options that `kinema predict`, `export`, `demo`, `features` and `localize` share."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from kinema.cli.profile import network_options

if TYPE_CHECKING:
    from kinema.data.clips import EvalClips
    from kinema.training.restore import Predictor

_CUTTING = ("num_frames", "size", "resize", "sampling", "stride_frames", "num_clips", "num_crops")
_OF_WEIGHTS = ("num_classes", "mean", "std")


def add_classifier(parser: argparse.ArgumentParser, *, views: bool = True) -> None:
    """Options that say which classifier, and how clips are cut for weights that do not say it.

    Args:
        views: See `add_weights`.
    """
    parser.add_argument("--run", help="folder of a run, or of several; then the newest is taken")
    parser.add_argument(
        "--checkpoint",
        help="with --run: last (the default) or best; without: a checkpoint of kinema, or with --model weights of its authors",
    )
    parser.add_argument("--device", default="cpu", help="such as cuda:0; %(default)s when not given")
    add_weights(parser, "--checkpoint", views=views)


def add_weights(parser: argparse.ArgumentParser, option: str, *, views: bool = True) -> None:
    """Options that say which network a file of weights is of, which comes by `option`, and how its clips are cut.

    Args:
        views: Whether the command averages over clips and crops of a video, so that their numbers can be given.
    """
    weights = parser.add_argument_group(f"weights of other code ({option} FILE --model NAME), and old checkpoints")
    weights.add_argument("--model", help="name of the network, see 'kinema models'")
    weights.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="an option of the network")
    weights.add_argument("--num-classes", type=int, help="400 when not given")
    weights.add_argument(
        "--classes", type=Path, metavar="FILE", help="class names, one a line in the order of their ids"
    )
    weights.add_argument(
        "--mean", type=float, nargs=3, metavar="M", help="of the colours, in [0, 1]; ImageNet's otherwise"
    )
    weights.add_argument("--std", type=float, nargs=3, metavar="S", help="their standard deviation")
    weights.add_argument("--bgr", action="store_true", help="the weights take blue first")
    weights.add_argument("--num-frames", type=int, help="frames of a clip; 8 when not given")
    weights.add_argument("--size", type=int, help="side of the square clips in pixels; 224 when not given")
    weights.add_argument(
        "--resize", type=int, help="short side in pixels before clips are cut; the size when not given"
    )
    weights.add_argument("--sampling", choices=("segment", "dense"), help="segment when not given")
    weights.add_argument("--stride-frames", type=int, help="distance of the frames of dense sampling; 8 when not given")
    if not views:
        parser.set_defaults(num_clips=None, num_crops=None)
        return
    weights.add_argument("--num-clips", type=int, help="clips of a video whose scores are averaged; 1 when not given")
    weights.add_argument("--num-crops", type=int, choices=(1, 3, 5, 10), help="crops of a clip; 1 when not given")


def load_predictor(options: argparse.Namespace) -> "Predictor":
    """The classifier that was asked for.

    Raises:
        FileNotFoundError: If a file or a run is not there.
        ValueError: If options contradict one another, or a file is no checkpoint or not of the network named.
    """
    from kinema.training.restore import Predictor

    need_device(options.device)
    given = [name for name in (*_CUTTING, *_OF_WEIGHTS) if getattr(options, name) is not None]
    given += [name for name in ("model", "option", "bgr") if getattr(options, name)]
    if options.run is not None:
        which = options.checkpoint or "last"
        if which not in ("last", "best"):
            raise ValueError(
                f"--checkpoint {which} was given with --run, which takes 'last' or 'best'; leave --run out for a file"
            )
        _refuse(given, "a run says it itself")
        predictor = Predictor.from_run(options.run, which=which, device=options.device)
    elif options.checkpoint is None:
        raise ValueError("nothing says which classifier; give --run RUN, or --checkpoint FILE")
    elif options.model is not None:
        return _from_weights(options)
    else:
        _refuse(
            [name for name in given if name not in _CUTTING],
            "a checkpoint of kinema says it itself; or give --model too",
        )
        clips = _clips(options) if any(name in given for name in _CUTTING) else None
        predictor = Predictor.from_checkpoint(options.checkpoint, clips=clips, device=options.device)
    return predictor if options.classes is None else _named(predictor, options.classes)


def need_device(name: str) -> None:
    """Refuse a device that is not there.

    Raises:
        ValueError: If the name is of none, or of a GPU that PyTorch does not find.
    """
    import torch

    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"--device {name} names no device; give cpu, or cuda:0 and the like") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"--device {name} was given, and PyTorch finds no GPU here; leave it out for the CPU")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"--device {name} was given, and PyTorch finds {torch.cuda.device_count()} GPUs here; the last is "
            f"cuda:{torch.cuda.device_count() - 1}"
        )


def need_batch_size(size: int) -> None:
    """Refuse batches of nothing.

    Raises:
        ValueError: If the size is below 1.
    """
    if size < 1:
        raise ValueError(f"--batch-size {size} puts nothing through the network; give 1 or more")


def _refuse(given: list[str], why: str) -> None:
    if given:
        raise ValueError(f"--{given[0].replace('_', '-')} was given, and {why}; leave it out")


def _from_weights(options: argparse.Namespace) -> "Predictor":
    from kinema.data.transforms import Normalisation
    from kinema.training.restore import Predictor

    names = None if options.classes is None else _read_names(options.classes)
    plain = Normalisation()
    return Predictor.from_weights(
        options.checkpoint,
        options.model,
        options.num_classes or (400 if names is None else len(names)),
        _clips(options),
        options=network_options(options.option),
        normalisation=Normalisation(
            tuple(options.mean or plain.mean),  # pyrefly: ignore[bad-argument-type]
            tuple(options.std or plain.std),  # pyrefly: ignore[bad-argument-type]
            options.bgr,
        ),
        class_names=names,
        device=options.device,
    )


def _clips(options: argparse.Namespace) -> "EvalClips":
    from kinema.data.clips import EvalClips
    from kinema.data.sampling import frame_scheme
    from kinema.data.transforms import EvalTransform

    return EvalClips(
        frame_scheme(options.sampling or "segment", options.num_frames or 8, options.stride_frames or 8),
        EvalTransform(options.size or 224, options.resize, options.num_crops or 1),
        num_clips=options.num_clips or 1,
    )


def _named(predictor: "Predictor", file: Path) -> "Predictor":
    from dataclasses import replace

    from kinema.training.restore import without_names

    names = _read_names(file)
    if len(names) != len(predictor.class_names) or predictor.module.tasks:
        raise ValueError(
            f"{file} names {len(names)} classes and the classifier has {len(predictor.class_names)}; give one name a line"
        )
    file_read = predictor.checkpoint
    unnamed = () if file_read is None else without_names(predictor.module, file_read)
    predictor.module.class_names = names
    return replace(predictor, notes=tuple(note for note in predictor.notes if note not in unnamed))


def _read_names(file: Path) -> list[str]:
    names = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not names:
        raise ValueError(f"{file} names no class; write one name a line, in the order of the ids")
    return names
