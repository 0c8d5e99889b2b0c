"""What changes training clips beside the plain crop, each drawn once for all frames, and what mixes two of them."""

from kinema.data.augmentation.options import Augmentation

__all__ = ["Augmentation"]
