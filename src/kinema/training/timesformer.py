"""TimeSformer as a LightningModule."""

from collections.abc import Sequence
from typing import Any, Literal

from kinema.training.classifier import VideoClassifier
from kinema.training.optim import Optimizer


class TimeSformer(VideoClassifier):
    """An image transformer that attends to space and time (Bertasius, Wang and Torresani 2021, arXiv:2102.05095).

    What is None takes the default of the size, see `kinema.models.options`.

    Args:
        size: Of the transformer; hr is for frames of 448 pixels, large for clips of 96 frames.
        num_classes: K, or several such as [97, 300] for a verb and a noun; taken from the data when None.
        num_frames: Frames of a clip whose positions are learnt.
        attention_scheme: Which tokens see which: the table in `kinema.operators.attention`.
        attention_order: Steps one after another, the last one first, or all from the same tokens.
        local_border: Windows of local attention at the border of a frame.
        class_everywhere: The class token takes part in gated steps too, as in the paper's equations.
        causal: Attention over time sees this frame and the `num_frames` - 1 before it, for online use.
        position: What positions are learnt.
        position_resize: Positions for clips of another size.
        image_size: Side in pixels of the frames whose positions are learnt.
        qkv_bias: Whether queries, keys and values have a bias.
        qk_scale: Of the products of queries and keys; head size ** -0.5 when None.
        drop_path: Rate of stochastic depth at the last block.
        checkpointing: Compute blocks again in the backward pass instead of keeping what it needs.
        weight_init: Values that parameters start from: `authors` for a network that gets an image transformer's weights, or
            `scratch`, that of size nano.
        embed_dim: Size of the embedding, for size nano.
        depth: Number of blocks, for size nano.
        num_heads: Attention heads of a step, for size nano.
        mlp_ratio: Hidden channels of the feed-forward part over the embedding, for size nano.
        patch_size: Side of a patch in pixels, for size nano.
        dropout: Before the classifier.
        optimizer: SGD with Nesterov momentum, all parameters decayed, when None.
        training: Options of `VideoClassifier`: schedule, label_smoothing, freeze_norm, average, normalisation, compile,
            channels_last. The authors normalise by mean 0.45 and deviation 0.225, and average logits.
    """

    def __init__(
        self,
        size: Literal["nano", "base", "hr", "large"] = "base",
        num_classes: int | Sequence[int] | None = None,
        *,
        num_frames: int | None = None,
        attention_scheme: Literal["space", "joint", "divided", "local_global", "axial"] = "divided",
        attention_order: Literal["sequential", "reversed", "parallel"] = "sequential",
        local_border: Literal["clamp", "truncate"] = "clamp",
        class_everywhere: bool = False,
        causal: bool = False,
        position: Literal["none", "space", "space_time"] = "space_time",
        position_resize: Literal["smooth", "nearest", "none"] = "smooth",
        image_size: int | None = None,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        drop_path: float | None = None,
        checkpointing: bool = False,
        weight_init: Literal["authors", "scratch"] | None = None,
        embed_dim: int | None = None,
        depth: int | None = None,
        num_heads: int | None = None,
        mlp_ratio: float | None = None,
        patch_size: int | None = None,
        dropout: float = 0.0,
        optimizer: Optimizer | None = None,
        **training: Any,
    ) -> None:
        options: dict[str, Any] = {
            "attention_scheme": attention_scheme,
            "attention_order": attention_order,
            "local_border": local_border,
            "class_everywhere": class_everywhere,
            "causal": causal,
            "position": position,
            "position_resize": position_resize,
            "qkv_bias": qkv_bias,
            "qk_scale": qk_scale,
            "checkpointing": checkpointing,
            "dropout": dropout,
        }
        of_the_size = {
            "num_frames": num_frames,
            "image_size": image_size,
            "weight_init": weight_init,
            "drop_path": drop_path,
            "embed_dim": embed_dim,
            "depth": depth,
            "num_heads": num_heads,
            "mlp_ratio": mlp_ratio,
            "patch_size": patch_size,
        }
        options |= {name: value for name, value in of_the_size.items() if value is not None}
        super().__init__(
            f"timesformer_{size}", num_classes, options, optimizer=optimizer or Optimizer.timesformer(), **training
        )
