"""TimeSformer with rotary positions as a LightningModule."""

from collections.abc import Sequence
from typing import Any, Literal

from kinema.training.classifier import VideoClassifier
from kinema.training.optim import Optimizer


class TimeSformerRotary(VideoClassifier):
    """Divided attention with rotary positions, as lucidrains/TimeSformer-pytorch has it: a network of its own.

    What is None takes the default of the size, see `kinema.models.options`. There are no pretrained weights and no
    published recipe; from random weights it needs a warm-up (`schedule.warmup_epochs`).

    Args:
        size: Of the transformer; every size below is an option of both.
        num_classes: K, or several such as [97, 300] for a verb and a noun; taken from the data when None.
        num_frames: Frames of a clip whose positions are learnt, for rotary=False.
        embed_dim: Size of the embedding.
        depth: Number of blocks.
        num_heads: Attention heads of a step.
        head_dim: Channels of a head.
        patch_size: Side of a patch in pixels.
        image_size: Side in pixels of the frames whose positions are learnt, for rotary=False.
        rotary: Rotate queries and keys by their position instead of learning positions.
        rotary_layout: Of the frequencies in time: the equation's, or that of weights trained by the code named above.
        token_shift: Shift thirds of the channels in time in front of every part of a block.
        attention_dropout: Rate of dropping a channel of what attention adds.
        feed_forward_dropout: Rate of dropping a hidden channel of the feed-forward part.
        dropout: Before the classifier.
        optimizer: AdamW at a rate of 1e-4 when None.
        training: Options of `VideoClassifier`: schedule, label_smoothing, freeze_norm, average, normalisation, compile,
            channels_last.
    """

    def __init__(
        self,
        size: Literal["nano", "base"] = "base",
        num_classes: int | Sequence[int] | None = None,
        *,
        num_frames: int | None = None,
        embed_dim: int | None = None,
        depth: int | None = None,
        num_heads: int | None = None,
        head_dim: int | None = None,
        patch_size: int | None = None,
        image_size: int | None = None,
        rotary: bool = True,
        rotary_layout: Literal["interleaved", "reference"] = "interleaved",
        token_shift: bool = False,
        attention_dropout: float = 0.0,
        feed_forward_dropout: float = 0.0,
        dropout: float = 0.0,
        optimizer: Optimizer | None = None,
        **training: Any,
    ) -> None:
        options: dict[str, Any] = {
            "rotary": rotary,
            "rotary_layout": rotary_layout,
            "token_shift": token_shift,
            "attention_dropout": attention_dropout,
            "feed_forward_dropout": feed_forward_dropout,
            "dropout": dropout,
        }
        of_the_size = {
            "num_frames": num_frames,
            "embed_dim": embed_dim,
            "depth": depth,
            "num_heads": num_heads,
            "head_dim": head_dim,
            "patch_size": patch_size,
            "image_size": image_size,
        }
        options |= {name: value for name, value in of_the_size.items() if value is not None}
        name = "timesformer_rotary_nano" if size == "nano" else "timesformer_rotary"
        super().__init__(name, num_classes, options, optimizer=optimizer or Optimizer("adamw", lr=1e-4), **training)
