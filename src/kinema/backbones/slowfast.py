"""SlowFast: two pathways that see a clip at two rates (Feichtenhofer et al. 2019, arXiv:1812.03982)."""

from collections.abc import Sequence
from typing import Unpack

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kinema.backbones.blocks3d import EXPANSION, Filling3d, FuseFastToSlow, fill_convolutions, trunk3d


class SlowFast(nn.Module):
    """Few frames through a wide network, all frames through a narrow one, joined in front of every stage.

        slow = stage_slow(slow, fuse(fast)),   fast = stage_fast(fast)
        features = mean of slow, mean of fast

    `fuse` is a convolution over time with stride `alpha`, norm and ReLU, to `fusion_ratio` times the fast channels, whose
    result stands behind the slow channels. It is pytorchvideo's `FuseFastToSlow`. Its `create_slowfast` computes the
    same for the depths it knows; it takes a list of two clips, and pools by fixed sizes.

    Takes one clip, that of the fast pathway. The slow one sees every `alpha`-th frame from the first on: frames
    floor(linspace(0, T, T / alpha + 1)) but the last, as in the code of TAdaConv's authors.

    Args:
        layers: Blocks in each of the four stages, in both pathways.
        width: Channels of the slow stem.
        in_channels: Channels of the clip.
        alpha: Fast frames to a slow one.
        beta: Slow channels to a fast one.
        fusion_kernel: Frames that a fusion sees, odd.
        fusion_ratio: Channels that a fusion gives to one it takes.
        filling: What replaces the 1 x 3 x 3 convolutions of both pathways.

    Shape:
        (B, in_channels, T, H, W), T a multiple of alpha, to a vector (B, 32 * (width + width / beta)).

    Raises:
        ValueError: If beta does not divide width, or, when called, alpha the number of frames.
    """

    def __init__(
        self,
        layers: Sequence[int] = (3, 4, 6, 3),
        *,
        width: int = 64,
        in_channels: int = 3,
        alpha: int = 8,
        beta: int = 8,
        fusion_kernel: int = 5,
        fusion_ratio: int = 2,
        **filling: Unpack[Filling3d],
    ) -> None:
        super().__init__()
        if beta < 1 or width % beta:
            raise ValueError(f"beta={beta} does not divide width={width}; give a divisor, 8 in the paper")
        if alpha < 1:
            raise ValueError(f"alpha={alpha} is no number of frames; give 8 or 4 as in the paper, at least 1")
        if fusion_kernel < 1 or fusion_kernel % 2 == 0:
            raise ValueError(f"fusion_kernel={fusion_kernel} frames have no centre; give an odd number, 5 in the paper")
        self.alpha, self.in_channels = alpha, in_channels
        narrow = width // beta
        self.num_features = EXPANSION * 8 * (width + narrow)
        # What each fusion takes: the fast channels behind the stem and behind every stage but the last.
        fast_channels = [narrow, *(EXPANSION * narrow * 2**index for index in range(3))]
        self.slow = trunk3d(
            layers,
            width=width,
            in_channels=in_channels,
            stem_frames=1,
            stem_pool=True,
            frames_a=(1, 1, 3, 3),
            frames_b=1,
            lateral=[fusion_ratio * channels for channels in fast_channels],
            zero_init_last=True,
        )
        self.fast = trunk3d(
            layers,
            width=narrow,
            in_channels=in_channels,
            stem_frames=5,
            stem_pool=True,
            frames_a=(3, 3, 3, 3),
            frames_b=1,
            zero_init_last=True,
        )
        self.fusions = nn.ModuleList(
            _fusion(channels, fusion_ratio * channels, fusion_kernel, alpha) for channels in fast_channels
        )
        for pathway in (self.slow, self.fast):
            fill_convolutions(pathway, **filling)

    def forward(self, clip: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B D"]:
        if clip.shape[2] % self.alpha:
            raise ValueError(
                f"the slow pathway sees every {self.alpha}th frame and the clip has {clip.shape[2]}; give a clip whose "
                f"number of frames is a multiple of {self.alpha}, or build the network with another alpha"
            )
        slow, fast = clip[:, :, :: self.alpha], clip
        for slow_part, fast_part, fusion in zip(self.slow, self.fast, [*self.fusions, None], strict=True):
            slow, fast = slow_part(slow), fast_part(fast)
            if fusion is not None:
                slow, fast = fusion([slow, fast])
        return torch.cat([slow.mean(dim=(2, 3, 4)), fast.mean(dim=(2, 3, 4))], dim=1)


def _fusion(in_channels: int, out_channels: int, kernel: int, alpha: int) -> FuseFastToSlow:
    conv = nn.Conv3d(
        in_channels, out_channels, (kernel, 1, 1), stride=(alpha, 1, 1), padding=(kernel // 2, 0, 0), bias=False
    )
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return FuseFastToSlow(conv, norm=nn.BatchNorm3d(out_channels), activation=nn.ReLU(inplace=True))
