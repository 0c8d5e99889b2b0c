"""The space-time attention schemes of TimeSformer: which tokens of a clip see which.

Bertasius, Wang and Torresani 2021 (arXiv:2102.05095), section 3 and figure 2. A scheme is a list of steps, and a step is
attention with its own projections in which a patch sees some of the others:

    scheme          steps                  a patch sees, in each step
    space           space                  its frame
    joint           joint                  the clip
    divided         time, space            its place in every frame; its frame
    local_global    local, global          a window of half the height and half the width in every frame; every second
                                           row and column of every second frame
    axial           time, width, height    its place in every frame; its row; its column

The last step is that of the image transformer whose weights a network starts from. Those before it are gated: a linear
layer behind them is zero at first, so the network is then what its last step alone makes: with space and divided, the image
transformer on every frame; with joint, one that sees all frames at once; with local_global and axial none that was trained,
for their last step sees other patches than an image transformer does.

The authors released space, joint and divided, which are as in their code. local_global and axial follow the paper and
its parameter counts (one gated step and two). What the paper leaves open is decided thus:

* Windows of local attention stay inside the frame, so every patch has the same number of keys; `border="truncate"` cuts
  them off instead. A window of even size has one more patch before its centre than behind.
* Class tokens, as in the authors' code of divided: gated steps leave them out. In the last step they are copied into
  every group (frame, column, clip), and what the groups say of them is averaged; in global attention they see, and are
  seen, beside the strided keys. With `class_everywhere` each step does what equation 6 of the paper says: the class token is
  a key of every patch, and sees all tokens.

Attention weights, where they are kept, are (groups, heads, queries, keys). The clip is the outermost axis of groups, patches
are in the order that is written here, their last axis changing fastest, and a class token, where a step has one, is the
first query and the first key:

    step     groups            queries and keys     numbers for h x w patches of T frames
    time     clip, row, column   T                    (B h w, heads, T, T)
    space    clip, frame         class, h w           (B T, heads, 1 + h w, 1 + h w)
    width    clip, frame, row    class, w             (B T h, heads, 1 + w, 1 + w)
    height   clip, frame, column class, h             (B T w, heads, 1 + h, 1 + h)
    joint    clip                class, h w T         (B, heads, 1 + h w T, 1 + h w T)
    local    clip                h w T; all patches of the clip, those outside the window at zero
    global   clip                class, h w T; class, then rows 0, 2, ..., columns 0, 2, ... and frames 0, 2, ...

Gated steps have a class token only with `class_everywhere`, and the rows of the class token itself are then left out.
"""

from collections.abc import Callable
from typing import Any, Literal, get_args

from jaxtyping import Bool
from timm.layers.drop import drop_path
from torch import Tensor, nn

from kinema.operators.attention_steps import BORDERS, GROUPS, Border, StepAttention
from kinema.operators.feed_forward import FeedForward
from kinema.operators.multihead import Attention
from kinema.operators.token_linear import TokenLinear
from kinema.shapes import AttentionMaps, ClipTokens

AttentionScheme = Literal["space", "joint", "divided", "local_global", "axial"]
SCHEMES: tuple[AttentionScheme, ...] = get_args(AttentionScheme)
Step = Literal["space", "joint", "time", "width", "height", "local", "global"]
Order = Literal["sequential", "reversed", "parallel"]
ORDERS: tuple[Order, ...] = get_args(Order)
STEPS: dict[AttentionScheme, tuple[Step, ...]] = {
    "space": ("space",),
    "joint": ("joint",),
    "divided": ("time", "space"),
    "local_global": ("local", "global"),
    "axial": ("time", "width", "height"),
}


class SpaceTimeBlock(nn.Module):
    """A pre-norm transformer block whose attention is a list of steps.

        z = z + fc(attn(norm(z)))        for each gated step
        z = z + attn(norm1(z))           the last step, without a gate
        z = z + mlp(norm2(z))

    Args:
        dim: Size of D.
        num_heads: Attention heads of each step.
        scheme: Which steps, see above.
        mlp_ratio: Hidden channels of the feed-forward part over D.
        qkv_bias: Whether queries, keys and values have a bias.
        qk_scale: Of the products of queries and keys; head size ** -0.5 when None.
        order: "sequential"; "reversed", the last step first (space-then-time for divided); or "parallel", all steps from
            the same tokens and their results added (section 4.7 of the paper tries all three for divided).
        border: Of local attention.
        class_everywhere: The literal rule of the paper for class tokens.
        drop_path: Rate of stochastic depth, drawn as in the authors' code: for every group of a step, and for every clip
            (every frame in scheme "space") of the feed-forward part.

    Shape:
        `ClipTokens` to the same; scheme "space" has a class token for each frame, the others for each clip.

    Raises:
        ValueError: On an unknown scheme, order or border, and on `class_everywhere` for scheme "space".
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        scheme: AttentionScheme,
        *,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        order: Order = "sequential",
        border: Border = "clamp",
        class_everywhere: bool = False,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        for what, value, known in (("scheme", scheme, SCHEMES), ("order", order, ORDERS), ("border", border, BORDERS)):
            if value not in known:
                raise ValueError(f"attention {what} {value!r} is unknown; give one of {', '.join(known)}")
        if class_everywhere and scheme == "space":
            raise ValueError(
                "class_everywhere is about one class token for a clip; scheme 'space' has one for each frame, so leave it out"
            )
        *gated, self.main = STEPS[scheme]
        self.class_per_frame = scheme == "space"
        self.order, self.border, self.class_everywhere, self.drop_path = order, border, class_everywhere, drop_path

        def attention() -> Attention:
            return Attention(dim, num_heads, qkv_bias=qkv_bias, scale=qk_scale)

        self.gated = nn.ModuleDict({step: GatedStep(dim, attention()) for step in gated})
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = attention()
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = FeedForward(dim, int(dim * mlp_ratio))

    def forward(
        self, tokens: ClipTokens, valid: Bool[Tensor, "B T"] | None = None, keep: AttentionMaps | None = None
    ) -> ClipTokens:
        """The tokens after the block.

        Args:
            tokens: Before it.
            valid: False for frames that are padding. They are no keys of any patch of another frame, and have no say in the
                average of class tokens.
            keep: Gets the attention weights of each step, (groups, heads, queries, keys), see the top of this file.

        Raises:
            ValueError: If there is another number of class tokens than the scheme has, or `valid` is of another shape.
        """
        self._check(tokens, valid)
        return self._through(tokens, lambda step, given: self._say(step, given, valid, keep))

    def _through(
        self, tokens: ClipTokens, say: Callable[[str, ClipTokens], tuple[Tensor | None, Tensor]]
    ) -> ClipTokens:
        """The steps in their order, each as `say` has it, and the feed-forward part."""
        steps = [*self.gated, self.main]
        if self.order == "reversed":
            steps = [self.main, *self.gated]
        start = tokens
        for name in steps:
            classes, patches = say(name, start if self.order == "parallel" else tokens)
            tokens = ClipTokens(
                tokens.classes if classes is None else tokens.classes + classes, tokens.patches + patches
            )
        said = self._drop_frames(ClipTokens(*(self.mlp(self.norm2(part)) for part in tokens)))
        return ClipTokens(tokens.classes + said.classes, tokens.patches + said.patches)

    def _check(self, tokens: ClipTokens, valid: Tensor | None) -> None:
        if not isinstance(tokens, ClipTokens) or tokens.patches.ndim != 5 or tokens.classes.ndim != 3:
            raise ValueError(
                "a space-time block takes kinema.shapes.ClipTokens(classes, patches) of shapes (B, classes, D) and "
                f"(B, h, w, T, D); got {type(tokens).__name__}"
                + (f" of {[tuple(part.shape) for part in tokens]}" if isinstance(tokens, ClipTokens) else "")
            )
        batch, _, _, num_frames, _ = tokens.patches.shape
        wanted = num_frames if self.class_per_frame else 1
        if tokens.classes.shape[:2] != (batch, wanted):
            raise ValueError(
                f"{tuple(tokens.classes.shape[:2])} class tokens came with {batch} clips of {num_frames} frames; this scheme "
                f"has {'one for each frame' if self.class_per_frame else 'one for each clip'}: give ({batch}, {wanted}, D)"
            )
        if valid is not None and valid.shape != (batch, num_frames):
            raise ValueError(
                f"valid must be of shape {(batch, num_frames)}, one value for each frame; got {tuple(valid.shape)}"
            )

    def _say(
        self, step: str, tokens: ClipTokens, valid: Tensor | None, keep: AttentionMaps | None
    ) -> tuple[Tensor | None, Tensor]:
        """What one step adds to class tokens (None for nothing) and patches."""
        gate: Any = self.gated[step] if step in self.gated else None  # noqa: SIM401, a ModuleDict has no get
        norm, attn = (self.norm1, self.attn) if gate is None else (gate.norm, gate.attn)
        step_attention = StepAttention(
            attn, self.drop_path if self.training else 0.0, valid, None if keep is None else []
        )
        classes = norm(tokens.classes) if gate is None or self.class_everywhere else None
        patches = norm(tokens.patches)
        if step == "local":
            said = step_attention.locally(classes, patches, self.border)
        elif step == "global":
            said = step_attention.globally(classes, patches)
        elif classes is None or not self.class_everywhere:
            said = step_attention.within_groups(classes, patches, GROUPS[step])
        else:
            said = step_attention.within_groups_and_at_classes(classes, patches, GROUPS[step])
        if keep is not None and step_attention.keep:
            keep[step] = step_attention.keep[0]
        if gate is None:
            return said
        return None if said[0] is None else gate.fc(said[0]), gate.fc(said[1])

    def _drop_frames(self, said: ClipTokens) -> ClipTokens:
        if self.drop_path == 0 or not self.training:
            return said
        batch, count, _ = said.classes.shape
        drawn = drop_path(said.classes.new_ones(batch * count), self.drop_path, training=True).view(batch, count, 1)
        return ClipTokens(said.classes * drawn, said.patches * drawn[:, None, None])


class GatedStep(nn.Module):
    """Norm, attention, and a linear layer that starts at zero.

    Args:
        dim: Size of D.
        attn: The attention.
    """

    def __init__(self, dim: int, attn: Attention) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.attn = attn
        self.fc = TokenLinear(dim, dim)
        nn.init.zeros_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)
