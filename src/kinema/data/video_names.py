"""Names of videos as text that can be written: a file may be called by bytes that are no UTF-8."""

import re

_NO_TEXT = re.compile("[\ud800-\udfff]")
_BYTES = range(0xDC80, 0xDD00)  # what Python makes of bytes of a file name that are no UTF-8


def printable(text: object) -> str:
    r"""A path, or a sentence with one in it, as text that every file and terminal takes: the byte 255 becomes `\xff`.

    As `os.fsencode(text).decode("utf-8", "backslashreplace")`, also for text that is no name of a file.
    """
    return _NO_TEXT.sub(_escaped, str(text))


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code - 0xDC00:02x}" if code in _BYTES else f"\\u{code:04x}"
