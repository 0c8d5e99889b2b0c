"""A classifier of a few classes that nobody has trained, in a checkpoint, and videos of a few frames."""

import torch

from kinema.data.clips import EvalClips
from kinema.data.motion.encoding import encode_mp4
from kinema.data.sampling import Segments
from kinema.data.transforms import EvalTransform, Normalisation
from kinema.training import TSM

NAMES = ["falling", "rising", "turning", "waiting"]


def make_module(**options):
    torch.manual_seed(0)
    module = TSM("nano", len(NAMES), normalisation=Normalisation((0.4, 0.5, 0.6), (0.2, 0.25, 0.3)), **options)
    torch.nn.init.normal_(module.network.head.fc.weight, std=0.3)
    module.class_names = NAMES
    return module.eval()


def without_numbers(module):
    """The module, its head as training that diverged leaves it."""
    torch.nn.init.constant_(module.network.head.fc.weight, float("nan"))
    return module


def write_checkpoint(path, module, clips=None, **changes):
    """What Lightning writes of such a module."""
    checkpoint = {"hyper_parameters": dict(module.hparams), "state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    checkpoint["kinema"] |= {"clips": None if clips is None else clips.facts()} | changes
    torch.save(checkpoint, path)
    return path


def small_clips():
    return EvalClips(Segments(4), EvalTransform(32, 40))


def moving(num_frames, *, height=48, width=64):
    """A bright square that goes right, then is gone: a frame tells when it was shown."""
    frames = torch.full((num_frames, height, width, 3), 40, dtype=torch.uint8)
    for number in range(num_frames):
        left = number * (width - 16) // max(num_frames - 1, 1)
        frames[number, 16:32, left : left + 16] = torch.tensor([255 - 3 * number, 60, 3 * number], dtype=torch.uint8)
    return frames.numpy()


def write_video(path):
    """Two seconds."""
    path.write_bytes(encode_mp4(moving(50), intra_only=True))
    return path
