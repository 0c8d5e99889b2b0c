"""Per-frame encoders from timm, with holes for temporal operators. Backbones do not know which operator fills them."""
