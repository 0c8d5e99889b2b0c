"""Weights from files into networks: kinema's own and those of others.

Read are the layouts of the authors of TSM, TAdaConv, TimeSformer and UniFormer, of lucidrains/TimeSformer-pytorch, of
mmaction2, of Hugging Face (TimeSformer), of ResNet and MobileNetV2 of timm and torchvision, of ConvNeXt and CLIP of their
authors and of timm, and of ViT of timm. R(2+1)D of torchvision is not read. "Weights of others" in experiments/recipes says
which network to build for each.
"""

from kinema.checkpoints.load import init_from, load_checkpoint
from kinema.checkpoints.report import LoadReport

__all__ = ["LoadReport", "init_from", "load_checkpoint"]
