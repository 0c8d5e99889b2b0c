"""UniFormer as a LightningModule."""

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor

from kinema.models.uniformer import TwoHeadedNetwork
from kinema.training.classifier import VideoClassifier
from kinema.training.optim import Optimizer


class UniFormer(VideoClassifier):
    """Convolutions among neighbours in shallow stages, attention over the clip in deep ones (Li et al. 2022,
    arXiv:2201.04676); XXS and XS are the light networks of its second paper (arXiv:2201.09450).

    What is None takes the default of the size, see `kinema.models.options`.

    Args:
        size: Of the network.
        num_classes: K, or several such as [97, 300] for a verb and a noun; taken from the data when None.
        num_frames: Frames of a clip; nothing depends on it.
        depths: Blocks in each of the four stages.
        stage_types: Local (L) or global (G) blocks in each stage; LLGG in the paper. For sizes s, b and nano.
        split: Divide global attention into one along time and one within frames. For sizes s, b and nano.
        std: Embeddings between stages see three frames. For sizes s, b and nano.
        tube_size: Frames, rows and columns that a local block sees, odd.
        dpe: Dynamic position embeddings.
        qkv_bias: Whether queries, keys and values have a bias.
        qk_scale: Of the products of queries and keys; head size ** -0.5 when None.
        layer_scale: Initial factor on each channel of a branch; no such factors when None.
        drop_path: Rate of stochastic depth at the last block.
        checkpointing: How many of the first blocks of each stage are computed again in the backward pass instead of keeping
            what it needs, or true for all.
        representation_size: Channels of a linear layer and tanh in front of the classifier.
        prune_ratios: Share of tokens that each block of stage 3, and each of stage 4, keeps. For light networks.
        class_head: A second classifier on the class token, which makes half of the loss. For light networks.
        embed_dims: Channels of the four stages, for size nano.
        head_dim: Channels of an attention head, for size nano.
        mlp_ratio: Hidden channels of the feed-forward part over those of a block, for size nano.
        light: Build it as XXS and XS are, for size nano.
        dropout: Before the classifier.
        optimizer: AdamW when None, weight decay on all but biases, norms and the class token.
        training: Options of `VideoClassifier`: schedule, label_smoothing, freeze_norm, average, normalisation, compile,
            channels_last. The authors smooth labels by 0.1, normalise by mean 0.45 and deviation 0.225, and add logits up.
    """

    def __init__(
        self,
        size: Literal["nano", "xxs", "xs", "s", "b"] = "s",
        num_classes: int | Sequence[int] | None = None,
        *,
        num_frames: int | None = None,
        depths: Sequence[int] | None = None,
        stage_types: str | None = None,
        split: bool = False,
        std: bool = False,
        tube_size: int = 5,
        dpe: bool = True,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        layer_scale: float | None = None,
        drop_path: float | None = None,
        checkpointing: bool | Sequence[int] = False,
        representation_size: int | None = None,
        prune_ratios: Sequence[Sequence[float]] | None = None,
        class_head: bool | None = None,
        embed_dims: Sequence[int] | None = None,
        head_dim: int | None = None,
        mlp_ratio: float | None = None,
        light: bool = False,
        dropout: float = 0.0,
        optimizer: Optimizer | None = None,
        **training: Any,
    ) -> None:
        options: dict[str, Any] = {
            "tube_size": tube_size,
            "dpe": dpe,
            "qkv_bias": qkv_bias,
            "qk_scale": qk_scale,
            "layer_scale": layer_scale,
            "checkpointing": checkpointing if isinstance(checkpointing, bool) else tuple(checkpointing),
            "representation_size": representation_size,
            "dropout": dropout,
        }
        of_the_size = {
            "num_frames": num_frames,
            "depths": None if depths is None else tuple(depths),
            "stage_types": stage_types,
            "split": split or None,
            "std": std or None,
            "drop_path": drop_path,
            "prune_ratios": None if prune_ratios is None else tuple(tuple(stage) for stage in prune_ratios),
            "class_head": class_head,
            "embed_dims": None if embed_dims is None else tuple(embed_dims),
            "head_dim": head_dim,
            "mlp_ratio": mlp_ratio,
            "light": light or None,
        }
        options |= {name: value for name, value in of_the_size.items() if value is not None}
        super().__init__(
            f"uniformer_{size}", num_classes, options, optimizer=optimizer or Optimizer.uniformer(), **training
        )

    def logits_and_loss(self, clip: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the clip; half of the loss is that of the class token's logits where it has a classifier."""
        if not isinstance(self.network, TwoHeadedNetwork):
            return super().logits_and_loss(clip, label)
        logits, logits_of_class = self.network(clip, both_heads=True)
        return logits, (self.cross_entropy(logits, label) + self.cross_entropy(logits_of_class, label)) / 2
