"""Tubelets: a patch embedding that looks at several frames (Arnab et al. 2021, section 3.2, arXiv:2103.15691)."""

from typing import cast

from jaxtyping import Float
from torch import Tensor, nn


class TubeletConv(nn.Conv3d):
    """Embed patches of several frames: a 3-D convolution whose windows overlap in time and not in space.

    Time is padded with `frames // 2` zeros on both sides, so window t is centred on frame t * stride_frames, and a clip
    of T frames leaves ceil(T / stride_frames). TAdaConvNeXt and TAdaFormer look at 3 frames every 2 (Huang et al. 2023,
    arXiv:2308.05787).

    Args:
        in_channels: Channels of the clip.
        out_channels: Size of the embedding.
        patch: Height and width of a patch.
        frames: Frames of a window, odd.
        stride_frames: Frames from one window to the next.
        bias: Whether there is one.

    Shape:
        (B, in_channels, T, H, W) to (B, out_channels, ceil(T / stride_frames), H // h, W // w).

    Raises:
        ValueError: If the window is even, so that it has no centre, or the stride is below 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        patch: tuple[int, int],
        *,
        frames: int = 3,
        stride_frames: int = 2,
        bias: bool = True,
    ) -> None:
        if frames < 1 or frames % 2 == 0 or stride_frames < 1:
            raise ValueError(
                f"frames={frames} and stride_frames={stride_frames} make no tubelets; give an odd number of frames, so "
                "that a window has a centre, and a stride of at least 1"
            )
        super().__init__(
            in_channels,
            out_channels,
            (frames, *patch),
            stride=(stride_frames, *patch),
            padding=(frames // 2, 0, 0),
            bias=bias,
        )

    @classmethod
    def like(
        cls, conv: nn.Conv2d, *, frames: int = 3, stride_frames: int = 2, std: float | None = None
    ) -> "TubeletConv":
        """Tubelets in place of the patches of an image network, drawn anew.

        Args:
            conv: The patch embedding.
            frames, stride_frames: As above.
            std: Of the weights, with biases of zero; torch's initial values when None.
        """
        patch = cast(tuple[int, int], conv.kernel_size)
        made = cls(
            conv.in_channels,
            conv.out_channels,
            patch,
            frames=frames,
            stride_frames=stride_frames,
            bias=conv.bias is not None,
        ).to(conv.weight)
        if std is not None:
            nn.init.trunc_normal_(made.weight, std=std)
            if made.bias is not None:
                nn.init.zeros_(made.bias)
        return made


def inflate_at_centre(weight: Float[Tensor, "D C h w"], frames: int) -> Float[Tensor, "D C F h w"]:
    """The kernel of an image network on the middle frame of a window, zeros on the others: [0, w, 0].

    Tubelets with this kernel embed frames 0, s, 2s, ... of a clip as the image network does.
    """
    inflated = weight.new_zeros(*weight.shape[:2], frames, *weight.shape[2:])
    inflated[:, :, frames // 2] = weight
    return inflated
