"""A backbone and a head, joined: the two shapes that networks of kinema have."""

from collections.abc import Sequence
from typing import Any, Protocol, cast

from jaxtyping import Bool, Float
from torch import Tensor

from kinema.backbones.frames import FrameBackbone
from kinema.models.heads import ClipHead, Consensus, SegmentHead
from kinema.models.streaming import Streaming
from kinema.shapes import check_clip


class ClipBackbone(Protocol):
    """From clips to feature maps (B, D, T', H', W'), or to one vector (B, D) where the backbone pools by itself."""

    num_features: int
    in_channels: int

    def __call__(self, clip: Tensor) -> Tensor: ...


class SegmentNetwork(Streaming):
    """Classify a clip from one feature vector per frame (Wang et al. 2016, arXiv:1608.00859).

    With operators that see the past alone it also runs on a stream: `init_state` and `step`, see `Streaming`.

    Args:
        backbone: From clips to one feature map per frame.
        num_classes: Size of K, or a tuple for several classifiers.
        num_frames: Size of T the network is meant for. No weight depends on it: any other T runs.
        dropout: Probability in [0, 1) of dropping a feature before the classifier.
        consensus: "mean" of the logits over the frames, or "identity" to keep a score per frame.

    Shape:
        (B, C, T, H, W) to logits (B, K), raw in training and in evaluation; (B, T', K) for consensus "identity".
    """

    def __init__(
        self,
        backbone: FrameBackbone,
        num_classes: int | Sequence[int],
        *,
        num_frames: int = 8,
        dropout: float = 0.5,
        consensus: Consensus = "mean",
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = SegmentHead(backbone.num_features, num_classes, dropout=dropout, consensus=consensus)
        self.num_frames = num_frames

    def forward(self, clip: Float[Tensor, "B C T H W"]) -> Tensor | tuple[Tensor, ...]:
        return self.head(self.forward_features(clip))

    def forward_features(self, clip: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B T D"]:
        """One vector per frame, averaged over its pixels: what the head sees, before its dropout.

        Raises:
            ValueError: If `clip` is not a floating-point clip with the channels of the backbone and at least one frame.
        """
        check_input(clip, channels=self.backbone.in_channels)
        return self.backbone(clip).mean(dim=(3, 4)).transpose(1, 2)

    def reset_classifier(self, num_classes: int | Sequence[int]) -> None:
        """Replace the classifier; a tuple of sizes makes `forward` return a tuple of logits."""
        self.head.reset_classifier(num_classes)


class ClipNetwork(Streaming):
    """Classify a clip from its features averaged over frames and pixels.

    With operators that see the past alone it also runs on a stream: `init_state` and `step`, see `Streaming`.

    Args:
        backbone: From clips to feature maps.
        num_classes: Size of K, or a tuple for several classifiers.
        num_frames: Size of T the network is meant for.
        dropout: Probability in [0, 1) of dropping a feature before the classifier.
        head_std: Standard deviation of the classifier's first weights.

    Shape:
        (B, C, T, H, W) to logits (B, K), raw in training and in evaluation (the code of TAdaConv's authors gives
        probabilities in evaluation).
    """

    def __init__(
        self,
        backbone: ClipBackbone,
        num_classes: int | Sequence[int],
        *,
        num_frames: int = 8,
        dropout: float = 0.5,
        head_std: float = 0.01,
    ) -> None:
        super().__init__()
        self.backbone = cast(Any, backbone)
        self.head = ClipHead(backbone.num_features, num_classes, dropout=dropout, init_std=head_std)
        self.num_frames = num_frames

    def forward(self, clip: Float[Tensor, "B C T H W"]) -> Tensor | tuple[Tensor, ...]:
        return self.head(self.forward_features(clip))

    def forward_features(self, clip: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B D"]:
        """One vector per clip: what the head sees, before its dropout.

        Raises:
            ValueError: If `clip` is not a floating-point clip with the channels of the backbone and at least one frame.
        """
        check_input(clip, channels=self.backbone.in_channels)
        features = self.backbone(clip)
        return features.mean(dim=(2, 3, 4)) if features.ndim == 5 else features

    def reset_classifier(self, num_classes: int | Sequence[int]) -> None:
        """Replace the classifier; a tuple of sizes makes `forward` return a tuple of logits."""
        self.head.reset_classifier(num_classes)


class SpaceTimeNetwork(ClipNetwork):
    """Classify a clip by a transformer over its patches, which can also be told which frames are padding.

    Args: as for `ClipNetwork`.
    """

    def forward(
        self, clip: Float[Tensor, "B C T H W"], frame_mask: Bool[Tensor, "B T"] | None = None
    ) -> Tensor | tuple[Tensor, ...]:
        return self.head(self.forward_features(clip, frame_mask))

    def forward_features(
        self, clip: Float[Tensor, "B C T H W"], frame_mask: Bool[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B D"]:
        """One vector per clip: what the head sees, before its dropout.

        Args:
            clip: Clips.
            frame_mask: False for frames that are padding, where clips of a batch have unequal lengths.

        Raises:
            ValueError: If `clip` is no clip for this network, or the mask does not fit it.
        """
        check_input(clip, channels=self.backbone.in_channels)
        return self.backbone(clip, frame_mask)

    def attention_maps(
        self, clip: Float[Tensor, "B C T H W"], frame_mask: Bool[Tensor, "B T"] | None = None
    ) -> list[dict[str, Tensor]]:
        """The attention weights of every block, step by step: for pictures.

        Args:
            clip, frame_mask: As for `forward_features`.

        Returns:
            One dict for each block, from the name of a step to its weights (groups, heads, queries, keys); which clip, frame
            and patch each of them is, the table at the top of `kinema.operators.attention` says. Every row sums to one.
        """
        check_input(clip, channels=self.backbone.in_channels)
        maps: list[dict[str, Tensor]] = []
        self.backbone(clip, frame_mask, maps)
        return maps


def check_input(clip: Tensor, *, channels: int) -> None:
    """Refuse what no network can classify.

    Raises:
        ValueError: If `clip` is not a floating-point clip with `channels` channels, a frame and a pixel.
    """
    check_clip(clip, channels=channels)
    if not clip.is_floating_point():
        raise ValueError(f"expected a floating-point clip, got {clip.dtype}; scale it to [0, 1] and normalise it first")
    if 0 in clip.shape:
        raise ValueError(f"a clip of shape {tuple(clip.shape)} is empty; give at least one clip, frame and pixel")
