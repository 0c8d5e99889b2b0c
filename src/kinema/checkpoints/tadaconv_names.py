"""Plain names for those of TAdaConv's authors, for networks that are not theirs: to start from their weights.

A tensor that the model has itself gets the plain name it has there, by `kinema.checkpoints.tadaconv.counterparts`. The
others get the one that a network without operators has, or with the operators of the authors:

    theirs                                  plain
    backbone.conv{2..5}.res_1.conv_branch   layer{1..4}.0, its a, b (b1) and c being conv1, conv2 and conv3, b2 conv2_t
    backbone.slow_..., backbone.fast_...    the slow pathway is the trunk, the fast one has "fast." in front
    backbone.stages.0.0.dwconv              stages.0.blocks.0.conv_dw
    backbone.layers.0.attn.in_proj_weight   blocks.0.attn.qkv.weight
    head.out, head.linear1, head.linear2    fc, fc.0, fc.1
"""

import re
from collections import defaultdict
from collections.abc import Mapping

from torch import Tensor, nn

from kinema.checkpoints.layout import AGGREGATION, CALIBRATED, TADA_BLOCK, Translation, freeze, plain_name
from kinema.checkpoints.tadaconv import ORIGIN, Rules, counterparts


def _block(found: re.Match[str]) -> str:
    return f"{found[1] or ''}layer{int(found[2]) - 1}.{int(found[3]) - 1}."


def _fusion(found: re.Match[str]) -> str:
    return f"fusions.{int(found[1]) - 1}."


_RULES: Rules = (
    (r"^backbone\.", ""),
    (r"^head\.out\.", "fc."),
    (r"^head\.linear1\.", "fc.0."),
    (r"^head\.linear2\.", "fc.1."),
    (r"^conv1\.(?=weight$)", "patch_embed.proj."),  # of transformers, before the stem of a ResNet has this name
    # ResNets
    (r"^slow_", ""),
    (r"^fast_", "fast."),
    (r"^slowfast_fusion(\d)\.", _fusion),
    (r"^(fusions\.\d\.)bn\.", r"\1norm."),
    (r"^(fast\.)?conv1\.a\.", r"\1conv1."),
    (r"^(fast\.)?conv1\.a_bn\.", r"\1bn1."),
    (r"^(fast\.)?conv(\d)\.res_(\d+)\.", _block),
    (r"\.short_cut\.", ".downsample.0."),
    (r"\.short_cut_bn\.", ".downsample.1."),
    (r"\.conv_branch\.a\.", ".conv1."),
    (r"\.conv_branch\.a_bn\.", ".bn1."),
    (r"\.conv_branch\.b1?\.", ".conv2."),
    (r"\.conv_branch\.b1?_bn\.", ".bn2."),
    (r"\.conv_branch\.b2\.", ".conv2_t."),
    (r"\.conv_branch\.b2_bn\.", ".bn2_t."),
    (r"\.conv_branch\.c\.", ".conv3."),
    (r"\.conv_branch\.c_bn\.", ".bn3."),
    # ConvNeXts, their last norm having its name already
    (r"^downsample_layers\.0\.", "stem."),
    (r"^downsample_layers\.(\d)\.", r"stages.\1.downsample."),
    (r"^stages\.(\d)\.(\d+)\.", r"stages.\1.blocks.\2."),
    (r"\.dwconv\.", ".conv_dw."),
    (r"\.pwconv(\d)\.", r".mlp.fc\1."),
    # transformers
    (r"^class_embedding$", "cls_token"),
    (r"^positional_embedding$", "pos_embed"),
    (r"^ln_pre\.", "norm_pre."),
    (r"^ln_post\.", "fc_norm."),
    (r"^layers\.", "blocks."),
    (r"\.attn\.in_proj_", ".attn.qkv."),
    (r"\.attn\.out_proj\.", ".attn.proj."),
    (r"\.ln_(\d)\.", r".norm\1."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
)
"""What is left over are operators, for which a network without them has no name."""

_OPERATORS = (
    (AGGREGATION, r"(.+)(?:_avgpool_bn|norm_avgpool)\.weight"),
    (TADA_BLOCK, r"(.+\.tada2?)\.tada_proj\.weight"),
    (CALIBRATED, r"(.+)_rf\.b\.weight"),
)


def translate(model: nn.Module, tensors: Mapping[str, Tensor]) -> tuple[Translation, dict[str, Tensor]]:
    """Plain names for theirs, and the tensors with the rows of attention in our order.

    Args:
        model: Network that is to start from them, whoever has one like it.
        tensors: By the authors' names.
    """
    state = model.state_dict()
    ours = {theirs.name: (name, theirs) for name, theirs in counterparts(model).items()}
    plain, values = {}, dict(tensors)
    for name, tensor in tensors.items():
        if name in ours:
            own, theirs = ours[name]
            plain[plain_name(own)] = name
            if theirs.heads and tuple(tensor.shape) == theirs.shape:
                values[name] = theirs.to_ours(tensor, tuple(state[own].shape))
            continue
        short = name
        for pattern, replacement in _RULES:
            short = re.sub(pattern, replacement, short)
        plain.setdefault(short, name)
    operators: defaultdict[str, set[str]] = defaultdict(set)
    for kind, pattern in _OPERATORS:
        operators[kind] = {found[1] for name in tensors if (found := re.fullmatch(pattern, name))}
    return Translation(ORIGIN, plain, freeze(operators)), values
