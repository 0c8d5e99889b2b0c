"""Addresses that may be shown: names, passwords and keys of a url are masked wherever it is named."""

import re
from collections.abc import Sequence
from urllib.parse import parse_qsl, unquote

MASK = "***"
_URL = re.compile(r"[a-z][a-z0-9+.\-]*://\S+", re.IGNORECASE)
_VALUE = re.compile(r"(=|%3d)[^/&;]*", re.IGNORECASE)
"""A value in a path: `/user=NAME&password=WORD`, `;token=WORD`, `/user=NAME_password=WORD_channel=1.sdp`."""
_EVERYWHERE = 4
"""Characters from which on a secret is masked also in the middle of a word."""
_SHORTEST_VALUE = 3


def masked_url(url: str) -> str:
    """A url without its secrets: what stands in front of the host, every value in its path or behind `?`, what follows `#`.

    Passwords hold any character when they are typed in, also those that end them for a parser (`@ / ? #`). So everything up to
    the last `@` counts as one, even if that takes some of a path with it. A value in a path ends at `/`, `&` or `;` alone:
    cameras also write `user=NAME_password=WORD`, but a password may hold a `_`. A word without `://` may be an address that
    was typed wrongly, and loses the same.
    """
    scheme, separator, rest = url.partition("://") if "://" in url else ("", "", url)
    _, at, rest = rest.rpartition("@")
    rest, hashed, _ = rest.partition("#")
    path, asked, query = rest.partition("?")
    values = "&".join(f"{part.partition('=')[0]}={MASK}" if "=" in part else MASK for part in query.split("&"))
    return "".join(
        [
            scheme,
            separator,
            MASK + "@" if at else "",
            _VALUE.sub(rf"\1{MASK}", path),
            asked + values if asked else "",
            "#" + MASK if hashed else "",
        ]
    )


def masked_text(text: str, url: str) -> str:
    """A message that others wrote, such as FFmpeg, without the secrets of `url` and of any url in it."""
    text = _URL.sub(lambda found: masked_url(found[0]), text.replace(url, masked_url(url)))
    for secret in sorted(_secrets(url), key=len, reverse=True):
        pattern = re.escape(secret)
        text = re.sub(pattern if len(secret) >= _EVERYWHERE else rf"(?<!\w){pattern}(?!\w)", MASK, text)
    return text


def masked_words(text: str, words: Sequence[str]) -> str:
    """A message about words that a person typed, of which any may be an address, without the secrets of all of them."""
    for word in sorted(words, key=len, reverse=True):
        text = text.replace(word, masked_url(word))
    return _URL.sub(lambda found: masked_url(found[0]), text)


def _secrets(url: str) -> set[str]:
    """What must not be shown, as it was typed and as a server would see it."""
    rest = url.partition("://")[2]
    person, _, place = rest.rpartition("@")
    name, _, password = person.partition(":")
    path, _, query = place.partition("?")
    values = [value for _, value in parse_qsl(query)]
    for found in _VALUE.finditer(path):
        value = found[0].removeprefix(found[1])
        values += [value, *re.split(r"_[^_=]*=", value)]
    values = [value for value in values if len(value) >= _SHORTEST_VALUE]
    said = {name, password, person, *values}
    return {secret for each in said for secret in (each, unquote(each)) if secret} - {MASK}
