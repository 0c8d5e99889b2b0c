"""What makes the calibration factors of `kinema.operators.tadaconv`: routing functions.

A router reads one descriptor per frame, the mean of its pixels (`describe`), and gives the factors of every frame. Those
here are the ones of the papers and of their ablations, from no router at all to attention over the clip, and differ in
what a factor may know:

    routing          knows                                    source (TAda! = arXiv:2110.06178, V2 = arXiv:2308.05787)
    none             nothing: a plain convolution             TAda!, hypothesis test, baseline
    static           nothing; learnt, shared by all frames    TAda!, hypothesis test
    per_frame        the frame's position; learnt             TAda!, hypothesis test
    clip             the mean of the clip; same for its frames  TAda!, hypothesis test ("dynamic")
    frame            the frame itself                         TAda!, hypothesis test ("dynamic, temporally varying")
    linear           three frames, one linear convolution     TAda!, table 4
    local            five frames, two convolutions            TAda!, table 4
    global           the frame itself and the clip's mean     TAda!, table 4
    local_global     five frames and the clip's mean          TAda!, section 3.2: TAdaConv, version 1
    local_global_ln  the same with layer norm and GELU        TAdaConvNeXt of TAda!
    attention        the whole clip, by self-attention        V2: TAdaConv, version 2
    causal           this frame and the two before it         Cao et al. 2022 (TCTrack, arXiv:2203.01885), section 3
"""

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kinema.operators.tadaconv import Calibration
from kinema.shapes import check_clip

RoutingName = Literal[
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
]
ROUTINGS: tuple[RoutingName, ...] = get_args(RoutingName)


def describe(x: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T"]:
    """One descriptor per frame: the mean of its pixels, the only thing a router sees of the features."""
    check_clip(x)
    return x.mean(dim=(3, 4))


def build_routing(
    routing: RoutingName,
    channels: int,
    widths: Mapping[str, int],
    *,
    ratio: int = 4,
    kernels: tuple[int, int] = (3, 3),
    head_dim: int = 64,
    zero_init: bool = True,
    num_frames: int | None = None,
) -> "Routing | None":
    """A router by its name in the table above; None for "none".

    Args:
        routing: Which one.
        channels: Of the descriptors.
        widths: Factor ("cin", "cout", "kernel", "bias") to how many numbers of it a frame needs.
        ratio: Channels of the descriptors over those of the hidden layer.
        kernels: Frames that the two convolutions see, odd; those routers that see one frame have (1, 1).
        head_dim: Channels of an attention head; attention only.
        zero_init: Start at a factor of exactly one; attention only, all others do.
        num_frames: Frames of a clip; "per_frame" only.

    Raises:
        ValueError: On an unknown name, or what a router cannot take.
    """
    match routing:
        case "none":
            return None
        case "static":
            return StaticRouting(channels, widths)
        case "per_frame":
            if num_frames is None:
                raise ValueError("routing='per_frame' learns factors for every frame; give num_frames")
            return StaticRouting(channels, widths, num_frames=num_frames)
        case "clip":
            return ConvRouting(channels, widths, ratio=ratio, kernels=(1, 1), sees="clip")
        case "frame":
            return ConvRouting(channels, widths, ratio=ratio, kernels=(1, 1), sees="frames")
        case "linear":
            return LinearRouting(channels, widths, kernel=kernels[0])
        case "local":
            return ConvRouting(channels, widths, ratio=ratio, kernels=kernels, sees="frames")
        case "global":
            return ConvRouting(channels, widths, ratio=ratio, kernels=(1, 1), sees="both")
        case "local_global":
            return ConvRouting(channels, widths, ratio=ratio, kernels=kernels, sees="both")
        case "local_global_ln":
            return ConvRouting(channels, widths, ratio=ratio, kernels=kernels, sees="both", norm="layer")
        case "attention":
            return AttentionRouting(
                channels, widths, ratio=ratio, kernels=kernels, head_dim=head_dim, zero_init=zero_init
            )
        case "causal":
            return CausalRouting(channels, widths)
    raise ValueError(f"routing={routing!r} is unknown; give one of {', '.join(ROUTINGS)}")


class Routing(nn.Module):
    """Factors from descriptors: a body that a kind of router defines, and one last layer per factor.

        factor = offset + last(body(v)),   offset = 1 unless the router starts elsewhere

    Args:
        channels: Of the descriptors.
        widths: Factor to how many numbers of it a frame needs.

    Shape:
        Descriptors (B, C, T) to a `Calibration` of (B, width, T).
    """

    offset = 1.0

    def __init__(self, channels: int, widths: Mapping[str, int]) -> None:
        super().__init__()
        if unknown := sorted(set(widths) - set(Calibration._fields)):
            raise ValueError(f"no factor is named {unknown}; factors are {list(Calibration._fields)}")
        self.channels = channels
        self.widths = dict(widths)

    def body(self, descriptors: Float[Tensor, "B C T"]) -> Float[Tensor, "B M T"]:
        """What the last layers read."""
        return descriptors

    def forward(self, descriptors: Float[Tensor, "B C T"]) -> Calibration:
        if descriptors.ndim != 3 or descriptors.shape[1] != self.channels:
            raise ValueError(
                f"this router was built for descriptors (B, {self.channels}, T), got {tuple(descriptors.shape)}; "
                "average the pixels with describe(x), or build the router for this number of channels"
            )
        hidden = self.body(descriptors)
        return Calibration(**{name: self.offset + self.last(name, hidden) for name in self.widths})

    def last(self, name: str, hidden: Tensor) -> Tensor:
        return self.get_submodule(f"to_{name}")(hidden)

    def _add_last_layers(self, hidden: int, kernel: int, *, bias: bool = False, std: float = 0.0) -> None:
        for name, width in self.widths.items():
            layer = _TimeConv(hidden, width, kernel, bias=bias)
            nn.init.normal_(layer.weight, std=std) if std else nn.init.zeros_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
            self.add_module(f"to_{name}", layer)

    def extra_repr(self) -> str:
        return ", ".join([f"channels={self.channels}", *(f"{name}={width}" for name, width in self.widths.items())])


class StaticRouting(Routing):
    """Learnt factors that depend on no input: factor = 1 + p, with p zero at first.

    Args:
        channels: Of the descriptors, whose number of frames alone is read.
        widths: See `Routing`.
        num_frames: Learn one p per frame; one for all when None.

    Raises:
        ValueError: On a clip of another number of frames.
    """

    def __init__(self, channels: int, widths: Mapping[str, int], *, num_frames: int | None = None) -> None:
        super().__init__(channels, widths)
        self.num_frames = num_frames
        for name, width in self.widths.items():
            self.register_parameter(f"p_{name}", nn.Parameter(torch.zeros(width, num_frames or 1)))

    def last(self, name: str, hidden: Tensor) -> Tensor:
        batch, _, frames = hidden.shape
        if self.num_frames not in (None, frames):
            raise ValueError(
                f"factors were learnt for {self.num_frames} frames, the clip has {frames}; "
                "give clips of that length, or another routing"
            )
        parameter = self.get_parameter(f"p_{name}")
        return parameter.expand(batch, -1, frames)


class LinearRouting(Routing):
    """One linear convolution over time: factor = 1 + conv(v), zero at first.

    Args:
        channels, widths: See `Routing`.
        kernel: Frames it sees, odd.
    """

    def __init__(self, channels: int, widths: Mapping[str, int], *, kernel: int = 3) -> None:
        super().__init__(channels, widths)
        self._add_last_layers(channels, kernel)


class ConvRouting(Routing):
    """Two convolutions over time with a bottleneck, and what they see: frames, the clip, or both.

        g = mean of v over time
        u = v  ("frames"),  g repeated for every frame  ("clip"),  v + W_g g + b_g  ("both")
        factor = 1 + conv_b(act(norm(conv_a(u)))),   conv_b zero at first and without bias

    "both" is the router of TAdaConv, version 1, Huang et al. 2022, section 3.2, where W_g g is added before conv_a, so
    that the zeros that pad time do not hold it. The authors pool all pixels of the clip for g; the mean of the
    frames' means is the same number without a second pass over the features.

    Args:
        channels, widths: See `Routing`.
        ratio: channels over hidden channels, rounded down.
        kernels: Frames that conv_a and conv_b see, odd.
        sees: Above.
        norm: "batch" with ReLU (momentum 0.1, whatever the network's), or "layer" (over channels, epsilon 1e-6) with
            GELU, as in TAdaConvNeXt.

    Raises:
        ValueError: If the ratio leaves no hidden channel.
    """

    def __init__(
        self,
        channels: int,
        widths: Mapping[str, int],
        *,
        ratio: int = 4,
        kernels: tuple[int, int] = (3, 3),
        sees: Literal["frames", "clip", "both"] = "both",
        norm: Literal["batch", "layer"] = "batch",
    ) -> None:
        super().__init__(channels, widths)
        hidden = _hidden(channels, ratio)
        self.sees = sees
        self.global_proj = nn.Linear(channels, channels) if sees == "both" else None
        self.conv = _TimeConv(channels, hidden, kernels[0])
        self.norm = nn.BatchNorm1d(hidden) if norm == "batch" else ChannelNorm(hidden)
        self.act = nn.ReLU(inplace=True) if norm == "batch" else nn.GELU()
        if norm == "layer":  # every layer of a ConvNeXt starts so
            for layer in (self.conv, self.global_proj):
                if layer is not None:
                    nn.init.trunc_normal_(layer.weight, std=0.02)
                    assert layer.bias is not None
                    nn.init.zeros_(layer.bias)
        self._add_last_layers(hidden, kernels[1])

    def body(self, descriptors: Float[Tensor, "B C T"]) -> Float[Tensor, "B M T"]:
        v = descriptors
        if self.sees == "clip":
            v = v.mean(dim=2, keepdim=True).expand_as(v)
        elif self.global_proj is not None:
            v = v + self.global_proj(v.mean(dim=2))[:, :, None]
        return self.act(self.norm(self.conv(v)))


class AttentionRouting(Routing):
    """A convolution over time, then self-attention over the clip: the router of TAdaConv, version 2 (arXiv:2308.05787).

        z = quick_gelu(norm(conv_a(v)))
        z = z + W_o attention(norm_attn(z))          one pre-norm layer; no feed-forward, no positions
        factor = offset + conv_b(z)

    Attention scores are scaled by hidden ** -0.5, not head_dim ** -0.5, as in the authors' code. Their heads interleave
    on the way in and are contiguous on the way out; here both are contiguous, and `kinema.checkpoints` permutes the rows
    of their projections.

    Args:
        channels, widths, ratio, kernels: As for `ConvRouting`.
        head_dim: Channels of a head; must divide channels // ratio.
        zero_init: conv_b starts at zero and offset is 1 (TAdaConvNeXtV2). Otherwise conv_b is drawn from N(0, 0.02) and
            offset is 0 (TAdaFormer): factors then start near zero.

    Raises:
        ValueError: If head_dim does not divide the hidden channels.
    """

    def __init__(
        self,
        channels: int,
        widths: Mapping[str, int],
        *,
        ratio: int = 4,
        kernels: tuple[int, int] = (3, 3),
        head_dim: int = 64,
        zero_init: bool = True,
    ) -> None:
        super().__init__(channels, widths)
        hidden = _hidden(channels, ratio)
        if head_dim < 1 or hidden % head_dim:
            raise ValueError(
                f"head_dim={head_dim} does not divide the {hidden} hidden channels (channels={channels} over "
                f"ratio={ratio}); give a divisor, such as {hidden} for one head"
            )
        self.num_heads = hidden // head_dim
        self.offset = 1.0 if zero_init else 0.0
        self.conv = _TimeConv(channels, hidden, kernels[0])
        self.norm = ChannelNorm(hidden)
        self.norm_attn = nn.LayerNorm(hidden, eps=1e-6)
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.out = nn.Linear(hidden, hidden)
        for layer in (self.conv, self.qkv, self.out):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
        self._add_last_layers(hidden, kernels[1], std=0.0 if zero_init else 0.02)

    def body(self, descriptors: Float[Tensor, "B C T"]) -> Float[Tensor, "B M T"]:
        z = quick_gelu(self.norm(self.conv(descriptors))).transpose(1, 2)
        q, k, v = self.qkv(self.norm_attn(z)).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, scale=z.shape[2] ** -0.5)
        return (z + self.out(mixed.transpose(1, 2).flatten(2))).transpose(1, 2)


class CausalRouting(Routing):
    """Factors from this frame and the two before it: Online-TAdaConv (Cao et al. 2022, arXiv:2203.01885, section 3).

        factor_t = 1 + conv(v_{t-2}, v_{t-1}, v_t),   one linear convolution with bias, zero at first

    Before the first frame stands the first frame again, twice, so a clip's first factors are those of a still picture.
    The authors calibrate the bias by one number per frame: give widths["bias"] = 1.

    Args:
        channels, widths: See `Routing`.
    """

    reach = 2

    def __init__(self, channels: int, widths: Mapping[str, int]) -> None:
        super().__init__(channels, widths)
        for name, width in self.widths.items():
            layer = nn.Conv1d(channels, width, self.reach + 1)
            nn.init.zeros_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
            self.add_module(f"to_{name}", layer)

    def body(self, descriptors: Float[Tensor, "B C T"]) -> Float[Tensor, "B C T+2"]:
        return torch.cat([descriptors[:, :, :1]] * self.reach + [descriptors], dim=2)

    def init_state(self, descriptor: Float[Tensor, "B C"]) -> Float[Tensor, "B C 2"]:
        """The state before the first frame, from the descriptor of that frame."""
        return descriptor[:, :, None].expand(-1, -1, self.reach)

    def step(
        self, descriptor: Float[Tensor, "B C"], state: Float[Tensor, "B C 2"]
    ) -> tuple[Calibration, Float[Tensor, "B C 2"]]:
        """Factors of one frame, (B, width, 1) each, and the next state."""
        window = torch.cat([state, descriptor[:, :, None]], dim=2)
        return Calibration(**{name: self.offset + self.last(name, window) for name in self.widths}), window[:, :, 1:]


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of (B, C, T), epsilon 1e-6."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, input: Float[Tensor, "B C T"]) -> Float[Tensor, "B C T"]:
        return super().forward(input.transpose(1, 2)).transpose(1, 2)


class _TimeConv(nn.Conv1d):
    """A convolution over the frames of descriptors, padded with zeros so that their number stays."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, bias: bool = True) -> None:
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"a kernel over {kernel} frames has no centre; give an odd number")
        super().__init__(in_channels, out_channels, kernel, padding=kernel // 2, bias=bias)


def quick_gelu(x: Tensor) -> Tensor:
    """x * sigmoid(1.702 x), the activation of CLIP."""
    return x * torch.sigmoid(1.702 * x)


def _hidden(channels: int, ratio: int) -> int:
    if ratio < 1 or channels // ratio < 1:
        raise ValueError(f"ratio={ratio} leaves no hidden channel of channels={channels}; give 1 to {channels}")
    return channels // ratio
