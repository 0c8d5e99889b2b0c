"""Weights from files into networks: kinema's own, the TSM authors', mmaction2's, timm's and torchvision's."""

from kinema.checkpoints.load import init_from, load_checkpoint
from kinema.checkpoints.report import LoadReport

__all__ = ["LoadReport", "init_from", "load_checkpoint"]
