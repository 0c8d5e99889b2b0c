"""What the commands say beside their results: on the error stream, so that results can be piped."""

import sys

from kinema.data.video_names import printable


def say(message: object) -> None:
    """Print `kinema: MESSAGE` to the error stream, names of files that are no text included."""
    print(f"kinema: {printable(message)}", file=sys.stderr)
