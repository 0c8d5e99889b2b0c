"""The routers of `kinema.operators.routing`: from descriptors of frames to calibration factors, and frame by frame."""

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kinema.operators.tadaconv import Calibration
from kinema.operators.time_convolution import RecentMean, TimeConvolution


class Routing(nn.Module):
    """Factors from descriptors: a body that a kind of router defines, and one last layer per factor.

        factor = offset + last(body(v)),   offset = 1 unless the router starts elsewhere

    Args:
        channels: Of the descriptors.
        widths: Factor to how many numbers of it a frame needs.

        causal: Whether the factors of a frame depend on it and those before it alone, so that `step` equals `forward`.

    Shape:
        Descriptors (B, C, T) to a `Calibration` of (B, width, T).
    """

    offset = 1.0

    def __init__(self, channels: int, widths: Mapping[str, int], *, causal: bool = False) -> None:
        super().__init__()
        self.causal = causal
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

    def init_state(self, descriptor: Float[Tensor, "B C"]) -> dict[str, Tensor]:
        """What is known before the first frame: zeros, and {} where frames do not matter to one another.

        Raises:
            ValueError: If the router is not causal.
        """
        self._check_causal()
        return self._first_state(descriptor)

    def step(self, descriptor: Float[Tensor, "B C"], state: dict[str, Tensor]) -> tuple[Calibration, dict[str, Tensor]]:
        """Factors of one frame, (B, width, 1) each, and the next state; in evaluation mode those of `forward`."""
        hidden, after = self._body_step(descriptor, state)
        factors, kept = {}, {}
        for name in self.widths:
            factor, kept = self._last_step(name, hidden, state)
            factors[name] = (self.offset + factor)[:, :, None]
        return Calibration(**factors), after | kept

    def _check_causal(self) -> None:
        if not self.causal:
            raise ValueError(
                f"a {type(self).__name__} that is not causal needs the whole clip, so it cannot run on a stream; build it "
                "with causal=True"
            )

    def _first_state(self, descriptor: Tensor) -> dict[str, Tensor]:
        return {}

    def _body_step(self, descriptor: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """`body` for one frame, and what it remembers."""
        return descriptor, {}

    def _last_step(self, name: str, hidden: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """`last` for one frame, (B, width), and what the last layers remember together."""
        return self.last(name, hidden[:, :, None])[:, :, 0], {}

    def _last_layer(self, name: str) -> TimeConvolution:
        layer = self.get_submodule(f"to_{name}")
        assert isinstance(layer, TimeConvolution)
        return layer

    @property
    def _any_last(self) -> TimeConvolution:
        """They all see as many frames."""
        return self._last_layer(next(iter(self.widths)))

    def _add_last_layers(self, hidden: int, kernel: int, *, bias: bool = False, std: float = 0.0) -> None:
        for name, width in self.widths.items():
            layer = TimeConvolution(hidden, width, kernel, bias=bias, causal=self.causal)
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
        super().__init__(channels, widths, causal=num_frames is None)
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
        channels, widths, causal: See `Routing`.
        kernel: Frames it sees, odd; any number if causal.
    """

    def __init__(self, channels: int, widths: Mapping[str, int], *, kernel: int = 3, causal: bool = False) -> None:
        super().__init__(channels, widths, causal=causal)
        self._add_last_layers(channels, kernel)

    def _first_state(self, descriptor: Tensor) -> dict[str, Tensor]:
        return {"descriptors": self._any_last.init_state(descriptor)}

    def _last_step(self, name: str, hidden: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        factor, window = self._last_layer(name).step(hidden, state["descriptors"])
        return factor, {"descriptors": window}


class ConvRouting(Routing):
    """Two convolutions over time with a bottleneck, and what they see: frames, the clip, or both.

        g = mean of v over time
        u = v  ("frames"),  g repeated for every frame  ("clip"),  v + W_g g + b_g  ("both")
        factor = 1 + conv_b(act(norm(conv_a(u)))),   conv_b zero at first and without bias

    If causal, both convolutions see this frame and those before it, as many frames as otherwise, and g is the mean of the
    last `window` frames up to this one (`RecentMean`). The papers have no such form; parameters and their names are those
    of the two-way router, whose weights mean something else, for its taps stand at other frames.

    "both" is the router of TAdaConv, version 1, Huang et al. 2022, section 3.2, where W_g g is added before conv_a, so
    that the zeros that pad time do not hold it. The authors pool all pixels of the clip for g; the mean of the
    frames' means is the same number without a second pass over the features.

    Args:
        channels, widths: See `Routing`.
        ratio: channels over hidden channels, rounded down.
        kernels: Frames that conv_a and conv_b see, odd; any numbers if causal.
        sees: Above.
        norm: "batch" with ReLU (momentum 0.1, whatever the network's), or "layer" (over channels, epsilon 1e-6) with
            GELU, as in TAdaConvNeXt.
        causal: See `Routing`.
        window: Frames of g if causal; for "clip" and "both".

    Raises:
        ValueError: If the ratio leaves no hidden channel, or the window is missing.
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
        causal: bool = False,
        window: int | None = None,
    ) -> None:
        super().__init__(channels, widths, causal=causal)
        hidden = _hidden(channels, ratio)
        if causal and sees != "frames" and window is None:
            raise ValueError(f"sees={sees!r} is a mean over the last frames if causal; give their number as window")
        self.sees = sees
        self.recent = RecentMean(window) if causal and sees != "frames" and window is not None else None
        self.global_proj = nn.Linear(channels, channels) if sees == "both" else None
        self.conv = TimeConvolution(channels, hidden, kernels[0], causal=causal)
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
        if self.recent is not None:
            v = self._with_mean(v.transpose(1, 2), self.recent(v).transpose(1, 2)).transpose(1, 2)
        elif self.sees == "clip":
            v = v.mean(dim=2, keepdim=True).expand_as(v)
        elif self.global_proj is not None:
            v = v + self.global_proj(v.mean(dim=2))[:, :, None]
        return self.act(self.norm(self.conv(v)))

    def _with_mean(self, v: Float[Tensor, "*B C"], mean: Float[Tensor, "*B C"]) -> Float[Tensor, "*B C"]:
        return mean if self.global_proj is None else v + self.global_proj(mean)

    def _first_state(self, descriptor: Tensor) -> dict[str, Tensor]:
        state = {} if self.recent is None else {"descriptors": self.recent.init_state(descriptor)}
        if self.conv.reach:
            state["inputs"] = self.conv.init_state(descriptor)
        if self._any_last.reach:
            hidden = descriptor.new_zeros(descriptor.shape[0], self.conv.out_channels)
            state["hidden"] = self._any_last.init_state(hidden)
        return state

    def _body_step(self, descriptor: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        v, after = descriptor, {}
        if self.recent is not None:
            mean, after["descriptors"] = self.recent.step(v, state["descriptors"])
            v = self._with_mean(v, mean)
        inside, window = self.conv.step(v, state.get("inputs", v))
        if self.conv.reach:
            after["inputs"] = window
        return self.act(self.norm(inside[:, :, None]))[:, :, 0], after

    def _last_step(self, name: str, hidden: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        factor, window = self._last_layer(name).step(hidden, state.get("hidden", hidden))
        return factor, {"hidden": window} if self._any_last.reach else {}


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
        self.conv = TimeConvolution(channels, hidden, kernels[0])
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
    The authors calibrate the bias by one number per frame: give widths["bias"] = 1. Their state holds three descriptors, of
    which two are read; here it is two, and a channel that says which of them were frames.

    Args:
        channels, widths: See `Routing`.
    """

    reach = 2

    def __init__(self, channels: int, widths: Mapping[str, int]) -> None:
        super().__init__(channels, widths, causal=True)
        for name, width in self.widths.items():
            layer = nn.Conv1d(channels, width, self.reach + 1)
            nn.init.zeros_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
            self.add_module(f"to_{name}", layer)

    def body(self, descriptors: Float[Tensor, "B C T"]) -> Float[Tensor, "B C T+2"]:
        return torch.cat([descriptors[:, :, :1]] * self.reach + [descriptors], dim=2)

    def _first_state(self, descriptor: Tensor) -> dict[str, Tensor]:
        return {"descriptors": descriptor.new_zeros(descriptor.shape[0], self.channels + 1, self.reach)}

    def _body_step(self, descriptor: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        before, was_frame = state["descriptors"].split([self.channels, 1], dim=1)
        now = descriptor[:, :, None]
        window = torch.cat([torch.where(was_frame > 0, before, now), now], dim=2)
        return window, {"descriptors": F.pad(window[:, :, 1:], (0, 0, 0, 1), value=1.0)}

    def _last_step(self, name: str, hidden: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        return self.last(name, hidden)[:, :, 0], {}


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of (B, C, T), epsilon 1e-6."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, input: Float[Tensor, "B C T"]) -> Float[Tensor, "B C T"]:
        return super().forward(input.transpose(1, 2)).transpose(1, 2)


def quick_gelu(x: Tensor) -> Tensor:
    """x * sigmoid(1.702 x), the activation of CLIP."""
    return x * torch.sigmoid(1.702 * x)


def _hidden(channels: int, ratio: int) -> int:
    if ratio < 1 or channels // ratio < 1:
        raise ValueError(f"ratio={ratio} leaves no hidden channel of channels={channels}; give 1 to {channels}")
    return channels // ratio
