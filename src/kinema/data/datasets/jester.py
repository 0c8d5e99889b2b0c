"""Jester (Materzynska et al. 2019, ICCV workshops): 27 hand gestures before a webcam, as folders of frames at 12 per second."""

from kinema.data.datasets.twentybn import TwentyBNFolders


class Jester(TwentyBNFolders):
    """Jester: 27 hand gestures; six of them name a side or a turn, so never flip without `flip_pairs`.

    Lists are `jester-v1-{train,validation,labels}.csv` in the form of Something-Something V1.

    Args:
        root: Folder of the folders of frames.
        class_order: How classes are numbered: `sorted` by name as in the code of TSM, or as `listed` in the file of classes, as
            mmaction2 does.
        frames: Name of a frame by its number; None for video files.
        frames_fps: Frames per second.
        archive: Options of `ArchiveData`: annotations, prepared, subset, and those of `VideoDataModule`.
    """

    short_name, list_prefix, release = "jester", "jester-v1", "Jester"
    num_release_classes = 27
