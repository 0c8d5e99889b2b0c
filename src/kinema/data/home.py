"""Where data lives that kinema makes."""

import os
from pathlib import Path


def data_home() -> Path:
    """`$KINEMA_DATA`, or `~/.cache/kinema`."""
    return Path(os.environ.get("KINEMA_DATA", "~/.cache/kinema")).expanduser()
