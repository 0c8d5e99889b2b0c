"""TAdaFormer as a LightningModule."""

from collections.abc import Sequence
from typing import Any, Literal

from kinema.training.classifier import VideoClassifier
from kinema.training.optim import Optimizer


class TAdaFormer(VideoClassifier):
    """The image transformer of CLIP with calibrated blocks beside it (Huang et al. 2023, arXiv:2308.05787).

    What is None takes the default of the size, see `kinema.models.options`.

    Args:
        size: Of the transformer.
        num_classes: K, or several such as [97, 300] for a verb and a noun; taken from the data when None.
        num_frames: Frames of a clip; only routing `per_frame` depends on it.
        enhanced: TAda blocks see three frames already where they reduce channels; the authors' choice on
            Something-Something.
        double: A second TAda block between attention and MLP; likewise.
        reduction: Channels of the transformer over those of a TAda block.
        routing: What makes the factors: the table in `kinema.operators.routing`.
        routing_ratio: Channels of a TAda block over hidden channels of its router.
        routing_kernels: Frames that the router's two convolutions see.
        routing_head_dim: Channels of an attention head of the router.
        drop_path: Rate of stochastic depth at the last block; 0.2 for l14 on Something-Something.
        image_size: Side in pixels of the frames whose positions are learnt.
        embed_dim: Size of the embedding, for size nano.
        depth: Number of blocks, for size nano.
        num_heads: Attention heads of a block, for size nano.
        patch_size: Side of a patch in pixels, for size nano.
        dropout: Before the classifier.
        optimizer: AdamW with layer decay and the authors' parameter groups when None.
        training: Options of `VideoClassifier`: schedule, label_smoothing, freeze_norm, average, normalisation, compile,
            channels_last. The authors smooth labels by 0.1.
    """

    def __init__(
        self,
        size: Literal["nano", "b16", "l14"] = "b16",
        num_classes: int | Sequence[int] | None = None,
        *,
        num_frames: int | None = None,
        enhanced: bool = False,
        double: bool = False,
        reduction: int = 2,
        routing: Literal[
            "none",
            "static",
            "per_frame",
            "clip",
            "frame",
            "linear",
            "local",
            "global",
            "local_global",
            "local_global_ln",
            "attention",
            "causal",
        ] = "attention",
        routing_ratio: int = 2,
        routing_kernels: tuple[int, int] = (3, 3),
        routing_head_dim: int | None = None,
        drop_path: float = 0.0,
        image_size: int | None = None,
        embed_dim: int | None = None,
        depth: int | None = None,
        num_heads: int | None = None,
        patch_size: int | None = None,
        dropout: float = 0.5,
        optimizer: Optimizer | None = None,
        **training: Any,
    ) -> None:
        options: dict[str, Any] = {
            "enhanced": enhanced,
            "double": double,
            "reduction": reduction,
            "routing": routing,
            "routing_ratio": routing_ratio,
            "routing_kernels": tuple(routing_kernels),
            "drop_path": drop_path,
            "dropout": dropout,
        }
        of_the_size = {
            "num_frames": num_frames,
            "routing_head_dim": routing_head_dim,
            "image_size": image_size,
            "embed_dim": embed_dim,
            "depth": depth,
            "num_heads": num_heads,
            "patch_size": patch_size,
        }
        options |= {name: value for name, value in of_the_size.items() if value is not None}
        super().__init__(
            f"tadaformer_{size}", num_classes, options, optimizer=optimizer or Optimizer.tadaformer(), **training
        )
