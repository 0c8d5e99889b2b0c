"""The options of the named networks: what may follow `num_classes` and `num_frames`, and what each means."""

from collections.abc import Sequence
from typing import Literal, TypedDict

from kinema.backbones.holes import OperatorFactory, Placement
from kinema.backbones.timesformer import Position, PositionResize
from kinema.models.heads import Consensus
from kinema.operators.attention import AttentionScheme, Order
from kinema.operators.attention_steps import Border
from kinema.operators.rotary import RotaryLayout
from kinema.operators.routing import RoutingName
from kinema.operators.tadaconv import CalibrationDim

Aggregation = Literal["avg", "max", "avg+max", "none"]
NamedMixer = Literal["temporal_conv", "depthwise_temporal_conv"]
NonLocal = Literal["none", "gaussian", "embedded_gaussian", "dot_product"]
TAda = Literal["none", "2d", "2d+1d", "3d"]


class FrameOptions(TypedDict, total=False):
    """Of every network that runs frame by frame.

    dropout: Probability before the classifier, in [0, 1). Default 0.5.
    consensus: "mean" of the logits over the frames, or "identity" to keep a score per frame. Default "mean".
    in_channels: Channels of the clip. Default 3.
    """

    dropout: float
    consensus: Consensus
    in_channels: int


class ResNetOptions(FrameOptions, total=False):
    """Of networks on a ResNet.

    non_local: "none", or the affinity of the five non-local blocks. Default "none".
    temporal_pool: Halve the frames in front of the second stage. Default False.
    """

    non_local: NonLocal
    temporal_pool: bool


class SizeOptions(TypedDict, total=False):
    """Of the nano networks.

    depths: Blocks in each of the four stages. Default (1, 1, 2, 1).
    width: Channels of the first stage, doubled from each stage to the next. Default 16.
    """

    depths: Sequence[int]
    width: int


class MixerOptions(TypedDict, total=False):
    """Of TSN: any operator of one's own makes it a temporal network.

    mixer: Builds the operator of one block from its number of channels; or "temporal_conv" or "depthwise_temporal_conv",
        the learnt convolutions that TSM was compared with (`kinema.operators.temporal_conv`). None for none. Default None.
    placement: "residual" puts it in front of the residual branch, "in_place" in front of the block. Default "residual".
    mixer_every: Blocks from one mixer to the next within a stage. Default 1.
    """

    mixer: OperatorFactory | NamedMixer | None
    placement: Placement
    mixer_every: int


class ShiftOptions(TypedDict, total=False):
    """Of TSM.

    shift_fraction: Share of the channels moved, in [0, 1]; 0 leaves the shift out, which is TSN. Default 1/4.
    placement: "residual" or "in_place", as the paper calls them. Default "residual".
    causal: Shift from the past only, for streams. Default False.
    shift_every: Blocks from one shift to the next within a stage. Default None, the rule of the TSM code: 1, but 2 for
        a residual shift in networks with 23 or more blocks in the third stage (ResNet-101 and deeper).
    """

    shift_fraction: float
    placement: Placement
    causal: bool
    shift_every: int | None


class ClipOptions(TypedDict, total=False):
    """Of networks that classify the pooled features of a clip.

    dropout: Probability before the classifier, in [0, 1). Default 0.5.
    in_channels: Channels of the clip. Default 3.
    """

    dropout: float
    in_channels: int


class RoutingOptions(TypedDict, total=False):
    """Of TAdaConv: what is calibrated, and by what.

    calibration: "cin", "cout", "cin+cout", "kernel" or "cin+cout+kernel". Default "cin", but "cout" for a convolution
        with groups.
    routing: What makes the factors, see `kinema.operators.routing`. Default "local_global".
    routing_ratio: Channels of a layer over hidden channels of its router. Default 4.
    routing_kernels: Frames that the router's two convolutions see. Default (3, 3).
    routing_head_dim: Channels of an attention head, for routing "attention". Default one head.
    calibrated_fraction: Share of the channels calibrated, the leading ones, in (0, 1]. Default 1.
    calibrated_stages: Stages whose convolutions are calibrated, and aggregated where they are at all, from 1. Default
        (1, 2, 3, 4).
    """

    calibration: CalibrationDim
    routing: RoutingName
    routing_ratio: int
    routing_kernels: tuple[int, int]
    routing_head_dim: int | None
    calibrated_fraction: float
    calibrated_stages: Sequence[int]


class CalibrationOptions(RoutingOptions, total=False):
    """Of networks made for TAdaConv, which pool over time behind it.

    aggregation: Pooling over time beside the norm: "avg", "max", "avg+max" or "none". Default "avg".
    aggregation_kernel: Frames pooled, odd. Default 3.
    aggregation_norm: "own" for the pooled features, or "shared". Default "own".
    """

    aggregation: Aggregation
    aggregation_kernel: int
    aggregation_norm: Literal["own", "shared"]


class TSNOptions(ResNetOptions, MixerOptions, total=False): ...


class TSNNanoOptions(TSNOptions, SizeOptions, total=False): ...


class TSNMobileNetOptions(FrameOptions, MixerOptions, total=False): ...


class TSMOptions(ResNetOptions, ShiftOptions, total=False): ...


class TSMNanoOptions(TSMOptions, SizeOptions, total=False): ...


class TSMMobileNetOptions(FrameOptions, ShiftOptions, total=False): ...


class TAda2DOptions(ClipOptions, CalibrationOptions, total=False):
    """Of TAda2D.

    non_local: "none", or the affinity of one non-local block behind the last stage. Default "none".
    causal: Routers and aggregation see the past alone, for streams: convolutions of routers and pooling this frame and those
        before it, and instead of the clip's mean that of the last `num_frames` frames. Default False.
    """

    non_local: NonLocal
    causal: bool


class TAda2DNanoOptions(TAda2DOptions, SizeOptions, total=False): ...


class PlugInOptions(ClipOptions, RoutingOptions, total=False):
    """Of networks that exist without TAdaConv, and into which it is put. The options of the calibration need one.

    tada: Which convolutions are calibrated: "none"; "2d", those over the pixels of one frame; "2d+1d", those of R(2+1)D
        over time too; "3d", those of R3D over both. Default "none".
    """

    tada: TAda


class R3DOptions(PlugInOptions, total=False):
    """Of R3D.

    stem_frames: Frames that the stem sees: 3 for the size and cost in the paper, 1 for checkpoints of the authors'
        configuration with a two-dimensional stem. Default 3.
    """

    stem_frames: int


class SlowFastOptions(PlugInOptions, total=False):
    """Of SlowFast.

    alpha: Fast frames to a slow one; must divide the number of frames. Default 8 (SlowFast 4x16); 4 is SlowFast 8x8.
    fusion_kernel: Frames that a fusion sees, odd. Default 7 for alpha 4, else 5, as in the authors' configurations.
    """

    alpha: int
    fusion_kernel: int | None


class R3DNanoOptions(R3DOptions, SizeOptions, total=False): ...


class PlugInNanoOptions(PlugInOptions, SizeOptions, total=False): ...


class SlowFastNanoOptions(SlowFastOptions, SizeOptions, total=False): ...


class TAdaConvNeXtOptions(ClipOptions, CalibrationOptions, total=False):
    """Of TAdaConvNeXt, first and second version; biases are calibrated too.

    routing: What makes the factors, see `kinema.operators.routing`. Default "local_global_ln" for the first version,
        "attention" for the second.
    routing_ratio: Channels of a layer over hidden channels of its router. Default 4 for the first version, 2 for the
        second.
    routing_head_dim: Channels of an attention head. Default the width of the first stage over the ratio, so 1, 2, 4 and 8
        heads in the four stages.
    aggregation: Pooling over time beside the norm: "avg", "max", "avg+max" or "none". Default "none" for the first
        version, "avg" for the second.
    drop_path: Rate of stochastic depth at the last block, in [0, 1). Default 0.4 for the first version; 0.2, 0.4 and 0.6
        for tiny, small and base of the second; 0 for nano.
    weight_init: Values that parameters start from: "authors", theirs, or "scratch" for a network that gets no
        image weights. Default "authors", "scratch" for nano.
    """

    drop_path: float
    weight_init: Literal["authors", "scratch"]


class TAdaConvNeXtNanoOptions(TAdaConvNeXtOptions, SizeOptions, total=False):
    """The width is 24 when not given."""


class TAdaFormerOptions(ClipOptions, total=False):
    """Of TAdaFormer.

    enhanced: TAda blocks see three frames already where they reduce channels; on Something-Something. Default False.
    double: A second TAda block between attention and MLP; on Something-Something. Default False.
    reduction: Channels of the transformer over those of a TAda block. Default 2.
    routing: What makes the factors, see `kinema.operators.routing`. Default "attention".
    routing_ratio: Channels of a TAda block over hidden channels of its router. Default 2.
    routing_kernels: Frames that the router's two convolutions see. Default (3, 3).
    routing_head_dim: Channels of an attention head of the router. Default 64, one head for nano.
    drop_path: Rate of stochastic depth at the last block, in [0, 1). Default 0.
    image_size: Side in pixels of the frames whose positions are learnt; position embeddings are resized for others.
        Default 224, 64 for nano.
    """

    enhanced: bool
    double: bool
    reduction: int
    routing: RoutingName
    routing_ratio: int
    routing_kernels: tuple[int, int]
    routing_head_dim: int | None
    drop_path: float
    image_size: int


class TAdaFormerNanoOptions(TAdaFormerOptions, total=False):
    """Of the nano transformer, which may be of any size.

    embed_dim: Size of the embedding. Default 64.
    depth: Number of blocks. Default 4.
    num_heads: Attention heads of a block. Default 4.
    patch_size: Side of a patch in pixels. Default 8.
    """

    embed_dim: int
    depth: int
    num_heads: int
    patch_size: int


class TimeSformerOptions(TypedDict, total=False):
    """Of TimeSformer.

    attention_scheme: "space", "joint", "divided", "local_global" or "axial", see `kinema.operators.attention`. Default
        "divided".
    attention_order: "sequential", "reversed" (for divided: space, then time) or "parallel". Default "sequential".
    local_border: Windows of local attention at the border: "clamp" inside the frame, or "truncate". Default "clamp".
    class_everywhere: The class token sees and is seen in gated steps too, as in the paper's equations and not in the
        authors' code. Default False.
    causal: Attention over time sees this frame and the `num_frames` - 1 before it, and every frame has a class token, for
        streams; with scheme "divided". Frames are then told apart by how old they are, not by their place. Default False.
    position: Embeddings of "space_time", of "space" alone, or "none". Default "space_time".
    position_resize: Positions for clips of another size: "smooth", "nearest" (the authors') or "none", which refuses
        them. Default "smooth".
    image_size: Side in pixels of the frames whose positions are learnt. Default 224, 448 for hr, 64 for nano.
    qkv_bias: Whether queries, keys and values have a bias. Default True.
    qk_scale: Of the products of queries and keys; head size ** -0.5 when None. Default None.
    drop_path: Rate of stochastic depth at the last block, in [0, 1). Default 0.1, 0 for nano.
    checkpointing: Compute blocks again in the backward pass instead of keeping what it needs. Default False.
    weight_init: Values that parameters start from: "authors", theirs, or "scratch" for a network that gets no
        weights, see `kinema.backbones.timesformer.SpaceTimeTransformer`. Default "authors", "scratch" for nano.
    dropout: Probability before the classifier, in [0, 1). Default 0: the authors' code never applies theirs.
    in_channels: Channels of the clip. Default 3.
    """

    attention_scheme: AttentionScheme
    attention_order: Order
    local_border: Border
    class_everywhere: bool
    causal: bool
    position: Position
    position_resize: PositionResize
    image_size: int
    qkv_bias: bool
    qk_scale: float | None
    drop_path: float
    checkpointing: bool
    weight_init: Literal["authors", "scratch"]
    dropout: float
    in_channels: int


class TimeSformerNanoOptions(TimeSformerOptions, total=False):
    """Of the nano transformer, which may be of any size.

    embed_dim: Size of the embedding. Default 64.
    depth: Number of blocks. Default 4.
    num_heads: Attention heads of a step. Default 4.
    mlp_ratio: Hidden channels of the feed-forward part over the embedding. Default 4.
    patch_size: Side of a patch in pixels. Default 8.
    """

    embed_dim: int
    depth: int
    num_heads: int
    mlp_ratio: float
    patch_size: int


class TimeSformerRotaryOptions(TypedDict, total=False):
    """Of TimeSformer with rotary positions, which may be of any size.

    embed_dim: Size of the embedding. Default 512, 64 for nano.
    depth: Number of blocks. Default 12, 4 for nano.
    num_heads: Attention heads of a step. Default 8, 4 for nano.
    head_dim: Channels of a head; a multiple of 4 for rotary positions. Default 64, 16 for nano.
    patch_size: Side of a patch in pixels. Default 16, 8 for nano.
    image_size: Side in pixels of the frames whose positions are learnt, for rotary=False. Default 224, 64 for nano.
    rotary: Rotate queries and keys by their position; False for positions that are learnt. Default True.
    rotary_layout: "interleaved", or "reference" for weights trained by lucidrains/TimeSformer-pytorch, see
        `kinema.operators.rotary`. Default "interleaved".
    token_shift: Shift thirds of the channels in time in front of every part of a block. Default False.
    attention_dropout: Rate of dropping a channel of what attention adds, in [0, 1). Default 0.
    feed_forward_dropout: Rate of dropping a hidden channel of the feed-forward part, in [0, 1). Default 0.
    dropout: Probability before the classifier, in [0, 1). Default 0.
    in_channels: Channels of the clip. Default 3.
    """

    embed_dim: int
    depth: int
    num_heads: int
    head_dim: int
    patch_size: int
    image_size: int
    rotary: bool
    rotary_layout: RotaryLayout
    token_shift: bool
    attention_dropout: float
    feed_forward_dropout: float
    dropout: float
    in_channels: int


class UniFormerOptions(TypedDict, total=False):
    """Of every UniFormer.

    depths: Blocks in each of the four stages. Default those of the size; UniFormer-S has others for other `stage_types`,
        those of the paper's ablation.
    tube_size: How many frames, rows and columns a local block sees: one odd number. Default 5.
    dpe: Dynamic position embeddings. Default True.
    qkv_bias: Whether queries, keys and values have a bias. Default True.
    qk_scale: Of the products of queries and keys; head size ** -0.5 when None. Default None.
    layer_scale: Initial factor on each channel of a branch, which then learns; None for no such factors. Default None.
    drop_path: Rate of stochastic depth at the last block, in [0, 1). Default 0.05, 0.1, 0.1 and 0.3 for XXS, XS, S and B,
        those of Kinetics; 0 for nano. On Something-Something the paper has 0.3 for S and 0.6 for B, the authors' files
        0.2 to 0.3 and 0.4 to 0.6.
    checkpointing: How many of the first blocks of each stage are computed again in the backward pass, four numbers; True
        for all. Default False.
    representation_size: Channels of a linear layer and tanh in front of the classifier; None for none. Default None.
    dropout: Probability before the classifier, in [0, 1). Default 0.
    in_channels: Channels of the clip. Default 3.
    """

    depths: Sequence[int]
    tube_size: int
    dpe: bool
    qkv_bias: bool
    qk_scale: float | None
    layer_scale: float | None
    drop_path: float
    checkpointing: bool | Sequence[int]
    representation_size: int | None
    dropout: float
    in_channels: int


class PlainUniFormerOptions(UniFormerOptions, total=False):
    """Of UniFormer-S and -B.

    stage_types: Local (L) or global (G) blocks in each of the four stages. Default "LLGG".
    split: Divide global attention into one along time and one within frames. Default False.
    std: Embeddings between stages see three frames instead of one. Default False.
    """

    stage_types: str
    split: bool
    std: bool


class LightUniFormerOptions(UniFormerOptions, total=False):
    """Of UniFormer-XXS and -XS.

    prune_ratios: Share of tokens that blocks keep, two lists: one number for each block of stage 3, the first of them 1, and
        for each of stage 4. Default 1, then 0.5.
    class_head: A second classifier on the class token, for training: see `kinema.models.uniformer.TwoHeadedNetwork`.
        Default True, False for nano.
    """

    prune_ratios: Sequence[Sequence[float]] | None
    class_head: bool


class UniFormerNanoOptions(PlainUniFormerOptions, LightUniFormerOptions, total=False):
    """Of the nano network, which may be of any size.

    embed_dims: Channels of the four stages. Default (16, 32, 64, 64).
    head_dim: Channels of an attention head, a divisor of those of each stage with attention. Default 16.
    mlp_ratio: Hidden channels of the feed-forward part over those of a block. Default 4, 3 for a light one.
    light: Build it as XXS and XS are. Default False.
    """

    embed_dims: Sequence[int]
    head_dim: int
    mlp_ratio: float
    light: bool
