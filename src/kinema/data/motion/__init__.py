"""The built-in dataset: short H.264 videos in which only the order of frames tells the class.

Twelve classes in six time-reversal pairs. Every validation clip stands in the set together with its own reversal,
made of the same frames bit for bit, so a network that ignores the order of frames cannot exceed 50 % top-1, whatever
it learns. This holds as long as the frames taken from a clip mirror too: the centres of T = 8 segments do on the
lengths used here (24 and 40 frames), as do those of any T for which frames / T is an odd number.

`prepare_untrimmed` makes long videos of the same motions, with background between them, for localization.

Never flip these clips in training: a flip turns left into right, up into down, and clockwise into counter-clockwise.
"""

from kinema.data.motion.integrity import verify_motion
from kinema.data.motion.prepare import prepare_motion
from kinema.data.motion.prepare_untrimmed import prepare_untrimmed
from kinema.data.motion.preview import preview
from kinema.data.motion.scenes import MOTION_CLASSES, REVERSED

__all__ = ["MOTION_CLASSES", "REVERSED", "prepare_motion", "prepare_untrimmed", "preview", "verify_motion"]
