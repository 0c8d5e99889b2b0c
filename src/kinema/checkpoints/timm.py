"""Image networks as timm and torchvision name them, and a way to fetch one by name."""

from collections.abc import Collection

from torch import Tensor

from kinema.checkpoints.layout import Translation
from kinema.checkpoints.mobilenetv2 import GROUPED, in_timm_names


def recognises(names: Collection[str]) -> bool:
    """Whether these are names of a ResNet or a MobileNetV2 for images."""
    return bool({"layer1.0.conv1.weight", "blocks.0.0.conv_dw.weight", "features.1.conv.0.0.weight"} & set(names))


def translate(names: Collection[str]) -> Translation:
    """timm's names are the plain ones; torchvision differs from them in MobileNetV2 and in the classifiers."""
    plain = {}
    for name in names:
        short = name.replace("classifier.1.", "fc.") if name.startswith("classifier.1.") else name
        short = f"fc.{short.removeprefix('classifier.')}" if short.startswith("classifier.") else short
        plain[in_timm_names(short, GROUPED)] = name
    return Translation("timm or torchvision", plain, {}, tells_shift=False)


def fetch(name: str) -> dict[str, Tensor]:
    """Weights of one of timm's pretrained networks, downloaded, or taken from its cache.

    Args:
        name: timm's name with the tag of the training run, such as "resnet50.tv_in1k" or "mobilenetv2_100.ra_in1k".

    Returns:
        A state dict for `kinema.init_from`.

    Raises:
        ValueError: If timm knows no pretrained network of this name.
        ConnectionError: If it could not be downloaded.
    """
    import timm

    if name not in timm.list_models(pretrained=True) and name not in timm.list_models():
        raise ValueError(f"timm has no pretrained network {name!r}; see timm.list_models(pretrained=True)")
    try:
        return timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:
        raise ConnectionError(
            f"the weights of {name!r} could not be fetched ({error}); where there is no network, download them elsewhere "
            "and give the path of the file to kinema.init_from"
        ) from error
