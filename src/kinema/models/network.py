"""A backbone and a head, joined: the shape every frame-wise network of kinema has."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from kinema.models.heads import SegmentHead
from kinema.shapes import check_clip


class SegmentNetwork(nn.Module):
    """Classify a clip from one feature vector per frame.

    Args:
        backbone: Module from (B, C, T, H, W) to (B, D, T', H', W') with attributes `in_channels` and `num_features`.
        head: Classifier over (B, T', D).
        num_frames: Size of T the network is meant for. No weight depends on it: any other T runs.

    Shape:
        (B, C, T, H, W) to logits (B, K), raw in training and in evaluation.
    """

    def __init__(self, backbone: nn.Module, head: SegmentHead, *, num_frames: int = 8) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.num_frames = num_frames

    def forward(self, clip: Float[Tensor, "B C T H W"]) -> Tensor | tuple[Tensor, ...]:
        return self.head(self.forward_features(clip))

    def forward_features(self, clip: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B T D"]:
        """One vector per frame, averaged over its pixels: what the head sees, before its dropout.

        Raises:
            ValueError: If `clip` is not a floating-point clip with the channels of the backbone.
        """
        check_clip(clip, channels=self.backbone.in_channels)
        if not clip.is_floating_point():
            raise ValueError(f"expected a floating-point clip, got {clip.dtype}; scale and normalise it first")
        return self.backbone(clip).mean(dim=(3, 4)).transpose(1, 2)

    def reset_classifier(self, num_classes: int | Sequence[int]) -> None:
        """Replace the classifier; a tuple of sizes makes `forward` return a tuple of logits."""
        self.head.reset_classifier(num_classes)
