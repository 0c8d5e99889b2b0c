"""The built-in motion set as a data module: made on first use."""

from pathlib import Path
from typing import Any, Literal

from kinema.data.datamodule import VideoDataModule
from kinema.data.home import data_home
from kinema.data.motion import prepare_motion


class MotionData(VideoDataModule):
    """Short videos in which only the order of frames tells the class; see `kinema.data.motion`.

    Args:
        root: Where the set is made and looked for; `$KINEMA_DATA/motion`, or `~/.cache/kinema/motion`, when None.
        level: `easy`, or `hard` with smaller motion and more clutter.
        num_train: Training videos.
        num_val: Validation videos; every one stands beside its reversal.
        set_seed: Seed of the set itself.
        size: Side of the square clips in pixels.
        data: Options of `VideoDataModule`.
    """

    def __init__(
        self,
        root: str | None = None,
        *,
        level: Literal["easy", "hard"] = "easy",
        num_train: int = 2400,
        num_val: int = 480,
        set_seed: int = 0,
        size: int = 64,
        **data: Any,
    ) -> None:
        super().__init__(str(default_root() if root is None else root), size=size, **data)
        self.parent, self.level = self.root, level
        self.num_train, self.num_val, self.set_seed = num_train, num_val, set_seed

    def prepare_data(self) -> None:
        if self.shards is None:
            self._prepare(progress=True)

    def setup(self, stage: str | None = None) -> None:
        if self.shards is None:
            self.root = self._prepare(progress=False)  # complete after prepare_data, so this only names the folder
        super().setup(stage)

    def _prepare(self, *, progress: bool) -> Path:
        return prepare_motion(
            self.parent,
            level=self.level,
            seed=self.set_seed,
            num_train=self.num_train,
            num_val=self.num_val,
            progress=progress,
        )


def default_root() -> Path:
    """Where the set is made when nothing else is said: `$KINEMA_DATA/motion`, or `~/.cache/kinema/motion`."""
    return data_home() / "motion"
