"""Temporally adaptive convolution: one base kernel, calibrated for every frame.

Huang et al. 2022, "TAda! Temporally-Adaptive Convolutions for Video Understanding", section 3 (arXiv:2110.06178), and
its second version, Huang et al. 2023 (arXiv:2308.05787).

The calibrated kernel of a frame is never built. A factor on the input channels of a kernel may as well scale the
features that go in, one on the output channels those that come out, and one on a tap the features that this tap reads:

    conv(x; a_cin W) = conv(a_cin x; W)      conv(x; a_cout W) = a_cout conv(x; W)

so all frames of all clips share one ordinary convolution, whose weights and results are those of the authors' code.
"""

from collections.abc import Sequence
from math import prod
from typing import Literal, NamedTuple, cast, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kinema.operators.scaled_convolution import scaled_convolution
from kinema.shapes import check_clip, fold_time, unfold_time

CalibrationDim = Literal["cin", "cout", "cin+cout", "kernel", "cin+cout+kernel"]
CALIBRATION_DIMS: tuple[CalibrationDim, ...] = get_args(CalibrationDim)


class Calibration(NamedTuple):
    """Factors of every frame, made by a router of `kinema.operators.routing`; None stands for a factor of one.

    Args:
        cin: On the input channels of the kernel, (B, C_in, T).
        cout: On its output channels, (B, C_out, T).
        kernel: On its taps, in the order of the kernel's elements, (B, taps, T).
        bias: On the bias, (B, C_out, T) or (B, 1, T).
    """

    cin: Tensor | None = None
    cout: Tensor | None = None
    kernel: Tensor | None = None
    bias: Tensor | None = None


class _TAdaConv(nn.Module):
    """What the two- and the three-dimensional convolution share: parameters, their checks, and the widths of factors."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, ...],
        stride: tuple[int, int],
        padding: tuple[int, int],
        dilation: tuple[int, int],
        groups: int,
        bias: bool,
        calibration: CalibrationDim,
    ) -> None:
        super().__init__()
        if calibration not in CALIBRATION_DIMS:
            raise ValueError(f"calibration={calibration!r} is unknown; give one of {', '.join(CALIBRATION_DIMS)}")
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(
                f"groups={groups} does not divide in_channels={in_channels} and out_channels={out_channels}; "
                "give a common divisor, 1 for an ordinary convolution"
            )
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride, self.padding, self.dilation = kernel_size, stride, padding, dilation
        self.groups, self.calibration = groups, calibration
        # Two leading axes of one, clip and frame, as in the authors' state dicts.
        self.weight = nn.Parameter(torch.empty(1, 1, out_channels, in_channels // groups, *kernel_size))
        self.bias = nn.Parameter(torch.zeros(1, 1, out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initial values of torch's convolutions.

        The authors draw the six-axis weight, whose fan-in then counts the output channels too: their kernels start
        sqrt(out_channels) times smaller, which no network of theirs uses, for all start from ImageNet weights.
        """
        nn.init.kaiming_uniform_(self.weight[0, 0], a=5**0.5)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @property
    def widths(self) -> dict[str, int]:
        """Which factors this convolution takes, and how many numbers of each a frame needs; the bias is not among them."""
        every = {"cin": self.in_channels, "cout": self.out_channels, "kernel": prod(self.kernel_size)}
        return {name: every[name] for name in self.calibration.split("+")}

    def _factors(self, factors: Tensor | Calibration | None, x: Tensor) -> Calibration:
        """The factors as (B, width, T), checked."""
        if factors is None:
            return Calibration()
        if isinstance(factors, Tensor):
            if "+" in self.calibration:
                raise ValueError(
                    f"one tensor of factors was given, calibration={self.calibration!r} needs several; "
                    "give a Calibration(cin=..., cout=...)"
                )
            factors = Calibration(**{self.calibration: factors})
        widths = {**self.widths, "bias": self.out_channels}
        shaped: dict[str, Tensor] = {}
        for name, factor in zip(Calibration._fields, factors, strict=True):
            if factor is None:
                continue
            if name not in widths or (name == "bias" and self.bias is None):
                what = "has no bias" if name == "bias" else f"calibrates {self.calibration!r}"
                raise ValueError(f"factors for {name!r} were given to a convolution that {what}; leave them out")
            needed = (x.shape[0], widths[name], x.shape[2])
            allowed = (needed, (x.shape[0], 1, x.shape[2])) if name == "bias" else (needed,)
            if tuple(factor.shape[:3]) not in allowed or any(size != 1 for size in factor.shape[3:]):
                raise ValueError(
                    f"the factors for {name!r} have shape {tuple(factor.shape)}, needed is {needed} (clip, "
                    f"{'tap' if name == 'kernel' else 'channel'}, frame), trailing axes of one allowed; give one number "
                    "for each of them, or a router built for this convolution's 'widths'"
                )
            shaped[name] = factor.flatten(2) if factor.ndim > 3 else factor
        return Calibration(**shaped)

    def _convolve(self, frames: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(frames, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def _convolve_taps(self, frames: Float[Tensor, "BT I H W"], taps: Float[Tensor, "BT K"]) -> Tensor:
        """Windows scaled tap by tap, then one matrix product per group."""
        kernel = self.kernel_size[-2:]
        out = [
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, p, d, k, s in zip(frames.shape[-2:], self.padding, self.dilation, kernel, self.stride, strict=True)
        ]
        windows = F.unfold(frames, kernel, self.dilation, self.padding, self.stride)
        windows = windows.unflatten(1, (self.in_channels, taps.shape[1])) * taps[:, None, :, None]
        windows = windows.reshape(frames.shape[0], self.groups, -1, windows.shape[-1])
        weight = self.weight.reshape(self.groups, self.out_channels // self.groups, -1)
        return (weight @ windows).reshape(frames.shape[0], self.out_channels, *out)

    def extra_repr(self) -> str:
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"]
        parts += [f"padding={self.padding}, dilation={self.dilation}, groups={self.groups}"]
        parts += [f"bias={self.bias is not None}, calibration={self.calibration!r}"]
        return ", ".join(parts)


class TAdaConv2d(_TAdaConv):
    """A 2-D convolution of every frame, its kernel calibrated per clip and frame.

        y[b, :, t] = conv2d(x[b, :, t]; A[b, t] * W) + c[b, t] * bias
        A[b, t][o, i, u, v] = cout[b, o, t] * cin[b, i, t] * kernel[b, (u, v), t]

    where the factors that `calibration` does not name are one. The weights of an `nn.Conv2d` are taken over by
    `from_conv`, and with factors of one, or none, the result is that of the `nn.Conv2d`:

        conv = TAdaConv2d.from_conv(nn.Conv2d(16, 32, 3, padding=1))  # calibration "cin", see there
        clip, factors = torch.randn(2, 16, 8, 56, 56), torch.ones(2, 16, 8)  # (clip, input channel, frame)
        y = conv(clip, factors)  # (2, 32, 8, 56, 56)

    `kinema.operators.tada_layer.calibrate` adds a router that makes the factors.

    "cin+cout+kernel" is the product of all three, a rank-one tensor over the kernel's axes. An article on the method
    speaks of a Tucker form; neither paper nor code has one.

    Computed by scaling what goes into and comes out of one ordinary convolution. A factor per tap has no such form: the
    k * k windows are scaled and multiplied with the kernel as one matrix (k * k times the memory of the features; for a
    single tap it is a scale).

    Differs from the authors' code in giving factors on the input channels a meaning for groups > 1, where theirs stops
    with an error (input channel i of the whole layer, as without groups), and in accepting any stride and dilation,
    and factors from outside of any router.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias: As for `torch.nn.Conv2d`.
        calibration: Axes of the kernel that carry a factor: "cin" (the paper's choice for ordinary convolutions),
            "cout" (its choice for depthwise ones), "cin+cout", "kernel", "cin+cout+kernel".

    Shape:
        x (B, C_in, T, H, W) and factors to (B, C_out, T, H', W'). Factors are one tensor (B, width, T), trailing axes
        of one allowed, where `calibration` names one axis, else a `Calibration`; None is the plain convolution.
        State: weight (1, 1, C_out, C_in / groups, kh, kw), bias (1, 1, C_out).

    Raises:
        ValueError: On an unknown calibration, groups that do not divide the channels, factors of another shape.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        calibration: CalibrationDim = "cin",
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            _pair(kernel_size, "kernel_size"),
            _pair(stride, "stride"),
            _pair(padding, "padding"),
            _pair(dilation, "dilation"),
            groups,
            bias,
            calibration,
        )

    @classmethod
    def from_conv(cls, conv: nn.Conv2d, *, calibration: CalibrationDim | None = None) -> "TAdaConv2d":
        """The same convolution, ready for calibration; its weights are copied.

        Args:
            conv: Any `nn.Conv2d` with zero padding.
            calibration: "cout" for a convolution with groups, else "cin", when None: the choice of the papers.

        Raises:
            ValueError: If the padding is not zeros, or is "same" for an even kernel.
        """
        if conv.padding_mode != "zeros":
            raise ValueError(
                f"padding_mode={conv.padding_mode!r} cannot be calibrated; use a convolution padded with zeros"
            )
        made = cls(
            conv.in_channels,
            conv.out_channels,
            cast(tuple[int, int], conv.kernel_size),
            cast(tuple[int, int], conv.stride),
            _explicit_padding(conv),
            cast(tuple[int, int], conv.dilation),
            conv.groups,
            conv.bias is not None,
            calibration or ("cin" if conv.groups == 1 else "cout"),
        ).to(conv.weight)
        with torch.no_grad():
            made.weight.copy_(conv.weight[None, None])
            if made.bias is not None and conv.bias is not None:
                made.bias.copy_(conv.bias[None, None])
        return made

    def forward(
        self,
        x: Float[Tensor, "B I T H W"],
        factors: Tensor | Calibration | None = None,
        bias_factor: Float[Tensor, "B O T"] | None = None,
    ) -> Float[Tensor, "B O T h w"]:
        check_clip(x, channels=self.in_channels)
        if bias_factor is not None:
            factors = _with_bias(factors, bias_factor, self.calibration)
        scales = self._factors(factors, x)
        cout = None if scales.cout is None else _per_frame(scales.cout)
        plain_bias = scales.bias is None and cout is None
        bias = self.bias[0, 0] if self.bias is not None else None
        if scales.kernel is not None:
            scaled = x if scales.cin is None else x * scales.cin[..., None, None]
            y = self._convolve_taps(fold_time(scaled), _per_frame(scales.kernel))
            if plain_bias and bias is not None:
                y = y + bias[:, None, None]
        elif scales.cin is not None:
            geometry = self.stride, self.padding, self.dilation, self.groups
            weight = self.weight[0, 0]
            y = scaled_convolution(x, scales.cin, weight, bias if plain_bias else None, *geometry)
        else:
            y = self._convolve(fold_time(x), self.weight[0, 0], bias if plain_bias else None)
        if bias is not None and not plain_bias:
            shift = bias if scales.bias is None else bias * _per_frame(scales.bias)
            shift = shift.expand(y.shape[0], -1)[:, :, None, None]
            y = torch.addcmul(shift, y, cout[:, :, None, None]) if cout is not None else y + shift
        elif cout is not None:
            y = y * cout[:, :, None, None]
        return unfold_time(y, x.shape[2])


class TAdaConv3d(_TAdaConv):
    """A 3-D convolution whose kernel is calibrated per clip and frame: all its taps in time share a frame's factors.

        y[b, :, t] = sum over k of conv2d(x[b, :, t + k - p]; A[b, t] * W[k]) + c[b, t] * bias,   p = kt // 2

    The factors belong to the frame that comes out and scale the whole window that it sees. A factor on the input
    channels is therefore not a scale of the features, which other windows share: kt convolutions in two dimensions are
    summed, each of features scaled for it. A factor on the output channels is a scale, as in two dimensions.
    Time is padded with zeros, has stride 1 and keeps its length.

    Args:
        in_channels, out_channels, groups, bias, calibration: As for `TAdaConv2d`.
        kernel_size: One odd number or (time, height, width), time odd.
        stride, padding, dilation: Of height and width: one number or two. Padding in time is kt // 2, always, as in
            the authors' code.

    Shape:
        As for `TAdaConv2d`. State: weight (1, 1, C_out, C_in / groups, kt, kh, kw), bias (1, 1, C_out).

    Raises:
        ValueError: As for `TAdaConv2d`, and for an even kernel in time.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        calibration: CalibrationDim = "cin",
    ) -> None:
        kernel = (kernel_size,) * 3 if isinstance(kernel_size, int) else tuple(kernel_size)
        if len(kernel) != 3 or kernel[0] % 2 == 0:
            raise ValueError(
                f"kernel_size={kernel_size} must be (time, height, width), odd in time so that a frame has a centre"
            )
        super().__init__(
            in_channels,
            out_channels,
            kernel,
            _pair(stride, "stride"),
            _pair(padding, "padding"),
            _pair(dilation, "dilation"),
            groups,
            bias,
            calibration,
        )

    @classmethod
    def from_conv(cls, conv: nn.Conv3d, *, calibration: CalibrationDim | None = None) -> "TAdaConv3d":
        """The same convolution, ready for calibration; its weights are copied.

        Raises:
            ValueError: If it strides or dilates time, or pads it by other than kt // 2 zeros.
        """
        kernel, stride, dilation = (cast(tuple[int, ...], v) for v in (conv.kernel_size, conv.stride, conv.dilation))
        padding = conv.padding
        if (
            isinstance(padding, str)
            or conv.padding_mode != "zeros"
            or (stride[0], dilation[0], padding[0]) != (1, 1, kernel[0] // 2)
            or kernel[0] % 2 == 0
        ):
            raise ValueError(
                f"{conv} changes the number of frames or pads by other than zeros; it cannot be calibrated"
            )
        made = cls(
            conv.in_channels,
            conv.out_channels,
            kernel,
            stride[1:],
            padding[1:],
            dilation[1:],
            conv.groups,
            conv.bias is not None,
            calibration or ("cin" if conv.groups == 1 else "cout"),
        ).to(conv.weight)
        with torch.no_grad():
            made.weight.copy_(conv.weight[None, None])
            if made.bias is not None and conv.bias is not None:
                made.bias.copy_(conv.bias[None, None])
        return made

    def forward(
        self,
        x: Float[Tensor, "B I T H W"],
        factors: Tensor | Calibration | None = None,
        bias_factor: Float[Tensor, "B O T"] | None = None,
    ) -> Float[Tensor, "B O T h w"]:
        check_clip(x, channels=self.in_channels)
        if bias_factor is not None:
            factors = _with_bias(factors, bias_factor, self.calibration)
        scales = self._factors(factors, x)
        if scales.cin is None and scales.kernel is None:
            y = F.conv3d(
                x,
                self.weight[0, 0],
                None,
                (1, *self.stride),
                (self.kernel_size[0] // 2, *self.padding),
                (1, *self.dilation),
                self.groups,
            )
        else:
            y = self._sum_of_shifted(x, scales)
        if scales.cout is not None:
            y = y * scales.cout[..., None, None]
        if self.bias is not None:
            bias = self.bias[0, 0, :, None]
            bias = bias if scales.bias is None else bias * scales.bias
            y = y + bias[..., None, None]
        return y

    def _sum_of_shifted(self, x: Tensor, scales: Calibration) -> Tensor:
        """One convolution in two dimensions over the frame, its neighbours standing beside each other as channels.

        Equal to summing over the taps in time; one call that multiplies kt times as many input channels.
        """
        kt = self.kernel_size[0]
        frames = x.transpose(1, 2)
        num_frames, reach = x.shape[2], kt // 2
        padded = F.pad(frames, (0, 0, 0, 0, 0, 0, reach, reach))
        window = torch.stack([padded[:, k : k + num_frames] for k in range(kt)], dim=3)  # B T I kt H W
        if scales.cin is not None:
            window = window * scales.cin.transpose(1, 2)[..., None, None, None]
        flat = window.flatten(0, 1).flatten(1, 2)
        if scales.kernel is not None:
            return unfold_time(self._convolve_taps(flat, _per_frame(scales.kernel)), num_frames)
        weight = self.weight[0, 0].flatten(1, 2)
        return unfold_time(self._convolve(flat, weight, None), num_frames)


def _with_bias(factors: Tensor | Calibration | None, bias: Tensor, calibration: CalibrationDim) -> Calibration:
    if factors is None:
        return Calibration(bias=bias)
    if isinstance(factors, Tensor):
        if "+" in calibration:
            raise ValueError(
                f"one tensor of factors was given, calibration={calibration!r} needs several; "
                "give a Calibration(cin=..., cout=...)"
            )
        return Calibration(**{calibration: factors}, bias=bias)
    return factors._replace(bias=bias)


def _per_frame(factor: Float[Tensor, "B C T"]) -> Float[Tensor, "BT C"]:
    return factor.transpose(1, 2).flatten(0, 1)


def _pair(value: int | Sequence[int], name: str) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    if len(value) != 2:
        raise ValueError(f"{name}={value} must be one number or two, for height and width")
    return value[0], value[1]


def _explicit_padding(conv: nn.Conv2d) -> tuple[int, int]:
    """Padding in numbers where it is given as a word."""
    if not isinstance(conv.padding, str):
        return conv.padding[0], conv.padding[1]
    if conv.padding == "valid":
        return 0, 0
    spans = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
    if any(span % 2 for span in spans):
        raise ValueError(f"padding='same' for kernel_size={conv.kernel_size} is uneven; use an odd kernel")
    return spans[0] // 2, spans[1] // 2
