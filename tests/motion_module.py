"""A data module on the tiny motion set, for the tests of its options."""

from kinema.data.datamodule import VideoDataModule


def module(root, **options):
    options = {"size": 32, "resize": 36, "batch_size": 4, "num_workers": 0, "seed": 5} | options
    data = VideoDataModule(str(root), **options)
    data.setup()
    return data
