"""Grad-CAM on clips: which places of which frames speak for a class.

Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", section 3
(arXiv:1610.02391). With A the maps that a layer gives and s the score of a class before the softmax,

    w[k] = mean over t, h, w of  ds / dA[k, t, h, w]
    heat[t, h, w] = max(0, sum over k of w[k] A[k, t, h, w])

The paper has images, whose maps have no t. Here one weight of a channel holds for the whole clip, as for a network with
convolutions in three dimensions, so heat can be compared over frames.
"""

import math
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from kinema.backbones.convnext import ConvNeXtBackbone
from kinema.backbones.slowfast import SlowFast
from kinema.backbones.timesformer import PatchTransformer
from kinema.backbones.uniformer import UniFormerBackbone
from kinema.backbones.vit import CLIPBackbone
from kinema.explain.heat import heat_on_pixels
from kinema.explain.watching import in_evaluation
from kinema.models.temporalize import TemporalizedNetwork
from kinema.shapes import ClipTokens, RankedMaps, check_clip, unfold_time

_MOST_OTHER_TOKENS = 8  # class, distillation and register tokens of a frame


def grad_cam(
    network: nn.Module,
    clip: Float[Tensor, "B C T H W"],
    classes: int | Int[Tensor, " B"] | None = None,
    *,
    layer: str | None = None,
) -> Float[Tensor, "B T H W"]:
    """Where a network sees what speaks for a class.

    The network is run in evaluation mode and is left as it was: modes, hooks, gradients. Frames that it folds into the
    batch are unfolded, tokens are put back on their grid.

    Args:
        network: A classifier of kinema.
        clip: Normalised as for the network.
        classes: Class to explain, one for all clips or one for each; the best guess of each clip when None.
        layer: Name of a module whose output is explained, called once in a forward pass. It gives feature maps
            (B, D, t, h, w) or (B t, D, h, w), tokens of frames (B t, 1 + h w, D), or what blocks of kinema's transformers
            exchange. `last_layer` when None.

    Returns:
        Heat in [0, 1], enlarged to the pixels of the clip; the largest value of each clip is 1, or all are 0 where nothing
        speaks for the class.

    Raises:
        ValueError: If the layer is unknown, is not called once, gives no maps, or the score does not depend on what it
            gives; if the network gives other than (B, K) scores; if a class is none.
    """
    check_clip(clip)
    name = last_layer(network) if layer is None else layer
    if name not in dict(network.named_modules()):
        raise ValueError(f"the network has no layer {name!r}; see network.named_modules(), or leave it out")
    given: list[Any] = []

    def keep(module: nn.Module, inputs: Any, output: Any) -> Any:
        given.append(output)
        return _copied(output)  # the next layer may change its input in place, as ReLUs do

    hook = network.get_submodule(name).register_forward_hook(keep)
    try:
        # The clip asks for a gradient, so that there is one where all parameters are frozen.
        with in_evaluation(network), torch.inference_mode(False), torch.enable_grad():
            watched = clip.detach().clone().requires_grad_()
            scores = network(watched)
            chosen = _chosen(scores, classes, len(clip))
            if len(given) != 1:
                raise ValueError(
                    f"the layer {name!r} was called {len(given)} times in one forward pass; name one that is called once"
                )
            maps = _maps(given[0], name, clip)
            slopes = _slopes(chosen.sum(), given[0], name, clip)
    finally:
        hook.remove()
    weights = slopes.mean(dim=(2, 3, 4), keepdim=True)
    heat = (weights * maps.detach()).sum(dim=1).relu()
    return heat_on_pixels(heat, clip.shape[2:])


def last_layer(network: nn.Module) -> str:
    """Name of the layer whose maps the paper advises to explain: the last that still has places.

    For convolutional networks what the last stage gives, in SlowFast that of the slow pathway. For transformers what the
    last block but one gives: behind the last block only class tokens are read, so patches there have no say.

    Raises:
        ValueError: If the network is of no kind that is known here, or a transformer of one block.
    """
    if isinstance(network, TemporalizedNetwork):
        return _last_of_image_network(network)
    backbone = getattr(network, "backbone", None)
    if isinstance(backbone, PatchTransformer):
        return f"backbone.{_last_but_one(backbone.blocks)}"
    if isinstance(backbone, CLIPBackbone):
        return f"backbone.trunk.{_last_but_one(backbone.trunk.blocks)}"
    if isinstance(backbone, ConvNeXtBackbone):
        trunk: Any = backbone.trunk
        return f"backbone.trunk.stages.{len(trunk.stages) - 1}"
    if isinstance(backbone, UniFormerBackbone):
        return "backbone.norm"
    if isinstance(backbone, SlowFast):
        return "backbone.slow.layer4"
    if isinstance(backbone, nn.Module):
        return "backbone"
    raise ValueError(
        f"it is not known which layer of a {type(network).__name__} is the last with maps; name it as layer=..., or of a "
        "LightningModule give its .network"
    )


def _last_of_image_network(network: TemporalizedNetwork) -> str:
    model: Any = network.model
    if isinstance(getattr(model, "blocks", None), nn.Module) and hasattr(model, "embed_dim"):
        return f"model.{_last_but_one(model.blocks)}"
    info = getattr(model, "feature_info", None)
    stages = [entry["module"] for entry in info or () if entry.get("module")]
    if not stages:
        raise ValueError(f"{type(model).__name__} does not say what its stages are; name one as layer='model....'")
    return f"model.{stages[-1]}"


def _last_but_one(blocks: Any) -> str:
    if len(blocks) < 2:
        raise ValueError(
            "a transformer of one block has no block whose patches another one reads; name a layer in front of it, or give "
            "a network of two blocks"
        )
    return f"blocks.{len(blocks) - 2}"


def _chosen(scores: Any, classes: int | Tensor | None, num_clips: int) -> Tensor:
    """The score of each clip that is explained."""
    if not isinstance(scores, Tensor) or scores.ndim != 2:
        what = f"scores of shape {tuple(scores.shape)}" if isinstance(scores, Tensor) else f"a {type(scores).__name__}"
        raise ValueError(f"the network gives {what}; Grad-CAM needs one row (B, K): explain one classifier at a time")
    if classes is None:
        return scores.amax(dim=1)
    wanted = torch.as_tensor(classes, device=scores.device).expand(num_clips) if isinstance(classes, int) else classes
    if tuple(wanted.shape) != (num_clips,) or wanted.is_floating_point():
        raise ValueError(
            f"classes={classes} does not name a class for each of {num_clips} clips; give one or {num_clips}"
        )
    if bool(((wanted < 0) | (wanted >= scores.shape[1])).any()):
        raise ValueError(f"classes={wanted.tolist()} names a class beyond the {scores.shape[1]} of the network")
    return scores.gather(1, wanted.to(scores.device)[:, None])[:, 0]


def _slopes(score: Tensor, output: Any, name: str, clip: Tensor) -> Float[Tensor, "B D t h w"]:
    """Gradient of the score at every place of what a layer gave."""
    places = _places(output)
    (gradient,) = torch.autograd.grad(score, places, allow_unused=True)
    slopes = None if gradient is None else _maps(_replaced(output, gradient), name, clip)
    if slopes is None or not bool(slopes.any()):
        raise ValueError(
            f"the score does not depend on the places of what the layer {name!r} gives, so there is nothing to see; name an "
            "earlier layer, of a transformer the last block but one"
        )
    return slopes


def _places(output: Any) -> Any:
    """The tensor of an output that holds the places."""
    if isinstance(output, ClipTokens):
        return output.patches
    return output.maps if isinstance(output, RankedMaps) else output


def _replaced(output: Any, places: Tensor) -> Any:
    if isinstance(output, ClipTokens):
        return output._replace(patches=places)
    return output._replace(maps=places) if isinstance(output, RankedMaps) else places


def _copied(output: Any) -> Any:
    """The same with a copy of the places, which alone are looked at."""
    places = _places(output)
    return _replaced(output, places.clone()) if isinstance(places, Tensor) else output


def _maps(output: Any, name: str, clip: Tensor) -> Float[Tensor, "B D t h w"]:
    """What a layer gives, or a gradient of its shape, with clips, frames and places apart."""
    places, num_clips = _places(output), clip.shape[0]
    if isinstance(output, ClipTokens):
        return rearrange(places, "b h w t d -> b d t h w")
    if isinstance(places, Tensor) and places.ndim == 5 and places.shape[0] == num_clips:
        return places
    folded = isinstance(places, Tensor) and places.shape[0] % num_clips == 0
    if folded and places.ndim == 4:
        return unfold_time(places, places.shape[0] // num_clips)
    # A stem may halve the frames; fewer are no tokens of frames but something else, such as scores (B, t, K).
    if folded and places.ndim == 3 and 2 * places.shape[0] >= num_clips * clip.shape[2]:
        return _from_tokens(places, name, clip)
    shape = tuple(places.shape) if isinstance(places, Tensor) else type(places).__name__
    raise ValueError(
        f"the layer {name!r} gives {shape} for {num_clips} clips, which are no maps (B, D, t, h, w) or (B t, D, h, w) nor "
        "tokens (B t, 1 + h w, D); name another layer"
    )


def _from_tokens(tokens: Float[Tensor, "BT N D"], name: str, clip: Tensor) -> Float[Tensor, "B D t h w"]:
    """Patches of frames, which stand behind a few other tokens, on their grid: the finest that has room."""
    height, width = clip.shape[3:]
    shared = math.gcd(height, width)
    grids = [(height // side, width // side) for side in range(1, shared + 1) if shared % side == 0]
    rows, columns = next(grid for grid in grids if math.prod(grid) <= tokens.shape[1] or grid == grids[-1])
    others = tokens.shape[1] - rows * columns
    if not 0 <= others <= _MOST_OTHER_TOKENS:
        raise ValueError(
            f"the layer {name!r} gives {tokens.shape[1]} tokens for a frame of {height} x {width} pixels, which are no grid of "
            "square patches; name another layer"
        )
    patches = tokens[:, others:]
    return rearrange(patches, "(b t) (h w) d -> b d t h w", b=clip.shape[0], h=rows)
